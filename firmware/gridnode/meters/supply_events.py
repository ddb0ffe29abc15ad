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
        self.begin = sign * begin * begin / 10000
        self.end = sign * end * end / 10000
        self._void = void * void / 10000
        self.active = False

    def beyond(self, squares, limit):
        """Whether any phase is beyond the limit: `begin`, or `end` once it has begun."""
        for x in squares:
            if self._sign * x > limit:
                return True
        return False

    def covers(self, half, other):
        """Whether a half cycle lies in it for the most part, judged by how far the other goes."""
        sign = self._sign
        return 2 * (max([sign * x for x in half]) - sign) > max([sign * x for x in other]) - sign

    def enter(self, at, uncertainty):
        self.active = True
        self._told = self._interrupted = False
        self._at = at
        self._uncertainty = uncertainty
        self._extreme = None
        self._phases = ()

    def note(self, squares, at):
        """Keep how far it went."""
        for k, square in enumerate(squares):
            x = self._sign * square
            if x > self.begin and k + 1 not in self._phases:
                self._phases += (k + 1,)
            if self._extreme is None or x > self._extreme:
                self._extreme = x
        if not self._interrupted and max(squares) < self._void:
            if self._told:  # as the dip that it was until now
                self.enter(at, 0)
                self.note(squares, at)
            self._interrupted = True

    def tell(self, at, uncertainty, now, found):
        """It ended then, or is too long by now to wait for its end."""
        long_us = _LONG_INTERRUPTION_US if self._interrupted else _LONG_US
        duration = at - self._at & _TICKS
        if not self._told and (not self.active or duration > long_us):
            self._told = True
            kind = "interruption" if self._interrupted else self._kind
            extreme = 100 * math.sqrt(max(0.0, self._sign * self._extreme))
            uncertainty = (self._uncertainty + uncertainty) // 1000
            ago = now - at & _TICKS
            found.append((kind, self._phases, extreme, (duration + 500) // 1000, uncertainty, (ago + 500) // 1000))


class SupplyEvents:
    """Events of the phases whose voltages are recorded.

    nominal: mean squares of the nominal voltage in the unit of the records; dip, swell, interruption: thresholds in %
    of it; hysteresis: % of it.
    """

    def __init__(self, nominal, dip=90, swell=110, interruption=10, hysteresis=2):
        self._nominal = nominal
        under = _Excursion("dip", -1, dip, dip + hysteresis, interruption)
        self._excursions = under, _Excursion("swell", 1, swell, swell - hysteresis, 0)
        self._last = None  # squares of the last half cycle
        self._earlier = None  # and of the one before
        self._ended = 0  # its end in ticks
        self._moment = 0  # of the last RMS
        self._before = None  # squares of the last half cycle before a gap, while only one lies behind it
        self._middle = self._unseen = 0  # of the gap: its middle, half its length

    def feed(self, records, count, noise, now):
        """Take `count` half cycles; returns the events that ended (or are overdue), as reading.events wants them.

        records: ticks of the end in us, duration in us and mean square of each phase; noise: mean square to be taken
        off; now: ticks of the present.
        """
        found = []
        words = _RECORD + len(self._nominal)
        # Of quiet half cycles the last is enough: nothing but an event to come will look at it.
        quiet = count and self._quiet(records, count * words, words)
        for k in range((count - 1) * words if quiet else 0, count * words, words):
            squares = []
            for j, nominal in enumerate(self._nominal):
                squares.append((records[k + _RECORD + j] - noise) / nominal)
            self._take(records[k] - records[k + 1] & _TICKS, records[k], squares, now, found)
        return found

    def _quiet(self, records, end, words):
        under, over = self._excursions
        if under.active or over.active:
            return False
        for j, nominal in enumerate(self._nominal):
            low, high = int(-under.begin * nominal), int(over.begin * nominal)
            for k in range(_RECORD + j, end, words):
                if not low < records[k] < high:
                    return False
        return True

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
                    x.note(last, moment)
                    x.active = x.beyond(squares, x.end)
                    if x.active:
                        x.note(squares, self._moment)
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
                x.active = x.beyond(cycle, x.end)
                if x.active:
                    x.note(cycle, begin)
                x.tell(begin if x.active else moment, 0, now, found)
            elif x.beyond(cycle, x.begin):
                if not self._before or not x.covers(last, squares):
                    x.enter(begin, 0)
                elif x.covers(self._before, last):
                    x.enter(self._middle - self._unseen & _TICKS, 0)
                else:
                    x.enter(self._middle, self._unseen)
                if self._before:
                    x.note(self._before, begin)
                    x.note(last, begin)
                x.note(cycle, begin)
        self._before = None
