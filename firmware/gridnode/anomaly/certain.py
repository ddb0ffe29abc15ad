"""Certain rules of one signal, row by row: missing, out of range, stuck, dead, faster than physics allows."""

from micropython import const

from gridnode.anomaly import scale

MISSING = const(1)
RANGE = const(2)
STUCK = const(3)
DEAD = const(4)
RATE = const(5)
KINDS = ("", "missing", "range", "stuck", "dead", "rate")

_GONE_ROWS = const(2)  # one row may get lost
_RAILS = {scale.TEMPERATURE: (-100, 250), scale.HUMIDITY: (-5, 105)}  # beyond them no sensor of the kind reads
_POWER_UP = 85.0  # what a DS18B20 reads until it has measured
_RATE_K_S = 0.5  # no sensor on a busbar or in a cabinet warms faster


class Certain:
    """Rules of one signal.

    low, high: range of the SKU in steps or None. It ends with a hysteresis of 2 % of the limit, which counts only
    where the value was no further outside than that: it is there against chatter.
    """

    def __init__(self, kind, per_unit, low, high, interval_s):
        self.kind = kind
        self.low = low
        self.high = high
        # steps a row, 0: any
        self.rate = int(_RATE_K_S * interval_s * per_unit) if kind == scale.TEMPERATURE else 0
        rails = _RAILS.get(kind)
        self.rails = rails and (int(rails[0] * per_unit), int(rails[1] * per_unit))
        self.run = 0  # rows that read the same
        self.run_limit = None  # None while it is learnt, 0: any
        self.zeros = False  # whether 0 is an ordinary reading
        self.rule = 0
        self._last = 0.0
        self._y = scale.MISSING
        self.seen = False
        self._gone = 0
        self._outside = 0
        self._dead = False

    def judge(self, x, y):
        """Set `rule` for a value `x` of `y` steps."""
        self.rule = self._judge(x, y)
        if self.rule == DEAD:
            self._y = scale.MISSING
        elif y != scale.MISSING:
            self._last = x
            self._y = y

    def forget(self):
        """The last value is no measure of the next one: rows are missing."""
        self._y = scale.MISSING

    def _judge(self, x, y):
        if y == scale.MISSING:
            self._gone += 1
            return MISSING if self.seen and self._gone >= _GONE_ROWS else 0
        fresh = self._gone or not self.seen
        self._gone = 0
        self.seen = True
        if self.rails and not self.rails[0] < y < self.rails[1]:
            self._dead = True
            return DEAD
        known = not fresh and self._y != scale.MISSING
        fast = self.rate and known and abs(y - self._y) > self.rate
        if self.rate and x == _POWER_UP and (fast or self._dead):
            self._dead = True
            return DEAD
        self.run = self.run + 1 if x == self._last and not fresh else 1
        if self._out_of_range(y):
            return RANGE
        if x == 0 and self._falls_dead(known):
            return DEAD
        if x != 0:
            self._dead = False
        if fast:
            if self.run_limit is not None:
                return RATE
            self.rate = 0  # what is measured here does move that fast
        if self.run_limit and self.run > self.run_limit:
            return STUCK
        return 0

    def _out_of_range(self, y):
        if self.high is None:
            return False
        excess = max(y - self.high, self.low - y)
        if excess > 0:
            self._outside = excess
            return True
        band = max(abs(self.high), abs(self.low)) // 50
        if self._outside and self._outside < band and -excess < band:
            return True
        self._outside = 0
        return False

    def _falls_dead(self, known):
        """A reading of exactly 0 out of a working one, where 0 was never seen: no sensor or no supply."""
        if self.run_limit is None or self.zeros or self.kind in (scale.PLAIN, scale.TEMPERATURE):
            return False
        if known and abs(self._y) > 100:
            self._dead = True
        return self._dead

