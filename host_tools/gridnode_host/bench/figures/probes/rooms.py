"""Heap that each room of the application takes when it is imported.

stdin: [names of the modules that the chip has in C, names of the rooms, whether the table
of names is widened] as JSON. What a
room imports itself counts there, not here.

The VM's table of names grows in steps of some KB, which would fall to the room that fills it: with the
third entry true it is made large enough first.
"""
# mypy: ignore-errors

import builtins
import gc
import json
import sys

from names import widen

_load = builtins.__import__
_used = {}
_nested = [0]


def _import(name, *rest):
    if not name.startswith(("gridnode", "umqtt")):
        return _load(name, *rest)
    wanted = rest[2] if len(rest) > 2 and isinstance(rest[2], tuple) else ()
    for part in wanted:  # `from gridnode import a, b` loads two rooms
        if name + "." + part in _names:
            _count(name + "." + part)
    if name in _names:
        _count(name)
    return _load(name, *rest)


def _count(name):
    if name in _used:
        return
    _used[name] = 0
    gc.collect()
    before = gc.mem_alloc()
    _nested.append(0)
    try:
        _load(name)
    except (ImportError, ValueError):  # native code of another processor
        _used[name] = None
    gc.collect()
    total = gc.mem_alloc() - before
    inner = _nested.pop()
    if _used[name] is not None:
        _used[name] = total - inner
    _nested[-1] += total


_given, _order, _roomy = json.load(sys.stdin)
_names = set(_order)
_given.append("asyncio")
for _name in _given:
    _load(_name)
if _roomy:
    widen(16000)  # far more than the application needs
builtins.__import__ = _import
for _name in _order:
    _count(_name)
print(json.dumps({"wide": sys.maxsize >> 32 > 0, "bytes": _used}))
