"""The node's serial port: a pseudo terminal for the host on one side, the VM's on the other.

A VM prints and reads like a program on a terminal; a board does so like a chip on a wire. What
differs is put right here: line ends, a Ctrl-C that must not hit the VM in the middle of a bus
transaction, typed characters that a board would keep while it is busy, the raw REPL that a soft
reset leaves in place.
"""

from __future__ import annotations

import os
import pty
import re
import termios
import time
import tty
from collections import deque
from collections.abc import Callable

CTRL_A, CTRL_C = b"\x01", b"\x03"

TAIL = 65536
"""Bytes of console output that are kept."""

_BACKLOG = 1 << 18
_STALLED_S = 2.0
"""A host that reads nothing for so long is not there, and output is lost as on a wire."""
_HOLD_S = 5.0
"""How long characters after a Ctrl-C wait for the program to end."""

_RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n>"
_FRIENDLY_BANNER = b"for more information.\r\n>>> "
_LONE_NEWLINE = re.compile(rb"(?<!\r)\n")


class SerialPort:
    """Both pseudo terminals of a node. Used by the node's supervisor thread only."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.master, self._slave = pty.openpty()
        # held open, so that a host that closes the port does not hang it up
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.port = os.ttyname(self._slave)
        self.inner: int | None = None
        self.tail = bytearray()
        self.raw = False
        """Whether the host has put the node into the raw REPL."""
        self.interrupt = False
        """Whether a Ctrl-C waits to be taken by the VM."""
        self.interrupted_at = 0.0
        self._on_line = on_line
        self._line = b""
        self._out: deque[bytes] = deque()
        self._out_size = 0
        self._moved = time.monotonic()
        self._in = b""
        self._held = b""
        self._booting = True
        self._holding = False
        self._muted = False
        self._seen = b""
        self._last = b""

    def close(self) -> None:
        """Close everything."""
        self.detach()
        for fd in (self.master, self._slave):
            os.close(fd)

    # the VM's side

    def attach(self, inner: int) -> None:
        """Take the master of a new VM's terminal."""
        os.set_blocking(inner, False)
        self.inner = inner
        self._booting, self._holding, self._muted = True, False, False
        self.interrupt = False

    def detach(self) -> None:
        """Close the VM's terminal after passing on what the VM has still printed."""
        if self.inner is not None:
            self.read_vm()
            os.close(self.inner)
            self.inner = None
        self._in = b""

    def read_vm(self) -> None:
        """Pass on what the VM has printed."""
        while self.inner is not None:
            try:
                data = os.read(self.inner, 65536)
            except OSError:  # nothing there, or the VM has gone
                return
            if not data:
                return
            self._printed(data)

    def ready(self) -> None:
        """The VM begins with boot.py: what has been typed meanwhile may reach it."""
        self._booting = False
        self._release()

    def enter_repl(self) -> None:
        """The VM is about to show its prompt; in raw mode the host does not see the friendly one."""
        self.read_vm()
        if self.raw:
            self._muted = True
            self._in = CTRL_A + self._in
            self.write_vm()

    def at_prompt(self) -> bool:
        """Whether the VM waits for a line: it then has switched its terminal's signals off."""
        if self.inner is None:
            return False
        try:
            flags: int = termios.tcgetattr(self.inner)[3]
        except termios.error:
            return False
        return not flags & termios.ISIG

    def write_vm(self) -> None:
        """Hand typed characters to the VM as far as its terminal takes them."""
        if self._in and self.inner is not None:
            try:
                self._in = self._in[os.write(self.inner, self._in) :]
            except BlockingIOError:
                pass
            except OSError:
                self._in = b""

    @property
    def vm_wants(self) -> bool:
        """Whether characters wait for room in the VM's terminal."""
        return bool(self._in)

    # the host's side

    def read_host(self) -> None:
        """Take what the host has typed."""
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return
        if self.inner is None:
            return  # without power characters are lost
        if self._booting and not self.at_prompt():
            self._held += data
        else:
            self._type(data)

    def write_host(self) -> None:
        """Hand printed characters to the host as far as its port takes them."""
        while self._out:
            try:
                written = os.write(self.master, self._out[0])
            except BlockingIOError:
                break
            except OSError:
                self._out.clear()
                break
            self._moved = time.monotonic()
            self._out_size -= written
            rest = self._out[0][written:]
            if rest:
                self._out[0] = rest
            else:
                self._out.popleft()
        if not self._out:
            self._out_size = 0
        elif self._out_size > _BACKLOG or time.monotonic() - self._moved > _STALLED_S:
            self._out.clear()
            self._out_size = 0

    @property
    def host_wants(self) -> bool:
        """Whether output waits for room in the host's port."""
        return bool(self._out)

    def say(self, text: bytes) -> None:
        """Print what the chip itself prints, outside the VM."""
        self._emit(text)

    def tend(self) -> bool:
        """Settle a Ctrl-C that is under way; return whether one is."""
        if not self.interrupt and not self._holding:
            return False
        if self.at_prompt():
            if self.interrupt:
                self.interrupt = False
                self._in += CTRL_C
                self.write_vm()
            self._release()
        elif self._holding and time.monotonic() - self.interrupted_at > _HOLD_S:
            self._release()
        return self.interrupt or self._holding

    def _type(self, data: bytes) -> None:
        while data:
            if self._holding:
                before, found, data = data.partition(CTRL_C)
                self._held += before
                if found:
                    self._strike()
                continue
            if self.at_prompt():
                self._in += data
                break
            before, found, data = data.partition(CTRL_C)
            self._in += before
            if found:
                self._strike()
        self.write_vm()

    def _strike(self) -> None:
        self.interrupt = True
        self._holding = True
        self.interrupted_at = time.monotonic()

    def _release(self) -> None:
        self._holding = False
        held, self._held = self._held, b""
        if held:
            self._type(held)

    def _printed(self, data: bytes) -> None:
        self._seen = (self._seen + data)[-256:]
        if self._muted:
            _, found, rest = (self._last + data).partition(_RAW_BANNER)
            self._last = b"" if found else (self._last + data)[-len(_RAW_BANNER) :]
            if not found:
                return
            self._muted = False
            data = found + rest
        else:
            raw, friendly = self._seen.rfind(_RAW_BANNER), self._seen.rfind(_FRIENDLY_BANNER)
            if raw != friendly:  # both are -1 where neither has been printed
                self.raw, self._seen = raw > friendly, b""
        self._emit(data)

    def _emit(self, data: bytes) -> None:
        ends_cr = self.tail.endswith(b"\r")
        text = _LONE_NEWLINE.sub(b"\r\n", data)
        if ends_cr and text.startswith(b"\r\n") and data.startswith(b"\n"):
            text = text[1:]
        self.tail += text
        del self.tail[:-TAIL]
        self._out.append(text)
        self._out_size += len(text)
        self.write_host()
        *lines, self._line = (self._line + text).split(b"\n")
        self._line = self._line[-TAIL:]
        for line in lines:
            self._on_line(line.rstrip(b"\r").decode(errors="replace"))
