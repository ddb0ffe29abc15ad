"""The campaign of accuracy measures: what is wrong on purpose shows up, what is right passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from gridnode_host.bench.figures import (
    accuracy,
    front_ends,
    plots,
    points,
)
from gridnode_host.bench.figures.front_ends import FRONT_ENDS, FrontEnd
from gridnode_host.bench.figures.judge import Result
from gridnode_host.bench.figures.loads import DIMMER, LAGGING, NOISY, SINE, SMPS
from gridnode_host.bench.figures.points import Point
from gridnode_host.bench.rig_node import RigNode
from gridnode_host.bench.shapes import thd

CHIP = FrontEnd("feeder-200a", "a chip")

CLAMP = front_ends.find("home-60a-ct")

TRUTH = {"voltage": 230.0, "current": 30.0, "power": 6900.0, "frequency": 50.0, "thd_current": 0.0}

RIGHT = {**TRUTH, "coverage": 0.9}


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


def test_right_readings_pass():
    result = judged(RIGHT, RIGHT)
    assert result.verdict() == (True, "")
    row = result.row(60.0, 1)
    assert (row["A"], row["V %"], row["V % limit"], row["ok"]) == (30.0, 0.0, 0.2, True)


@pytest.mark.parametrize(
    ("name", "factor"),
    [("voltage", 1.0025), ("current", 0.9975), ("power", 1.006), ("frequency", 1.0003)],
)
def test_the_worst_of_the_readings_counts(name, factor):
    wrong = {**RIGHT, name: RIGHT[name] * factor}
    assert judged(RIGHT, wrong, RIGHT).verdict() == (False, f"over: {name}")


def test_errors_are_in_percent_and_millihertz():
    wrong = {
        "voltage": 231.15,
        "current": 29.94,
        "power": 6865.5,
        "frequency": 49.99,
        "coverage": 0.9,
    }
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
    assert judged({**RIGHT, "frequency": 50.11}, front_end=pzem).verdict() == (
        False,
        "over: frequency",
    )
    assert not judged({**RIGHT, "voltage": 230.6}, front_end=pzem).verdict()[0]
    ade = front_ends.find("plug-ade7953")
    assert judged(RIGHT, front_end=ade).bounds["frequency"] == pytest.approx(
        1000 * 50.0**2 / 223_750
    )


def test_what_a_filter_takes_away_is_named_or_refused():
    ads = front_ends.find("pump-ads1115")
    off = {**RIGHT, "current": 29.2}
    assert judged(off, front_end=ads).verdict() == (False, "over: current")
    assert judged(off, front_end=ads, point=Point(DIMMER, 50)).verdict() == (
        True,
        "bandwidth: 3.5 %",
    )
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
    assert not judged({name: good[name] for name in good if name != "l3"}, truth=truth).verdict()[
        0
    ]


def test_a_saturated_point_asks_for_a_refusal():
    refused = {
        "voltage": 230.0,
        "frequency": 50.0,
        "quality": {"current": "saturated"},
        "coverage": 0.9,
    }
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
    assert judged(RIGHT, point=point, front_end=CLAMP).verdict() == (
        False,
        "1 without value: no reason given",
    )
    wrong = {**right, "harmonics_current": [*spectrum[:3], spectrum[3] + 0.6, *spectrum[4:]]}
    result = judged(wrong, point=point, front_end=CLAMP)
    assert result.verdict() == (False, "over: harmonics_current")
    assert result.worst["harmonics_current"] == pytest.approx(0.6)


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
                assert point.fits == (fits and amperes * point.share / 100 <= front_end.most_a), (
                    point
                )
        work = accuracy.jobs(chosen=[front_end])
        assert sorted(map(repr, chosen)) == sorted(
            repr(point) for job in work for point in job.points
        )
        assert all(60 % job.row_s == 0 for job in work)


@pytest.mark.parametrize("front_end", FRONT_ENDS, ids=lambda front_end: front_end.profile)
def test_every_front_end_keeps_its_limits(front_end):
    chosen = tuple(
        replace(point, readings=2)
        for point in points.points(front_end)
        if point.share == 50
        and (point.load in (LAGGING, NOISY) or (point.load, point.frequency) == (SINE, 65.0))
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
