"""Meters of one node side by side: none takes another's time, and where it goes is told."""

from __future__ import annotations

from typing import Any

import pytest
from gridnode_host import resources
from gridnode_host.bench.solo import Solo

_SUB = resources.profile("pzem-100a")["meters"][0] | {"id": "sub"}


def _run(profile: dict[str, Any], seconds: float, fault: str | None = None) -> list[dict[str, Any]]:
    """Report events of a node with a clamp and a serial meter."""
    with Solo(profile, interval_s=2) as solo:
        solo.circuit.set(current=10.0)
        if fault:
            solo.node.fault(fault, meter="sub")
        solo.start()
        until = solo.clock.now() + seconds
        found = []
        for event in solo.events():
            if event["event"] == "report":
                found.append(event)
                if event["reported"]["timestamp"] >= until:
                    return found
    raise AssertionError("no end")


@pytest.mark.parametrize("fault", [None, "bus_absent"])
def test_a_clamp_sees_nine_cycles_of_ten_beside_a_serial_meter(fault: str | None) -> None:
    profile = resources.profile("home-60a-ct")
    profile = {**profile, "row_s": 2, "meters": [*profile["meters"], _SUB]}
    reports = _run(profile, 40, fault)[2:]
    assert len(reports) > 15
    for event in reports:
        reported, budget = event["reported"], event["budget"]
        assert reported["coverage"] >= 0.9, reported
        assert reported["current"] == pytest.approx(10.0, rel=0.01)
        sub = reported["meters"]["sub"]
        if fault:
            assert sub["quality"]["voltage"] == "bus_fault"
        else:
            assert sub["voltage"] == pytest.approx(230.0, abs=0.1)
        # The clamp's sampling is most of the time; what is left is told by task.
        assert set(budget) == {"of", "main", "sub", "report"}
        assert 0.9 * budget["of"] < budget["main"] <= budget["of"]
        assert sum(budget.values()) <= 2 * budget["of"] + 5
