"""What a technician asks of a node's detector: the state of its model, and what is to become of it."""

from __future__ import annotations

import time
from typing import Any

from gridnode_host.device import Node
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

_CALL_S = 60.0


def run(
    port: str, out: Output, action: str, signal: str | None = None, *, dry_run: bool = False
) -> None:
    """Tell the state of the model, after `action` where it is not "status".

    Raises GridnodeError, REFUSED when the node says no.
    """
    if (action == "accept") != bool(signal):
        raise GridnodeError(
            "check the arguments",
            "accept needs the signal that it is for" if action == "accept" else f"{action} is for the whole device",
            "For example: gridnode detector --port /dev/ttyUSB0 accept voltage",
            Exit.USAGE,
        )
    with Node(port) as node:
        with out.step("stop the application"):
            node.stop()
        if dry_run:
            out.event("plan", f"would ask the detector: {_words(action, signal)}", action=action, signal=signal)
            action, signal = "status", None
        with out.step(f"ask the detector: {_words(action, signal)}"):
            answer = node.call("detector", action, signal, timeout_s=_CALL_S)
        answer.pop("ok")
        out.event("detector", describe(answer), **answer)
    out.done()


def _words(action: str, signal: str | None) -> str:
    return f"{action} {signal}" if signal else action


def describe(status: dict[str, Any]) -> str:
    """Return the state of a model in plain words."""
    rows = f"{status['rows']} rows learnt"
    if status.get("frozen_at"):
        rows += f", frozen on {time.strftime('%Y-%m-%d %H:%M', time.gmtime(status['frozen_at']))} UTC"
    lines = [f"      {status['state']}: {rows}"]
    if status.get("reason"):
        lines.append(f"      {status['reason']}")
    if status.get("signals"):
        lines.append(f"      signals: {', '.join(status['signals'])}")
    return "\n".join(lines)
