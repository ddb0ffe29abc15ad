"""Range rules with hysteresis, verdict, windows, report."""

import gc
import json
from array import array

from gridnode import anomaly, energy, reading, report, shadow
from gridnode.pipeline import Pipeline
from gridnode.setup import calibration, judge, pipeline, rules

LIMITS = {
    "voltage": {"low": 207, "high": 253, "hysteresis": 2, "priority": 2},
    "current": {"high": 60, "hysteresis": 1, "priority": 1},
}


def block(**values):
    x = reading.Reading("main")
    x.at[0].update(values)
    x.ms = 200
    return x


def judge_of(limits=LIMITS):
    return anomaly.Judge(rules.of(limits, ("voltage", "current", "frequency"), 1))


def feed(judge, count, **values):
    changes = []
    for _ in range(count):
        changes += judge.block(block(**values))
    return [(c.signal, c.raised) for c in changes]


def test_alarm_with_hold_and_hysteresis():
    judge = judge_of()
    assert feed(judge, 10, voltage=230.0, current=59.9) == []
    assert feed(judge, 2, voltage=230.0, current=61.0) == [], "400 ms is no alarm yet"
    assert feed(judge, 1, voltage=230.0, current=61.0) == [("current", True)]
    v = verdict(judge)
    assert v["alarm"] and v["priority"] == 1 and v["kinds"] == {"current": "range_high"}
    assert 0.5 <= v["grade"] <= 1 and v["signals"] == {"current": v["grade"]}
    assert feed(judge, 50, voltage=230.0, current=59.5) == [], "still within the hysteresis"
    assert feed(judge, 5, voltage=230.0, current=58.9) == [("current", False)]
    v = verdict(judge)
    assert v == {"grade": 0.0, "alarm": False, "priority": None, "signals": {}, "kinds": {}, "model": "off"}


def test_a_short_excursion_is_no_alarm():
    judge = judge_of()
    for _ in range(20):
        assert feed(judge, 2, voltage=260.0) == []
        assert feed(judge, 1, voltage=230.0) == []


def test_missing_values_change_nothing():
    judge = judge_of()
    feed(judge, 5, voltage=190.0)
    assert feed(judge, 100, voltage=None) == []
    assert verdict(judge)["kinds"] == {"voltage": "range_low"}


def test_families_and_single_phases():
    def signals(key, phases):
        return [rule.signal for rule in rules.of({key: {}}, ("voltage", "current"), phases)]

    assert signals("v", 3) == ["v1", "v2", "v3"]
    assert signals("v", 1) == ["voltage"]
    assert signals("i2", 3) == ["i2"]
    assert signals("voltage", 3) == ["voltage"]
    assert signals("temperature", 3) == [], "another meter's business"
    for bad in ("v4", "x", "v0", "voltagge"):
        try:
            signals(bad, 3)
        except ValueError:
            continue
        raise AssertionError(bad)


def test_sentence():
    judge = judge_of()
    for _ in range(3):
        change = judge.block(block(current=64.2, voltage=230.0))
    assert change[0].text == "current 64.2 A is above 60 A", change[0].text


def test_window_averages_as_the_standards_do():
    w = reading.Window("main", extremes=("voltage",))
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
        x = block(voltage=230.0, current=10.0, power=2300.0)
        if k < 3:
            x.spoil(0, "current", "saturated")
            x.spoil(0, "power", "saturated")
        if k == 5:
            x.spoil(0, "voltage", "bus_fault")
        x.derive()
        w.add(x)
    out = w.finish(0)
    assert out.at[0]["current"] is None and out.at[0]["apparent_power"] is None
    assert out.quality == {"current": "saturated", "power": "saturated"}, out.quality
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
    c = calibration.correction(spec, {"version": 2, "meters": {"main": {"voltage": [{"gain": 1.1}]}}})
    x = block(voltage=100.0, current=2.0, power=0.0, reactive_power=-200.0)
    c.correct(x)
    assert abs(x.at[0]["voltage"] - 110) < 1e-3 and abs(x.at[0]["power"] - 220) < 1e-2, x.at
    short = {"version": 2, "meters": {"main": {"adc_table": [1, 2]}}}
    wild = {"version": 2, "meters": {"main": {"voltage": [{"gain": 9}]}}}
    for stored in ({"version": 1, "meters": {}}, short, wild):
        try:
            judge.check(stored)
        except ValueError:
            continue
        raise AssertionError(stored)


class Meter:
    counts_energy = True
    names = ("voltage", "current", "power", "frequency", "temperature")

    def __init__(self, phases=1, id="main"):
        self.phases = phases
        self.id = id


def reported(*pipelines):
    sh = shadow.Shadow("n1")
    sh.begin()
    report.meters(sh, pipelines, 0)
    sh.finish()
    return bytes(sh.reported)


def way(meter, book, flat, window=None):
    p = Pipeline(meter, None, book, None, None, None, flat)
    p.window = window
    return p


def verdict(judge):
    p = way(Meter(), None, None)
    p.judge = judge
    return anomaly.verdict([p])


def test_report_has_field_names_and_all_digits_of_the_energy():
    book = energy.Ledger(1, 20000)
    book.total[0][0] = 123456789123
    w = reading.Window("main")
    x = block(voltage=230.12345, current=None, power=-0.04)
    x.quality["current"] = "saturated"
    x.flags = ("sag_v1",)
    x.covered_ms = 197.53
    w.add(x)
    w.add(x)
    text = reported(way(Meter(), book, Meter.names, w))
    out = json.loads(text)
    assert abs(out["voltage"] - 230.12) < 1e-4 and "current" not in out
    assert b'"energy_import_wh":123456789.123,"energy_export_wh":0.000' in text, text
    assert out["quality"] == {"current": "saturated"} and out["coverage"] == 0.988
    assert out["flags"] == ["sag_v1"]


def test_flat_values_of_a_second_meter_stand_in_for_those_of_the_first():
    profile = {"meters": [{"id": "main"}, {"id": "air", "flat": True}, {"id": "sub"}]}
    chip, air, sub = Meter(), Meter(1, "air"), Meter(1, "sub")
    air.names, air.counts_energy = ("temperature", "humidity"), False
    flat = pipeline.flat_names(profile, [chip, air, sub])
    assert flat == [("voltage", "current", "power", "frequency"), ("temperature", "humidity"), None] or (
        set(flat[0]) == {"voltage", "current", "power", "frequency"} and set(flat[1]) == {"temperature", "humidity"}
    ), flat
    first, second, third = reading.Window("main"), reading.Window("air"), reading.Window("sub")
    x = block(voltage=230.0, temperature=41.0)
    x.quality.update({"temperature": "stale", "power": "saturated"})
    first.add(x)
    x = block(temperature=25.5, humidity=None)
    x.quality["humidity"] = "bus_fault"
    second.add(x)
    third.add(block(voltage=231.0))
    book = energy.Ledger(1, 20000)
    ways = way(chip, book, flat[0], first), way(air, None, flat[1], second), way(sub, book, flat[2], third)
    out = json.loads(reported(*ways))
    assert out["temperature"] == 25.5 and out["voltage"] == 230.0 and out["quality"] == {
        "humidity": "bus_fault",
        "power": "saturated",
    }, out
    assert out["meters"]["sub"]["voltage"] == 231.0 and out["meters"]["sub"]["energy_import_wh"] == 0


def test_harmonics_in_percent_of_the_fundamental():
    w = reading.Window("main")
    for k in range(4):
        x = block(voltage=230.0, current=10.0)
        # the third block has no trustworthy current
        x.spectrum = [(array("f", [50000.0, -1.0, 500.0]), None if k == 2 else array("f", [100.0, 1.0, 25.0]))]
        w.add(x)
    rows = reading.Window("main")
    rows.add(w.finish(0))
    out = json.loads(reported(way(Meter(), energy.Ledger(1, 20000), Meter.names, rows)))
    assert [round(h, 1) for h in out["harmonics_voltage"]] == [0, 10], out
    assert [round(h, 1) for h in out["harmonics_current"]] == [10, 50], out
    w.restart()
    assert b"harmonics_voltage" not in reported(way(Meter(), energy.Ledger(1, 20000), Meter.names, w))


def test_newest_value_of_what_no_mean_makes_sense_of():
    w = reading.Window("main", names=("phase_angle", "power"))
    for angle in (179.0, -179.0):
        w.add(block(phase_angle=angle, power=angle))
    out = w.finish(0).at[0]
    assert abs(out["phase_angle"] + 179) < 1e-3 and abs(out["power"]) < 1e-3, out


def test_totals_that_the_device_measures_itself():
    x = reading.Reading("main", 3)
    for k in (1, 2, 3):
        x.at[k].update({"voltage": 230.0, "current": 10.0, "power": 1000.0})
    x.at[0].update({"power": 2999.0})
    x.own_totals = ("power",)
    x.ms = 200
    x.derive()
    w = reading.Window("main", 3)
    w.add(x)
    assert w.finish(0).at[0]["power"] == 2999.0 and w.finish(0).at[0]["current"] == 10.0


def test_a_faulty_meter_says_so_once_per_signal():
    x = reading.Reading("main", 3)
    x.clear(("voltage", "frequency"), "bus_fault")
    assert x.quality == {"v1": "bus_fault", "v2": "bus_fault", "v3": "bus_fault", "frequency": "bus_fault"}, x.quality
    x = reading.Reading("main")
    x.clear(("voltage", "frequency"), "stale")
    assert x.quality == {"voltage": "stale", "frequency": "stale"}


def test_flags_are_told_when_they_turn_and_do_not_flicker():
    p = way(Meter(), None, None)
    x = block()
    x.ms = 1000

    def turned(*flags):
        x.flags = flags
        return p.turned(x)

    assert turned("sag_v1") == [("sag_v1", True)]
    assert turned("sag_v1", "sequence") == [("sequence", True)]
    assert [turned() for _ in range(9)] == [[]] * 9 and turned("sequence") == [("sag_v1", False)]
    assert [turned() for _ in range(9)] == [[]] * 9 and turned() == [("sequence", False)]


def test_a_meter_slower_than_the_reports_keeps_its_value():
    slow = Meter(1, "air")
    slow.reading = block(temperature=25.5)
    p = Pipeline(slow, None, None, None, reading.Window("air"), reading.Window("air"))
    p.row.add(slow.reading)
    for _ in range(3):  # the second and third report come before its next reading
        p.close_row(0)
        assert p.choose(False) and p.window.finish(0).at[0]["temperature"] == 25.5
        p.report.restart()
    slow.reading.clear(("temperature",), "bus_fault")
    assert p.choose(True) and p.window.finish(0).quality == {"temperature": "bus_fault"}


def test_judging_and_averaging_do_not_grow():
    judge, w = judge_of(), reading.Window("main", extremes=("voltage",))
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
