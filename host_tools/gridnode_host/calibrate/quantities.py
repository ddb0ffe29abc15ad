"""The quantities of a calibration: their units, and numbers as people type them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

UNITS = {
    "voltage": "V",
    "current": "A",
    "power": "W",
    "reactive_power": "var",
    "phase_deg": "deg",
    "frequency": "Hz",
    "temperature": "degC",
}
SYMBOLS = {
    "voltage": "V",
    "current": "I",
    "power": "P",
    "reactive_power": "Q",
    "phase_deg": "angle",
    "frequency": "f",
    "temperature": "T",
}
LARGEST = 1e9
_NUMBER = re.compile(r"([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+))\s*([^\W\d_]*)", re.ASCII)
_EXACT = frozenset(("phase_deg",))  # an angle of 0 is known by the kind of the load


@dataclass(frozen=True)
class Value:
    """A number in the unit of its quantity, and the step of its last digit (0: no matter)."""

    value: float
    resolution: float = 0.0


def typed(text: str, quantity: str) -> Value:
    """Return a number that a person typed, with a point or a comma and perhaps its unit.

    Raises ValueError with what to write instead.
    """
    return _in(text, UNITS[quantity], quantity)


def millivolts(text: str) -> float:
    """Return a level that a person typed in mV, perhaps with its unit.

    Raises ValueError with what to write instead.
    """
    return _in(text, "mV").value


def _in(text: str, unit: str, quantity: str = "") -> Value:
    found = _NUMBER.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text.strip()!r} is not a number; write it as 12.5 or 12,5")
    digits, suffix = found[1].replace(",", "."), found[2]
    if suffix and suffix.lower() != unit.lower():
        raise ValueError(f"{suffix!r} is not the unit; the value is wanted in {unit}")
    return written(Decimal(digits), quantity)


def written(number: Decimal | int | float, quantity: str) -> Value:
    """Return a number with the resolution of the digits that it is written with.

    Raises ValueError for what is no finite number of a sensible size.
    """
    value = float(number)
    if not abs(value) <= LARGEST:  # NaN is not either
        raise ValueError(f"{number} is not a number that can be measured")
    if quantity in _EXACT:
        return Value(value)
    exponent = Decimal(number).as_tuple().exponent if not isinstance(number, float) else None
    return Value(value, 10.0**exponent if isinstance(exponent, int) else 0.0)


def told(value: float, quantity: str) -> str:
    """Return a value with its unit for a person."""
    return f"{value:.6g} {UNITS.get(quantity, '')}".rstrip()
