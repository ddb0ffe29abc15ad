"""One run of the node's detector in a VM: rows in, frames out; the program is `on_vm.py`."""

from __future__ import annotations

import json
import os
import selectors
import signal
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gridnode_host import build
from gridnode_host.errors import Exit, GridnodeError

ROW_OUT = struct.Struct("<hBBHH")
ROW, TEXT, SENTENCE, END, FAILURE, REFUSAL = 1, 2, 3, 4, 5, 6
"""The first byte of a frame."""

_PROGRAM = Path(__file__).with_name("on_vm.py")
_HEAP_KW = 1024
_SILENCE_S = 60.0
"""A detector that has not finished a row for so long hangs."""
_GRACE_S = 10.0  # to tell where it hung, on a machine that is busy too
_CHUNK = 1 << 16
_SHOWN = 1000  # bytes of what is no frame
_LENGTH = struct.Struct("<I")
_STEP = "run the detector"
_FOREST = "Name a forest of the product, or a file that gridnode train wrote for this version."
_DEFECT = "This is a defect of the detector or of the VM: report what is shown."


@dataclass
class Told:
    """What has come: rows as they are (`ROW_OUT`, grades, alarms), texts, and the end."""

    rows: bytearray = field(default_factory=bytearray)
    count: int = 0
    texts: list[str] = field(default_factory=lambda: [""])
    sentences: dict[int, str] = field(default_factory=dict)
    end: dict[str, Any] | None = None
    failure: bytearray = field(default_factory=bytearray)  # a traceback
    refusal: str = ""  # why the forest is refused


class Frames:
    """Takes the VM's bytes apart."""

    def __init__(self, signals: int) -> None:
        self.told = Told()
        self._row = ROW_OUT.size + 3 * signals
        self._pending = bytearray()

    def add(self, data: bytes) -> None:
        """Take what has come; raises ValueError for bytes that are no frame."""
        self._pending += data
        pending, at = bytes(self._pending), 0
        while (size := self._take(pending, at)) > 0:
            at += size
        del self._pending[:at]

    def _take(self, data: bytes, at: int) -> int:
        """Take the frame there; returns its size, 0 if it is not whole yet."""
        told = self.told
        if at >= len(data):
            return 0
        if told.failure or data[at] == FAILURE:
            told.failure += data[at:]
            return len(data) - at
        if told.end is not None or not ROW <= data[at] <= REFUSAL:
            raise ValueError(data[at : at + _SHOWN].decode(errors="replace"))
        if data[at] == ROW:
            size = 1 + self._row
            if len(data) < at + size:
                return 0
            told.rows += data[at + 1 : at + size]
            told.count += 1
            return size
        start = at + 1 + _LENGTH.size
        if len(data) < start:
            return 0
        size = int(_LENGTH.unpack_from(data, at + 1)[0])
        if len(data) < start + size:
            return 0
        self._text(data[at], data[start : start + size].decode())
        return start + size - at

    def _text(self, tag: int, text: str) -> None:
        if tag == TEXT:
            self.told.texts.append(text)
        elif tag == SENTENCE:
            self.told.sentences[self.told.count] = text
        elif tag == END:
            self.told.end = json.loads(text)
        else:
            self.told.refusal = text


def run(order: dict[str, Any], rows: bytes, progress: Callable[[int, int], None]) -> Told:
    """Give the program its order and the rows, and return what it tells.

    Raises GridnodeError with the VM's traceback when it fails, and when it is silent for too long;
    with USAGE when the detector refuses the forest.
    """
    command, environment = build.bare_vm(build.micropython(), _PROGRAM, _HEAP_KW)
    frames = Frames(len(order["names"]))
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which then ends the VM
        )
        assert process.stdin and process.stdout
        feeder = threading.Thread(
            target=_feed,
            args=(process.stdin, json.dumps(order).encode() + b"\n", rows),
            daemon=True,
        )
        feeder.start()
        try:
            cause = _listen(process, frames, order["rows"], progress)
        finally:
            process.kill()
            process.wait()
            feeder.join()
            process.stdout.close()
        told = frames.told
        if told.refusal:
            raise GridnodeError("take the forest", told.refusal, _FOREST, Exit.USAGE)
        if not cause and (told.end is None or told.count != order["rows"]):
            cause = f"it ended after {told.count} of {order['rows']} rows"
        if cause:
            errors.seek(0)
            more = (text.decode(errors="replace") for text in (told.failure[1:], errors.read()))
            lines = [cause, *(text.strip() for text in more)]
            raise GridnodeError(_STEP, "\n".join(filter(None, lines)), _DEFECT)
    return told


def _feed(stdin: IO[bytes], order: bytes, rows: bytes) -> None:
    """Write everything; a VM that has ended is told of by who listens."""
    try:
        with stdin:
            stdin.write(order)
            for at in range(0, len(rows), _CHUNK):
                stdin.write(rows[at : at + _CHUNK])
    except BrokenPipeError:
        pass


def _listen(
    process: subprocess.Popen[bytes],
    frames: Frames,
    total: int,
    progress: Callable[[int, int], None],
) -> str:
    """Read until the VM closes its end; returns "" or what went wrong."""
    assert process.stdout
    descriptor = process.stdout.fileno()
    told, shown, cause, deadline = frames.told, -1, "", time.monotonic() + _SILENCE_S
    with selectors.DefaultSelector() as ready:
        ready.register(descriptor, selectors.EVENT_READ)
        while True:
            if not ready.select(max(0.0, deadline - time.monotonic())):
                if cause:
                    return f"{cause}, nor a traceback for {_GRACE_S:g} s more"
                cause = f"row {told.count}: nothing has come from the VM for {_SILENCE_S:g} s"
                process.send_signal(signal.SIGINT)  # the traceback shows where it hangs
                deadline = time.monotonic() + _GRACE_S
                continue
            data = os.read(descriptor, _CHUNK)
            if not data:
                return cause
            try:
                frames.add(data)
            except ValueError as err:
                return cause or f"row {told.count}: the VM wrote what is no answer: {err}"
            if cause:
                continue
            deadline = time.monotonic() + _SILENCE_S
            percent = 100 * told.count // max(total, 1)
            if percent > shown:
                shown = percent
                progress(told.count, total)
            if told.end is not None:
                return ""
