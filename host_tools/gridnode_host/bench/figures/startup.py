"""Time from the start of a bench, and from a clean clone, to the first accepted shadow."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gridnode_host import resources
from gridnode_host.bench.figures.tables import Row, Table
from gridnode_host.bench.rig import Rig
from gridnode_host.errors import Exit, GridnodeError

LIMIT_S = 8.0
CLONE_LIMIT_S = 60.0

_PATIENCE_S = 60.0
_CLONE_PATIENCE_S = 300.0


def start(profile: str) -> Row:
    """Start a bench with one node, provision it, and wait until its shadow is accepted."""
    began = time.monotonic()
    with Rig.virtual(nodes=1, profile=profile) as bench:
        bench.nodes[0].wait_event("accepted", _PATIENCE_S)
        took = time.monotonic() - began
    return _row(f"bench start, {profile}", took, LIMIT_S)


def clone() -> Row:
    """Clone the sources, `make demo` there, and wait for its first report.

    What pip has downloaded before is used again. Raises GridnodeError when there is no checkout
    or the demo fails.
    """
    root = resources.checkout()
    step = "run the demo of a clean clone"
    if root is None or not shutil.which("git") or not shutil.which("make"):
        raise GridnodeError(step, "it takes a checkout, git and make", exit=Exit.USAGE)
    with tempfile.TemporaryDirectory(prefix="gridnode-clone-") as folder:
        began = time.monotonic()
        target = Path(folder) / "gridnode"
        subprocess.run(
            ["git", "clone", "--quiet", "--no-hardlinks", str(root), str(target)],
            check=True,
            timeout=_CLONE_PATIENCE_S,
        )
        # neither this make nor this Python has a say there
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("MFLAGS", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
            and not name.startswith("MAKE")
        }
        process = subprocess.Popen(
            ["make", "demo", "NODES=1", "DURATION=5"],
            cwd=target,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            took, said = _first_report(process, began)
        finally:
            _end(process)
    if took is None:
        tail = "\n".join(said.decode("utf-8", "replace").splitlines()[-8:])
        raise GridnodeError(step, f"no report came: {tail}")
    return _row("clean clone, make demo", took, CLONE_LIMIT_S)


def _first_report(process: subprocess.Popen[bytes], began: float) -> tuple[float | None, bytes]:
    """Seconds until the demo shows the shadow of its node, and all that was said until then."""
    assert process.stdout is not None
    said = b""
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while (left := began + _CLONE_PATIENCE_S - time.monotonic()) > 0:
            if not ready.select(left):
                break
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                break
            said += chunk
            if b"node-1:" in said:
                return time.monotonic() - began, said
    return None, said


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let the demo end by itself, else interrupt it, so that nothing is left behind."""
    for number in (None, signal.SIGINT, signal.SIGKILL):
        if number is not None and process.poll() is None:
            os.killpg(process.pid, number)
        try:
            process.communicate(timeout=30)
            return
        except subprocess.TimeoutExpired:
            pass


def _row(what: str, took: float, limit: float) -> Row:
    return {"from": what, "s": round(took, 1), "limit s": limit, "ok": took <= limit}


def table(rows: Sequence[Row]) -> Table:
    """The table of starting times."""
    return Table(
        "startup",
        "Time to the first accepted shadow",
        [
            "Bench start: broker, node, keys, provisioning over the serial port, restart, Wi-Fi, "
            "clock, TLS, shadow; the image is compiled.",
            "Clean clone (make bench CLONE=1): git clone, make demo NODES=1, pip's cache warm.",
        ],
        list(rows),
    )
