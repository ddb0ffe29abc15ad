"""Sensors between a mains circuit and a converter: transformers, dividers, shunts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gridnode_host.bench.segment import Complexes, Floats


@dataclass(frozen=True)
class Sensor:
    """Linear sensor: mV at the converter per V or A, and a first-order phase error.

    `lead_deg` is how far the output leads at `nominal_hz`: positive is the high-pass that a
    transformer's magnetising current makes (the lead falls with frequency), negative a
    low-pass. `points` overrides it by the rms of the input: `((A, degrees), ...)`.
    """

    mv_per_unit: float
    lead_deg: float = 0.0
    nominal_hz: float = 50.0
    points: tuple[tuple[float, float], ...] = ()

    def transfer(self, hertz: Floats, rms: float) -> Complexes:
        """Complex gain by frequency; magnitude 1 at the nominal frequency."""
        lead = self.lead_deg
        if self.points:
            amperes, leads = zip(*self.points, strict=True)
            lead = float(np.interp(rms, list(amperes), list(leads)))
        ratio = np.asarray(hertz) / self.nominal_hz
        slope = math.tan(math.radians(abs(lead)))
        gain: Complexes
        if lead > 0:
            gain = 1j * ratio / (1j * ratio + slope)
        else:
            gain = 1.0 / (1.0 + 1j * ratio * slope)
        return gain * math.hypot(1.0, slope)


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
