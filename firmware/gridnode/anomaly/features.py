"""What a forest sees of a row: integers that mean the same at every place, for each phase from its own point of view.

Electric quantities are in 1/1000 of nominal voltage, rating and rated power, ratios in 1/1000, temperatures in 0.1 K,
humidity in 0.1 %, times in rows. `NONE` stands for what is not measured, is missing or cannot be told. float32 values
come in and are scaled by powers of two only, so that every machine makes the same integers of them.
"""

import math
from array import array
from micropython import const

VERSION = const(1)  # of the meaning of the names
NONE = const(-32768)

NAMES = (
    "v",
    "i",
    "p",
    "power_factor",
    "v_step",  # against the row before
    "i_step",
    "p_step",
    "v_other_low",  # of the other phases
    "v_other_high",
    "i_other_low",
    "i_other_high",
    "v_unbalance",  # largest deviation from the mean over the mean, of all phases
    "i_unbalance",
    "i_n",
    "neutral_share",  # neutral current over what the phase currents leave for it
    "temperature",
    "temperature_step",
    "above_air",
    "heat",  # largest current squared, with the lag of half an hour
    "above_per_heat",
    "humidity",
    "missing",  # longest time that a signal has been missing
)
_STEPS = const(4)
_OTHERS = const(7)
_SHARED = const(11)  # from here on the same for all phases

_TOP = const(524287)  # of a scaled value: times 1000 it stays below 2^30
_MOST = const(32000)
_SMALL = const(50)  # of a current, below which ratios say nothing
_WARM_S = const(1800)


class Features:
    """The features of one row after the other: `at[k]` are those of phase k, in the order of `NAMES`."""

    def __init__(self, names, limits):
        from gridnode.setup import signals  # leaves the heap after the start

        # float32 first: products and integers are then the same on every machine
        full = array("f", [limits.get("v_nominal") or 0, limits.get("rating_a") or 0, 0])
        full[2] = full[0] * full[1]
        self._voltage, self._current, self._power = [_scale(value) for value in full]
        self._lag = max(1, _WARM_S // max(1, int(limits.get("interval_s") or 10)))
        place = {name: k for k, name in enumerate(names)}
        lines = [str(k) for k in (1, 2, 3) if "i" + str(k) in place or "v" + str(k) in place]
        flat = place.get("voltage", -1), place.get("current", -1), place.get("power", -1)
        ways = [(place.get("v" + k, flat[0]), place.get("i" + k, -1), place.get("p" + k, -1)) for k in lines]
        self._ways = ways or [flat]
        self._neutral = place.get("i_n", place.get("neutral_current", -1))
        self._air, self._hot = signals.thermometers(names)
        self._humidity = place.get("humidity", -1)
        self.phases = len(self._ways)
        self.at = [array("h", [NONE] * len(NAMES)) for _ in self._ways]
        self._missing = array("h", [0] * len(names))
        self._heat = NONE

    def row(self, values):
        """Take a row, array('f') in the order of the names with NaN for a missing value."""
        for k in range(self.phases):
            self._phase(values, k)
        shared = self.at[0]
        self._balance(shared)
        if self._neutral >= 0:
            shared[13] = i_n = _units(values[self._neutral], self._current)
            shared[14] = self._share(i_n)
        self._surroundings(values, shared)
        shared[21] = self._absence(values)
        for k in range(self.phases):
            own = self.at[k]
            for j in range(_SHARED, len(own)):
                own[j] = shared[j]
            self._others(own, k, 0, _OTHERS)
            self._others(own, k, 1, _OTHERS + 2)

    def named(self, forest):
        """What a forest is surest of among the phases, "" where it sees nothing."""
        sure = 0
        name = ""
        for k in range(self.phases):
            found = forest.classify(self.at[k])
            if found and forest.certainty > sure:
                sure = forest.certainty
                name = forest.classes[found]
        return name

    def _absence(self, values):
        longest = 0
        for k in range(len(values)):
            self._missing[k] = min(self._missing[k] + 1, _MOST) if math.isnan(values[k]) else 0
            longest = max(longest, self._missing[k])
        return longest

    def _phase(self, values, k):
        own = self.at[k]
        for j, scale in ((0, self._voltage), (1, self._current), (2, self._power)):
            place = self._ways[k][j]
            new = _units(values[place], scale) if place >= 0 else NONE
            own[_STEPS + j] = _less(new, own[j])
            own[j] = new
        v, i, p = own[0], own[1], own[2]
        apparent = v * i // 1000 if v >= _SMALL and i >= _SMALL else 0
        own[3] = _clamp(p * 1000 // apparent) if apparent and p != NONE else NONE

    def _others(self, own, k, j, place):
        """Lowest and highest value of the other phases."""
        low = high = NONE
        for other in range(self.phases):
            value = self.at[other][j]
            if other != k and value != NONE:
                low = value if low == NONE else min(low, value)
                high = max(high, value)
        own[place] = low
        own[place + 1] = high

    def _balance(self, shared):
        for j in (0, 1):
            shared[_SHARED + j] = NONE
            if self.phases == 3:
                a, b, c = self.at[0][j], self.at[1][j], self.at[2][j]
                mean = (a + b + c) // 3
                low, high = min(a, b, c), max(a, b, c)
                if low != NONE and mean >= _SMALL:
                    shared[_SHARED + j] = _clamp(max(high - mean, mean - low) * 1000 // mean)

    def _share(self, i_n):
        """The neutral's current over the sum of three currents at 120 degrees."""
        if self.phases != 3 or i_n == NONE:
            return NONE
        a, b, c = self.at[0][1], self.at[1][1], self.at[2][1]
        if min(a, b, c) == NONE or max(a, b, c) > _MOST >> 1:
            return NONE
        total = _root(((a - b) * (a - b) + (b - c) * (b - c) + (c - a) * (c - a)) // 2)
        return _clamp(i_n * 1000 // total) if total >= _SMALL else NONE

    def _surroundings(self, values, shared):
        hottest = air = NONE
        for k in self._hot:
            hottest = max(hottest, _units(values[k], _TENTHS))
        if self._air >= 0:
            air = _units(values[self._air], _TENTHS)
        shared[16] = _less(hottest, shared[15])
        shared[15] = hottest
        shared[17] = above = _less(hottest, air)
        largest = NONE
        for own in self.at:
            largest = max(largest, own[1])
        if largest != NONE:
            # in 1/256 of 1/1000
            square = min(largest, 4000) * min(largest, 4000) // 1000 << 8
            self._heat = square if self._heat == NONE else self._heat + (square - self._heat) // self._lag
        shared[18] = heat = NONE if self._heat == NONE else self._heat >> 8
        shared[19] = _clamp(above * 1000 // heat) if above != NONE and heat >= _SMALL else NONE
        if self._humidity >= 0:
            shared[20] = _units(values[self._humidity], _TENTHS)


_TENTHS = (16.0, 1600)


def _scale(full):
    """A power of two that makes an integer of 15 bits of the full value, and that integer; None without a value."""
    if not full > 0:
        return None
    factor = 1.0
    while full * factor < 16384:
        factor *= 2
    while full * factor >= 32768:
        factor *= 0.5
    return factor, int(full * factor)


def _units(value, scale):
    """A value in 1/1000 of the full value of its scale."""
    if scale is None or math.isnan(value):
        return NONE
    value *= scale[0]
    if value > _TOP:
        value = _TOP
    elif value < -_TOP:
        value = -_TOP
    return _clamp(int(value) * 1000 // scale[1])


def _less(a, b):
    return NONE if min(a, b) == NONE else _clamp(a - b)


def _clamp(value):
    return max(-_MOST, min(value, _MOST))


def _root(n):
    """Integer part of a square root below 2^15."""
    root = 0
    bit = 1 << 14
    while bit:
        if (root + bit) * (root + bit) <= n:
            root += bit
        bit >>= 1
    return root
