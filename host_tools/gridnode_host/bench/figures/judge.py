"""The judgement of what a node reports at a point of the campaign."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gridnode_host.bench.figures.front_ends import FrontEnd
from gridnode_host.bench.figures.loads import Load
from gridnode_host.bench.figures.points import Point

Json = dict[str, Any]

# name -> (title of the column, unit of a step, digits)
_COLUMNS = {
    "voltage": ("V %", "V", 3),
    "current": ("I %", "A", 3),
    "power": ("P %", "W", 3),
    "frequency": ("f mHz", "Hz", 1),
    "harmonics_voltage": ("Vh %", "%", 2),
    "harmonics_current": ("Ih %", "A", 2),
}


@dataclass
class Result:
    """Worst errors of the readings of one point: % of the true value, mHz, % of fundamental."""

    front_end: FrontEnd
    point: Point
    truth: Json
    readings: int = 0
    missing: int = 0  # readings without a value
    reasons: Counter[str] = field(default_factory=Counter)
    """How many of those gave each reason."""
    worst: dict[str, float] = field(default_factory=dict)
    coverage: float = 1.0
    bounds: dict[str, float] = field(default_factory=dict)
    """Limits of the point: the campaign's, or the device's resolution where that is coarser."""
    resolution: dict[str, float] = field(default_factory=dict)
    """Resolutions that are limits, in the value's unit."""

    def __post_init__(self) -> None:
        for name in self.front_end.offers:
            limit, true = self.point.limit(name), self._typical(name)
            step = self.front_end.step(name, true)
            error = 1000.0 * step if name == "frequency" else 100.0 * step / true
            self.bounds[name] = max(limit, error)
            if limit < error < math.inf:
                self.resolution[name] = step
        if bandwidth := self.front_end.bandwidth.get(self.point.load.name):
            self.bounds["current"] = bandwidth

    def _typical(self, name: str) -> float:
        """The true value that a step is a share of: of one phase where there are several."""
        truth = {**self.truth, **self.truth.get("l1", {})}
        if name == "harmonics_current":
            return float(truth["current"]) / math.hypot(1.0, truth["thd_current"] / 100.0)
        return float(truth.get(name) or 1.0)

    def add(self, reported: Json) -> None:
        """Judge one report: the flat values, and each phase where there are several."""
        self.readings += 1
        self.coverage = min(self.coverage, reported.get("coverage") or 0.0)
        found = {
            name: list(_errors(name, reported, self.truth, self.point.load))
            for name in self.front_end.offers
        }
        if not all(errors and None not in errors for errors in found.values()):
            self.missing += 1
            self.reasons.update(set((reported.get("quality") or {}).values()))
            return
        for name, errors in found.items():
            self.worst[name] = max(self.worst.get(name, 0.0), *(e or 0.0 for e in errors))

    def verdict(self) -> tuple[bool, str]:
        """Whether the point is passed, and what there is to say.

        A current that does not fit the converter has no value: each reading must say so.
        """
        fits, bandwidth = self.point.fits, self.front_end.bandwidth
        load = self.point.load.name
        if self.readings < self.point.readings:
            return False, "too few readings"
        if load in bandwidth and bandwidth[load] is None:
            return self._refused("implausible", "beyond its bandwidth")
        if fits is False or (fits is None and self.missing):
            return self._refused("saturated", "saturated")
        if self.missing:
            why = ", ".join(sorted(self.reasons)) or "no reason given"
            return False, f"{self.missing} without value: {why}"
        over = [name for name, error in self.worst.items() if error > self.bounds[name]]
        if over:
            return False, "over: " + ", ".join(over)
        if load in bandwidth:
            return True, f"bandwidth: {bandwidth[load]:g} %"
        steps = [f"{step:.2g} {_COLUMNS[name][1]}" for name, step in self.resolution.items()]
        return True, "resolution: " + ", ".join(steps) if steps else ""

    def _refused(self, reason: str, what: str) -> tuple[bool, str]:
        """Whether every reading gave this reason for having no value."""
        refused = self.reasons[reason] == self.readings
        return refused, f"{what}, refused" if refused else f"{what}, NOT NOTICED"

    def row(self, rating: float, row_s: int) -> Json:
        """The point's row in the table."""
        ok, remark = self.verdict()
        point = self.point
        row: Json = {
            "front end": self.front_end.profile,
            "load": point.load.name,
            "%": point.share,
            "A": round(rating * point.share / 100.0, 3),
            "Hz": point.frequency,
        }
        shown = self.missing < self.readings
        for name, (title, _, digits) in _COLUMNS.items():
            error = self.worst.get(name) if shown else None
            row[title] = None if error is None else round(error, digits)
            bound = self.bounds.get(name, math.inf)
            row[title + " limit"] = None if math.isinf(bound) else round(bound, 2)
        row["readings"] = f"{self.readings} x {row_s} s"
        row["cover"] = round(self.coverage, 2)
        row["ok"] = ok
        row["remark"] = remark
        return row


def _errors(name: str, reported: Json, truth: Json, load: Load) -> Iterator[float | None]:
    """Errors of one value in all entries of a report; None where a value is missing."""
    if name.startswith("harmonics"):
        yield from _harmonics(name, reported, load)
        return
    lines = [f"l{k}" for k in (1, 2, 3) if f"l{k}" in truth and name in truth[f"l{k}"]]
    pairs = [(reported, truth)] + [(reported.get(line) or {}, truth[line]) for line in lines]
    for entry, true in pairs:
        value = entry.get(name)
        if value is None:
            yield None
        elif name == "frequency":
            yield 1000.0 * abs(value - true[name])
        else:
            yield 100.0 * abs(value - true[name]) / abs(true[name])


def _harmonics(name: str, reported: Json, load: Load) -> Iterator[float]:
    """Errors of the harmonics of every entry that tells them, from the second order on."""
    lines = load.voltage_harmonics if name == "harmonics_voltage" else load.harmonics
    for entry in (reported, *(reported.get(f"l{k}") or {} for k in (1, 2, 3))):
        for order, value in enumerate(entry.get(name) or (), 2):
            yield abs(value - 100.0 * lines.get(order, (0.0, 0.0))[0])
