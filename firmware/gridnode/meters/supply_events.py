"""Dips, swells and interruptions by half-cycle RMS, the method of IEC 61000-4-30, across what nobody has seen.

The basis is Urms(1/2), the RMS of one cycle renewed every half cycle. A dip begins when one phase falls below its
threshold and ends when all are above it by the hysteresis; a swell likewise upwards. A dip in which all phases fell
below the threshold of interruptions at the same time is an interruption. The moment of an Urms(1/2) is the middle of
its cycle; an event reaches from the first to the last of them beyond the threshold.

Where sampling paused there is a gap. What began or ended in it did so in its middle, give or take half of it; next to
it the RMS of the half cycle alone counts for the depth too, since a short event leaves no room for a whole cycle. Such
a half cycle may lie in the event in part only: unless a cycle or its neighbour, which may be that behind the gap, goes
about as far, the depth is unknown.
A dip or swell that lasts for a minute is told as it is then: what goes on is an under- or over-voltage (EN 50160).
An interruption is told after three minutes: from then on it is a long one.
"""

import math
from micropython import const

_TICKS = const(0x3FFFFFFF)
_LONG_US = const(60000000)
_LONG_INTERRUPTION_US = const(180000000)
_RECORD = const(2)  # words of a record before its squares: ticks of the end, duration in us
_ABOUT = const(3)  # % of the nominal voltage


class _Excursion:
    """Supply beyond a threshold; sign: 1 above, -1 below. Voltages are squares in parts of the nominal one's."""

    def __init__(self, sign, begin, end, void):
        self.sign = sign
        self.begin = sign * begin * begin / 10000
        self.end = sign * end * end / 10000
        self._void = void * void / 10000
        self.active = False

    def reach(self, squares):
        """How far the phase goes that goes furthest: to compare with `begin`, or with `end` once it has begun."""
        return max(squares) if self.sign > 0 else -min(squares)

    def covers(self, half, other):
        """Whether a half cycle lies in it for the most part, judged by how far the other goes."""
        return 2 * (self.reach(half) - self.sign) > self.reach(other) - self.sign

    def enter(self, at, uncertainty):
        self.active = True
        self._told = self._interrupted = False
        self._at = at
        self._uncertainty = uncertainty
        self._extreme = self._sure = -2.0  # how far it went, and how far for sure
        self._phases = ()

    def note(self, squares, at, neighbour):
        """Keep how far it went; neighbour: squares that tell whether this is sure."""
        for k, square in enumerate(squares):
            if self.sign * square > self.begin and k + 1 not in self._phases:
                self._phases += (k + 1,)
        reach = self.reach(squares)
        self._extreme = max(self._extreme, reach)
        self._sure = max(self._sure, min(reach, self.reach(neighbour)))
        if not self._interrupted and max(squares) < self._void:
            if self._told:  # as the dip that it was until now
                self.enter(at, 0)
                self.note(squares, at, neighbour)
            self._interrupted = True

    def _percent(self, reach):
        return 100 * math.sqrt(max(0.0, self.sign * reach))

    def tell(self, at, uncertainty, now, found):
        """It ended then, or is too long by now to wait for its end."""
        duration = at - self._at & _TICKS
        if self._told or (self.active and duration <= (_LONG_INTERRUPTION_US if self._interrupted else _LONG_US)):
            return
        self._told = True
        kind = "interruption" if self._interrupted else "swell" if self.sign > 0 else "dip"
        extreme = self._percent(self._extreme)
        if abs(extreme - self._percent(self._sure)) > _ABOUT:
            extreme = None
        uncertainty = (self._uncertainty + uncertainty) // 1000
        ago = now - at & _TICKS
        found.append((kind, self._phases, extreme, (duration + 500) // 1000, uncertainty, (ago + 500) // 1000))


class SupplyEvents:
    """Events of the phases whose voltages are recorded.

    nominal: mean squares of the nominal voltage in the unit of the records; dip, swell, interruption: thresholds in %
    of it; hysteresis: % of it.
    """

    def __init__(self, nominal, dip, swell, interruption, hysteresis):
        self._nominal = nominal
        self._excursions = (
            _Excursion(-1, dip, dip + hysteresis, interruption),
            _Excursion(1, swell, swell - hysteresis, 0),
        )
        self._last = None  # squares of the last half cycle
        self._earlier = None  # and of the one before
        self._ended = 0  # its end in ticks
        self._moment = 0  # of the last RMS
        self._before = None  # squares of the last half cycle before a gap, while only one lies behind it
        self._middle = self._unseen = 0  # of the gap: its middle, half its length

    def active(self):
        """Whether an event is under way."""
        return self._excursions[0].active or self._excursions[1].active

    def feed(self, records, count, noise, now):
        """Take `count` half cycles; returns the events that ended (or are overdue), as reading.events wants them.

        records: ticks of the end in us, duration in us and mean square of each phase; noise: mean square to be taken
        off; now: ticks of the present. Of quiet ones without an event the last is enough.
        """
        found = []
        words = _RECORD + len(self._nominal)
        for k in range(0, count * words, words):
            squares = []
            for j, nominal in enumerate(self._nominal):
                squares.append((records[k + _RECORD + j] - noise) / nominal)
            self._take(records[k] - records[k + 1] & _TICKS, records[k], squares, now, found)
        return found

    def _take(self, begin, end, squares, now, found):
        last, self._last = self._last, squares
        moment, self._moment = self._moment, begin
        gap = begin - self._ended & _TICKS
        self._ended = end
        if last is None or gap:
            self._moment = begin + (end - begin & _TICKS) // 2 & _TICKS
            self._before = last or squares
            self._unseen = gap // 2 if last else 0
            self._middle = begin - self._unseen & _TICKS
            for x in self._excursions:
                if x.active:
                    x.note(last, moment, squares)
                    x.active = x.reach(squares) > x.end
                    if x.active:
                        x.note(squares, self._moment, last)
                    elif x.covers(last, self._earlier):
                        x.tell(self._middle, self._unseen, now, found)
                    else:
                        x.tell(moment, 0, now, found)
            self._earlier = squares
            return
        self._earlier = last
        cycle = [(a + b) / 2 for a, b in zip(last, squares)]
        for x in self._excursions:
            if x.active:
                x.active = x.reach(cycle) > x.end
                if x.active:
                    x.note(cycle, begin, cycle)
                x.tell(begin if x.active else moment, 0, now, found)
            elif x.reach(cycle) > x.begin:
                before = self._before
                if not before or not x.covers(last, squares):
                    x.enter(begin, 0)
                elif x.covers(before, last):
                    x.enter(self._middle - self._unseen & _TICKS, 0)
                else:
                    x.enter(self._middle, self._unseen)
                if before:
                    x.note(before, begin, last)
                    x.note(last, begin, before)
                x.note(cycle, begin, cycle)
        self._before = None
