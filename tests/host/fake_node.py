"""A scripted node on a pty, for failures that a healthy node does not show.

It speaks the raw REPL and runs what the host sends with files, ``os`` and the service of its own.
The good ways are tested on the virtual node, which runs the real firmware.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import pty
import select
import threading
import tty
import types
from typing import Any


class FakeNode:
    """A context manager; ``port`` is its serial port and ``files`` what lies on it."""

    def __init__(self, console: list[str] | None = None, application: bool = True) -> None:
        self.files: dict[str, bytes] = {}
        self.refusal: dict[str, str] | None = None
        self.torn: str | None = None  # a file that is read back with other content
        self.application = application
        self.soft_resets = 0
        self._held = False  # the restart leaves it at its prompt
        self.received = b""
        self._console = console or []
        self._printed: list[str] = []
        self._globals: dict[str, Any] = {}
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FakeNode:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join(10)
        for descriptor in (self._master, self._slave, self._stop_read, self._stop_write):
            os.close(descriptor)

    def say(self, line: bytes) -> None:
        """Print a line on the console."""
        os.write(self._master, line + b"\r\n")

    def _serve(self) -> None:
        raw, pending = False, b""
        while True:
            ready, _, _ = select.select([self._master, self._stop_read], [], [], 30)
            if self._master not in ready:
                return
            received = os.read(self._master, 4096)
            self.received += received
            for value in received:
                byte = bytes((value,))
                if byte == b"\x03":
                    pending = b""
                elif byte == b"\x01" and not pending.endswith(b"\x05A"):
                    raw, pending = True, b""
                    os.write(self._master, b"raw REPL; CTRL-B to exit\r\n>")
                elif byte == b"\x02":
                    raw = False
                elif byte == b"\x04" and raw:
                    self._execute(pending.decode())
                    pending = b""
                elif byte == b"\x04":
                    self.soft_resets += 1
                else:
                    pending += byte
                    if pending.endswith(b"\x05A\x01"):  # raw paste: understood, not supported
                        pending = b""
                        os.write(self._master, b"R\x00")

    def _execute(self, code: str) -> None:
        self._printed = []
        error = ""
        modules = {"os": self._os(), "gridnode": types.SimpleNamespace(service=self)}
        if not self.application:
            del modules["gridnode"]

        def load(name: str, *_: object) -> Any:
            if name not in modules:
                raise ImportError(f"no module named '{name}'")
            return modules[name]

        names = {**vars(builtins), "__import__": load, "open": self._open, "print": self._print}
        self._globals["__builtins__"] = names
        try:
            exec(code, self._globals)
        except Exception as err:
            error = f"Traceback (most recent call last):\r\n{type(err).__name__}: {err}\r\n"
        text = "".join(self._printed)
        os.write(self._master, b"OK" + text.encode() + b"\x04" + error.encode() + b"\x04>")
        if self._held:
            self._held = False
            self.say(b'{"event": "held"}')
        elif "restart" in code:
            for line in self._console:
                self.say(line.encode())

    def _print(self, text: object) -> None:
        self._printed.append(f"{text}\r\n")

    def _os(self) -> types.SimpleNamespace:
        def stat(path: str) -> tuple[int, ...]:
            if path in ("/config", "/certs") or path in self.files:
                return (0,) * 10
            raise OSError(2, "ENOENT")

        return types.SimpleNamespace(stat=stat, mkdir=lambda path: None)

    def _open(self, path: str, _mode: str) -> types.SimpleNamespace:
        self.files[path] = b""

        def write(data: bytes) -> int:
            self.files[path] += data
            return len(data)

        return types.SimpleNamespace(write=write, close=lambda: None)

    # what gridnode.service offers

    def _reply(self, **fields: Any) -> None:
        self._print(json.dumps({"ok": True, **fields}))

    def info(self) -> None:
        self._reply(firmware="0", thing=None)

    def install(self, hashes: dict[str, str]) -> None:
        if self.refusal:
            self._print(json.dumps({"ok": False, **self.refusal}))
            return
        for path in hashes:
            self.files[path] = self.files.pop(path + ".new")
        self._reply()

    def hashes(self, paths: list[str]) -> None:
        found = {path: hashlib.sha256(self.files[path]).hexdigest() for path in paths}
        if self.torn:
            found[self.torn] = "0" * 64
        self._reply(hashes=found)

    def discard(self, paths: list[str]) -> None:
        for path in paths:
            self.files.pop(path + ".new", None)
        self._reply()

    def restart(self, hold: bool = False) -> None:
        self._held = hold
        self._reply()
