"""Learning what is usual: level or profile, limits, what stands out of a training."""

from gridnode.anomaly import learning
from gridnode.anomaly import statistics as st
from gridnode.anomaly.certain import KINDS
from gridnode.anomaly.detector import Detector
from gridnode.anomaly.statistics import Series
from gridnode.anomaly.training import Learner
from made_rows import DAY, FEEDER, INTERVAL_S, LIMITS, NAN, PLACE, TRAIN, Rows, judged


def trained(names=PLACE, faults=(), train=TRAIN, **limits):
    rows = Rows(names, faults, interval_s=limits.get("interval_s", INTERVAL_S))
    detector = Detector(names, dict(LIMITS, train_rows=train, **limits))
    judged(detector, rows, train + 1)
    return detector, rows


def signal(detector, name):
    return detector.signals[detector.names.index(name)]


def test_what_follows_the_day_gets_a_profile():
    detector, _ = trained(["current", "voltage"])
    assert signal(detector, "current").series.state[st.FORM] == st.PROFILE
    assert signal(detector, "voltage").series.state[st.FORM] == st.LEVEL  # its current explains it
    bins = signal(detector, "current").series.bins
    assert bins[24] > 1.5 * bins[0] and min(signal(detector, "current").series.visits) >= 2


def test_a_short_training_gives_no_profile():
    detector, _ = trained(["current"], train=DAY)
    assert detector.state == "frozen"
    assert signal(detector, "current").series.state[st.FORM] == st.LEVEL


def test_level_and_usual_distance():
    detector, rows = trained(["x"])
    s = signal(detector, "x")
    assert abs(s.series.state[st.MEAN] / s.per_unit - 12) < 0.05
    assert 0.2 < s.series.state[st.DEV] / 16 / s.per_unit < 0.5  # a triangle of 1 to both sides: 1/3
    assert judged(detector, rows, 2 * DAY) == []


def test_limits_are_above_what_training_reached():
    detector, rows = trained(FEEDER)
    for s in detector.signals:
        for k in range(st.TESTS):
            assert 0 < s.series.limits[k] <= 32000, k
    assert judged(detector, rows, 4 * DAY) == []


def learner(peaks, dev=160):
    """A learner whose three largest peaks of every test are these."""
    series = Series(5, 40)
    series.state[st.DEV] = dev
    taught = Learner(series)
    taught.rows = 5000
    for k in range(st.TESTS):
        for j in range(3):
            taught.peaks[4 * k + 1 + j] = peaks[j]
    return taught, series


def test_a_limit_is_a_margin_over_the_worst():
    taught, series = learner((400, 300, 200))
    assert not learning.freeze(taught)
    assert series.limits[st.SEASON] == (400 * 28 >> 4) + 200
    calm, series = learner((3, 2, 1))
    assert not learning.freeze(calm)
    assert (series.limits[st.SEASON], series.limits[st.QUIET]) == (128, 400)
    weather, wide = learner((400, 300, 200))
    learning.freeze(weather, weather=3)
    assert wide.limits[st.SEASON] == (1200 * 28 >> 4) + 600
    assert wide.limits[st.JUMP] == wide.limits[st.STEP] == (400 * 28 >> 4) + 200  # weather is slow
    warm, series = learner((400, 300, 200))
    series.jump_rows = 8
    learning.freeze(warm)
    assert series.limits[st.JUMP] == (400 * 21 >> 4) + 200


def test_a_season_is_room_that_no_training_shows():
    taught, series = learner((3, 2, 1), dev=16)
    series.state[st.LEAST] = 256
    learning.freeze(taught, unseen=4)
    assert series.limits[st.SEASON] == series.limits[st.WANDER] == 4 * 256
    assert series.limits[st.JUMP] == series.limits[st.STEP] == 256


def test_one_direction_is_enough_for_a_limit_of_both():
    taught, series = learner((400, 300, 200))
    for k in (st.LONG + 1, st.JUMP):
        for j in range(4):
            taught.peaks[4 * k + j] = 0
    learning.freeze(taught)
    assert series.limits[st.LONG + 1] == 96 and series.limits[st.JUMP] == 16


def test_one_part_that_stands_out_is_foul():
    taught, series = learner((4000, 300, 300))
    assert learning.freeze(taught)
    assert series.limits[st.SEASON] == 300 * 28 >> 4  # and it sets no limit
    taught, series = learner((4000, 3000, 300))
    assert learning.freeze(taught)
    assert series.limits[st.SEASON] == 300 * 28 >> 4  # nor do two
    taught, series = learner((4000, 3000, 2500))
    assert not learning.freeze(taught)
    assert series.limits[st.SEASON] > 4000
    taught, series = learner((4000, 300, 300))
    assert not learning.freeze(taught, wary=False)
    assert series.limits[st.SEASON] > 4000


def test_what_comes_once_in_two_days_may_be_a_habit():
    for days, peaks, foul in ((1, (4000, 300, 300), False), (3, (4000, 300, 300), True), (3, (4000, 4000, 300), False)):
        taught, series = learner(peaks)
        taught.rows = days * 4 * 40 + 1
        assert learning.freeze(taught) == foul, days
        assert (series.limits[st.STEP] > 4000) != foul


def test_a_fault_among_the_lessons_leaves_no_mark_on_any_limit():
    taught, series = learner((400, 300, 200))
    learning.freeze(taught)
    usual = list(series.limits)
    for k in (st.STEP, st.SLOW):  # a step by which a fault is known, and a mean that stands out less
        for n, peak in enumerate((1500, 300, 200)):
            taught.peaks[4 * k + 1 + n] = peak
    assert learning.freeze(taught)
    limits = list(series.limits)
    assert limits[st.STEP] == limits[st.SLOW] == (300 * 28 >> 4) + 100
    for k in (st.STEP, st.SLOW):
        limits[k] = usual[k]
    assert limits == usual


def test_limits_that_a_part_just_keeps_to_stand():
    taught, series = learner((400, 300, 200))
    taught.peaks[4 * st.STEP + 1] = ((300 * 28 >> 4) + 100) * 24 >> 4
    assert not learning.freeze(taught)
    taught.peaks[4 * st.STEP + 1] += 1
    assert learning.freeze(taught)


def test_least_limits_are_wider_where_consumers_do_as_they_like():
    for wary, share in ((True, 16), (False, 28)):
        taught, series = learner((3, 2, 1))
        series.state[st.DELTA] = 160  # 10 steps
        learning.freeze(taught, wary=wary)
        assert [series.limits[k] for k in (st.SEASON, st.SLOW, st.BUSY)] == [k * share >> 4 for k in (128, 112, 40)]
        assert (series.limits[st.LONG], series.limits[st.QUIET]) == (96, 400)


def test_jumps_of_the_whole_training_count():
    taught, series = learner((400, 300, 200))
    taught.state[8] = 1000  # rows compared
    taught.state[6] = 100000  # error of the level, none of the profile
    peaks = list(taught.peaks)
    learning.choose(taught, True)
    assert series.state[st.FORM] == st.PROFILE and list(taught.peaks) == peaks


def test_too_few_parts_set_no_limit():
    taught, series = learner((400, 0, 0))
    learning.freeze(taught)
    assert max(series.limits) == 0


def test_large_peaks_keep_to_their_bits():
    taught, series = learner((16000, 16000, 16000))
    learning.freeze(taught)
    assert max(series.limits) <= 32000


def test_a_run_of_equal_readings():
    taught, _ = learner((3, 2, 1))
    taught.run(7)
    taught.run(5)
    assert learning.longest_run(taught) == 24
    taught.run(1251)
    assert learning.longest_run(taught) == 0  # a quarter of the training


def test_the_usual_change_is_that_of_three_rows_in_four():
    series = Series(5, 40)
    taught = Learner(series)
    rows = Rows([])
    y = last = 0
    for k in range(3000):
        y = [5, 10, 20, 40][(k * 7 + k // 4) % 4] * (1 if k & 1 else -1) + last
        taught.change(y, last)
        last = y
    assert 15 <= series.state[st.DELTA] / 16 <= 30, series.state[st.DELTA] / 16
    assert rows.noise(0) == 0
    before = series.state[st.DELTA]
    taught.change(5000, st.MISSING)
    assert series.state[st.DELTA] == before


def test_faults_in_a_training_make_it_suspect():
    detector, _ = trained(["x"], faults=[("x", 500, 3, 1000)])
    assert detector.state == "suspect" and "x" in detector.reason, detector.reason
    assert detector.reason.startswith("what was learnt looks like faults: ")
    detector, _ = trained(faults=[("current", 500, 3, 90)])
    assert detector.state == "frozen", detector.reason  # within its rating a load may do as it likes
    detector, _ = trained(faults=[("voltage", 100, 20, 40)])
    assert detector.state == "suspect"
    assert detector.reason == "3.4 % of the rows learnt broke a rule", detector.reason
    detector, _ = trained(faults=[("voltage", 100, 4, 40)])
    assert detector.state == "frozen" and detector.reason == ""


def test_rows_that_break_a_rule_teach_nobody():
    clean, _ = trained()
    foul, _ = trained(faults=[("voltage", 300, 5, 2000), ("humidity", 100, 4, NAN)])
    for name in PLACE[:1]:
        a, b = signal(clean, name).series.state, signal(foul, name).series.state
        assert abs(a[st.MEAN] - b[st.MEAN]) <= 2 and abs(a[st.DEV] - b[st.DEV]) < a[st.DEV] // 8


def test_a_current_explains_its_voltage_and_its_joint():
    detector, rows = trained(FEEDER)
    for name in ("v1", "v2", "v3", "p1", "t_joint"):
        assert detector.causes.of[FEEDER.index(name)].known, name
    rows.faults = [("t_joint", rows.row + 20, 100, lambda x, k: x + min(k, 60) / 5)]
    found = judged(detector, rows, 120)
    assert found and {one for _, _, signals in found for one in signals} == {"t_joint"}, found
    assert "relation" in [kind for _, kind, _ in found]


def test_rates_that_training_saw_stay_learnt():
    swing = [("temperature", 1, 99999, lambda x, k: x + (90 if k % 2 else 0))]
    fast = {"interval_s": 60}
    detector, rows = trained(["temperature"], swing, 400, **fast)
    assert signal(detector, "temperature").certain.rate == 0
    assert not [1 for _, kind, _ in judged(detector, rows, 50) if kind == KINDS[5]]
    detector, _ = trained(["temperature"], (), 400, **fast)
    assert signal(detector, "temperature").certain.rate == 30 * 128


def test_what_was_never_there_is_not_learnt():
    gone = [("humidity", 1, TRAIN + 10, NAN), ("current", 1, TRAIN + 10, NAN)]
    detector, rows = trained(PLACE, gone)
    assert detector.state == "frozen"
    for name in ("humidity", "current"):
        s = signal(detector, name)
        assert s.certain.run_limit is None and max(s.series.limits) == 0
    judged(detector, rows, 30)
    rows.faults = [("humidity", 0, 9999, lambda x, k: 50), ("current", 0, 9999, lambda x, k: 0 if k % 9 else 33)]
    assert judged(detector, rows, 200) == []  # nothing is known of it, so nothing is wrong with it
    rows.faults = [("humidity", 0, 9999, lambda x, k: 120)]
    assert judged(detector, rows, 2)[0][1] == "dead"
