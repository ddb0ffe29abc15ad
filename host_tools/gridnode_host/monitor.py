"""Listen to a running node: its console lines, told for people or as JSON events."""

from __future__ import annotations

import math
import time
from typing import Any

from gridnode_host import device, faults
from gridnode_host.output import Output

_UNITS = (
    ("voltage", "V"),
    ("current", "A"),
    ("power", "W"),
    ("power_factor", "PF"),
    ("frequency", "Hz"),
    ("temperature", "degC"),
    ("humidity", "%"),
)


def run(port: str, out: Output, duration_s: float | None = None, *, raw: bool = False) -> None:
    """Tell what the node on ``port`` says until ``duration_s`` is over (None: for ever)."""
    console = device.Console.open(port)
    deadline = math.inf if duration_s is None else time.monotonic() + duration_s
    try:
        for line in console.lines(deadline):
            if line:
                _tell(line, out, raw)
    except KeyboardInterrupt:  # the ordinary way to end it
        pass
    finally:
        console.close()
    if out.as_json:
        out.done()


def _tell(line: str, out: Output, raw: bool) -> None:
    event = device.parse_event(line)
    if raw or event is None:
        out.event("console", line, line=line)
        return
    out.event("node", f"{time.strftime('%H:%M:%S')}  {describe(event)}", node=event)


def describe(event: dict[str, Any]) -> str:
    """Return one line of plain words for an event of a node's console."""
    name = event["event"]
    if name == "fault":
        known = faults.advice(event)
        doing = f"; the node: {event['action']}" if event.get("action") else ""
        return f"fault      {event.get('message')} ({event.get('code')}){doing}. {known.action}"
    if name == "report":
        report = event.get("reported", event)
        further = report.get("meters")
        lines = [_values(report)]
        if isinstance(further, dict):
            lines += [f"{name}: {_values(values)}" for name, values in further.items() if values]
        return "report     " + "\n           ".join(lines)
    rest = ", ".join(f"{key} {value}" for key, value in event.items() if key != "event")
    return f"{name:<10} {rest}".rstrip()


def _values(report: dict[str, Any]) -> str:
    parts = [
        f"{report[key]:g} {unit}"
        for key, unit in _UNITS
        if isinstance(report.get(key), (int, float))
    ]
    energy = report.get("energy_import_wh")
    if isinstance(energy, (int, float)):
        parts.append(f"{energy / 1000:.3f} kWh")
    parts += [f"no {name} ({reason})" for name, reason in (report.get("quality") or {}).items()]
    return "  ".join(parts + list(report.get("flags") or []))
