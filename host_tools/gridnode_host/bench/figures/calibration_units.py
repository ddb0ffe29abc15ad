"""The rules of a calibration alone: simulated front ends inside the VM, without a node around them.

A unit is drawn, judged, calibrated at the load points, and judged again at others; then every bad
input is tried on it. See `probes/calibration.py` for what a unit is.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gridnode_host import build
from gridnode_host.bench.figures import probe, workers
from gridnode_host.bench.figures.calibration_judge import LIMITS, Worst, over
from gridnode_host.bench.figures.tables import Row, Table

UNITS = 200
POINTS = (5, 10, 20, 50, 100)
"""Loads of the multipoint step, % of the rated current."""

_STORED = "stored"  # what the probe tells of a bad input that was let through


@dataclass(frozen=True)
class Unit:
    """What came of one front end; `bad` holds the node's sentence for each bad input."""

    seed: int
    before: Worst
    after: Worst
    refused: str | None
    bad: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether the calibration went through and its errors keep the limits."""
        return self.refused is None and set(self.after) == set(LIMITS) and not over(self.after)


def measure(seed: int, step: Callable[[], None] = lambda: None) -> Unit:
    """Calibrate one unit; some 1 s."""
    order = {"unit": seed, "points": POINTS}
    told = probe.run(build.micropython(), "calibration", order)
    step()
    return Unit(seed, told["before"], told["after"], told["refused"], told["bad"])


def campaign(progress: Callable[[int, int], None], units: int = UNITS) -> list[Unit]:
    """Calibrate all units side by side."""
    return workers.run(measure, range(units), units, progress)


def table(units: Sequence[Unit]) -> Table:
    """Errors before and after, a row per quantity."""
    return Table(
        "calibration_units",
        f"Calibration, rules alone: worst errors of {len(units)} front ends before and after, in %",
        [
            "Each unit: gains +-8 %, leads 0 to 5 degrees, a clamp whose lead and ratio depend on "
            "the current, pick-up up to 0.3 % of the rating, noise up to 0.2 %, +-150 ppm/K.",
            f"Steps: offset, gain at 50 %, phase, multipoint at {', '.join(map(str, POINTS))} % of the "
            "rating, power, temperature at 45 degC; all at PF 1.",
            "Judged at 5, 7, 12, 15, 30, 45, 70, 90 and 100 % of the rating, PF 1, 0.5 lagging and "
            "0.8 leading, 93 and 106 % of the nominal voltage, 25 and 38 degC. Rows: the worst of "
            "a unit, then the worst and the median of the units.",
        ],
        [*(_quantity(name, units) for name in LIMITS), _refusals(units)],
    )


def _quantity(name: str, units: Sequence[Unit]) -> Row:
    before = [unit.before[name] for unit in units]
    after = [unit.after[name] for unit in units]
    within = [unit for unit in units if name not in over(unit.after)]
    beyond = [unit.seed for unit in units if name in over(unit.after)]
    return {
        "quantity": name,
        "units": len(units),
        "before median": round(statistics.median(before), 3),
        "before worst": round(max(before), 3),
        "after median": round(statistics.median(after), 3),
        "after worst": round(max(after), 3),
        "limit": LIMITS[name],
        "within": len(within),
        "ok": not beyond,
        "remark": f"beyond: {_seeds(beyond)}" if beyond else "",
    }


def _refusals(units: Sequence[Unit]) -> Row:
    refused = [unit for unit in units if unit.refused is not None]
    return {
        "quantity": "good steps accepted",
        "units": len(units),
        "within": len(units) - len(refused),
        "ok": not refused,
        "remark": f"{_seeds([u.seed for u in refused])}: {refused[0].refused}" if refused else "",
    }


def _seeds(seeds: Sequence[int]) -> str:
    return "units " + ", ".join(map(str, seeds[:8])) + (" .." if len(seeds) > 8 else "")


def bad_inputs(units: Sequence[Unit]) -> Table:
    """A row per bad input: how often it was refused, and in which words."""
    rows = []
    for name in dict.fromkeys(name for unit in units for name in unit.bad):
        told = [unit.bad.get(name, "not tried") for unit in units]
        refused = [text for text in told if text not in (_STORED, "not tried")]
        rows.append(
            {
                "bad input": name,
                "tried": sum(text != "not tried" for text in told),
                "refused": len(refused),
                "stored": told.count(_STORED),
                "for example": refused[0] if refused else "",
                "ok": len(refused) == len(units),
            }
        )
    return Table(
        "calibration_bad_inputs",
        "Calibration, rules alone: bad inputs tried on every front end after its calibration",
        ["Refused: nothing of it is kept, the calibration is that of before, byte for byte."],
        rows,
    )
