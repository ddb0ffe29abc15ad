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
    gc.collect()
    for name in [name for name in sys.modules if _goes(name, goes)]:
        del sys.modules[name]
        house, _, room = name.rpartition(".")
        house = sys.modules.get(house)
        if hasattr(house, room):
            delattr(house, room)
    gc.collect()


def _goes(name, goes):
    path = name.split(".")
    return path[0] == "umqtt" or (path[0] == "gridnode" and len(path) > 1 and goes(path[1:]))
