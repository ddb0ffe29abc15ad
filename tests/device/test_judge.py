"""Range rules with hysteresis, verdict, windows, report."""

import gc
import json

from gridnode import anomaly, energy, reading, report, shadow
from gridnode.setup import calibration, rules

LIMITS = {
    "voltage": {"low": 207, "high": 253, "hysteresis": 2, "priority": 2},
    "current": {"high": 60, "hysteresis": 1, "priority": 1},
}


def block(**values):
    x = reading.Reading("main")
    x.at[0].update(values)
    x.ms = 200
    return x


def feed(judge, count, **values):
    changes = []
    for _ in range(count):
        changes += judge.block(block(**values))
    return [(c.signal, c.raised) for c in changes]


def test_alarm_with_hold_and_hysteresis():
    judge = anomaly.Judge(LIMITS, 1)
    assert feed(judge, 10, voltage=230.0, current=59.9) == []
    assert feed(judge, 2, voltage=230.0, current=61.0) == [], "400 ms is no alarm yet"
    assert feed(judge, 1, voltage=230.0, current=61.0) == [("current", True)]
    verdict = judge.verdict()
    assert verdict["alarm"] and verdict["priority"] == 1 and verdict["kinds"] == {"current": "range_high"}
    assert 0.5 <= verdict["grade"] <= 1 and verdict["signals"] == {"current": verdict["grade"]}
    assert feed(judge, 50, voltage=230.0, current=59.5) == [], "still within the hysteresis"
    assert feed(judge, 5, voltage=230.0, current=58.9) == [("current", False)]
    assert judge.verdict() == {"grade": 0.0, "alarm": False, "priority": None, "signals": {}, "kinds": {}}


def test_a_short_excursion_is_no_alarm():
    judge = anomaly.Judge(LIMITS, 1)
    for _ in range(20):
        assert feed(judge, 2, voltage=260.0) == []
        assert feed(judge, 1, voltage=230.0) == []


def test_missing_values_change_nothing():
    judge = anomaly.Judge(LIMITS, 1)
    feed(judge, 5, voltage=190.0)
    assert feed(judge, 100, voltage=None) == []
    assert judge.verdict()["kinds"] == {"voltage": "range_low"}


def test_families_and_single_phases():
    assert [r.signal for r in rules.ranges("v", {}, 3)] == ["v1", "v2", "v3"]
    assert [r.signal for r in rules.ranges("v", {}, 1)] == ["voltage"]
    assert [r.signal for r in rules.ranges("i2", {}, 3)] == ["i2"]
    assert [r.signal for r in rules.ranges("voltage", {}, 3)] == ["voltage"]
    for bad in ("v4", "x", "v0", "voltagge"):
        try:
            rules.ranges(bad, {}, 3)
        except ValueError:
            continue
        raise AssertionError(bad)


def test_sentence():
    judge = anomaly.Judge(LIMITS, 1)
    for _ in range(3):
        change = judge.block(block(current=64.2, voltage=230.0))
    assert change[0].text == "current 64.2 A is above 60 A", change[0].text


def test_window_averages_as_the_standards_do():
    w = reading.Window("main", 1, ("voltage",))
    for v, p, ms in ((230.0, 100.0, 200), (240.0, 300.0, 600)):
        x = block(voltage=v, current=1.0, power=p, reactive_power=0.0)
        x.ms, x.covered_ms = ms, ms // 2
        x.derive()
        w.add(x)
    out = w.finish(99)
    rms = ((230 * 230 + 3 * 240 * 240) / 4) ** 0.5
    assert abs(out.at[0]["voltage"] - rms) < 1e-3 and abs(out.at[0]["power"] - 250) < 1e-3
    assert abs(out.at[0]["apparent_power"] - (230 + 3 * 240) / 4) < 1e-3, "powers are means"
    assert out.at[0]["power_factor"] == 1, "never above 1"
    assert out.min == {"voltage": 230.0} and out.max == {"voltage": 240.0}
    assert w.coverage() == 0.5 and out.timestamp == 99 and out.ms == 800


def test_window_with_reasons():
    w = reading.Window("main")
    for k in range(10):
        x = block(voltage=230.0, current=10.0)
        if k < 3:
            x.spoil(0, "current", "saturated")
        if k == 5:
            x.spoil(0, "voltage", "bus_fault")
        w.add(x)
    out = w.finish(0)
    assert out.at[0]["current"] is None and out.quality == {"current": "saturated"}, out.quality
    assert out.at[0]["voltage"] == 230.0
    w.restart()
    assert w.finish(0).at[0]["voltage"] is None and w.coverage() is None


def test_totals_of_three_phases():
    x = reading.Reading("main", 3)
    for k in (1, 2, 3):
        x.at[k].update({"voltage": 230.0, "current": 10.0 * k, "power": 1000.0 * k, "reactive_power": 10.0})
    x.at[0]["frequency"] = 50.0
    x.derive()
    flat = x.at[0]
    assert flat["voltage"] == 230.0 and flat["current"] == 20.0 and flat["power"] == 6000.0
    assert flat["apparent_power"] == 13800.0 and abs(flat["power_factor"] - 6000 / 13800) < 1e-6
    w = reading.Window("main", 3)
    x.ms = 200
    w.add(x)
    out = w.finish(0).at[0]
    assert abs(out["voltage"] - 230) < 1e-3 and abs(out["current"] - 20) < 1e-3 and out["power"] == 6000.0, out
    x.spoil(2, "power", "bus_fault")
    x.at[0]["power"] = None
    x.derive()
    assert x.at[0]["power"] is None


def test_gains_and_phase_where_the_meter_applied_none():
    spec = {"id": "main", "voltage": [{}], "current": [{"phase_deg": 90.0}]}
    c = calibration.correction(spec, {"version": 1, "meters": {"main": {"voltage": [{"gain": 1.1}]}}})
    x = block(voltage=100.0, current=2.0, power=0.0, reactive_power=-200.0)
    c.correct(x)
    assert abs(x.at[0]["voltage"] - 110) < 1e-3 and abs(x.at[0]["power"] - 220) < 1e-2, x.at
    short = {"version": 1, "meters": {"main": {"adc_table": [1, 2]}}}
    wild = {"version": 1, "meters": {"main": {"voltage": [{"gain": 9}]}}}
    for stored in ({"version": 2}, short, wild):
        try:
            calibration.correction(spec, stored)
        except ValueError:
            continue
        raise AssertionError(stored)


def test_report_has_field_names_and_all_digits_of_the_energy():
    book = energy.Ledger(1, 20000)
    book.total[0][0] = 123456789123
    w = reading.Window("main")
    x = block(voltage=230.12345, current=None, power=-0.04)
    x.quality["current"] = "saturated"
    x.covered_ms = 197.53
    w.add(x)
    sh = shadow.Shadow("n1")
    sh.begin()
    report.meter(sh, w, book, 0)
    sh.finish()
    text = bytes(sh.reported)
    out = json.loads(text)
    assert abs(out["voltage"] - 230.12) < 1e-4 and "current" not in out
    assert b'"energy_import_wh":123456789.123,"energy_export_wh":0.000' in text, text
    assert out["quality"] == {"current": "saturated"} and out["coverage"] == 0.988


def test_judging_and_averaging_do_not_grow():
    judge, w = anomaly.Judge(LIMITS, 1), reading.Window("main", 1, ("voltage",))
    x = block(voltage=230.0, current=10.0, power=2300.0)
    for _ in range(20):
        judge.block(x)
        w.add(x)
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(200):
        judge.block(x)
        w.add(x)
    gc.collect()
    assert gc.mem_alloc() <= before + 128, gc.mem_alloc() - before
