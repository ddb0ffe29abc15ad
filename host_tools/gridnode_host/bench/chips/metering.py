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
from gridnode_host.bench.segment import Complexes, Floats, Segment
from gridnode_host.bench.sensors import Input

_CYCLE_POINTS = 2048  # exact for products of harmonics up to the 1023rd
_CLIP_HZ = 14_000.0
_CLIP_PIECE_S = 2.0  # of a clip at once
_KEPT = 16  # stretches of which the means are remembered


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
            return self._of_cycle(segment, limits, delay_s, self._gains())
        pieces = max(math.ceil((until - since) / _CLIP_PIECE_S), 1)
        edges = np.linspace(since, until, pieces + 1)
        parts = []
        for start, end in pairwise(edges):
            count = max(round((end - start) * _CLIP_HZ), 2)
            t = start + (np.arange(count) + 0.5) * ((end - start) / count)
            u, i = (
                _lines_of(self._pin(segment, k, t - delay_s * k, limits[k])) for k in range(2)
            )
            first = max(round((end - start) * segment.frequency), 1)
            parts.append((self._means(segment, u, i, first), 1.0 / pieces))
        return weighted(parts, 1.0)

    def samples(
        self, t: Floats, limits: tuple[float, float] = (math.inf, math.inf)
    ) -> tuple[Floats, Floats]:
        """Millivolts at the voltage and the current pins at the rig times `t`."""
        u, i = (
            np.zeros(len(t))
            if one is None or one.phase >= self._circuit.phases
            else np.clip(
                one.mv
                * self._circuit.signal(
                    quantity, one.phase, t, transfer=one.transfer, pickup=one.pickup
                ),
                -limit,
                limit,
            )
            for (quantity, one), limit in zip(self._wired, limits, strict=True)
        )
        return u, i

    def _gains(self) -> tuple[float, float]:
        """mV per V and per A now."""
        u, i = (0.0 if one is None else one.mv for _, one in self._wired)
        return u, i

    def _cycle(
        self,
        segment: Segment,
        limits: tuple[float, float],
        delay_s: float,
        gains: tuple[float, float],
    ) -> Means:
        u, i = (self._cycle_lines(segment, k, limits[k], gains[k]) for k in range(2))
        hertz = segment.frequency * np.arange(1, len(i) + 1)
        return self._means(segment, u, i * np.exp(-2j * np.pi * delay_s * hertz), 1)

    def _cycle_lines(self, segment: Segment, k: int, limit: float, gain: float) -> Complexes:
        """rms phasors, mV, of one input's harmonics from the first."""
        lines = np.zeros(_CYCLE_POINTS // 2, dtype=np.complex128)
        quantity, one = self._wired[k]
        if one is None or one.phase >= self._circuit.phases:
            return lines
        on_sensor = gain * segment.filtered(quantity, one.phase, one.transfer, pickup=one.pickup)
        lines[segment.orders - 1] = on_sensor
        if math.sqrt(2.0) * np.abs(on_sensor).sum() <= limit:
            return lines
        spectrum = np.append(0.0, lines) * (_CYCLE_POINTS / (1j * math.sqrt(2.0)))
        return _lines_of(np.clip(np.fft.irfft(spectrum, _CYCLE_POINTS), -limit, limit))

    def _means(self, segment: Segment, u: Complexes, i: Complexes, first: int) -> Means:
        """Means of rms phasors, of which that of the fundamental is the `first`-th."""
        cross = u * i.conj()
        main = complex(cross[min(first, len(cross)) - 1])
        return Means(
            u2=float(np.sum(np.abs(u) ** 2)) + self._noise(segment, 0),
            i2=float(np.sum(np.abs(i) ** 2)) + self._noise(segment, 1),
            p=float(cross.real.sum()),
            q=float(cross.imag.sum()),
            p1=main.real,
            q1=main.imag,
        )

    def _pin(self, segment: Segment, k: int, t: Floats, limit: float) -> Floats:
        quantity, one = self._wired[k]
        if one is None or one.phase >= self._circuit.phases:
            return np.zeros(len(t))
        signal = segment.signal(quantity, one.phase, t, transfer=one.transfer, pickup=one.pickup)
        return np.clip(signal * one.mv, -limit, limit)

    def _noise(self, segment: Segment, k: int) -> float:
        """Mean square, mV^2, of the noise that rides on one input's signal."""
        quantity, one = self._wired[k]
        if one is None or one.phase >= self._circuit.phases:
            return 0.0
        return (segment.noise(quantity, one.phase, True) * one.mv) ** 2


def _lines_of(signal: Floats) -> Complexes:
    """rms phasors of the sines in a signal, without its direct part."""
    lines = np.fft.rfft(signal)[1:] * (1j * math.sqrt(2.0) / len(signal))
    if len(signal) % 2 == 0:
        lines[-1] /= math.sqrt(2.0)  # the line at half the sampling rate stands alone
    return np.asarray(lines)
