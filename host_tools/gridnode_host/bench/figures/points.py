"""Accuracy points, their limits, and the judgement of what a node reports at them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gridnode_host.bench import shapes

Json = dict[str, Any]

SHARES = (5, 10, 20, 50, 100)
FREQUENCIES = (45.0, 60.0, 65.0)  # beside the 50 Hz of all other points
READINGS = 100
_REFUSALS = 10  # readings of a point that has no value to be accurate with


@dataclass(frozen=True)
class Limits:
    """Largest errors: voltage, current, power in % of the true value, frequency in mHz."""

    voltage: float | None = 0.3
    current: float | None = 0.3
    power: float | None = 0.5
    frequency: float | None = 20.0


@dataclass(frozen=True)
class Load:
    """Shape of a current: lag of its fundamental in degrees, harmonics, limits that hold for it."""

    name: str
    phase_deg: float
    harmonics: shapes.Harmonics
    limits: Limits

    @property
    def crest(self) -> float:
        """Peak over rms."""
        angle = np.linspace(0.0, 2 * np.pi, 7200, endpoint=False)
        wave = np.sin(angle)
        for order, (ratio, degrees) in self.harmonics.items():
            wave = wave + ratio * np.sin(order * angle + math.radians(degrees))
        return float(np.abs(wave).max() / np.sqrt(np.mean(wave**2)))


def _pulse() -> shapes.Shape:
    """Capacitor-input supply, scaled to a THD of 100 %."""
    lag, harmonics = shapes.smps()
    scale = 100.0 / shapes.thd(harmonics)
    return lag, {order: (ratio * scale, degrees) for order, (ratio, degrees) in harmonics.items()}


_DISTORTED = Limits(current=1.0, power=None)
SINE = Load("sine, PF 1", 0.0, {}, Limits())
LAGGING = Load("sine, PF 0.5 lagging", 60.0, {}, Limits(power=1.0))
PULSE = Load("THD 100 %, pulses", *_pulse(), _DISTORTED)
FLAT = Load("THD 100 %, 3rd harmonic", 0.0, {3: (1.0, 0.0)}, _DISTORTED)
LOADS = (SINE, LAGGING, PULSE, FLAT)


@dataclass(frozen=True)
class Point:
    """One load at a share of the rated current (%); `fits` is whether a converter can hold it."""

    share: float
    load: Load
    frequency: float = 50.0
    fits: bool = True
    readings: int = READINGS

    def apply(self, circuit: Any, rating: float) -> None:
        """Set the mains of a node with the rated current `rating`, A."""
        circuit.set(
            voltage=230.0,
            current=rating * self.share / 100.0,
            phase_deg=self.load.phase_deg,
            harmonics=self.load.harmonics,
            frequency=self.frequency,
        )


def room(profile: Mapping[str, Any]) -> float:
    """Largest peak current that the front end of a profile can hold, A."""
    peaks = []
    for meter in profile["meters"]:
        for channel in meter["current"]:
            mv_per_a = 1000.0 * channel["burden_ohm"] / channel["ratio"]
            if meter["driver"] == "ct":
                low, high = profile["board"]["adc"]["range_mv"]
                bias = channel["bias_mv"]
                peaks.append(min(bias - low, high - bias) / mv_per_a)
            else:  # ATM90E32AS: 720 mV rms behind its amplifier
                peaks.append(720.0 * math.sqrt(2.0) / meter.get("pga", 1) / mv_per_a)
    return float(min(peaks))


def points(profile: Mapping[str, Any], readings: int = READINGS) -> list[Point]:
    """Every point of a profile: pulses where they fit, else the shape with the lowest peak too."""
    rating, peak = profile["rating"]["current"], room(profile)
    found = []
    for share in SHARES:
        found += [Point(share, load, readings=readings) for load in (SINE, LAGGING)]
        fits = PULSE.crest * rating * share / 100.0 < peak
        few = min(readings, _REFUSALS)
        found.append(Point(share, PULSE, fits=fits, readings=readings if fits else few))
        if not fits:
            found.append(Point(share, FLAT, readings=readings))
    found += [Point(50, SINE, frequency, readings=readings) for frequency in FREQUENCIES]
    return found


@dataclass
class Result:
    """Worst errors of the readings of one point, |relative| in %, frequency in mHz."""

    point: Point
    readings: int = 0
    missing: int = 0  # readings in which a value or the trust in it was missing
    worst: dict[str, float] = field(default_factory=dict)
    coverage: float = 1.0

    def add(self, reported: Json, truth: Json) -> None:
        """Judge one report: the flat values, and each phase where there are several."""
        self.readings += 1
        self.coverage = min(self.coverage, reported.get("coverage") or 0.0)
        whole = not reported.get("quality")
        for entry, true in _pairs(reported, truth):
            for name in ("voltage", "current", "power", "frequency"):
                if name not in true:
                    continue  # the frequency is common to all phases
                value = entry.get(name)
                if value is None:
                    whole = False
                    continue
                error = abs(value - true[name])
                error = 1000.0 * error if name == "frequency" else 100.0 * error / abs(true[name])
                self.worst[name] = max(self.worst.get(name, 0.0), error)
        self.missing += not whole

    def verdict(self) -> tuple[bool, str]:
        """Whether the point is passed, and what there is to say.

        A current that does not fit the converter has no value: each reading must say so.
        """
        if not self.point.fits:
            refused = self.readings > 0 and self.missing == self.readings
            return refused, "saturated, " + ("refused" if refused else "NOT NOTICED")
        if self.readings < self.point.readings:
            return False, "too few readings"
        if self.missing:
            return False, f"{self.missing} without value"
        limits = self.point.load.limits
        over = [name for name, value in self.worst.items() if value > (_limit(limits, name))]
        return not over, ", ".join(over)

    def row(self, front_end: str, rating: float, row_s: int) -> Json:
        """The point's row in the table."""
        ok, remark = self.verdict()
        limits = self.point.load.limits
        row: Json = {
            "front end": front_end,
            "load": self.point.load.name,
            "%": self.point.share,
            "A": round(rating * self.point.share / 100.0, 3),
            "Hz": self.point.frequency,
        }
        for title, name, digits in _COLUMNS:
            value = self.worst.get(name) if self.point.fits or not ok else None
            row[title] = None if value is None else round(value, digits)
        row["limits"] = "/".join(
            "-" if limit is None else f"{limit:g}"
            for limit in (limits.voltage, limits.current, limits.power, limits.frequency)
        )
        row["readings"] = f"{self.readings} x {row_s} s"
        row["cover"] = round(self.coverage, 2)
        row["ok"] = ok
        row["remark"] = remark
        return row


_COLUMNS = (
    ("V %", "voltage", 3),
    ("I %", "current", 3),
    ("P %", "power", 3),
    ("f mHz", "frequency", 1),
)


def _limit(limits: Limits, name: str) -> float:
    limit = getattr(limits, name)
    return math.inf if limit is None else float(limit)


def _pairs(reported: Json, truth: Json) -> list[tuple[Json, Json]]:
    lines = [f"l{k}" for k in (1, 2, 3) if f"l{k}" in truth]
    return [(reported, truth)] + [(reported.get(line) or {}, truth[line]) for line in lines]
