"""Bytes that one reading of a front end leaves on the heap: its meter alone, and its whole way.

stdin: the resolved profile as JSON. Converter and chip are objects here that allocate nothing.
"""
# mypy: ignore-errors
# ruff: noqa: RUF037 - this deque takes no keywords

import asyncio
import gc
import json
import math
import sys
from collections import deque

from gridnode import storage
from gridnode.setup import pipeline

_SET_US = 72
_SETS = 24 * 278
_RUNS = 5

# flash is not what is measured here
storage.write = storage.promote = lambda *_: None


class Retained:
    def read(self, record):
        return None

    def write(self, record, data):
        pass


class Time:
    """Time of a converter that is asked for one set of two channels after the other."""

    def __init__(self):
        self._ms = 0
        self.ticks = deque((), _SETS)
        self.ticks_us = self.ticks.popleft

    def ticks_ms(self):
        self._ms += 100
        return self._ms

    def ticks_diff(self, a, b):
        return a - b

    def sleep_ms(self, ms):
        pass


class Converter:
    """`machine.ADC`: C code (a queue) hands out the counts."""

    ATTN_11DB = 3

    def __init__(self, ticks):
        self._ticks = ticks
        self._pins = {}
        self._at = 0

    def __call__(self, pin):
        counts = deque((), _SETS)
        for k in range(self._at - len(self._ticks), self._at):
            counts.append(_count(pin.number, k))
        self._pins[pin.number] = counts
        return Channel(counts)

    def refill(self):
        while len(self._ticks) < _SETS:
            self._ticks.append(_SET_US * self._at)
            for number in self._pins:
                self._pins[number].append(_count(number, self._at))
            self._at += 1


def _count(number, k):
    amplitude = 1150 if number == 35 else 700
    return 1437 + int(amplitude * math.sin(2e-6 * math.pi * 50 * _SET_US * k))


class Channel:
    def __init__(self, counts):
        self.read = counts.popleft

    def atten(self, value):
        pass


class Chip:
    """`machine.SPI` with a register file behind it; all that is measured reads 5000."""

    def __init__(self, number, **settings):
        self._registers = {}
        self._last = 0

    def write_readinto(self, out, into):
        address = (out[0] & 3) << 8 | out[1]
        if not out[0] & 0x80:
            self._last = out[2] << 8 | out[3]
            if address not in (0x70, 0x73, 0x74):
                self._registers[address] = self._last
        elif address != 0x78:
            self._last = self._registers.get(address, 0 if address < 0x80 else 5000)
        into[2], into[3] = self._last >> 8, self._last & 0xFF


class Pin:
    OUT = 1

    def __init__(self, number, mode=None, value=None):
        self.number = number

    def __call__(self, level):
        pass


class Machine:
    def __init__(self, converter):
        self.ADC = converter
        self.SPI = Chip
        self.Pin = Pin


async def _spent(work):
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    await work()
    spent = gc.mem_alloc() - before
    gc.enable()
    return spent


async def main():
    profile = json.load(sys.stdin)
    time = Time()
    converter = Converter(time.ticks)
    converter.refill()
    spec, machine = profile["meters"][0], Machine(converter)
    meter = pipeline.load_meter(spec, profile, machine, time)
    way = pipeline.build(meter, spec, profile, None, Retained(), 1, meter.names)
    result = {"meter": [], "reading": []}
    for name, work in (("meter", way.meter.block), ("reading", way.block)):
        for _ in range(_RUNS + 6):  # the chip's first window and the alarms pass first
            converter.refill()
            result[name].append(await _spent(work))
        result[name] = result[name][6:]
    result["quality"] = way.meter.reading.quality
    result["values"] = way.meter.reading.at[0]
    print(json.dumps(result))


asyncio.run(main())
