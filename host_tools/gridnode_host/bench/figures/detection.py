"""Anomaly detection: the node's detector and others on streams whose faults are known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gridnode_host import replay
from gridnode_host.bench.figures import detection_plots, detection_runs, detection_tables
from gridnode_host.bench.figures.detection_runs import DETECTORS, Results
from gridnode_host.bench.figures.tables import Table, folder
from gridnode_host.files import write_atomic
from gridnode_host.output import Output


def tables(
    out: Output,
    nab: Path | None = None,
    *,
    short: bool = False,
    detectors: Sequence[str] | None = None,
) -> list[Table]:
    """Measure everything, and draw it into the folder of the subject.

    `nab` is a folder of Numenta files. `short` takes fewer draws and smaller forests. `detectors`
    are those to compare, None for all.
    """
    effort = detection_runs.BRIEF if short else detection_runs.FULL
    work = detection_runs.jobs(effort, nab, detectors or DETECTORS)
    with out.step("anomaly detection") as progress:
        results = detection_runs.campaign(progress, work)
    place = folder("detection")
    detection_plots.draw(results, place)
    write_atomic(place / "draws.json", json.dumps(_draws(results), indent=1).encode())
    costs = {signals: replay.cost(signals) for signals in detection_tables.RAM_LIMITS}
    found = [
        detection_tables.targets(results, costs),
        detection_tables.by_stream(results),
        detection_tables.false_alarms(results),
        detection_tables.numenta(results),
    ]
    return [table for table in found if table is not None]


def _draws(results: Results) -> list[dict[str, Any]]:
    """Every figure of every draw."""
    return [
        {"kind": kind, "detector": detector, **_plain(draw)}
        for (kind, detector), draws in results.found.items()
        for draw in draws
    ]


def _plain(value: Any) -> Any:
    """As JSON knows it: what is no number is null."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
