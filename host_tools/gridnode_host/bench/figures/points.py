"""Accuracy points and their limits: loads at shares of the rated current and frequencies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gridnode_host.bench.figures import front_ends
from gridnode_host.bench.figures.front_ends import FrontEnd
from gridnode_host.bench.figures.loads import (
    DIMMER,
    LAGGING,
    LEADING,
    NOISY,
    SINE,
    SMPS,
    Load,
)

VOLTAGE = 230.0
SHARES = (2, 5, 10, 20, 50, 100, 120)
FEW_SHARES = (5, 20, 50, 100)
FREQUENCIES = (45.0, 60.0, 65.0)  # beside the 50 Hz of all other points
READINGS = 100
REFUSALS = 10  # readings of a point that has no value to be accurate with

# Limits with ideal gains: % of the true value, mHz, % of the fundamental. Those of current,
# power and its harmonics hold from this share of the rated current on.
FROM_SHARE = 5
LIMITS = {"voltage": 0.2, "current": 0.2, "frequency": 10.0, "harmonics": 0.5}

# A current this close to the end of a range may be refused or measured.
_EDGE = (0.95, 1.03)


@dataclass(frozen=True)
class Point:
    """One load at a share of the rated current (%).

    `fits`: whether the converter holds it; None at the edge of its range.
    """

    load: Load
    share: float
    frequency: float = 50.0
    fits: bool | None = True
    readings: int = READINGS

    def apply(self, circuit: Any, rating: float, at: float) -> None:
        """Set the mains of a node with the rated current `rating` (A) from a rig time on."""
        circuit.set(
            voltage=VOLTAGE,
            current=rating * self.share / 100.0,
            phase_deg=self.load.phase_deg,
            harmonics=self.load.harmonics,
            voltage_harmonics=self.load.voltage_harmonics,
            noise_v=self.load.noise_v,
            frequency=self.frequency,
            at=at,
        )

    def limit(self, name: str) -> float:
        """Largest error of a value in the units of `LIMITS`."""
        if name in ("voltage", "frequency", "harmonics_voltage"):
            return LIMITS[name.partition("_")[0] if "harmonics" in name else name]
        if self.share < FROM_SHARE:
            return math.inf
        if name == "power":
            return self.load.power_limit
        return LIMITS["harmonics" if "harmonics" in name else name]


def points(front_end: FrontEnd, readings: int = READINGS) -> list[Point]:
    """Every point of a front end; the power factor is nothing to one that tells no power."""
    profile = front_end.resolved()
    rating, peak_room = float(profile["rating"]["current"]), front_ends.peak_room(profile)
    found = []
    for load, share, frequency in _grid("power" in front_end.offers):
        rms = rating * share / 100.0
        full = max(load.crest * rms / peak_room, rms / front_end.most_a)
        fits = None if _EDGE[0] < full < _EDGE[1] else full <= 1.0
        few = min(readings, REFUSALS)
        found.append(Point(load, share, frequency, fits, few if fits is False else readings))
    return found


def _grid(with_power: bool) -> Iterator[tuple[Load, float, float]]:
    for load in (SINE, LAGGING, LEADING) if with_power else (SINE,):
        yield from ((load, share, 50.0) for share in SHARES)
    for load in (SMPS, DIMMER, NOISY):
        yield from ((load, share, 50.0) for share in FEW_SHARES)
    for frequency in FREQUENCIES:
        yield from ((load, 50, frequency) for load in ((SINE, LAGGING) if with_power else (SINE,)))
