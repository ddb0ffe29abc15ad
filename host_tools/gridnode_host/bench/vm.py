"""Starting a MicroPython unix VM as the processor of a node."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import tty
from dataclasses import dataclass
from pathlib import Path

from gridnode_host import build, resources
from gridnode_host.errors import GridnodeError
from gridnode_host.files import write_atomic

SHIMS = Path(__file__).parent / "shims"
BUS_TIMEOUT_S = 60

_PROBE_TIMEOUT_S = 20
_TIOCSCTTY = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "

log = logging.getLogger(__name__)


@dataclass
class Vm:
    """A running VM: its process, the bench's end of the bus, the master of its terminal."""

    process: subprocess.Popen[bytes]
    bus: socket.socket
    terminal: int

    def kill(self) -> int:
        """End the process at once, as a reset does, and return its exit code."""
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        code = self.process.wait(10)
        forget_shared_memory(self.process.pid)
        return code


def start(micropython: str, heap_kb: int, clock_file: Path | None) -> Vm:
    """Start the VM with ``heap_kb`` K words of heap for the application.

    The heap that the shims take is added: on the chip they are not Python. With ``clock_file``
    the C library's time of day, which TLS reads, follows that file.
    """
    heap_kb += shim_heap_kb(micropython)
    command = [*_command(micropython), "-X", f"heapsize={heap_kb}wK"]
    command += ["-i", "-c", "import _boot; _boot.start(); del _boot"]
    ours, theirs = socket.socketpair()
    master, slave = pty.openpty()
    try:
        # raw but with signals: whether the VM has them on tells if it runs or waits for a line
        tty.setraw(slave)
        mode = termios.tcgetattr(slave)
        mode[3] |= termios.ISIG
        for key in (termios.VINTR, termios.VQUIT, termios.VSUSP):
            mode[6][key] = b"\x00"
        termios.tcsetattr(slave, termios.TCSANOW, mode)
        _set_timeout(theirs)
        environment = {"MICROPYPATH": ".frozen", "TZ": "UTC0", "PATH": os.defpath}
        environment["GRIDNODE_BUS"] = str(theirs.fileno())
        if clock_file:
            environment |= _fake_time(clock_file)
        process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=shims(),
            env=environment,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        os.close(master)
        raise
    finally:
        theirs.close()
        os.close(slave)
    return Vm(process, ours, master)


def forget_shared_memory(pid: int) -> None:
    """Remove what libfaketime leaves in shared memory when its process is killed."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        try:
            os.unlink(f"/dev/shm/{name}")
        except OSError:
            pass


@functools.cache
def follows_clock(micropython: str) -> bool:
    """Whether the C library's time of a VM can be led; says so once if it cannot."""
    if _library() is not None:
        with tempfile.TemporaryDirectory(prefix="gridnode-") as folder:
            clock_file = Path(folder) / "clock"
            clock_file.write_text("-1000000000")
            ask = [*_command(micropython, tty=False), "-c", "import time; print(time.time())"]
            done = subprocess.run(
                ask,
                capture_output=True,
                text=True,
                timeout=_PROBE_TIMEOUT_S,
                check=False,
                env={"TZ": "UTC0", "PATH": os.defpath} | _fake_time(clock_file),
            )
        try:
            if float(done.stdout) < 1_000_000_000:
                return True
        except ValueError:
            pass
    log.warning(
        "%s: the C library's time cannot be led, so certificate dates are checked against real "
        "time and not against the node's clock",
        micropython,
    )
    return False


@functools.cache
def shim_heap_kb(micropython: str) -> int:
    """Return what the shims occupy of a VM's heap, in K words."""
    names = [path.stem for path in sorted(SHIMS.glob("*.py")) if path.stem != "_boot"]
    code = "import gc; gc.collect(); a = gc.mem_alloc()\n"
    code += "".join(f"import {name}\n" for name in names)
    code += "import sys; gc.collect(); print((gc.mem_alloc() - a) >> (sys.maxsize >> 32 > 0))"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            [*_command(micropython, tty=False), "-X", "heapsize=256wK", "-c", code],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
            cwd=shims(),
            env={"MICROPYPATH": ".frozen", "GRIDNODE_BUS": str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
        )
    try:
        return -(-int(done.stdout) // 1024)
    except ValueError:
        raise GridnodeError(
            "start the virtual node",
            f"{micropython} cannot load the shims: {(done.stderr or done.stdout).strip()}",
            "Set MICROPYTHON to a MicroPython unix VM of release 1.24 or newer.",
        ) from None


@functools.cache
def shims() -> Path:
    """Return the folder of the compiled shims; compiles them if they have changed."""
    sources = sorted(SHIMS.glob("*.py"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    root = resources.checkout()
    if root:
        folder = root / "build" / "shims"
    else:
        from platformdirs import user_cache_path

        folder = user_cache_path("gridnode") / "shims"
    folder /= digest
    for source in sources:
        target = folder / f"{source.stem}.mpy"
        if target.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="gridnode-") as temporary:
            result = Path(temporary) / "shim.mpy"
            done = subprocess.run(
                [build.compiler(), "-O3", "-s", source.name, "-o", str(result), str(source)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if done.returncode:
                raise GridnodeError(f"compile {source.name} for the virtual node", done.stderr)
            write_atomic(target, result.read_bytes())
    return folder


def _command(micropython: str, *, tty: bool = True) -> list[str]:
    """Return the command that runs a VM, with the terminal as its controlling one.

    The registry's VM is an extension of Python; run without ``site`` it starts in a third of the
    time that its script takes.
    """
    prepare = _TIOCSCTTY if tty else ""
    python = [sys.executable, "-I", "-S", "-c"]
    module = importlib.util.find_spec("micropython_run")
    if module and module.origin and _is_registry_script(micropython):
        code = prepare + "import sys; sys.path.insert(0, sys.argv[1]); del sys.argv[1]; "
        code += "from micropython_run import run_main; sys.exit(run_main(sys.argv))"
        return [*python, code, str(Path(module.origin).parent)]
    if not tty:
        return [micropython]
    return [*python, prepare + "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", micropython]


@functools.cache
def _is_registry_script(micropython: str) -> bool:
    with open(micropython, "rb") as file:
        return b"micropython_unix" in file.read(512)


@functools.cache
def _library() -> str | None:
    """Return libfaketime's shared library. Its package is not imported: it needs others."""
    package = importlib.util.find_spec("libfaketime")
    if package is None or package.origin is None or not sys.platform.startswith("linux"):
        return None
    folder = Path(package.origin).parent / "vendor" / "libfaketime" / "src"
    library = folder / "libfaketime.so.1"
    return str(library) if library.is_file() else None


def _fake_time(clock_file: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": _library() or "",
        "FAKETIME_TIMESTAMP_FILE": str(clock_file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _set_timeout(sock: socket.socket) -> None:
    """Give up in the VM when the bench does not answer."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", BUS_TIMEOUT_S, 0))
