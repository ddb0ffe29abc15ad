"""Certain rules: a value outside the range of its SKU."""

from micropython import const

_RAISE_MS = const(600)  # outside so long in a row
_CLEAR_MS = const(1000)  # inside, hysteresis included, so long in a row
_LONGEST = const(1000000000)  # what no instrument gives is told as it is
_UNITS = {"voltage": "V", "current": "A", "power": "W", "frequency": "Hz", "temperature": "degC", "humidity": "%"}


class Range:
    """One signal between `low` and `high`; the alarm ends only inside the range by `hysteresis`.

    grade: 0 inside, 0.5 just outside, 1 from a tenth of the limit beyond it. hit: a value was outside, or came during
    an alarm, since whoever asks has set it to False.
    """

    alarm = hit = False
    kind = value = None
    grade = 0.0
    _ms = 0

    def __init__(self, signal, phase, name, limit):
        self.signal = signal
        self.phase = phase
        self.name = name
        self.low = limit.get("low")
        self.high = limit.get("high")
        self.hysteresis = limit.get("hysteresis", 0)
        self.priority = limit.get("priority", 3)

    def judge(self, reading):
        """Take one value; returns True when the alarm is raised or cleared. A missing value changes nothing."""
        value = reading.at[self.phase].get(self.name)
        if value is None:
            return False
        self.value = value
        margin = self.hysteresis if self.alarm else 0
        kind = None
        if self.high is not None and value > self.high - margin:
            kind, limit = "range_high", self.high
        elif self.low is not None and value < self.low + margin:
            kind, limit = "range_low", self.low
        if kind:
            excess = abs(value - limit) / max(0.1 * abs(limit), 1e-6)
            self.grade = 0.5 + 0.5 * min(1.0, excess)
        else:
            self.grade = 0.0
        self.hit = self.hit or self.alarm or kind is not None
        if (kind is not None) == self.alarm:
            self._ms = 0
            if self.alarm:
                self.kind = kind
            return False
        self._ms += reading.ms
        if self._ms < (_CLEAR_MS if self.alarm else _RAISE_MS):
            return False
        self._ms = 0
        self.alarm = not self.alarm
        if self.alarm:
            self.kind = kind
        return True

    def inside(self, value):
        """Whether a value is within the range, hysteresis aside; not one that is NaN."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def text(self):
        """One plain sentence."""
        if self.name == "cover":
            return "cover is open" if self.value else "cover is closed"
        unit = _UNITS.get(self.name, "")
        if not self.alarm:
            return "%s %s %s is within its range again" % (self.signal, plain(self.value), unit)
        side, limit = ("above", self.high) if self.kind == "range_high" else ("below", self.low)
        return "%s %s %s is %s %s %s" % (self.signal, plain(self.value), unit, side, plain(limit), unit)


def plain(value):
    """Four digits, never an exponent."""
    if 1000 <= abs(value) <= _LONGEST:
        return "%d" % round(value)
    return "0" if abs(value) < 0.0001 else "%.4g" % value
