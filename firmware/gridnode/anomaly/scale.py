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

_LARGEST = const(32767)


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
