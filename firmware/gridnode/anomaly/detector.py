"""The detector of a device: rows of values in, a verdict out.

Four layers, each on what the one before leaves: certain rules (`certain`), statistics of each signal freed from its
causes (`statistics`, `causes`), an ensemble over all signals (`ensemble`), and a diagnosis by fuzzy rules (`fuzzy`).
Flagged rows teach nobody. What is learnt is frozen and does not get used to faults.
"""

from array import array
from micropython import const

from gridnode.anomaly import certain, scale
from gridnode.anomaly import statistics as st
from gridnode.anomaly.causes import Causes
from gridnode.anomaly.electrical import Electrical
from gridnode.anomaly.ensemble import Ensemble
from gridnode.anomaly.fuzzy import HOLDS, Rules
from gridnode.anomaly.signal import Signal

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
_LEAST_ROWS = const(32)
_FOUL_PERCENT = const(1)
_MOST = const(32000)  # of an input of the rules of faults
_CALM = const(450)  # grade below which a guarded level may follow
_LOST_ROWS = const(3)
_LOST_S = const(7200)
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
        self._ys = array("h", [0] * len(names))
        self._zs = array("h", [0] * len(names))
        self._good = bytearray(len(names))
        self._sound = array("f", [0] * len(names))
        self._views = self._forest = None
        self.reset()

    def reset(self):
        """Forget everything and learn anew."""
        names = self.names
        self.signals = [Signal(name, self.limits) for name in names]
        kinds = [signal.kind for signal in self.signals]
        self.causes = Causes(names, kinds, self.interval_s)
        # Currents first: they explain the others.
        self._order = [k for k in range(len(names)) if kinds[k] == scale.CURRENT]
        self._order += [k for k in range(len(names)) if kinds[k] != scale.CURRENT]
        self.ensemble = Ensemble(len(names))
        self.electrical = self.rules = None
        table = self.limits.get("faults")
        if table:
            self.electrical = Electrical(names, self.limits)
            self.rules = Rules(table, self.electrical)
        self._train()
        self.reason = ""
        self.rows = 0
        self.frozen_at = 0
        self.now = 0
        self._odd = 0
        self._strange = 0
        self._clear()
        if self._views:
            self._see()

    def _train(self):
        # a room that may go once the model is frozen
        from gridnode.anomaly.training import Training

        self.training = Training(self.signals, self.causes, self.ensemble, self.train_rows)
        self.state = LEARNING
        return self.training

    def attach(self, data):
        """Let a forest from `gridnode train`, as bytes, name what the rules of faults leave unnamed.

        Returns "" or why it is refused.
        """
        from gridnode.anomaly import features, trees

        try:
            self._forest = trees.load(data, features.NAMES, features.VERSION)
        except ValueError as e:
            return str(e)
        self._see()
        return ""

    def _see(self):
        from gridnode.anomaly.features import Features

        self._views = Features(self.names, self.limits)

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
        judged = self._on_time(t)
        if self.state == LEARNING:
            if self.training.taken >= self.train_rows if learn is None else not learn and self.rows >= _LEAST_ROWS:
                self.freeze(t)
        teach = self.training and (learn or learn is None)
        at = t % _DAY_S // _BIN_S
        part = t % _BIN_S * 256 // _BIN_S
        broken = False
        for k in range(len(self.signals)):
            signal = self.signals[k]
            signal.read(values[k])
            self._ys[k] = signal.y
            self._good[k] = signal.present
            broken = broken or signal.rule
        self.causes.take(self._ys, self._good, at)
        if teach:
            self.rows += 1
            self.training.broken += 1 if broken else 0
            self.training.begin(self._ys, self._good, at)
        for k in self._order:
            self._judge(k, at, part, teach, t, judged)
        if teach:
            self.training.row(self._zs, self._good)
        if self.rules:
            self._diagnose(values, teach and not broken)
        if self._views:
            self._views.row(values)
        self._conclude()

    def _on_time(self, t):
        """Take the time of a row; returns whether rows come as they were taught."""
        gap = t - self.now
        if self.now and not 0 < gap <= _LOST_ROWS * self.interval_s:
            for signal in self.signals:
                signal.forget(abs(gap) > _LOST_S)
            if abs(gap) > _LOST_S:
                self.causes.forget()
        self._odd = min(self._odd + 1, _ODD_ROWS) if 0 < gap * 2 < self.interval_s or gap > 2 * self.interval_s else 0
        self.now = t
        return self._odd < _ODD_ROWS

    def _judge(self, k, at, part, teach, t, judged):
        signal = self.signals[k]
        ratio = 0
        self._zs[k] = 0
        hold = signal.hold()
        if self._good[k] and judged:
            extra = self.causes.explain(k, self._good)
            if extra != scale.MISSING:
                if signal.idle > 2:
                    signal.series.forget()
                signal.idle = -1
                y = min(max(signal.y - extra, -32000), 32000)
                if teach:
                    self.training.before(k, y)
                signal.series.take(y, at, part, hold)
                if teach:
                    self.training.after(k, y)
                elif self.state != LEARNING:
                    ratio = signal.series.judge()
                    signal.why = signal.series.why
                self._zs[k] = signal.series.distance()
        signal.idle += 1
        signal.conclude(ratio, t)
        if signal.alarm:
            self._good[k] = 0
        if self.state == GUARDED and not signal.idle:
            if signal.grade < _CALM:
                signal.series.follow(_DAY_S // self.interval_s)
            signal.series.ease()
        self.grades[k] = signal.grade
        self.alarms[k] = signal.alarm

    def _diagnose(self, values, teach):
        """Let the rules of faults see the row; blames signals in `grades` and `alarms`."""
        x, slots = self.electrical.inputs, self.electrical.slots
        for k in range(len(self.signals)):
            signal = self.signals[k]
            lost = signal.rule in (certain.MISSING, certain.DEAD)
            coded = lost and signal.kind in (scale.TEMPERATURE, scale.HUMIDITY)
            self._sound[k] = _NAN if coded else values[k]
            upwards = signal.why < st.STEP and not signal.why & 1
            ratio = min(signal.ratio, _MOST)
            x[slots[k]] = ratio if upwards and not signal.rule else 0
            x[slots[k] + 1] = ratio if signal.why == st.QUIET and not signal.rule else 0
            x[slots[k] + 2] = 1000 if lost else 0
            x[slots[k] + 3] = 1000 if signal.rule == certain.STUCK else 0
        self.electrical.row(self._sound, teach)
        self.rules.judge()
        guilt = self.rules.guilt
        for k in range(len(guilt)):
            if guilt[k] >= HOLDS:
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
        elif self.alarm and self._views:
            self.diagnosis = self._named() or self.diagnosis
        self._wonder()

    def kind_of(self, k):
        """Kind of the alarm that signal `k` has."""
        cause = self.causes.of[k]
        return self.signals[k].alarm_kind(cause and cause.relation.known)

    def first(self):
        """Position of the signal to tell first, None where none is blamed."""
        if self.worst is not None:
            return self.worst
        for k in range(len(self.alarms)):
            if self.alarms[k]:
                return k
        return None

    def _named(self):
        """What the forest is surest of among the phases, "" where it sees nothing."""
        sure = 0
        name = ""
        for k in range(self._views.phases):
            found = self._forest.classify(self._views.at[k])
            if found and self._forest.certainty > sure:
                sure = self._forest.certainty
                name = self._forest.classes[found]
        return name

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

    def freeze(self, t=0):
        """End learning; returns "" or why what was learnt cannot be trusted."""
        training = self.training
        if training is None:
            return self.reason if self.state == SUSPECT else ""
        foul = training.freeze()
        self.training = None
        self.frozen_at = t or self.now
        self.state = SUSPECT
        if training.broken * 100 > self.rows * _FOUL_PERCENT:
            share = training.broken * 1000 // max(self.rows, 1)
            self.reason = "%d.%d %% of the rows learnt broke a rule" % (share // 10, share % 10)
        elif foul:
            self.reason = "what was learnt looks like faults: " + ", ".join(foul)
        else:
            self.state = FROZEN
            done = min(training.done, 100)
            self.reason = "" if done > 95 else "%d %% of the rows to learn have come" % done
            return ""
        return self.reason

    def command(self, action):
        """Do what an operator asks for: freeze, guarded, learning, reset, or accept and a signal.

        Returns "" or why it cannot be done.
        """
        if action == "reset":
            self.reset()
        elif action == "learning":
            if self.training is None:
                self._train().resume()
                self.reason = ""
        elif action == "freeze":
            if self.state == GUARDED:
                self.state = FROZEN
            return self.freeze()
        elif action == "guarded":
            if self.state not in (FROZEN, GUARDED):
                return "only a frozen model can be guarded, this one is " + self.state
            self.state = GUARDED
        elif action.startswith("accept "):
            return self._accept(action[7:])
        else:
            return "not one of freeze, guarded, learning, reset, accept <signal>"
        return ""

    def _accept(self, name):
        if name not in self.names:
            return "there is no signal " + name
        if self.training:
            return "the model still learns"
        self.signals[self.names.index(name)].accept()
        return ""

    def budget(self):
        """What guarded levels have used of what they may move, the largest share in percent."""
        used = 0
        for signal in self.signals:
            used = max(used, signal.series.followed() * 100 // max(signal.series.budget(), 1))
        return used

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
