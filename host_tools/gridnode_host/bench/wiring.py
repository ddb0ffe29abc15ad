"""What is soldered to one node: the devices on its pins and buses, and the air around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Nack(Exception):
    """A device on the I2C bus does not acknowledge."""


class AdcInput(Protocol):
    """What a pin of the converter sees, conversion included.

    An input may also have ``millivolts(counts, atten)``, which stands for the chip's calibrated
    reading; without it ``ADC.read_uv`` is a straight line over the range of the attenuation.
    """

    def sample(self, t: NDArray[np.float64], atten: int) -> NDArray[np.uint16]:
        """Return 12-bit counts at the rig times ``t`` (s) for an attenuation (0..3)."""


class SpiDevice(Protocol):
    """A device on an SPI bus with a chip-select of its own."""

    def cs(self, level: int) -> None:
        """The chip-select pin changed to ``level``."""

    def transfer(self, data: bytes) -> bytes:
        """Clock ``data`` in and return as many bytes."""


class I2cDevice(Protocol):
    """A device on an I2C bus. Each method may raise `Nack` or `TimeoutError`."""

    def write(self, data: bytes) -> None:
        """One write transfer up to the stop or repeated start."""

    def read(self, n: int) -> bytes:
        """One read transfer of ``n`` bytes."""


class UartDevice(Protocol):
    """The other end of a UART."""

    def receive(self, data: bytes) -> None:
        """The node has sent ``data``."""

    def pending(self, now: float) -> bytes:
        """Return, and forget, what has been sent to the node by the rig time ``now`` (s)."""


class Wiring:
    """The outside of one node. Fill it before the node starts; switches may change at any time."""

    def __init__(self) -> None:
        self.adc: dict[int, AdcInput] = {}
        self.conversion_us = 36.0
        """Time of one ADC conversion on the chip, the call included."""
        self.temperature: Callable[[], float] = lambda: 40.0
        """Temperature of the chip in degrees Celsius."""
        self.wlan: dict[str, str] = {}
        """Networks in reach: SSID -> key (empty for an open one)."""
        self.wlan_up = True
        self.wlan_rssi = -61
        self.lan_up = True
        self.modem_up = False
        """An interface that is not the firmware's business, say a modem that boot.py brings up."""
        self.spi: dict[int, dict[int, SpiDevice]] = {}
        self.i2c: dict[int, dict[int, I2cDevice]] = {}
        self.uart: dict[int, UartDevice] = {}
        self.pin_read: dict[int, Callable[[], int]] = {}
        self.pin_write: dict[int, list[Callable[[int], None]]] = {}

    def attach_spi(self, bus: int, cs_pin: int, device: SpiDevice) -> None:
        """Put a device on an SPI bus; it is selected while ``cs_pin`` is low."""
        self.spi.setdefault(bus, {})[cs_pin] = device

    def attach_i2c(self, bus: int, address: int, device: I2cDevice) -> None:
        """Put a device with a 7-bit address on an I2C bus."""
        self.i2c.setdefault(bus, {})[address] = device

    def attach_uart(self, uart: int, device: UartDevice) -> None:
        """Connect a device to a UART."""
        self.uart[uart] = device

    def attach_pin(
        self,
        pin: int,
        *,
        on_write: Callable[[int], None] | None = None,
        read: Callable[[], int] | None = None,
    ) -> None:
        """Watch what the node writes to a pin, or give the level that it reads."""
        if on_write:
            self.pin_write.setdefault(pin, []).append(on_write)
        if read:
            self.pin_read[pin] = read
