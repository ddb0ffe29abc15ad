"""ADS1115 16-bit converter on I2C, from TI's data sheet (facts B.7).

A result is the mean of the input over the conversion: its digital filter is a sinc that settles
within one, so that a sine of f Hz reads sin(x) / x of itself with x = pi f / rate. Pins end 0.3 V
beyond the supply. Not modelled: comparator and ALERT pin (their registers are kept), and the
general call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from gridnode_host.bench.chips.chip import Chip
from gridnode_host.bench.segment import Floats
from gridnode_host.bench.sensors import Input
from gridnode_host.bench.site import Site, Spec, Wired
from gridnode_host.bench.wiring import Nack

CONVERSION, CONFIG, LOW_THRESHOLD, HIGH_THRESHOLD = range(4)
RESET_VALUES = (0x0000, 0x8583, 0x8000, 0x7FFF)
OS, SINGLE_SHOT = 1 << 15, 1 << 8

FULL_SCALE_V = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256)
RATES_HZ = (8, 16, 32, 64, 128, 250, 475, 860)
_PAIRS = ((0, 1), (0, 3), (1, 3), (2, 3), (0, None), (1, None), (2, None), (3, None))

_WAKE_S = 25e-6  # from power-down to the start of a conversion
_POINTS = 16  # of the input in one conversion
_SUPPLY_V = 3.3
_CLAMP_V = 0.3
_NOISE_LSB = 0.6
_RATE_SPREAD = 0.02

Pin = Callable[[Floats], Floats]
"""Volts at a pin at rig times."""


class Ads1115(Chip):
    """One converter with its four inputs (None: open, reads as ground)."""

    def __init__(
        self,
        clock: Callable[[], float],
        pins: Sequence[Pin | None],
        *,
        rate_error: float = 0.0,
        noise_lsb: float = _NOISE_LSB,
        seed: int = 0,
    ) -> None:
        super().__init__(clock, seed, 0xAD5)
        self._pins = pins
        self._rate_factor = 1.0 + rate_error
        self._noise_lsb = noise_lsb
        self._reset()

    # -- wiring.I2cDevice ------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """The pointer, and with two more bytes the register that it points to."""
        with self._lock:
            if not self.present:
                raise Nack
            if data:
                self._pointer = data[0] & 3
            if len(data) >= 3:
                self._settle()
                self._write(self._pointer, data[1] << 8 | data[2])

    def read(self, n: int) -> bytes:
        """The register that the pointer points to."""
        with self._lock:
            if not self.present:
                raise Nack
            self._settle()
            value = self._registers[self._pointer]
            if self._pointer == CONFIG:
                idle = self._begin is None
                value = value & ~OS | (OS if idle else 0)
            return self._on_the_wire(value.to_bytes(2, "big")[:n])

    # -- conversions -----------------------------------------------------------------------

    def _reset(self) -> None:
        self._registers = list(RESET_VALUES)
        self._pointer = CONVERSION
        self._begin: float | None = None  # of the conversion that runs
        self._settings = RESET_VALUES[CONFIG]  # that it runs with

    def _write(self, register: int, value: int) -> None:
        if register == CONVERSION:
            return
        self._registers[register] = value
        if register != CONFIG or self._begin is not None:
            return  # new settings hold from the next conversion on
        if not value & SINGLE_SHOT or value & OS:
            self._start(self._clock() + _WAKE_S)

    def _start(self, begin: float) -> None:
        self._begin = begin
        self._settings = self._registers[CONFIG]

    def _settle(self) -> None:
        """Finish the conversions that are over."""
        now = self._clock()
        while self._begin is not None:
            seconds = 1.0 / (RATES_HZ[self._settings >> 5 & 7] * self._rate_factor)
            end = self._begin + seconds
            if end > now:
                return
            if self._registers[CONFIG] & SINGLE_SHOT:
                self._registers[CONVERSION] = self._convert(self._begin, end)
                self._begin = None
                return
            # continuous, with the settings of now: only the newest result is seen
            missed = int((now - end) / seconds) if self._settings == self._registers[CONFIG] else 0
            begin = self._begin + missed * seconds
            self._registers[CONVERSION] = self._convert(begin, begin + seconds)
            self._start(begin + seconds)

    def _convert(self, begin: float, end: float) -> int:
        begin, end = (self._now(t) for t in (begin, end))
        step = (end - begin) / _POINTS
        t = begin + (np.arange(_POINTS) + 0.5) * step
        positive, negative = _PAIRS[self._settings >> 12 & 7]
        volts = self._volts(positive, t) - self._volts(negative, t)
        full_scale = FULL_SCALE_V[self._settings >> 9 & 7]
        noise = 0.0 if self._has("frozen") else self._noise_lsb * self._rng.normal()
        counts = math.floor(volts / full_scale * 32768.0 + noise + 0.5)
        return min(max(counts, -32768), 32767) & 0xFFFF

    def _volts(self, pin: int | None, t: Floats) -> float:
        source = None if pin is None else self._pins[pin]
        if source is None:
            return 0.0
        return float(np.mean(np.clip(source(t), -_CLAMP_V, _SUPPLY_V + _CLAMP_V)))


def wire(spec: Spec, site: Site) -> Wired:
    """Put a converter on the I2C bus of the profile's entry, with its clamp and slow inputs.

    The clamp's burden is biased to half the supply (`bias_mv`), on the second pin of a pair too.
    """
    pins: list[Pin | None] = [_slow(spec["id"], channel, site) for channel in range(4)]
    currents = []
    for phase, channel in enumerate(spec.get("current", ())):
        sensor, exact = site.parts.current(channel)
        currents.append((sensor, exact))
        first, *second = (int(pin) for pin in str(channel["channel"]).split("-"))
        bias = channel.get("bias_mv", 500.0 * _SUPPLY_V) / 1000.0
        pins[first] = _clamp(Input.of(phase, sensor), bias, site)
        for pin in second:
            pins[pin] = _level(bias)
    chip = Ads1115(
        site.circuit.now, pins, rate_error=site.parts.spread(_RATE_SPREAD), seed=site.seed
    )
    i2c = spec["i2c"]
    site.wiring.attach_i2c(i2c["id"], i2c.get("address", 0x48), chip, scl=i2c["scl"], sda=i2c["sda"])
    return chip, site.parts.exact([], currents) if currents else None


def _slow(place: str, channel: int, site: Site) -> Pin:
    return lambda t: np.full(len(t), site.environment.volts(channel, place))


def _level(volts: float) -> Pin:
    return lambda t: np.full(len(t), volts)


def _clamp(one: Input, bias: float, site: Site) -> Pin:
    def volts(t: Floats) -> Floats:
        amperes = site.circuit.signal(
            "current", one.phase, t, transfer=one.transfer, pickup=one.pickup
        )
        return bias + amperes * one.mv / 1000.0

    return volts
