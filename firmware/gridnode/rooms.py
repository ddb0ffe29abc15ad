"""Unloads rooms that are needed at start or on demand only. Where code lies on the heap, it is the largest thing there.

Such a room leaves data and objects of permanent rooms behind, never objects of its own classes: one of them would
keep the whole module alive.
"""

import gc
import sys

_PASSING = ("setup", "opening", "calibrating", "config", "documents", "schema", "_schemas")


def forget():
    """Drop the passing rooms, umqtt with them; the next import loads them again."""
    drop(lambda room: room in _PASSING)


def drop(goes):
    """Drop the rooms of which `goes(name)` holds, umqtt too."""
    house = sys.modules["gridnode"]
    for name in list(sys.modules):
        path = name.split(".")
        if path[0] == "umqtt" or (path[0] == "gridnode" and len(path) > 1 and goes(path[1])):
            del sys.modules[name]
            if len(path) == 2 and hasattr(house, path[1]):
                delattr(house, path[1])
    gc.collect()
