"""Events of the ADE7953: peaks, sag, over-voltage, over-current and zero crossings.

All look at single samples. Status bits are latched; one that still holds when it is cleared is
set again with the next sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from gridnode_host.bench.chips import ade7953_registers as r
from gridnode_host.bench.chips.ade7953_core import Core
from gridnode_host.bench.segment import Floats, Segment

_CYCLES_S = 0.05  # two mains cycles of 40 Hz or more
_PIECE_S = 2.0  # of samples at once
_FLOOR = r.WAVE_FULL_SCALE * r.ZERO_CROSSING_FLOOR
# What a wave (V, IA, IB) sets: (channel, bit) of a zero crossing, of its time-out, of the level.
_CROSSING = ((0, r.ZXV), (0, r.ZXI), (1, r.ZXI))
_TIMEOUT = ((0, r.ZXTO), (0, r.ZXTO_I), (1, r.ZXTO_I))
_OVER = ((0, r.OV), (0, r.OI), (1, r.OI))


class Events:
    """Follows the circuit between accesses; `latch(channel, bit)` sets a status bit."""

    def __init__(
        self,
        core: Core,
        registers: Mapping[int, int],
        latch: Callable[[int, int], None],
        since: float,
    ) -> None:
        self._core = core
        self._registers = registers
        self._latch = latch
        self._seen = since
        self._low_s = 0.0  # for how long the voltage has been below SAGLVL
        self._crossed = [since] * 3
        self._positive = [True] * 3
        self.peaks = [0, 0, 0]  # V, IA, IB

    def follow(self, now: float) -> None:
        """Bring peaks and flags up to the rig time `now`."""
        if now <= self._seen:
            return
        for segment, since, until in self._core.circuit.segments(self._seen, now):
            sag_s = self._registers[r.SAGCYC] / (2.0 * segment.frequency)
            for start, end, same in _pieces(segment, since, until, sag_s + _CYCLES_S):
                count = max(int((end - start) * r.UPDATE_HZ), 1)
                waves = self._core.waves(start + np.arange(count) / r.UPDATE_HZ)
                self._levels(waves)
                self._sag(np.abs(waves[0]), end - start, same, sag_s)
                for k, wave in enumerate(waves):
                    self._crossings(k, wave, start, end, same)
        self._seen = now

    def _levels(self, waves: tuple[Floats, Floats, Floats]) -> None:
        for k, wave in enumerate(waves):
            peak = min(int(np.abs(wave).max()), 0xFFFFFF)
            self.peaks[k] = max(self.peaks[k], peak)
            if peak > self._registers[r.OILVL if k else r.OVLVL]:
                self._latch(*_OVER[k])

    def _sag(self, volts: Floats, seconds: float, same: float, sag_s: float) -> None:
        """Look for a run of samples below the level; `same` seconds more go on like these."""
        level = self._registers[r.SAGLVL]
        above = np.flatnonzero(volts >= level)
        if not len(above):
            self._low_s += seconds + same
            longest = self._low_s
        else:
            runs = np.diff(above, prepend=-1, append=len(volts)) - 1
            runs = runs / r.UPDATE_HZ
            runs[0] += self._low_s
            longest = float(runs.max())
            self._low_s = float(runs[-1])
        if level and sag_s and longest >= sag_s:
            self._latch(0, r.SAG)

    def _crossings(self, k: int, wave: Floats, start: float, end: float, same: float) -> None:
        if np.abs(wave).max() >= _FLOOR:
            positive = wave >= 0
            changes = np.flatnonzero(np.diff(positive, prepend=self._positive[k]))
            self._positive[k] = bool(positive[-1])
            if len(changes):
                self._latch(*_CROSSING[k])
                last = start + float(changes[-1]) / r.UPDATE_HZ
                self._crossed[k] = end + same if same else last
        if end + same - self._crossed[k] > self._registers[r.ZXTOUT] / r.ZXTOUT_HZ:
            self._latch(*_TIMEOUT[k])


def _pieces(
    segment: Segment, since: float, until: float, enough: float
) -> Iterator[tuple[float, float, float]]:
    """Stretches to sample: `(start, end, same)`, `same` seconds more being like the samples.

    A clip is sampled through; of an unchanging stretch the first part tells all.
    """
    if segment.clip is None:
        end = min(until, since + enough)
        yield since, end, until - end
        return
    while since < until:
        end = min(until, since + _PIECE_S)
        yield since, end, 0.0
        since = end
