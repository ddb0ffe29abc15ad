"""The rules of faults as an engine: degrees, compiling, refusals, judging without allocation."""

import json
import micropython
import random
from array import array

from feeder import LIMITS, NAMES, NAN, Feeder, table
from gridnode.anomaly.electrical import Electrical
from gridnode.anomaly.fuzzy import Rules

FIXTURES = ("faults",)
HEAP_KW = 192

RULE = {"fault": "test", "priority": 3, "each": "phase", "all": [["v", 900, 800]], "guilty": ["v"]}


def changed(**parts):
    rule = dict(RULE)
    rule.update(parts)
    return {key: value for key, value in rule.items() if value is not None}


def test_degrees():
    f = Feeder([RULE])
    for v, degree in ((1.0, 0), (0.9, 0), (0.89, 100), (0.85, 500), (0.8, 1000), (0.1, 1000)):
        f.judge(v1=v)
        assert f.rules.degrees[0] == degree, (v, f.rules.degrees[0])
    f = Feeder([changed(any=[[["i", 500, 600]], [["p", 100, 0], ["i", 500, 400]]])])
    for i, p, degree in ((0.55, 0.9, 500), (0.3, 0.9, 0), (0.3, 0.03, 700), (0.59, 0.0, 900), (0.5, 0.5, 0)):
        f.judge(v1=0.5, i1=i, p1=p)
        assert f.rules.degrees[0] == degree, (i, p, f.rules.degrees[0])
    f.judge(v1=0.84, i1=0.6)
    assert f.rules.degrees[0] == 600, "all of `all`"


def test_a_fault_that_holds_goes_on_down_to_300():
    f = Feeder()

    def at(share):
        f.values[f.names.index("i1")] = 100 * share
        f.inputs.row(f.values)
        f.rules.judge()
        return f.rules.faults(), f.guilty()

    assert at(1.024) == ([], []) and f.rules.top == -1
    assert at(1.036) == ([("overload", 600)], ["i1"])
    for _ in range(3):
        assert at(1.019) == ([("overload", 500)], ["i1"]) and f.rules.top >= 0
    assert at(1.017) == ([], []) and f.rules.top == -1
    assert at(1.024) == ([], [])


def test_rules_may_come_one_by_one():
    lines = [json.dumps(rule) for rule in table()]
    f = Feeder(json.loads(line) for line in lines)
    assert len(f.rules.names) == len(lines) and f.judge(v=0.7) == ["voltage_sag"]


def test_a_fault_of_several_rules():
    f = Feeder([changed(), changed(priority=1, all=[["v", 300, 200]])])
    f.judge(v1=0.5)
    assert f.rules.faults() == [("test", 1000)] and f.rules.priorities[f.rules.top] == 3
    f.judge(v2=0.22)
    assert f.rules.faults() == [("test", 800)] and f.rules.priorities[f.rules.top] == 1 and f.rules.where == 1


def test_malformed_tables_are_refused():
    for rules, word in (
        ({"a": 1}, "rule 1 (a)"), (None, "list"), (5, "list"), ("x", "rule 1 (x)"),
        ([5], "rule 1 (5)"), ([RULE, {}], "rule 2"), ([[]], "rule 1"),
        ([changed(fault=None)], "fault"), ([changed(fault=7)], "name"), ([changed(priority=0)], "priority"),
        ([changed(priority="1")], "priority"), ([changed(each="wire")], "wire"), ([changed(each=[])], "rule 1 (test)"),
        ([changed(all=None)], "no condition"), ([changed(all=[])], "no condition"), ([changed(all=5)], "rule 1"),
        ([changed(any=[[]])], "no condition"), ([changed(any={})], "rule 1"), ([changed(any="v")], "rule 1"),
        ([changed(all=[["volts", 1, 2]])], "volts"), ([changed(all=[["rise", 1, 2]])], "phase has not"),
        ([changed(all=[["v", 1]])], "rule 1 (test)"), ([changed(all=[["v", 1, 2, 3]])], "rule 1 (test)"),
        ([changed(all=[["v", 1, 1]])], "no way"), ([changed(all=[["v", 0.5, 1]])], "integer"),
        ([changed(all=[["v", None, 1]])], "integer"), ([changed(all=[["v", 0, 40000]])], "integer"),
        ([changed(all=[["v", 0, 1 << 40]])], "integer"), ([changed(all=[[7, 0, 1]])], "7"),
        ([changed(all=[7])], "rule 1"), ([changed(guilty=None)], "guilty"), ([changed(guilty=5)], "rule 1"),
    ):  # fmt: skip
        try:
            Rules(rules, Electrical(NAMES, LIMITS))
        except ValueError as err:
            assert word in str(err), (rules, str(err))
        else:
            raise AssertionError(rules)
    try:
        Rules([RULE], Electrical(["s%d" % k for k in range(31)], LIMITS))
    except ValueError as err:
        assert "30 signals" in str(err)
    else:
        raise AssertionError("31 signals")


def test_random_tables_are_compiled_or_refused():
    random.seed(3)
    good = json.dumps(table())
    pieces = ('"v"', "null", "-1", "[]", "{}", "99999999999", '"all"', "0.5", '""', "true")
    refused = 0
    for _ in range(150):
        k = random.getrandbits(14) % len(good)
        text = good[:k] + random.choice(pieces) + good[k + random.getrandbits(3) :]
        try:
            rules = json.loads(text)
        except ValueError:
            continue
        try:
            Rules(rules, Electrical(NAMES, LIMITS)).judge()
        except ValueError:
            refused += 1
    assert refused


def test_judging_allocates_nothing():
    f = Feeder()
    rows = [f.values, array("f", [NAN] * len(NAMES)), array("f", [0.0] * len(NAMES)), array("f", [900.0] * len(NAMES))]
    micropython.heap_lock()
    try:
        for row in rows:
            f.inputs.row(row)
            f.rules.judge()
    finally:
        micropython.heap_unlock()


def test_any_inputs_are_judged():
    random.seed(9)
    f = Feeder()
    inputs = f.inputs.inputs
    micropython.heap_lock()
    try:
        for _ in range(300):
            for k in range(len(inputs)):
                x = random.getrandbits(16) - 32768
                inputs[k] = x if random.getrandbits(2) else x >> 5
            f.rules.judge()
            for degree in f.rules.degrees:
                assert 0 <= degree <= 1000
    finally:
        micropython.heap_unlock()
    for _ in range(200):
        f.inputs.row(array("f", bytes(random.getrandbits(8) for _ in range(4 * len(NAMES)))))
        f.rules.judge()
        f.found()
