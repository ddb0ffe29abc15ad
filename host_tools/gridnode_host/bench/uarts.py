"""The chip's UARTs as the bus offers them: settings, buffers, and time on the wire."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from gridnode_host.bench.bus import Answer, Handler, Op
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.wiring import UartDevice, Wiring

_FIFO = 128  # bytes that the transmitter holds beside its buffer
_PARITY = ("none", "even", "odd")


@dataclass
class _Uart:
    """One UART as it was last set up."""

    byte_s: float
    rx_size: int
    tx_size: int
    devices: Sequence[UartDevice]
    received: bytearray = field(default_factory=bytearray)
    sent_at: float = 0.0  # rig time at which the last byte is out


class Uarts:
    """The UARTs of a node. What it writes leaves byte by byte, at the baud rate."""

    def __init__(self, wiring: Wiring, clock: RigClock) -> None:
        self._wiring = wiring
        self._clock = clock
        self._uarts: dict[int, _Uart] = {}

    def handlers(self) -> dict[int, Handler]:
        """Return the operations served here."""
        return {
            Op.UART_SETUP: self._setup,
            Op.UART_WRITE: self._write,
            Op.UART_READ: self._read,
            Op.UART_ANY: lambda number, _b, _c, _d: len(self._fill(number)),
            Op.UART_LEFT: self._left,
        }

    def _setup(self, number: int, baudrate: int, rx_size: int, data: bytes) -> Answer:
        bits, parity, stop, tx_size, tx, rx = struct.unpack("<6i", data)
        soldered = self._wiring.bus_pins.get(("uart", number), (tx, rx))
        devices = self._wiring.uart.get(number, []) if soldered == (tx, rx) else []
        bits_per_byte = 1 + bits + (parity > 0) + stop
        self._uarts[number] = _Uart(bits_per_byte / baudrate, rx_size, tx_size, devices)
        for device in devices:
            setup = getattr(device, "setup", None)
            if setup is not None:
                setup(baudrate, _PARITY[parity])
            device.pending(self._clock.now())  # what came before is not heard
        return 0

    def _write(self, number: int, _b: int, _c: int, data: bytes) -> Answer:
        """Return the microseconds until the buffer has taken all of it."""
        uart = self._uarts[number]
        now = self._clock.now()
        uart.sent_at = max(now, uart.sent_at) + len(data) * uart.byte_s
        for device in uart.devices:
            device.receive(data)
        room = (_FIFO + uart.tx_size) * uart.byte_s
        return max(0, round((uart.sent_at - now - room) * 1e6))

    def _left(self, number: int, _b: int, _c: int, _data: bytes) -> Answer:
        """Microseconds until the last byte is out."""
        left = self._uarts[number].sent_at - self._clock.now()
        return max(0, math.ceil(left * 1e6))

    def _fill(self, number: int) -> bytearray:
        uart = self._uarts[number]
        for device in uart.devices:
            uart.received += device.pending(self._clock.now())
        del uart.received[uart.rx_size :]  # an overrun loses the newest bytes
        return uart.received

    def _read(self, number: int, n: int, line: int, _data: bytes) -> Answer:
        buffer = self._fill(number)
        end = buffer.find(b"\n") + 1 if line else 0
        answer = bytes(buffer[: min(n, end or n)])
        del buffer[: len(answer)]
        return answer
