"""The chip's peripherals as the bus offers them: converter, pins, SPI and I2C controllers."""

from __future__ import annotations

import errno
import math
import struct

import numpy as np
from numpy.typing import NDArray

from gridnode_host.bench.bus import Answer, Handler, Op
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.wiring import AdcInput, I2cDevice, Stretch, Wiring

ADC_RANGE_MV = (950, 1250, 1750, 2450)
"""Upper end of the calibrated range of each attenuation (ESP32 data sheet)."""

_TICKS = 1 << 30
_UNREAD = 0xFFFF
"""In a block of conversions: this channel was not expected in that slot."""


class Converter:
    """The ADC: samples the wired inputs at node time, a block per request."""

    def __init__(self, wiring: Wiring, clock: RigClock) -> None:
        self._wiring = wiring
        self._clock = clock
        self._channels: list[tuple[AdcInput | None, int, bool]] = []
        self._tick = 0
        self._rig_ns = 0

    def anchor(self, tick: int, rig_ns: int) -> None:
        """Tell which rig time (ns) belongs to a node tick (µs); both run alike from there."""
        self._tick, self._rig_ns = tick, rig_ns

    def handlers(self) -> dict[int, Handler]:
        """Return the operations served here."""
        return {Op.ADC_CHANNELS: self._choose, Op.ADC_BLOCK: self._sample}

    def _choose(self, _a: int, _b: int, _c: int, data: bytes) -> Answer:
        self._channels = [
            (self._wiring.adc.get(pin), atten, bool(calibrated))
            for pin, atten, calibrated in struct.iter_unpack("3B", data)
        ]
        return 0

    def _sample(self, slots: int, rest_ns: int, tick: int, order: bytes) -> Answer:
        """One row of all channels per slot; `order`: the only one in each, turn by turn."""
        # the low bits of the tick stand for the time nearest to the present
        elapsed_us = (self._clock.now_ns() - self._rig_ns) // 1000
        behind = (self._tick + elapsed_us - tick + _TICKS // 2) % _TICKS - _TICKS // 2
        start_ns = self._rig_ns + (elapsed_us - behind) * 1000 + rest_ns
        step_ns = round(self._wiring.conversion_us * 1000)
        t = (start_ns + np.arange(slots, dtype=np.int64) * step_ns) / 1e9
        block = np.full((slots, len(self._channels)), _UNREAD if order else 0, np.uint16)
        turns = list(enumerate(order)) or [(0, column) for column in range(len(self._channels))]
        for first, column in turns:
            source, atten, calibrated = self._channels[column]
            chosen = slice(first, None, len(order) or 1)
            if source is None or not len(t[chosen]):
                block[chosen, column] = 0
                continue
            counts = source.sample(t[chosen], atten)
            block[chosen, column] = _millivolts(source, counts, atten) if calibrated else counts
        return block.tobytes()


def _millivolts(source: AdcInput, counts: NDArray[np.uint16], atten: int) -> NDArray[np.uint16]:
    convert = getattr(source, "millivolts", None)
    if convert is None:
        convert = _straight_line
    return np.asarray(convert(counts, atten), np.uint16)


def _straight_line(counts: NDArray[np.uint16], atten: int) -> NDArray[np.float64]:
    return counts.astype(np.float64) * (ADC_RANGE_MV[atten] / 4095)


class Pins:
    """GPIO: output levels, chip selects, and inputs."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self.levels: dict[int, int] = {}

    def handlers(self) -> dict[int, Handler]:
        """Return the operations served here."""
        return {Op.PIN_WRITE: self._write, Op.PIN_READ: self._read}

    def _write(self, pin: int, level: int, driven: int, _data: bytes) -> Answer:
        if not driven:
            return 0
        changed = self.levels.get(pin) != level
        self.levels[pin] = level
        for callback in self._wiring.pin_write.get(pin, ()):
            callback(level)
        if changed:
            for devices in self._wiring.spi.values():
                if pin in devices:
                    devices[pin].cs(level)
        return 0

    def _read(self, pin: int, pulled_up: int, _c: int, _data: bytes) -> Answer:
        read = self._wiring.pin_read.get(pin)
        if read:
            level = read()
            return pulled_up if level is None else int(bool(level))
        return self.levels.get(pin, pulled_up)


class Buses:
    """SPI and I2C controllers."""

    def __init__(self, wiring: Wiring, pins: Pins) -> None:
        self._wiring = wiring
        self._pins = pins
        self.spi_settings: dict[int, tuple[int, int]] = {}
        """Baud rate in Hz and mode word of each SPI controller."""
        self._i2c_pins: dict[int, tuple[int, int]] = {}

    def handlers(self) -> dict[int, Handler]:
        """Return the operations served here."""
        return {
            Op.SPI_SETUP: self._spi_setup,
            Op.SPI_TRANSFER: self._spi_transfer,
            Op.I2C_SETUP: self._i2c_setup,
            Op.I2C_SCAN: self._i2c_scan,
            Op.I2C_WRITE: self._i2c_write,
            Op.I2C_READ: self._i2c_read,
        }

    def _spi_setup(self, bus: int, baudrate: int, mode: int, _data: bytes) -> Answer:
        self.spi_settings[bus] = (baudrate, mode)
        return 0

    def _spi_transfer(self, bus: int, _b: int, _c: int, data: bytes) -> Answer:
        answer = b"\xff" * len(data)  # MISO floats high while nobody drives it
        for cs_pin, device in self._wiring.spi.get(bus, {}).items():
            if self._pins.levels.get(cs_pin, 1) == 0:
                answer = bytes(map(int.__and__, answer, device.transfer(data)))
        return answer

    def _i2c_setup(self, bus: int, scl: int, sda: int, _data: bytes) -> Answer:
        self._i2c_pins[bus] = (scl, sda)
        return 0

    def _i2c_devices(self, bus: int) -> dict[int, I2cDevice]:
        """The devices that the controller reaches. Raises TimeoutError where one holds the bus."""
        soldered = self._wiring.bus_pins.get(("i2c", bus))
        if soldered is not None and self._i2c_pins.get(bus) != soldered:
            return {}
        devices = self._wiring.i2c.get(bus, {})
        if any(getattr(device, "stuck", False) for device in devices.values()):
            raise TimeoutError("the data line is held low")
        return devices

    def _i2c_device(self, bus: int, address: int) -> I2cDevice:
        device = self._i2c_devices(bus).get(address)
        if device is None:
            raise OSError(errno.ENODEV, "no device acknowledges")
        return device

    def _i2c_scan(self, bus: int, _b: int, _c: int, _data: bytes) -> Answer:
        found = []
        for address, device in sorted(self._i2c_devices(bus).items()):
            if getattr(device, "present", True):
                found.append(address)
        return bytes(found)

    def _i2c_write(self, bus: int, address: int, _c: int, data: bytes) -> Answer:
        self._i2c_device(bus, address).write(data)
        return 0

    def _i2c_read(self, bus: int, address: int, n: int, _data: bytes) -> Answer:
        """The bytes, or the microseconds for which the device holds the clock."""
        try:
            answer = self._i2c_device(bus, address).read(n)
        except Stretch as busy:
            return max(1, math.ceil(busy.seconds * 1e6))
        # a device that sends less leaves the data line high
        return bytes(answer[:n]).ljust(n, b"\xff")
