"""What is soldered to one node: the devices on its pins and buses, and the air around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Nack(Exception):
    """A device on the I2C bus does not acknowledge."""


class Stretch(Exception):
    """A device on the I2C bus holds the clock line: ask again in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"busy for {seconds:g} s")
        self.seconds = seconds


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
    """A device on an I2C bus. Each method may raise `Nack`, `TimeoutError` or `Stretch`.

    A device may also have an attribute ``stuck``: while it is true it holds the data line low,
    and nothing on that bus gets through.
    """

    def write(self, data: bytes) -> None:
        """One write transfer up to the stop or repeated start."""

    def read(self, n: int) -> bytes:
        """One read transfer of ``n`` bytes."""


class UartDevice(Protocol):
    """The other end of a UART.

    A device may also have ``setup(baudrate, parity)``, which tells how the node has set its UART
    (parity is none, even or odd), so that it can make garbage of what comes otherwise.
    """

    def receive(self, data: bytes) -> None:
        """The node has sent ``data``."""

    def pending(self, now: float) -> bytes:
        """Return, and forget, what has been sent to the node by the rig time ``now`` (s)."""


class OneWireDevice(Protocol):
    """A device on a 1-Wire bus; several on one pin are wired together (a 0 wins)."""

    def reset(self) -> bool:
        """A reset pulse; return whether the device answers with a presence pulse."""

    def write_bit(self, bit: int) -> None:
        """A write slot."""

    def read_bit(self) -> int:
        """A read slot; 1 leaves the line high."""


class Wiring:
    """The outside of one node. Fill it before the node starts; switches may change at any time."""

    def __init__(self) -> None:
        self.adc: dict[int, AdcInput] = {}
        self.conversion_us = 36.0
        """Time of one ADC conversion on the chip, the call included."""
        self.temperature: Callable[[], float] = lambda: 40.0
        """Temperature of the chip in degrees Celsius; with a front end that of its environment."""
        self.wlan: dict[str, str] = {}
        """Networks in reach: SSID -> key (empty for an open one)."""
        self.wlan_up = True
        self.wlan_rssi = -61
        self.lan_up = True
        self.modem_up = False
        """An interface that is not the firmware's business, say a modem that boot.py brings up."""
        self.spi: dict[int, dict[int, SpiDevice]] = {}
        self.i2c: dict[int, dict[int, I2cDevice]] = {}
        self.uart: dict[int, list[UartDevice]] = {}
        self.onewire: dict[int, list[OneWireDevice]] = {}
        self.bus_pins: dict[tuple[str, int], tuple[int, int]] = {}
        """Pins that the wires of ("i2c", id) or ("uart", id) are soldered to, where that counts:
        a node that uses other pins reaches nobody. (scl, sda) or (tx, rx)."""
        self.pin_read: dict[int, Callable[[], int | None]] = {}
        self.pin_write: dict[int, list[Callable[[int], None]]] = {}

    def attach_spi(self, bus: int, cs_pin: int, device: SpiDevice) -> None:
        """Put a device on an SPI bus; it is selected while ``cs_pin`` is low."""
        self.spi.setdefault(bus, {})[cs_pin] = device

    def attach_i2c(
        self,
        bus: int,
        address: int,
        device: I2cDevice,
        *,
        scl: int | None = None,
        sda: int | None = None,
    ) -> None:
        """Put a device with a 7-bit address on an I2C bus; pins: see `bus_pins`."""
        self.i2c.setdefault(bus, {})[address] = device
        self._solder("i2c", bus, scl, sda)

    def attach_uart(
        self, uart: int, device: UartDevice, *, tx: int | None = None, rx: int | None = None
    ) -> None:
        """Connect a device to a UART; several hear the same. Pins (the node's): see `bus_pins`."""
        self.uart.setdefault(uart, []).append(device)
        self._solder("uart", uart, tx, rx)

    def attach_onewire(self, pin: int, device: OneWireDevice) -> None:
        """Put a device on the 1-Wire bus of a pin."""
        self.onewire.setdefault(pin, []).append(device)

    def _solder(self, kind: str, bus: int, first: int | None, second: int | None) -> None:
        if first is not None and second is not None:
            self.bus_pins[kind, bus] = (first, second)

    def attach_pin(
        self,
        pin: int,
        *,
        on_write: Callable[[int], None] | None = None,
        read: Callable[[], int | None] | None = None,
    ) -> None:
        """Watch what the node writes to a pin, or give the level that it reads; None: nobody drives it."""
        if on_write:
            self.pin_write.setdefault(pin, []).append(on_write)
        if read:
            self.pin_read[pin] = read

    def power(self, on: bool) -> None:
        """Switch what the node feeds: every device that has a method ``power``, once."""
        devices: list[object] = []
        for of_uart in self.uart.values():
            devices += of_uart
        for of_spi in self.spi.values():
            devices += of_spi.values()
        for of_i2c in self.i2c.values():
            devices += of_i2c.values()
        for of_onewire in self.onewire.values():
            devices += of_onewire
        for device in {id(device): device for device in devices}.values():
            switch = getattr(device, "power", None)
            if switch is not None:
                switch(on)
