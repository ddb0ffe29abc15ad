"""Calibration that the cloud asks for, and what the node puts right by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from gridnode_host import resources
from gridnode_host.bench.rig import Rig

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A three-phase node with parts off their design values and no calibration."""
    with Rig.virtual(nodes=1, profile="feeder-200a", calibrated=False, seed=3) as bench:
        bench.wait_reported(bench.nodes[0].thing, lambda r: r["voltage"], 30)
        bench.clock.warp(5)
        yield bench


def ask(rig: Rig, **request: Any) -> dict[str, Any]:
    """Ask and wait for the outcome."""
    thing = rig.nodes[0].thing
    rig.desired(thing, {"calibrate": request})
    reported = rig.wait_reported(
        thing,
        lambda r: r["calibration"]["id"] == request["id"] and r["calibration"]["state"] != "running",
        60,
    )
    jsonschema.Draft202012Validator(resources.schema("report")).validate(reported)
    outcome: dict[str, Any] = reported["calibration"]
    return outcome


def settled(rig: Rig) -> dict[str, Any]:
    thing = rig.nodes[0].thing
    now = rig.wait_reported(thing, lambda r: r["power"] is not None and not r.get("calibrating"), 40)
    seq = now["seq"]
    return rig.wait_reported(thing, lambda r: r["seq"] > seq + 1 and r["power"] and r["timestamp"] % 10 == 0, 40)


def test_a_gain_is_measured_computed_proven_and_in_force(rig: Rig) -> None:
    node = rig.nodes[0]
    before = max(abs(settled(rig)[line]["voltage"] / 230.0 - 1) for line in ("l1", "l2", "l3"))
    heard = len(node.events)
    outcome = ask(rig, id="gain-1", step="gain", reference={"voltage": 230.0, "current": 10.0})
    assert outcome["state"] == "done" and outcome["generation"] == 1, outcome
    assert abs(outcome["after_percent"]["voltage"]) < 0.1
    told = [e["reported"].get("calibrating") for e in node.events[heard:] if e["event"] == "report"]
    assert "gain" in told and told[-1] is None
    assert before > 0.001
    reported = settled(rig)
    for line in ("l1", "l2", "l3"):
        assert reported[line]["voltage"] == pytest.approx(230.0, rel=5e-4)
        assert reported[line]["current"] == pytest.approx(10.0, rel=1e-3)


def test_the_command_has_left_desired_and_is_done_once(rig: Rig) -> None:
    thing = rig.nodes[0].thing
    assert "calibrate" not in rig.shadow(thing)["state"].get("desired", {})
    boots = [e for e in rig.nodes[0].events if e["event"] == "boot"]
    rig.desired(thing, {"calibrate": {"id": "gain-1", "step": "gain", "reference": {"voltage": 200.0}}})
    rig.wait_shadow(thing, lambda d: "calibrate" not in d["state"].get("desired", {}), 30)
    settled(rig)
    assert [e for e in rig.nodes[0].events if e["event"] == "boot"] == boots
    assert rig.reported(thing)["calibration"]["generation"] == 1


def test_a_wrong_decimal_is_refused_and_the_old_values_stay(rig: Rig) -> None:
    outcome = ask(rig, id="gain-2", step="gain", reference={"voltage": 23.0})
    assert outcome["state"] == "refused" and "generation" not in outcome
    assert "reference" in outcome["reason"] and "20 %" in outcome["reason"]
    assert settled(rig)["voltage"] == pytest.approx(230.0, rel=5e-4)


def test_a_request_without_an_id_is_refused(rig: Rig) -> None:
    thing = rig.nodes[0].thing
    rig.desired(thing, {"calibrate": {"id": 7, "step": "phase"}})
    reported = rig.wait_reported(thing, lambda r: r["calibrate_error"], 30)
    assert "id" in reported["calibrate_error"]


def test_direction_and_the_way_back(rig: Rig) -> None:
    before = settled(rig)
    outcome = ask(rig, id="turn", command="ct_direction", phase=2, value=-1)
    assert outcome["state"] == "done" and outcome["generation"] == 2, outcome
    turned = settled(rig)
    assert turned["l2"]["power"] == pytest.approx(-before["l2"]["power"], rel=0.01)
    assert turned["l1"]["power"] == pytest.approx(before["l1"]["power"], rel=0.01)
    grown = turned["energy_import_wh"] - before["energy_import_wh"]
    assert 0 <= grown < 200, "totals do not jump"
    outcome = ask(rig, id="back", restore="previous")
    assert outcome["state"] == "done" and outcome["generation"] == 1, outcome
    assert settled(rig)["l2"]["power"] == pytest.approx(before["l2"]["power"], rel=0.01)


def test_a_power_cut_in_the_middle_is_told_and_not_begun_again(rig: Rig) -> None:
    thing, node = rig.nodes[0].thing, rig.nodes[0]
    boots = sum(e["event"] == "boot" for e in node.events)
    rig.desired(thing, {"calibrate": {"id": "cut", "step": "gain", "reference": {"voltage": 230.0}}})
    rig.wait_reported(thing, lambda r: r["calibrating"] == "gain", 20)
    rig.clock.warp(1)
    time.sleep(4.0)  # it has reset and measures for ten seconds
    node.power_cycle()
    rig.clock.warp(5)
    reported = rig.wait_reported(
        thing, lambda r: r["calibration"]["id"] == "cut" and r["calibration"]["state"] != "running", 60
    )
    assert reported["calibration"]["state"] == "refused"
    assert "interrupted" in reported["calibration"]["reason"]
    assert settled(rig)["voltage"] == pytest.approx(230.0, rel=5e-4)
    assert sum(e["event"] == "boot" for e in node.events) > boots


def test_a_reversed_clamp_is_told_and_put_right() -> None:
    with Rig.virtual(nodes=1, profile="home-60a-ct", ideal=True) as rig:
        node = rig.nodes[0]
        rig.wait_reported(node.thing, lambda r: r["power"] > 0, 30)
        rig.fault("ct_reversed")
        rig.clock.warp(15)
        reported = rig.wait_reported(node.thing, lambda r: any("ct_reversed" in k for k in r["suggestions"]), 60)
        assert "the other way" in " ".join(reported["suggestions"].values())
        reported = rig.wait_reported(node.thing, lambda r: r["calibration"]["step"] == "ct_direction", 60)
        assert reported["calibration"]["id"].startswith("ct_reversed")
        rig.wait_reported(node.thing, lambda r: r["power"] > 0 and not r.get("calibrating"), 60)
