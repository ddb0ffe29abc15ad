"""`gridnode bench`: the figures of the product, measured on the virtual bench.

Subjects: accuracy against truth, supply events, calibration, anomaly detection, cost of measuring,
memory, time to the first shadow. Each is a table or more with its limits; everything also goes to files below `build`.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gridnode_host import build, resources
from gridnode_host.bench.figures import (
    accuracy,
    calibration,
    cost,
    detection,
    events,
    memory,
    plots,
    running,
    startup,
)
from gridnode_host.bench.figures.front_ends import CLAMPS, FRONT_ENDS
from gridnode_host.bench.figures.tables import Table, folder, store
from gridnode_host.errors import Exit
from gridnode_host.output import Output

__all__ = ["SHORT", "SUBJECTS", "run"]

_NODES = ("home-60a-ct", "feeder-200a")
"""Profiles whose nodes are started and watched: one that samples, one with a chip."""


def run(
    out: Output,
    subjects: Sequence[str] = (),
    *,
    clone: bool = False,
    nab: Path | None = None,
    short: bool = False,
    detectors: Sequence[str] | None = None,
) -> int:
    """Measure the subjects (none: the short ones), return INTERNAL if a limit is missed.

    `clone` adds the start from a clean clone, `nab` a folder of Numenta files to the detection,
    which is `short` on request, and has all detectors or those that are named.
    """
    began = time.monotonic()
    with out.step("compile the firmware"):
        for arch in {build.vm_arch(build.micropython()), memory.CHIP}:
            resources.image_dir(arch)
    tables: list[Table] = []
    chosen = SUBJECTS | {
        "startup": lambda out: _startup(out, clone),
        "detection": lambda out: detection.tables(out, nab, short=short, detectors=detectors),
    }
    for subject in subjects or SHORT:
        tables += chosen[subject](out)
    return _tell(out, tables, subjects[0] if len(subjects) == 1 else "bench", began)


def _accuracy(out: Output) -> list[Table]:
    with out.step("accuracy against truth") as progress:
        results = accuracy.campaign(progress)
    plots.accuracy(results, folder("accuracy"))
    return [accuracy.table(results)]


def _events(out: Output) -> list[Table]:
    with out.step("supply events") as progress:
        results = events.campaign(progress)
    plots.events(results, folder("events"))
    return [events.table(results)]


def _cost(out: Output) -> list[Table]:
    with out.step("cost of measuring") as progress:
        tables = [cost.kernel(), cost.readings(FRONT_ENDS, progress), cost.drivers()]
    with out.step("budget of running nodes") as progress:
        return [*tables, running.table(running.observe(CLAMPS, progress))]


def _memory(out: Output) -> list[Table]:
    with out.step("memory of running nodes") as progress:
        found = memory.observe(_NODES, progress)
    return [memory.heap(found), memory.rooms(found), memory.detector()]


def _startup(out: Output, clone: bool = False) -> list[Table]:
    rows = []
    for name in _NODES:
        with out.step(f"time to the first shadow, {name}"):
            rows.append(startup.start(name))
    if clone:
        with out.step("time to the first shadow, clean clone"):
            rows.append(startup.clone())
    return [startup.table(rows)]


SUBJECTS: dict[str, Callable[[Output], list[Table]]] = {
    "startup": _startup,
    "cost": _cost,
    "memory": _memory,
    "accuracy": _accuracy,
    "events": _events,
    "calibration": calibration.tables,
    "detection": detection.tables,
}
SHORT = ("startup", "cost", "memory")
"""What is measured when no subject is named: minutes in all."""


def _tell(out: Output, tables: list[Table], name: str, began: float) -> int:
    width = out.console.width
    if not out.console.is_terminal:
        out.console.width = max(width, 240)  # a log is not narrowed to a terminal's 80 columns
    for table in tables:
        table.show(out)
    took = round(time.monotonic() - began)
    facts: dict[str, Any] = {
        "version": 1,
        "seconds": took,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    }
    path = store(tables, facts, name)
    missed = [table.name for table in tables if not table.ok]
    if missed:
        text = f"\nLimits missed: {', '.join(missed)}. All figures: {path}"
        out.event("missed", text, subjects=missed, path=str(path), seconds=took)
        return int(Exit.INTERNAL)
    out.done(
        f"\nAll limits are kept ({took} s). All figures: {path}", path=str(path), seconds=took
    )
    return int(Exit.DONE)
