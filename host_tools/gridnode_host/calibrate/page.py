"""The tables of a certificate's page, as text in rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gridnode_host.calibrate.quantities import UNITS
from gridnode_host.calibrate.tell import errors, unit
from gridnode_host.calibrate.verdict import FAIL, PASS

_NONE = "–"
NEAR_ONE = 0.98
"""Power factor from which on it needs no mention."""

Row = dict[str, Any]


def verified(document: Mapping[str, Any]) -> list[Row]:
    """Return a row per verification and phase, with a cell per quantity that has a class."""
    rows: dict[tuple[int, int], Row] = {}
    for point in document["points"]:
        if "verdict" not in point:
            continue
        row = rows.setdefault(
            (point["step"], point["phase"]),
            {
                "kind": point["kind"],
                "meter": point["meter"],
                "phase": point["phase"],
                "load": _load(point),
                "cells": {},
                "told": {},
                "verdict": PASS,
            },
        )
        u = point["u"]
        uncertainty = f"± {u:.3f}" if u is not None else "± ?"
        row["cells"][point["quantity"]] = f"{percent(point['error'])} {uncertainty}"
        if "reference" in point:
            row["told"][point["quantity"]] = point["reference"]
        if point["verdict"] == FAIL or row["verdict"] == PASS:
            row["verdict"] = point["verdict"]
    for row in rows.values():
        row["reference"] = ", ".join(value(x, name) for name, x in row.pop("told").items())
    return list(rows.values())


def budget(document: Mapping[str, Any]) -> list[Row]:
    """Return the least certain value as left of each phase and quantity."""
    found: dict[tuple[str, int, str], Row] = {}
    for point in document["points"]:
        if point["kind"] != "as_left" or "verdict" not in point:
            continue
        key = (point["meter"], point["phase"], point["quantity"])
        if key not in found or _size(point) > _size(found[key]):
            found[key] = {**point, "load": _load(point)}
    return list(found.values())


def steps(document: Mapping[str, Any]) -> list[Row]:
    """Return a row per step and phase."""
    rows = []
    for step in document["steps"]:
        for k, record in enumerate(step["records"]):
            current = record.get("load", {}).get("current")
            rejected = record.get("rejected")
            windows = f"{record.get('windows', _NONE)} × {number(record.get('window_s'))} s"
            rows.append(
                {
                    "number": step["number"] if k == 0 else "",
                    "step": "verify, as found" if step["as_found"] else step["step"],
                    "label": step["label"] if k == 0 else None,
                    "meter": step["meter"],
                    "phase": record.get("phase"),
                    "reference": [
                        value(x, name) for name, x in in_order(record.get("reference", {}))
                    ],
                    "load": _NONE if current is None else f"{number(current, 4)} A",
                    "errors": [_change(record, name, after) for name, after in errors(record)],
                    "windows": f"{windows}, {rejected} out" if rejected else windows,
                }
            )
    return rows


def notes(document: Mapping[str, Any]) -> list[str]:
    """Return what has to be said of the errors of some steps."""
    found = []
    kinds = {step["step"] for step in document["steps"]}
    if "offset" in kinds:
        found.append("Errors of the step offset are in % of the rated apparent power.")
    if "linearity" in kinds:
        found.append("The error of the step linearity is the converter's distortion of a sine.")
    return found


def in_order(numbers: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return numbers by quantity in the order in which people name them."""
    order = list(UNITS)
    known = [(name, numbers[name]) for name in order if name in numbers]
    return known + [item for item in numbers.items() if item[0] not in order]


def percent(x: float | None) -> str:
    """Return an error with its sign."""
    return _NONE if x is None else f"{x:+.3f}".replace("-", "−")


def number(x: Any, digits: int = 6) -> str:
    """Return a number without more digits than it needs."""
    if x is None:
        return _NONE
    return f"{x:.{digits}g}".replace("-", "−") if isinstance(x, float) else str(x)


def value(x: float, name: str) -> str:
    """Return a value with its unit."""
    sign = UNITS.get(name, "")
    return number(float(x)) + ("°" if sign == "deg" else f" {sign}" if sign else "")


def _change(record: Mapping[str, Any], name: str, after: float) -> Row:
    sign = "°" if unit(name) == "deg" else " %"
    before = record.get("before_percent", {}).get(name)
    spread = record.get("spread_percent", {}).get(name)
    return {
        "name": name,
        "before": _NONE if before is None else percent(before) + sign,
        "after": percent(after) + sign,
        "spread": _NONE if spread is None else f"{spread:.3f}",
    }


def _load(point: Mapping[str, Any]) -> str:
    if point["load_percent"] is None:
        return _NONE
    factor = point.get("power_factor")
    told = "" if factor is None or abs(factor) >= NEAR_ONE else f", PF {abs(factor):.2f}"
    return f"{point['load_percent']:.3g} %{told}"


def _size(point: Mapping[str, Any]) -> float:
    return float("inf") if point["u"] is None else float(point["u"])
