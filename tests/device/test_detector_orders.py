"""Orders to a detector: freeze, guarded, accept, learning and reset."""

from detectors import frozen, trained
from gridnode.anomaly import statistics as st
from gridnode.anomaly.detector import Detector
from made_rows import (
    DAY,
    FEEDER,
    LIMITS,
    NAN,
    PLACE,
    TRAIN,
    Rows,
    judged,
)

FIXTURES = ("faults",)
HEAP_KW = 320
TIMEOUT_S = 120


def test_commands_and_refusals():
    detector, rows = trained()
    assert detector.command("guarded") == "only a frozen model can be guarded, this one is learning"
    assert detector.command("accept voltage") == "the model still learns"
    assert detector.command("accept v9") == "there is no signal v9"
    for action in ("", "Freeze", "accept", "guard", "learn"):
        assert detector.command(action) == "not one of freeze, guarded, learning, reset, accept <signal>", action
    assert detector.command("learning") == "" and detector.rows == TRAIN
    assert detector.command("freeze") == "" and detector.state == "frozen"
    assert detector.command("freeze") == "" and detector.state == "frozen"
    assert detector.command("guarded") == "" and detector.state == "guarded"
    assert detector.command("guarded") == "" and detector.state == "guarded"
    assert detector.command("freeze") == "" and detector.state == "frozen"
    assert detector.command("accept voltage") == ""
    assert detector.command("reset") == ""
    assert (detector.state, detector.rows, detector.frozen_at, detector.grade) == ("learning", 0, 0, 0)
    judged(detector, rows, TRAIN + 1)
    assert detector.state == "frozen"
    assert judged(detector, rows, DAY) == []


def test_freezing_early_says_so():
    detector = Detector(PLACE, LIMITS)
    rows = Rows(PLACE)
    judged(detector, rows, 100)
    assert detector.command("freeze") == ""
    assert (detector.state, detector.reason) == ("frozen", "17 % of the rows to learn have come")
    assert not [row for row, kind, _ in judged(detector, rows, DAY) if kind != "stuck"]


def test_learning_goes_on_for_a_fifth_and_freezes():
    detector, rows = frozen()
    before = list(detector.signals[1].series.limits)
    forms = [s.series.state[st.FORM] for s in detector.signals]
    assert detector.command("learning") == "" and detector.state == "learning"
    count = 0
    while detector.state == "learning" and count < TRAIN:
        judged(detector, rows, 1)
        count += 1
    assert detector.state == "frozen" and abs(count - TRAIN // 5) <= 3, count
    assert [s.series.state[st.FORM] for s in detector.signals] == forms
    for old, new in zip(before, detector.signals[1].series.limits):
        assert old // 2 <= new <= 2 * old
    assert judged(detector, rows, 2 * DAY) == []


def test_learning_again_widens_no_limit_by_itself():
    detector, _ = frozen(FEEDER)
    for k in (FEEDER.index("humidity"), FEEDER.index("t_ambient"), FEEDER.index("v1")):
        limits = list(detector.signals[k].series.limits)
        for _ in range(3):
            assert detector.command("learning") == "" and detector.command("freeze") == ""
        for before, after in zip(limits, detector.signals[k].series.limits):
            assert after <= before + 4, (FEEDER[k], limits, list(detector.signals[k].series.limits))


def test_learning_again_forgets_no_run():
    for name, value in (("voltage", 230), ("current", 20)):
        names = [name, "x"]
        rows = Rows(names, [(name, 0, 99999, lambda x, k, value=value: value)])
        detector = Detector(names, LIMITS)
        judged(detector, rows, TRAIN + 1)
        assert detector.signals[0].certain.run_limit == 0  # it always stands still
        again = Detector(names, LIMITS)
        assert again.load(detector.save()) == ""
        assert again.command("learning") == ""
        judged(again, rows, TRAIN // 5 + 3)
        assert again.state == "frozen" and again.signals[0].certain.run_limit == 0
        assert judged(again, rows, DAY) == []


def test_accept_ends_an_alarm():
    detector, rows = frozen()
    rows.faults = [("temperature", rows.row + 5, 99999, 12)]
    assert judged(detector, rows, 60)[-1][0] == rows.row
    assert detector.command("accept temperature") == ""
    assert judged(detector, rows, 2 * DAY) == []
    rows.faults = ()
    assert judged(detector, rows, 30)  # and what was ordinary no longer is


def test_what_was_accepted_stays_so_after_learning_on():
    detector, rows = frozen()
    rows.faults = [("temperature", rows.row + 5, 99999, 12)]
    judged(detector, rows, 60)
    detector.command("accept temperature")
    mean = detector.signals[2].series.state[st.MEAN]
    assert detector.command("learning") == ""
    judged(detector, rows, TRAIN // 5 + 3)
    assert detector.state == "frozen"
    assert abs(detector.signals[2].series.state[st.MEAN] - mean) < 128  # 1 K
    assert judged(detector, rows, DAY) == []


def test_guarded_follows_what_is_slow_and_only_so_far():
    detector, rows = frozen()
    assert detector.command("guarded") == ""
    rows.faults = [("temperature", rows.row, 99999, lambda x, k: x + k / DAY / 8)]
    judged(detector, rows, 8 * DAY)
    moved = detector.signals[2].series.state[st.SHIFT]
    assert moved > 0 and 0 < detector.budget() <= 100
    for _ in range(4):
        judged(detector, rows, 10 * DAY)
        assert detector.budget() <= 100
    other, rows = frozen()
    judged(other, rows, 2 * DAY)
    assert other.budget() == 0  # frozen stays


def test_guarded_does_not_follow_what_is_missing():
    detector, rows = frozen()
    detector.command("guarded")
    judged(detector, rows, 20)
    shift = detector.signals[2].series.state[st.SHIFT]
    rows.faults = [("temperature", 0, 99999, NAN)]
    judged(detector, rows, 1)  # one missing row is no alarm
    assert detector.signals[2].series.state[st.SHIFT] == shift
