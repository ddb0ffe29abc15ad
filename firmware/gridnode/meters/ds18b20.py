"""Maxim DS18B20: temperature over 1-Wire, with a supply of its own. Commands and scratchpad: DS18B20 datasheet.

The functions above `Meter` are the codec: bytes in, numbers out.
"""

import asyncio
from micropython import const

from gridnode import reading as r
from gridnode.meters.polled import BusError, Polled, Unusable

_FAMILY = const(0x28)
_MATCH_ROM = const(b"\x55")
_CONVERT = const(b"\x44")
_READ_SCRATCHPAD = const(b"\xbe")
_READ_SUPPLY = const(b"\xb4")

_CONVERT_MS = const(752)  # of 12 bits, 750 at most; a sleep may end up to 1 ms early
# Alarm limits of +127 and -128 degC mean nothing here: a sensor that has lost its supply has forgotten them, and shows
# the 85 degC that it starts with.
_MARK = const(b"\x7f\x80")
_SETUP = b"\x4e" + _MARK + b"\x7f"  # write the scratchpad; 12 bits


def crc8(data):
    """Dallas CRC-8: polynomial 0x31 reflected, initial value 0; 0 over data and its CRC."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x8C if crc & 1 else crc >> 1
    return crc


def celsius(scratchpad):
    """Temperature in degC of nine bytes; raises Unusable outside of what the sensor can tell (-55..125)."""
    if crc8(scratchpad):
        raise BusError("crc")
    if scratchpad[4] != _SETUP[3]:  # all zeros have a valid CRC
        raise BusError("no scratchpad")
    if scratchpad[2:4] != _MARK:
        raise BusError("the sensor was without supply")
    raw = scratchpad[1] << 8 | scratchpad[0]
    value = (raw - 0x10000 if raw & 0x8000 else raw) / 16
    if not -55 <= value <= 125:
        raise Unusable("%.1f degC cannot be" % value, r.IMPLAUSIBLE)
    return value


def address(text):
    """ROM of 16 hex digits as bytes. Raises ValueError unless it is that of a DS18B20."""
    rom = bytes([int(text[k : k + 2], 16) for k in range(0, 16, 2)])
    if rom[0] != _FAMILY or crc8(rom):
        raise ValueError("onewire.rom %s is no DS18B20's" % text)
    return rom


class Meter(Polled):
    """DS18B20 of one profile entry. `machine` and `time` are passed in; nothing is touched before `start`."""

    names = ("temperature",)
    counts_energy = False
    period_ms = 2000

    def __init__(self, spec, profile, machine, time):
        super().__init__(spec, time)
        self._entry = spec["onewire"]
        self._machine = machine
        self._given = address(self._entry["rom"]) if "rom" in self._entry else None

    def start(self, correction):
        """Take the wire; a sensor has nothing to correct."""
        try:
            from onewire import OneWire
        except ImportError:
            raise ValueError("the image has no module onewire")
        self._wire = OneWire(self._machine.Pin(self._entry["pin"]))
        self._entry = self._machine = None
        return ()

    async def configure(self):
        """Find the sensor and mark it."""
        self._rom = self._given or self._only()
        self._select(_READ_SUPPLY)
        if self._wire.readbyte() != 0xFF:
            raise BusError("parasite supply")
        self._select(_SETUP)

    async def measure(self, reading):
        """One conversion of 12 bits."""
        self._select(_CONVERT)
        await asyncio.sleep_ms(_CONVERT_MS)
        self._select(_READ_SCRATCHPAD)
        reading.at[0]["temperature"] = celsius(bytes([self._wire.readbyte() for _ in range(9)]))

    def _only(self):
        found = [rom for rom in self._wire.scan() if rom[0] == _FAMILY]
        if len(found) != 1:
            raise BusError("%d sensors, and the profile names none" % len(found) if found else "no sensor")
        return found[0]

    def _select(self, command):
        if not self._wire.reset():
            raise BusError("no presence")
        self._wire.write(_MATCH_ROM + self._rom + command)
