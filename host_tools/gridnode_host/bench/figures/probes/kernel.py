"""Cost of the clamp's sampling kernel per pair, native code against its bytecode twin.

The converter is C code (a queue), as on the chip, so that what is timed is the kernel.
"""
# mypy: ignore-errors
# ruff: noqa: RUF037 - this deque takes no keywords

import gc
import json
import math
import time
from array import array
from collections import deque

_PAIR_US = 72
_CYCLES = 10
_PAIRS = 12 * 278  # until ten whole cycles of 50 Hz have passed


def _source(amplitude):
    wave = deque((), _PAIRS)
    for k in range(_PAIRS):
        angle = 2e-6 * math.pi * 50 * _PAIR_US * k
        wave.append(1437 + int(amplitude * math.sin(angle)))
    return wave


def _parameters(w):
    p = array("i", [0] * w.PARAMETERS)
    p[w.CYCLES] = _CYCLES
    p[w.OFFSET_V] = p[w.OFFSET_I] = 13000
    p[w.HYSTERESIS] = 700
    p[w.PAIRS_NOMINAL] = 277
    p[w.PAIRS_MIN] = 166
    p[w.PAIRS_MAX] = 374
    p[w.GAP_US] = 4 * _PAIR_US
    p[w.STEP] = (1 << 24) // 277
    p[w.COUNT_LOW] = 10
    p[w.COUNT_HIGH] = 2900
    return p


def _measure(name):
    """us per pair (the best of five runs), bytes allocated by a run, sums."""
    try:
        w = __import__("gridnode.meters." + name, None, None, (name,))
    except (ImportError, ValueError):  # no native loader, or code for another processor
        return None
    table = array("H", [1420 + round(8.06 * 32 * k) for k in range(129)])
    sine = array("h", [round(8192 * math.sin(math.pi * k / 128)) for k in range(256)])
    partial, results = array("i", [0] * w.RESULTS), array("i", [0] * w.RESULTS)
    best = None
    for _ in range(5):
        ticks = deque([_PAIR_US * k for k in range(_PAIRS)], _PAIRS)
        volts, amperes = _source(1150), _source(700)
        calls = (volts.popleft, amperes.popleft, ticks.popleft)
        for k in range(w.RESULTS):
            results[k] = 0
        parameters = _parameters(w)
        sample = w.sample
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        start = time.ticks_us()
        sample(calls, parameters, table, sine, partial, results)
        took = time.ticks_diff(time.ticks_us(), start)
        allocated = gc.mem_alloc() - before
        gc.enable()
        cost = took / (_PAIRS - len(ticks))
        best = cost if best is None else min(best, cost)
    return {"us": best, "bytes": allocated, "pairs": results[w.PAIRS], "sums": list(results)}


print(json.dumps({"viper": _measure("waveform"), "bytecode": _measure("waveform_plain")}))
