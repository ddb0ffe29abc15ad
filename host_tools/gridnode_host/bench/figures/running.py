"""Running nodes at the chip's pace: share of the mains cycles seen, and where the time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gridnode_host import resources
from gridnode_host.bench.figures.tables import Row, Table
from gridnode_host.bench.rig import Rig

COVERAGE = 0.9
REPORTS = 30

_SILENCE_S = 60.0
_POLL_S = 0.1


@dataclass
class Node:
    """What the reports of a connected node told: coverage, and ms by task of its budget."""

    profile: str
    coverage: list[float] = field(default_factory=list)
    budget: dict[str, float] = field(default_factory=dict)


def observe(
    profiles: Sequence[str], progress: Callable[[int, int], None], reports: int = REPORTS
) -> list[Node]:
    """Let one node of each profile publish every second, one after the other, in real time.

    Raises TimeoutError when a node does not report.
    """
    found = []
    for k, name in enumerate(profiles):
        profile = {**resources.profile(name), "row_s": 1, "limits": {}}
        with Rig.virtual(1, profile, ideal=True, interval_s=1) as rig:
            node = rig.nodes[0]
            node.wait_event("accepted", _SILENCE_S)
            since, deadline = len(node.events), time.monotonic() + reports + _SILENCE_S
            while len(told := _reports(node.events[since:])) < reports:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{name}: only {len(told)} of {reports} reports came")
                progress(k * reports + len(told), len(profiles) * reports)
                time.sleep(_POLL_S)
        found.append(_node(name, told))
    return found


def _reports(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == "report"]


def _node(profile: str, told: Sequence[dict[str, Any]]) -> Node:
    node = Node(profile, [event["reported"].get("coverage") or 0.0 for event in told])
    for event in told:
        for task, ms in event["budget"].items():
            node.budget[task] = node.budget.get(task, 0.0) + ms / len(told)
    return node


def table(nodes: Sequence[Node]) -> Table:
    """Coverage, and the time of each task per report."""
    rows: list[Row] = []
    for node in nodes:
        mean = sum(node.coverage) / len(node.coverage)
        row: Row = {
            "front end": node.profile,
            "reports": len(node.coverage),
            "coverage": round(mean, 3),
            "least": round(min(node.coverage), 3),
            "limit": COVERAGE,
        }
        row |= {f"{task} ms": round(ms, 1) for task, ms in sorted(node.budget.items())}
        rows.append({**row, "ok": mean >= COVERAGE})
    return Table(
        "running",
        "Nodes that publish every second, in real time: coverage and budget per report",
        [
            "Coverage as the node counts it from the times of its samples, at the chip's conversion time.",
            "Time by task: that of a clamp is sampling and its evaluation; the processor here is faster "
            "than the chip's, so what the other tasks take is more there.",
        ],
        rows,
    )
