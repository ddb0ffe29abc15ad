"""What moves a signal besides time: the causes that physics gives, as integers per row.

* temperature: air, and the square of each current over 8, 30 and 110 min (a joint warms with I^2 R)
* voltage: the current of its phase (the supply's resistance); power: voltage times current of its phase
"""

from array import array
from micropython import const

from gridnode.anomaly import scale
from gridnode.anomaly.relation import Relation, Sums

_TAU_MIN = (8, 30, 110)
_LAGS = const(3)
_HOURS_S = const(7200)  # slower movements are not learnt from: weather looks like load
_WARM_S = const(10800)
_LEARN_S = const(60)  # between rows that are learnt from
_DAY = (1, 2)  # sine and cosine of the day: free inputs
_FIRST = const(3)
_SINES = (0, 268, 530, 784, 1024, 1248, 1448, 1626, 1774, 1892, 1978, 2030, 2048)  # a quarter of a day
_HEATED_ROWS = const(20)  # that one wrong row of a current spoils a temperature for
_TOP = const(16000)


class Cause:
    """Relation of one signal; `needs` are the positions of the signals that it stands on."""

    def __init__(self, inputs, needs, sign, thermal):
        self.relation = Relation(inputs)
        self.needs = needs
        self.sign = sign
        self.thermal = thermal
        self.spoilt = 0  # rows for which it does not hold


class Causes:
    """The causes of all signals of a device. `kinds`: family of each, see `scale.family`."""

    def __init__(self, names, kinds, interval_s):
        self.interval_s = interval_s
        self.currents = [k for k in range(len(names)) if kinds[k] == scale.CURRENT and names[k] != "i_n"]
        lags = len(self.currents) * _LAGS
        self._amperes = _FIRST + lags
        self._watts = self._amperes + len(self.currents)
        self._air_at = self._watts + len(self.currents)
        self.row = array("i", [0] * (self._air_at + 1))
        self.means = array("i", [0] * lags)  # of the squares, 1/256
        self._tau = [max(2, minutes * 60 // interval_s) for minutes in _TAU_MIN]
        self._air = -1
        for name in scale.AIR:
            if name in names:
                self._air = names.index(name)
        self._volts = [self._of(names, "v", "voltage", k) for k in self.currents]
        self.of = [self._cause(names, kinds, k) for k in range(len(names))]
        self.valid_rows = 0

    @staticmethod
    def _of(names, letter, alone, current):
        """Position of the signal of the same phase, -1 where there is none."""
        name = alone if names[current] == "current" else letter + names[current][1:]
        return names.index(name) if name in names else -1

    def _cause(self, names, kinds, k):
        kind = kinds[k]
        if kind == scale.TEMPERATURE and k != self._air:
            inputs = list(range(_FIRST, self._amperes))
            inputs += [self._air_at] if self._air >= 0 else _DAY
            needs = self.currents + ([self._air] if self._air >= 0 else [])
            return Cause(inputs, needs, 1, True) if self.currents else None
        for c in range(len(self.currents)):
            current = self.currents[c]
            if kind == scale.VOLTAGE and self._volts[c] == k:
                return Cause([self._amperes + c], [current], -1, False)
            if kind == scale.POWER and self._of(names, "p", "power", current) == k and self._volts[c] >= 0:
                return Cause([self._watts + c], [self._volts[c], current], 1, False)
        return None

    def forget(self):
        """Hours are missing: what is warm now is told by the next row."""
        self.valid_rows = 0

    def take(self, ys, good, at):
        """Take a row of steps; `good[k]` says whether a signal can be believed, `at` is the bin of the day."""
        row = self.row
        row[_DAY[0]] = sine(at)
        row[_DAY[1]] = sine(at + 12)
        valid = True
        for c in range(len(self.currents)):
            k = self.currents[c]
            if not good[k]:
                valid = False
                continue
            amperes = min(max(ys[k], 0), _TOP)
            row[self._amperes + c] = amperes
            square = min((amperes * amperes) >> 12, _TOP) << 8
            for j in range(_LAGS):
                n = c * _LAGS + j
                if not self.valid_rows:
                    self.means[n] = square
                self.means[n] += (square - self.means[n]) // self._tau[j]
                row[_FIRST + n] = self.means[n] >> 8
            v = self._volts[c]
            if v >= 0 and good[v]:
                row[self._watts + c] = (ys[v] * amperes) >> 14
        if self._air >= 0 and good[self._air]:
            row[self._air_at] = ys[self._air] >> 2
        if valid:
            self.valid_rows += 1

    def explain(self, k, good):
        """What the causes add to signal `k`, MISSING while they cannot be believed."""
        cause = self.of[k]
        if cause is None or not cause.relation.known:
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
        return scale.MISSING if spoilt else cause.relation.value(self.row)


class Lessons:
    """Learns the relations of `Causes` from fast movements: every series is taken off its mean over 2 h."""

    def __init__(self, causes):
        self.causes = causes
        self._rows = max(2, _HOURS_S // causes.interval_s)
        self._means = array("i", [0] * len(causes.row))  # 1/16
        self._fast = array("i", [0] * len(causes.row))
        self._of = array("i", [0] * len(causes.of))
        self._seen = bytearray(len(causes.of))
        self.sums = [c and Sums(c.relation, c.sign, _DAY) for c in causes.of]
        self._count = 0

    def take(self, ys, good):
        """Learn from a row."""
        row = self.causes.row
        for k in range(1, len(row)):
            value = row[k] << 4
            if not self._count:
                self._means[k] = value
            self._means[k] += (value - self._means[k]) // self._rows
            self._fast[k] = (value - self._means[k]) >> 4
        self._count += 1
        warm = self.causes.valid_rows * self.causes.interval_s > _WARM_S
        due = self._count % max(1, _LEARN_S // self.causes.interval_s) == 0
        for k in range(len(ys)):
            if self.sums[k] is None or not good[k]:
                continue
            value = ys[k] << 4
            if not self._seen[k]:
                self._of[k] = value
                self._seen[k] = 1
            self._of[k] += (value - self._of[k]) // self._rows
            if warm and due:
                self.sums[k].add(self._fast, (value - self._of[k]) >> 4)

    def solve(self, k):
        """Let signal `k` be explained where that is worth it; returns whether its explanation changed."""
        if self.sums[k] is None:
            return False
        relation = self.causes.of[k].relation
        if not self.sums[k].solve(90):
            return False
        for j in range(len(relation.inputs)):
            relation.centers[j] = self._means[relation.inputs[j]] >> 4
        relation.known = True
        return True


def sine(at):
    """2048 times the sine of a bin of the day."""
    at %= 48
    if at >= 24:
        return -sine(at - 24)
    return _SINES[at if at <= 12 else 24 - at]
