"""Metering core of the ATM90E32AS: from millivolts at its pins to the numbers in its registers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gridnode_host.bench.chips import atm90e32_registers as r
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.segment import Complexes, Floats, Segment
from gridnode_host.bench.sensors import Input

NOISE_MV = 0.02  # rms at the converter; the chip is specified from 0.12 mV
_PEAK_MV = r.FULL_SCALE_MV * math.sqrt(2.0)
_REGISTER_PER_SCALE = 2.0 * math.sqrt(2.0)  # RMS register at full scale, per unit of gain


@dataclass(frozen=True)
class Measured:
    """Values of phases A, B, C over whole cycles, in the chip's own V, A, W, var, VA."""

    u: Floats
    i: Floats
    i_neutral: float
    p: Floats
    q: Floats
    p1: Floats  # of the fundamental
    s: Floats
    u1: Complexes  # phasors of the fundamental
    i1: Complexes
    u_mv: Floats  # rms at the converter
    i_mv: Floats

    @property
    def ph(self) -> Floats:
        """Harmonic active power."""
        return self.p - self.p1


class Core:
    """Samples the circuit and applies the gains, offsets and phases that the registers hold."""

    def __init__(
        self,
        circuit: Circuit,
        voltage: Sequence[Input | None],
        current: Sequence[Input | None],
        registers: Mapping[int, int],
    ) -> None:
        self.circuit = circuit
        self._registers = registers
        self._pins: list[tuple[str, Input] | None] = [None] * 8
        for kind, first, inputs in (("current", 0, current), ("voltage", 4, voltage)):
            for k, one in enumerate(inputs):
                self._pins[first + k] = None if one is None else (kind, one)

    def pins(self, t: Floats, segment: Segment | None = None) -> tuple[Floats, Floats]:
        """Millivolts after the PGA, U and I `[3, n]`, at rig times `t`.

        With `segment`, of that stretch alone, as if it had no beginning and no end.
        """
        channels = []
        for address in (r.CHANNEL_MAP_U, r.CHANNEL_MAP_I):
            mapping = self._registers.get(address, 0)
            channels.append([self._pins[mapping >> 4 * k & 7] for k in range(3)])
        mode = self._registers.get(r.MMODE1, 0)
        u = np.array([self._pin(one, t, segment, mode) for one in channels[0]])
        i = np.array([self._pin(one, t, segment, mode) for one in channels[1]])
        return u, i

    def _pin(
        self, wired: tuple[str, Input] | None, t: Floats, segment: Segment | None, mode: int
    ) -> Floats:
        if wired is None or wired[1].phase >= self.circuit.phases:
            return np.zeros(len(t))
        kind, one = wired
        source = self.circuit if segment is None else segment
        signal = source.signal(kind, one.phase, t, transfer=one.transfer, pickup=one.pickup)
        gain = one.mv
        if kind == "current":
            number = next(k for k in range(3) if self._pins[k] is wired)
            gain *= (1, 2, 4, 4)[mode >> 2 * number & 3]
        return np.clip(signal * gain, -_PEAK_MV, _PEAK_MV)

    def gains(self) -> tuple[float, ...]:
        """mV per V and A of every pin now."""
        return tuple(0.0 if wired is None else wired[1].mv for wired in self._pins)

    def over(self, start: float, cycles: int, frequency: float) -> Measured:
        """Values of whole cycles that begin at the rig time `start`."""
        t = _grid(start, cycles, frequency)
        u, i = self.pins(t)
        return self._values(u, i, cycles, frequency)

    def of(self, segment: Segment) -> Measured:
        """Values of a stretch: of one cycle, or of the whole clip while one plays."""
        cycles = 1
        if segment.clip is not None:
            seconds = min(segment.clip.length / segment.clip.rate_hz, 2.0)
            cycles = max(1, round(seconds * segment.frequency))
            start = segment.clip.start
        else:
            start = segment.start
        u, i = self.pins(_grid(start, cycles, segment.frequency), segment)
        return self._values(u, i, cycles, segment.frequency)

    def _values(self, u: Floats, i: Floats, cycles: int, frequency: float) -> Measured:
        count = u.shape[1]
        get = self._registers.get
        per_mv = _REGISTER_PER_SCALE / r.FULL_SCALE_MV
        u_scale = [per_mv * get(r.U_GAIN + 4 * k, 0) / 100.0 for k in range(3)]
        i_scale = [per_mv * get(r.I_GAIN + 4 * k, 0) / 1000.0 for k in range(3)]
        lines_u, lines_i = _lines(u), _lines(i)
        if not get(r.MMODE0, 0) & 0x0800:  # high-pass filter on
            lines_u[:, 0] = lines_i[:, 0] = 0.0
        hertz = np.arange(lines_u.shape[1]) * (frequency / cycles)
        lines_u *= np.array(u_scale)[:, None]
        lines_i *= np.array(i_scale)[:, None]
        rms_u, rms_i = (np.sqrt(np.sum(np.abs(x) ** 2, axis=1)) for x in (lines_u, lines_i))
        rms_u = np.hypot(rms_u, NOISE_MV * np.array(u_scale))
        rms_i = np.hypot(rms_i, NOISE_MV * np.array(i_scale))
        for k in range(3):  # an offset counts 1/512 of the register's last place
            rms_u[k] = max(0.0, rms_u[k] + r.signed(get(r.U_OFFSET + 4 * k, 0)) / 51_200.0)
            rms_i[k] = max(0.0, rms_i[k] + r.signed(get(r.I_OFFSET + 4 * k, 0)) / 512_000.0)
            delay = get(r.PHI + 2 * k, 0)
            turn = np.exp(-2j * np.pi * hertz * (delay & 0xFF) * r.PHI_STEP_S)
            (lines_u if delay & 0x8000 else lines_i)[k] *= turn
        cross = lines_u * lines_i.conj()
        p, q, p1 = cross.real.sum(axis=1), cross.imag.sum(axis=1), cross[:, cycles].real
        for k in range(3):
            gain = 1.0 + r.signed(get(r.PQ_GAIN + 2 * k, 0)) / 32768.0
            p[k] = p[k] * gain + r.signed(get(r.P_OFFSET + 2 * k, 0)) * r.POWER_LSB
            q[k] = q[k] * gain + r.signed(get(r.Q_OFFSET + 2 * k, 0)) * r.POWER_LSB
            gain *= 1.0 + r.signed(get(r.P_GAIN_F + k, 0)) / 32768.0
            p1[k] = p1[k] * gain + r.signed(get(r.P_OFFSET_F + k, 0)) * r.POWER_LSB
        neutral = np.sum(i * np.array(i_scale)[:, None], axis=0)
        return Measured(
            u=rms_u,
            i=rms_i,
            i_neutral=float(np.sqrt(np.dot(neutral, neutral) / count)),
            p=p,
            q=q,
            p1=p1,
            s=rms_u * rms_i,
            u1=lines_u[:, cycles],
            i1=lines_i[:, cycles],
            u_mv=np.sqrt(np.mean(u**2, axis=1)),
            i_mv=np.sqrt(np.mean(i**2, axis=1)),
        )


def _grid(start: float, cycles: int, frequency: float) -> Floats:
    """Sample times of whole cycles, at the chip's rate to the nearest whole sample."""
    seconds = cycles / frequency
    count = max(round(seconds * r.SAMPLE_HZ), 4 * cycles)
    return start + np.arange(count) * (seconds / count)


def _lines(signal: Floats) -> Complexes:
    """rms phasors of the sines in each row, by bin."""
    lines = np.fft.rfft(signal) * (1j * math.sqrt(2.0) / signal.shape[1])
    lines[:, 0] /= math.sqrt(2.0) * 1j
    if signal.shape[1] % 2 == 0:
        lines[:, -1] /= math.sqrt(2.0)
    return np.asarray(lines)
