"""Models of current and voltage transformers (boards/sensors) and what a profile's channel gets of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

KINDS = {"current": "ct", "voltage": "vt"}
"""Kind of model by what a channel measures."""

_FREQUENCIES = (50, 60)


def problems(model: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a model that keeps to its schema."""
    return [
        f"phase.{frequency}: the currents of a curve must rise"
        for frequency, curve in model.get("phase", {}).items()
        if frequency != "of" and any(b[0] <= a[0] for a, b in pairwise(curve))
    ]


def fill(
    channel: dict[str, Any], name: str, model: Mapping[str, Any], rating_a: float, frequency: float
) -> None:
    """Give a channel of a profile what it does not tell itself.

    `phase_deg` is the lead at `rating_a`, the place's rated current; `phase_points` is the lead
    against the current, [A, degrees]. Where the channel tells its `phase_deg`, that is all.
    """
    channel["sensor"] = name
    if model["kind"] == "vt":
        points = curve(model, frequency, 1.0)
        if points:
            channel.setdefault("phase_deg", _rounded(lead_at(points, 1.0)))
        return
    for key in ("ratio", "burden_ohm", "saturation_a"):
        if key in model:
            channel.setdefault(key, model[key])
    rated = _rated(channel, model)
    if "saturation_rated" in model and rated:
        channel.setdefault("saturation_a", _rounded(model["saturation_rated"] * rated))
    if "phase_deg" in channel:
        return
    points = channel.get("phase_points") or curve(model, frequency, rated)
    if points:
        channel["phase_deg"] = _rounded(lead_at(points, rating_a))
    if len(points) > 1:
        channel["phase_points"] = points


def curve(model: Mapping[str, Any], frequency: float, rated: float | None) -> list[list[float]]:
    """Return a model's lead against current, [A, degrees], at a frequency; empty if not known.

    `rated` is the current that a curve in parts of the rated one counts from, A. What is known
    for another frequency only falls with it, as a transformer's magnetising current makes it:
    tan(lead) goes with 1 / f.
    """
    phase = model.get("phase", {})
    known = sorted((f for f in _FREQUENCIES if str(f) in phase), key=lambda f: abs(f - frequency))
    unit = 1.0 if phase.get("of") == "A" else rated
    if not known or not unit:
        return []
    slower = known[0] / frequency
    return [
        [_rounded(unit * at), _rounded(_degrees(slower * math.tan(math.radians(lead))))]
        for at, lead in phase[str(known[0])]
    ]


def lead_at(points: Sequence[Sequence[float]], amperes: float) -> float:
    """Return the lead at a current: linear between the points, constant beyond them."""
    if amperes <= points[0][0]:
        return points[0][1]
    for (low, before), (high, after) in pairwise(points):
        if amperes < high:
            return before + (after - before) * (amperes - low) / (high - low)
    return points[-1][1]


def _rated(channel: Mapping[str, Any], model: Mapping[str, Any]) -> float | None:
    """Rated primary current, A."""
    if "rated_a" in model:
        return float(model["rated_a"])
    if "secondary_a" in model and "ratio" in channel:
        return float(model["secondary_a"] * channel["ratio"])
    return None


def _degrees(slope: float) -> float:
    return math.degrees(math.atan(slope))


def _rounded(value: float) -> float:
    """As short as a node's memory likes it: whole numbers stay whole, others have four digits."""
    short = float(f"{value:.4g}")
    return int(short) if short == int(short) else short
