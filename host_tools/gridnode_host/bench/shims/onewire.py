"""`onewire`: the 1-Wire master of MicroPython; the bench plays the bus."""

# ruff: noqa: I001, F401

from _bus import call as _call
from _clock import sleep_us as _sleep_us

_RESET_US = 960
_SLOT_US = 70


class OneWireError(Exception):
    pass


class OneWire:
    SEARCH_ROM = 0xF0
    MATCH_ROM = 0x55
    SKIP_ROM = 0xCC

    def __init__(self, pin):
        self.pin = pin
        pin.init(pin.OPEN_DRAIN, pin.PULL_UP)

    def reset(self, required=False):
        _sleep_us(_RESET_US)
        present = bool(_call(43, self.pin.id))
        if required and not present:
            raise OneWireError
        return present

    def readbit(self):
        return self._read(1)

    def readbyte(self):
        return self._read(8)

    def readinto(self, data):
        for k in range(len(data)):
            data[k] = self._read(8)

    def writebit(self, value):
        self._write(b"\1" if value else b"\0", 1)

    def writebyte(self, value):
        self._write(bytes((value,)), 8)

    def write(self, data):
        self._write(data, 8 * len(data))

    def select_rom(self, rom):
        self.reset()
        self.writebyte(self.MATCH_ROM)
        self.write(rom)

    def scan(self):
        found = []
        rom, last = None, 65
        while last:
            rom, last = self._search(rom, last)
            if rom is None:
                break
            found.append(rom)
        return found

    def crc8(self, data):
        crc = 0
        for byte in data:
            for _ in range(8):
                mixed = (crc ^ byte) & 1
                crc = crc >> 1 ^ (0x8C if mixed else 0)
                byte >>= 1
        return crc

    def _read(self, count):
        _sleep_us(_SLOT_US * count)
        return _call(45, self.pin.id, count)

    def _write(self, data, count):
        _sleep_us(_SLOT_US * count)
        _call(44, self.pin.id, count, 0, data)

    def _search(self, before, last):
        # the next ROM after `before`, which took the 0 at the fork `last` (bits left), and its own last such fork
        if not self.reset():
            return None, 0
        self.writebyte(self.SEARCH_ROM)
        rom = bytearray(8)
        fork = 0
        for k in range(64):
            byte, mask, left = k >> 3, 1 << (k & 7), 64 - k
            bit = self.readbit()
            if self.readbit():
                if bit:
                    return None, 0  # nobody answers
            elif not bit:
                old = before is not None and before[byte] & mask
                if left < last or (old and left != last):
                    bit = 1
                    fork = left
            self.writebit(bit)
            if bit:
                rom[byte] |= mask
        return rom, fork
