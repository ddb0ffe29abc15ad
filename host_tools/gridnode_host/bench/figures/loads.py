"""Loads of the accuracy campaign: shape of a current, and of the supply that it is drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from gridnode_host.bench import shapes


@dataclass(frozen=True)
class Load:
    """Shape of a current and of its supply; `phase_deg` is the lag of the fundamental."""

    name: str
    phase_deg: float = 0.0
    harmonics: shapes.Harmonics = field(default_factory=dict)
    voltage_harmonics: shapes.Harmonics = field(default_factory=dict)
    noise_v: float = 0.0
    power_limit: float = 0.5
    """Largest error of the power, %."""

    @property
    def crest(self) -> float:
        """Peak over rms of the current."""
        angle = np.linspace(0.0, 2 * np.pi, 7200, endpoint=False)
        wave = np.sin(angle)
        for order, (ratio, degrees) in self.harmonics.items():
            wave = wave + ratio * np.sin(order * angle + math.radians(degrees))
        return float(np.abs(wave).max() / np.sqrt(np.mean(wave**2)))


_SLIGHT = {3: (0.01, 20.0), 5: (0.03, 180.0), 7: (0.01, 40.0), 11: (0.005, 0.0)}

SINE = Load("sine, PF 1")
LAGGING = Load("sine, PF 0.5 lagging", 60.0, power_limit=1.0)
LEADING = Load("sine, PF 0.8 leading", -math.degrees(math.acos(0.8)))
SMPS = Load("SMPS, THD 112 %", *shapes.smps())
DIMMER = Load("dimmer at 90 degrees", *shapes.dimmer())
NOISY = Load(
    "resistive, noisy distorted supply", 0.0, _SLIGHT, voltage_harmonics=_SLIGHT, noise_v=1.0
)
LOADS = (SINE, LAGGING, LEADING, SMPS, DIMMER, NOISY)
