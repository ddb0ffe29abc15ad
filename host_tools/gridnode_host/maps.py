"""Maps of Modbus meters (boards/maps) in the form that a node gets: small, since its memory is.

The rows become one text, a line each in the order of the addresses: name, phase, address, type as
a letter of Python's ``struct``, factor to the unit of the report. A ``*`` before the factor stands
for the unit that the meter's setting ``energy_unit`` tells. What is for people is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LETTERS = {"float32": "f", "u32": "I", "s32": "i", "u16": "H", "s16": "h"}
_PREFIXES = {"m": 0.001, "k": 1000, "M": 1000000}
_FOR_PEOPLE = frozenset(("title", "source", "note"))


def compact(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a map that keeps to its schema as a node gets it."""
    out = {key: value for key, value in document.items() if key not in _FOR_PEOPLE}
    rows = sorted(document["rows"], key=lambda row: int(row["address"], 16))
    return {
        "name": name,
        **out,
        "rows": "\n".join(_row(row) for row in rows),
        "settings": [_setting(setting) for setting in document.get("settings", ())],
    }


def names(document: Mapping[str, Any]) -> set[str]:
    """Return the names of the rows of a compact map."""
    return {line.split(" ")[0] for line in document["rows"].splitlines()}


def _row(row: Mapping[str, Any]) -> str:
    by_setting = row["unit"] == "energy_unit"
    factor = row.get("scale", 1) * (1 if by_setting else _prefix(row["unit"]))
    return " ".join(
        (
            row["name"],
            str(row.get("phase", 0)),
            str(int(row["address"], 16)),
            _letter(row),
            f"{'*' if by_setting else ''}{factor:.9g}",
        )
    )


def _setting(setting: Mapping[str, Any]) -> dict[str, Any]:
    out = {key: setting[key] for key in ("name", "want", "text", "function") if key in setting}
    out |= {"address": int(setting["address"], 16), "type": _letter(setting)}
    if "units" in setting:
        out["units"] = [[int(value), _prefix(unit)] for value, unit in setting["units"].items()]
    return out


def _letter(entry: Mapping[str, Any]) -> str:
    return _LETTERS[entry.get("type", "float32")]


def _prefix(unit: str) -> float:
    return _PREFIXES.get(unit[0], 1) if len(unit) > 1 else 1
