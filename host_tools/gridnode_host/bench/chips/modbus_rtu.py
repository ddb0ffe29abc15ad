"""What Modbus RTU slaves share: frames, function dispatch, exceptions, faults.

Frame: address, function, data, CRC-16 (init 0xFFFF, reflected polynomial 0xA001, low byte first;
facts B.11). A frame with a wrong CRC or for another address is not answered.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from gridnode_host.bench.chips.chip import Chip, disturbed

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE = 1, 2, 3, 4

READ_HOLDING, READ_INPUT, WRITE_ONE, WRITE_MANY = 0x03, 0x04, 0x06, 0x10


class Refused(Exception):
    """The request is answered with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


def crc16(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def sealed(body: bytes) -> bytes:
    """A frame: the body with its CRC."""
    return body + crc16(body).to_bytes(2, "little")


class ModbusSlave(Chip):
    """A slave with a supply of its own: the node's supply has no power over it.

    Faults beside those of every chip: `silent` (hears and does not answer), `noise` (bytes of the
    answer are lost, wrong or new, at the rate per byte), `garbage` (as many bytes, but any),
    `crc` (a wrong CRC in a share of the answers), `wrong_id` (answers with another address).
    """

    faults = (*Chip.faults, "silent", "noise", "garbage", "crc", "wrong_id")
    latency_s = (0.02, 0.2)
    """Shortest and longest time from a request to its answer."""
    start_s = 1.0
    """Time after power comes until it answers."""

    def __init__(
        self,
        clock: Callable[[], float],
        address: int,
        *,
        baudrate: int = 9600,
        parity: str = "none",
        seed: int = 0,
        kind: int = 0,
    ) -> None:
        super().__init__(clock, seed, kind)
        self.address = address
        self.baudrate = baudrate
        self.parity = parity
        self.requests = 0
        """Frames that were for it."""
        self._awake = clock()  # it has been on for long

    def power(self, on: bool) -> None:
        """The node's supply: nothing to it."""

    def brown_out(self) -> None:
        """A dip of its own supply: what it keeps in its memory stays."""
        with self._lock:
            self._awake = self._clock() + self.start_s
            self._reset()

    def respond(self, request: bytes, at: float) -> tuple[float, bytes] | None:
        """Answer a frame that was complete at the rig time `at`: after seconds, with bytes."""
        with self._lock:
            if len(request) < 4 or crc16(request[:-2]) != int.from_bytes(request[-2:], "little"):
                return None
            unit, function = request[0], request[1]
            if not self._is_for_me(unit) or at < self._awake or not self._supplied(at):
                return None
            self.requests += 1
            if not self._answers() or self._has("silent") or self._has("stuck_high"):
                return None
            latency = float(self._rng.uniform(*self.latency_s))
            if self._has("stuck_low"):
                return latency, b"\0"  # a break
            unit_told = unit % 247 + 1 if self._has("wrong_id") else unit
            try:
                answer = self._serve(function, request[2:-2], at)
                body = bytes((unit_told, function)) + answer
            except Refused as refused:
                body = bytes((unit_told, function | 0x80, refused.code))
            return latency, self._as_sent(sealed(body))

    # -- for the models --------------------------------------------------------------------

    @abstractmethod
    def _serve(self, function: int, data: bytes, at: float) -> bytes:
        """What follows the function code in the answer. Raises `Refused`."""

    def _is_for_me(self, unit: int) -> bool:
        return unit == self.address

    def _supplied(self, at: float) -> bool:
        return True

    def _as_sent(self, frame: bytes) -> bytes:
        if self._has("garbage"):
            return self._rng.bytes(len(frame))
        if self._rng.random() < self._rates.get("crc", 0.0):
            frame = frame[:-2] + bytes((frame[-2] ^ 0xFF, frame[-1]))
        return disturbed(self._rng, self._on_the_wire(frame), self._rates.get("noise", 0.0))


def span(data: bytes) -> tuple[int, int]:
    """Address and count of a read request. Raises `Refused`."""
    if len(data) != 4:
        raise Refused(ILLEGAL_VALUE)
    return int.from_bytes(data[:2], "big"), int.from_bytes(data[2:], "big")
