"""One node on a serial port: its console, its raw REPL and calls of ``gridnode.service``.

The transport is mpremote's own. Every wait has a deadline; every failure becomes a
`GridnodeError` with the step, the cause and the next action.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import serial
from mpremote import transport_serial
from mpremote.transport import TransportError, TransportExecError
from serial.tools import list_ports as serial_ports

from gridnode_host.errors import Exit, GridnodeError

BAUD = 115200
_READ_S = 1.0  # one read of the port; longer waits are made of these
_STOP_S = 5.0
_STOP_WAITS_S = (1.5, 1.5, _STOP_S)
"""A running application ends within a second of Ctrl-C; one that is just starting may miss it."""
_QUIET_S = 0.1
_CALL_S = 20.0
_CHUNK = 512

# mpremote prints what it read when a node does not answer; stdout belongs to our events
transport_serial.print = lambda *_, **__: None


def list_ports(every: bool = False) -> list[dict[str, Any]]:
    """Return the serial ports of this machine, those on USB only unless ``every``."""
    return [
        {
            "port": port.device,
            "description": port.description if port.description != "n/a" else None,
            "usb": f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None else None,
            "serial_number": port.serial_number,
            "location": port.location,
        }
        for port in sorted(serial_ports.comports())
        if every or port.vid is not None
    ]


class Console:
    """The lines that come from a node's serial port."""

    def __init__(self, stream: serial.Serial) -> None:
        self._stream = stream
        self._pending = b""

    @classmethod
    def open(cls, port: str) -> Console:
        """Open a port for listening only."""
        try:
            stream = serial.serial_for_url(port, BAUD, timeout=_READ_S, exclusive=True)
        except (OSError, ValueError) as err:
            raise _open_error(port, err) from err
        return cls(stream)

    def close(self) -> None:
        """Free the port."""
        self._stream.close()

    def lines(self, deadline: float) -> Iterator[str | None]:
        """Yield lines until ``deadline`` (`time.monotonic`).

        None is yielded when nothing has come for a second, so that the caller stays in charge.
        """
        while time.monotonic() < deadline:
            line, end, rest = self._pending.partition(b"\n")
            if end:
                self._pending = rest
                yield line.decode("utf-8", "replace").rstrip("\r")
                continue
            try:
                chunk = self._stream.read(max(1, self._stream.in_waiting))
            except OSError as err:
                raise GridnodeError(
                    "listen to the node",
                    f"the port is gone ({err})",
                    "Check the cable and the node's supply.",
                    Exit.NO_NODE,
                ) from err
            self._pending += chunk
            if not chunk:
                yield None


def parse_event(line: str) -> dict[str, Any] | None:
    """Return the event that a console line carries, or None for any other line."""
    try:
        event = json.loads(line.lstrip("\x04> "))  # the end of a raw REPL command may precede
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


class Node:
    """A node whose application is stopped while the host works on it.

    A context manager: at the end the application is started again unless `restart` has done so.
    """

    def __init__(self, port: str) -> None:
        self.port = port
        self._transport = _open_transport(port)
        self.console = Console(self._transport.serial)

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the application run again and free the port."""
        with contextlib.suppress(OSError, TransportError):
            if self._transport.in_raw_repl:
                self._transport.exit_raw_repl()
                self._transport.serial.write(b"\x04")  # a soft reset starts the application
        with contextlib.suppress(OSError):
            self._transport.close()

    def stop(self) -> None:
        """End the running application cleanly and enter the raw REPL."""
        for wait_s in _STOP_WAITS_S:
            with self._translated("stop the application"), contextlib.suppress(TransportError):
                self._transport.enter_raw_repl(soft_reset=False, timeout_overall=wait_s)
                self._settle()
                return
        raise GridnodeError(
            "stop the application",
            f"nothing on {self.port} answers like MicroPython",
            "Check that this is the node's console port, press the node's reset button and "
            "try again.",
            Exit.NO_NODE,
        )

    def _settle(self) -> None:
        """Drop what still comes, since a node that was just starting answers each knock on its
        own, and ask for one prompt, which the transport wants to see before a command."""
        stream = self._transport.serial
        deadline = time.monotonic() + _STOP_S
        while stream.in_waiting and time.monotonic() < deadline:
            stream.reset_input_buffer()
            time.sleep(_QUIET_S)
        stream.write(b"\x01")
        banner = b"raw REPL; CTRL-B to exit\r\n"
        if not self._transport.read_until(1, banner, timeout=_STOP_S).endswith(banner):
            raise TransportError("no prompt")

    def call(self, function: str, *arguments: Any, timeout_s: float = _CALL_S) -> dict[str, Any]:
        """Call a function of ``gridnode.service`` and return its answer.

        Raises `GridnodeError`: REFUSED when the node says no, WRONG_CHIP when it has no Gridnode
        application, NO_NODE when it does not answer.
        """
        step = f"ask the node: {function}"
        with self._translated(step):
            out, err = self._transport.exec_raw(_service(function, arguments), timeout=timeout_s)
        if err:
            raise _device_error(step, err.decode("utf-8", "replace"))
        return _answer(step, out.decode("utf-8", "replace"))

    def run(self, code: str, timeout_s: float = _CALL_S) -> str:
        """Run Python code on the node, its application stopped, and return what it prints."""
        step = "run a program on the node"
        with self._translated(step):
            out, err = self._transport.exec_raw(code, timeout=timeout_s)
        if err:
            raise _device_error(step, err.decode("utf-8", "replace"))
        return str(out.decode("utf-8", "replace"))

    def stage(self, path: str, data: bytes, progress: Callable[[int, int], None]) -> None:
        """Write ``data`` to ``<path>.new`` on the node; `service.install` gives it its name."""
        step = f"write {path}"
        folder = str(PurePosixPath(path).parent)
        with self._translated(step):
            if not self._transport.fs_exists(folder):
                self._transport.fs_mkdir(folder)
            self._transport.fs_writefile(f"{path}.new", data, _CHUNK, progress)

    def hold(self) -> None:
        """Stop the application and restart the node without it, with all of its memory free."""
        self.stop()
        self._restart("restart the node without its application", (True,), '"held"')
        self.stop()

    def restart(self) -> None:
        """Let the node restart; its console can be read from now on."""
        self._restart("restart the node", (), '"ok"')

    def _restart(self, step: str, arguments: tuple[Any, ...], sign: str) -> None:
        with self._translated(step):
            self._transport.exec_raw_no_follow(_service("restart", arguments))
        self._transport.in_raw_repl = False
        for line in self.console.lines(time.monotonic() + _CALL_S):
            if line is not None and '"ok"' in line:
                # the raw REPL puts OK before what a command prints
                _answer(step, line[line.index("{") :])
            if line is not None and sign in line:
                return
        raise GridnodeError(
            step, "the node does not answer", "Press its reset button.", Exit.NO_NODE
        )

    @contextlib.contextmanager
    def _translated(self, step: str) -> Iterator[None]:
        """Turn the failures of the transport into a `GridnodeError`."""
        try:
            yield
        except TransportExecError as err:
            raise _device_error(step, err.error_output) from err
        except (serial.SerialException, TransportError) as err:
            raise GridnodeError(
                step,
                f"the node on {self.port} does not answer ({type(err).__name__})",
                "Check the cable and the node's supply, then try again.",
                Exit.NO_NODE,
            ) from err
        except OSError as err:
            full = err.errno == errno.ENOSPC
            raise GridnodeError(
                step,
                "the node's flash is full" if full else f"the node reports {err}",
                "Remove what is not needed from the node." if full else "Try again.",
                Exit.REFUSED,
            ) from err


def _service(function: str, arguments: tuple[Any, ...]) -> str:
    values = ", ".join(repr(value) for value in arguments)
    return f"from gridnode import service\nservice.{function}({values})"


def _answer(step: str, text: str) -> dict[str, Any]:
    """Return the JSON answer of a service call: the last line that is one."""
    for line in reversed(text.splitlines()):
        try:
            answer = json.loads(line.strip("\x04> "))
        except ValueError:
            continue
        if isinstance(answer, dict) and "ok" in answer:
            if answer["ok"]:
                return answer
            raise _refusal(step, answer)
    raise GridnodeError(
        step, "the answer is not the JSON of a Gridnode service", "Update the node.", Exit.REFUSED
    )


def _refusal(step: str, answer: dict[str, Any]) -> GridnodeError:
    """Tell why a node says no; a condition that does not hold comes with its number and limit."""
    code = answer.get("code", "?")
    cause = f"{answer.get('message', 'no reason given')} ({code})"
    if code == "hash":
        return GridnodeError(step, cause, "Check the cable, try again.", Exit.VERIFY)
    if code == "condition":
        told = {name: answer.get(name) for name in ("condition", "measured", "limit")}
        cause = (
            f"{answer.get('message', 'a condition does not hold')} "
            f"({told['condition']}: measured {_short(told['measured'])}, "
            f"limit {_short(told['limit'])})"
        )
        return GridnodeError(
            step, cause, "Correct what the node names.", Exit.REFUSED, {"code": code, **told}
        )
    internal = code == "internal"
    action = "Restart the node and try again." if internal else "Correct what the node names."
    return GridnodeError(step, cause, action, Exit.REFUSED, {"code": code})


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _device_error(step: str, trace: str) -> GridnodeError:
    last = trace.strip().splitlines()[-1] if trace.strip() else "no message"
    if "ImportError" in last:
        return GridnodeError(
            step,
            f"this MicroPython has no Gridnode application ({last})",
            "Put the Gridnode image on the node first.",
            Exit.WRONG_CHIP,
        )
    return GridnodeError(
        step, f"the node failed: {last}", "Restart it and try again.", Exit.REFUSED
    )


def _open_transport(port: str) -> transport_serial.SerialTransport:
    try:
        transport = transport_serial.SerialTransport(port, BAUD, timeout=_READ_S)
    except (TransportError, OSError, ValueError) as err:
        # mpremote hides the reason; a second look shows it
        try:
            serial.serial_for_url(port, BAUD, timeout=0, exclusive=True).close()
        except (OSError, ValueError) as reason:
            raise _open_error(port, reason) from err
        raise GridnodeError(
            "open the port", f"{port} was busy for a moment", "Try again.", Exit.PORT_BUSY
        ) from err
    transport.serial.write_timeout = _CALL_S
    return transport


def _open_error(port: str, err: Exception) -> GridnodeError:
    """Say why a port cannot be opened, and what to do about it."""
    step, code, text = "open the port", getattr(err, "errno", None), str(err)
    windows_busy = sys.platform == "win32" and "PermissionError" in text
    if code in (errno.EBUSY, errno.EAGAIN) or windows_busy:
        holders = _holders(port)
        by = f" by {', '.join(holders)}" if holders else " by another program"
        return GridnodeError(
            step, f"{port} is in use{by}", "Close that program and try again.", Exit.PORT_BUSY
        )
    if code in (errno.EACCES, errno.EPERM):
        return GridnodeError(
            step, f"no permission to use {port}", _permission_hint(port), Exit.PORT_BUSY
        )
    names = [row["port"] for row in list_ports()]
    here = f"Ports with USB now: {', '.join(names)}." if names else "No USB serial port is here."
    missing = code == errno.ENOENT or "FileNotFoundError" in text
    return GridnodeError(
        step,
        f"there is no port {port}" if missing else f"{port} cannot be opened: {text}",
        f"Check the cable and the name. {here}",
        Exit.NO_NODE,
    )


def _permission_hint(port: str) -> str:
    try:
        import grp

        group = grp.getgrgid(os.stat(port).st_gid).gr_name
    except (ImportError, KeyError, OSError):
        return "Ask the administrator of this machine for access to the port."
    return f"Add yourself to its group and log in again: sudo usermod -aG {group} $USER"


def _holders(port: str) -> list[str]:
    """Return who holds a port, where the system tells (Linux)."""
    target = os.path.realpath(port)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.name == str(os.getpid()):
                continue
            if any(os.path.realpath(link) == target for link in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                found.append(f"{name} (process {process.name})")
    return sorted(found)
