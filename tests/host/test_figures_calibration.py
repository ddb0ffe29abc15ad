"""The figures of the calibration: a few units keep the limits, and what is wrong is told as wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gridnode_host.bench.figures import (
    calibration_faults,
    calibration_guided,
    calibration_nodes,
    calibration_plots,
    calibration_units,
)
from gridnode_host.bench.figures.calibration_bench import Run
from gridnode_host.bench.figures.calibration_judge import LIMITS, over
from gridnode_host.bench.figures.calibration_nodes import HELD_OUT, Job, Load, Result
from gridnode_host.bench.figures.calibration_units import POINTS, Unit
from gridnode_host.calibrate import plan

GOOD = dict.fromkeys(LIMITS, 0.1)
UNIT = Unit(0, dict.fromkeys(LIMITS, 5.0), GOOD, None, {"no load": "load current is too low"})
JOB = Job("home-60a-ct", 1)


@pytest.mark.parametrize("seed", range(4))
def test_a_unit_keeps_the_limits_and_refuses_every_bad_input(seed: int) -> None:
    unit = calibration_units.measure(seed)
    assert unit.ok, (unit.refused, unit.after)
    assert over(unit.before)
    assert calibration_units.table([unit]).ok
    assert calibration_units.bad_inputs([unit]).ok, unit.bad
    assert len(unit.bad) >= 12


# -- arithmetic of the tables ------------------------------------------------------------------


@pytest.mark.parametrize("name", LIMITS)
def test_one_unit_beyond_a_limit_fails(name: str) -> None:
    beyond = replace(UNIT, seed=7, after={**GOOD, name: LIMITS[name] + 0.001})
    table = calibration_units.table([UNIT, beyond, UNIT])
    assert not table.ok
    (row,) = (row for row in table.rows if not row["ok"])
    assert (row["quantity"], row["within"], row["units"]) == (name, 2, 3)
    assert row["remark"] == "beyond: units 7"
    assert calibration_units.table([UNIT, UNIT]).ok


def test_an_error_that_is_no_number_is_beyond_its_limit() -> None:
    assert over({"voltage": float("nan")}) == ["voltage"]
    assert over({"voltage": LIMITS["voltage"]}) == []


def test_a_good_step_that_is_refused_fails() -> None:
    table = calibration_units.table([UNIT, replace(UNIT, seed=3, refused="too cold")])
    assert not table.ok
    assert table.rows[-1]["remark"] == "units 3: too cold"


@pytest.mark.parametrize("bad", [{"no load": "stored"}, {}])
def test_a_bad_input_that_was_stored_or_not_tried_fails(bad: dict[str, str]) -> None:
    assert calibration_units.bad_inputs([UNIT]).ok
    table = calibration_units.bad_inputs([UNIT, replace(UNIT, bad=bad)])
    assert not table.ok
    assert table.rows[0]["refused"] == 1
    assert table.rows[0]["for example"] == "load current is too low"


def test_held_out_loads_are_not_those_of_the_calibration() -> None:
    assert not {*HELD_OUT} & {*POINTS}
    assert min(POINTS) < min(HELD_OUT)
    assert max(HELD_OUT) < max(POINTS)


def test_a_plan_of_a_node_is_a_plan(tmp_path: Path) -> None:
    source = (
        '[reference]\nkind = "scpi"\nresource = "x"\n'
        'queries = {voltage = "V?", current = "I?", power = "P?", reactive_power = "Q?"}\n'
        '[source]\nkind = "scpi"\nresource = "x"\n'
        'commands = {voltage = "V {value}", current = "I {value}", phase_deg = "F {value}"}\n'
    )
    for profile, verified, has_phase in (("feeder-200a", 10, True), ("plug-bl0942", 5, False)):
        text = source + "\n".join(calibration_nodes.steps(profile, 16.0))
        kinds = [step.step for step in plan.parse(text.encode(), tmp_path).steps]
        assert kinds[:verified] == kinds[-verified:] == ["verify"] * verified
        assert ("phase" in kinds) is has_phase
        assert kinds.count("multipoint") == len(POINTS)


def told(errors: dict[str, float], **last: Any) -> Run:
    """What a command tells whose every verification as left has these errors on phase 2."""
    calm = {"voltage": 0.0, "current": 0.0, "power": 0.0}
    records = [{"phase": 1, "after_percent": calm}, {"phase": 2, "after_percent": {**calm, **errors}}]
    events = [
        {"event": "result", "step": "verify", "label": load.label("as left"), "records": records}
        for load in calibration_nodes.loads(JOB.profile)
    ]
    gain = {"event": "result", "step": "gain", "label": None, "records": []}
    return Run(last.get("exit", 0), [gain, *events, {"event": "done", "measuring_s": 12.0, **last}])


def test_the_worst_phase_and_load_of_a_node_count() -> None:
    good = calibration_nodes.judged(JOB, told({"current": -0.29, "power": 0.49}))
    assert good.ok, good.beyond
    assert (good.accepted, good.measuring_s) == (1, 12.0)
    bad = calibration_nodes.judged(JOB, told({"current": -0.31}))
    assert not bad.ok
    assert bad.beyond[0] == "7 % PF 1: current 0.310 %"
    table = calibration_nodes.table([good, bad])
    assert not table.ok
    assert "1 of 2 nodes" in table.title
    assert table.rows[1]["current (limit 0.3)"] == "? -> 0.310"


def test_the_limit_of_power_depends_on_the_power_factor() -> None:
    beyond = calibration_nodes.judged(JOB, told({"power": 0.9})).beyond
    assert len(beyond) == len(HELD_OUT)
    assert all(text.endswith("% PF 1: power 0.900 %") for text in beyond)


def test_a_node_without_its_values_or_a_good_end_fails() -> None:
    lacking = calibration_nodes.judged(JOB, told({}))
    del lacking.after[Load(30, 0.5)]["power at PF 0.5"]
    assert lacking.beyond == ["30 % PF 0.5: no power"]
    broken = calibration_nodes.judged(JOB, told({}, exit=7, cause="the flash is full"))
    assert not broken.ok
    assert calibration_nodes.table([broken]).rows[0]["remark"] == "the flash is full"
    assert not Result(JOB).ok


@pytest.mark.parametrize(("code", "text", "kept"), [(0, "installed", True), (7, "refused", False), (7, "", True)])
def test_a_fault_that_is_let_through_changes_something_or_is_not_told_fails(code: int, text: str, kept: bool) -> None:
    good = calibration_faults.Attempt("flash full", 7, "cannot be written", True)
    assert calibration_faults.table([good]).ok
    assert not calibration_faults.table([good, calibration_faults.Attempt("other", code, text, kept)]).ok


def test_a_guided_session_without_its_end_fails() -> None:
    good = calibration_guided.Session("typed", 80, 218.0, 8)
    assert calibration_guided.table([good]).ok
    assert not calibration_guided.table([replace(good, failure="the node is gone")]).ok
    assert not calibration_guided.table([replace(good, steps=0)]).ok


def test_plots_are_drawn(tmp_path: Path) -> None:
    result = calibration_nodes.judged(JOB, told({"current": 0.1}))
    paths = [calibration_plots.units([UNIT], tmp_path), *calibration_plots.nodes([result, Result(JOB)], tmp_path)]
    assert [path.name for path in paths] == ["units.svg", "home-60a-ct.svg"]
    assert all(path.stat().st_size > 5000 for path in paths)
