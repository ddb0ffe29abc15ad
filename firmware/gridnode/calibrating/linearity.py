"""Linearity of the node's converter from a sine that is known to be pure.

A converter that makes f(x) of x makes of x = A cos t the harmonics f(A cos t) = sum of c_h cos(h t): its deviation from
a line is sum of c_h T_h(x / A), T_h the Chebyshev polynomials. The in-phase part of each harmonic of the voltage that
the meter finds is a c_h; a part across it cannot come from a converter and tells how impure the sine is.
"""

import math
from micropython import const

from gridnode.calibrating import Refused, converter, front_end, procedure, unmet
from gridnode.calibrating.windows import Windows

_STEP = const(32)  # counts between two entries of the table
_ENTRIES = const(129)


class Harmonics:
    """Mean parts of each harmonic of a clamp meter's first voltage, in phase with its amplitude and across it."""

    def __init__(self, orders):
        self.along = [0.0] * (orders + 1)
        self.across = [0.0] * (orders + 1)
        self.amplitude = 0.0  # mV
        self.count = 0

    def add(self, phasors):
        """One block's phasors of the orders 1, 2, ..: [(re, im)], amplitudes in mV."""
        re, im = phasors[0]
        size = math.sqrt(re * re + im * im)
        if not size:
            return
        turn = math.atan2(im, re)
        self.amplitude += size
        self.count += 1
        for h in range(2, len(phasors) + 1):
            a, b = phasors[h - 1]
            c, s = math.cos(h * turn), math.sin(h * turn)
            self.along[h] += a * c + b * s
            self.across[h] += b * c - a * s

    def means(self):
        """(amplitude, [in phase], [across]), mV."""
        n = max(1, self.count)
        return self.amplitude / n, [x / n for x in self.along], [x / n for x in self.across]


def chebyshev(coefficients, x):
    """Sum of c_h T_h(x) from the second order on; beyond -1..1 it goes on with its value at the end."""
    x = max(-1.0, min(1.0, x))
    total, before, now = 0.0, 1.0, x
    for h in range(2, len(coefficients)):
        before, now = now, 2 * x * now - before
        total += coefficients[h] * now
    return total


def impurity(amplitude, across):
    """Share of the amplitude in %, rms of the parts that no converter makes."""
    return 100 * math.sqrt(sum([x * x for x in across[2:]])) / amplitude if amplitude else 100.0


def table(old, bias_mv, harmonics, limit):
    """The new table in uV and the largest correction in mV, from the table in force (129 uV) and the mean level.

    Raises Refused where the sine was not pure.
    """
    amplitude, along, across = harmonics.means()
    impure = impurity(amplitude, across)
    if impure > limit:
        sentence = "the voltage has %s of distortion that is not the converter's, allowed are %s"
        raise unmet("impurity", sentence, impure, limit, " %")
    new, largest = [], 0.0
    for k in range(_ENTRIES):
        x = (old[k] / 1000 - bias_mv) / amplitude
        step = chebyshev(along, x)
        if -1 <= x <= 1:
            largest = max(largest, abs(step))
        new.append(int(old[k] - round(1000 * step)))
    return converter.rising(new), largest


class _Listening(Windows):
    """Windows that keep the harmonics of the first voltage as well."""

    def __init__(self, meter, *more):
        super().__init__(meter, *more)
        self.meter = meter
        self.harmonics = Harmonics(meter.orders)

    def add(self, reading):
        """Take one reading, and what the converter's bins still hold of it."""
        phasors = front_end.phasors(self.meter)
        if phasors and not reading.quality:
            self.harmonics.add(phasors)
        super().add(reading)

    def forget(self):
        """See Windows."""
        self.meter = None
        super().forget()


class Linearity(procedure.Procedure):
    """The step `linearity`: it needs no reference, but a source that makes a pure sine."""

    def _windows(self, meter, count=None):
        return _Listening(meter, self._c, self._rating, self._nominal["voltage"], count)

    def _proof(self):
        return self._c["windows"] // 2

    def compute(self, entry, reference, phase=None):
        """New entry with the converter's table."""
        new = dict(entry)
        old, bias_mv = self.converter
        new["adc_table"], _ = table(old, bias_mv, self.windows.harmonics, self._c["impurity"])
        return new

    def prove(self, uncertainty=None):
        """One record: the distortion that the converter has made of the sine, before and after, in % of it."""
        before, after = [_distortion(w.harmonics) for w in (self.windows, self.proof)]
        if after > before:
            sentence = "the converter's distortion is %.3g %% with the new table, before %.3g %%: the old one stays"
            raise Refused("unproven", sentence % (after, before))
        first = self._each[0]
        values = self.seen.values[first]
        record = converter.record(self.name, before, after, self.seen.windows)
        record["spread_percent"]["voltage"] = round(self.seen.percent(first, "voltage"), 4)
        record["load"]["voltage"] = round(values["voltage"], 3)
        record["rejected"] = self.seen.rejected
        record["window_s"] = self.seen.window_s
        return [record]


def _distortion(harmonics):
    amplitude, along, _ = harmonics.means()
    return impurity(amplitude, along)
