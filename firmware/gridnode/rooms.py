"""Unloads rooms that are needed at start or on demand only. Where code lies on the heap, it is the largest thing there.

Such a room leaves data and objects of permanent rooms behind, never objects of its own classes: one of them would
keep the whole module alive.
"""

import gc
import sys
from micropython import const

_PASSING = const(("setup", "opening", "calibrating", "config", "documents", "schema", "_schemas"))


def forget():
    """Drop the passing rooms, umqtt with them; the next import loads them again."""
    drop(lambda path: path[0] in _PASSING)


def drop(goes):
    """Drop the modules of which `goes(path below gridnode)` holds, umqtt too."""
    for name in list(sys.modules):
        path = name.split(".")
        if path[0] == "umqtt":
            del sys.modules[name]
        elif path[0] == "gridnode" and len(path) > 1 and goes(path[1:]):
            del sys.modules[name]
            house = sys.modules.get(name[: -1 - len(path[-1])])
            if hasattr(house, path[-1]):
                delattr(house, path[-1])
    gc.collect()
