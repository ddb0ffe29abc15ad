"""Linearity of the node's converter from levels that a source puts on the pin of its first voltage.

Every second level in their order makes the table; the levels between them prove it.
"""

import math
from micropython import const

from gridnode.calibrating import Refused, converter, front_end, unmet
from gridnode.trim import curve_at

_READS = const(500)  # in each quarter of a measurement
_STILL = const(3.0)  # counts between the quarters
_FAR = const((0.15, 50.0))  # share and mV that a level may be off what the table in force makes of it
_ENDS = const((8, 4080))  # counts; nearer to them noise is cut off
_LEVELS = const(9)
_EQUAL = const(0.03)  # %: noise makes no table worse


class Sweep:
    """The step `linearity` of one meter, a level at a time. It has what `steps` wants of a procedure."""

    step = "linearity"
    phase = None
    full = True  # the proof needs no further measurement
    add = None

    def __init__(self, meter):
        self.name = meter.id
        self._old = front_end.in_force(meter)[0]  # uV at every 32nd count
        self._new = None
        self._levels = []  # [mV, mean count]

    def take(self, meter, mv):
        """Measure while the pin is at `mv`; returns {"count", "level_mv" by the table in force, "levels"}."""
        if isinstance(mv, bool) or not isinstance(mv, (int, float)):
            raise Refused("invalid", "a level is a number of mV, not %s" % mv)
        read = front_end.reader(meter)
        quarters = []
        for _ in range(4):
            total = 0
            for _ in range(_READS):
                total += read()
            quarters.append(total / _READS)
        count, moved = sum(quarters) / 4, max(quarters) - min(quarters)
        if moved > _STILL:
            raise unmet("steady", "the level moved by %s counts, allowed are %s", moved, _STILL)
        if not _ENDS[0] < count < _ENDS[1]:
            end = _ENDS[count > 2048]
            raise unmet("range", "the mean of %s counts is at an end of the converter's range, %s", count, end)
        seen = _through(self._old, count) / 1000
        off, far = abs(seen - mv), _FAR[0] * abs(mv) + _FAR[1]
        if off > far:
            raise unmet("level", "the pin is %s off the level that was told, allowed are %s", off, far, " mV")
        self._levels = sorted([one for one in self._levels if abs(one[0] - mv) > 1] + [[mv, count]])
        return {"count": count, "level_mv": seen, "levels": len(self._levels)}

    def compute(self, entry, reference, phase=None):
        """New entry with the converter's table."""
        if len(self._levels) < _LEVELS:
            raise unmet("levels", "%s levels are known, %s are needed", len(self._levels), _LEVELS)
        curve = []  # deviation in uV against the count
        for mv, count in self._levels[::2]:
            curve += (count, 1000 * mv - _through(self._old, count), 0.0)
        new = [int(uv + round(curve_at(curve, 32 * k)[0])) for k, uv in enumerate(self._old)]
        self._new = converter.rising(new)
        return dict(entry, adc_table=self._new)

    def retry(self, meter):
        """Nothing more has to be measured."""
        return self

    def prove(self, uncertainty=None):
        """One record: rms of what the table is off at the levels that have not made it, in % of half their range."""
        proof = self._levels[1::2]
        half = 500 * (self._levels[-1][0] - self._levels[0][0])
        before, after = [
            100 * math.sqrt(sum([(_through(t, n) - 1000 * mv) ** 2 for mv, n in proof]) / len(proof)) / half
            for t in (self._old, self._new)
        ]
        if after > max(before, _EQUAL):
            sentence = "the new table is %.3g %% off, the old one %.3g %%: the old one stays"
            raise Refused("unproven", sentence % (after, before))
        record = converter.record(self.name, before, after, len(self._levels))
        record["reference"]["levels"] = len(self._levels)
        return [record]


def _through(table, count):
    """What a table makes of a count, uV."""
    k = min(127, int(count / 32))
    return table[k] + (count / 32 - k) * (table[k + 1] - table[k])
