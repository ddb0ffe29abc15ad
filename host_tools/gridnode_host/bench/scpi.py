"""SCPI instruments on loopback TCP: lines of commands and queries (SCPI-99, IEEE 488.2).

A header is known in its short and its long form, whatever its case, with a number behind it
where the command takes one. A header behind a `;` begins where the one before did, or at the
root. Errors go to a queue of the connection, which SYSTem:ERRor? empties.
"""

from __future__ import annotations

import math
import re
import socket
import socketserver
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_LINE = 4096  # bytes
_QUEUE = 20  # errors
_CLIENTS = 16
_POLL_S = 0.1
_SEND_S = 5.0

_TEXTS = {
    -100: "Command error",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -200: "Execution error",
    -222: "Data out of range",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
}


class ScpiError(Exception):
    """A command is refused; `code` is that of the standard."""

    def __init__(self, code: int, detail: str = "") -> None:
        text = _TEXTS[code]
        super().__init__(f"{text}; {detail}" if detail else text)
        self.code = code


Command = Callable[[int | None, list[str]], str | None]
"""Takes the number behind the header and the parameters, answers if it is a query. Raises
`ScpiError`, or ValueError for a value that is out of range."""


class Commands:
    """Commands by header, such as `SOURce:VOLTage#` (# is where a number may stand) or `*IDN?`."""

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self._commands = [(_pattern(header), run) for header, run in commands.items()]

    def find(self, header: str) -> tuple[Command, int | None] | None:
        """The command of a header and the number in it; None if it is not known."""
        for pattern, run in self._commands:
            match = pattern.fullmatch(header)
            if match:
                number = "".join(match.groups())
                return run, int(number) if number else None
        return None


def _pattern(header: str) -> re.Pattern[str]:
    """`SOURce:VOLTage#` matches SOUR:VOLT1 and source:voltage."""
    out = ""
    for word in re.findall(r"\*?[A-Za-z]+|[:#?]", header):
        if word == "#":
            out += r"(\d{0,3})"
        elif word[0] in ":?*":
            out += re.escape(word)
        else:
            short = "".join(c for c in word if c.isupper())
            out += f"{short}(?:{word[len(short) :]})?"
    return re.compile(out, re.IGNORECASE)


class Session:
    """One connection: its errors, and what it understands."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._errors: deque[tuple[int, str]] = deque()
        self._own = Commands({"SYSTem:ERRor?": self._next_error, "*CLS": self._clear})

    def execute(self, line: str) -> str | None:
        """Obey one line; returns what is answered. What is wrong goes to the queue."""
        answers, path = [], ""
        for unit in line.split(";"):
            text = unit.strip()
            if not text:
                continue
            try:
                answer, path = self._unit(text, path)
            except ScpiError as err:
                self.error(err.code, str(err))
                break  # what follows may depend on it
            except ValueError as err:
                self.error(-222, f"{_TEXTS[-222]}; {err}")
                break
            except Exception as err:  # noqa: BLE001 - an instrument outlives whatever it is sent
                self.error(-200, f"{_TEXTS[-200]}; {type(err).__name__}")
                break
            if answer is not None:
                answers.append(answer)
        return ";".join(answers) if answers else None

    def error(self, code: int, text: str | None = None) -> None:
        """Put an error in the queue."""
        if len(self._errors) >= _QUEUE:
            self._errors[-1] = (-350, _TEXTS[-350])
        else:
            self._errors.append((code, text or _TEXTS[code]))

    def _unit(self, text: str, path: str) -> tuple[str | None, str]:
        header, rest = (*text.split(maxsplit=1), "")[:2]
        if not header.isascii() or not header.isprintable():
            raise ScpiError(-102)
        for candidate in _candidates(header, path):
            found = self._own.find(candidate) or self._commands.find(candidate)
            if found:
                run, number = found
                parameters = [part.strip() for part in rest.split(",")] if rest else []
                below = path if header.startswith("*") else candidate.rpartition(":")[0]
                return run(number, parameters), below
        raise ScpiError(-113, header[:40])

    def _next_error(self, _: int | None, parameters: list[str]) -> str:
        none(parameters)
        code, text = self._errors.popleft() if self._errors else (0, "No error")
        return f'{code},"{text}"'

    def _clear(self, _: int | None, parameters: list[str]) -> None:
        none(parameters)
        self._errors.clear()


def _candidates(header: str, path: str) -> Iterator[str]:
    if path and not header.startswith((":", "*")):
        yield f"{path}:{header}"
    yield header.removeprefix(":")


def none(parameters: list[str]) -> None:
    """Refuse parameters where there are none."""
    if parameters:
        raise ScpiError(-108)


def number(parameters: list[str]) -> float:
    """The only parameter, a finite number."""
    if not parameters:
        raise ScpiError(-109)
    if len(parameters) > 1:
        raise ScpiError(-108)
    try:
        value = float(parameters[0])
    except ValueError:
        raise ScpiError(-104, parameters[0][:40]) from None
    if not math.isfinite(value):
        raise ScpiError(-222, parameters[0][:40])
    return value


class ScpiServer:
    """Serves commands to several connections on a port of the loopback interface, from threads."""

    def __init__(self, commands: Commands) -> None:
        self._server = _Server(commands)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="scpi", daemon=True
        )
        self._thread.start()

    @property
    def resource(self) -> str:
        """Its name for PyVISA."""
        return f"TCPIP0::127.0.0.1::{self.port}::SOCKET"

    def close(self) -> None:
        """Close the port and every connection."""
        self._server.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_SEND_S)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 2 * _CLIENTS
    allow_reuse_address = True

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.ending = threading.Event()
        self.places = threading.BoundedSemaphore(_CLIENTS)
        super().__init__(("127.0.0.1", 0), _Connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection has broken: the others go on."""


class _Connection(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        if not self.server.places.acquire(blocking=False):
            return
        try:
            self._serve(Session(self.server.commands))
        finally:
            self.server.places.release()

    def _serve(self, session: Session) -> None:
        buffer, skip = b"", False
        while not self.server.ending.is_set():
            self.request.settimeout(_POLL_S)
            try:
                data = self.request.recv(_LINE)
            except TimeoutError:
                continue
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                if skip:  # the end of one that was too long
                    skip = False
                    continue
                if len(line) > _LINE:
                    session.error(-363)
                    continue
                self._obey(session, line)
            if len(buffer) > _LINE:
                if not skip:
                    session.error(-363)
                buffer, skip = b"", True

    def _obey(self, session: Session, line: bytes) -> None:
        answer = session.execute(line.decode("latin-1"))
        if answer is not None:
            self.request.settimeout(_SEND_S)
            self.request.sendall(answer.encode("latin-1", "replace") + b"\n")
