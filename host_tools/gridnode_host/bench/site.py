"""Where a front end is built in: its mains, its node, and the parts that the unit got.

Parts are seeded: a unit's sensors and converter differ from the design within a `Tolerance`, and
each unit comes with the calibration that is exact for it.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridnode_host.bench.environment import Environment
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.sensors import REFERENCE_C, Input, Magnetisation, Sensor
from gridnode_host.bench.tolerance import Core, Normal, Tolerance
from gridnode_host.bench.wiring import Wiring

Spec = Mapping[str, Any]
"""A meter's entry in a resolved profile."""

Wired = tuple[Any, dict[str, Any] | None]
"""A meter's model (None: it has none) and its exact calibration (None: nothing to calibrate)."""

# Lead of a split-core clamp falls from small to rated currents: so much, and between these shares
# of its rated current, where the profile names no model of it.
_LEAD_FALL_DEG = 0.6
_LEAD_FALL_FROM, _LEAD_FALL_TO = 0.04, 0.38
_RATED_SECONDARY_A = 0.05
_CURVE_POINTS = 8  # of an exact calibration: within 0.02 degrees and 0.02 % of the core


_NOISE = 1e-4  # of the rated current


class Parts:
    """Picks the parts of one unit: at their design values, or spread by the seed."""

    def __init__(
        self,
        profile: Mapping[str, Any],
        seed: int,
        ideal: bool,
        tolerance: Tolerance | None = None,
        temperature: Callable[[], float] | None = None,
    ) -> None:
        """`temperature` is that of the unit's sensors, degC (None: 25 for ever)."""
        self.hertz = float(profile["nominal"]["frequency"])
        self.volts = float(profile["nominal"]["voltage"])
        self.rating = float(profile["rating"]["current"])
        self.ideal = ideal
        self.tolerance = tolerance or Tolerance()
        self._temperature = temperature
        self._rng = np.random.default_rng([seed, 0xCA1])
        # What came later draws from a stream of its own: a seed keeps the parts that it had.
        self._more = np.random.default_rng([seed, 0xCA2])
        drawn = self.tolerance.noise.draw(self._more)
        self.noise = 1.0 if ideal else 1.0 + drawn
        """Noise of this unit's converter over the typical one's."""

    def spread(self, sigma: float) -> float:
        """A deviation from the design with this standard deviation."""
        drawn = Normal(sigma).draw(self._rng)
        return 0.0 if self.ideal else drawn

    def voltage(self, spec: Spec) -> tuple[Sensor, dict[str, Any]]:
        """Sensor and its exact calibration entry for one entry of `voltage`."""
        gain = self._gain()
        lead = self._lead(spec, self.tolerance.vt_lead.draw(self._rng))
        ppm = self._ppm()
        sensor = Sensor(
            spec["mv_per_v"] * gain,
            lead,
            self.hertz,
            ppm_per_k=ppm,
            temperature=self._temperature if ppm else None,
        )
        return sensor, _entry(gain, lead, ppm)

    def current(self, spec: Spec) -> tuple[Sensor, dict[str, Any]]:
        """Sensor and its exact calibration entry for one entry of `current`."""
        gain = self._gain()
        core: Magnetisation | None = None
        points: tuple[tuple[float, float], ...] = ()
        if "shunt_mohm" in spec:  # neither a phase error nor a core
            mv_per_a, lead = spec["shunt_mohm"], spec.get("phase_deg", 0.0)
        else:
            mv_per_a = 1000.0 * spec["burden_ohm"] / spec["ratio"]
            lead = self._lead(spec, self.tolerance.clamp_lead.draw(self._rng))
            if self.tolerance.core is not None and not self.ideal:
                core = self._core(self.tolerance.core, spec, lead)
            else:
                points = self._points(spec, lead)
        ppm = self._ppm()
        sensor = Sensor(
            mv_per_a * gain,
            lead,
            self.hertz,
            points,
            core,
            self._pickup(),
            ppm_per_k=ppm,
            temperature=self._temperature if ppm else None,
        )
        size, lead = sensor.at(self.rating) if core else (1.0, lead)
        entry = _entry(gain * size, lead, ppm)
        if core is not None:
            entry["curve"] = self._curve(sensor)
        elif points and "phase_points" not in spec:
            entry["curve"] = [[at, 1.0, round(deg - lead, 4)] for at, deg in points]
        return sensor, entry

    def inputs(
        self, spec: Spec, noise_mv: float = 0.0
    ) -> tuple[list[Input], list[Input], dict[str, Any]]:
        """Voltage and current inputs of a chip, and the calibration that is exact for them.

        `noise_mv` is what the chip itself adds to the rms of a current, at its pins.
        """
        volts = [self.voltage(channel) for channel in spec["voltage"]]
        amperes = [self.current(channel) for channel in spec["current"]]
        for sensor, exact in amperes:
            noise_a = noise_mv / sensor.mv_per_unit
            if noise_a > _NOISE * self.rating:  # less is below what any reading shows
                exact["noise_a"] = round(noise_a, 5)
        return (
            [Input.of(phase, sensor) for phase, (sensor, _) in enumerate(volts)],
            [Input.of(phase, sensor) for phase, (sensor, _) in enumerate(amperes)],
            self.exact(volts, amperes),
        )

    def exact(
        self,
        volts: Sequence[tuple[Sensor, dict[str, Any]]],
        amperes: Sequence[tuple[Sensor, dict[str, Any]]],
    ) -> dict[str, Any]:
        """Calibration of a meter with these channels."""
        meter: dict[str, Any] = {}
        if any(sensor.ppm_per_k for sensor, _ in (*volts, *amperes)):
            meter["temperature"] = REFERENCE_C
        meter["voltage"] = [exact for _, exact in volts]
        meter["current"] = [exact for _, exact in amperes]
        if volts and any(sensor.pickup for sensor, _ in amperes):
            meter["power"] = [self._idle(sensor, exact) for sensor, exact in amperes]
        return meter

    def rated(self, spec: Spec) -> float:
        """Rated primary current of a clamp, A."""
        return max(self.rating, float(spec.get("ratio", 0)) * _RATED_SECONDARY_A)

    # -- what is drawn ---------------------------------------------------------------------

    def _gain(self) -> float:
        drawn = self.tolerance.gain.draw(self._rng)
        return 1.0 if self.ideal else 1.0 + drawn

    def _lead(self, spec: Spec, drawn: float) -> float:
        design = float(spec.get("phase_deg", 0.0))
        if self.ideal:
            return design
        if self.tolerance.design_lead:
            return design + drawn
        # A voltage whose design has no lead comes through resistors.
        return drawn if "phase_deg" in spec or "mv_per_v" not in spec else 0.0

    def _ppm(self) -> float:
        drawn = self.tolerance.ppm_per_k.draw(self._more)
        return 0.0 if self.ideal else drawn

    def _pickup(self) -> complex:
        """A per V of the phase's voltage."""
        share, angle = self._more.uniform(0.0, 1.0, 2)
        if self.ideal:
            return 0j
        largest = self.tolerance.pickup * self.rating / self.volts
        return cmath.rect(float(share) * largest, 2.0 * math.pi * float(angle))

    def _core(self, core: Core, spec: Spec, lead: float) -> Magnetisation:
        """A core that leads by `lead` at the smallest currents, and never lags."""
        fall, droop, knee = (
            spread.draw(self._more) for spread in (core.fall_deg, core.droop, core.knee)
        )
        fall = min(fall, lead)
        return Magnetisation(lead - fall, fall, droop, knee * self.rated(spec))

    def _points(self, spec: Spec, lead: float) -> tuple[tuple[float, float], ...]:
        """Lead against current: the model's, or that of a clamp that nobody has measured."""
        model = spec.get("phase_points")
        if model:
            shift = lead - spec["phase_deg"]
            return tuple((float(at), deg + shift) for at, deg in model)
        if self.ideal:
            return ()
        rated = self.rated(spec)
        return (
            (_LEAD_FALL_FROM * rated, lead + _LEAD_FALL_DEG / 2),
            (_LEAD_FALL_TO * rated, lead - _LEAD_FALL_DEG / 2),
        )

    # -- what is exact ---------------------------------------------------------------------

    def _curve(self, sensor: Sensor) -> list[list[float]]:
        """Gain and lead against current, on top of those at the rating."""
        size, lead = sensor.at(self.rating)
        curve = []
        for at in self.rating * np.geomspace(0.01, 1.25, _CURVE_POINTS):
            here, leads = sensor.at(float(at))
            curve.append([float(f"{at:.4g}"), round(size / here, 6), round(leads - lead, 4)])
        return curve

    def _idle(self, sensor: Sensor, exact: Mapping[str, Any]) -> dict[str, float]:
        """What is read without load at nominal voltage, with gain and lead corrected."""
        size, lead = sensor.at(0.0)
        rated_size, _ = sensor.at(self.rating)
        turn = cmath.rect(size / rated_size, math.radians(lead - exact["phase_deg"]))
        power = self.volts**2 * (sensor.pickup * turn).conjugate()
        return {
            "offset_w": round(power.real, 4),
            "offset_var": round(power.imag, 4),
            "at_v": self.volts,
        }


def _entry(gain: float, lead: float, ppm: float) -> dict[str, Any]:
    """Exact calibration of a channel: its own temperature coefficient with the other sign."""
    entry = {"gain": 1.0 / gain, "phase_deg": lead}
    if ppm:
        entry["ppm_per_k"] = round(-ppm, 3)
    return entry


@dataclass(frozen=True)
class Site:
    """What the wiring function of a meter gets beside its entry in the profile."""

    circuit: Circuit
    wiring: Wiring
    environment: Environment
    parts: Parts
    seed: int = 0
    ideal: bool = False
