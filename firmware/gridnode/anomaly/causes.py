"""What moves a signal besides time: the causes that physics gives, as integers per row.

* temperature: air, without it the time of day, and the square of each current over 8, 30 and 110 min (a joint warms
  with I^2 R)
* voltage: the current of its phase (the supply's resistance); power: voltage times current of its phase
"""

from array import array
from micropython import const

from gridnode.anomaly import scale

LAGS = const(3)
_HOURS_S = const(7200)
_BITS = const(12)
DAY = (1, 2)  # sine and cosine of the day: inputs of any sign
FIRST = const(3)
_SINES = (0, 268, 530, 784, 1024, 1248, 1448, 1626, 1774, 1892, 1978, 2030, 2048)  # a quarter of a day
_HEATED_ROWS = const(20)  # that one wrong row of a current spoils a temperature for
_TOP = const(16000)


class Cause:
    """Relation of one signal to `inputs`, indices into the row of causes: `weights` (1/4096) around `centers`.

    `needs` are the positions of the signals that it stands on, `sign` is that of the weights.
    """

    def __init__(self, inputs, needs, sign=1, thermal=False):
        self.inputs = inputs
        self.needs = needs
        self.sign = sign
        self.thermal = thermal
        self.weights = array("i", [0] * len(inputs))
        self.centers = array("i", [0] * len(inputs))
        self.known = False
        self.spoilt = 0  # rows for which it does not hold

    def value(self, row):
        """By how much the causes move the signal from where they were in training."""
        total = 0
        for k in range(len(self.inputs)):
            if self.weights[k]:
                total += self.weights[k] * (row[self.inputs[k]] - self.centers[k])
        return total >> _BITS


class Causes:
    """The causes of all signals of a device. `kinds`: family of each, see `setup.signals.family`."""

    def __init__(self, names, kinds, interval_s):
        from gridnode.setup import causes  # leaves the heap after the start

        self.interval_s = interval_s
        self.valid_rows = 0
        self.currents, self._volts, self.air, self._tau, self.of = causes.find(names, kinds, interval_s)
        lags = len(self.currents) * LAGS
        self._amperes = FIRST + lags
        self._watts = self._amperes + len(self.currents)
        self._air_at = self._watts + len(self.currents)
        self.row = array("i", [0] * (self._air_at + 1))
        self.means = array("i", [0] * lags)  # of the squares, 1/256

    def forget(self):
        """Hours are missing: what is warm now is told by the next row."""
        self.valid_rows = 0

    def take(self, ys, good, at, part):
        """Take a row of steps; `good[k]` says whether a signal can be believed.

        `at` is the bin of the day, `part` 1/256 of it gone.
        """
        row = self.row
        row[DAY[0]] = sine(at, part)
        row[DAY[1]] = sine(at + 12, part)
        valid = True
        for c in range(len(self.currents)):
            k = self.currents[c]
            if not good[k]:
                valid = False
                continue
            amperes = min(max(ys[k], 0), _TOP)
            row[self._amperes + c] = amperes
            square = min((amperes * amperes) >> 12, _TOP) << 8
            for j in range(LAGS):
                n = c * LAGS + j
                if not self.valid_rows:
                    self.means[n] = square
                self.means[n] += (square - self.means[n]) // self._tau[j]
                row[FIRST + n] = self.means[n] >> 8
            v = self._volts[c]
            if v >= 0 and good[v]:
                row[self._watts + c] = (ys[v] * amperes) >> 14
        if self.air >= 0 and good[self.air]:
            row[self._air_at] = ys[self.air] >> 2
        if valid:
            self.valid_rows += 1

    def explain(self, k, good):
        """What the causes add to signal `k`, MISSING while they cannot be believed."""
        cause = self.of[k]
        if cause is None or not cause.known:
            return 0
        spoilt = False
        for need in cause.needs:
            if not good[need]:
                spoilt = True
        if cause.thermal:
            if spoilt:
                cause.spoilt = min(cause.spoilt + _HEATED_ROWS, _HOURS_S // self.interval_s)
            elif cause.spoilt:
                cause.spoilt -= 1
            spoilt = cause.spoilt > 0
        return scale.MISSING if spoilt else cause.value(self.row)


def sine(at, part):
    """2048 times the sine of the time of day, straight within a bin."""
    here = _sine(at)
    return here + ((_sine(at + 1) - here) * part >> 8)


def _sine(at):
    at %= 48
    if at >= 24:
        return -_sine(at - 24)
    return _SINES[at if at <= 12 else 24 - at]
