"""Unloads rooms that are needed at start or on demand only. Where code lies on the heap, it is the largest thing there.

Such a room leaves data and objects of permanent rooms behind, never objects of its own classes: one of them would
keep the whole module alive.
"""

import gc
import sys

_PASSING = ("setup", "opening", "config", "documents", "schema", "_schemas")


def forget():
    """Drop the passing rooms, umqtt with them; the next import loads them again."""
    house = sys.modules["gridnode"]
    for name in _PASSING:
        if hasattr(house, name):
            delattr(house, name)
    for name in list(sys.modules):
        path = name.split(".") + [""]
        if path[0] == "umqtt" or (path[0] == "gridnode" and path[1] in _PASSING):
            del sys.modules[name]
    gc.collect()
