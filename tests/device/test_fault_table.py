"""The product's rules of faults: each row of its table at its points, and with what is missing."""





from feeder import LIMITS, NAMES, NAN, Feeder, only, table
from gridnode.anomaly.electrical import NONE, Electrical
from gridnode.anomaly.fuzzy import Rules
from gridnode.setup.electrical import INPUTS

FIXTURES = ("faults",)
HEAP_KW = 192


def test_a_sound_feeder():
    f = Feeder()
    assert f.judge() == [] and f.guilty() == [] and max(f.rules.degrees) == 0
    assert f.judge(i=0.99, p=0.9) == [] and f.judge(i=0.006, p=0.005) != ["phase_loss"]
    assert f.judge(v=0.92) == [] and f.judge(v=1.08) == []


def test_short_circuit():
    f = Feeder()
    only(f, "short_circuit", ["v2", "i2"], i2=2.6, v2=0.85)
    assert f.rules.where == 1, "the second phase"
    only(f, "short_circuit", ["v2", "i2"], i2=8.0, v2=0.2)
    only(f, "overload", ["i2"], i2=8.0, v2=0.93)
    assert "short_circuit" not in f.judge(i2=2.3, v2=0.5)
    assert f.judge(i=6.0, v=0.1) == ["short_circuit"], "in all phases: neither sag nor overload nor interruption"


def test_phase_loss():
    f = Feeder()
    for v in (0.0, 0.4, 0.67):
        only(f, "phase_loss", ["v1", "i1", "p1"], v1=v, i1=0.0, p1=0.0)
    only(f, "phase_loss", ["v1", "v2", "i1", "i2", "p1", "p2"], v1=0.0, i1=0.0, p1=0, v2=0.1, i2=0, p2=0)
    assert f.judge(v1=0.6, i1=0.02) == ["voltage_sag"], "a phase that still feeds"
    assert "phase_loss" not in f.judge(v1=0.70, i1=0.0, p1=0.0)
    assert f.judge(v=0.02, i=0.0, p=0.0) == ["interruption"]


def test_neutral_loss():
    f = Feeder()
    only(f, "neutral_loss", ["v1", "v2", "v3", "i_n"], v1=1.2, v2=0.9, v3=0.91, i_n=0.0)
    assert f.judge(v1=1.1, v2=0.94, v3=1.0, i_n=0.01)[0] == "neutral_loss" and "v3" not in f.guilty()
    assert f.judge(v1=1.25, v2=0.7, v3=0.95, i_n=0.2)[0] == "neutral_loss", "broken upstream"
    assert f.judge(v1=1.25, v2=0.7, v3=0.95, i_n=NAN)[0] == "neutral_loss"
    assert f.judge(v1=1.08, v2=0.92, v3=1.0, i_n=0.0)[0] == "neutral_loss", "of loads that are nearly alike"
    assert "neutral_loss" not in f.judge(v1=1.08, v2=0.92, v3=1.0, i_n=0.06)
    assert "neutral_loss" not in f.judge(v1=1.04, v2=0.96, v3=1.0, i_n=0.0), "an unbalance without load"
    assert "neutral_loss" not in f.judge(v1=1.1, v2=0.97, v3=0.98, i_n=0.0)
    assert "neutral_loss" not in f.judge(v1=1.1, v2=0.9, v3=1.0, i_n=0.1)
    assert "neutral_loss" not in f.judge(v1=1.25, v2=0.5, v3=1.1, i2=5.0, i_n=4.0), "a short circuit lifts the others"
    assert "neutral_loss" not in f.judge(v1=1.12, v2=1.12, v3=0.3, i3=0.0, p3=0.0), "with load in the neutral"


def test_overload():
    f = Feeder()
    only(f, None, [], i1=1.02)
    only(f, "overload", ["i1"], i1=1.04)
    assert f.rules.priorities[f.rules.top] == 2
    only(f, "overload", ["i1", "i3"], i1=1.25, i3=1.3)
    assert f.rules.priorities[f.rules.top] == 1
    only(f, "overload", ["i1"], i1=4.0)
    only(f, "overload", ["i1"], i1=1.5, v=NAN)


def test_an_overload_is_the_more_severe_the_longer_it_lasts():
    for over, minutes in ((0.05, 349), (0.10, 174), (0.15, 116)):  # (i - 1) x time from 17.5 min on
        f = Feeder()
        for _ in range(minutes):
            only(f, "overload", ["i1"], i1=1 + over)
        assert f.rules.priorities[f.rules.top] == 2, over
        for _ in range(20):
            f.judge(i1=1 + over)
        assert f.rules.priorities[f.rules.top] == 1, over
        assert f.judge() == [], "what is still hot is no overload"
        assert f.judge(i1=1.05) == ["overload"] and f.rules.priorities[f.rules.top] == 1, "it has not cooled yet"
        for _ in range(20):
            f.judge()
        f.judge(i1=1.05)
        assert f.rules.priorities[f.rules.top] == 2


def test_sag_and_swell():
    f = Feeder()
    only(f, None, [], v=0.91)
    only(f, "voltage_sag", ["v1", "v2", "v3"], v=0.895)
    only(f, "voltage_sag", ["v1", "v2", "v3"], v=0.11)
    assert f.judge(v1=0.79) == ["voltage_sag"] and f.guilty() == ["v1"]
    assert f.judge(v1=0.72, i1=0.0, p1=0.0)[0] == "voltage_sag", "too high for a lost phase"
    assert f.judge(v1=0.82) == ["unbalance"]
    only(f, None, [], v=1.09)
    only(f, "voltage_swell", ["v1", "v2", "v3"], v=1.105)
    assert f.judge(v1=1.22)[0] == "voltage_swell" and f.guilty() == ["v1"]
    assert "voltage_swell" not in f.judge(v1=1.3, v2=0.8), "a lost neutral"


def test_interruption_and_removed_neutral():
    f = Feeder()
    only(f, "interruption", ["v1", "v2", "v3"], v=0.0, i=0.0, p=0.0)
    only(f, "neutral_removed", ["v1", "v2", "v3"], v=0.02, p=0.0)
    only(f, "neutral_removed", ["v1", "v2", "v3"], v=0.0, i=0.0, i2=0.04, p=0.0)
    assert f.judge(v=0.08, i=0.0, p=0.0) != ["interruption"]
    assert "neutral_removed" not in f.judge(v=0.0, i=0.02, p=0.0)


def test_unbalance():
    f = Feeder()
    only(f, "unbalance", ["v3"], v3=0.88)
    only(f, "unbalance", ["v3"], v3=1.12)
    only(f, None, [], v3=0.96)
    assert "unbalance" not in f.judge(v3=0.2, i3=0.0, p3=0.0)
    assert "unbalance" not in f.judge(v3=0.85, i3=4.0)


def test_clamps():
    f = Feeder()
    only(f, "ct_reversed", ["p2"], p2=-0.25)
    only(f, None, [], p2=-0.01)
    only(f, None, [], p2=-0.25, i2=0.015)
    only(f, "ct_disconnected", ["i2", "p2"], i2=0.004, p2=0.0)
    only(f, None, [], i2=0.012, p2=0.01)
    only(f, None, [], i=0.0, p=0.0)
    only(f, "ct_saturation", ["i2"], slots={"i2": ("quiet", 300)}, i2=0.28)
    only(f, None, [], slots={"i2": ("quiet", 250)}, i2=0.28)
    only(f, None, [], slots={"i2": ("quiet", 300)}, i2=0.17)


def test_a_clamp_that_ends_at_one_current_is_saturated():
    f = Feeder()
    f.inputs.rest()
    for load in (0.25, 0.2, 0.12) * 180 + (0.25, 0.25):
        f.judge(i2=load)
    assert f.found() == ["ct_saturation"] and f.guilty() == ["i2"], "0.25 of 0.3, and never more"
    for _ in range(10):
        only(f, "ct_saturation", ["i2"], i2=0.2)
    only(f, None, [], i2=0.2)
    only(f, "ct_saturation", ["i2"], i2=0.249)
    only(f, None, [], i2=0.28)
    only(f, None, [], i2=0.25)


def test_a_load_that_was_there_while_learning_is_no_saturation():
    f = Feeder(learnt=False)
    f.judge()
    for day in range(6):
        for minute in range(0, 1440, 5):
            car, kettle = minute < 240, minute in (1080, 1085) and day < 4
            f.values[4] = 80.0 if kettle else 40.0 if car else 3.0
            f.inputs.row(f.values, day < 3)
            f.rules.judge()
            assert not f.found() or f.found() == ["unbalance"], (day, minute, f.found())


def test_clamps_need_to_know_the_usual():
    f = Feeder(learnt=False)
    assert f.judge(i2=0.0, p2=0.0) == []
    for k in range(100):
        f.values[4] = 30.0 * (k % 16 > 0)  # now and then without current
        f.values[9] = -2300.0  # generates
        f.inputs.row(f.values, True)
    assert "ct_disconnected" not in f.judge(i2=0.0, p2=0.0) and "ct_reversed" not in f.judge(p3=-0.2)
    assert f.judge(i1=0.0, p1=0.0) == ["ct_disconnected"] and f.judge(p1=-0.2) == ["ct_reversed"]


def test_heat():
    f = Feeder()
    only(f, None, [], slots={"t_joint": ("ratio", 260)})
    only(f, "overheating_joint", ["t_joint"], slots={"t_joint": ("ratio", 300)})
    assert f.rules.priorities[f.rules.top] == 2
    only(f, "overheating_joint", ["t_joint"], slots={"t_joint": ("ratio", 300)}, t_joint=61.0)
    assert f.rules.priorities[f.rules.top] == 1, "more than 40 K above the air"
    only(f, "overheating_joint", ["t_joint"], t_joint=91.0)
    only(f, None, [], t_joint=88.0)
    only(f, "overheating_joint", ["t_joint"], t_joint=106.0, t_ambient=NAN)
    only(f, None, [], t_joint=104.0, t_ambient=NAN)
    only(f, "overheating_load", ["t_joint", "i1", "i2", "i3"], t_joint=91.0, i=0.97)
    only(f, "overheating_load", ["t_joint", "i1", "i2", "i3"], slots={"t_joint": ("ratio", 300)}, i2=0.97)


def test_condensation():
    f = Feeder()
    only(f, None, [], humidity=87.0)
    only(f, "condensation", ["humidity"], humidity=92.0)
    only(f, "condensation", ["humidity"], humidity=90.0, t_joint=19.0)
    only(f, "condensation", ["humidity"], humidity=93.0, t_joint=NAN, t_ambient=NAN)
    only(f, None, [], humidity=91.0, t_joint=NAN, t_ambient=NAN)


def test_tamper():
    f = Feeder()
    only(f, "tamper", ["cover"], cover=1.0)
    assert f.rules.priorities[f.rules.top] == 2
    only(f, "tamper", ["cover"], cover=0.1)
    only(f, "tamper", ["cover"], cover=1 / 600)
    only(f, None, [], cover=0.0)
    only(f, None, [], cover=NAN)
    assert f.judge(v=0.0, i=0.3, p=0.0, cover=1.0) == ["neutral_removed", "tamper"], "each by itself"


def test_sensors():
    f = Feeder()
    for name in NAMES:
        only(f, "sensor_stuck", [name], slots={name: ("stuck", 1000)})
        only(f, "sensor_disconnected", [name], slots={name: ("lost", 1000)})
        assert NAMES[f.rules.where] == name
    only(f, "sensor_stuck", ["i2"], slots={"i2": ("stuck", 1000)}, i2=0.29)


def test_one_phase():
    f = Feeder(names=["voltage", "current", "power", "temperature", "humidity"])
    for want, row in (
        ("short_circuit", {"v": 0.5, "c": 4.0}),
        ("overload", {"c": 1.3}),
        ("voltage_sag", {"v": 0.6}),
        ("voltage_swell", {"v": 1.15}),
        ("interruption", {"v": 0.0, "c": 0.0, "p": 0.0}),
        ("neutral_removed", {"v": 0.0, "p": 0.0}),
        ("ct_reversed", {"p": -0.2}),
        ("overheating_joint", {"t": 110.0}),
        ("condensation", {"h": 95.0}),
    ):
        assert f.judge(**row) == [want], (want, f.found())
    assert f.judge(c=0.0, p=0.0) == [], "nothing else carries on"


def test_volts_alone():
    f = Feeder(names=["v1", "v2", "v3"])
    assert f.judge(v=0.7) == ["voltage_sag"] and f.judge(v=0.0) == ["interruption"]
    assert f.judge(v2=0.88) == ["unbalance"]


def test_most_severe_first():
    f = Feeder()
    assert f.judge(humidity=99.0, i1=1.22, v3=0.0, i3=0.0, p3=0.0) == ["phase_loss", "overload", "condensation"]
    assert f.judge(humidity=99.0, i1=1.3, v3=0.0, i3=0.0, p3=0.0)[0] == "phase_loss", "in the table's order"
    assert f.judge(v3=0.88, i1=1.05) == ["overload", "unbalance"]
    f.judge(i1=1.04, humidity=95.0)
    assert f.found() == ["condensation", "overload"], "of the same priority: the surer one"
    assert f.rules.faults()[0] == ("condensation", 1000) and 500 <= f.rules.faults()[1][1] < 800
    assert f.rules.guilt[NAMES.index("i1")] == f.rules.faults()[1][1]


def conditions(rule):
    yield from rule.get("all", [])
    for group in rule.get("any", []):
        yield from group


def at(rule, name, electrical):
    if name in INPUTS["device"]:
        return INPUTS["device"].index(name)
    return electrical.columns[rule["each"]][0] + INPUTS[rule["each"]].index(name)


def met(inputs, wanted):
    """Give every input of the conditions the value that meets all of them; False if they exclude each other."""
    least = {}
    most = {}
    for place, start, full in wanted:
        if full > start:
            least[place] = max(full, least.get(place, -32000))
        else:
            most[place] = min(full, most.get(place, 32000))
    for place in set(least) | set(most):
        if least.get(place, -32000) > most.get(place, 32000):
            return False
        inputs[place] = least[place] if place in least else most[place]
    return True


def each_way():
    """(rules of one rule, inputs, groups with places) of every way to meet a rule of the table."""
    for rule in table():
        for group in rule.get("any") or [[]]:
            electrical = Electrical(NAMES, LIMITS)
            one = dict(rule)
            if group:
                one["any"] = [group]
            rules = Rules([one], electrical)
            wanted = [(at(rule, n, electrical), a, b) for n, a, b in rule.get("all", []) + group]
            yield rule["fault"], rules, electrical.inputs, wanted


def test_every_condition_counts():
    count = 0
    for fault, rules, inputs, wanted in each_way():
        for k in range(len(inputs)):
            inputs[k] = NONE
        if not met(inputs, wanted):
            continue
        rules.judge()
        assert rules.degrees[0] == 1000 and rules.names[rules.top] == fault, (fault, rules.degrees[0])
        for place, start, full in wanted:
            kept = inputs[place]
            half = start + (full - start) // 2
            step = 1 if full > start else -1
            others = [one for one in wanted if one[0] == place and one[1:] != (start, full)]
            if not others:
                inputs[place] = half + step
                rules.rest()
                rules.judge()
                assert 500 <= rules.degrees[0] <= 800 and rules.top == 0, (fault, place, rules.degrees[0])
            inputs[place] = half - 2 * step
            rules.rest()
            rules.judge()
            assert rules.degrees[0] < 500 and rules.top == -1, (fault, place, rules.degrees[0])
            inputs[place] = start
            rules.judge()
            assert rules.degrees[0] == 0, (fault, place)
            inputs[place] = NONE
            rules.judge()
            assert rules.degrees[0] == 0 and max(rules.guilt) == 0, (fault, place)
            inputs[place] = kept
            count += 1
    assert count > 80, count


def test_missing_signals_hold_nothing():
    f = Feeder()
    row = dict.fromkeys(("v", "i", "p", "i_n", "t_joint", "t_ambient", "humidity"), NAN)
    assert f.judge(**row) == [] and max(f.rules.degrees) == 0
    for name, faults in (
        ("v1", {"i1": 4.0, "v1": 0.3}), ("i1", {"v1": 0.2, "i1": 0.0}), ("p1", {"p1": -0.2}),
        ("humidity", {"humidity": 99.0}), ("t_joint", {"t_joint": 120.0}),
    ):  # fmt: skip
        faults = dict(faults)
        assert f.judge(**faults) != []
        told = f.found()[0]
        faults[name] = NAN
        assert told not in f.judge(**faults), (name, told)
