"""The life of a node, from metal to shadow: each test goes on where the one before it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import jsonschema
import pytest
from gridnode_host import resources
from gridnode_host.bench.rig import Rig
from gridnode_host.device import Node

pytestmark = pytest.mark.timeout(120)

CT, CHIP = 0, 1


def settled(rig: Rig, node: Any, **load: Any) -> dict[str, Any]:
    """Set a load, let a whole report pass, and return the report that saw nothing else."""
    node.circuit.set(**load)
    time.sleep(1.0)  # the chip averages over 16 cycles
    seq = rig.reported(node.thing)["seq"]
    first = rig.wait_reported(
        node.thing, lambda r: r["seq"] > seq and r["timestamp"] % 10 == 0, 30
    )
    return rig.wait_reported(node.thing, lambda r: r["timestamp"] == first["timestamp"] + 10, 30)


def compare(reported: dict[str, Any], truth: dict[str, Any], name: str, relative: float) -> None:
    assert reported[name] == pytest.approx(truth[name], rel=relative), (name, reported, truth)


@pytest.fixture(scope="module")
def noted(rig: Rig) -> dict[str, dict[str, Any]]:
    """The first report of each node at the end of a row: where its energy is counted from."""
    return {
        node.thing: rig.wait_reported(node.thing, lambda r: not r["timestamp"] % 10, 20) for node in rig.nodes
    }


@pytest.mark.usefixtures("noted")
def test_first_shadow_has_arrived_and_keeps_to_the_schema(rig: Rig) -> None:
    validator = jsonschema.Draft202012Validator(resources.schema("report"))
    for node in rig.nodes:
        document = rig.wait_shadow(node.thing, lambda d: d["state"]["reported"]["seq"], 20)
        validator.validate(document["state"]["reported"])
        assert len(json.dumps(document["state"])) < 8192


def test_clamp_node_measures_its_mains(rig: Rig) -> None:
    node = rig.nodes[CT]
    reported = settled(rig, node, voltage=231.0, current=24.0, phase_deg=30.0, frequency=50.2)
    truth = node.circuit.truth()
    for name, relative in (("voltage", 0.003), ("current", 0.003), ("power", 0.005), ("apparent_power", 0.006)):
        compare(reported, truth, name, relative)
    assert reported["reactive_power"] == pytest.approx(truth["reactive_power"], abs=0.01 * truth["apparent_power"])
    assert reported["power_factor"] == pytest.approx(truth["power_factor"], abs=0.005)
    assert reported["frequency"] == pytest.approx(50.2, abs=0.02)
    assert 0.5 < reported["coverage"] <= 1
    assert reported["min"]["voltage"] <= reported["voltage"] <= reported["max"]["voltage"]


def test_chip_node_measures_three_phases(rig: Rig) -> None:
    node = rig.nodes[CHIP]
    load = {"voltage": [231.0, 229.0, 233.0], "current": [40.0, 80.0, 160.0], "phase_deg": [0.0, 25.0, -20.0]}
    reported = settled(rig, node, **load)
    truth = node.circuit.truth()
    for phase in ("l1", "l2", "l3"):
        for name, relative in (("voltage", 0.003), ("current", 0.003), ("power", 0.006)):
            compare(reported[phase], truth[phase], name, relative)
    for name in ("voltage", "current", "power", "apparent_power"):
        compare(reported, truth, name, 0.006)


def test_an_alarm_comes_at_once_and_goes(rig: Rig) -> None:
    node = rig.nodes[CT]
    events: list[dict[str, Any]] = []
    topic = f"dt/gridnode/{node.thing}/event"
    cancel = rig.broker.subscribe(topic, lambda m: events.append(json.loads(m.payload)))
    node.circuit.set(voltage=264.0, current=10.0)
    at = time.monotonic()
    reported = rig.wait_reported(node.thing, lambda r: r["anomaly"]["kinds"]["voltage"] == "range_high", 15)
    assert time.monotonic() - at < 6, "an alarm does not wait for the next report"
    assert reported["anomaly"]["alarm"] is True and reported["anomaly"]["priority"] == 2
    node.circuit.set(voltage=230.0)
    cleared = rig.wait_reported(node.thing, lambda r: not r["anomaly"]["alarm"], 15)
    assert not (cleared["anomaly"].get("kinds") or {}).get("voltage"), "null takes the kind out of the shadow"
    deadline = time.monotonic() + 20
    while len([e for e in events if e["event"] == "alarm"]) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [e["raised"] for e in events if e["event"] == "alarm"] == [True, False]
    assert "264" in events[0]["text"] and "253" in events[0]["text"]
    cancel()


def test_energy_agrees_with_physics(rig: Rig, noted: dict[str, dict[str, Any]]) -> None:
    for node in rig.nodes:
        a = noted[node.thing]
        b = rig.wait_reported(
            node.thing, lambda r, a=a: r["timestamp"] >= a["timestamp"] + 60 and not r["timestamp"] % 10, 75
        )
        true = [node.circuit.truth(at=r["timestamp"])["energy_import_wh"] for r in (a, b)]
        # The totals of a report are up to a block (0.2 and 0.32 s) older or newer than its timestamp.
        assert b["energy_import_wh"] - a["energy_import_wh"] == pytest.approx(true[1] - true[0], rel=0.015)
        assert b["energy_export_wh"] == a["energy_export_wh"]


def test_desired_interval_is_applied_reported_and_kept(rig: Rig) -> None:
    node = rig.nodes[CT]
    rig.desired(node.thing, {"config": {"report": {"interval_s": 20}}})
    document = rig.wait_shadow(
        node.thing, lambda d: d["state"]["reported"]["config"]["report"]["interval_s"] == 20, 15
    )
    assert not document["state"].get("delta"), "what is asked for is what is reported"
    rig.desired(node.thing, {"config": {"report": {"interval_s": 15}}})
    rig.wait_reported(node.thing, lambda r: "multiple" in r["config_error"], 15)
    assert rig.reported(node.thing)["config"]["report"]["interval_s"] == 20
    node.reset()
    rig.desired(node.thing, {"config": {"report": {"interval_s": 20}}})
    rig.wait_reported(node.thing, lambda r: r["node"]["uptime"] < 20 and r["config"]["report"]["interval_s"] == 20, 30)
    rig.desired(node.thing, {"config": {"report": {"interval_s": 10}}})
    rig.wait_reported(node.thing, lambda r: r["config"]["report"]["interval_s"] == 10 and not r.get("config_error"), 15)


@pytest.mark.parametrize(
    ("how", "cause", "times"),
    [("soft", "soft", 1), ("restart", "reset", 1), ("power", "power_on", 2)],
)
def test_seq_and_energy_survive_restarts(rig: Rig, how: str, cause: str, times: int) -> None:
    for _ in range(times):
        restart(rig, how, cause)


def restart(rig: Rig, how: str, cause: str) -> None:
    node = rig.nodes[CHIP]
    before = rig.reported(node.thing)
    seen = len(node.events)
    if how == "power":
        node.power_cycle()
    else:
        with Node(node.port) as service:
            service.stop()
            if how == "restart":
                service.restart()  # else leaving it is a soft reset
    assert node.wait_event("boot", 20, since=seen)["cause"] == cause
    after = rig.wait_reported(
        node.thing, lambda r: r["seq"] > before["seq"] and r["node"]["reset_cause"] == cause, 40
    )
    lost = before["energy_import_wh"] - after["energy_import_wh"]
    # A power cut costs what came since the last checkpoint, which the clean stops before made.
    assert lost < 250 if how == "power" else lost <= 0, lost


def test_a_lost_broker_is_found_again(rig: Rig) -> None:
    node = rig.nodes[CT]
    seen = len(node.events)
    rig.broker.stop()
    fault = node.wait_event("fault", 40, lambda e: e["room"] == "link", since=seen)
    assert fault["code"] and fault["message"] and "again" in fault["action"]
    seq = rig.reported(node.thing)["seq"]
    rig.broker.start()
    rig.wait_reported(node.thing, lambda r: r["seq"] > seq, 60)


def test_a_chip_that_falls_silent_says_so_and_comes_back(rig: Rig) -> None:
    node = rig.nodes[CHIP]
    rig.wait_reported(node.thing, lambda r: r["l1"]["voltage"] is not None, 60)
    seen = len(node.events)
    rig.fault("bus_stuck_high", node=CHIP)
    event = node.wait_event("fault", 10, lambda e: e["room"] == "meter main", since=seen)
    assert event["code"] == "bus_fault" and event["action"]
    reported = rig.wait_reported(node.thing, lambda r: r["quality"]["v1"] == "bus_fault", 25)
    assert reported["l1"].get("voltage") is None and reported.get("power") is None
    assert len([e for e in node.events[seen:] if e["event"] == "fault"]) == 1, "said once, not in a loop"
    rig.clear("bus_stuck_high", node=CHIP)
    node.wait_event("recovered", 10, since=seen)
    rig.wait_reported(node.thing, lambda r: r["l1"]["voltage"] > 200 and not r.get("quality"), 25)


def test_the_host_can_listen_without_stopping_the_node(rig: Rig) -> None:
    node = rig.nodes[CT]
    uptime = rig.reported(node.thing)["node"]["uptime"]
    done = subprocess.run(
        [sys.executable, "-m", "gridnode_host", "monitor", "--port", node.port, "--duration", "12", "--json"],
        capture_output=True, text=True, timeout=40, check=False, env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    assert '"report"' in done.stdout, done.stdout
    assert rig.wait_reported(node.thing, lambda r: r["node"]["uptime"] > uptime, 15)


def test_time_can_be_warped(rig: Rig) -> None:
    node = rig.nodes[CHIP]
    first = rig.reported(node.thing)
    rig.clock.warp(10)
    try:
        last = rig.wait_reported(node.thing, lambda r: r["timestamp"] >= first["timestamp"] + 60, 20)
    finally:
        rig.clock.warp(1)
    assert abs(last["timestamp"] - rig.clock.now()) < 60
    compare(last["l2"], node.circuit.truth()["l2"], "power", 0.01)
