"""The measuring code measures: what is wrong on purpose shows up, what is right passes."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from gridnode_host import resources
from gridnode_host.bench.figures import (
    accuracy,
    cost,
    events,
    front_ends,
    memory,
    plots,
    points,
    probe,
    running,
    startup,
    tables,
    workers,
)
from gridnode_host.bench.figures.event_matching import KINDS, Injected, Match, Told, match, plan
from gridnode_host.bench.figures.event_runs import Job, Run, run
from gridnode_host.bench.figures.front_ends import FRONT_ENDS, FrontEnd
from gridnode_host.bench.figures.judge import Result
from gridnode_host.bench.figures.loads import DIMMER, LAGGING, NOISY, SINE, SMPS
from gridnode_host.bench.figures.points import Point
from gridnode_host.bench.rig_node import RigNode
from gridnode_host.bench.shapes import thd
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

CHIP = FrontEnd("feeder-200a", "a chip")
CLAMP = front_ends.find("home-60a-ct")
TRUTH = {"voltage": 230.0, "current": 30.0, "power": 6900.0, "frequency": 50.0, "thd_current": 0.0}
RIGHT = {**TRUTH, "coverage": 0.9}
DIP, SWELL, INTERRUPTION = KINDS


def judged(
    *reports: dict[str, Any],
    point: Point | None = None,
    truth: Any = None,
    front_end: FrontEnd = CHIP,
) -> Result:
    point = replace(point or Point(SINE, 50), readings=len(reports))
    result = Result(front_end, point, truth or TRUTH)
    for report in reports:
        result.add(report)
    return result


# -- judgement ---------------------------------------------------------------------------------


def test_right_readings_pass():
    result = judged(RIGHT, RIGHT)
    assert result.verdict() == (True, "")
    row = result.row(60.0, 1)
    assert (row["A"], row["V %"], row["V % limit"], row["ok"]) == (30.0, 0.0, 0.2, True)


@pytest.mark.parametrize(
    ("name", "factor"), [("voltage", 1.0025), ("current", 0.9975), ("power", 1.006), ("frequency", 1.0003)]
)
def test_the_worst_of_the_readings_counts(name, factor):
    wrong = {**RIGHT, name: RIGHT[name] * factor}
    assert judged(RIGHT, wrong, RIGHT).verdict() == (False, f"over: {name}")


def test_errors_are_in_percent_and_millihertz():
    wrong = {"voltage": 231.15, "current": 29.94, "power": 6865.5, "frequency": 49.99, "coverage": 0.9}
    worst = judged(wrong).worst
    assert worst["voltage"] == pytest.approx(0.5)
    assert worst["current"] == pytest.approx(0.2)
    assert worst["power"] == pytest.approx(0.5)
    assert worst["frequency"] == pytest.approx(10.0)


def test_limits_depend_on_load_and_share():
    off = {**RIGHT, "power": 6900.0 * 1.008}
    assert not judged(off).verdict()[0]
    assert judged(off, point=Point(LAGGING, 50)).verdict()[0]
    off = {**RIGHT, "current": 30.1}
    assert not judged(off, point=Point(SINE, 5)).verdict()[0]
    assert judged(off, point=Point(SINE, 2)).verdict()[0]
    assert not judged({**RIGHT, "voltage": 231.0}, point=Point(SINE, 2)).verdict()[0]


def test_the_step_of_a_device_is_the_limit_where_it_is_coarser():
    pzem = front_ends.find("pzem-100a")
    off = {**RIGHT, "frequency": 50.09, "voltage": 230.4}
    ok, remark = judged(off, front_end=pzem).verdict()
    assert ok
    assert remark == "resolution: 0.1 Hz"
    assert judged({**RIGHT, "frequency": 50.11}, front_end=pzem).verdict() == (False, "over: frequency")
    assert not judged({**RIGHT, "voltage": 230.6}, front_end=pzem).verdict()[0]
    ade = front_ends.find("plug-ade7953")
    assert judged(RIGHT, front_end=ade).bounds["frequency"] == pytest.approx(1000 * 50.0**2 / 223_750)


def test_what_a_filter_takes_away_is_named_or_refused():
    ads = front_ends.find("pump-ads1115")
    off = {**RIGHT, "current": 29.2}
    assert judged(off, front_end=ads).verdict() == (False, "over: current")
    assert judged(off, front_end=ads, point=Point(DIMMER, 50)).verdict() == (True, "bandwidth: 3.5 %")
    without = {"current": None, "quality": {"current": "implausible"}}
    refused = judged(without, without, front_end=ads, point=Point(SMPS, 50))
    assert refused.verdict() == (True, "beyond its bandwidth, refused")
    assert not judged(without, RIGHT, front_end=ads, point=Point(SMPS, 50)).verdict()[0]


def test_missing_values_and_missing_readings_fail():
    without = {name: value for name, value in RIGHT.items() if name != "power"}
    assert judged(RIGHT, without).verdict() == (False, "1 without value: no reason given")
    assert judged({**RIGHT, "power": None, "quality": {"power": "stale"}}).verdict()[0] is False
    few = Result(CHIP, Point(SINE, 50, readings=3), TRUTH)
    few.add(RIGHT)
    assert few.verdict() == (False, "too few readings")


def test_one_bad_phase_of_three_fails():
    line = {name: TRUTH[name] for name in ("voltage", "current", "power")}
    truth = {**TRUTH, "l1": line, "l2": line, "l3": line}
    good = {**RIGHT, "l1": line, "l2": line, "l3": line}
    assert judged(good, truth=truth).verdict()[0]
    assert not judged({**good, "l2": {**line, "power": 7000.0}}, truth=truth).verdict()[0]
    assert not judged({name: good[name] for name in good if name != "l3"}, truth=truth).verdict()[0]


def test_a_saturated_point_asks_for_a_refusal():
    refused = {"voltage": 230.0, "frequency": 50.0, "quality": {"current": "saturated"}, "coverage": 0.9}
    point = Point(SMPS, 100, fits=False)
    assert judged(refused, refused, point=point).verdict() == (True, "saturated, refused")
    assert judged(refused, RIGHT, point=point).verdict() == (False, "saturated, NOT NOTICED")
    assert judged(refused, RIGHT).verdict() == (False, "1 without value: saturated")
    edge = Point(SINE, 120, fits=None)
    assert judged(refused, refused, point=edge).verdict()[0]
    assert judged(RIGHT, RIGHT, point=edge).verdict()[0]
    assert not judged(RIGHT, refused, point=edge).verdict()[0]


def test_harmonics_are_judged_order_by_order():
    spectrum = [100.0 * NOISY.harmonics.get(order, (0.0, 0.0))[0] for order in range(2, 16)]
    right = {**RIGHT, "harmonics_voltage": spectrum, "harmonics_current": spectrum}
    point = Point(NOISY, 50)
    assert judged(right, point=point, front_end=CLAMP).verdict()[0]
    assert judged(RIGHT, point=point, front_end=CLAMP).verdict() == (False, "1 without value: no reason given")
    wrong = {**right, "harmonics_current": [*spectrum[:3], spectrum[3] + 0.6, *spectrum[4:]]}
    result = judged(wrong, point=point, front_end=CLAMP)
    assert result.verdict() == (False, "over: harmonics_current")
    assert result.worst["harmonics_current"] == pytest.approx(0.6)


# -- the campaign ------------------------------------------------------------------------------


def test_points_cover_what_is_promised_for_every_front_end():
    assert thd(SMPS.harmonics) > 100.0
    for front_end in FRONT_ENDS:
        profile = front_end.resolved()
        chosen = points.points(front_end)
        assert {p.share for p in chosen if p.load is SINE} == {2, 5, 10, 20, 50, 100, 120}
        assert {p.frequency for p in chosen} == {45.0, 50.0, 60.0, 65.0}
        assert {p.load.name for p in chosen} >= {load.name for load in (SINE, SMPS, DIMMER, NOISY)}
        if "power" in front_end.offers:
            assert {round(p.load.phase_deg) for p in chosen} >= {0, 60, -37}
        assert all(p.readings == 100 for p in chosen if p.fits is not False)
        amperes, peak = profile["rating"]["current"], front_ends.peak_room(profile)
        for point in chosen:
            if point.fits is not None:
                fits = point.load.crest * amperes * point.share / 100 < peak
                assert point.fits == (fits and amperes * point.share / 100 <= front_end.most_a), point
        work = accuracy.jobs(chosen=[front_end])
        assert sorted(map(repr, chosen)) == sorted(repr(point) for job in work for point in job.points)
        assert all(60 % job.row_s == 0 for job in work)


@pytest.mark.parametrize("front_end", FRONT_ENDS, ids=lambda front_end: front_end.profile)
def test_every_front_end_keeps_its_limits(front_end):
    chosen = tuple(
        replace(point, readings=2)
        for point in points.points(front_end)
        if point.share == 50 and (point.load in (LAGGING, NOISY) or (point.load, point.frequency) == (SINE, 65.0))
    )
    for result in accuracy.measure(accuracy.Job(front_end.profile, front_end.period_s, chosen)):
        ok, remark = result.verdict()
        assert ok, (result.point, remark, result.worst)


def test_a_wrong_gain_shows_up(monkeypatch, tmp_path):
    # The sensors of this node have 1 % more gain than its calibration says.
    init = RigNode.__init__

    def spoilt(self: RigNode, *args: Any, **settings: Any) -> None:
        init(self, *args, **settings)
        for channel in self.calibration["meters"]["main"]["voltage"]:
            channel["gain"] *= 1.01

    monkeypatch.setattr(RigNode, "__init__", spoilt)
    job = accuracy.Job(
        "home-60a-ct", 1, (Point(SINE, 50, readings=3), Point(SMPS, 100, fits=False, readings=3))
    )
    steps: list[int] = []
    sine, pulses = accuracy.measure(job, lambda: steps.append(1))
    assert sine.worst["voltage"] == pytest.approx(1.0, abs=0.1)
    assert sine.worst["power"] == pytest.approx(1.0, abs=0.2)
    assert sine.worst["current"] < 0.3
    assert sine.worst["frequency"] < 10
    assert sine.verdict() == (False, "over: voltage, power")
    assert pulses.verdict() == (True, "saturated, refused")
    assert len(steps) == 6
    results = [(job, sine), (job, pulses)]
    assert not accuracy.table(results).ok
    (path,) = plots.accuracy(results, tmp_path)
    assert b"</svg>" in path.read_bytes()


def test_a_job_that_fails_ends_the_campaign():
    work = [accuracy.Job("no-such-profile", 1, (Point(SINE, 50),))]
    with pytest.raises(KeyError, match="no-such-profile"):
        accuracy.campaign(lambda done, total: None, work)


def _refuse(job: int, step: workers.Step) -> int:
    step()
    raise GridnodeError("measure", f"job {job}", exit=Exit.USAGE)


def test_an_error_crosses_from_a_worker_with_all_its_fields():
    with pytest.raises(GridnodeError, match="job 7") as failed:
        workers.run(_refuse, [7], 1, lambda done, total: None)
    assert failed.value.exit == Exit.USAGE


# -- supply events -----------------------------------------------------------------------------


def told(name: str, at: float, percent: float = 40.0, ms: float = 40.0, uncertainty: float = 0.0) -> Told:
    return Told(name, at - 1.0, at + 0.2, percent, ms, uncertainty)


def test_events_are_found_by_name_and_time():
    injected = [Injected(DIP, 100.0, None), Injected(SWELL, 110.0, 2), Injected(INTERRUPTION, 120.0, None)]
    said = [told("dip", 100.1), told("dip", 110.1), told("interruption", 123.0)]
    matches, false = match(injected, said, connecting=[(109.0, 110.05)])
    assert [m.told for m in matches] == [said[0], None, None]
    assert [m.connecting for m in matches] == [False, True, False]
    assert false == said[1:]


def test_depth_and_duration_have_limits():
    def within(**change: Any) -> bool:
        return Match(Injected(DIP, 0.0, None), told("dip", 0.0, **change)).within

    assert within()
    assert within(percent=41.9)
    assert not within(percent=42.1)
    assert within(ms=59)
    assert not within(ms=61)
    assert within(ms=90, uncertainty=50)


def test_planned_events_are_of_all_kinds_and_reach_the_mains():
    planned = plan(200, 3, 1, 50.0, (1.6, 2.6))
    assert {event.kind for event in planned} == set(KINDS)
    assert {event.phase for event in planned if event.kind is DIP} == {None, 1, 2, 3}
    assert all(b.start - a.end > 1.0 for a, b in pairwise(planned))
    work = events.jobs()
    for profile in front_ends.CLAMPS:
        assert sum(job.count for job in work if job.profile == profile) == 1000
        assert sum(job.clean_s for job in work if job.profile == profile) == 1000


def test_what_is_missed_or_made_up_fails():
    injected = [Injected(DIP, 10.0 * k, None) for k in range(10)]
    matches, false = match(injected, [told("dip", 10.0 * k) for k in range(9)])
    done = Run("home-60a-ct", matches, false, [0.9], 100.0)
    job = Job("home-60a-ct", 10, 0)
    dips = events.table([(job, done)]).rows[0]
    assert (dips["case"], dips["found"], dips["share"], dips["ok"]) == ("dip", 9, 0.9, True)
    blind = replace(done, coverage=[0.95])
    assert events.table([(job, blind)]).rows[0]["ok"] is False
    liar = replace(done, false=[told("swell", 33.0)])
    assert events.table([(job, liar)]).rows[-1]["ok"] is False
    wrong = replace(done, matches=[*matches[:-1], Match(injected[-1], told("dip", 90.0, percent=60.0))])
    assert events.table([(job, wrong)]).rows[0]["within"] == 0.9
    assert events.table([(job, wrong)]).rows[0]["ok"] is False


def test_a_clamp_on_the_full_bench_tells_events(tmp_path):
    job = Job("home-60a-ct", 6, 3)
    done = run(job)
    found = [m for m in done.matches if m.told]
    assert len(found) >= 3
    assert not done.false
    assert all(abs(m.depth_error or 0.0) < 2.0 for m in found if m.told and not m.told.uncertainty_ms)
    (path,) = plots.events([(job, done)], tmp_path)
    assert b"</svg>" in path.read_bytes()


def test_a_chip_flags_what_it_sees():
    job = Job("feeder-200a", 3, 0)
    results = events.campaign(lambda done, total: None, [job])  # in a process of its own
    assert sum(row.get("events", 0) for row in events.table(results).rows) == 3
    ((_, done),) = results
    for one in done.matches:
        if one.injected.kind != SWELL:
            assert one.told, one
            assert one.told.name in ("sag", "phase_loss")
    assert not done.false


def test_a_clean_supply_has_no_events():
    job = Job("home-60a-ct", 0, 0, clean_s=60)
    done = run(job)
    assert not done.false
    assert len(done.coverage) >= 60
    assert events.table([(job, done)]).ok


# -- running nodes -----------------------------------------------------------------------------


def test_coverage_and_budget_of_a_running_node():
    (node,) = running.observe(["home-60a-ct"], lambda done, total: None, reports=3)
    assert len(node.coverage) == 3
    assert 500 < node.budget["main"] <= node.budget["of"] < 2000
    assert running.table([replace(node, coverage=[0.95])]).ok
    assert not running.table([replace(node, coverage=[0.85])]).ok


def test_heap_of_a_running_node():
    (heap,) = memory.observe(["home-60a-ct"], lambda done, total: None, reports=12, settled=2)
    assert len(heap.free) == 12
    assert 0 < max(heap.free) < heap.size
    assert "gridnode.meters.ct" in heap.modules
    assert "gridnode.meters.atm90e32" not in heap.modules
    row = memory.heap([heap]).rows[0]
    assert 20 < row["on the chip KB"] <= row["used KB"] < 256
    sums = [row for row in memory.rooms([heap]).rows if row["room"] == "sum of home-60a-ct"]
    assert 20_000 < sums[0][".mpy"] < 100_000


@pytest.mark.parametrize(("signals", "learning", "frozen"), [(3, 37, 32), (11, 49, 41)])
def test_a_detector_leaves_room_for_a_node(signals: int, learning: int, frozen: int) -> None:
    """KB of a 32-bit heap, code included; of a 64-bit one half as much again."""
    names = memory.PLACE if signals == 3 else memory.FEEDER
    for kind, vm in probe.machines().items():
        word = 1.5 if kind.startswith("64") else 1
        found = memory.taken(vm, names, resources.faults())
        assert found["state"] == "frozen"
        assert found["learning"] < learning * 1024 * word, (kind, found)
        assert found["frozen"] < frozen * 1024 * word, (kind, found)


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


def test_cost_of_a_reading_is_measured():
    chosen = [front_ends.find("home-60a-ct"), front_ends.find("plug-cse7766")]
    for row in cost.readings(chosen, lambda done, total: None).rows:
        assert 0 < row["meter bytes"] < row["whole way bytes"], row
        assert 0 < row["processor ms"] < 200, row
    drivers = cost.drivers()
    assert drivers.ok
    assert {row["driver"] for row in drivers.rows} >= {"ct", "atm90e32", "modbus", "bl0942"}


def test_a_probe_that_fails_says_why():
    vm = next(iter(probe.machines().values()))
    with pytest.raises(GridnodeError, match="ValueError"):
        probe.run(vm, "rooms", [])


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
    path = tables.store([table], {"version": 1}, "figures")
    assert path == tmp_path / "build" / "figures" / "figures.json"
    assert "FAIL" in path.with_suffix(".txt").read_text()
    stored = json.loads(path.read_text())
    assert stored["subjects"]["one"]["rows"][1] == {"y": 2, "ok": False}
    assert stored["subjects"]["one"]["ok"] is False


