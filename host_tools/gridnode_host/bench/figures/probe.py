"""Running a probe: a program inside a bare VM, with the compiled application on its path."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from gridnode_host import build
from gridnode_host.bench import vm as processor
from gridnode_host.errors import GridnodeError

_PROBES = Path(__file__).parent / "probes"
_TIMEOUT_S = 120
_HEAP_KW = 512  # room to measure in; nothing here depends on it


def machines() -> dict[str, str]:
    """VMs to measure with, by their kind: the registry's, and that of $MICROPYTHON if another."""
    own = shutil.which("micropython", path=sysconfig.get_path("scripts"))
    found: dict[str, str] = {}
    for vm in (own, build.micropython()):
        if vm and vm not in found.values():
            found[_kind(vm)] = vm
    return found


def _kind(vm: str) -> str:
    code = "import sys; print(64 if sys.maxsize >> 32 else 32, len(str(0.1 + 0.2)) > 8)"
    done = subprocess.run(
        [vm, "-c", code], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    bits, double = done.stdout.split()
    return f"{bits}-bit, {'double' if double == 'True' else 'float32'}"


def source(name: str) -> str:
    """The program text of a probe."""
    return (_PROBES / f"{name}.py").read_text("utf-8")


def run(vm: str, name: str, order: Any = None, *, shims: bool = False) -> Any:
    """Run the probe `name` and return what it prints; it reads `order` as JSON from stdin.

    `shims` puts the chip's modules on the path.

    Raises GridnodeError with the VM's traceback.
    """
    before = [str(processor.shims())] if shims else []
    command, environment = build.bare_vm(vm, _PROBES / f"{name}.py", _HEAP_KW, before)
    ours, theirs = socket.socketpair()  # the shims look for their bus when they are imported
    with ours, theirs:
        done = subprocess.run(
            command,
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={**environment, "GRIDNODE_BUS": str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
        )
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise GridnodeError(
            f"measure {name} in the VM", (done.stderr or done.stdout).strip() or "no answer"
        ) from None
