"""A Modbus RTU line between one UART of a node and any number of slaves.

Everything happens at its time on the wire: a request is complete after 3.5 characters of
silence (Modbus over serial line V1.02, 2.5.1.1), answers come byte by byte, and who talks while
another does garbles both. With a direction pin (RS-485), what the node sends while the pin is
low and what slaves send while it is high is lost.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from gridnode_host.bench.site import Site, Spec

_SILENCE = 3.5  # characters
_ROUNDING_S = 1e-6  # by which times on the wire may differ and be the same


class Slave(Protocol):
    """A device on the line. It hears every frame."""

    baudrate: int
    parity: str

    def respond(self, request: bytes, at: float) -> tuple[float, bytes] | None:
        """Answer a frame that was complete at the rig time `at`: after seconds, with bytes."""


class _Byte(NamedTuple):
    start: float  # rig time
    end: float
    value: int


class RtuBus:
    """The line; a `wiring.UartDevice`. Thread-safe."""

    def __init__(self, clock: Callable[[], float], stop: int = 1, seed: int = 0) -> None:
        self.slaves: list[Slave] = []
        self.collisions = 0
        """Bytes that two have sent at the same time."""
        self._clock = clock
        self._stop = stop
        self._rng = np.random.default_rng([seed, 0x485])
        self._lock = threading.RLock()
        self._line = (9600, "none")
        self._request: deque[_Byte] = deque()  # of the node, not yet taken for a frame
        self._answers: deque[_Byte] = deque()  # on their way to the node
        self._sent_until = 0.0
        self._turns: list[tuple[float, int]] | None = None  # of the direction pin

    # -- wiring ----------------------------------------------------------------------------

    def direction(self, level: int) -> None:
        """The direction pin is written: high lets the node send."""
        with self._lock:
            now = self._clock()
            self._run(now)
            if self._turns is not None:
                self._turns.append((now, level))

    def use_direction_pin(self) -> None:
        """There is a direction pin; it is low until it is written."""
        self._turns = self._turns or [(0.0, 0)]

    def setup(self, baudrate: int, parity: str = "none") -> None:
        """How the node's UART is set."""
        with self._lock:
            self._run(self._clock())
            self._line = (baudrate, parity)

    def receive(self, data: bytes) -> None:
        """The node begins to send `data`, or goes on with it."""
        with self._lock:
            now = self._clock()
            self._run(now)
            at = max(now, self._sent_until)
            for value in data:
                end = at + self._byte_s(*self._line)
                self._request.append(_Byte(at, end, value))
                at = end
            self._sent_until = at

    def pending(self, now: float) -> bytes:
        """What has come through to the node by the rig time `now`."""
        with self._lock:
            self._run(now)
            out = bytearray()
            while self._answers and self._answers[0].end <= now:
                byte = self._answers.popleft()
                if 1 not in self._levels(byte):
                    out.append(byte.value)
            if self._turns is not None and not (self._request or self._answers):
                del self._turns[:-1]
            return bytes(out)

    # -- what happens ----------------------------------------------------------------------

    def _run(self, now: float) -> None:
        """Let the slaves answer every frame that is complete."""
        while self._request:
            silence = _SILENCE * self._byte_s(*self._line)
            frame: list[_Byte] = []
            for byte in self._request:
                if frame and byte.start > frame[-1].end + silence:
                    break
                frame.append(byte)
            complete = frame[-1].end + silence
            if complete > now:
                return
            for _ in frame:
                self._request.popleft()
            heard = bytes(self._heard(byte) for byte in frame if 0 not in self._levels(byte))
            answers = [slave.respond(self._as_heard_by(slave, heard), complete) for slave in self.slaves]
            for slave, answer in zip(self.slaves, answers, strict=True):
                if answer is not None:
                    self._answer(slave, complete + answer[0], answer[1])

    def _heard(self, byte: _Byte) -> int:
        if any(_overlap(byte, other) for other in self._answers):
            self.collisions += 1
            return int(self._rng.integers(256))
        return byte.value

    def _as_heard_by(self, slave: Slave, frame: bytes) -> bytes:
        if (slave.baudrate, slave.parity) == self._line:
            return frame
        return self._rng.bytes(len(frame))

    def _answer(self, slave: Slave, at: float, data: bytes) -> None:
        """Put an answer on the line; what is there at the same time is garbled."""
        others = list(self._answers)
        new: list[_Byte] = []
        for value in data:
            byte = _Byte(at, at + self._byte_s(slave.baudrate, slave.parity), value)
            at = byte.end
            met = [k for k, other in enumerate(others) if _overlap(byte, other)]
            for k in met:
                others[k] = others[k]._replace(value=int(self._rng.integers(256)))
            self.collisions += bool(met)
            if not met:
                new.append(byte)
        self._answers = deque(sorted(others + new, key=lambda byte: byte.end))

    def _levels(self, byte: _Byte) -> set[int]:
        """Levels of the direction pin while a byte is on the wire; none without a pin."""
        if self._turns is None:
            return set()
        levels = {level for time, level in self._turns if byte.start < time < byte.end - _ROUNDING_S}
        before = [level for time, level in self._turns if time <= byte.start + _ROUNDING_S]
        return levels | set(before[-1:])

    def _byte_s(self, baudrate: int, parity: str) -> float:
        """Seconds of a byte: start, 8 data, parity and stop bits."""
        return (9 + (parity != "none") + self._stop) / baudrate


def _overlap(one: _Byte, other: _Byte) -> bool:
    return one.start < other.end - _ROUNDING_S and other.start < one.end - _ROUNDING_S


def line(spec: Spec, site: Site) -> RtuBus:
    """The line at the UART of a profile's meter; meters that name the same UART share it."""
    uart = spec["uart"]
    for device in site.wiring.uart.get(uart["id"], ()):
        if isinstance(device, RtuBus):
            return device
    bus = RtuBus(site.circuit.now, uart.get("stop", 1), site.seed)
    site.wiring.attach_uart(uart["id"], bus, tx=uart["tx"], rx=uart["rx"])
    if "de" in uart:
        bus.use_direction_pin()
        site.wiring.attach_pin(uart["de"], on_write=bus.direction)
    return bus
