"""The 1-Wire bus as the node's pins offer it: open drain, so that a 0 of anybody wins."""

from __future__ import annotations

from gridnode_host.bench.bus import Answer, Handler, Op
from gridnode_host.bench.wiring import Wiring


class OneWireBus:
    """Slots of the 1-Wire master on any pin; bits travel in bytes, the lowest first."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def handlers(self) -> dict[int, Handler]:
        """Return the operations served here."""
        return {
            Op.ONEWIRE_RESET: self._reset,
            Op.ONEWIRE_WRITE: self._write,
            Op.ONEWIRE_READ: self._read,
        }

    def _reset(self, pin: int, _b: int, _c: int, _data: bytes) -> Answer:
        presence = 0
        for device in self._wiring.onewire.get(pin, ()):
            presence |= device.reset()
        return presence

    def _write(self, pin: int, count: int, _c: int, data: bytes) -> Answer:
        for k in range(count):
            for device in self._wiring.onewire.get(pin, ()):
                device.write_bit(data[k // 8] >> k % 8 & 1)
        return 0

    def _read(self, pin: int, count: int, _c: int, _data: bytes) -> Answer:
        value = 0
        for k in range(count):
            bits = [device.read_bit() for device in self._wiring.onewire.get(pin, ())]
            value |= min(bits, default=1) << k
        return value
