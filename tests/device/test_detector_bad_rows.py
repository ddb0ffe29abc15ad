"""Rows that no sensor gives: no exception, a defined state, and grades within their range."""

import json
from array import array

from gridnode.anomaly.detector import Detector
from harness import fixtures
from made_rows import DAY, FEEDER, INTERVAL_S, LIMITS, NAN, PLACE, START, TRAIN, Rows, judged

FIXTURES = ("faults",)
HEAP_KW = 320
TIMEOUT_S = 120

INF = float("inf")
STATES = ("learning", "frozen", "guarded", "suspect")
EXTREMES = (NAN, INF, -INF, 0.0, -0.0, 1e-45, -1e-40, 3.4e38, -3.4e38, 1e-6, 32768.0, 65536.5, -1e9, 230.0)


def faults():
    return json.loads(fixtures["faults"])


class Judge:
    """A detector whose verdict is looked at in every row."""

    def __init__(self, names, limits, rules=False):
        self.detector = Detector(names, dict(limits, faults=faults()) if rules else limits)
        self.alarms = 0

    def row(self, values, t, learn=None):
        d = self.detector
        d.row(array("f", values), t, learn)
        assert d.state in STATES and type(d.reason) is str
        assert 0 <= d.grade <= 1000 and 0 <= d.priority <= 4
        assert (d.priority > 0) == bool(d.alarm) == bool(d.kind) == bool(d.diagnosis) == bool(d.text)
        for grade, alarm in zip(d.grades, d.alarms):
            assert 0 <= grade <= d.grade and alarm in (0, 1)
            assert d.alarm or not alarm
        self.alarms += bool(d.alarm)
        return d.alarm

    def end(self):
        """Commands and the model, whatever has come."""
        d = self.detector
        d.command("freeze")
        model = d.save()
        other = Detector(d.names, d.limits)
        assert other.load(model) == ""
        for action in ("guarded", "learning", "freeze", "accept " + d.names[0], "reset"):
            assert type(other.command(action)) is str
        assert d.budget() >= 0 and d.size > 0
        assert other.state == "learning" and other.rows == 0


def test_nothing_at_all():
    for names in (PLACE, FEEDER, ["x"]):
        judge = Judge(names, LIMITS, True)
        for k in range(TRAIN + 50):
            assert not judge.row([NAN] * len(names), START + k * INTERVAL_S)
        assert judge.detector.state == "frozen" and judge.detector.grade == 0
        judge.end()


def test_zero_rows():
    for names in (PLACE, ["x"], FEEDER):
        judge = Judge(names, LIMITS, True)
        assert judge.detector.command("freeze") == ""
        assert judge.detector.state == "frozen"
        assert judge.detector.reason == "0 rows teach no limits: only the rules judge"
        rows = Rows(names)
        for _ in range(300):
            rows.next()
            assert not judge.row(rows.values, rows.t), judge.detector.text
        judge.end()
        Judge(names, LIMITS).end()


def test_signals_that_appear_later():
    names = PLACE + ["x"]
    for late in (10, 200, 400, 560, TRAIN + 40):
        rows = Rows(names, [(name, 0, late, NAN) for name in names[1:]])
        judge = Judge(names, LIMITS)
        for _ in range(TRAIN + 3 * DAY):
            rows.next()
            judge.row(rows.values, rows.t)
        assert judge.detector.state in ("frozen", "suspect")
        # what had half of a training has limits of its own, what had none has no limit
        assert judge.alarms <= (9 if late < TRAIN else 0), (late, judge.alarms)
        judge.end()


def test_signals_that_come_and_go():
    rows = Rows(PLACE)
    judge = Judge(PLACE, LIMITS)
    for k in range(TRAIN + 2 * DAY):
        values = list(rows.next())
        for j in range(4):
            if (k >> j) & 1:
                values[j] = NAN
        judge.row(values, rows.t)
    judge.end()


def test_a_clock_that_steps():
    steps = (-1, 0, 1, -3600, 3600, -86400 * 30, 86400 * 3650, -(10**9), 2**31, 2**40, 17)
    for learning in (True, False):
        rows = Rows(FEEDER)
        judge = Judge(FEEDER, LIMITS)
        shift = 0
        for k in range(2 * TRAIN):
            if k > (20 if learning else TRAIN + 20) and k % 50 == 0:
                shift += steps[k // 50 % len(steps)]
            rows.next()
            judge.row(rows.values, rows.t + shift)
        assert judge.detector.state != "learning"
        judge.end()


def test_a_step_of_the_clock_is_no_fault():
    for step in (-1, 1, -30, 45, -7 * 3600, 7 * 3600, 10 * 86400):
        rows = Rows(FEEDER)
        detector = Detector(FEEDER, LIMITS)
        judged(detector, rows, TRAIN + 10)
        found = 0
        for _ in range(6):  # of the day, noon and midnight stay what they were
            rows.next()
            detector.row(rows.values, rows.t + step)
            if abs(step) < 60 or step % 86400 == 0:
                found += detector.alarm
        assert not found, (step, detector.text)


def test_a_gap_of_hours_is_no_rate():
    names = ["temperature"]
    limits = {"interval_s": 10, "train_rows": 500}
    detector = Detector(names, limits)
    rows = Rows(names, interval_s=10)
    judged(detector, rows, 501)
    rows.next()
    mild = array("f", [rows.values[0] + 7])
    detector.row(mild, rows.t + 6 * 3600)
    assert detector.kind != "rate", detector.text
    detector.row(array("f", [rows.values[0]]), rows.t + 6 * 3600 + 10)
    assert detector.kind == "rate"


def test_times_of_any_size():
    judge = Judge(PLACE, dict(LIMITS, train_rows=60))
    rows = Rows(PLACE)
    for t in (0, -1, -(2**35), 2**30, 2**31, 2**32, 2**45, 5):
        for k in range(20):
            rows.next()
            judge.row(rows.values, t + k * INTERVAL_S)


def test_another_interval_is_judged_by_rules_alone():
    for interval in (60, 3600):
        rows = Rows(PLACE)
        detector = Detector(PLACE, LIMITS)
        judged(detector, rows, TRAIN + 2)
        t = rows.t
        for k in range(100):
            t += interval
            rows.next()
            detector.row(rows.values, t)
            if k > 10:
                assert detector.grade == 0 and not detector.alarm
        rows.values[0] = 300
        detector.row(rows.values, t + interval)
        assert detector.kind == "range"
        for _ in range(20):  # and as before once rows come as they did
            t += INTERVAL_S
            rows.next()
            detector.row(rows.values, t)
        assert detector.grade > 0


def test_constant_signals():
    for names in (PLACE, FEEDER, ["x", "y"]):
        judge = Judge(names, LIMITS)
        values = [0.0 if k % 3 == 0 else 40.0 for k in range(len(names))]
        for k in range(TRAIN + 300):
            judge.row(values, START + k * INTERVAL_S)
        assert judge.detector.state in ("frozen", "suspect")
        if names[0] == "x":
            assert judge.alarms == 0
            values[0] = 5.0
            alarmed = 0
            for k in range(40):
                alarmed += judge.row(values, START + (TRAIN + 300 + k) * INTERVAL_S)
        judge.end()


def test_infinities_and_what_floats_can_hold():
    for names in (PLACE, FEEDER, ["x", "y"]):
        for first in range(0, len(EXTREMES), 3):
            judge = Judge(names, dict(LIMITS, train_rows=100), True)
            for k in range(140):
                values = [EXTREMES[(first + k * (j + 1)) % len(EXTREMES)] for j in range(len(names))]
                judge.row(values, START + k * INTERVAL_S)
            judge.end()
    for value in EXTREMES:
        judge = Judge(["x"], dict(LIMITS, train_rows=60))
        for k in range(100):
            judge.row([value], START + k * INTERVAL_S)
        judge.row([-value], START + 100 * INTERVAL_S)
        judge.row([1.0], START + 101 * INTERVAL_S)
        judge.end()


def test_lengths_of_a_training():
    for train in (1, 2, 23, 24, 25, 40, 100):
        for names in (["x"], PLACE):
            rows = Rows(names)
            judge = Judge(names, dict(LIMITS, train_rows=train))
            told = set()
            for _ in range(train + DAY):
                rows.next()
                if judge.row(rows.values, rows.t):
                    told.add(judge.detector.text)
            assert judge.detector.rows == train and judge.detector.state == "frozen", judge.detector.reason
            if not 3 < train < 48:  # four hours show no day
                assert not told, (train, names, told)
            judge.end()


def test_one_signal_and_twenty_one():
    for count in (1, 21):
        names = (FEEDER + ["x%d" % k for k in range(21)])[-count:] if count == 1 else (FEEDER + list("abcdefgh"))
        assert len(names) == count
        rows = Rows(names)
        judge = Judge(names, LIMITS, True)
        for _ in range(TRAIN + DAY):
            rows.next()
            judge.row(rows.values, rows.t)
        assert judge.detector.state == "frozen" and judge.alarms == 0
        judge.end()


def test_names_and_limits_of_any_kind():
    names = ["", "v", "p", "i9", "v0", "t_", "i_n", "current", "v1", "Humidity", "x-y z", "\u00e4", "t_ambient", "v1v"]
    for limits in (
        {},
        {"interval_s": 600, "train_rows": 60},
        {"rating_a": None, "v_nominal": None, "nominal": None, "train_rows": 60},
        {"rating_a": 1e-6, "v_nominal": 1e-6, "train_rows": 60},
        {"rating_a": 1e7, "v_nominal": 1e6, "train_rows": 60},
        {"nominal": {"v": [253, 207], "current": [0, 0]}, "rating_a": 5, "train_rows": 60},
        {"interval_s": 86400, "train_rows": 60},
        {"interval_s": 0.2, "train_rows": 60},
    ):
        judge = Judge(names, limits, True)
        rows = Rows(names)
        t = START
        for _ in range(120):
            t += judge.detector.interval_s
            judge.row(rows.next(), t)
        judge.end()


def test_same_name_twice():
    judge = Judge(["v1", "v1", "i1", "i1"], dict(LIMITS, train_rows=60), True)
    for k in range(100):
        judge.row([230.0, 231.0, 5.0 + k % 3, 6.0], START + k * INTERVAL_S)
    judge.end()


def noise(seed):
    while True:
        seed = (seed * 1103515245 + 12345) & 0x3FFFFFFF
        yield seed >> 8


def test_random_rows():
    """Sound rows with anything in between: values, gaps, commands, loads."""
    numbers = noise(7)
    for names in (PLACE, FEEDER, ["x", "t_joint", "i1"]):
        for _ in range(3):
            limits = dict(LIMITS, train_rows=next(numbers) % 300 + 1)
            judge = Judge(names, limits, next(numbers) & 1)
            rows = Rows(names, seed=next(numbers) % 65521)
            t = START
            model = None
            for _ in range(700):
                values = list(rows.next())
                for j in range(len(values)):
                    if next(numbers) % 40 == 0:
                        values[j] = EXTREMES[next(numbers) % len(EXTREMES)]
                    elif next(numbers) % 40 == 0:
                        values[j] = next(numbers) / 64 - 9000
                t += INTERVAL_S if next(numbers) % 30 else next(numbers) - 100000
                judge.row(values, t, (None, None, None, 0, 1)[next(numbers) % 5] if next(numbers) % 9 == 0 else None)
                d = judge.detector
                what = next(numbers) % 200
                if what < 6:
                    action = ("freeze", "guarded", "learning", "accept " + names[-1], "reset", "?")[what]
                    assert type(d.command(action)) is str
                elif what == 6:
                    model = d.save()
                elif what == 7 and model:
                    assert type(d.load(model)) is str
            judge.end()
