"""Inputs of the rules of faults: units, what is learnt, missing values, no allocation."""

import math
import micropython
import random
from array import array

from gridnode.anomaly import electrical
from gridnode.anomaly.electrical import NONE, Electrical
from gridnode.setup.electrical import INPUTS

NAN = float("nan")
NAMES = ["v1", "v2", "v3", "i1", "i2", "i3", "i_n", "p1", "p2", "p3"]
NAMES += ["t_joint", "t_ambient", "humidity", "cover"]
LIMITS = {"rating_a": 63.0, "v_nominal": 230}
SOUND = {
    "v1": 230.0, "v2": 232.3, "v3": 227.7, "i1": 6.3, "i2": 12.6, "i3": 18.9, "i_n": 9.45,
    "p1": 1449.0, "p2": 2898.0, "p3": -1449.0, "t_joint": 35.5, "t_ambient": 20.0, "humidity": 55.5,
    "cover": 0.25,
}  # fmt: skip


def device(names=NAMES, limits=LIMITS, values=SOUND, learn=False, rows=1):
    e = Electrical(names, limits)
    row = array("f", [values[name] for name in names])
    for _ in range(rows):
        e.row(row, learn)
    return e


def get(e, name, scope="device", column=0):
    return e.inputs[e.columns[scope][column] + INPUTS[scope].index(name)]


def phase(e, name, number=1):
    return get(e, name, "phase", number - 1)


def test_units():
    e = device()
    assert [phase(e, "v", k) for k in (1, 2, 3)] == [1000, 1010, 990]
    assert [phase(e, "i", k) for k in (1, 2, 3)] == [100, 200, 300]
    assert [phase(e, "p", k) for k in (1, 2, 3)] == [100, 200, -100]
    assert [phase(e, "v_off", k) for k in (1, 2, 3)] == [0, 10, 10]
    assert [phase(e, "v_others", k) for k in (1, 2, 3)] == [1010, 1000, 1010]
    assert [phase(e, "i_others", k) for k in (1, 2, 3)] == [300, 300, 200]
    assert [get(e, name) for name in ("v_least", "v_most", "v_unbalance")] == [990, 1010, 10]
    assert [get(e, name) for name in ("i_least", "i_most", "i_unbalance")] == [100, 300, 500]
    assert get(e, "temperature", "joint") == 355 and get(e, "rise", "joint") == 155
    assert get(e, "humidity") == 555 and get(e, "cover") == 250


def test_values_are_right_to_a_thousandth():
    random.seed(7)
    e = Electrical(["voltage", "current", "temperature"], {"rating_a": 57.7, "v_nominal": 127.0})
    row = array("f", [0, 0, 0])
    for _ in range(2000):
        for k in range(3):
            row[k] = random.getrandbits(20) / 4096 * random.choice((1, 1, 0.01))
        if random.getrandbits(1):
            row[2] = -row[2]
        e.row(row)
        for k, want in enumerate((phase(e, "v"), phase(e, "i"), get(e, "temperature", "joint"))):
            exact = row[k] * (1000 / 127.0, 1000 / 57.7, 10)[k]
            assert abs(want - exact) <= 0.51 + abs(exact) / 8000, (k, row[k], want, exact)


def test_extreme_values():
    e = Electrical(["voltage", "current"], LIMITS)
    for value, volts in (
        (0.0, 0), (-0.0, 0), (1e-40, 0), (1e-9, 0), (3e38, 32000), (-3e38, -32000), (7361.0, 32000), (0.1149, 0),
        (0.1151, 1), (float("inf"), NONE), (float("-inf"), NONE), (NAN, NONE),
    ):  # fmt: skip
        e.row(array("f", [value, 1.0]))
        assert phase(e, "v") == volts, (value, phase(e, "v"))
        assert phase(e, "v_off") == (NONE if volts == NONE else min(abs(volts - 1000), 32000))


OF_ALL = {
    "v": ("v_least", "v_most", "v_unbalance"),
    "i": ("i_least", "i_most", "i_unbalance"),
    "h": ("humidity", "dew_gap"),
    "c": ("cover",),
}


def test_missing_values():
    for name in NAMES:
        values = dict(SOUND)
        values[name] = NAN
        e = device(values=values, learn=True, rows=70)
        lost = [k for k in range(len(e.inputs)) if e.inputs[k] == NONE]
        here = [INPUTS["device"].index(x) for x in OF_ALL.get(name[0], ())]
        if name == "i_n":
            here = [INPUTS["device"].index("i_n_share")]
        if name == "t_ambient":
            here = [INPUTS["device"].index("dew_gap"), e.columns["joint"][0] + 1]
        if name == "t_joint":
            here = [e.columns["joint"][0], e.columns["joint"][0] + 1]
        if name[0] in "vip" and name != "i_n":
            base = e.columns["phase"][int(name[1]) - 1]
            own = {"v": ("v", "v_off"), "i": ("i", "i_peak", "i_excess", "i_flat"), "p": ("p",)}[name[0]]
            here += [base + INPUTS["phase"].index(x) for x in own]
        assert sorted(here) == lost, (name, here, lost)


def test_one_phase():
    e = device(["voltage", "current", "power", "temperature", "humidity"], values={
        "voltage": 184.0, "current": 63.0, "power": 0.0, "temperature": 25.0, "humidity": 90.0,
    }, learn=True, rows=70)  # fmt: skip
    assert len(e.columns["phase"]) == 1 and len(e.columns["joint"]) == 1
    assert [phase(e, x) for x in ("v", "i", "p", "i_usual", "i_idle", "i_peak")] == [800, 1000, 0, 1000, 0, 1000]
    assert [phase(e, x) for x in ("v_others", "i_others")] == [NONE, NONE]
    assert [get(e, x) for x in ("v_least", "v_most", "v_unbalance", "i_n_share")] == [800, 800, NONE, NONE]
    assert get(e, "rise", "joint") == NONE, "no ambient"
    assert abs(get(e, "dew_gap") - 17) <= 1


def test_parts_of_a_device():
    e = device(["i1", "i2", "voltage"], values={"i1": 1.0, "i2": 2.0, "voltage": 230.0})
    assert [phase(e, "v", k) for k in (1, 2)] == [1000, 1000], "two circuits at one voltage"
    e = device(["v1", "v2", "v3"], values=SOUND)
    assert get(e, "i_most") == 0 and phase(e, "i") == NONE, "nothing is known of currents"
    e = device(["t_1", "t_2", "temperature", "humidity"], values={
        "t_1": 30.0, "t_2": 40.0, "temperature": 10.0, "humidity": 50.0,
    })  # fmt: skip
    assert [get(e, "rise", "joint", k) for k in (0, 1)] == [200, 300], "temperature is that of the air"
    e = device(["frequency"], values={"frequency": 50.0})
    assert len(e.slots) == 1 and get(e, "v_most") == NONE
    e = device(["voltage", "current"], {}, {"voltage": 230.0, "current": 1.0})
    assert phase(e, "v") == NONE and phase(e, "i") == NONE, "nothing to compare with"


def test_slots_are_the_signals_own():
    e = device()
    assert len(set(e.slots)) == len(NAMES)
    for k, at in enumerate(e.slots):
        for j in range(4):
            assert e.inputs[at + j] == 0
            e.inputs[at + j] = 10 * k + j
    e.row(array("f", [SOUND[name] for name in NAMES]))
    assert [phase(e, x, 2) for x in ("ratio", "quiet", "lost", "stuck")] == [40, 41, 42, 43]
    assert [get(e, x, "joint") for x in ("ratio", "quiet", "lost", "stuck")] == [100, 101, 102, 103]
    assert [get(e, "quiet", "signal", k) for k in range(len(NAMES))] == [10 * k + 1 for k in range(len(NAMES))]


def test_learning():
    e = device(learn=True, rows=63)
    assert phase(e, "i_usual") == NONE and get(e, "i_n_share") == NONE, "too few rows"
    e = device(learn=True, rows=65)
    usual = [phase(e, "i_usual", k) for k in (1, 2, 3)]
    assert usual == [100, 200, 300], usual
    assert get(e, "i_n_share") == 1000
    values = dict(SOUND)
    row = array("f", [values[name] for name in NAMES])
    row[3] = 0.0
    row[6] = 0.945
    for _ in range(15):
        e.row(row, True)
    assert (phase(e, "i_idle"), phase(e, "i_usual")) == (187, 81), (phase(e, "i_idle"), phase(e, "i_usual"))
    assert phase(e, "export", 3) >= 990 and phase(e, "export", 1) == 0
    assert phase(e, "i_peak") == 0 and phase(e, "i_peak", 2) == 1000
    before = list(e.learnt)
    for _ in range(50):
        e.row(row)
    assert list(e.learnt) == before, "learns only when told to"
    row[4] = 630.0
    e.row(row, True)
    assert list(e.learnt)[6:10] == before[6:10], "nothing from beyond the rating"
    again = Electrical(NAMES, LIMITS)
    for k in range(len(e.learnt)):
        again.learnt[k] = e.learnt[k]
    e.rest()
    e.row(row)
    again.row(row)
    assert list(again.inputs) == list(e.inputs)


def test_a_mean_has_no_drift():
    e = Electrical(["voltage", "current"], {"rating_a": 1000.0, "v_nominal": 230})
    row = array("f", [230.0, 0.0])
    for k in range(9000):
        row[1] = 300 + 5 * (k & 1)
        e.row(row, True)
    assert abs(phase(e, "i_usual") - 302) <= 1, phase(e, "i_usual")


def test_export_of_the_limits():
    e = device(limits={"rating_a": 63.0, "v_nominal": 230, "export": True})
    assert [phase(e, "export", k) for k in (1, 2, 3)] == [1000] * 3


def test_no_neutral_to_miss():
    values = dict(SOUND)
    values["i_n"] = 0.3
    assert get(device(values=values, learn=True, rows=70), "i_n_share") == NONE


def dew_point(t, h):
    x = math.log(h / 100) + 17.62 * t / (243.12 + t)
    return 243.12 * x / (17.62 - x)


def test_dew_point():
    names = ["t_ambient", "humidity", "t_wall"]
    e = Electrical(names, LIMITS)
    for t in (-20, -5, 0, 12, 25, 40, 70):
        for h in (15, 35, 50, 68, 85, 90, 94, 97, 100):
            e.row(array("f", [t, h, t + 5]))
            gap = t - dew_point(t, h)
            assert abs(get(e, "dew_gap") / 10 - gap) <= 0.1 + 0.04 * gap, (t, h, gap, get(e, "dew_gap"))
    e.row(array("f", [20.0, 80.0, 18.0]))
    assert abs(get(e, "dew_gap") / 10 - (18 - dew_point(20, 80))) < 0.2, "the coldest place"
    e.row(array("f", [20.0, 80.0, NAN]))
    assert abs(get(e, "dew_gap") / 10 - (20 - dew_point(20, 80))) < 0.2
    e.row(array("f", [NAN, 80.0, 18.0]))
    assert get(e, "dew_gap") == NONE
    e.row(array("f", [300.0, 80.0, 18.0]))
    assert get(e, "dew_gap") == NONE


def test_excess_is_current_over_the_rating_times_minutes():
    for interval, rows in ((10, 60), (60, 10), (600, 1)):
        e = device(["current"], dict(LIMITS, interval_s=interval), {"current": 69.3}, rows=rows)  # 1.1 for 10 min
        assert phase(e, "i_excess") == 1000, (interval, phase(e, "i_excess"))
        e.row(array("f", [63.0]))
        assert phase(e, "i_excess") == 1000, "the rating itself changes nothing"
        e.row(array("f", [31.5]))
        assert abs(phase(e, "i_excess") - max(0, 1000 - 500 * interval // 60)) <= 1, "half of the rating cools"
    for _ in range(1000):
        e.row(array("f", [1e9]))
    assert phase(e, "i_excess") == 32000
    e.row(array("f", [NAN]))
    assert phase(e, "i_excess") == NONE
    e.row(array("f", [63.0]))
    assert phase(e, "i_excess") == 22000, "what is not known heats nothing"
    e.rest()
    e.row(array("f", [63.0]))
    assert phase(e, "i_excess") == 0


def test_flat_is_the_time_at_the_largest_current():
    e = Electrical(["current"], dict(LIMITS, rating_a=100.0, interval_s=60))

    def run(rows, *currents, learn=False):
        for k in range(rows):
            e.row(array("f", [currents[k % len(currents)]]), learn)
        return phase(e, "i_flat")

    run(200, 10.0, learn=True)
    run(30, 40.0, learn=True)  # later on it may be twice as long at one high current, and 40 rows
    run(200, 10.0, 30.0, 70.0, 20.0, learn=True)
    assert list(e.learnt)[5:] == [700, 700, 49], "what was high when little flowed does not count"
    e.rest()
    run(1, 35.0)
    assert run(68, 35.3, 34.8) == 0 and run(1, 35.0) == 500, "one and the same, within 2 %"
    assert run(68, 35.0, 20.0) == 746 and run(1, 35.0) == 753, "also time and again"
    assert run(9, 25.0) == 753 and run(2, 25.0) == 0, "told for ten minutes more"
    assert run(1, 35.0) == 760 and run(1, NAN) == NONE and run(1, 120.0) == 760, "beyond the rating is another matter"
    assert run(1, 60.0) == 0 and run(1, 35.0) == 0, "more is measured after all"
    run(1441, 10.0)
    run(1, 35.0)
    assert run(69, 35.0) == 500, "a day without"
    assert run(1300, 35.0) == 0, "more often than it was there or above while learning: a load"
    e.rest()
    assert run(70, 27.9) == 0, "no high current"


def test_current_is_counted_in_bins():
    assert [electrical._bin(x) for x in (0, 15, 16, 31, 32, 63, 64, 512, 1000)] == [0, 0, 1, 8, 9, 16, 17, 41, 48]
    e = Electrical(["current"], dict(LIMITS, rating_a=100.0))
    for k in range(70000):
        e._count(0, (50, 400)[k & 1])
    assert e.counts[0] == sum(e.counts[1:]) < 65535
    assert abs(e._above(0, 100) - 500) <= 1 and e._above(0, 400) == 0 and e._above(0, 10) >= 999


def test_row_allocates_nothing():
    e = device(learn=True, rows=70)
    row = array("f", [SOUND[name] for name in NAMES])
    holes = array("f", [NAN] * len(NAMES))
    micropython.heap_lock()
    try:
        for _ in range(20):
            e.row(row, True)
            e.row(holes, True)
            e.row(row)
    finally:
        micropython.heap_unlock()


def test_any_row_is_taken():
    random.seed(11)
    e = device()
    rows = [array("f", bytes(random.getrandbits(8) for _ in range(4 * len(NAMES)))) for _ in range(300)]
    micropython.heap_lock()
    try:
        for row in rows:
            e.row(row, True)
            if get(e, "rise", "joint") != NONE:
                rise = get(e, "temperature", "joint") - get(e, "rise", "joint")
                limit = 32000 if abs(get(e, "rise", "joint")) == 32000 else 0
                assert abs(rise) <= 32000 + limit
            for k in (1, 2, 3):
                assert phase(e, "v_off", k) >= 0 or phase(e, "v", k) == NONE
    finally:
        micropython.heap_unlock()
    for x in e.learnt:
        assert 0 <= x <= 1000 << 18


def test_every_machine_finds_the_same():
    random.seed(5)
    e = Electrical(NAMES, {"rating_a": 31.7, "v_nominal": 132.8})
    total = 0
    row = array("f", [0] * len(NAMES))
    for _ in range(200):
        for k in range(len(NAMES)):
            row[k] = random.getrandbits(16) / 256
        e.row(row, True)
        for x in e.inputs:
            total = (total * 31 + x) & 0xFFFFFF
    assert total == CHECKSUM, total


CHECKSUM = 12376357
