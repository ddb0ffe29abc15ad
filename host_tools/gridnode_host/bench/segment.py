"""One stretch of unchanging supply and load: its lines, its waveform and its exact values.

A segment is made of phasors (harmonic lines of voltage and current) or of a played clip.
Between two changes of a circuit nothing but time moves, so everything here is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # real numbers
Complexes = NDArray[Any]

# A sensor's linear response: (frequencies in Hz, rms of the signal) -> complex gain.
# It has to be hashable, since filtered waveforms are kept by it.
Transfer = Callable[[Floats, float], Complexes]

# Points of one tabulated cycle. Linear interpolation is then wrong by less than 5e-5 of a
# 49th harmonic and 2e-8 of the fundamental.
CYCLE_POINTS = 16384


@dataclass(frozen=True)
class Clip:
    """Samples being played: volts or amperes, `[phases, n]`; None leaves that quantity alone."""

    start: float
    rate_hz: float
    voltage: Floats | None
    current: Floats | None
    repeat: bool

    def rows(self, quantity: str) -> Floats | None:
        return self.voltage if quantity == "voltage" else self.current

    @property
    def length(self) -> int:
        rows = self.voltage if self.voltage is not None else self.current
        assert rows is not None  # Circuit.play has seen to it
        return int(rows.shape[1])


@dataclass(frozen=True)
class _Share:
    """Transfer of what the sensor of a current sees of a voltage."""

    pickup: complex
    transfer: Transfer | None
    rms: float  # of the current

    def __call__(self, hertz: Floats, _: float) -> Complexes:
        share: Complexes = np.full(len(hertz), self.pickup)
        return share if self.transfer is None else share * self.transfer(hertz, self.rms)


@dataclass(frozen=True)
class Values:
    """Exact means of a stretch, one entry per phase."""

    frequency: float
    v2: Floats  # V^2
    i2: Floats  # A^2
    v1: Floats  # V rms of the fundamental
    i1: Floats
    vh2: Floats  # V^2 of what is neither fundamental nor noise
    ih2: Floats
    p: Floats  # W
    p1: Floats  # W of the fundamental
    q: Floats  # var of the fundamental, + inductive
    s: Floats  # VA
    u2: Floats  # V^2 between a phase and the next one
    n2: float  # A^2 in the neutral


@dataclass(eq=False)
class Segment:
    """A stretch from `start` (rig seconds) on.

    `theta` is the phase of L1's voltage at `start`, in cycles. `v` and `i` are rms phasors
    `[phases, orders]` of what is on the wires; `sense_v` and `sense_i` are the matrices that
    turn the wires' quantities into what reaches the sensors (wiring faults).
    """

    start: float
    theta: float
    frequency: float
    orders: NDArray[np.int64]
    v: Complexes
    i: Complexes
    noise_v: float
    noise_i: float
    sense_v: Floats
    sense_i: Floats
    clip: Clip | None = None
    imported: Floats = field(default_factory=lambda: np.zeros(1))  # Wh up to `start`
    exported: Floats = field(default_factory=lambda: np.zeros(1))  # phases, then their total
    cache: dict[object, Floats] = field(default_factory=dict)

    def energies(self, t: float) -> tuple[Floats, Floats]:
        """Wh imported and exported up to `t`: each phase, then the total by its own sign."""
        power = np.append(self.values.p, np.sum(self.values.p))
        energy = power * ((t - self.start) / 3600.0)
        return self.imported + np.maximum(energy, 0), self.exported + np.maximum(-energy, 0)

    def cycles(self, t: Floats | float) -> Floats:
        """Phase of L1's voltage at `t`, in cycles since the start of the circuit."""
        return (np.asarray(t) - self.start) * self.frequency + self.theta

    def lines(self, quantity: str, sensed: bool) -> Complexes:
        """Phasors `[phases, orders]` of the wires or of the sensors."""
        lines = self.v if quantity == "voltage" else self.i
        if not sensed:
            return lines
        return (self.sense_v if quantity == "voltage" else self.sense_i) @ lines

    def frequencies(self) -> Floats:
        """Hz of each column of `lines`."""
        return self.orders * self.frequency

    def signal(
        self,
        quantity: str,
        phase: int,
        t: Floats,
        *,
        transfer: Transfer | None = None,
        sensed: bool = True,
        pickup: complex = 0j,
    ) -> Floats:
        """Volts or amperes at the times `t`, without noise.

        `pickup` is what the sensor of a current sees of its phase's voltage, A per V.
        """
        out: Floats = self._signal(quantity, phase, t, transfer, sensed, pickup)
        clip = self.clip
        if pickup and clip is not None and (clip.voltage is None or clip.current is None):
            # One of both is played, so that no table holds the sum.
            share = _Share(pickup * self._way(phase), transfer, self._rms(quantity, phase, sensed))
            out = out + self._signal("voltage", phase, t, share, False, 0j)
        return out

    def _signal(
        self,
        quantity: str,
        phase: int,
        t: Floats,
        transfer: Transfer | None,
        sensed: bool,
        pickup: complex,
    ) -> Floats:
        clip = self.clip
        if clip is not None and clip.rows(quantity) is not None:
            table = self._clip_table(clip, quantity, phase, transfer, sensed, pickup)
            x = (t - clip.start) * clip.rate_hz
            x = np.remainder(x, clip.length) if clip.repeat else np.clip(x, 0, clip.length)
        else:
            table = self._cycle_table(quantity, phase, transfer, sensed, pickup)
            x = self.cycles(t)
            x -= np.floor(x)
            x *= CYCLE_POINTS
        index = x.astype(np.int64)
        np.minimum(index, len(table) - 2, out=index)
        x -= index
        low = table[index]
        out: Floats = low + x * (table[index + 1] - low)
        return out

    def noise(self, quantity: str, phase: int, sensed: bool) -> float:
        """rms of the noise that rides on one signal, V or A."""
        level = self.noise_v if quantity == "voltage" else self.noise_i
        if level and sensed:
            matrix = self.sense_v if quantity == "voltage" else self.sense_i
            return level if matrix[phase].any() else 0.0
        return level

    def filtered(
        self,
        quantity: str,
        phase: int,
        transfer: Transfer | None,
        sensed: bool = True,
        pickup: complex = 0j,
    ) -> Complexes:
        """Phasors of one signal behind its sensor, in V or A; not of a clip.

        What is picked up takes the sensor's way too, and does not matter to its core.
        """
        own = self.lines(quantity, sensed)[phase]
        lines: Complexes = own
        if pickup:
            lines = own + pickup * self._way(phase) * self.v[phase]
        if transfer is not None:
            rms = float(np.sqrt(np.sum(np.abs(own) ** 2)))
            lines = lines * transfer(self.frequencies(), rms)
        return lines

    def _way(self, phase: int) -> float:
        """1 for a clamp on its wire, -1 for one that looks the other way, 0 for one that is off."""
        return float(self.sense_i[phase].sum())

    def _rms(self, quantity: str, phase: int, sensed: bool) -> float:
        means = self.sensed if sensed else self.values
        return float(np.sqrt((means.v2 if quantity == "voltage" else means.i2)[phase]))

    def _cycle_table(
        self, quantity: str, phase: int, transfer: Transfer | None, sensed: bool, pickup: complex
    ) -> Floats:
        if self.clip is not None:
            pickup = 0j  # the voltage is played
        key = (quantity, phase, transfer, sensed, pickup)
        table = self.cache.get(key)
        if table is None:
            lines = self.filtered(quantity, phase, transfer, sensed, pickup)
            spectrum = np.zeros(CYCLE_POINTS // 2 + 1, dtype=np.complex128)
            spectrum[self.orders] = lines * (-1j * CYCLE_POINTS / np.sqrt(2.0))
            cycle = np.fft.irfft(spectrum, CYCLE_POINTS)
            table = np.append(cycle, cycle[0])
            self.cache[key] = table
        return table

    def _clip_table(
        self,
        clip: Clip,
        quantity: str,
        phase: int,
        transfer: Transfer | None,
        sensed: bool,
        pickup: complex,
    ) -> Floats:
        key = (quantity, phase, transfer, sensed, pickup)
        table = self.cache.get(key)
        if table is None:
            rows = clip.rows(quantity)
            assert rows is not None  # checked by the caller
            if sensed:
                rows = (self.sense_v if quantity == "voltage" else self.sense_i) @ rows
            row = rows[phase]
            rms = float(np.sqrt(np.mean(row**2)))
            if pickup and clip.voltage is not None:
                seen = np.fft.rfft(clip.voltage[phase]) * (pickup * self._way(phase))
                row = row + np.fft.irfft(seen, len(row))
            if transfer is not None:
                hertz = np.fft.rfftfreq(len(row), 1.0 / clip.rate_hz)
                row = np.fft.irfft(np.fft.rfft(row) * transfer(hertz, rms), len(row))
            table = np.append(row, row[0] if clip.repeat else row[-1])
            self.cache[key] = table
        return table

    @cached_property
    def values(self) -> Values:
        """Exact means on the wires: of one cycle, or of the whole clip while one plays."""
        return self._means(sensed=False)

    @cached_property
    def sensed(self) -> Values:
        """As `values`, of what reaches the sensors."""
        return self._means(sensed=True)

    def _means(self, sensed: bool) -> Values:
        if self.clip is not None:
            return self._clip_means(self.clip, sensed)
        v, i = self.lines("voltage", sensed), self.lines("current", sensed)
        return self._values(v, i, v[:, 0], i[:, 0], _mean_product_of_lines, sensed)

    def _values(
        self,
        v: Any,
        i: Any,
        v1: Complexes,
        i1: Complexes,
        mean: Callable[[Any, Any], Floats],
        sensed: bool,
    ) -> Values:
        noise_v2, noise_i2 = (
            np.array([self.noise(name, p, sensed) ** 2 for p in range(len(self.v))])
            for name in ("voltage", "current")
        )
        v2, i2, first = mean(v, v), mean(i, i), v1 * i1.conj()
        between, neutral = v - np.roll(v, -1, axis=0), np.sum(i, axis=0, keepdims=True)
        return Values(
            frequency=self.frequency,
            v2=v2 + noise_v2,
            i2=i2 + noise_i2,
            v1=np.abs(v1),
            i1=np.abs(i1),
            vh2=np.maximum(v2 - np.abs(v1) ** 2, 0.0),
            ih2=np.maximum(i2 - np.abs(i1) ** 2, 0.0),
            p=mean(v, i),
            p1=first.real,
            q=first.imag,
            s=np.sqrt((v2 + noise_v2) * (i2 + noise_i2)),
            u2=mean(between, between),
            n2=float(mean(neutral, neutral)[0]),
        )

    def _clip_means(self, clip: Clip, sensed: bool) -> Values:
        phases = len(self.v)
        t = clip.start + np.arange(clip.length + 1) / clip.rate_hz
        # The last step ends in the next round or in the held sample, never in the next segment.
        waves = {}
        for name in ("voltage", "current"):
            wave = np.array([self.signal(name, p, t, sensed=sensed) for p in range(phases)])
            rows = clip.rows(name)
            if rows is not None:
                wave[:, -1] = wave[:, 0 if clip.repeat else -2]
            waves[name] = wave
        v, i = waves["voltage"], waves["current"]
        # The fundamental by correlation over the clip; exact where it holds whole cycles.
        turn = np.exp(-2j * np.pi * self.cycles(t[:-1])) * (np.sqrt(2.0) * 1j / clip.length)
        return self._values(v, i, v[:, :-1] @ turn, i[:, :-1] @ turn, _mean_product, sensed)


def _mean_product_of_lines(a: Complexes, b: Complexes) -> Floats:
    """Mean of the product of two signals given by their rms phasors."""
    mean: Floats = np.sum((a * b.conj()).real, axis=1)
    return mean


def _mean_product(a: Floats, b: Floats) -> Floats:
    """Mean of the product of two piecewise linear functions, exact."""
    ends = 2 * (a[:, :-1] * b[:, :-1] + a[:, 1:] * b[:, 1:])
    cross = a[:, :-1] * b[:, 1:] + a[:, 1:] * b[:, :-1]
    mean: Floats = np.mean(ends + cross, axis=1) / 6.0
    return mean
