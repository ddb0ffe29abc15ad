"""How many operations a row takes: counted in the firmware's sources, which this Python runs in a child."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gridnode_host import resources
from gridnode_host.errors import GridnodeError

_PROGRAM = Path(__file__).with_name("on_cpython.py")
_TIMEOUT_S = 300.0
_COUNTED_ROWS = 100


def most(names: list[str], limits: dict[str, Any], t: np.ndarray, values: np.ndarray) -> float:
    """Return the most operations that one of the last rows takes, NaN in a wheel without sources.

    An operation is one of arithmetic, of bits, or a comparison; `min`, `max` and `abs` count as
    none. The detector learns from the first rows as the limits say and has to be frozen then.

    Raises GridnodeError when it fails.
    """
    root = resources.checkout()
    if root is None:
        return math.nan
    order = {
        "names": names,
        "limits": limits,
        "rows": len(t),
        "counted": min(_COUNTED_ROWS, len(t)),
        "firmware": str(root / "firmware"),
    }
    given = json.dumps(order).encode() + b"\n"
    given += t.astype("<i8").tobytes() + np.ascontiguousarray(values, dtype="<f4").tobytes()
    done = subprocess.run(
        [sys.executable, "-I", str(_PROGRAM)],
        input=given,
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise GridnodeError(
            "count the operations of a row",
            done.stderr.decode(errors="replace").strip(),
            "This is a defect of the detector: report what is shown.",
        )
    return float(max(json.loads(done.stdout)))
