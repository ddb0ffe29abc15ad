"""The measuring code measures: what is wrong on purpose shows up, what is right passes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from gridnode_host import resources
from gridnode_host.bench.figures import accuracy, cost, memory, points, probe, startup, tables
from gridnode_host.bench.figures.points import FLAT, LAGGING, PULSE, SINE, Limits, Point, Result
from gridnode_host.bench.rig_node import RigNode
from gridnode_host.bench.shapes import thd
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

TRUTH = {"voltage": 230.0, "current": 30.0, "power": 6900.0, "frequency": 50.0}
RIGHT = {**TRUTH, "coverage": 0.9}


def judged(*reports: dict[str, Any], point: Point | None = None, truth: Any = None) -> Result:
    result = Result(replace(point or Point(50, SINE), readings=len(reports)))
    for report in reports:
        result.add(report, truth or TRUTH)
    return result


# -- judgement ---------------------------------------------------------------------------------


def test_right_readings_pass():
    result = judged(RIGHT, RIGHT)
    assert result.verdict() == (True, "")
    assert result.row("home-60a-ct", 60.0, 1)["A"] == 30.0


@pytest.mark.parametrize(
    ("name", "factor"), [("voltage", 1.004), ("current", 0.996), ("power", 1.006), ("frequency", 1.0005)]
)
def test_the_worst_of_the_readings_counts(name, factor):
    wrong = {**RIGHT, name: RIGHT[name] * factor}
    ok, remark = judged(RIGHT, wrong, RIGHT).verdict()
    assert not ok
    assert remark == name


def test_errors_are_in_percent_and_millihertz():
    wrong = {"voltage": 231.15, "current": 29.94, "power": 6865.5, "frequency": 49.99, "coverage": 0.9}
    worst = judged(wrong).worst
    assert worst["voltage"] == pytest.approx(0.5)
    assert worst["current"] == pytest.approx(0.2)
    assert worst["power"] == pytest.approx(0.5)
    assert worst["frequency"] == pytest.approx(10.0)


def test_limits_depend_on_the_load():
    off = {**RIGHT, "power": 6900.0 * 1.008}
    assert not judged(off).verdict()[0]
    assert judged(off, point=Point(50, LAGGING)).verdict()[0]
    off = {**RIGHT, "current": 30.0 * 1.008}
    assert judged(off, point=Point(50, PULSE)).verdict()[0]
    assert not judged({**RIGHT, "current": 30.4}, point=Point(50, PULSE)).verdict()[0]


def test_missing_values_and_missing_readings_fail():
    without = {name: value for name, value in RIGHT.items() if name != "power"}
    assert judged(RIGHT, without).verdict() == (False, "1 without value")
    assert judged({**RIGHT, "quality": {"power": "stale"}}).verdict()[0] is False
    few = Result(Point(50, SINE, readings=3))
    few.add(RIGHT, TRUTH)
    assert few.verdict() == (False, "too few readings")


def test_one_bad_phase_of_three_fails():
    line = {name: TRUTH[name] for name in ("voltage", "current", "power")}
    truth = {**TRUTH, "l1": line, "l2": line, "l3": line}
    good = {**RIGHT, "l1": line, "l2": line, "l3": line}
    assert judged(good, truth=truth).verdict()[0]
    assert not judged({**good, "l2": {**line, "power": 7000.0}}, truth=truth).verdict()[0]
    assert not judged({name: good[name] for name in good if name != "l3"}, truth=truth).verdict()[0]


def test_a_saturated_point_asks_for_a_refusal():
    point = Point(100, PULSE, fits=False)
    refused = {"voltage": 230.0, "frequency": 50.0, "quality": {"current": "saturated"}, "coverage": 0.9}
    assert judged(refused, refused, point=point).verdict() == (True, "saturated, refused")
    assert judged(refused, RIGHT, point=point).verdict() == (False, "saturated, NOT NOTICED")


def test_points_cover_the_range_and_fit_the_converter():
    for load in (PULSE, FLAT):
        assert thd(load.harmonics) == pytest.approx(100.0, abs=0.1)
    assert FLAT.crest == pytest.approx(1.5396, abs=1e-3)
    for name in accuracy.PROFILES:
        profile = resources.profile(name)
        chosen = points.points(profile)
        amperes, peak = profile["rating"]["current"], points.room(profile)
        for point in chosen:
            assert (point.load.crest * amperes * point.share / 100 < peak) == point.fits, point
        for share in points.SHARES:
            for want in (SINE.limits, LAGGING.limits, Limits(current=1.0, power=None)):
                assert any(
                    p.share == share and p.load.limits == want and p.fits and p.readings == 100 for p in chosen
                ), (name, share, want)
        work = [job for job in accuracy.jobs() if job.profile == name]
        assert sorted(map(repr, chosen)) == sorted(repr(point) for job in work for point in job.points)


# -- a real node -------------------------------------------------------------------------------


def test_a_wrong_gain_shows_up(monkeypatch):
    # The sensors of this node have 1 % more gain than its calibration says.
    init = RigNode.__init__

    def spoilt(self: RigNode, *args: Any, **settings: Any) -> None:
        init(self, *args, **settings)
        for channel in self.calibration["meters"]["main"]["voltage"]:
            channel["gain"] *= 1.01

    monkeypatch.setattr(RigNode, "__init__", spoilt)
    job = accuracy.Job("home-60a-ct", 1, 8, (Point(50, SINE, readings=3), Point(100, PULSE, fits=False, readings=3)))
    steps = []
    sine, pulses = accuracy.measure(job, lambda: steps.append(1))
    assert sine.worst["voltage"] == pytest.approx(1.0, abs=0.1)
    assert sine.worst["power"] == pytest.approx(1.0, abs=0.2)
    assert sine.worst["current"] < 0.3
    assert sine.worst["frequency"] < 20
    assert set(sine.verdict()[1].split(", ")) == {"voltage", "power"}
    assert pulses.verdict() == (True, "saturated, refused")
    assert len(steps) == 6
    rows = accuracy.table([(job, sine), (job, pulses)])
    assert not rows.ok


def test_a_job_that_fails_ends_the_campaign():
    work = [accuracy.Job("no-such-profile", 1, 8, (Point(50, SINE),))]
    with pytest.raises(GridnodeError, match="no-such-profile") as failed:
        accuracy.campaign(lambda done, total: None, work)
    assert failed.value.exit == Exit.USAGE


def test_heap_of_a_running_node():
    (heap,) = memory.observe(["home-60a-ct"], lambda done, total: None, reports=12)
    assert len(heap.free) == 12
    assert 0 < max(heap.free) < heap.size
    assert "gridnode.meters.ct" in heap.modules
    assert "gridnode.meters.atm90e32" not in heap.modules
    row = memory.heap([heap]).rows[0]
    assert 20 < row["on the chip KB"] <= row["used KB"] < 256
    sums = [row for row in memory.rooms([heap]).rows if row["room"] == "sum of home-60a-ct"]
    assert 20_000 < sums[0][".mpy"] < 100_000


def test_a_leak_shows_up():
    steady = memory.Heap("p", tuple(100_000 + 32 * (k % 3) for k in range(100)), 200_000, frozenset())
    leaking = replace(steady, free=tuple(100_000 - 16 * k for k in range(100)))
    early = replace(steady, free=tuple(max(100_000 - 16 * k, 99_200) for k in range(100)))
    assert memory.heap([steady]).ok
    assert not memory.heap([leaking]).ok
    assert leaking.growth() == pytest.approx(16.0)
    assert memory.heap([early]).ok


# -- inside the VM -----------------------------------------------------------------------------


def test_kernel_is_timed_and_allocates_nothing():
    table = cost.kernel()
    assert table.ok
    for row in table.rows:
        assert row["sets"] > 5500 // row["channels"]
        assert row["bytecode us"] > 0


def test_garbage_of_a_reading_is_counted():
    for row in cost.allocation(accuracy.PROFILES).rows:
        assert 0 < row["meter bytes"] < row["whole way bytes"] <= row["once a second"], row


def test_a_probe_that_fails_says_why():
    vm = next(iter(probe.machines().values()))
    with pytest.raises(GridnodeError, match="KeyError"):
        probe.run(vm, "blocks", {})


# -- start and output --------------------------------------------------------------------------


def test_start_waits_for_the_accepted_shadow(monkeypatch):
    heard = []
    wait = RigNode.wait_event

    def listen(self: RigNode, name: str, *args: Any, **settings: Any) -> dict[str, Any]:
        heard.append(name)
        return wait(self, name, *args, **settings)

    monkeypatch.setattr(RigNode, "wait_event", listen)
    row = startup.start("home-60a-ct")
    assert heard == ["accepted"]
    assert row["s"] > 1
    assert startup.table([{**row, "ok": False}]).ok is False


def test_tables_are_printed_and_stored(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(resources, "checkout", lambda: tmp_path)
    table = tables.Table("one", "Title", ["a note"], [{"x": 1, "ok": True}, {"y": 2, "ok": False}, {"x": 3}])
    assert not table.ok
    table.show(Output())
    text = capsys.readouterr().out
    assert "Title" in text and "FAIL" in text and "pass" in text and "a note" in text
    table.show(Output(as_json=True))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["subject", "one", "one", "one"]
    stored = json.loads(tables.store([table], {"version": 1}).read_text())
    assert stored["subjects"]["one"]["rows"][1] == {"y": 2, "ok": False}
    assert stored["subjects"]["one"]["ok"] is False


