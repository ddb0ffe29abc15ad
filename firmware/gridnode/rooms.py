"""Unloads rooms that are needed at start or on demand only. Where code lies on the heap, it is the largest thing there.

Such a room leaves data and objects of permanent rooms behind, never objects of its own classes: one of them would
keep the whole module alive.
"""

import gc
import sys

_PASSING = ("setup", "opening", "calibrating", "config", "documents", "schema", "_schemas")
_SERVICE = ("service", "config", "documents", "storage", "health", "rooms")


def forget():
    """Drop the passing rooms, umqtt with them; the next import loads them again."""
    _drop(lambda room: room in _PASSING)


def vacate():
    """Drop everything that `service` does not need: the application has ended, a reset starts it again."""
    loop = sys.modules.get("asyncio.core")
    if loop:  # its tasks, and the one that ran last, hold the application
        sys.modules["asyncio"].new_event_loop()
        setattr(loop, "cur_task", None)  # noqa: B010 - the stubs do not know it
    _drop(lambda room: room not in _SERVICE)


def _drop(goes):
    house = sys.modules["gridnode"]
    for name in list(sys.modules):
        path = name.split(".")
        if path[0] == "umqtt" or (path[0] == "gridnode" and len(path) > 1 and goes(path[1])):
            del sys.modules[name]
            if len(path) == 2 and hasattr(house, path[1]):
                delattr(house, path[1])
    gc.collect()
