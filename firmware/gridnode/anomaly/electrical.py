"""What the rules of faults look at: a row as integers that mean the same at every place.

Voltage, current and power are in 1/1000 of nominal voltage, rating and rated power, what follows from them in 1/1000,
temperatures in 0.1 K or 0.1 degC, humidity in 0.1 %. `NONE` stands for what is missing or cannot be told. The inputs
and their places are described in `gridnode.setup.electrical`.

float32 values are taken apart bit by bit: no float is made, and every machine finds the same integers.
"""

from array import array
from micropython import const

import uctypes

NONE = const(-32768)
_MOST = const(32000)  # of any input

# places in the column of the device, which is the first one: least, most and unbalance of voltage, then of current
_NEUTRAL = const(6)
_HUMIDITY = const(7)
_DEW_GAP = const(8)
_COVER = const(9)

# places in the column of a phase: voltage, current, power, then
_V_OFF = const(3)
_OTHERS = const(4)  # voltage, current
_USUAL = const(6)  # usual, idle
_PEAK = const(8)
_EXPORT = const(9)
_EXCESS = const(10)
_FLAT = const(11)

# `learnt`: rows, mean of the neutral, then of each phase mean, share of idle and of exporting rows, peak, and the high
# current that was the largest for the most rows, with these rows
_PHASES = const(2)
_EACH = const(6)

_FRACTION = const(18)  # bits of the means
_MEMORY = const(8192)  # rows that a mean looks back
_ENOUGH = const(64)  # rows after which it counts
_IDLE = const(10)
_MISSED = const(10)  # usual current of a neutral whose absence shows

# of a phase in `_top`: largest high current lately, then rows at it, since the last of them, and since the first
_TOP = const(4)
_HITS = const(1)
_SINCE = const(2)
_AGE = const(3)
_ROWS = const(1000000)
_FLAT_S = const(2400)  # that a ceiling must last beyond what training showed, in rows of 8 at least
_FLAT_ROWS = const(8)
_HELD_S = const(600)  # for which a ceiling is told after its last row
_DAY_S = const(86400)
_COUNTS = const(50)  # of a phase in `counts`: rows, and rows in each bin of current

_LN = (2303, 1609, 1204, 916, 693, 511, 357, 223, 105, 0, 0)  # -1000 ln of 10 % to 100 %


class _Whole:
    def __getitem__(self, part):
        return part


_ALL = _Whole()[:]  # a slice in the code would be made anew for each row


class Electrical:
    """Fills `inputs` from rows of the signals `names`.

    `limits` has rating_a and v_nominal; an input that needs one that is absent is NONE. Where its `export` is true, no
    phase is blamed for power that flows back.

    `slots` has the places of the four inputs per signal that others write. `learnt` and `counts` are what was learnt:
    the caller saves them and puts them back, value by value.
    """

    def __init__(self, names, limits):
        from gridnode.setup import electrical  # leaves the heap after the start

        self.names = names
        self._row = array("f", [0] * len(names))
        self._bytes = uctypes.bytearray_at(uctypes.addressof(self._row), 4 * len(names))
        self._scale = electrical.scales(names, limits)  # factor and exponent of each signal
        # which signal is it: voltage, current, power of each phase, then i_n, humidity, cover and the air; -1 without
        self.ways, self._neutral, self._humidity, self._cover, self._air, self.joints = electrical.ways(names)
        self.columns, self.inputs = electrical.columns(names, self.ways, self.joints)
        self.slots = self.columns["signal"]
        self._phases = self.columns["phase"]
        self._export = 1000 if limits.get("export") else 0
        self._interval_s = limits.get("interval_s") or 60
        self._day_rows = max(1, _DAY_S // self._interval_s)
        self._held_rows = _HELD_S // self._interval_s
        self._flat_rows = max(_FLAT_ROWS, _FLAT_S // self._interval_s)
        self._excess = array("i", [0] * len(self._phases))  # in rows
        self._top = array("i", [0] * (_TOP * len(self._phases)))
        self.learnt = array("i", [0] * (_PHASES + _EACH * len(self._phases)))
        self.counts = array("H", [0] * (_COUNTS * len(self._phases)))

    def row(self, values, learn=False):
        """Take a row, array('f') in the order of the names with NaN for a missing value; nothing is allocated.

        What is known to be no measurement (the code of a lost sensor) is given as NaN. Learn only from sound rows.
        """
        self._row[_ALL] = values
        x = self.inputs
        phases = self._phases
        learnt = self.learnt
        for k in range(len(phases)):
            at = phases[k]
            for j in range(3):
                x[at + j] = self._units(self.ways[3 * k + j])
            x[at + _V_OFF] = NONE if x[at] == NONE else min(abs(x[at] - 1000), _MOST)
            if learn:
                self._learn(at, _PHASES + _EACH * k)
            self._recall(at, _PHASES + _EACH * k)
            self._heat(at, k)
            self._flatten(at, k, learn)
        for k in range(len(phases)):
            for j in range(2):
                most = NONE
                for other in range(len(phases)):
                    if other != k:
                        most = max(most, x[phases[other] + j])
                x[phases[k] + _OTHERS + j] = most
        self._all(0)
        self._all(1)
        neutral = self._units(self._neutral)
        if learn:
            self._mean(1, neutral)
            learnt[0] = min(learnt[0] + 1, _MEMORY)
        usual = self._level(1)
        if neutral != NONE and usual >= _MISSED and learnt[0] >= _ENOUGH:
            x[_NEUTRAL] = min(neutral * 1000 // usual, _MOST)
        else:
            x[_NEUTRAL] = NONE
        self._surroundings()

    def _units(self, k):
        """The signal in its units, rounded."""
        if k < 0:
            return NONE
        b = self._bytes
        factor = self._scale[2 * k]
        high = b[4 * k + 3] << 8 | b[4 * k + 2]
        exponent = high >> 7 & 255
        if exponent == 255 or not factor:  # NaN, infinite; nothing to compare with
            return NONE
        right = self._scale[2 * k + 1] - exponent
        if right > 29:
            return 0
        # 15 bits by 14
        value = ((high & 127 | 128) << 7 | b[4 * k + 1] >> 1) * factor
        value = min(value + (1 << right >> 1) >> right, _MOST) if right > 0 else _MOST
        return -value if high & 32768 else value

    def _mean(self, k, value):
        if 0 <= value <= 1000:
            learnt = self.learnt
            learnt[k] += ((value << _FRACTION) - learnt[k]) // (learnt[0] + 1)

    def _level(self, k):
        return self.learnt[k] + (1 << _FRACTION >> 1) >> _FRACTION

    def _learn(self, at, k):
        """Only from currents within the rating."""
        x = self.inputs
        current = x[at + 1]
        if 0 <= current <= 1000:
            self._mean(k, current)
            self._mean(k + 1, 1000 if current <= _IDLE else 0)
            self._mean(k + 2, 1000 if NONE < x[at + 2] < -_IDLE else 0)
            self.learnt[k + 3] = max(self.learnt[k + 3], current)

    def _recall(self, at, k):
        x = self.inputs
        learnt = self.learnt
        known = learnt[0] >= _ENOUGH
        for j in range(2):
            x[at + _USUAL + j] = self._level(k + j) if known else NONE
        current = x[at + 1]
        peak = learnt[k + 3]
        x[at + _PEAK] = min(current * 1000 // peak, _MOST) if known and peak and current != NONE else NONE
        x[at + _EXPORT] = max(self._export, self._level(k + 2))

    def _heat(self, at, k):
        """A current that is not known heats nothing."""
        x = self.inputs
        current = x[at + 1]
        most = _MOST * 60 // self._interval_s
        self._excess[k] = max(0, min(self._excess[k] + max(current, 0) - 1000, most))
        x[at + _EXCESS] = NONE if current == NONE else self._excess[k] * self._interval_s // 60

    def _flatten(self, at, k, learn):
        """Find a ceiling: a high current (from 0.4 of the peak on) that is reached again and again, never exceeded."""
        x, learnt, top = self.inputs, self.learnt, self._top
        a = _PHASES + _EACH * k
        n = _TOP * k
        current = x[at + 1]
        if learn and 0 <= current <= 1000:
            self._count(k, current)
        if top[n + _SINCE] > self._day_rows:
            top[n] = top[n + _HITS] = top[n + _SINCE] = top[n + _AGE] = 0
        top[n + _SINCE] += 1
        top[n + _AGE] = min(top[n + _AGE] + 1, _ROWS)
        if 5 * current >= 2 * max(learnt[a + 3], 1) and current <= 1000:
            near = top[n] // 50
            if current > top[n] + near:
                top[n] = current
                top[n + _HITS] = top[n + _SINCE] = top[n + _AGE] = 0
            elif current >= top[n] - near:
                top[n + _HITS] = min(top[n + _HITS] + 1, _ROWS)
                top[n + _SINCE] = 0
            if learn:
                if 5 * learnt[a + 4] < 2 * learnt[a + 3]:  # was no high current
                    learnt[a + 5] = 0
                if top[n + _HITS] > learnt[a + 5]:
                    learnt[a + 4] = top[n]
                    learnt[a + 5] = top[n + _HITS]
        x[at + _FLAT] = NONE if current == NONE else self._flat(k, n, a)

    def _flat(self, k, n, a):
        top = self._top
        hits = top[n + _HITS]
        flat = min(hits * 1000 // (2 * self.learnt[a + 5] + self._flat_rows), _MOST)
        if flat < 500 or top[n + _SINCE] > self._held_rows:
            return 0
        # What once was above a ceiling ends at it: a load that is there more often than that is a load.
        share = hits * 1000 // max(top[n + _AGE], self._day_rows)
        return flat if share <= 4 * self._above(k, top[n] + top[n] // 50) else 0

    def _count(self, k, current):
        counts = self.counts
        a = _COUNTS * k
        counts[a] += 1
        counts[a + 1 + _bin(current)] += 1
        if counts[a] == 65535:
            for j in range(a, a + _COUNTS):
                counts[j] >>= 1

    def _above(self, k, current):
        """Share of the training (1/1000) in bins above that of a current."""
        counts = self.counts
        a = _COUNTS * k
        total = 0
        for j in range(a + 2 + _bin(current), a + _COUNTS):
            total += counts[j]
        return total * 1000 // max(counts[a], 1)

    def rest(self):
        """Forget what currents did lately."""
        for k in range(len(self._excess)):
            self._excess[k] = 0
        for k in range(len(self._top)):
            self._top[k] = 0

    def _all(self, j):
        """Least, most and unbalance of all phases' voltages (0) or currents (1)."""
        x = self.inputs
        at = 3 * j
        x[at] = x[at + 1] = x[at + 2] = NONE
        least = most = total = count = 0
        for k in range(len(self._phases)):
            if self.ways[3 * k + j] >= 0:
                one = x[self._phases[k] + j]
                if one == NONE:
                    return
                least = min(least, one) if count else one
                most = max(most, one) if count else one
                total += one
                count += 1
        if count or j:
            x[at] = least
            x[at + 1] = most
        if count == 3 and total >= 150:
            x[at + 2] = min(max(3 * most - total, total - 3 * least) * 1000 // total, _MOST)

    def _surroundings(self):
        x = self.inputs
        joints = self.columns["joint"]
        coldest = air = self._units(self._air)
        for k in range(len(joints)):
            at = joints[k]
            x[at] = one = self._units(self.joints[k])
            x[at + 1] = NONE
            if one != NONE:
                if air != NONE:
                    x[at + 1] = _less(one, air)
                elif self._air < 0:
                    air = one  # the only thermometer
                coldest = one if coldest == NONE else min(coldest, one)
        x[_COVER] = self._units(self._cover)
        x[_HUMIDITY] = moist = self._units(self._humidity)
        x[_DEW_GAP] = NONE
        if moist != NONE and -500 < air < 1500:
            x[_DEW_GAP] = _less(_gap(air, moist), air - coldest)


def _bin(current):
    """Eight bins an octave, the first for all that is below 1.6 % of the rating."""
    octave = 0
    while current >> octave > 31:
        octave += 1
    return (octave << 3) + (current >> octave + 1) - 7 if current > 15 else 0


def _less(a, b):
    return max(-_MOST, min(a - b, _MOST))


def _gap(air, moist):
    """0.1 K between air and its dew point: L s^2 / (17.62 * 243.12 + L s), s = 243.12 + air, L = -ln (Magnus)."""
    moist = max(100, min(moist, 1000))
    k = moist // 100 - 1
    part = moist % 100
    s = air + 2431
    ls = (_LN[k] * (100 - part) + _LN[k + 1] * part) // 100 * s
    return (ls >> 7) * s // (42838000 + ls >> 7)
