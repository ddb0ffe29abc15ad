"""Sensirion SHT3x: temperature and humidity over I2C. Commands, formats and CRC: SHT3x-DIS datasheet, version 5.

The functions above `Meter` are the codec: bytes in, numbers out.
"""

import asyncio
from micropython import const

from gridnode import reading as r
from gridnode.meters.polled import BusError, Polled, Unusable

_MEASURE = const(b"\x24\x00")  # once, high repeatability, the clock is not stretched
_RESET = const(b"\x30\xa2")
_STATUS = const(b"\xf3\x2d")
_CLEAR_STATUS = const(b"\x30\x41")

# A sleep of n ms may end a little more than n - 1 ms later.
_MEASURE_MS = const(20)  # 15.5 at most
_RESET_MS = const(4)  # 1.5 at most, after power-up too
_UNWANTED = const(0x2013)  # status: heater on, reset seen, command failed, CRC of a write wrong


def crc8(data):
    """CRC-8 of a word: polynomial 0x31, initial value 0xFF, not reflected."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x31 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def words(data):
    """The 16-bit words of an answer, each checked. All zeros and all ones are no valid answer."""
    found = []
    for k in range(0, len(data), 3):
        if crc8(data[k : k + 2]) != data[k + 2]:
            raise BusError("crc")
        found.append(data[k] << 8 | data[k + 1])
    return found


def celsius(raw):
    """Temperature in degC; raises Unusable outside of what the sensor can tell (-40..125)."""
    value = -45 + 175 * raw / 65535
    if not -40 <= value <= 125:
        raise Unusable("%.1f degC cannot be" % value, r.IMPLAUSIBLE)
    return value


def percent(raw):
    """Relative humidity in %."""
    return 100 * raw / 65535


class Meter(Polled):
    """SHT3x of one profile entry. `machine` and `time` are passed in; nothing is touched before `start`."""

    names = ("temperature", "humidity")
    counts_energy = False
    period_ms = 2000
    stuck_after = 300  # noise of some counts moves both words

    def __init__(self, spec, profile, machine, time):
        super().__init__(spec, time)
        self._spec = spec
        self._machine = machine
        self._address = spec["i2c"].get("address", 0x44)

    def start(self, correction):
        """Take the bus; a sensor has nothing to correct."""
        from gridnode.setup import buses

        self._bus = buses.i2c(self._machine, self._spec)
        self._spec = self._machine = None
        return ()

    async def configure(self):
        """Reset the sensor and see that it answers as one; it may have got its supply this moment."""
        await asyncio.sleep_ms(_RESET_MS)
        self._bus.writeto(self._address, _RESET)
        await asyncio.sleep_ms(_RESET_MS)
        self._bus.writeto(self._address, _CLEAR_STATUS)
        self._check()

    async def measure(self, reading):
        """One measurement; the status behind it tells a reset or a heater that nobody wanted."""
        self._bus.writeto(self._address, _MEASURE)
        await asyncio.sleep_ms(_MEASURE_MS)
        t, h = words(self._bus.readfrom(self._address, 6))
        self._check()
        self.fingerprint = t << 16 | h
        values = reading.at[0]
        values["temperature"] = celsius(t)
        values["humidity"] = percent(h)

    def _check(self):
        self._bus.writeto(self._address, _STATUS)
        (status,) = words(self._bus.readfrom(self._address, 3))
        if status & _UNWANTED:
            raise BusError("status %04X" % status)
