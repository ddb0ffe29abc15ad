"""Cost of the clamp's sampling kernel per set of conversions, native code against its bytecode twin.

stdin: the number of channels, alternately voltages and currents. The converter is C code (a queue), as on the chip,
so that what is timed is the kernel.
"""
# mypy: ignore-errors
# ruff: noqa: RUF005, RUF037 - this deque takes no keywords, and a tuple no star

import gc
import json
import math
import sys
import time
from array import array
from collections import deque

from gridnode.setup import ct

_CONVERSION_US = 36
_CYCLES = 10
_RUN = 12  # cycles of 50 Hz until ten whole ones have passed
_ORDERS = 15


def _source(amplitude, sets, set_us):
    wave = deque((), sets)
    for k in range(sets):
        wave.append(1437 + int(amplitude * math.sin(2e-6 * math.pi * 50 * set_us * k)))
    return wave


def _parameters(w, channels, set_us):
    p = [(50 * set_us << 24) // 1000000, set_us + 200, w.CHANNEL, _CYCLES, 2 * _CYCLES + 5, 10, 2900, 17, channels]
    for k in range(channels):
        p += [1300 * 4096, w.CHANNEL + (k - 1) * w.CHANNEL_WORDS if k & 1 else 0, 1100, 0, 0, 0]
    return array("i", p)


def _measure(name, channels):
    """us per set and per phasor (the best of five runs), bytes allocated by a run, sums."""
    try:
        w = __import__("gridnode.meters." + name, None, None, (name,))
    except (ImportError, ValueError):  # no native loader, or code for another processor
        return None
    set_us = channels * _CONVERSION_US
    sets = _RUN * 20000 // set_us
    table = array("i", [round(4096 * (142 + 0.806 * 32 * k)) for k in range(129)])
    bins = array("i", range(channels << 7))
    halves, results = ct.buffers(_parameters(w, channels, set_us), (channels + 1) // 2)
    sine, out = ct.sine(128), array("i", (0, 0))
    best = orders = None
    for _ in range(5):
        ticks = deque([set_us * k for k in range(sets)], sets)
        waves = [_source(700 if k & 1 else 1150, sets, set_us) for k in range(channels)]
        calls = (ticks.popleft,) + tuple([wave.popleft for wave in waves])
        parameters = _parameters(w, channels, set_us)
        sample, phasor = w.sample, w.phasor
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        start = time.ticks_us()
        sample(calls, parameters, table, bins, halves, results)
        middle = time.ticks_us()
        for order in range(1, _ORDERS + 1):
            phasor(bins, 1, order, sine, out)
        end = time.ticks_us()
        allocated = gc.mem_alloc() - before
        gc.enable()
        cost = time.ticks_diff(middle, start) / (sets - len(ticks))
        best = cost if best is None else min(best, cost)
        cost = time.ticks_diff(end, middle) / _ORDERS
        orders = cost if orders is None else min(orders, cost)
    sums = list(results) + list(halves) + list(out)
    return {"us": best, "phasor_us": orders, "bytes": allocated, "sets": results[0], "sums": sums}


channels = json.load(sys.stdin) or 2
print(json.dumps({"viper": _measure("waveform", channels), "bytecode": _measure("waveform_plain", channels)}))
