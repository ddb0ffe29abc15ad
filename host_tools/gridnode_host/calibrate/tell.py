"""Results of steps in words and as a table, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from gridnode_host.calibrate.session import Result

_NAMES = {
    "voltage": "voltage",
    "current": "current",
    "power": "power",
    "angle": "angle",
    "nonlinearity": "non-linearity",
}


def unit(name: str) -> str:
    """Return the unit of an error: an angle's is in degrees, every other one in %."""
    return "deg" if name == "angle" else "%"


def errors(record: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return what a record says of the node after a step, in the order in which people name it."""
    found = record.get("after_percent", {})
    known = [(name, found[name]) for name in _NAMES if name in found]
    return known + [item for item in found.items() if item[0] not in _NAMES]


def title(result: Result) -> str:
    """Return what a step was: its name, meter and phase."""
    kind = "verify as found" if result.as_found else result.step
    phase = f", phase {result.phase}" if result.phase else ""
    label = f" ({result.label})" if result.label else ""
    return f"{kind} of {result.meter.id}{phase}{label}"


def lines(result: Result) -> list[str]:
    """Return a line per record and quantity: error before and after, and its uncertainty."""
    found = []
    for record in result.records:
        phase = record.get("phase")
        where = f"L{phase} " if phase else ""
        for name, after in errors(record):
            found.append(f"{where}{_NAMES.get(name, name)}: {change(record, name, after)}")
    return found


def change(record: Mapping[str, Any], name: str, after: float) -> str:
    """Return the error of one quantity, before and after a step."""
    before = record.get("before_percent", {}).get(name)
    u = record.get("u_percent", {}).get(name)
    text = f"{after:+.3f} {unit(name)}"
    if before is not None:
        text = f"{before:+.3f} -> {text}"
    if record.get("step") == "offset":
        text += " of the rated power"
    return f"{text} (U {u:.3f} {unit(name)})" if u is not None else text


def result_table(result: Result) -> Table:
    """Return what a step gave: the error before and after, per phase."""
    table = Table(box=None, pad_edge=False)
    for head in ("", "quantity", "before", "after", "uncertainty"):
        table.add_column(head, justify="left" if head in ("", "quantity") else "right")
    for record in result.records:
        phase = record.get("phase")
        for name, after in errors(record):
            before = record.get("before_percent", {}).get(name)
            u = record.get("u_percent", {}).get(name)
            sign = unit(name)
            table.add_row(
                f"L{phase}" if phase else "",
                name,
                "" if before is None else f"{before:+.3f} {sign}",
                f"{after:+.3f} {sign}",
                "" if u is None else f"{u:.3f} {sign}",
            )
    return table
