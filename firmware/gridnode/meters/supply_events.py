"""Dips, swells and interruptions by half-cycle RMS, the method of IEC 61000-4-30, across what nobody has seen.

The basis is Urms(1/2), the RMS of one cycle renewed every half cycle. A dip begins when one phase falls below its
threshold and ends when all are above it by the hysteresis; a swell likewise upwards. A dip in which all phases fell
below the threshold of interruptions at the same time is an interruption. The moment of an Urms(1/2) is the middle of
its cycle; an event reaches from the first to the last of them beyond the threshold.

Where sampling paused there is a gap. What began or ended in it did so in its middle, give or take half of it; next to
it the RMS of the half cycle alone counts for the depth too, since a short event leaves no room for a whole cycle.
A dip or swell that lasts for a minute is told as it is then: what goes on is an under- or over-voltage (EN 50160).
An interruption is told after three minutes: from then on it is a long one.
"""

import math
from micropython import const

_TICKS = const(0x3FFFFFFF)
_LONG_US = const(60000000)
_LONG_INTERRUPTION_US = const(180000000)
_RECORD = const(2)  # words of a record before its squares: ticks of the end, duration in us


class _Excursion:
    """Supply beyond a threshold; sign: 1 above, -1 below. Voltages are squares in parts of the nominal one's."""

    def __init__(self, kind, sign, begin, end, void):
        self._kind = kind
        self._sign = sign
        self._begin = sign * begin * begin / 10000
        self._end = sign * end * end / 10000
        self._void = void * void / 10000
        self.active = False

    def beyond(self, squares):
        """Whether any phase is beyond the threshold."""
        return any(self._sign * x > self._begin for x in squares)

    def within(self, squares):
        """Whether all phases are back."""
        return all(self._sign * x <= self._end for x in squares)

    def enter(self, at, uncertainty):
        self.active = True
        self._told = self._interrupted = False
        self._at = at
        self._uncertainty = uncertainty
        self._extreme = None
        self._phases = ()

    def note(self, squares, at):
        """Keep how far it went."""
        for k, x in enumerate(squares):
            if self._sign * x > self._begin and k + 1 not in self._phases:
                self._phases += (k + 1,)
        extreme = max([self._sign * x for x in squares])
        if self._extreme is None or extreme > self._extreme:
            self._extreme = extreme
        if not self._interrupted and max(squares) < self._void:
            if self._told:  # as the dip that it was until now
                self.enter(at, 0)
                self.note(squares, at)
            self._interrupted = True

    def overdue(self, now, found):
        """Tell an event that is too long to wait for its end."""
        limit = _LONG_INTERRUPTION_US if self._interrupted else _LONG_US
        if not self._told and now - self._at & _TICKS > limit:
            self._tell(now, now, found)

    def leave(self, at, uncertainty, now, found):
        self.active = False
        if not self._told:
            self._uncertainty += uncertainty
            self._tell(at, now, found)

    def _tell(self, at, now, found):
        self._told = True
        kind = "interruption" if self._interrupted else self._kind
        extreme = 100 * math.sqrt(max(0.0, self._sign * self._extreme))
        duration = (at - self._at & _TICKS) + 500
        ago = (now - at & _TICKS) + 500
        found.append((kind, self._phases, extreme, duration // 1000, self._uncertainty // 1000, ago // 1000))


class SupplyEvents:
    """Events of the phases whose voltages are recorded.

    nominal: mean squares of the nominal voltage in the unit of the records; dip, swell, interruption: thresholds in %
    of it; hysteresis: % of it.
    """

    def __init__(self, nominal, dip=90, swell=110, interruption=10, hysteresis=2):
        self._nominal = nominal
        self._low = [int(x * dip * dip / 10000) for x in nominal]
        self._high = [int(x * swell * swell / 10000) for x in nominal]
        self._under = _Excursion("dip", -1, dip, dip + hysteresis, interruption)
        self._over = _Excursion("swell", 1, swell, swell - hysteresis, 0)
        self._half = None  # squares of the last half cycle
        self._end = 0  # of it, in ticks
        self._before = None  # squares of the last one before a gap, while one alone lies behind it
        self._middle = self._unseen = 0  # of the gap: its middle, half its length
        self._at = 0  # moment of the last RMS

    def feed(self, records, count, noise, now):
        """Take `count` half cycles; returns the events that ended (or are overdue), as reading.events wants them.

        records: ticks of the end in us, duration in us and mean square of each phase; noise: mean square to be taken
        off; now: ticks of the present.
        """
        if not count:
            return ()
        found = []
        step = _RECORD + len(self._nominal)
        quiet = not (self._under.active or self._over.active) and self._quiet(records, count)
        # Of quiet half cycles the last is enough: nothing but an event to come will look at it.
        for k in range((count - 1) * step if quiet else 0, count * step, step):
            end = records[k]
            squares = [(records[k + _RECORD + j] - noise) / x for j, x in enumerate(self._nominal)]
            self._take(end - records[k + 1] & _TICKS, end, squares, now, found)
        return found

    def _quiet(self, records, count):
        for j in range(len(self._nominal)):
            low, high = self._low[j], self._high[j]
            for k in range(_RECORD + j, count * (_RECORD + len(self._nominal)), _RECORD + len(self._nominal)):
                if not low < records[k] < high:
                    return False
        return True

    def _take(self, begin, end, squares, now, found):
        last, self._half = self._half, squares
        gap = begin - self._end & _TICKS
        moment, self._at = self._at, begin
        if gap or last is None:
            self._at = begin + (end - begin & _TICKS) // 2 & _TICKS
            self._before = last or squares
            self._unseen = gap // 2 if last else 0
            self._middle = begin - self._unseen & _TICKS
        for x in (self._under, self._over):
            if gap or last is None:
                if x.active:
                    x.note(last, self._at)
                    if x.within(squares):
                        x.leave(self._middle, self._unseen, now, found)
                    else:
                        x.note(squares, self._at)
                continue
            cycle = [(a + b) / 2 for a, b in zip(last, squares)]
            if x.active and x.within(cycle):
                x.leave(moment, 0, now, found)
            elif x.active:
                x.note(cycle, begin)
                x.overdue(end, found)
            elif x.beyond(cycle):
                if self._before and x.beyond(last):  # so it was from the gap on
                    if x.beyond(self._before):
                        x.enter(self._middle - self._unseen & _TICKS, 0)
                        x.note(self._before, begin)
                    else:
                        x.enter(self._middle, self._unseen)
                    x.note(last, begin)
                else:
                    x.enter(begin, 0)
                x.note(cycle, begin)
        if not gap and last is not None:
            self._before = None
        self._end = end
