"""Calibration by rules, on the node: measure in windows, refuse what does not hold, compute, prove, store.

A room that is loaded for the work and unloaded afterwards. `steps` serves a technician, `cloud` the desired state;
both drive the same `procedure`.
"""

import gc
import math
from micropython import const

_GARBAGE = const(8192)


def load():
    """Import what a measurement needs, the innermost first: imports in imports want more stack than a chip has.

    All of it at once, while the heap is whole; and garbage is collected before it spreads what is kept over all of it.
    """
    gc.threshold(_GARBAGE)
    from gridnode import reading  # noqa: F401, I001
    from gridnode import calibration  # noqa: F401
    from gridnode import trim  # noqa: F401
    from gridnode import documents, energy  # noqa: F401
    from gridnode.setup import calibration as corrections  # noqa: F401
    from gridnode.setup import drivers  # noqa: F401
    from gridnode.calibrating import conditions, windows  # noqa: F401
    from gridnode.calibrating import procedure, drafts  # noqa: F401
    from gridnode.calibrating import station  # noqa: F401
    from gridnode.calibrating import steps  # noqa: F401


class Refused(Exception):
    """A step or command is refused: code and sentence, and for a condition its name, what was measured, the limit."""

    def __init__(self, code, message, condition=None, measured=None, limit=None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = {}
        if condition:
            self.details = {"condition": condition, "measured": measured, "limit": limit}


def unmet(condition, sentence, measured, limit, unit=""):
    """The refusal for a condition that does not hold; the sentence has a place for each of the two numbers."""
    numbers = tuple(["%.4g%s" % (x, unit) for x in (measured, limit)])
    return Refused("condition", sentence % numbers, condition, measured, limit)


def angle_of(values):
    """Degrees by which the current lags, from P and Q1; None where they are not measured."""
    p, q = values.get("power"), values.get("reactive_power")
    if p is None or q is None or not (p or q):
        return None
    return math.degrees(math.atan2(q, p))


def turn(degrees):
    """An angle within -180..180."""
    return (degrees + 180) % 360 - 180
