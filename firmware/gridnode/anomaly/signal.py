"""One signal of a device: its steps, rules, statistics, and whether it is in alarm."""

from micropython import const

from gridnode.anomaly import certain, scale
from gridnode.anomaly import statistics as st
from gridnode.anomaly.certain import Certain
from gridnode.anomaly.statistics import Series

ON = const(384)  # ratio that raises an alarm in one row; two rows in a row of ONE do as well
ON_STEP = const(320)  # the same for a step, which has but one row
OFF = const(205)  # below it an alarm ends
SURE = const(1024)  # ratio of a rule
_TWO_HOURS_S = const(7200)
_BASE_S = const(21600)
_SCALE_ROWS = const(32)  # from which the scale of a plain signal is told
_HUGE = 2.0**100  # of a plain signal; eight times that is still a float32
_FAMILY_KEYS = ("", "v", "i", "p", "t", "")

_KINDS = ("level", "level", "level", "level", "level", "level", "level", "level", "spike", "spike")
_KINDS += ("period", "noise", "clipped")


class Signal:
    """A signal named `name`; `limits` is the SKU's, see `Detector`."""

    def __init__(self, name, limits):
        self.name = name
        self.kind = scale.family(name)
        self.outdoors = self.kind == scale.HUMIDITY or name in scale.AIR  # weather moves it
        self.rating = limits.get("rating_a") or 0
        self.nominal = limits.get("v_nominal") or 0
        self.interval_s = int(limits["interval_s"])
        self.range = _range(name, self.kind, limits)
        shift = 3
        while shift < 9 and self.interval_s << (shift + 1) <= _TWO_HOURS_S + _TWO_HOURS_S // 4:
            shift += 1
        self.series = Series(
            shift, max(8, _BASE_S // self.interval_s), self.kind in (scale.TEMPERATURE, scale.HUMIDITY)
        )
        self.certain = None
        self.per_unit = 0
        self._largest = 0.0
        self._rows = 0
        self.y = scale.MISSING
        self.x = 0.0
        self.idle = 0  # rows since statistics were taken
        self.ratio = 0
        self.grade = 0
        self.alarm = False
        self.onset = 0  # Unix s
        self.stepped = False
        self.why = 0
        self._by_rule = False
        self._count = 0
        most = scale.largest(self.kind, self.rating, self.nominal)
        if most:
            self.resolve(scale.factor(most))

    def resolve(self, per_unit):
        """Fix the steps."""
        low, high = self.range or (None, None)
        self.per_unit = per_unit
        self.certain = Certain(
            self.kind,
            per_unit,
            None if low is None else scale.steps(low, per_unit),
            None if high is None else scale.steps(high, per_unit),
            self.interval_s,
        )
        least = int(scale.material(self.kind, self.rating, self.nominal) * per_unit)
        self.series.state[st.LEAST] = max(least, 8)

    def forget(self, hours):
        """Rows are missing before the next one, `hours` of them or few."""
        if self.certain:
            self.certain.forget()
        if hours:
            self.series.rest()
        else:
            self.series.forget()

    def read(self, x):
        """Take a value; sets `y` and the rule that it breaks."""
        self.x = x
        if self.certain is None:
            if x == x:  # noqa: PLR0124 - not NaN
                self._largest = max(self._largest, min(abs(x), _HUGE))
                self._rows += 1
                if self._rows >= _SCALE_ROWS:
                    self.resolve(scale.factor((self._largest or 1) * 8))
            return
        self.y = scale.steps(x, self.per_unit)
        self.certain.judge(x, self.y)

    @property
    def rule(self):
        """Number of the rule that this row breaks, 0 for none."""
        return self.certain.rule if self.certain else 0

    @property
    def present(self):
        """Whether there is a value that breaks no rule."""
        return self.y != scale.MISSING and not self.rule

    def hold(self):
        """How the statistics are to wait, see `statistics.FREE`."""
        if not self.alarm:
            return st.FREE
        return st.JUMPED if self.why in (st.JUMP, st.JUMP + 1) and not self._by_rule else st.ALARM

    def conclude(self, ratio, t):
        """Fuse: `ratio` is that of the statistics, 0 where they were not asked."""
        if self.rule:
            ratio = SURE
        step = ratio and not self.rule and self.why in (st.STEP, st.STEP + 1)
        self.ratio = ratio
        self.grade = 1000 if self.rule else ratio * 1000 // (ratio + st.ONE)
        if self.rule or ratio >= ON or (step and ratio >= ON_STEP):
            self._by_rule = bool(self.rule) or (self.alarm and self._by_rule)
            self._raise(t)
        elif not self.alarm:
            self._count = self._count + 1 if ratio >= st.ONE else 0
            if self._count >= 2:
                self._by_rule = False
                self._raise(t)
        else:
            below = ratio < (st.ONE if self._by_rule else OFF)
            self._count = self._count + 1 if below else 0
            if self._count >= (1 if self._by_rule or self.interval_s >= 60 else 3):
                self.alarm = self.stepped = False
                self._count = 0
        if self.alarm and step:
            self.stepped = True

    def _raise(self, t):
        self._count = 0
        if not self.alarm:
            self.onset = t
        self.alarm = True

    def accept(self):
        """The present level is ordinary from now on."""
        self.series.accept()
        self.alarm = self.stepped = False
        self._count = 0

    def alarm_kind(self, explained):
        """Kind of the alarm; `explained`: the signal is seen against its causes."""
        if self.rule:
            return certain.KINDS[self.rule]
        kind = _KINDS[self.why]
        if kind != "level":
            return kind
        if self.stepped:
            return "level_shift"
        return "relation" if explained else "drift"


def _range(name, kind, limits):
    """The SKU's range of a signal, in its unit, or None."""
    nominal = limits.get("nominal") or {}
    found = nominal.get(name) or nominal.get(_FAMILY_KEYS[kind])
    if found is None and kind == scale.CURRENT and "i_of_rating" in nominal and limits.get("rating_a"):
        low, high = nominal["i_of_rating"]
        return low * limits["rating_a"], high * limits["rating_a"]
    return found
