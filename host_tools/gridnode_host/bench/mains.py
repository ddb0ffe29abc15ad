"""One mains circuit of one to three phases, as a function of rig time.

The circuit is a list of changes in time. Between two of them the supply and the load stand
still (a `Segment`), so that waveform, truth and energy are exact at any time, in any order.
Watts import positive; vars are those of the fundamental, positive for an inductive load.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from gridnode_host.bench import truth
from gridnode_host.bench.segment import Clip, Floats, Segment, Transfer
from gridnode_host.bench.shapes import SHAPES
from gridnode_host.bench.supply import (
    SENSOR_FAULTS,
    SUPPLY_FAULTS,
    Event,
    Supply,
    harmonic_lines,
    number,
)

PerPhase = float | Sequence[float]
HarmonicsArg = Mapping[int, Any]

_RESIDUAL = {"dip": 0.4, "swell": 1.2, "interruption": 0.0}
_NOISE_RATE_HZ = 100_000  # white up to half of this
_KEPT_SEGMENTS = 4096
_KEPT_SECONDS = 3600.0  # of history, where there are more segments than that
_KEPT_TABLES = 4  # segments before a change whose tabulated waveforms are kept


class Clock(Protocol):
    def now(self) -> float: ...


class Circuit:
    """A supply with its load; every method may be called from any thread."""

    def __init__(
        self,
        phases: int = 1,
        clock: Clock | None = None,
        seed: int = 0,
        *,
        voltage: float = 230.0,
        frequency: float = 50.0,
        apart_deg: float = 120.0,
    ) -> None:
        """Start at `voltage` and `frequency` with 10 A resistive.

        `apart_deg` is how far each phase's voltage lags the one before: 0 makes the phases
        branches of one.
        """
        if phases not in (1, 2, 3):
            raise ValueError("phases must be 1, 2 or 3")
        self.phases = phases
        self._now = clock.now if clock is not None else lambda: 0.0
        self._lock = threading.RLock()
        self._origin = self._now()
        rng = np.random.default_rng([seed, phases])
        self._noise = rng.standard_normal(65536)
        self._noise /= math.sqrt(float(np.mean(self._noise**2)))
        self._noise_key = np.uint64(rng.integers(1, 2**62)) | np.uint64(1)
        supply = Supply.nominal(phases, voltage, frequency, apart_deg)
        segment = supply.segment(self._origin, 0.0)
        segment.imported = np.zeros(phases + 1)
        segment.exported = np.zeros(phases + 1)
        # changes[k] leads to supplies[k + 1] and segments[k + 1]
        self._changes: list[tuple[float, Callable[[Supply], Supply]]] = []
        self._supplies = [supply]
        self._timeline = ([self._origin], [segment])  # replaced as a whole: readers take no lock
        self._mark = segment.energies(self._origin)

    # -- setting ---------------------------------------------------------------------------

    def set(
        self,
        *,
        voltage: PerPhase | None = None,
        current: PerPhase | None = None,
        phase_deg: PerPhase | None = None,
        frequency: float | None = None,
        harmonics: HarmonicsArg | Sequence[HarmonicsArg] | None = None,
        voltage_harmonics: HarmonicsArg | Sequence[HarmonicsArg] | None = None,
        shape: str | None = None,
        noise_v: float | None = None,
        noise_i: float | None = None,
        at: float | None = None,
    ) -> None:
        """Change what is given, now or at the rig time `at`; None leaves it as it is.

        `voltage` (V) and `current` (A) are total rms values, harmonics included. `phase_deg`
        is how far the current's fundamental lags. Harmonics are `{order: ratio}` or
        `{order: (ratio, degrees)}` of their own fundamental, so that a shape keeps when
        `phase_deg` moves. `shape` names a current shape of `shapes.SHAPES` and sets
        `harmonics` and (unless given) `phase_deg`. Noise is white, V and A rms, on top.
        Values per phase come as a sequence. The waveform's phase is continuous throughout.
        Raises ValueError for values that no supply can have.
        """
        if shape is not None:
            if shape not in SHAPES:
                raise ValueError(f"shape must be one of {', '.join(SHAPES)}, not {shape!r}")
            lag, harmonics = SHAPES[shape]()
            phase_deg = lag if phase_deg is None else phase_deg
        new: dict[str, Any] = {}
        if frequency is not None:
            new["frequency"] = number("frequency", frequency, 1.0, 1000.0)
        for name, value, low in (
            ("voltage", voltage, 0.0),
            ("current", current, 0.0),
            ("phase_deg", phase_deg, -360.0),
        ):
            if value is not None:
                new[name] = tuple(number(name, x, low, 1e6) for x in self._each(value))
        for name, orders in (("harmonics", harmonics), ("voltage_harmonics", voltage_harmonics)):
            if orders is not None:
                maps = [orders] * self.phases if isinstance(orders, Mapping) else list(orders)
                if len(maps) != self.phases:
                    raise ValueError(f"{name}: {self.phases} phases, {len(maps)} given")
                new[name] = tuple(harmonic_lines(name, one) for one in maps)
        for name, value in (("noise_v", noise_v), ("noise_i", noise_i)):
            if value is not None:
                new[name] = number(name, value, 0.0, 1e6)
        self._change(at, lambda supply: replace(supply, **new))

    def play(
        self,
        *,
        voltage: Any = None,
        current: Any = None,
        rate_hz: float,
        start: float | None = None,
        repeat: bool = False,
    ) -> float:
        """Play sampled volts and/or amperes, linear in between; return the end in rig time.

        Arrays are `[n]` for one phase, `[phases, n]` otherwise. After the last sample the
        set values return, unless `repeat`, which goes on until `stop`. During a clip `truth`
        tells the means over the whole clip.
        """
        arrays = [self._samples(a) if a is not None else None for a in (voltage, current)]
        lengths = {a.shape[1] for a in arrays if a is not None}
        if len(lengths) != 1 or not min(lengths) > 1:
            raise ValueError("voltage and current must be of one length of at least 2 samples")
        rate_hz = number("rate_hz", rate_hz, 1e-3, 1e9)
        start = self._at(start)
        end = math.inf if repeat else start + min(lengths) / rate_hz
        clip = Clip(start, rate_hz, arrays[0], arrays[1], repeat)
        self._change(start, lambda supply: replace(supply, clip=clip))
        if not repeat:
            self._change(
                end, lambda supply: replace(supply, clip=None) if supply.clip is clip else supply
            )
        return end

    def stop(self, at: float | None = None) -> None:
        """End the clip that is playing."""
        self._change(at, lambda supply: replace(supply, clip=None))

    def event(
        self,
        kind: str,
        residual: float | None = None,
        *,
        start: float | None = None,
        cycles: float | None = None,
        duration: float | None = None,
        phase: int | None = None,
    ) -> tuple[float, float]:
        """Schedule a dip, swell or interruption; return its start and end in rig time.

        `residual` is what is left of the voltage (0.4 is a dip to 40 %). The load follows as
        a constant impedance. `phase` is 1, 2 or 3; None means all.
        """
        if kind not in _RESIDUAL:
            raise ValueError(f"kind must be one of {', '.join(_RESIDUAL)}, not {kind!r}")
        if (cycles is None) == (duration is None):
            raise ValueError("give either cycles or duration")
        factor = number("residual", _RESIDUAL[kind] if residual is None else residual, 0.0, 10.0)
        start = self._at(start)
        if duration is None:
            assert cycles is not None  # the check above
            duration = cycles / self._at_time(start).frequency
        end = start + number("duration", duration, 0.0, 1e9)
        event = Event(tuple(self._indices(phase)), factor)

        def over(supply: Supply) -> Supply:
            return replace(supply, events=tuple(e for e in supply.events if e is not event))

        self._change(start, lambda supply: replace(supply, events=(*supply.events, event)))
        self._change(end, over)
        return start, end

    def fault(self, name: str, phase: int | None = None, at: float | None = None) -> None:
        """Break something: see SENSOR_FAULTS and SUPPLY_FAULTS; `phase` None means all.

        `ct_swapped` exchanges the clamp of `phase` with that of the next one.
        """
        if name not in SENSOR_FAULTS + SUPPLY_FAULTS:
            raise ValueError(f"no such fault: {name}")
        if name == "ct_swapped" and self.phases == 1:
            raise ValueError("ct_swapped needs more than one phase")
        if name == "ct_swapped" and phase is None:
            phase = 1
        new = {(name, index) for index in self._indices(phase)}
        self._change(at, lambda supply: replace(supply, faults=supply.faults | new))

    def clear(self, name: str, phase: int | None = None, at: float | None = None) -> None:
        """Repair what `fault` broke."""
        gone = {(name, index) for index in self._indices(phase)}
        self._change(at, lambda supply: replace(supply, faults=supply.faults - gone))

    # -- what is on the wires --------------------------------------------------------------

    def waveform(self, t: Any) -> tuple[Floats, Floats]:
        """Volts and amperes on the wires, `[phases, n]` each, at the rig times `t`."""
        t = np.atleast_1d(np.asarray(t, dtype=np.float64))
        v, i = (
            np.array([self.signal(name, p, t, sensed=False) for p in range(self.phases)])
            for name in ("voltage", "current")
        )
        return v, i

    def neutral(self, t: Any) -> Floats:
        """Amperes in the neutral: the sum of the phases."""
        total: Floats = np.sum(self.waveform(t)[1], axis=0)
        return total

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
        """One `voltage` or `current` at the times `t`, as its sensor gets it.

        `phase` counts from 0. `transfer` is the sensor's linear response, `pickup` what that of
        a current sees of its phase's voltage, A per V.
        """
        how: dict[str, Any] = {"transfer": transfer, "sensed": sensed, "pickup": pickup}
        starts, segments = self._timeline
        first = max(bisect_right(starts, float(t.min())) - 1, 0)
        last = max(bisect_right(starts, float(t.max())) - 1, 0)
        if first == last:
            out = segments[first].signal(quantity, phase, t, **how)
            noise = segments[first].noise(quantity, phase, sensed)
            return out + noise * self._noise_at(t, quantity, phase) if noise else out
        out = np.empty(len(t))
        where = np.clip(np.searchsorted(starts, t, side="right") - 1, first, last)
        for index in range(first, last + 1):
            mask = where == index
            if mask.any():
                out[mask] = segments[index].signal(quantity, phase, t[mask], **how)
        levels = [segment.noise(quantity, phase, sensed) for segment in segments[: last + 1]]
        if any(levels):
            out += np.array(levels)[where] * self._noise_at(t, quantity, phase)
        return out

    def supply(self) -> Supply:
        """What is set now."""
        with self._lock:
            return self._supplies[max(bisect_right(self._timeline[0], self._now()) - 1, 0)]

    def segments(self, start: float, end: float) -> list[tuple[Segment, float, float]]:
        """The stretches between two rig times: `(segment, from, to)`."""
        starts, segments = self._timeline
        index = max(bisect_right(starts, start) - 1, 0)
        ends = [*starts[index + 1 :], math.inf]
        out = []
        for segment, until in zip(segments[index:], ends, strict=True):
            out.append((segment, start, min(until, end)))
            if until >= end:
                break
            start = until
        return out

    # -- truth -----------------------------------------------------------------------------

    def now(self) -> float:
        """Rig time, s."""
        return self._now()

    def mark(self) -> None:
        """Let `truth` count energies from now."""
        self._mark = self._energies(self._now())

    def truth(self, at: float | None = None, over: float = 0.0) -> dict[str, Any]:
        """What a perfect meter would report at the rig time `at` (None: now).

        `over` seconds before `at` are averaged as a report does it (rms as the root of the
        mean of squares, powers as means); 0 tells the values of the moment. Names and units
        are those of the report. Values that do not exist (power factor without current) are
        None. Energies run since `mark`.
        """
        at = self._now() if at is None else at
        if over > 0:
            values = truth.averaged(self.segments(at - over, at))
        else:
            values = self._at_time(at).values
        imported, exported = (
            until - since for until, since in zip(self._energies(at), self._mark, strict=True)
        )
        return truth.report(values, imported, exported)

    def _energies(self, t: float) -> tuple[Floats, Floats]:
        return self._at_time(t).energies(t)

    # -- the list of changes ---------------------------------------------------------------

    def _at(self, at: float | None) -> float:
        """History cannot be changed: a time in the past means now."""
        now = self._now()
        if at is None:
            return now
        if not math.isfinite(at):
            raise ValueError("a time must be finite")
        return max(at, now)

    def _at_time(self, t: float) -> Segment:
        starts, segments = self._timeline
        return segments[max(bisect_right(starts, t) - 1, 0)]

    def _change(self, at: float | None, patch: Callable[[Supply], Supply]) -> None:
        with self._lock:
            now, when = self._now(), self._at(at)
            index = bisect_right([time for time, _ in self._changes], when)
            self._changes.insert(index, (when, patch))
            supplies = self._supplies[: index + 1]
            segments = self._timeline[1][: index + 1]
            for segment in segments[:-_KEPT_TABLES]:
                segment.cache.clear()
            for time, change in self._changes[index:]:
                supplies.append(change(supplies[-1]))
                segments.append(supplies[-1].follow(segments[-1], time))
            starts = [segment.start for segment in segments]
            drop = 0
            if len(segments) > _KEPT_SEGMENTS:
                drop = max(bisect_right(starts, now - _KEPT_SECONDS) - 1, 0)
            del self._changes[:drop], supplies[:drop]
            self._supplies = supplies
            self._timeline = (starts[drop:], segments[drop:])

    def _noise_at(self, t: Floats, quantity: str, phase: int) -> Floats:
        """White noise of 1 rms that is a function of time, the same at every reading."""
        stream = 2 * phase + (quantity == "current")
        slot = np.floor((t - self._origin) * _NOISE_RATE_HZ).astype(np.int64).view(np.uint64)
        mixed = (slot * np.uint64(6) + np.uint64(stream)) * self._noise_key
        mixed ^= mixed >> np.uint64(31)
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        return self._noise[(mixed >> np.uint64(48)).astype(np.int64)]

    # -- arguments -------------------------------------------------------------------------

    def _each(self, value: PerPhase) -> list[float]:
        values = [value] * self.phases if np.ndim(value) == 0 else list(value)  # type: ignore
        if len(values) != self.phases:
            raise ValueError(f"{self.phases} phases, {len(values)} values")
        return [float(v) for v in values]  # type: ignore[arg-type]

    def _indices(self, phase: int | None) -> range:
        if phase is None:
            return range(self.phases)
        if phase not in range(1, self.phases + 1):
            raise ValueError(f"phase must be 1 to {self.phases}")
        return range(phase - 1, phase)

    def _samples(self, array: Any) -> Floats:
        samples = np.array(array, dtype=np.float64, ndmin=2)
        if samples.shape[0] != self.phases or samples.ndim != 2:
            raise ValueError(f"an array of {self.phases} rows is needed, one per phase")
        if not np.isfinite(samples).all():
            raise ValueError("samples must be finite")
        return samples
