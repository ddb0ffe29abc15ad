"""Uncertainty and verdict of a verification, as arithmetic on numbers in %.

All uncertainties are expanded ones with k=2. A guard band keeps a wrong pass unlikely: the
reference's uncertainty counts against the node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
_EXACT = 1e-9


@dataclass(frozen=True)
class Budget:
    """What the uncertainty of one error is made of; None: not known."""

    reference: float | None
    steadiness: float
    """Scatter of the reference while the step lasted."""
    repeatability: float | None
    """Scatter of the node."""
    resolution: float
    """Last digit of the reference."""

    @property
    def combined(self) -> float | None:
        """The expanded uncertainty of the error; None if a part of it is not known."""
        if self.reference is None or self.repeatability is None:
            return None
        return math.hypot(self.reference, self.steadiness, self.repeatability, self.resolution)


def budget(
    reference: float | None,
    node: float | None,
    steadiness: float,
    resolution: float,
    value: float,
) -> Budget:
    """Return the budget of an error.

    ``node`` is the uncertainty that the node tells, its scatter and the reference's uncertainty
    together. ``resolution`` is the step of the reference's last digit, in the unit of ``value``.
    """
    own = None
    if node is not None:
        own = math.sqrt(max(0.0, node**2 - (reference or 0.0) ** 2))
    # a value is anywhere within its last digit: half the step, evenly likely, twice
    rounding = 100 * resolution / math.sqrt(3) / abs(value) if value else 0.0
    return Budget(reference, steadiness, own, rounding)


def judge(error: float, uncertainty: float | None, limit: float) -> str:
    """Return pass, fail or inconclusive of an error against its class."""
    u = uncertainty or 0.0
    if abs(error) - u > limit + _EXACT:
        return FAIL
    if uncertainty is None or abs(error) + u > limit + _EXACT:
        return INCONCLUSIVE
    return PASS
