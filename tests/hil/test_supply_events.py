"""Dips, swells and interruptions, from the supply to who listens in the cloud."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from gridnode_host.bench.rig import Rig

pytestmark = pytest.mark.timeout(120)

CT, CHIP = 0, 1


@pytest.fixture
def heard(rig: Rig) -> Iterator[list[dict[str, Any]]]:
    """Events as they arrive, of any node."""
    events: list[dict[str, Any]] = []
    cancel = rig.broker.subscribe("dt/gridnode/+/event", lambda m: events.append(json.loads(m.payload)))
    yield events
    cancel()


def _wait(events: list[dict[str, Any]], timeout: float = 15.0, **fields: Any) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for event in events:
            if fields.items() <= event.items():
                return event
        time.sleep(0.05)
    raise TimeoutError(f"no {fields} among {events}")


@pytest.mark.parametrize(
    ("kind", "how", "depth", "ms"),
    [
        ("dip", {"residual": 0.4, "cycles": 10}, 40.0, 200),
        ("swell", {"residual": 1.2, "cycles": 10}, 120.0, 200),
        ("interruption", {"duration": 0.3}, 0.0, 300),
    ],
)
def test_a_clamp_tells_depth_and_duration(
    rig: Rig, heard: list[dict[str, Any]], kind: str, how: dict[str, float], depth: float, ms: int
) -> None:
    node = rig.nodes[CT]
    node.circuit.set(voltage=230.0, current=10.0, frequency=50.0)
    start, _ = node.circuit.event(kind, start=rig.clock.now() + 1.5, **how)
    event = _wait(heard, event=kind, meter="main")
    told = event["maximum_percent" if kind == "swell" else "residual_percent"]
    assert told == pytest.approx(depth, abs=2.0), event
    assert event["duration_ms"] == pytest.approx(ms, abs=20 + event["uncertainty_ms"])
    assert event["phases"] == [1]
    assert abs(event["timestamp"] - start) <= 2


def test_a_chip_tells_its_flags_as_what_they_are(rig: Rig, heard: list[dict[str, Any]]) -> None:
    node = rig.nodes[CHIP]
    node.circuit.set(voltage=230.0, current=20.0, frequency=50.0)
    time.sleep(1.0)
    node.circuit.event("dip", 0.4, duration=0.2, phase=2)
    event = _wait(heard, event="flag", meter="main", flag="sag_v2")
    assert event["raised"] is True
    reported = rig.wait_reported(node.thing, lambda r: "sag_v2" in r["flags"], 20)
    assert "sag_v1" not in reported["flags"]
    assert not [e for e in heard if e["event"] == "dip" and e["meter"] == "main" and e.get("phases") == [2]]
    assert _wait(heard, 25.0, event="flag", flag="sag_v2", raised=False)
    rig.wait_reported(node.thing, lambda r: not r.get("flags"), 30)
