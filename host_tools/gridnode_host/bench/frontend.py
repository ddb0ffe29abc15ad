"""Sensors between a mains circuit and a node, and the wiring of a whole profile.

`wire` builds the models of every meter of a resolved profile. Parts are seeded: a unit's gains,
phases and converter differ from the design within the tolerance of such parts, and `wire`
returns the calibration that is exact for that unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridnode_host.bench.chips.atm90e32 import Atm90e32, Input
from gridnode_host.bench.chips.esp32_adc import Esp32Adc
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.segment import Complexes, Floats

# Spread of parts, as a standard deviation cut at two of them.
_GAIN_SPREAD = 0.007
_PHASE_SPREAD_DEG = 0.15
_BIAS_SPREAD_MV = 8.0
# Lead of a split-core clamp falls from small to rated currents (SCT-013-000 as IoTaWatt lists
# it: 3.1 degrees below 4 A, 2.5 above 38 A of 100 A).
_LEAD_FALL_DEG = 0.6
_LEAD_FALL_FROM, _LEAD_FALL_TO = 0.04, 0.38
_SATURATION = 1.4  # of the rated current, where the core gives way
_RATED_SECONDARY_A = 0.05


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


class AdcInput:
    """One converter pin with its sensor: what `Wiring.adc` holds."""

    def __init__(
        self,
        circuit: Circuit,
        quantity: str,
        phase: int,
        *,
        sensor: Sensor,
        adc: Esp32Adc,
        bias_mv: float,
        seed: int = 0,
        shape: Callable[[Floats], Floats] | None = None,
    ) -> None:
        self.circuit = circuit
        self.quantity = quantity
        self.phase = phase
        self.sensor = sensor
        self.bias_mv = bias_mv
        self._adc = adc
        self._shape = shape
        self._rng = np.random.default_rng([seed, 0x1290])

    def sample(self, t: Floats, atten: int = 3) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
        """12-bit counts at the rig times `t`; `atten` is MicroPython's ATTN constant."""
        signal = self.circuit.signal(self.quantity, self.phase, t, transfer=self.sensor.transfer)
        if self._shape is not None:
            signal = self._shape(signal)
        return self._adc.convert(self.bias_mv + self.sensor.mv_per_unit * signal, self._rng, atten)

    def millivolts(self, counts: Floats, atten: int = 3) -> Floats:
        """The chip's own calibrated reading of counts (`ADC.read_uv`), mV."""
        return self._adc.calibrated(counts, atten)


class _Parts:
    """Picks the parts of one unit: at their design values, or spread by the seed."""

    def __init__(self, profile: Mapping[str, Any], seed: int, ideal: bool) -> None:
        self.hertz = float(profile["nominal"]["frequency"])
        self.rating = float(profile["rating"]["current"])
        self.ideal = ideal
        self._rng = np.random.default_rng([seed, 0xCA1])

    def spread(self, sigma: float) -> float:
        drawn = float(np.clip(self._rng.normal(0.0, sigma), -2 * sigma, 2 * sigma))
        return 0.0 if self.ideal else drawn

    def voltage(self, spec: Mapping[str, Any]) -> tuple[Sensor, dict[str, Any]]:
        """Sensor and its exact calibration entry for one entry of `voltage`."""
        gain = 1.0 + self.spread(_GAIN_SPREAD)
        lead = spec.get("phase_deg", 0.0) + self.spread(_PHASE_SPREAD_DEG / 3)
        sensor = Sensor(spec["mv_per_v"] * gain, lead, self.hertz)
        return sensor, {"gain": 1.0 / gain, "phase_deg": lead}

    def current(self, spec: Mapping[str, Any]) -> tuple[Sensor, dict[str, Any]]:
        """Sensor and its exact calibration entry for one entry of `current`."""
        gain = 1.0 + self.spread(_GAIN_SPREAD)
        lead = spec.get("phase_deg", 0.0) + self.spread(_PHASE_SPREAD_DEG)
        entry: dict[str, Any] = {"gain": 1.0 / gain, "phase_deg": lead}
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

    def rated(self, spec: Mapping[str, Any]) -> float:
        """Rated primary current of a clamp, A."""
        return max(self.rating, float(spec.get("ratio", 0)) * _RATED_SECONDARY_A)


def wire(
    profile: Mapping[str, Any],
    circuit: Circuit,
    wiring: Any,
    seed: int = 0,
    ideal: bool = False,
) -> dict[str, Any]:
    """Solder the front end of a resolved profile to a node's `wiring`.

    `ideal` takes parts at their design values. Returns the exact calibration.json of this
    unit. Raises ValueError for a driver or channel that the bench has no model of.
    """
    parts = _Parts(profile, seed, ideal)
    adc = Esp32Adc(seed, ideal)
    meters = {}
    for spec in profile["meters"]:
        channels = max(len(spec["voltage"]), len(spec["current"]))
        if channels > circuit.phases:
            raise ValueError(f"{channels} channels on a circuit of {circuit.phases} phases")
        if spec["driver"] == "ct":
            entry = _wire_ct(spec, circuit, wiring, parts=parts, adc=adc, seed=seed)
        elif spec["driver"] == "atm90e32":
            entry = _wire_atm90e32(spec, circuit, wiring, parts=parts, seed=seed)
        else:
            raise ValueError(f"no model of a {spec['driver']} front end")
        meters[spec["id"]] = entry
    return {"version": 1, "meters": meters}


def _wire_ct(
    spec: Mapping[str, Any],
    circuit: Circuit,
    wiring: Any,
    *,
    parts: _Parts,
    adc: Esp32Adc,
    seed: int,
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "adc_table": adc.table(),
        "adc_noise_mv": round(math.hypot(adc.noise_mv, adc.count_mv / math.sqrt(12.0)), 3),
        "voltage": [],
        "current": [],
    }
    for quantity, pick in (("voltage", parts.voltage), ("current", parts.current)):
        for phase, channel in enumerate(spec[quantity]):
            sensor, exact = pick(channel)
            entry[quantity].append(exact)
            core = Saturation(_SATURATION * math.sqrt(2.0) * parts.rated(channel))
            wiring.adc[channel["adc"]] = AdcInput(
                circuit,
                quantity,
                phase,
                sensor=sensor,
                adc=adc,
                bias_mv=channel.get("bias_mv", 1650.0) + parts.spread(_BIAS_SPREAD_MV),
                seed=seed * 64 + channel["adc"],
                shape=core if quantity == "current" else None,
            )
    return entry


def _wire_atm90e32(
    spec: Mapping[str, Any], circuit: Circuit, wiring: Any, *, parts: _Parts, seed: int
) -> dict[str, Any]:
    entry: dict[str, Any] = {"voltage": [], "current": []}
    inputs: dict[str, list[Input | None]] = {"voltage": [None] * 3, "current": [None] * 3}
    for quantity, pick in (("voltage", parts.voltage), ("current", parts.current)):
        for phase, channel in enumerate(spec[quantity]):
            sensor, exact = pick(channel)
            entry[quantity].append(exact)
            inputs[quantity][phase] = Input(phase, sensor.mv_per_unit, sensor.transfer)
    chip = Atm90e32(
        circuit,
        inputs["voltage"],
        inputs["current"],
        temperature=wiring.temperature,
        seed=seed,
    )
    wiring.attach_spi(spec["spi"]["id"], spec["spi"]["cs"], chip)
    return entry
