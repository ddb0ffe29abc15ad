"""Air, supply, heat and instruments around a load, as series of one value per row (a minute)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from gridnode_host.detection.random_series import ar, by_day, cycle, hour, lag
from gridnode_host.detection.stream_file import Floats

__all__ = ["Air", "Heat", "Instrument", "air", "humidity", "quantised", "supply"]

_A, _B = 17.62, 243.12  # Magnus, over water


@dataclass
class Air:
    """The air around a node, degC."""

    temperature: Floats
    dew_point: Floats


@dataclass(frozen=True)
class Heat:
    """How a joint warms above the air: two lags in parallel, driven by the current squared."""

    rise_k: float  # at rated current
    fast_share: float
    fast: float  # time constant, rows
    slow: float  # time constant, rows

    def above(self, squared: Floats) -> Floats:
        """K above the air; `squared` is (share of the rating)^2, times what a joint has aged."""
        quick, late = lag(squared, self.fast), lag(squared, self.slow)
        return self.rise_k * (self.fast_share * quick + (1 - self.fast_share) * late)

    @staticmethod
    def draw(rng: Generator) -> Heat:
        """Time constants of 8 to 110 minutes, 10 to 40 K at rated current."""
        return Heat(
            rng.uniform(14, 40), rng.uniform(0.2, 0.7), rng.uniform(8, 25), rng.uniform(35, 110)
        )


@dataclass(frozen=True)
class Instrument:
    """A display step and the noise of a reading, in the unit of the signal."""

    step: float
    noise: float

    def read(self, rng: Generator, true: Floats) -> Floats:
        """What is displayed."""
        return quantised(true + rng.normal(0.0, self.noise, len(true)), self.step)


def quantised(values: Floats, step: float) -> Floats:
    """Round to multiples of a step, as decimals that read well."""
    return np.round(np.round(values / step) * step, 4)


def air(rng: Generator, t: Floats, zone_h: float) -> Air:
    """Weather outdoors, or the tamer air of a room: day, sun, and days that differ."""
    rows, hours = len(t), hour(t, zone_h)
    indoors = rng.random() < 0.4
    swing = rng.uniform(0.5, 2.0) if indoors else rng.uniform(2.5, 6.0)
    mean = rng.uniform(17, 26) if indoors else rng.uniform(4, 27)
    days = by_day(rng, t, 1.0, 0.12)
    temperature = mean + swing * days * cycle(rng, hours, rng.uniform(14, 16.5))
    temperature += ar(rng, rows, rng.uniform(0.3, 0.8) if indoors else rng.uniform(0.6, 1.6), 2200)
    temperature += ar(rng, rows, rng.uniform(0.1, 0.35), rng.uniform(15, 60))
    spread = rng.uniform(5.0, 13.0)
    dew = mean - swing - spread + ar(rng, rows, rng.uniform(0.5, 1.3), 1800)
    dew += ar(rng, rows, rng.uniform(0.1, 0.3), 40)
    return Air(temperature, np.minimum(dew, temperature - 2.4))


def humidity(air: Air) -> Floats:
    """Relative humidity, %, of air with a dew point."""
    exponent = _A * air.dew_point / (_B + air.dew_point)
    exponent -= _A * air.temperature / (_B + air.temperature)
    return np.minimum(100.0 * np.exp(exponent), 100.0)


def supply(rng: Generator, t: Floats, zone_h: float) -> Floats:
    """Voltage without load, V: day, slow and fast changes, in some places a tap changer."""
    rows, hours = len(t), hour(t, zone_h)
    volts = 230 * (1 + rng.uniform(-0.008, 0.022)) + ar(rng, rows, rng.uniform(0.5, 1.4), 180)
    volts += rng.uniform(0.4, 2.4) * by_day(rng, t, 1.0, 0.1) * cycle(rng, hours, 3.0)
    volts += ar(rng, rows, rng.uniform(0.1, 0.4), 3)
    if rng.random() < 0.5:
        volts = _tapped(volts, rng.uniform(2.3, 3.4))
    return volts


def _tapped(volts: Floats, step: float) -> Floats:
    """A tap changer holds the voltage within a band, some minutes late."""
    target, band, delay = float(np.mean(volts)), 0.85 * step, 6
    tap = waited = 0
    out = volts.copy()
    for row, level in enumerate(volts.tolist()):
        off = level + tap * step - target
        waited = waited + 1 if abs(off) > band else 0
        if waited > delay:
            tap -= int(math.copysign(1, off))
            waited = 0
        out[row] = level + tap * step
    return out
