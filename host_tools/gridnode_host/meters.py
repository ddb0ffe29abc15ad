"""What a technician asks of a node's meters: a reading of each, and the commands that they know."""

from __future__ import annotations

from typing import Any

from gridnode_host.device import Node
from gridnode_host.output import Output

_READ_S = 30.0
_UNITS = {
    "voltage": "V",
    "voltage_ll": "V",
    "current": "A",
    "neutral_current": "A",
    "power": "W",
    "harmonic_power": "W",
    "power_demand": "W",
    "reactive_power": "var",
    "apparent_power": "VA",
    "frequency": "Hz",
    "thd_voltage": "%",
    "thd_current": "%",
    "phase_angle": "deg",
    "temperature": "degC",
    "humidity": "%",
}


def read(port: str, out: Output, meter: str | None = None) -> None:
    """Tell one reading of ``meter``, or of every meter of the node."""
    with Node(port) as node:
        with out.step("stop the application"):
            node.stop()
        names = [meter] if meter else [str(name) for name in node.call("meters")["meters"]]
        for name in names:
            with out.step(f"read meter {name}"):
                answer = node.call("meter", name, timeout_s=_READ_S)
            answer.pop("ok")
            out.event("meter", describe(answer), **answer)
    out.done()


def command(port: str, out: Output, meter: str, order: str, value: float | None, *, dry_run: bool) -> None:
    """Let a meter carry out a command. ``dry_run`` only asks whether it knows it."""
    order = order.replace("-", "_")
    with Node(port) as node:
        with out.step("stop the application"):
            node.stop()
        if dry_run:
            known = node.call("meter", meter, timeout_s=_READ_S)["commands"]
            out.event("plan", f"meter {meter} knows: {', '.join(known) or 'no command'}", commands=known)
        else:
            with out.step(f"{order.replace('_', ' ')} of meter {meter}"):
                answer = node.call("command", meter, order, *_number(value), timeout_s=_READ_S)
            answer.pop("ok")
            out.event("command", _outcome(answer), **answer)
    out.done()


def _number(value: float | None) -> tuple[float, ...]:
    if value is None:
        return ()
    return (int(value) if value == int(value) else value,)


def _outcome(answer: dict[str, Any]) -> str | None:
    if "import_mwh" not in answer:
        return None
    imported, exported = answer["import_mwh"][0] / 1e6, answer["export_mwh"][0] / 1e6
    return f"      totals were {imported:.6f} kWh imported and {exported:.6f} kWh exported; now 0"


def describe(answer: dict[str, Any]) -> str:
    """Return one reading of a meter in plain words, a line per entry."""
    lines = [f"{answer['meter']} ({answer['driver']})"]
    for k, values in enumerate(answer["values"]):
        told = [
            f"{name} {value:.6g} {_UNITS.get(name, '')}".rstrip()
            for name, value in sorted(values.items())
            if isinstance(value, int | float)
        ]
        if told:
            lines.append(f"  {f'l{k}' if k else 'all'}: " + ", ".join(told))
    for name, reason in sorted(answer["quality"].items()):
        lines.append(f"  {name}: no value, {reason}")
    if answer["problem"]:
        lines.append(f"  problem: {answer['problem']}")
    if answer["flags"]:
        lines.append(f"  flags: {', '.join(answer['flags'])}")
    if answer["commands"]:
        lines.append(f"  commands: {', '.join(answer['commands'])}")
    return "\n".join(lines)
