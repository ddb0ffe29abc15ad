"""A small raw REPL client, so that tests of the virtual node do not rest on the tools they test."""

from __future__ import annotations

import time

import serial

RAW = b"raw REPL; CTRL-B to exit\r\n>"
TIMEOUT_S = 15


class Repl:
    """The host's end of a node's serial port. Usable as a context manager."""

    def __init__(self, port: str) -> None:
        self.serial = serial.Serial(port, 115200, timeout=TIMEOUT_S, write_timeout=TIMEOUT_S)

    def __enter__(self) -> Repl:
        return self

    def __exit__(self, *_: object) -> None:
        self.serial.close()

    def until(self, end: bytes, timeout_s: float = TIMEOUT_S) -> bytes:
        """Read up to and including ``end``."""
        self.serial.timeout = timeout_s
        data = self.serial.read_until(end)
        assert data.endswith(end), f"no {end!r} in {data!r}"
        return data

    def raw(self) -> None:
        """Stop what runs and enter the raw REPL."""
        self.serial.write(b"\r\x03")
        time.sleep(0.05)
        self.serial.write(b"\r\x01")
        self.until(RAW)

    def start(self, code: str) -> None:
        """Start code in the raw REPL."""
        self.serial.write(code.encode() + b"\x04")
        self.until(b"OK")

    def finish(self, timeout_s: float = TIMEOUT_S) -> tuple[str, str]:
        """Return output and traceback of the code that `start` has started."""
        out = self.until(b"\x04", timeout_s)[:-1]
        err = self.until(b"\x04>")[:-2]
        return out.decode().replace("\r\n", "\n"), err.decode().replace("\r\n", "\n")

    def run(self, code: str, timeout_s: float = TIMEOUT_S) -> str:
        """Run code in the raw REPL and return what it prints."""
        self.start(code)
        out, err = self.finish(timeout_s)
        assert not err, err
        return out.strip()


def wait_for(condition, timeout_s: float = TIMEOUT_S, what: str = "condition"):  # type: ignore[no-untyped-def]
    """Wait until a callable returns something true, and return that."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not come true in {timeout_s} s"
        time.sleep(0.01)
