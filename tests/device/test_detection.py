"""The detector's wiring: rows in, verdict, events and reports out, what is saved when; and a training that goes on."""

import os
from array import array

from gridnode import anomaly, app, detection, reading, storage
from gridnode.anomaly import certain, model
from gridnode.anomaly.detector import FROZEN, GUARDED, LEARNING, Detector
from gridnode.pipeline import Pipeline
from gridnode.setup import detection as making
from gridnode.setup import rules

HEAP_KW = 512

LIMITS = {"voltage": {"low": 207, "high": 253, "hysteresis": 2, "priority": 2}}
START = 1800000000


class Part:
    def __init__(self, **fields):
        for name, value in fields.items():
            setattr(self, name, value)


class FakeDetector:
    """Says what it is told to."""

    def __init__(self, *names):
        self.names = names
        self.signals = [Part(rule=0, alarm=False, kind="drift") for _ in names]
        self.grades = array("h", [0] * len(names))
        self.alarms = bytearray(len(names))
        self.state = FROZEN
        self.reason = self.kind = self.diagnosis = self.text = ""
        self.rows = 1
        self.frozen_at = self.grade = self.priority = 0
        self.training = self.rules = self.worst = None
        self.alarm = False
        self.faults = []
        self.seen = []
        self.saved = 0
        self.asked = []

    # as the detector itself tells them
    first = Detector.first

    def kind_of(self, k):
        return self.signals[k].kind

    def row(self, values, t):
        self.seen.append((t, list(values)))

    def raise_(self, name, kind="drift", grade=700, rule=0):
        k = self.names.index(name)
        self.signals[k].alarm, self.signals[k].kind, self.signals[k].rule = True, kind, rule
        self.alarms[k], self.grades[k] = 1, grade
        self.alarm, self.grade, self.worst, self.priority = True, grade, k, 3
        self.text = name + " is odd"

    def fault(self, name, degree=800):
        self.rules = Part(top=0, blamed=0)
        self.faults = [(name, degree)]
        self.alarm, self.grade, self.priority, self.diagnosis = True, 900, 1, name

    def clear(self):
        for k in range(len(self.names)):
            self.signals[k].alarm = False
            self.alarms[k] = self.grades[k] = 0
        self.rules = self.worst = None
        self.faults = []
        self.alarm, self.grade, self.priority, self.diagnosis = False, 0, 0, ""

    def budget(self):
        return 12

    def save(self):
        self.saved += 1
        return b"model"

    def command(self, action):
        self.asked.append(action)
        if action == "guarded":
            self.state = GUARDED
        return ""


class FakeShadow:
    def __init__(self):
        self.sets = []

    def set(self, name, value):
        self.sets.append((name, value))


class FakeApp:
    row_s = 10

    def __init__(self):
        self.boot = Part(safe_mode=False)
        self.shadow = FakeShadow()
        self.told = []
        self.faults = []
        self.soon = 0

    def tell(self, event, **fields):
        self.told.append((event, fields))

    def raised(self, fields):
        self.told.append(("alarm", fields))
        self.soon += 1

    def report_soon(self):
        self.soon += 1

    def fault(self, *args):
        self.faults.append(args)


class Meter:
    counts_energy = True
    names = ("voltage", "current", "power", "temperature")

    def __init__(self, id="main", phases=1, names=None):
        self.id = id
        self.phases = phases
        self.names = names or self.names
        self.reading = reading.Reading(id, phases)


def way(meter, flat=None, limits=None):
    judge = anomaly.Judge(rules.of(limits or {}, meter.names, meter.phases))
    row = reading.Window(meter.id, meter.phases, meter.names)
    report = reading.Window(meter.id, meter.phases, meter.names)
    report.reading = row.reading
    return Pipeline(meter, None, None, judge, row, report, meter.names if flat is None else flat)


def measure(pipeline, ms=10000, **values):
    x = pipeline.meter.reading
    x.clear()
    x.at[0].update(values)
    x.ms = ms
    pipeline.judge.block(x)
    pipeline.row.add(x)


class Bench:
    """A single-phase meter, its detection and the application around them."""

    def __init__(self, guarded=False, limits=LIMITS):
        self.pipeline = way(Meter(), limits=limits)
        self.detector = FakeDetector("voltage", "power")
        sources = [(self.pipeline, 0, "voltage"), (self.pipeline, 0, "power")]
        self.detection = detection.Detection(self.detector, sources, guarded)
        self.app = FakeApp()
        self.end = START
        kept = []
        detection.storage = Part(  # no flash
            write=lambda path, data: kept.append(path),
            remove=lambda path: kept.append("-" + path),
            StorageError=OSError,
        )
        self.kept = kept

    def row(self, seconds=10, **values):
        self.end += seconds
        measure(self.pipeline, **(values or {"voltage": 230.0, "power": 1000.0}))
        self.pipeline.close_row(self.end)
        self.app.told = []
        self.detection.row(self.app, self.end)
        return [fields for event, fields in self.app.told if event == "alarm"]

    def verdict(self):
        return anomaly.verdict([self.pipeline], self.detection)


def test_rows_are_what_the_pipelines_have_averaged():
    b = Bench()
    b.row(voltage=230.0, power=None)
    [(t, (v, p))] = b.detector.seen
    assert t == b.end and abs(v - 230) < 1e-3 and p != p, "what is not known is no number"


def test_no_row_of_a_calibration_of_safe_mode_or_of_a_moment():
    b = Bench()
    b.pipeline.calibrating = "gain"
    b.row()
    b.pipeline.calibrating = None
    b.app.boot.safe_mode = True
    b.row()
    b.app.boot.safe_mode = False
    b.row(ms=3000, voltage=230.0)
    b.pipeline.close_row(b.end)
    b.detection.row(b.app, b.end)
    assert b.detector.seen == []
    b.row()
    assert len(b.detector.seen) == 1


def test_an_alarm_of_what_the_detector_does_not_see_is_no_lesson():
    b = Bench(limits={"temperature": {"high": 60}})
    hot, usual = {"temperature": 80.0, "voltage": 230.0}, {"temperature": 20.0, "voltage": 230.0}
    b.row(**hot)
    assert len(b.detector.seen) == 1
    b.detector.state = LEARNING
    b.row(**hot)
    assert len(b.detector.seen) == 1
    b.row(**usual)
    assert len(b.detector.seen) == 1, "it began in alarm"
    b.row(**usual)
    assert len(b.detector.seen) == 2


def test_what_a_block_rule_flags_in_a_row_is_no_lesson():
    b = Bench()
    b.detector.state = LEARNING
    measure(b.pipeline, 200, voltage=280.0)
    b.row(voltage=230.0)
    assert b.detector.seen == [], "too short for an alarm, and gone in the mean"
    b.row(voltage=230.0)
    assert len(b.detector.seen) == 1
    b.row(voltage=280.0)
    assert len(b.detector.seen) == 2, "the detector sees it by itself, and counts it as foul"
    b.detector.state = FROZEN
    measure(b.pipeline, 200, voltage=280.0)
    b.row(voltage=230.0)
    assert len(b.detector.seen) == 3, "judged all the same"


def test_signals_have_the_names_of_the_contract():
    main, air = way(Meter()), way(Meter("air", names=("temperature", "humidity")))
    main.flat = ("voltage", "current", "power")
    found = making.signals([main, air], "main")
    assert [name for name, _ in found] == ["voltage", "current", "power", "temperature", "humidity"]
    assert found[3][1] == (air, 0, "temperature")
    three = way(Meter(phases=3, names=("voltage", "current", "power", "frequency", "neutral_current")))
    names = [name for name, _ in making.signals([three], "main")]
    assert names == ["v1", "i1", "p1", "v2", "i2", "p2", "v3", "i3", "p3", "i_n"], names
    assert [name for name, _ in making.signals([way(Meter(names=("current",)))], "main")] == ["current"]
    door = way(Meter("cabinet", names=("cover",)))
    assert making.signals([main, air, door], "main")[-1] == ("cover", (door, 0, "cover"))
    joint = way(Meter("terminal", names=("temperature",)), flat=())
    assert making.signals([main, joint, air], "main")[-1] == ("t_terminal", (joint, 0, "temperature"))
    assert making.signals([air], "main")[0][0] == "temperature", "the primary meter is not there"
    assert making.signals([], "main") == []


def test_limits_come_from_the_profile():
    limits = {"v": {"low": 207, "high": 253}, "i2": {"high": 60}, "frequency": {}}
    watch = {"sku": "x", "train_days": 4, "limits": limits}
    told = making.limits(watch, (230, 60), 10, 3)
    assert told["nominal"]["v3"] == [207, 253] and told["nominal"]["i2"] == [0, 60] and "i1" not in told["nominal"]
    assert told["train_rows"] == 34560 and told["rating_a"] == 60 and told["v_nominal"] == 230


def test_onset_change_and_end_are_told_each_time_and_reported_at_once():
    b = Bench()
    assert b.row() == []
    b.detector.raise_("power")
    [event] = b.row()
    assert event["signal"] == "power" and event["kind"] == "drift" and event["raised"]
    assert event["text"] == "power is odd"
    assert b.app.soon == 1
    assert b.row() == [] and b.app.soon == 1, "once"
    b.detector.raise_("power", "noise")
    [event] = b.row()
    assert event["kind"] == "noise"
    b.detector.clear()
    [event] = b.row()
    assert not event["raised"] and event["signal"] == "power" and b.app.soon == 3


def test_names_of_a_lasting_fault_come_once_a_minute():
    b = Bench()
    b.detector.fault("overload")
    [event] = b.row()
    assert event["fault"] == "overload" and event["raised"] and event["priority"] == 1
    b.detector.fault("short_circuit")
    assert [b.row() for _ in range(5)] == [[]] * 5
    [event] = b.row()
    assert event["fault"] == "short_circuit"
    b.detector.clear()
    [event] = b.row()
    assert event["fault"] == "short_circuit" and not event["raised"] and "over" in event["text"]


def test_a_fault_that_becomes_more_urgent_is_told_at_once():
    b = Bench()
    b.detector.fault("overload")
    b.detector.priority = 2
    [event] = b.row()
    assert event["priority"] == 2 and b.row() == []
    b.detector.priority = 1
    [event] = b.row()
    assert event["fault"] == "overload" and event["raised"] and event["priority"] == 1
    b.detector.priority = 2
    assert b.row() == [], "and once"
    b.detector.priority = 1
    assert b.row() == []


def test_an_urgent_fault_between_two_rows_of_another_is_told():
    b = Bench()
    b.detector.fault("overload")
    b.detector.priority = 2
    b.row()
    b.detector.fault("short_circuit")
    [event] = b.row()
    assert (event["fault"], event["priority"]) == ("short_circuit", 1)
    b.detector.fault("overload")
    b.detector.priority = 2
    assert b.row() == []


def test_a_fault_that_ends_while_its_signal_goes_on_is_over_once():
    b = Bench()
    b.detector.raise_("voltage", "range", 1000, certain.RANGE)
    b.detector.fault("voltage_sag")
    b.detector.priority = 1
    b.row(voltage=180.0, power=1000.0)
    b.detector.rules = None
    b.detector.diagnosis = b.detector.kind = ""
    for priority in (3, 2):
        b.detector.priority = priority
        assert [e["fault"] for e in b.row(voltage=180.0, power=1000.0)] == (["voltage_sag"] if priority == 3 else [])


def test_the_verdict_has_both():
    b = Bench()
    b.row()
    assert b.verdict() == {
        "grade": 0, "alarm": False, "priority": None, "signals": {}, "kinds": {}, "model": "frozen"
    }, b.verdict()
    b.detector.raise_("power")
    b.detector.fault("overload")
    b.row(voltage=280.0, power=1000.0)
    v = b.verdict()
    assert v["alarm"] and v["priority"] == 1 and v["grade"] == 1.0, v
    assert v["kinds"] == {"voltage": "range_high", "power": "drift"} and v["faults"] == {"overload": 0.8}
    assert set(v["signals"]) == {"voltage", "power"}
    b.detector.grades[1] = 300
    assert "power" not in b.verdict()["signals"]


def test_the_range_of_a_block_rule_is_not_told_twice():
    b = Bench()
    b.detector.raise_("voltage", "range", 1000, certain.RANGE)
    assert b.row(voltage=280.0, power=1000.0) == []
    assert b.verdict()["kinds"] == {"voltage": "range_high"}
    b.pipeline.judge.block(b.pipeline.meter.reading)
    for _ in range(3):
        measure(b.pipeline, voltage=230.0)
    assert not b.verdict()["alarm"], "the detector ends it with the row, the rule has done so already"


def test_what_is_in_alarm_is_no_evidence():
    b = Bench()
    seen = []
    b.pipeline.observer = Part(add=seen.append)

    async def block():
        return b.pipeline.meter.reading

    def observed():
        b.pipeline.correction = Part(correct=lambda x: x)
        b.pipeline.meter.block = block
        before = len(seen)
        try:
            b.pipeline.block().send(None)
        except StopIteration:
            pass
        return len(seen) > before

    b.row()
    assert observed()
    b.detector.raise_("power")
    b.row()
    assert not observed()
    b.detector.fault("ct_reversed")
    b.row()
    assert observed(), "what the self-checks look for"
    b.detector.clear()
    b.row(voltage=280.0, power=1.0)
    assert not observed(), "a rule of block rate"


def test_the_model_is_kept_when_it_changes():
    b = Bench()
    b.detector.state = LEARNING
    b.detection.began(b.app)
    for _ in range(3):
        b.row()
    assert b.kept == []
    b.row(22000)
    assert b.kept == [detection.MODEL], "a training now and then"
    b.detector.state = FROZEN
    b.row()
    assert len(b.kept) == 2 and ("detector", {"state": FROZEN, "reason": ""}) in b.app.told
    b.row(90000)
    assert len(b.kept) == 2, "a frozen one is as it was"
    b.detector.state = GUARDED
    b.row()
    b.row(1800)
    assert len(b.kept) == 3
    b.row(1801)
    assert len(b.kept) == 4


def test_a_full_flash_is_said_and_tried_again_in_an_hour():
    b = Bench()
    write = detection.storage.write

    def full(path, data):
        raise OSError(28)

    detection.storage.write = full
    b.detection.turned(b.app)
    b.row()
    b.row()
    assert [fault[:2] for fault in b.app.faults] == [("detector", "unsaved")]
    detection.storage.write = write
    b.row(1800)
    assert b.kept == []
    b.row(1800)
    assert b.kept == [detection.MODEL] and len(b.app.faults) == 1


def test_a_guarded_profile_is_guarded_once_it_has_learnt():
    b = Bench(guarded=True)
    b.detector.state = LEARNING
    b.detection.began(b.app)
    b.row()
    b.detector.state = FROZEN
    b.row()
    assert b.detector.state == GUARDED and b.app.shadow.sets[-1][1]["budget"] == 12


def test_a_detector_that_fails_goes_and_the_reports_stay():
    node = app.App(None, None, Part(safe_mode=False))
    node.shadow = FakeShadow()
    node.detection = Part(row=lambda *_: 1 // 0)
    node._detect(START)
    assert node.detection is None
    assert node.shadow.sets[-1][1]["state"] == "off" and "ZeroDivisionError" in node.shadow.sets[-1][1]["reason"]
    assert anomaly.verdict([], None)["model"] == "off"


NAMES = ("voltage", "current", "power")
TOLD = {"sku": "x", "interval_s": 10, "train_rows": 300, "rating_a": 60, "v_nominal": 230, "nominal": {"v": [207, 253]}}


def rows(detector, first, last):
    values = array("f", [0, 0, 0])
    for k in range(first, last):
        values[1] = 10 + (k * 37 % 101) / 20
        values[0] = 232 - values[1] / 8 + (k * 53 % 97) / 200
        values[2] = values[0] * values[1] * 0.95
        detector.row(values, START + 10 * k)
    return detector


def test_a_training_goes_on_where_it_was_saved():
    for cut in (40, 200, 230, 270):
        one = rows(Detector(NAMES, TOLD), 0, cut)
        other = Detector(NAMES, TOLD)
        assert other.load(one.save()) == ""
        assert other.state == LEARNING and other.rows == cut
        rows(one, cut, 320)
        rows(other, cut, 320)
        assert one.state == other.state == FROZEN, (one.state, one.reason, other.reason)
        for a, c in zip(one.signals, other.signals):
            assert max([abs(x - y) for x, y in zip(a.series.limits, c.series.limits)]) <= max(a.series.limits) // 8
            assert a.certain.run_limit == c.certain.run_limit and a.certain.rate == c.certain.rate


def test_a_training_of_another_length_is_not_taken():
    one = rows(Detector(NAMES, TOLD), 0, 50)
    other = Detector(NAMES, dict(TOLD, train_rows=400))
    assert "300 rows" in other.load(one.save())
    assert other.state == LEARNING and other.rows == 0
    assert "SKU" in Detector(NAMES, dict(TOLD, sku="y")).load(one.save())


def test_a_model_takes_faults_that_came_or_went():
    table = [{"fault": "high", "priority": 1, "each": "phase", "all": [["v", 1050, 1100]], "guilty": ["v"]}]
    with_faults = dict(TOLD, faults=table)
    for own, others in ((TOLD, with_faults), (with_faults, TOLD), (with_faults, with_faults)):
        one = rows(Detector(NAMES, own), 0, 320)
        other = Detector(NAMES, others)
        assert other.load(one.save()) == "" and other.state == FROZEN
        assert model.read(one.save())[0]["state"] == FROZEN
        rows(one, 320, 330)
        rows(other, 320, 330)
        assert bytes(one.grades) == bytes(other.grades)


def test_a_table_of_faults_is_read_line_by_line_and_a_bad_one_left_out():
    path = "faults.jsonl"
    kept = storage.FAULTS
    storage.FAULTS = path
    try:
        with open(path, "w") as f:
            f.write('{"fault":"high","priority":1,"each":"phase","all":[["v",1050,1100]],"guilty":["v"]}\n')
        table = detection.Table(path)
        assert [rule["fault"] for rule in table] == [rule["fault"] for rule in table] == ["high"]
        assert making.make(NAMES, dict(TOLD)).rules.names == ["high"]
        with open(path, "w") as f:
            f.write('{"fault":"high"}\n')
        node = FakeApp()
        assert making.make(NAMES, dict(TOLD), node).rules is None
        assert node.faults[0][:2] == ("detector", "faults")
    finally:
        storage.FAULTS = kept
        os.remove(path)
