"""The detector of a device: rows of values in, a verdict out.

Four layers, each on what the one before leaves: certain rules (`certain`), statistics of each signal freed from its
causes (`statistics`, `causes`), an ensemble over all signals (`ensemble`), and a diagnosis by fuzzy rules (`fuzzy`).
Flagged rows teach nobody. What is learnt is frozen and does not get used to faults.
"""

from array import array
from micropython import const

from gridnode.anomaly import certain, scale
from gridnode.anomaly import statistics as st

LEARNING = "learning"
FROZEN = "frozen"
GUARDED = "guarded"
SUSPECT = "suspect"

_NAN = float("nan")
_SENSOR = {certain.MISSING: "sensor_disconnected", certain.DEAD: "sensor_disconnected", certain.STUCK: "sensor_stuck"}
_DAY_S = const(86400)
_BIN_S = const(1800)
_TRAIN_DAYS = const(4)
_INTERVAL_S = const(60)
_MOST = const(32000)  # of an input of the rules of faults
_SLOW_S = const(60)  # rows that far apart tell the end of an alarm at once
_CALM = const(450)  # grade below which a guarded level may follow
_LOST_ROWS = const(3)
_LOST_S = const(7200)
_WEATHER = const(64)  # distance from which on a season, nothing strange, may be its cause
_ITSELF = const(254)  # who led a signal astray, where no other one did
_NOBODY = const(255)  # and where it is not astray
_ODD_ROWS = const(8)  # of another interval until it counts


class Detector:
    """names: the signals of a row. limits: what the SKU says:

    `interval_s`, `train_rows`, `rating_a` (A), `v_nominal` (V), `nominal` {signal or family: [low, high]} in the
    signal's unit, `i_of_rating` in units of `rating_a`. Absent keys mean no limit.

    After each row: `grade` 0..1000 (500 is the limit), `alarm`, `kind`, `priority` 1 (most urgent) to 4 or 0,
    `diagnosis`, `faults` (name, degree), `text`, and per signal `grades` and `alarms`.
    """

    def __init__(self, names, limits):
        self.names = names
        self.limits = dict(limits)
        self.limits["interval_s"] = self.interval_s = max(1, int(limits.get("interval_s") or _INTERVAL_S))
        self.train_rows = int(limits.get("train_rows") or _TRAIN_DAYS * _DAY_S // self.interval_s)
        self.grades = array("h", [0] * len(names))
        self.alarms = bytearray(len(names))
        self.ys = array("h", [0] * len(names))  # steps of the newest row
        self._before = array("h", self.ys)  # and of the one before
        self._led = bytearray(len(names))  # position of who led each signal in alarm astray
        self.misfits = bytearray(len(names))  # whether a signal is such a one
        self._zs = array("h", [0] * len(names))
        self._good = bytearray(len(names))
        self._sound = array("f", [0] * len(names))
        self.values = None  # of the newest row
        self.views = self.forest = None
        self.reset()

    def reset(self):
        """Forget everything and learn anew."""
        from gridnode.anomaly import orders
        from gridnode.setup import signals

        parts = signals.parts(self.names, self.limits)
        self.signals, self.causes, self.order, self.ensemble, self.electrical, self.rules = parts
        self.training = None
        self.state = LEARNING
        orders.train(self)
        self.reason = ""
        self.rows = 0
        self.frozen_at = 0
        self.now = 0
        self._odd = 0
        self._strange = 0
        for k in range(len(self.names)):
            self.ys[k] = scale.MISSING
            self._led[k] = _NOBODY
            self.misfits[k] = self.alarms[k] = 0
        self._clear()
        if self.forest:
            orders.see(self)

    def _clear(self):
        self.grade = 0
        self.alarm = False
        self.kind = self.diagnosis = ""
        self.priority = 0
        self.worst = None

    def row(self, values, t, learn=None):
        """Judge a row, an array('f') with NaN for what is missing, of Unix time `t`.

        learn: whether the row may teach; None: the detector decides, and freezes once it has `train_rows`.
        """
        self.values = values
        judged = self._on_time(t)
        if self.state == LEARNING and learn is None and self.training.taken >= self.train_rows:
            from gridnode.anomaly import orders

            orders.freeze(self, t)
        teach = self.training and (learn or learn is None)
        at = t % _DAY_S // _BIN_S
        part = t % _BIN_S * 256 // _BIN_S
        broken = False
        for k in range(len(self.signals)):
            signal = self.signals[k]
            self._before[k] = self.ys[k]
            self.ys[k] = self._read(k, values[k])
            rule = signal.rule
            self._good[k] = self.ys[k] != scale.MISSING and (not rule or rule == certain.RANGE)
            broken = broken or rule
        self.causes.take(self.ys, self._good, at, part)  # an overload heats as well
        for k in range(len(self.signals)):
            self._good[k] = self._good[k] and not self.signals[k].rule
        if teach:
            self.rows += 1
            self.training.broken += 1 if broken else 0
            self.training.begin(self.ys, self._good, at)
        for k in self.order:
            self._judge(k, at, part, teach, t, judged)
        self._shift_blame()
        if teach:
            self.training.row(self._zs, self._good)
        if self.rules:
            self._diagnose(values, teach and not broken)
        if self.views:
            self.views.row(values)
        self._conclude()

    def _read(self, k, x):
        signal = self.signals[k]
        if signal.certain:
            return signal.read(x)
        if signal.gather(x):
            from gridnode.setup import signals

            signals.scaled(self, k)
        return scale.MISSING

    def _on_time(self, t):
        """Take the time of a row; returns whether rows come as they were taught."""
        gap = t - self.now
        if self.now and not 0 < gap <= _LOST_ROWS * self.interval_s:
            for signal in self.signals:
                signal.forget(abs(gap) > _LOST_S)
            if abs(gap) > _LOST_S:
                self.causes.forget()
                if self.rules:
                    self.electrical.rest()
                    self.rules.rest()
        self._odd = min(self._odd + 1, _ODD_ROWS) if 0 < gap * 2 < self.interval_s or gap > 2 * self.interval_s else 0
        self.now = t
        return self._odd < _ODD_ROWS

    def _judge(self, k, at, part, teach, t, judged):
        signal = self.signals[k]
        ratio = change = 0
        self._zs[k] = 0
        hold = signal.hold()
        if self._good[k] and judged:
            extra = self.causes.explain(k, self._good)
            if extra != scale.MISSING:
                if signal.idle > signal.series.jump_rows // 2:
                    signal.series.rest()
                elif signal.idle > 2 or (signal.idle and self._before[k] != scale.MISSING):
                    signal.series.forget()  # its cause was in doubt, and may have changed since
                signal.idle = -1
                y = min(max(self.ys[k] - extra, -32000), 32000)
                if teach:
                    self.training.before(k, y)
                if signal.series.last() != st.MISSING:
                    change = y - signal.series.last()
                signal.series.take(y, at, part, hold)
                if teach:
                    self.training.after(k, y)
                elif self.state != LEARNING:
                    ratio = signal.series.judge()
                z = signal.series.distance()
                self._zs[k] = 0 if signal.series.lags and abs(z) > _WEATHER else z
        signal.idle += 1
        self.grades[k] = signal.conclude(ratio, t, self.interval_s >= _SLOW_S)
        if signal.rule:
            self._led[k] = _ITSELF
        elif not signal.alarm and ratio < st.ONE:
            self._led[k] = _NOBODY
        elif self._led[k] == _NOBODY:
            self._led[k] = self._mover(k, change)
        if signal.alarm:
            self._good[k] = 0
            if self._led[k] < _ITSELF:
                self._good[self._led[k]] = 0
        if self.state == GUARDED and not signal.idle:
            if self.grades[k] < _CALM:
                signal.series.follow(_DAY_S // self.interval_s)
            signal.series.ease()
        self.alarms[k] = signal.alarm

    def _mover(self, k, change):
        """Position of what has moved while signal `k` has not, though seen against its causes it has so much."""
        cause = self.causes.of[k]
        if not cause or cause.thermal or not cause.known or self._before[k] == scale.MISSING:
            return _ITSELF
        mover, most = _ITSELF, 0
        sudden = 2 * abs(change) > abs(self.signals[k].series.off())
        if sudden and 2 * abs(self.ys[k] - self._before[k]) < abs(change):
            for n in cause.needs:
                now, before = self.ys[n], self._before[n]
                if before != scale.MISSING:
                    moved = abs(now - before) * 1000 // max(abs(now), abs(before), 1)
                    if moved > most:
                        mover, most = n, moved
        return mover

    def _shift_blame(self):
        """A signal that stands still while one of its causes jumps is right: the cause is what does not fit."""
        for k in range(len(self.misfits)):
            self.misfits[k] = 0
        for k in range(len(self._led)):
            if self.signals[k].alarm and self._led[k] < _ITSELF:
                n = self._led[k]
                self.misfits[n] = self.alarms[n] = 1
                self.grades[n] = max(self.grades[n], self.grades[k])
                self.alarms[k] = 0
                self.grades[k] = min(self.grades[k], 499)

    def _diagnose(self, values, teach):
        """Let the rules of faults see the row; blames signals in `grades` and `alarms`."""
        x, slots = self.electrical.inputs, self.electrical.slots
        for k in range(len(self.signals)):
            signal = self.signals[k]
            lost = signal.rule in (certain.MISSING, certain.DEAD)
            coded = lost and signal.kind in (scale.TEMPERATURE, scale.HUMIDITY)
            self._sound[k] = _NAN if coded else values[k]
            why = signal.series.why
            upwards = why < st.STEP and not why & 1
            ratio = min(signal.ratio, _MOST)
            x[slots[k]] = ratio if upwards and not signal.rule else 0
            x[slots[k] + 1] = ratio if why == st.QUIET and not signal.rule else 0
            x[slots[k] + 2] = 1000 if lost else 0
            x[slots[k] + 3] = 1000 if signal.rule == certain.STUCK else 0
        self.electrical.row(self._sound, teach)
        self.rules.judge()
        guilt = self.rules.guilt
        for k in range(len(guilt)):
            if guilt[k]:
                self.grades[k] = max(self.grades[k], 500 + guilt[k] // 2)
                self.alarms[k] = 1

    def _conclude(self):
        """Fuse the signals, the faults, and what the ensemble says where none of them has an alarm."""
        self._clear()
        for k in range(len(self.signals)):
            signal = self.signals[k]
            self.grade = max(self.grade, self.grades[k])
            if self.alarms[k]:
                self.alarm = True
            if signal.alarm and (self.worst is None or signal.ratio > self.signals[self.worst].ratio):
                self.worst = k
        if self.worst is not None:
            if self._led[self.worst] < _ITSELF:
                self.worst = self._led[self.worst]
            signal = self.signals[self.worst]
            self.kind = self.kind_of(self.worst)
            urgent = signal.rule == certain.RANGE and signal.kind in (scale.VOLTAGE, scale.CURRENT)
            self.priority = 2 if urgent else 3
            self.diagnosis = _SENSOR.get(signal.rule, self.kind)
        if self.rules and self.rules.top >= 0:
            self.alarm = True
            self.diagnosis = self.rules.names[self.rules.top]
            self.priority = self.rules.priorities[self.rules.top]
            self.grade = max(self.grade, 500 + self.rules.degrees[self.rules.top] // 2)
            self.kind = self.kind or self.diagnosis
        elif self.alarm and self.views:
            self.diagnosis = self.views.named(self.forest) or self.diagnosis
        self._wonder()

    def kind_of(self, k):
        """Kind of the alarm that signal `k` has, "" where only a fault blames it."""
        if not self.signals[k].alarm:
            return "mismatch" if self.misfits[k] else ""
        cause = self.causes.of[k]
        return self.signals[k].alarm_kind(cause and cause.known)

    def first(self):
        """Position of the signal to tell first, of those that the fault blames; None where none is blamed."""
        blamed = self.rules.blamed if self.rules and self.rules.top >= 0 else -1
        found = None
        for k in range(len(self.alarms)):
            if self.alarms[k] and blamed >> k & 1:
                if found is None or self.signals[k].ratio > self.signals[found].ratio:
                    found = k
        return self.worst if found is None else found

    def _wonder(self):
        """The ensemble's turn, where nothing else explains a row."""
        strange = False
        if self.ensemble.limit and not self.alarm and not self.training:
            cost = self.ensemble.cost(self._zs, self._good)
            grade = cost * 1000 // (cost + self.ensemble.limit)
            strange = grade >= 500
            if strange:
                self.grade = max(self.grade, grade)
        self._strange = self._strange + 1 if strange else 0
        if self._strange >= 2:
            self.alarm = True
            self.kind = self.diagnosis = "unclassified"
            self.priority = 4

    @property
    def faults(self):
        """Faults that hold, as (name, degree 0..1000), the most severe first."""
        return self.rules.faults() if self.rules else []

    @property
    def text(self):
        """The alarm in one sentence, "" without one."""
        from gridnode.anomaly import wording

        return wording.sentence(self)

    def command(self, action):
        """Do what an operator asks for: freeze, guarded, learning, reset, or accept and a signal.

        Returns "" or why it cannot be done.
        """
        from gridnode.anomaly import orders

        return orders.command(self, action)

    def attach(self, data):
        """Let a forest from `gridnode train`, as bytes, name what the rules of faults leave unnamed.

        Returns "" or why it is refused.
        """
        from gridnode.anomaly import orders

        return orders.attach(self, data)

    def budget(self):
        """What guarded levels have used of what they may move, the largest share in percent."""
        from gridnode.anomaly import orders

        return orders.budget(self)

    @property
    def size(self):
        """Bytes of the arrays of the model."""
        from gridnode.anomaly import model

        return model.size(self)

    def save(self):
        """What was learnt, as bytes."""
        from gridnode.anomaly import model

        return model.save(self)

    def load(self, data):
        """Take what was learnt; returns "" or why not, and then nothing has changed."""
        from gridnode.anomaly import model

        return model.load(self, data)
