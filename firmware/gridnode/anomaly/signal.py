"""One signal of a device: its steps, rules, statistics, and whether it is in alarm. `setup.signals` makes it."""

from micropython import const

from gridnode.anomaly import certain, scale
from gridnode.anomaly import statistics as st

_ON = const(384)  # ratio that raises an alarm in one row; two rows in a row of ONE do as well
_ON_STEP = const(256)  # the same for a step, which has but one row
_OFF = const(205)  # below it an alarm ends
_SURE = const(1024)  # ratio of a rule
_SCALE_ROWS = const(32)  # from which the scale of a plain signal is told
_HUGE = 2.0**100  # of a plain signal; eight times that is still a float32

_KINDS = ("level", "level", "level", "level", "level", "level", "level", "level", "spike", "spike")
_KINDS += ("noise", "period", "clipped")


class Signal:
    """A signal of a kind of `scale`; `certain` is None until its steps are known."""

    largest = 0.0  # of a plain signal
    _rows = 0

    def __init__(self, kind, series):
        self.kind = kind
        self.series = series
        self.certain = None
        self.per_unit = 0
        self.idle = 0  # rows since statistics were taken
        self.ratio = 0
        self.alarm = False
        self.onset = 0  # Unix s
        self._stepped = False
        self._by_rule = False
        self._count = 0

    def forget(self, hours):
        """Rows are missing before the next one, `hours` of them or few."""
        if self.certain:
            self.certain.forget()
        if hours:
            self.series.rest()
        else:
            self.series.forget()

    def read(self, x):
        """Take a value: the rules judge it. Returns its steps."""
        y = scale.steps(x, self.per_unit)
        self.certain.judge(x, y)
        return y

    def gather(self, x):
        """Take a value while the steps are not known; returns whether enough have come to tell them."""
        if x != x:  # noqa: PLR0124 - NaN
            return False
        self.largest = max(self.largest, min(abs(x), _HUGE))
        self._rows += 1
        return self._rows >= _SCALE_ROWS

    @property
    def rule(self):
        """Number of the rule that this row breaks, 0 for none."""
        return self.certain.rule if self.certain else 0

    def hold(self):
        """How the statistics are to wait, see `statistics.FREE`."""
        if not self.alarm:
            return st.FREE
        return st.JUMPED if self.series.why in (st.JUMP, st.JUMP + 1) and not self._by_rule else st.ALARM

    def conclude(self, ratio, t, slow):
        """Fuse: `ratio` is that of the statistics, 0 where they were not asked; `slow`: rows of a minute or more.

        Returns the grade.
        """
        if self.rule:
            ratio = _SURE
        step = ratio and not self.rule and self.series.why in (st.STEP, st.STEP + 1)
        self.ratio = ratio
        if self.rule or ratio >= _ON or (step and ratio >= _ON_STEP):
            self._by_rule = bool(self.rule) or (self.alarm and self._by_rule)
            self._raise(t)
        elif not self.alarm:
            self._count = self._count + 1 if ratio >= st.ONE else 0
            if self._count >= 2:
                self._by_rule = False
                self._raise(t)
        else:
            below = ratio < (st.ONE if self._by_rule else _OFF)
            self._count = self._count + 1 if below else 0
            if self._count >= (1 if self._by_rule or slow else 3):
                self.alarm = self._stepped = False
                self._count = 0
        if self.alarm and step:
            self._stepped = True
        return 1000 if self.rule else ratio * 1000 // (ratio + st.ONE)

    def _raise(self, t):
        self._count = 0
        if not self.alarm:
            self.onset = t
        self.alarm = True

    def accept(self):
        """The present level is ordinary from now on."""
        self.series.accept()
        self.alarm = self._stepped = False
        self._count = 0

    def alarm_kind(self, explained):
        """Kind of the alarm; `explained`: the signal is seen against its causes."""
        if self.rule:
            return certain.KINDS[self.rule]
        kind = _KINDS[self.series.why]
        if kind != "level":
            return kind
        if self._stepped:
            return "level_shift"
        return "relation" if explained else "drift"
