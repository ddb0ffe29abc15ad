"""What a calibration has to reach, and how its errors are told."""

from __future__ import annotations

from collections.abc import Mapping

LIMITS = {
    "voltage": 0.3,
    "current": 0.3,
    "power at PF 1": 0.5,
    "power at PF 0.5": 1.0,
    "power at PF 0.8": 1.0,
}
"""Largest error in % from 5 to 100 % of the rated current, by quantity."""

Worst = dict[str, float]
"""Largest error in %, without its sign, by quantity."""


def power_at(factor: float) -> str:
    """The quantity that an active power at a power factor is judged as."""
    return f"power at PF {factor:g}"


def over(worst: Mapping[str, float]) -> list[str]:
    """Quantities beyond their limits; an error that is no number is beyond it."""
    return [name for name, error in worst.items() if not abs(error) <= LIMITS[name]]
