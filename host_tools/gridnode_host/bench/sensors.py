"""Sensors between a mains circuit and a converter: transformers, dividers, shunts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gridnode_host.bench.segment import Complexes, Floats, Transfer

REFERENCE_C = 25.0
"""Temperature at which a sensor has the gain of its data."""


@dataclass(frozen=True)
class Magnetisation:
    """A core whose magnetising current matters less as the current grows.

    Lead and lack of gain at I are their parts that stay plus what falls as 1 / (1 + I / knee).
    """

    lead_deg: float
    """What stays of the lead at large currents."""
    fall_deg: float
    droop: float
    knee_a: float

    def at(self, amperes: float) -> tuple[float, float]:
        """Gain and lead in degrees at a current, A rms."""
        share = 1.0 / (1.0 + amperes / self.knee_a)
        return 1.0 - self.droop * share, self.lead_deg + self.fall_deg * share


@dataclass(frozen=True)
class Sensor:
    """Linear sensor: mV at the converter per V or A, and a first-order phase error.

    `lead_deg` is how far the output leads at `nominal_hz`: positive is the high-pass that a
    transformer's magnetising current makes (the lead falls with frequency), negative a
    low-pass. `points` overrides it by the rms of the input: `((A, degrees), ...)`, and so does a
    `core`, with its gain. `pickup` is what a current sensor sees of its phase's voltage, A per V
    as a phasor. `mv_per_unit` holds at `REFERENCE_C` and moves by `ppm_per_k` with `temperature`.
    """

    mv_per_unit: float
    lead_deg: float = 0.0
    nominal_hz: float = 50.0
    points: tuple[tuple[float, float], ...] = ()
    core: Magnetisation | None = None
    pickup: complex = 0j
    ppm_per_k: float = 0.0
    temperature: Callable[[], float] | None = field(default=None, compare=False)

    @property
    def mv(self) -> float:
        """mV per V or A now."""
        return self.mv_per_unit * self.drift()

    def drift(self) -> float:
        """Gain now, over that at the reference temperature."""
        if self.temperature is None:
            return 1.0
        return 1.0 + 1e-6 * self.ppm_per_k * (self.temperature() - REFERENCE_C)

    def at(self, rms: float) -> tuple[float, float]:
        """Gain (1: as `mv_per_unit` says) and lead in degrees for an input of this rms."""
        if self.core is not None:
            return self.core.at(rms)
        if self.points:
            amperes, leads = zip(*self.points, strict=True)
            return 1.0, float(np.interp(rms, list(amperes), list(leads)))
        return 1.0, self.lead_deg

    def transfer(self, hertz: Floats, rms: float) -> Complexes:
        """Complex gain by frequency, temperature aside; its magnitude at `nominal_hz` is `at`."""
        size, lead = self.at(rms)
        ratio = np.asarray(hertz) / self.nominal_hz
        slope = math.tan(math.radians(abs(lead)))
        gain: Complexes
        if lead > 0:
            gain = 1j * ratio / (1j * ratio + slope)
        else:
            gain = 1.0 / (1.0 + 1j * ratio * slope)
        return gain * (size * math.hypot(1.0, slope))


class Input(NamedTuple):
    """What is wired to one pin pair: a phase of the circuit (from 0) through a sensor."""

    phase: int
    mv_per_unit: float
    transfer: Transfer | None = None
    pickup: complex = 0j
    drift: Callable[[], float] | None = None

    @classmethod
    def of(cls, phase: int, sensor: Sensor) -> Input:
        """A sensor on a phase."""
        drift = sensor.drift if sensor.temperature is not None else None
        return cls(phase, sensor.mv_per_unit, sensor.transfer, sensor.pickup, drift)

    @property
    def mv(self) -> float:
        """mV per V or A now."""
        return self.mv_per_unit if self.drift is None else self.mv_per_unit * self.drift()


@dataclass(frozen=True)
class Saturation:
    """A core that follows up to `knee` amperes (peak) and then gives way within 30 % more."""

    knee: float

    def __call__(self, amperes: Floats) -> Floats:
        size = np.abs(amperes)
        if size.max(initial=0.0) <= self.knee:
            return amperes
        room = 0.3 * self.knee
        bent = self.knee + room * (1 - np.exp(-(size - self.knee) / room))
        return np.where(size > self.knee, np.sign(amperes) * bent, amperes)
