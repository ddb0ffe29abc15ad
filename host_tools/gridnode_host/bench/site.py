"""Where a front end is built in: its mains, its node, and the parts that the unit got.

Parts are seeded: a unit's gains, phases and converter differ from the design within the tolerance
of such parts, and each comes with the calibration that is exact for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridnode_host.bench.environment import Environment
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.sensors import Sensor
from gridnode_host.bench.wiring import Wiring

Spec = Mapping[str, Any]
"""A meter's entry in a resolved profile."""

Wired = tuple[Any, dict[str, Any] | None]
"""A meter's model (None: it has none) and its exact calibration (None: nothing to calibrate)."""

# Spread of parts, as a standard deviation cut at two of them.
_GAIN_SPREAD = 0.007
_PHASE_SPREAD_DEG = 0.15
# Lead of a split-core clamp falls from small to rated currents (SCT-013-000 as IoTaWatt lists
# it: 3.1 degrees below 4 A, 2.5 above 38 A of 100 A).
_LEAD_FALL_DEG = 0.6
_LEAD_FALL_FROM, _LEAD_FALL_TO = 0.04, 0.38
_RATED_SECONDARY_A = 0.05


class Parts:
    """Picks the parts of one unit: at their design values, or spread by the seed."""

    def __init__(self, profile: Mapping[str, Any], seed: int, ideal: bool) -> None:
        self.hertz = float(profile["nominal"]["frequency"])
        self.rating = float(profile["rating"]["current"])
        self.ideal = ideal
        self._rng = np.random.default_rng([seed, 0xCA1])

    def spread(self, sigma: float) -> float:
        """A deviation from the design with this standard deviation."""
        drawn = float(np.clip(self._rng.normal(0.0, sigma), -2 * sigma, 2 * sigma))
        return 0.0 if self.ideal else drawn

    def voltage(self, spec: Spec) -> tuple[Sensor, dict[str, Any]]:
        """Sensor and its exact calibration entry for one entry of `voltage`."""
        gain = 1.0 + self.spread(_GAIN_SPREAD)
        lead = spec.get("phase_deg", 0.0) + self.spread(_PHASE_SPREAD_DEG / 3)
        sensor = Sensor(spec["mv_per_v"] * gain, lead, self.hertz)
        return sensor, {"gain": 1.0 / gain, "phase_deg": lead}

    def current(self, spec: Spec) -> tuple[Sensor, dict[str, Any]]:
        """Sensor and its exact calibration entry for one entry of `current`."""
        gain = 1.0 + self.spread(_GAIN_SPREAD)
        if "shunt_mohm" in spec:  # neither a phase error nor a core
            lead = spec.get("phase_deg", 0.0)
            entry: dict[str, Any] = {"gain": 1.0 / gain, "phase_deg": lead}
            return Sensor(spec["shunt_mohm"] * gain, lead, self.hertz), entry
        lead = spec.get("phase_deg", 0.0) + self.spread(_PHASE_SPREAD_DEG)
        entry = {"gain": 1.0 / gain, "phase_deg": lead}
        points: tuple[tuple[float, float], ...] = ()
        if not self.ideal:
            rated = self.rated(spec)
            points = (
                (_LEAD_FALL_FROM * rated, lead + _LEAD_FALL_DEG / 2),
                (_LEAD_FALL_TO * rated, lead - _LEAD_FALL_DEG / 2),
            )
            entry["phase_points"] = [list(point) for point in points]
        mv_per_a = 1000.0 * spec["burden_ohm"] / spec["ratio"]
        return Sensor(mv_per_a * gain, lead, self.hertz, points), entry

    def rated(self, spec: Spec) -> float:
        """Rated primary current of a clamp, A."""
        return max(self.rating, float(spec.get("ratio", 0)) * _RATED_SECONDARY_A)


@dataclass(frozen=True)
class Site:
    """What the wiring function of a meter gets beside its entry in the profile."""

    circuit: Circuit
    wiring: Wiring
    environment: Environment
    parts: Parts
    seed: int = 0
    ideal: bool = False
