"""What is asked of a node's calibration apart from a session: show, restore, check, set."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gridnode_host.calibrate import session as work
from gridnode_host.calibrate.quantities import typed
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

COMMANDS = ("ct_ratio", "ct_direction", "phase_swap", "nominal", "energy_preset")
_MOST_RECORDS = 200
_DIRECTIONS = {"normal": 1, "1": 1, "+1": 1, "reversed": -1, "-1": -1}
_KEYS = {"nominal": ("voltage", "frequency"), "energy_preset": ("import_wh", "export_wh")}
_EXAMPLES = {
    "ct_ratio": "ct_ratio 2000 --phase 1",
    "ct_direction": "ct_direction reversed --phase 2",
    "phase_swap": "phase_swap 3 --phase 2",
    "nominal": "nominal voltage=230 frequency=50",
    "energy_preset": "energy_preset import_wh=1234567",
}


def show(port: str, out: Output) -> None:
    """Tell the calibration in force and the generations that are kept."""
    step = "read the calibration"
    with work.open_node(port, out) as node, out.step(step), _named(step):
        answer = work.order(node, "show", {})
        try:
            answer["records"] = _records(node)
        except GridnodeError as err:
            if err.exit != Exit.REFUSED:
                raise
            answer |= {"records": [], "problem": err.cause}  # the values have a CRC of their own
    out.event("calibration", "\n".join(described(answer)), **answer)
    if out.as_json:
        out.done()


def restore(port: str, out: Output, to: str, *, dry_run: bool) -> None:
    """Put the factory set or the former generation back in force."""
    if dry_run:
        out.event("plan", f"would restore the {to} calibration on {port}", to=to)
        out.done()
        return
    answer = _ask(port, out, "restore", {"to": to}, f"restore the {to} calibration")
    out.done(
        f"generation {answer.get('generation')} of {_day(answer.get('date'))} "
        f"by {answer.get('operator') or 'nobody named'} is in force",
        **answer,
    )


def check(port: str, out: Output) -> None:
    """Let the node judge its wiring without a reference, and tell what it suggests."""
    answer = _ask(port, out, "check", {}, "let the node check itself (some 10 s per meter)")
    suggestions = list(answer.get("suggestions", ()))
    for one in suggestions:
        phase = f", phase {one['phase']}" if one.get("phase") else ""
        lines = [f"{one.get('check')}  meter {one.get('meter')}{phase}: {one.get('evidence')}"]
        if one.get("command"):
            lines.append(f"      gridnode calibrate set {_typed(one['command'])} --port {port}")
        out.event("suggestion", "\n".join(lines), **one)
    count = len(suggestions)
    told = f"{count} suggestion{'s' * (count > 1)}" if count else "nothing to suggest"
    out.done(told, count=count)


def change(
    port: str,
    out: Output,
    command: str,
    values: Sequence[str],
    *,
    meter: str | None,
    phase: int | None,
    operator: str | None,
    dry_run: bool,
) -> None:
    """Carry out a field command. Raises `GridnodeError` (USAGE) for a value that cannot be."""
    command = command.replace("-", "_")
    value = parse(command, values, phase)
    if dry_run:
        text = f"would set {command} to {value} on {port}"
        out.event("plan", text, command=command, meter=meter, phase=phase, value=value)
        out.done()
        return
    request = {
        "command": command,
        "meter": meter,
        "phase": phase,
        "value": value,
        "operator": (operator or "")[:40],
        "date": int(time.time()),
    }
    answer = _ask(port, out, "set", request, f"set {command}")
    record = answer.get("record") or {}
    former = record.get("former")
    if isinstance(former, list) and len(former) == 1:
        former = former[0]
    was = "" if former is None else f"; it was {former}"
    number = answer.get("generation")
    held = "" if number is None else f"; generation {number} is in force"
    out.done(f"{command} is {record.get('value', value)}{was}{held}", **answer)


def parse(command: str, values: Sequence[str], phase: int | None) -> Any:
    """Return the value of a field command. Raises `GridnodeError` (USAGE)."""
    if command not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise _usage(f"there is no command {command!r}", f"Choose one of: {known}.")
    try:
        if command in _KEYS:
            return _pairs(values, _KEYS[command])
        if len(values) != 1:
            raise ValueError("one value is wanted")
        if command == "ct_direction":
            if values[0] not in _DIRECTIONS:
                raise ValueError(f"{values[0]!r} is not normal or reversed")
            return _DIRECTIONS[values[0]]
        number = typed(values[0], "phase_deg").value
        if command == "ct_ratio":
            return number
        if phase is None or number not in (1, 2, 3) or number == phase:
            raise ValueError("two different phases are wanted: one as value, one as --phase")
        return int(number)
    except ValueError as err:
        example = f"gridnode calibrate set {_EXAMPLES[command]} --port PORT"
        raise _usage(f"{command}: {err}", f"Example: {example}") from err


def described(answer: Mapping[str, Any]) -> list[str]:
    """Return a calibration in plain words."""
    document = answer.get("calibration")
    numbers = ", ".join(str(number) for number in answer.get("generations", ())) or "none"
    factory = "is kept" if answer.get("factory") else "is not there"
    kept = f"generations kept: {numbers}; the factory set {factory}"
    if not document:
        return ["no calibration: the design values hold", kept]
    lines = [
        f"generation {document.get('generation')} of {_day(document.get('date'))} "
        f"by {document.get('operator') or 'nobody named'}",
        kept,
    ]
    for name, value in (document.get("nominal") or {}).items():
        lines.append(f"nominal {name} {value:g}")
    for meter, entry in document.get("meters", {}).items():
        lines.append(f"meter {meter}" + _order(entry))
        for kind in ("voltage", "current", "power"):
            for k, channel in enumerate(entry.get(kind, ()), 1):
                if channel:
                    lines.append(f"  {kind} {k}: {_channel(channel)}")
    for record in answer.get("records", ()):
        lines.append("  " + _record(record))
    if "problem" in answer:
        lines.append(f"  {answer['problem']}")
    return lines


def _ask(
    port: str, out: Output, order: str, request: Mapping[str, Any], step: str
) -> dict[str, Any]:
    with work.open_node(port, out) as node, out.step(step), _named(step):
        return work.order(node, order, request)


@contextlib.contextmanager
def _named(step: str) -> Iterator[None]:
    """Tell a failure by what was being done."""
    try:
        yield
    except GridnodeError as err:
        raise GridnodeError(step, err.cause, err.action, err.exit, err.fields) from err


def _records(node: work.ServiceNode) -> list[dict[str, Any]]:
    """Return the records of the calibration in force; a node tells a few at a time."""
    found: list[dict[str, Any]] = []
    while len(found) < _MOST_RECORDS:
        some = work.order(node, "records", {"from": len(found)}).get("records")
        if not some:
            break
        found += some
    return found


def _pairs(values: Sequence[str], keys: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in values:
        key, sign, number = text.partition("=")
        if not sign or key not in keys or key in found:
            raise ValueError(f"{text!r} is not {' or '.join(f'{one}=NUMBER' for one in keys)}")
        found[key] = typed(number, "phase_deg").value
    if not found:
        raise ValueError(f"a value is wanted: {' or '.join(f'{one}=NUMBER' for one in keys)}")
    return found


def _typed(command: Mapping[str, Any]) -> str:
    """Return a command that a node suggests as it is typed."""
    name, value = str(command.get("command")), command.get("value")
    if name == "ct_direction":
        value = "reversed" if value == -1 else "normal"
    if isinstance(value, Mapping):
        value = " ".join(f"{key}={number:g}" for key, number in value.items())
    parts = [name, str(value)]
    for option in ("phase", "meter"):
        if command.get(option):
            parts.append(f"--{option} {command[option]}")
    return " ".join(parts)


def _order(entry: Mapping[str, Any]) -> str:
    order = entry.get("order")
    return f" (clamps of the phases: {', '.join(map(str, order))})" if order else ""


def _channel(channel: Mapping[str, Any]) -> str:
    parts = []
    for key, value in channel.items():
        if key == "curve":
            parts.append(f"curve of {len(value)} points")
        elif isinstance(value, bool):
            if value:
                parts.append(key)
        elif isinstance(value, int | float):
            parts.append(f"{key} {value:.6g}")
    return ", ".join(parts)


def _record(record: Mapping[str, Any]) -> str:
    phase = f" L{record['phase']}" if record.get("phase") else ""
    after = ", ".join(
        f"{name} {value:+.3f}" for name, value in (record.get("after_percent") or {}).items()
    )
    told = f"error {after}" if after else f"value {record.get('value')}"
    return (
        f"{record.get('step')} of {record.get('meter')}{phase}, {_day(record.get('date'))}: {told}"
    )


def _day(seconds: Any) -> str:
    if not isinstance(seconds, int | float) or not 0 < seconds < 2**40:
        return "an unknown day"
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _usage(cause: str, action: str) -> GridnodeError:
    return GridnodeError("check the command", cause, action, Exit.USAGE)
