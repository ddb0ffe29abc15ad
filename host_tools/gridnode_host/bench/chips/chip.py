"""What chip models share: a supply, faults by name, and the wire that faults disturb.

A model derives from `Chip` (SPI, I2C, one-wire) or from `UartChip` and has `_reset`, which puts
its registers to their reset values. It measures at `_now()`, which stands still while it is
`frozen`, and passes what it answers through `_on_the_wire`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

import numpy as np

_BUS_FAULTS = ("absent", "stuck_high", "stuck_low", "bit_error", "frozen")
_UART_FAULTS = ("silent", "noise", "garbage")


class Chip(ABC):
    """A chip with a supply that can fail. `clock` tells rig time, s.

    `faults` are the names that `fault` knows: `absent` (nobody drives the bus), `stuck_high`
    (all ones), `stuck_low` (all zeros), `bit_error` (one bit of the answer is wrong in a share
    `rate` of the transfers) and `frozen` (the bus is fine, the values stand still for ever). A
    model adds its own, `wrong_id` where the chip has an identification to get wrong.
    """

    faults: tuple[str, ...] = _BUS_FAULTS

    def __init__(self, clock: Callable[[], float], seed: int = 0, kind: int = 0) -> None:
        """`kind` tells the random numbers of one model from those of the next."""
        self._clock = clock
        self._rng = np.random.default_rng([seed, kind])
        self._lock = threading.RLock()
        self._rates: dict[str, float] = {}
        self._frozen_at = 0.0
        self._powered = True

    # -- supply and faults -----------------------------------------------------------------

    def power(self, on: bool) -> None:
        """Supply of the chip; registers have their reset values when it returns."""
        with self._lock:
            if on and not self._powered:
                self._reset()
            self._powered = on

    def brown_out(self) -> None:
        """A dip of the supply that resets the chip behind the node's back."""
        with self._lock:
            self._reset()

    def fault(self, name: str, rate: float = 1.0) -> None:
        """Break something by name, see `faults`. Raises ValueError for what cannot break."""
        if name not in self.faults:
            raise ValueError(f"no such fault: {name}; there are {', '.join(self.faults)}")
        with self._lock:
            if name == "frozen" and name not in self._rates:
                self._frozen_at = self._clock()
            self._rates[name] = rate

    def clear(self, name: str) -> None:
        """Repair what `fault` broke."""
        with self._lock:
            self._rates.pop(name, None)

    @property
    def present(self) -> bool:
        """Whether it acknowledges its address on an I2C bus."""
        return self._answers() and "stuck_high" not in self._rates

    @property
    def stuck(self) -> bool:
        """Whether it holds the data line of an I2C bus low, for everybody."""
        return self._powered and "stuck_low" in self._rates

    # -- for the models --------------------------------------------------------------------

    @abstractmethod
    def _reset(self) -> None:
        """Registers have their reset values, nothing has been measured yet."""

    def _has(self, fault: str) -> bool:
        return fault in self._rates

    def _now(self, at: float | None = None) -> float:
        """Rig time of what it measures at the time `at` (None: now): still while it is frozen."""
        if "frozen" in self._rates:
            return self._frozen_at
        return self._clock() if at is None else at

    def _answers(self) -> bool:
        return self._powered and "absent" not in self._rates

    def _on_the_wire(self, data: bytes, last: int | None = None) -> bytes:
        """The answer as it reaches the master; bit errors hit its `last` bytes (None: all)."""
        if "stuck_high" in self._rates:
            return b"\xff" * len(data)
        if "stuck_low" in self._rates:
            return bytes(len(data))
        if data and self._rng.random() < self._rates.get("bit_error", 0.0):
            width = len(data) if last is None else min(len(data), last)
            bit = int(self._rng.integers(8 * width))
            value = int.from_bytes(data, "big") ^ (1 << bit)
            return value.to_bytes(len(data), "big")
        return data


class UartChip(Chip):
    """A chip on a UART: what it hears and sends takes its time on the wire.

    A model has `_hear(byte, at)`, called for each byte at the rig time of its stop bit, and
    answers with `_send`; one that talks by itself does so from `_tick`. Of the faults, `absent`,
    `silent` and `stuck_high` (an idle line) send nothing. With `noise`, a byte is lost, wrong
    or new at the given rate per byte, between answers too; `garbage` sends as many bytes as the
    chip would, but any.
    """

    faults: tuple[str, ...] = _BUS_FAULTS + _UART_FAULTS

    def __init__(
        self,
        clock: Callable[[], float],
        seed: int = 0,
        kind: int = 0,
        *,
        baudrate: int = 9600,
        parity: str = "none",
    ) -> None:
        super().__init__(clock, seed, kind)
        self.baudrate = baudrate
        self.parity = parity
        self._line: tuple[int, str] | None = None  # how the node's UART is set up
        self._heard_until = 0.0
        self._sent_until = 0.0
        self._to_hear: deque[tuple[float, int]] = deque()
        self._to_send: deque[tuple[float, int]] = deque()
        self._noisy_until = 0.0

    # -- wiring.UartDevice -----------------------------------------------------------------

    def setup(self, baudrate: int, parity: str = "none") -> None:
        """The node's UART has this baud rate and parity; bytes at any other are garbage."""
        self._line = (baudrate, parity)

    def receive(self, data: bytes) -> None:
        """The node begins to send `data`."""
        with self._lock:
            now = self._clock()
            self._run(now)
            at = max(now, self._heard_until)
            for byte in data:
                at += self._byte_s()
                self._to_hear.append((at, byte))
            self._heard_until = at

    def pending(self, now: float) -> bytes:
        """What has arrived at the node by the rig time `now`, and not been told before."""
        with self._lock:
            self._run(now)
            out = bytearray()
            while self._to_send and self._to_send[0][0] <= now:
                out.append(self._to_send.popleft()[1])
            since, self._noisy_until = self._noisy_until, now
            if not self._powered or any(map(self._has, ("absent", "silent", "stuck_high"))):
                return b""
            if self._has("garbage") or not self._in_tune():
                return self._rng.bytes(len(out))
            if self._has("stuck_low"):
                return bytes(len(out))
            return self._noise(bytes(out), now - since)

    # -- for the models --------------------------------------------------------------------

    @abstractmethod
    def _hear(self, byte: int, at: float) -> None:
        """A byte of the node has come, with its stop bit at the rig time `at`."""

    def _tick(self, now: float) -> None:
        """Send what the chip sends by itself up to the rig time `now`."""

    def _send(self, data: bytes, at: float) -> None:
        """Begin to send at the rig time `at`, or when what goes before has been sent.

        `data` is one answer or frame: `bit_error` counts these.
        """
        at = max(at, self._sent_until)
        for byte in self._on_the_wire(data):
            at += self._byte_s()
            self._to_send.append((at, byte))
        self._sent_until = at

    def _byte_s(self) -> float:
        """Seconds of a byte on the wire: start, 8 data, parity and stop bit."""
        return (10 if self.parity == "none" else 11) / self.baudrate

    def _quiet(self) -> None:
        """Forget what is on its way, as a reset does."""
        self._to_hear.clear()
        self._to_send.clear()
        self._heard_until = self._sent_until = self._noisy_until = self._clock()

    def _run(self, now: float) -> None:
        while self._to_hear and self._to_hear[0][0] <= now:
            at, byte = self._to_hear.popleft()
            if self._powered:
                self._hear(byte if self._in_tune() else int(self._rng.integers(256)), at)
        if self._powered:
            self._tick(now)

    def _in_tune(self) -> bool:
        return self._line is None or self._line == (self.baudrate, self.parity)

    def _noise(self, data: bytes, elapsed: float) -> bytes:
        rate = self._rates.get("noise", 0.0)
        if not rate:
            return data
        out = disturbed(self._rng, data, rate)
        # On an idle line a disturbance that looks like a start bit makes a byte.
        idle = max(elapsed / self._byte_s() - len(data), 0.0)
        return out + self._rng.bytes(int(self._rng.poisson(min(rate * idle, 100.0))))


def disturbed(rng: np.random.Generator, data: bytes, rate: float) -> bytes:
    """Bytes of which a share `rate` gets lost, has a wrong bit, or comes after another byte."""
    if not rate:
        return data
    out = bytearray()
    for byte in data:
        if rng.random() >= rate:
            out.append(byte)
            continue
        kind = rng.integers(3)
        if kind == 1:
            out.append(byte ^ 1 << int(rng.integers(8)))
        elif kind == 2:
            out += bytes([int(rng.integers(256)), byte])
    return bytes(out)
