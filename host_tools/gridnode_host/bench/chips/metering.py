"""What a single-phase metering chip sees at its pins: exact means of a circuit's waveforms.

Between two changes of the circuit one cycle tells everything, so the means over any time are
the weighted means of the stretches in it. Only a played clip is sampled through.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.segment import Floats, Segment, Transfer

_CYCLE_POINTS = 2048  # exact for products of harmonics up to the 1023rd
_CLIP_HZ = 14_000.0
_CLIP_PIECE_S = 2.0  # of a clip at once
_KEPT = 16  # stretches of which the means are remembered


class Input(NamedTuple):
    """What is wired to one pin pair: a phase of the circuit (from 0) through a sensor."""

    phase: int
    mv_per_unit: float
    transfer: Transfer | None = None


class Means(NamedTuple):
    """Means of u (voltage pins) and i (current pins), both in mV, without their direct part."""

    u2: float = 0.0
    i2: float = 0.0
    p: float = 0.0  # mean of u * i
    q: float = 0.0  # of all harmonics, + where the current lags
    p1: float = 0.0  # of the fundamental
    q1: float = 0.0


NOTHING = Means()


def weighted(parts: list[tuple[Means, float]], seconds: float) -> Means:
    """Means of stretches `(means, seconds)`; what is missing of `seconds` counts as nothing."""
    total = np.zeros(len(Means._fields))
    for means, length in parts:
        total += np.array(means) * length
    return Means(*(total / seconds).tolist())


class Inputs:
    """A voltage and a current input of one chip on a circuit."""

    def __init__(self, circuit: Circuit, voltage: Input | None, current: Input | None) -> None:
        self._circuit = circuit
        self._wired = (("voltage", voltage), ("current", current))
        self._of_cycle = lru_cache(maxsize=_KEPT)(self._cycle)

    def over(
        self,
        since: float,
        until: float,
        limits: tuple[float, float] = (math.inf, math.inf),
        delay_s: float = 0.0,
    ) -> Means:
        """Means between two rig times; of the moment where they are the same.

        `limits` are the peaks in mV at which the voltage and the current converter end.
        `delay_s` delays the current before it is multiplied.
        """
        parts = [
            (self.of(segment, start, end, limits, delay_s), end - start)
            for segment, start, end in self._circuit.segments(since, until)
        ]
        if len(parts) == 1:
            return parts[0][0]
        return weighted(parts, until - since)

    def of(
        self,
        segment: Segment,
        since: float,
        until: float,
        limits: tuple[float, float] = (math.inf, math.inf),
        delay_s: float = 0.0,
    ) -> Means:
        """Means over a stretch of one segment of the circuit, see `over`."""
        if segment.clip is None:
            return self._of_cycle(segment, limits, delay_s)
        pieces = max(math.ceil((until - since) / _CLIP_PIECE_S), 1)
        edges = np.linspace(since, until, pieces + 1)
        cycle = 1.0 / segment.frequency
        parts = []
        for start, end in pairwise(edges):
            count = max(round((end - start) * _CLIP_HZ), 2)
            t = start + (np.arange(count) + 0.5) * ((end - start) / count)
            parts.append((self._means(segment, t, cycle, limits, delay_s), 1.0 / pieces))
        return weighted(parts, 1.0)

    def samples(
        self, t: Floats, limits: tuple[float, float] = (math.inf, math.inf)
    ) -> tuple[Floats, Floats]:
        """Millivolts at the voltage and the current pins at the rig times `t`."""
        u, i = (
            np.zeros(len(t))
            if one is None or one.phase >= self._circuit.phases
            else np.clip(
                one.mv_per_unit
                * self._circuit.signal(quantity, one.phase, t, transfer=one.transfer),
                -limit,
                limit,
            )
            for (quantity, one), limit in zip(self._wired, limits, strict=True)
        )
        return u, i

    def _cycle(self, segment: Segment, limits: tuple[float, float], delay_s: float) -> Means:
        cycle = 1.0 / segment.frequency
        t = segment.start + np.arange(_CYCLE_POINTS) * (cycle / _CYCLE_POINTS)
        return self._means(segment, t, cycle, limits, delay_s)

    def _means(
        self,
        segment: Segment,
        t: Floats,
        cycle: float,
        limits: tuple[float, float],
        delay_s: float,
    ) -> Means:
        (u, u_noise), (i, i_noise) = (
            self._pin(segment, k, t - delay_s * k, limits[k]) for k in range(2)
        )
        lines_u, lines_i = (np.fft.rfft(x)[1:] for x in (u, i))
        weights = np.full(len(lines_u), 2.0 / len(t) ** 2)
        if len(t) % 2 == 0:
            weights[-1] /= 2.0  # the line at half the sampling rate stands alone
        cross = weights * lines_u * lines_i.conj()
        # The fundamental is the line next to the mains frequency: exact over whole cycles.
        first = cross[min(max(round(len(t) * (t[1] - t[0]) / cycle), 1), len(cross)) - 1]
        return Means(
            u2=float(np.dot(weights, np.abs(lines_u) ** 2)) + u_noise,
            i2=float(np.dot(weights, np.abs(lines_i) ** 2)) + i_noise,
            p=float(cross.real.sum()),
            q=float(cross.imag.sum()),
            p1=float(first.real),
            q1=float(first.imag),
        )

    def _pin(self, segment: Segment, k: int, t: Floats, limit: float) -> tuple[Floats, float]:
        """One input's signal, mV, and the mean square of the noise that rides on it."""
        quantity, one = self._wired[k]
        if one is None or one.phase >= self._circuit.phases:
            return np.zeros(len(t)), 0.0
        signal = segment.signal(quantity, one.phase, t, transfer=one.transfer) * one.mv_per_unit
        noise = segment.noise(quantity, one.phase, True) * one.mv_per_unit
        return np.clip(signal, -limit, limit), noise * noise
