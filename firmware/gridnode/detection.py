"""The detector at work: rows of the node's readings in, its verdict into the report, its model into flash.

`setup.detection` makes it, where there is room for it.
"""

import json
import sys
from array import array
from micropython import const

from gridnode import rooms, storage
from gridnode.anomaly.certain import RANGE
from gridnode.anomaly.detector import FROZEN, GUARDED, LEARNING

MODEL = "/data/detector.bin"
LAST = "/data/detector.id"  # the last command from the cloud, which is done once

_TOLD_S = const(60)  # between two messages that only name another fault
_FOLLOWED_S = const(3600)  # between two copies of a model whose levels move, or two tries
_LEARNT_S = const(21600)  # between two copies of a training
_SAID_S = const(3600)  # between two reports of how learning goes on
_SEEN = const(500)  # grade from which a signal is told
_PASSING = ("model", "progress", "wording", "orders", "relation", "learning", "training", "lessons")
_LEFT = const(("setup", "opening"))
_OPENED = const("gridnode.setup.signals")  # comes with what is needed now and then
_WIRING = const(("ct_reversed",))  # what the self-checks look for is evidence, not a reason to look away
_NAN = float("nan")


class Table:
    """The rules of faults in a file, one after the other whenever they are asked for: as a whole they are large."""

    def __init__(self, path):
        self.path = path

    def __iter__(self):
        with open(self.path) as f:
            for line in f:
                yield json.loads(line)


class Detection:
    """sources: a tuple (pipeline, entry of `Reading.at`, name) per signal of the detector.

    guarded: what to become once learnt. The rules of block rate act on their own signals at once: what the detector
    has to say about their ranges is not told twice.
    """

    def __init__(self, detector, sources, guarded=False):
        self.detector = detector
        self.guarded = guarded
        self.id = None  # of the last command
        self.result = None  # how it ended
        self._sources = sources
        self._values = array("f", [_NAN] * len(sources))
        self._ruled = {}
        for pipeline in {source[0] for source in sources}:
            for rule in pipeline.judge.rules:
                self._ruled[rule.signal] = rule
        names = list(detector.names)
        self._rules = [(rule, names.index(name) if name in names else -1) for name, rule in self._ruled.items()]
        self._kinds = [None] * len(sources)  # of each signal's alarm, as told
        self._fault = ""  # as told
        self._priority = 0  # and its priority
        self._told = self._saved = self._said = 0  # Unix s
        self._unsaved = self._failed = False
        self._state = detector.state

    def began(self, app):
        """The model is loaded, or there is none."""
        self._state = self.detector.state
        self._report(app)
        forget(self.detector)

    def row(self, app, end):
        """Judge the row that has ended at `end`, unless its values are of a calibration or of too little time."""
        values = self._values
        main = self._sources[0][0]
        if main.calibrating or app.boot.safe_mode or main.row_ms < app.row_s * 500:
            return
        for k in range(len(values)):
            pipeline, at, name = self._sources[k]
            # a sensor slower than the rows has its newest reading told once more
            reading = pipeline.row.reading if pipeline.row_ms else pipeline.meter.reading
            value = reading.at[at].get(name)
            values[k] = _NAN if value is None else value
        detector = self.detector
        if self._hidden(values) and detector.state == LEARNING:
            return  # it would teach a fault
        detector.row(values, end)
        if self._tell(app, end) or _OPENED in sys.modules:
            forget(detector)
        if detector.state == FROZEN and self._state == LEARNING and self.guarded:
            detector.command("guarded")
        if detector.state != self._state:
            self.turned(app)
        self._keep(app, end)
        main.flagged = detector.alarm and detector.diagnosis not in _WIRING

    def _hidden(self, values):
        """Whether a block of the row broke a rule, and the values of the row do not show it."""
        found = False
        for rule, k in self._rules:
            if rule.hit:
                rule.hit = False
                if k < 0 or rule.inside(values[k]):
                    found = True
        return found

    def _kind(self, k):
        """Kind of a signal's alarm, None without one or where a rule of block rate has it."""
        detector = self.detector
        rule = self._ruled.get(detector.names[k])
        if not detector.alarms[k] or (rule and (rule.alarm or detector.signals[k].rule == RANGE)):
            return None
        return detector.kind_of(k) or detector.diagnosis or "unclassified"

    def _named(self):
        """The fault to tell, "" without one."""
        detector = self.detector
        if detector.kind == "unclassified" or (detector.rules and detector.rules.top >= 0):
            return detector.diagnosis
        return ""

    def _tell(self, app, end):
        """Onset, change of kind, more urgency and end of an alarm, at once; another name for the same, once a minute.

        Returns whether there was something to tell.
        """
        detector = self.detector
        turned = []
        over = []
        for k in range(len(self._kinds)):
            kind = self._kind(k)
            if kind != self._kinds[k]:
                self._kinds[k] = kind
                (turned if kind else over).append(detector.names[k])
        fault = self._named()
        named = fault != self._fault and (not (fault and self._fault) or end - self._told >= _TOLD_S)
        named = named or (fault and detector.priority < self._priority)
        former = self._fault
        if named:
            self._fault = fault
            self._priority = detector.priority
        gone = named and not fault
        if not (turned or over or named):
            return False
        from gridnode.opening import alarms

        if over or gone:
            alarms.over(app, over, former if gone else None)
        if turned or (named and fault):
            self._told = end
            alarms.begun(app, self.detector, turned, self._kinds, self._fault)
        return True

    def merge(self, verdict):
        """Add what the detector finds to the verdict of the block rules."""
        detector = self.detector
        verdict["model"] = detector.state
        signals, kinds = verdict["signals"], verdict["kinds"]
        for k in range(len(detector.grades)):
            name = detector.names[k]
            kind = self._kind(k)
            if kind and name not in kinds:
                kinds[name] = kind
            if detector.grades[k] >= _SEEN:
                signals[name] = max(signals.get(name, 0), detector.grades[k] / 1000)
        fault = self._named()
        verdict["grade"] = max(verdict["grade"], detector.grade / 1000)
        if fault:
            verdict["faults"] = {name: degree / 1000 for name, degree in detector.faults}
        if kinds or fault:
            verdict["alarm"] = True
            verdict["priority"] = min(verdict["priority"] or 4, detector.priority or 4)

    # -- state

    def _report(self, app):
        from gridnode.opening import detector

        app.shadow.set("detector", detector.status(self))

    def turned(self, app):
        """The state is another one, or a command was carried out: tell it, keep it."""
        if self.detector.state != self._state:
            self._state = self.detector.state
            app.tell("detector", state=self._state, reason=self.detector.reason)
        self._report(app)
        app.report_soon()
        self._unsaved = True

    def _keep(self, app, end):
        state = self.detector.state
        self._saved = self._saved or end
        self._said = self._said or end
        if state == LEARNING and end - self._said >= _SAID_S:
            self._said = end
            self._report(app)
            forget(self.detector)
        due = _FOLLOWED_S if self._failed else {LEARNING: _LEARNT_S, GUARDED: _FOLLOWED_S}.get(state)
        if self._unsaved or (due and end - self._saved >= due):
            self._saved = end
            self.save(app)

    def save(self, app):
        """Write the model to flash; what goes wrong is said."""
        self._unsaved = self._failed = False
        if not self.detector.rows:
            return
        try:
            storage.write(MODEL, self.detector.save())
        except Exception as e:  # noqa: BLE001 - the energy totals and the link must not suffer
            self._failed = True
            app.fault("detector", "unsaved", str(e) or type(e).__name__, "try again in an hour")
        forget(self.detector)


def forget(detector):
    """Unload what is needed now and then; what teaches, once nothing is taught."""
    passing = _PASSING[: _PASSING.index("training") if detector.training else len(_PASSING)]
    rooms.drop(lambda path: path[0] in _LEFT or (path[0] == "anomaly" and path[-1] in passing))
