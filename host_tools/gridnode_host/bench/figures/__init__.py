"""`gridnode bench`: the figures of the product, measured on the virtual bench.

Subjects: accuracy against truth, cost of measuring, memory, time to the first shadow. Each is a
table with its limits; everything also goes to `build/bench.json`.
"""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from gridnode_host import build, resources
from gridnode_host.bench.figures import accuracy, cost, memory, startup
from gridnode_host.bench.figures.tables import Table, store
from gridnode_host.errors import Exit
from gridnode_host.output import Output

__all__ = ["run"]


def run(out: Output, *, clone: bool = False) -> int:
    """Measure everything, print the tables, return the exit code: INTERNAL if a limit is missed.

    `clone` adds the run from a clean clone.
    """
    began = time.monotonic()
    vm = build.micropython()
    with out.step("compile the firmware"):
        for arch in {build.vm_arch(vm), memory.CHIP}:
            resources.image_dir(arch)
    tables = [_startup(out, clone)]
    with out.step("cost of measuring"):
        tables += [cost.kernel(), cost.allocation(accuracy.PROFILES)]
    with out.step("memory of running nodes") as progress:
        found = memory.observe(accuracy.PROFILES, progress)
    tables += [memory.heap(found), memory.rooms(found)]
    with out.step("accuracy against truth") as progress:
        tables.insert(0, accuracy.table(accuracy.campaign(progress)))
    return _tell(out, tables, began)


def _startup(out: Output, clone: bool) -> Table:
    rows = []
    for name in accuracy.PROFILES:
        with out.step(f"time to the first shadow, {name}"):
            rows.append(startup.start(name))
    if clone:
        with out.step("time to the first shadow, clean clone"):
            rows.append(startup.clone())
    return startup.table(rows)


def _tell(out: Output, tables: list[Table], began: float) -> int:
    width = out.console.width
    if not out.console.is_terminal:
        out.console.width = max(width, 180)  # a log is not narrowed to a terminal's 80 columns
    for table in tables:
        table.show(out)
    took = round(time.monotonic() - began)
    facts: dict[str, Any] = {
        "version": 1,
        "seconds": took,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    }
    path = store(tables, facts)
    missed = [table.name for table in tables if not table.ok]
    if missed:
        text = f"\nLimits missed: {', '.join(missed)}. All figures: {path}"
        out.event("missed", text, subjects=missed, path=str(path), seconds=took)
        return int(Exit.INTERNAL)
    out.done(
        f"\nAll limits are kept ({took} s). All figures: {path}", path=str(path), seconds=took
    )
    return int(Exit.DONE)
