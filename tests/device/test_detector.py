"""The detector of a device: from learning to frozen, faults, who is blamed, sentences."""

from array import array

from detectors import faults, frozen, one_row, trained, verdict
from gridnode.anomaly import statistics as st
from gridnode.anomaly.detector import Detector
from made_rows import (
    DAY,
    FEEDER,
    INTERVAL_S,
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


def test_interval_of_the_limits():
    assert Detector(PLACE, {}).interval_s == 60
    assert Detector(PLACE, {}).train_rows == 4 * 1440
    assert Detector(PLACE, {"interval_s": 10}).train_rows == 4 * 8640
    assert Detector(PLACE, LIMITS).interval_s == INTERVAL_S


def test_it_freezes_by_itself():
    detector, rows = trained()
    assert (detector.state, detector.rows, detector.grade) == ("learning", TRAIN, 0)
    judged(detector, rows, 1)
    assert (detector.state, detector.reason, detector.rows) == ("frozen", "", TRAIN)
    assert detector.frozen_at == rows.t
    assert judged(detector, rows, 3 * DAY) == []
    assert detector.rows == TRAIN


def test_a_column_says_what_teaches():
    rows = Rows(PLACE)
    detector = Detector(PLACE, LIMITS)
    judged(detector, rows, 10, 0)
    assert (detector.state, detector.rows) == ("learning", 0)
    judged(detector, rows, 200, 1)
    judged(detector, rows, 1, 0)  # a gap ends nothing
    assert (detector.state, detector.rows) == ("learning", 200)
    judged(detector, rows, 200, 1)
    assert detector.command("freeze") == ""
    assert (detector.state, detector.rows) == ("frozen", 400)
    assert detector.reason == "69 % of the rows to learn have come"
    more = Detector(PLACE, LIMITS)
    rows = Rows(PLACE)
    judged(more, rows, TRAIN + 100, 1)
    assert (more.state, more.rows) == ("learning", TRAIN + 100)
    assert more.command("freeze") == "" and (more.state, more.reason) == ("frozen", "")
    assert judged(more, rows, 2 * DAY, False) == []


def test_a_column_and_its_own_decision_learn_the_same():
    one, rows = trained()
    judged(one, rows, 1)
    other, rows = trained(learn=1)
    other.command("freeze")
    judged(other, rows, 1, 0)
    other.frozen_at = one.frozen_at  # it does so with its next row
    a, b = one.save(), other.save()
    assert a == b


def test_contaminated_training_is_suspect_and_still_judges():
    detector, rows = trained(found=[("voltage", 200, 10, 60)])
    judged(detector, rows, 1)
    assert detector.state == "suspect"
    assert detector.reason == "1.7 % of the rows learnt broke a rule"
    assert detector.command("freeze") == detector.reason
    assert detector.command("guarded") == "only a frozen model can be guarded, this one is suspect"
    rows.faults = [("voltage", 0, 99999, 60)]
    assert judged(detector, rows, 3)
    # what it has learnt since may be trusted
    rows.faults = ()
    assert detector.command("learning") == ""
    judged(detector, rows, TRAIN // 5 + 2)
    assert detector.state == "frozen", detector.reason


def test_every_kind_of_fault():
    v, i, t, h = PLACE
    for fault, kinds in (
        ((v, 30, 5, -40), ("range",)),
        ((i, 30, 60, lambda x, k: 33.25), ("stuck",)),
        ((i, 30, 20, lambda x, k: 0), ("dead", "level_shift")),
        ((h, 30, 5, NAN), ("missing",)),
        ((t, 30, 9, lambda x, k: -127), ("dead",)),
        ((h, 30, 9, lambda x, k: 130), ("dead",)),
        ((v, 30, 1, -20), ("spike", "relation")),
        ((v, 30, 60, lambda x, k: x + (5 if k % 2 else -5)), ("noise",)),
        ((t, 30, 200, lambda x, k: x + k / 8), ("relation", "drift")),
    ):
        detector, rows = frozen()
        start = rows.row
        rows.faults = [(fault[0], start + 30, fault[2], fault[3])]
        found = judged(detector, rows, 30 + fault[2] + 2 * DAY)
        assert found, fault
        seen = {kind for _, kind, _ in found}
        assert seen & set(kinds), (fault, seen)
        guilty = {one for _, _, signals in found for one in signals}
        # a current that reads wrong makes its joint look wrong
        assert fault[0] in guilty and guilty <= {fault[0], t}, (fault, guilty)
        assert fault[0] == i or len(guilty) == 1, (fault, guilty)
        assert found[0][0] >= start + 30
        late = found[-1][0] - start - 30 - fault[2]
        assert late <= 20, (fault, late, found[-1])


def test_a_rate_beyond_physics():
    rows = Rows(["temperature"])
    detector = Detector(["temperature"], dict(LIMITS, interval_s=60, train_rows=500))
    rows.faults = [("temperature", 520, 2, 60)]
    t = 0
    found = []
    for _ in range(540):
        rows.next()
        t += 60
        detector.row(rows.values, t)
        if detector.alarm:
            found.append((rows.row, detector.kind, detector.diagnosis, detector.priority))
    assert found[0] == (520, "rate", "rate", 3), found
    assert found[-1][0] <= 523


def test_faults_are_named_by_the_rules():
    detector, rows = frozen(FEEDER, True)
    start = rows.row
    rows.faults = [("v1", start + 10, 4, lambda x, k: 1.5), ("i1", start + 10, 4, lambda x, k: 0.25)]
    rows.faults.append(("p1", start + 10, 4, lambda x, k: 0.5))
    found = {}
    for _ in range(40):
        rows.next()
        detector.row(rows.values, rows.t)
        if detector.faults:
            found[rows.row - start] = (detector.diagnosis, detector.priority, detector.text)
            assert detector.faults[0][0] == detector.diagnosis and detector.faults[0][1] >= 500
            assert detector.alarms[0] and detector.grades[0] >= 500 and detector.grade >= 500
    diagnosis, priority, text = found[10]
    assert (diagnosis, priority) == ("phase_loss", 1), found
    assert text.startswith("Phase loss: L1 "), text
    assert max(found) <= 14 and detector.faults == [] and detector.text == ""


def test_extreme_ratios_name_no_less():
    """A ratio beyond 15 bits is one of the largest, not a negative one."""
    detector, rows = frozen(FEEDER, True)
    k = FEEDER.index("t_joint")
    for test in range(st.TESTS):
        detector.signals[k].series.limits[test] = 4
    rows.faults = [("t_joint", rows.row + 3, 4, 150)]
    seen = []
    for _ in range(6):
        rows.next()
        detector.row(rows.values, rows.t)
        seen.append(detector.signals[k].ratio)
        inputs = [detector.electrical.inputs[detector.electrical.slots[k] + j] for j in range(2)]
        assert min(inputs) >= 0, inputs
    assert max(seen) > 32767, seen


def test_text_of_alarms():
    detector, rows = frozen()
    told = []
    rows.faults = [("voltage", rows.row + 3, 2, -40), ("humidity", rows.row + 10, 4, NAN)]
    for _ in range(16):
        rows.next()
        detector.row(rows.values, rows.t)
        told.append(detector.text)
    assert told[2].startswith("Voltage 18") and told[2].endswith(" V, below 207 V"), told[2]
    assert told[3].endswith(" for 10 min"), told[3]
    assert told[10] == "Humidity gives no reading", told[10]
    assert told[0] == told[-1] == ""


def test_a_current_above_its_rating_is_told_so():
    detector, rows = frozen(FEEDER, True)
    rows.faults = [("i1", rows.row + 1, 3, lambda x, k: 121)]
    told = []
    for _ in range(3):
        rows.next()
        detector.row(rows.values, rows.t)
        told.append((detector.kind, detector.text))
    assert told[0] == ("spike", "Overload: L1 current 121 A on a 100 A feeder"), told
    assert told[2] == ("level_shift", "Overload: L1 current 121 A on a 100 A feeder for 20 min"), told


def test_what_moves_while_its_power_stands_does_not_fit():
    for rules in (False, True):
        detector, rows = frozen(FEEDER, rules)
        at = rows.row + DAY // 4  # where the current alone is not strange
        rows.faults = [("i1", at, 30, lambda x, k: x * 15 / 16)]
        while rows.row < at:
            assert one_row(detector, rows) == []  # a power just beyond its limit takes two rows
        for k in range(29):
            assert one_row(detector, rows) == ["i1"], (rules, k, detector.text)
            others = [grade for n, grade in enumerate(detector.grades) if n != 1]
            assert detector.grades[1] == detector.grade >= 500 > max(others)
            assert detector.kind == detector.kind_of(1) == "mismatch" and detector.kind_of(7) == "relation"
            assert detector.text.startswith("L1 current ") and "does not fit the other readings" in detector.text
        one_row(detector, rows)
        assert judged(detector, rows, DAY) == []


def test_a_rule_that_breaks_is_told_though_another_led_astray():
    detector, rows = frozen(FEEDER)
    at = rows.row + DAY // 4
    rows.faults = [("i1", at, 30, lambda x, k: x * 15 / 16), ("p1", at + 10, 20, lambda x, k: 0)]
    while rows.row < at + 9:
        one_row(detector, rows)
    assert detector.kind == "mismatch"
    assert "p1" in one_row(detector, rows) and detector.kind_of(7) == "dead"
    assert detector.command("reset") == "" and not any(detector.alarms) and not any(detector.misfits)
    one_row(detector, rows)
    assert not any(detector.misfits)


def test_a_row_that_is_lost_ends_no_step():
    detector, rows = frozen(FEEDER)
    rows.faults = [("p1", rows.row + 3, 40, lambda x, k: x / 2), ("p1", rows.row + 15, 1, NAN)]
    found = judged(detector, rows, 41)
    assert len(found) == 38, [row for row, _, _ in found]  # all but the row itself


def test_who_moved_is_known_after_a_restart():
    before, rows = frozen(FEEDER)
    at = rows.row + DAY // 4
    rows.faults = [("i1", at, 30, lambda x, k: x * 15 / 16)]
    while rows.row < at - 1:
        one_row(before, rows)
    after = Detector(FEEDER, dict(LIMITS, faults=None))
    assert after.load(before.save()) == ""
    for _ in range(5):
        one_row(before, rows)
        after.row(rows.values, rows.t)
        assert verdict(after) == verdict(before)
    assert after.kind == "mismatch"


def test_a_power_that_moves_alone_is_blamed_itself():
    detector, rows = frozen(FEEDER)
    rows.faults = [("p1", rows.row + 1, 30, lambda x, k: x / 2)]
    assert one_row(detector, rows) == ["p1"] and detector.kind == "relation"
    assert detector.text.startswith("L1 power ") and detector.text.endswith(" W below where the load puts it")
    for _ in range(29):
        assert one_row(detector, rows) == ["p1"]
    one_row(detector, rows)
    assert judged(detector, rows, DAY) == []


def test_a_relation_is_told_with_its_size():
    detector, rows = frozen(FEEDER)
    rows.faults = [("t_joint", rows.row + 1, 400, lambda x, k: x + k / 8)]
    for _ in range(200):
        if "t_joint" in one_row(detector, rows):
            break
    assert detector.kind == "relation"
    assert " K above where the load puts it" in detector.text, detector.text


def test_an_overload_heats_though_it_breaks_a_rule():
    detector, rows = frozen(FEEDER)
    rows.faults = [("i1", rows.row + 1, 6, lambda x, k: 130)]
    for _ in range(6):
        before = list(detector.causes.means[:3])
        one_row(detector, rows)
        assert detector.signals[1].rule
        assert all([now > then for now, then in zip(detector.causes.means, before)])


def test_noise_of_the_first_days_is_known():
    """The last days of a training may be a quiet weekend."""

    def noisy(x, k):
        return x + (8 if k % 2 else -8)

    for past in ([("current", 150, 80, noisy)], []):
        detector, rows = trained(["current", "humidity"], past)
        rows.faults = [("current", rows.row + 10, 80, noisy)]
        found = [kind for _, kind, _ in judged(detector, rows, DAY)]
        assert ("noise" in found) != bool(past), found


def test_a_fault_among_the_lessons_is_found_again():
    for name, size in (("temperature", 18), ("voltage", 15)):
        detector, rows = trained(PLACE, [(name, 440, 4, size)])
        detector.command("freeze")
        assert detector.state == "suspect" and name in detector.reason, detector.reason
        rows.faults = [(name, rows.row + 20, 9, size)]
        found = [row - rows.row for row, _, signals in judged(detector, rows, 40) if name in signals]
        assert len(found) >= 9, (name, found)


def test_the_text_of_a_fault_tells_of_what_it_blames():
    """What is farther off in the same row is another matter."""
    detector, rows = frozen(FEEDER, True)
    rows.faults = [("i1", rows.row + 1, 2, lambda x, k: 121), ("p3", rows.row + 1, 2, 60000)]
    rows.next()
    detector.row(rows.values, rows.t)
    assert FEEDER[detector.worst] == "p3" and detector.diagnosis == "overload", detector.text
    assert FEEDER[detector.first()] == "i1"
    assert detector.text == "Overload: L1 current 121 A on a 100 A feeder", detector.text


def test_an_open_cover_is_told_while_it_is_open():
    nominal = {"cover": [-0.5, 0.5]}  # as a profile's limit makes it
    for table, first in ((faults(), "Tamper: "), (None, "")):
        detector = Detector(["voltage", "cover"], dict(LIMITS, interval_s=10, nominal=nominal, faults=table))
        told = []
        for k in range(50):
            cover = 0 if k < 40 or k > 45 else 1
            detector.row(array("f", [230 + k % 3, 0.125 if k == 43 and table else cover]), 1700000000 + 10 * k)
            told.append(detector.text)
        assert set(told[:40] + told[46:]) == {""}, told
        assert told[40] == first + "Cover is open" and told[42] == told[40] + " for 20 s", told
        assert told[45] == first + "Cover is open for " + ("10" if table else "50") + " s", told
        assert table is None or told[43] == "Tamper: Cover was open", told
