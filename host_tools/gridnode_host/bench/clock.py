"""Rig time: one clock for every part of a bench, which can be warped.

Rig time starts at the host's time of day and runs at `RigClock.rate` rig seconds per second. A
new rate takes effect `LEAD_S` after it was asked for, so that every node has heard of it by then
and changes over at the same instant. A `SteppedClock` has nothing to do with real time.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

MAX_RATE = 1000
LEAD_S = 0.08
"""Real seconds from asking for a rate to its effect: longer than a node's polling interval."""


def monotonic_ns() -> int:
    """The clock that the ticks of a VM come from, in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Segment(NamedTuple):
    """A stretch of constant rate that begins at the monotonic time ``mono_ns``."""

    mono_ns: int
    rig_ns: int
    rate: int

    def rig_at(self, mono_ns: int) -> int:
        """Rig time in Unix nanoseconds at a monotonic time."""
        return self.rig_ns + (mono_ns - self.mono_ns) * self.rate


class RigClock:
    """The time of a bench. Thread-safe."""

    def __init__(self) -> None:
        first = Segment(monotonic_ns(), time.time_ns(), 1)
        self._segments = (first, first)  # replaced as a whole: readers take no lock
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self.generation = 0
        """Counts the changes of rate."""

    @property
    def rate(self) -> int:
        """Rig seconds per second, as of now."""
        return self._at(monotonic_ns()).rate

    @property
    def newest(self) -> Segment:
        """The last segment; it may begin in the near future."""
        return self._segments[1]

    def warp(self, rate: int) -> None:
        """Let rig time run ``rate`` times as fast (1 to 1000); return once it does."""
        if not 1 <= rate <= MAX_RATE or rate != int(rate):
            raise ValueError(f"the rate must be a whole number from 1 to {MAX_RATE}, not {rate}")
        with self._turn:
            old = self._segments[1]
            if rate == old.rate:
                return
            start = monotonic_ns() + int(LEAD_S * 1e9)
            self._segments = (old, Segment(start, old.rig_at(start), int(rate)))
            self.generation += 1
            with self._changed:
                self._changed.notify_all()
            while (left := start - monotonic_ns()) > 0:
                time.sleep(left / 1e9)
            with self._changed:
                self._changed.notify_all()

    def now(self) -> float:
        """Rig time in Unix seconds."""
        return self.now_ns() / 1e9

    def now_ns(self) -> int:
        """Rig time in Unix nanoseconds."""
        return self.rig_at(monotonic_ns())

    def rig_at(self, mono_ns: int) -> int:
        """Rig time in Unix nanoseconds at a monotonic time of the last two segments."""
        return self._at(mono_ns).rig_at(mono_ns)

    def sleep(self, seconds: float) -> None:
        """Sleep for rig seconds; a change of the rate meanwhile counts."""
        end = self.now_ns() + int(seconds * 1e9)
        with self._changed:
            while (left := end - self.now_ns()) > 0:
                self._changed.wait(left / 1e9 / self.rate)

    def _at(self, mono_ns: int) -> Segment:
        old, new = self._segments
        return new if mono_ns >= new.mono_ns else old


class SteppedClock(RigClock):
    """A rig time that one node steps by what it does: conversions, bus transactions and sleep.

    Sleep costs nothing and a busy host stretches nothing, so that a run is as fast as the machine
    and always the same. It is for a node that talks to nobody: networks keep real time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ns = time.time_ns()

    @property
    def rate(self) -> int:
        return 1

    def warp(self, rate: int) -> None:
        raise ValueError("a stepped clock has no rate")

    def rig_at(self, mono_ns: int) -> int:
        return self._ns

    def now_ns(self) -> int:
        return self._ns

    def sleep(self, seconds: float) -> None:
        """Sleep until the node has come so far."""
        end = self._ns + int(seconds * 1e9)
        with self._changed:
            self._changed.wait_for(lambda: self._ns >= end)

    def step(self, us: int) -> None:
        """The node has come further."""
        self._ns += us * 1000
        with self._changed:
            self._changed.notify_all()
