"""Metering core of the ADE7953: from millivolts at its pins to the numbers in its registers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gridnode_host.bench.chips import ade7953_registers as r
from gridnode_host.bench.chips.metering import Inputs, Means, weighted
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.segment import Floats, Segment
from gridnode_host.bench.sensors import Input

_RMS_MV = r.FULL_SCALE_MV / math.sqrt(2.0)
NOISE_MV = 0.01  # rms, at the converters
# Without the value 0x30 in register 0x120 the chip "does not meet its performance": what that
# means is not published. Here: it reads low and is noisy, so that nobody can overlook it.
_DETUNED_GAIN = 0.99
_DETUNED_NOISE_MV = 0.2


@dataclass(frozen=True)
class Power:
    """Powers of one current channel, in counts of its registers."""

    active: float
    reactive: float
    apparent: float
    rms: float  # IRMS, which can be accumulated in place of the apparent power
    idle: tuple[bool, bool, bool]  # no load: active, reactive, apparent

    @property
    def values(self) -> tuple[float, float, float]:
        return self.active, self.reactive, self.apparent


class Core:
    """Means of the circuit with the gains, offsets and phases that the registers hold."""

    def __init__(
        self,
        circuit: Circuit,
        voltage: Input | None,
        currents: tuple[Input | None, Input | None],
        registers: Mapping[int, int],
    ) -> None:
        self.circuit = circuit
        self._registers = registers
        self._inputs = [Inputs(circuit, voltage, current) for current in currents]

    def means(self, channel: int, since: float, now: float) -> Means:
        """Means over the settling time before `now`; before `since` there was nothing."""
        start = max(since, now - r.SETTLE_S)
        means = self._inputs[channel].over(start, now, self._limits(channel), self._delay(channel))
        return weighted([(means, now - start)], r.SETTLE_S)

    def over(self, channel: int, segment: Segment, start: float, end: float) -> Power:
        """Powers over a stretch of the circuit."""
        means = self._inputs[channel].of(
            segment, start, end, self._limits(channel), self._delay(channel)
        )
        return self.power(channel, means)

    def voltage(self, means: Means) -> float:
        """VRMS."""
        return self._rms(math.sqrt(means.u2) * self._pga(r.PGA_V), r.AVGAIN, r.VRMSOS)

    def current(self, channel: int, means: Means) -> float:
        """IRMSA or IRMSB."""
        mv = math.sqrt(means.i2) * self._pga(r.PGA_IA + channel)
        return self._rms(mv, r.AIGAIN + 12 * channel, r.AIRMSOS + 12 * channel)

    def power(self, channel: int, means: Means) -> Power:
        """AWATT, AVAR and AVA, or those of channel B."""
        step = 12 * channel
        gain = r.POWER_FULL_SCALE * self._pga(r.PGA_V) * self._pga(r.PGA_IA + channel) / _RMS_MV**2
        gain *= self._ratio(r.AVGAIN + step) * self._ratio(r.AIGAIN + step) * self._tuning()
        apparent = math.sqrt(means.u2 * means.i2)
        values = [
            gain * power * self._ratio(r.AWGAIN + step + k)
            + r.signed24(self._registers[r.AWATTOS + step + k]) / 512.0
            for k, power in enumerate((means.p, means.q, apparent))
        ]
        rms = self.current(channel, means)
        return Power(values[0], values[1], values[2], rms, self._idle(values))

    def waves(self, t: Floats) -> tuple[Floats, Floats, Floats]:
        """V, IA and IB as the waveform registers have them."""
        (v, ia), (_, ib) = (
            self._inputs[channel].samples(t, self._limits(channel)) for channel in range(2)
        )
        scale = r.WAVE_FULL_SCALE / r.FULL_SCALE_MV
        return (
            v * (scale * self._pga(r.PGA_V) * self._ratio(r.AVGAIN)),
            ia * (scale * self._pga(r.PGA_IA) * self._ratio(r.AIGAIN)),
            ib * (scale * self._pga(r.PGA_IB) * self._ratio(r.BIGAIN)),
        )

    def crosses_zero(self, channel: int, means: Means) -> tuple[bool, bool]:
        """Whether the voltage and a current are strong enough to have zero crossings."""
        floor = (_RMS_MV * r.ZERO_CROSSING_FLOOR) ** 2
        return (
            means.u2 * self._pga(r.PGA_V) ** 2 > floor,
            means.i2 * self._pga(r.PGA_IA + channel) ** 2 > floor,
        )

    def _rms(self, mv: float, gain: int, offset: int) -> float:
        noise = NOISE_MV if self._registers[r.OPTIMUM] == 0x30 else _DETUNED_NOISE_MV
        raw = math.hypot(mv, noise) * (r.RMS_FULL_SCALE / _RMS_MV)
        raw *= self._ratio(gain) * self._tuning()
        return math.sqrt(max(raw**2 + r.signed24(self._registers[offset]) * 4096.0, 0.0))

    def _idle(self, values: list[float]) -> tuple[bool, bool, bool]:
        disabled = self._registers[r.DISNOLOAD]
        idle = []
        for k, value in enumerate(values):
            ratio = 1.4 * (65_536 - self._registers[r.AP_NOLOAD + k])
            below = ratio > 0 and abs(value) < r.POWER_FULL_SCALE / ratio
            idle.append(below and not disabled >> k & 1)
        return idle[0], idle[1], idle[2]

    def _tuning(self) -> float:
        return 1.0 if self._registers[r.OPTIMUM] == 0x30 else _DETUNED_GAIN

    def _ratio(self, address: int) -> float:
        return self._registers[address] / r.UNITY

    def _pga(self, address: int) -> float:
        setting = self._registers[address] & 7
        return r.PGA[setting] if setting < (6 if address == r.PGA_IA else 5) else 1.0

    def _limits(self, channel: int) -> tuple[float, float]:
        return (
            r.FULL_SCALE_MV / self._pga(r.PGA_V),
            r.FULL_SCALE_MV / self._pga(r.PGA_IA + channel),
        )

    def _delay(self, channel: int) -> float:
        return r.phase_steps(self._registers[r.PHCALA + channel]) * r.PHCAL_S


def lag_counts(means: Means, frequency: float) -> int:
    """ANGLE: time by which the current's fundamental lags the voltage's, in clock periods."""
    cycles = float(np.angle(complex(means.p1, means.q1))) / (2 * math.pi)
    return round(cycles / frequency * r.COUNTER_HZ)
