"""Signals as integers of 15 bits and a sign.

A step is a power of two, so that the product is exact: 32-bit and 64-bit floats give the same integers.
"""

import math
from micropython import const

MISSING = const(-32768)

PLAIN = const(0)
VOLTAGE = const(1)
CURRENT = const(2)
POWER = const(3)
TEMPERATURE = const(4)
HUMIDITY = const(5)

AIR = ("t_ambient", "t_air")

_LARGEST = const(32767)
_BY_LETTER = {"v": VOLTAGE, "i": CURRENT, "p": POWER}
_BY_NAME = {
    "voltage": VOLTAGE,
    "current": CURRENT,
    "i_n": CURRENT,
    "power": POWER,
    "temperature": TEMPERATURE,
    "humidity": HUMIDITY,
}


def family(name):
    """What a signal measures, by its name: `v1`, `current`, `t_joint`; any other name is plain."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith("t_"):
        return TEMPERATURE
    if name[1:].isdigit():
        return _BY_LETTER.get(name[0], PLAIN)
    return PLAIN


def largest(kind, rating_a, v_nominal):
    """Largest value worth resolving, in the signal's unit; 0 where only its values can tell."""
    return (0, v_nominal * 1.4, rating_a * 6, rating_a * v_nominal * 3, 255, 127)[kind]


def material(kind, rating_a, v_nominal):
    """Smallest change that matters, in the signal's unit.

    Voltage: 2 %, half of what IEC 61000-3-3 lets a load change it at once (d_max 4 %). Temperature: 2 K, a similar
    part under similar load differs by 1 to 3 K (NETA MTS table 100.18). The others: what instruments tell apart.
    """
    return (0, v_nominal * 0.02, rating_a * 0.02, rating_a * v_nominal * 0.02, 2, 6)[kind]


def factor(most):
    """Steps per unit, a power of two, so that `most` needs 15 bits."""
    k = 1.0
    while most * k * 2 <= _LARGEST and k < 1048576:
        k *= 2
    while most * k > _LARGEST:
        k /= 2
    return k


def steps(x, per_unit):
    """A value in steps, MISSING for NaN."""
    if x != x:  # noqa: PLR0124 - NaN
        return MISSING
    x *= per_unit
    if x >= _LARGEST:
        return _LARGEST
    if x <= -_LARGEST:
        return -_LARGEST
    return math.floor(x)
