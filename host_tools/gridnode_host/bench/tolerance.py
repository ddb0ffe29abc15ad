"""How far the parts of a unit may be from their design."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np


class Spread(Protocol):
    """A distribution that a part's deviation is drawn from."""

    def draw(self, rng: np.random.Generator) -> float:
        """One deviation."""


@dataclass(frozen=True)
class Normal:
    """Around zero, with this standard deviation, cut at two of them."""

    sigma: float

    def draw(self, rng: np.random.Generator) -> float:
        return float(np.clip(rng.normal(0.0, self.sigma), -2 * self.sigma, 2 * self.sigma))


@dataclass(frozen=True)
class Uniform:
    """Anything between two ends."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return float(rng.uniform(self.low, self.high))


NONE = Uniform(0.0, 0.0)


@dataclass(frozen=True)
class Core:
    """What small currents suffer more than large ones, see `sensors.Magnetisation`."""

    fall_deg: Spread
    """Lead that is lost from the smallest to the largest currents, degrees."""
    droop: Spread
    """Share of the gain that the smallest currents lack."""
    knee: Spread
    """Current at which half of both is left, of the clamp's rated one."""


@dataclass(frozen=True)
class Tolerance:
    """Spreads of the parts of a unit; by default those of good ones."""

    WIDE: ClassVar[Tolerance]
    """Anything that a calibration has to cope with."""

    gain: Spread = Normal(0.007)
    """Of every sensor, relative."""
    vt_lead: Spread = Normal(0.05)
    """Of a voltage sensor, degrees on top of its design's."""
    clamp_lead: Spread = Normal(0.15)
    """Of a clamp at small currents, degrees on top of its design's."""
    design_lead: bool = True
    """False: both leads are those of the parts themselves, whatever the design says."""
    core: Core | None = None
    """None: a clamp's lead falls as its model says, or by 0.6 degrees where there is none."""
    ppm_per_k: Spread = NONE
    """Temperature coefficient of every sensor's gain, around 25 degC."""
    pickup: float = 0.0
    """What a current sensor may pick up of the mains voltage without load, of the rated current."""
    noise: Spread = NONE
    """Of the noise of the ESP32's converter, relative."""


Tolerance.WIDE = Tolerance(
    gain=Uniform(-0.08, 0.08),
    vt_lead=Uniform(0.0, 1.0),
    clamp_lead=Uniform(0.0, 5.0),
    design_lead=False,
    core=Core(fall_deg=Uniform(0.2, 1.2), droop=Uniform(0.0, 0.01), knee=Uniform(0.05, 0.3)),
    ppm_per_k=Uniform(-150.0, 150.0),
    pickup=0.003,
    noise=Uniform(-0.3, 0.3),
)
