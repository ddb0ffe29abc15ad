"""The node's own view of rows: its features, and what a forest says of them, computed in its VM."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridnode_host import build
from gridnode_host.detection.stream_file import Floats
from gridnode_host.errors import Exit, GridnodeError

__all__ = ["Answers", "Rows", "classify", "features"]

_PROBE = Path(__file__).parent / "probes" / "rows.py"
_TIMEOUT_S = 600
_HEAP_KW = 256

Int16 = NDArray[np.int16]


@dataclass
class Rows:
    """Features of the rows of a stream."""

    names: list[str]
    version: int  # of what the names mean
    values: Int16  # [rows, phases, features]


@dataclass
class Answers:
    """What a forest says of the rows of a stream."""

    model: str
    classes: list[str]
    found: Int16  # [rows, phases], index of a class
    certainty: Int16  # [rows, phases], 1/1000


def features(values: dict[str, Floats], limits: dict[str, Any], vm: str | None = None) -> Rows:
    """Compute the features of each row; `vm` is the default of `build.micropython`."""
    head, body = _run(values, limits, b"", vm)
    shape = (-1, head["phases"], len(head["features"]))
    return Rows(list(head["features"]), head["version"], body.reshape(shape))


def classify(
    forest: bytes, values: dict[str, Floats], limits: dict[str, Any], vm: str | None = None
) -> Answers:
    """Classify each row; raises GridnodeError with the node's reason if it refuses the forest."""
    head, body = _run(values, limits, forest, vm)
    if "error" in head:
        raise GridnodeError("load the forest", str(head["error"]), exit=Exit.REFUSED)
    pairs = body.reshape(-1, head["phases"], 2)
    return Answers(head["name"], head["classes"], pairs[..., 0], pairs[..., 1])


def _run(
    values: dict[str, Floats], limits: dict[str, Any], forest: bytes, vm: str | None
) -> tuple[dict[str, Any], Int16]:
    command, environment = build.bare_vm(vm or build.micropython(), _PROBE, _HEAP_KW)
    names: Sequence[str] = list(values)
    rows = np.stack(list(values.values()), axis=1).astype("<f4")
    order = {"names": names, "limits": limits, "rows": len(rows), "forest": len(forest)}
    done = subprocess.run(
        command,
        input=json.dumps(order).encode() + b"\n" + forest + rows.tobytes(),
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
        env=environment,
    )
    head, _, body = done.stdout.partition(b"\n")
    if done.returncode or not head:
        cause = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise GridnodeError("compute the features in the node's VM", cause or "no answer")
    return json.loads(head), np.frombuffer(body, dtype="<i2")
