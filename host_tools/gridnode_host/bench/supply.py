"""What is set on a circuit (supply, load, events, faults), and the segment that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridnode_host.bench.segment import Clip, Complexes, Floats, Segment

# What a technician can get wrong, and what breaks: on the sensors' side of the wires ...
SENSOR_FAULTS = ("ct_open", "ct_reversed", "ct_swapped", "voltage_lost")
# ... and on the wires themselves.
SUPPLY_FAULTS = ("neutral_lost",)

HIGHEST_ORDER = 400


@dataclass(frozen=True)
class Event:
    """A dip, swell or interruption that is on: the voltage's ratio that is left."""

    phases: tuple[int, ...]
    residual: float


@dataclass(frozen=True)
class Supply:
    """Settings of a circuit; tuples have one entry per phase, phases count from 0."""

    frequency: float
    voltage: tuple[float, ...]
    current: tuple[float, ...]
    phase_deg: tuple[float, ...]
    harmonics: tuple[dict[int, complex], ...]
    voltage_harmonics: tuple[dict[int, complex], ...]
    noise_v: float = 0.0
    noise_i: float = 0.0
    events: tuple[Event, ...] = ()
    faults: frozenset[tuple[str, int]] = frozenset()
    clip: Clip | None = None
    apart_deg: float = 120.0  # L2 follows L1, L3 follows L2

    @classmethod
    def nominal(cls, phases: int, voltage: float, frequency: float, apart_deg: float) -> Supply:
        """10 A resistive at V and Hz; each phase lags the one before by `apart_deg`."""
        none: tuple[dict[int, complex], ...] = ({},) * phases
        volts, amperes, lag = (voltage,) * phases, (10.0,) * phases, (0.0,) * phases
        return cls(frequency, volts, amperes, lag, none, none, apart_deg=apart_deg)

    def segment(self, start: float, theta: float) -> Segment:
        """The stretch that begins at `start` with L1's voltage at `theta` cycles."""
        count = len(self.voltage)
        shift = np.arange(count) * math.radians(self.apart_deg)
        lag = shift + np.radians(self.phase_deg)
        maps = self.harmonics + self.voltage_harmonics
        orders = np.array(sorted({1}.union(*maps)), dtype=np.int64)
        v = _lines(self.voltage, self.voltage_harmonics, orders, shift)
        i = _lines(self.current, self.harmonics, orders, lag)
        left = np.ones(count)
        for event in self.events:
            left[list(event.phases)] *= event.residual
        wires_v, wires_i = np.diag(left), np.diag(left)
        if any(name == "neutral_lost" for name, _ in self.faults):
            shifted, ratio = _without_neutral(v[:, 0] * left, i[:, 0] * left)
            wires_v, wires_i = shifted @ wires_v, np.diag(ratio) @ wires_i
        clip = self.clip
        if clip is not None:
            clip = replace(
                clip,
                voltage=None if clip.voltage is None else wires_v @ clip.voltage,
                current=None if clip.current is None else wires_i @ clip.current,
            )
        return Segment(
            start=start,
            theta=theta,
            frequency=self.frequency,
            orders=orders,
            v=wires_v @ v,
            i=wires_i @ i,
            noise_v=self.noise_v,
            noise_i=self.noise_i,
            sense_v=self._sense("voltage"),
            sense_i=self._sense("current"),
            clip=clip,
        )

    def follow(self, before: Segment, start: float) -> Segment:
        """The stretch after `before`, continuous in phase and energy."""
        segment = self.segment(start, float(before.cycles(start)))
        segment.imported, segment.exported = before.energies(start)
        return segment

    def _sense(self, quantity: str) -> Floats:
        """Matrix from the wires to the sensors of one quantity."""
        count = len(self.voltage)
        matrix = np.eye(count)
        for name, phase in sorted(self.faults):
            if quantity == "voltage" and name == "voltage_lost":
                matrix[phase] = 0.0
            if quantity == "current" and name == "ct_swapped":
                other = (phase + 1) % count
                matrix[[phase, other]] = matrix[[other, phase]]
        if quantity == "current":
            for name, phase in self.faults:
                if name == "ct_reversed":
                    matrix[phase] *= -1.0
                elif name == "ct_open":
                    matrix[phase] = 0.0
        return matrix


def _lines(
    rms: Sequence[float],
    harmonics: Sequence[Mapping[int, complex]],
    orders: NDArray[np.int64],
    lag: Floats,
) -> Complexes:
    """rms phasors `[phases, orders]`; `lag` in radians of the fundamental moves the shape."""
    lines = np.zeros((len(rms), len(orders)), dtype=np.complex128)
    for phase, ratios in enumerate(harmonics):
        first = rms[phase] / math.sqrt(1.0 + sum(abs(r) ** 2 for r in ratios.values()))
        lines[phase] = [first * (1.0 if h == 1 else ratios.get(int(h), 0.0)) for h in orders]
    return lines * np.exp(-1j * np.outer(lag, orders))


def _without_neutral(v: Complexes, i: Complexes) -> tuple[Floats, Floats]:
    """Star point adrift: matrix on the voltages, and what is left of each current.

    Loads count as resistances; a phase alone has no return path and carries nothing.
    """
    count = len(v)
    admittance = np.divide(np.abs(i), np.abs(v), out=np.zeros(count), where=np.abs(v) > 0)
    total = float(np.sum(admittance))
    share = admittance / total if total > 0 else np.full(count, 1.0 / count)
    matrix = np.eye(count) - np.outer(np.ones(count), share)
    shifted = np.abs(matrix @ v)
    return matrix, np.divide(shifted, np.abs(v), out=np.zeros(count), where=np.abs(v) > 0)


def number(name: str, value: Any, low: float, high: float) -> float:
    """A finite number within limits; raises ValueError."""
    checked = float(value)
    if not low <= checked <= high:  # also false for NaN
        raise ValueError(f"{name} must be {low:g} to {high:g}, not {checked}")
    return checked


def harmonic_lines(name: str, ratios: Mapping[int, Any]) -> dict[int, complex]:
    """`{order: ratio}` or `{order: (ratio, degrees)}` as complex ratios; raises ValueError."""
    out = {}
    for order, given in ratios.items():
        if order != int(order) or not 2 <= order <= HIGHEST_ORDER:
            raise ValueError(f"{name}: an order must be 2 to {HIGHEST_ORDER}, not {order}")
        ratio, degrees = given if isinstance(given, Sequence) else (given, 0.0)
        ratio = number(f"{name} {order}", ratio, 0.0, 100.0)
        out[int(order)] = ratio * complex(np.exp(1j * math.radians(degrees)))
    return out
