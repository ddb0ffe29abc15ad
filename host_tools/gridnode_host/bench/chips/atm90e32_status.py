"""Status flags of the ATM90E32AS: live in EMMState, latched in EMMIntState.

Sag and phase loss look at single samples: fewer than 3 above the threshold within the sag
period. Over-voltage and over-current are instantaneous: they drop out with the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from gridnode_host.bench.chips import atm90e32_registers as r
from gridnode_host.bench.chips.atm90e32_core import Core, Measured
from gridnode_host.bench.segment import Floats, Segment

_PEAK_MV = r.FULL_SCALE_MV * math.sqrt(2.0)
_SETTLED_S = 0.25  # into an unchanging stretch every sag period has passed
_CYCLE_S = 0.025  # a mains cycle of 40 Hz or more
_SEQUENCE_MIN_MV = 1.0  # below, a channel has no zero crossings to order
_SIGN_FLOOR = 1e-3  # of the apparent power: below, a direction is noise


class Status:
    """Follows the circuit between accesses; `live` and `latched` are (State0, State1)."""

    def __init__(
        self,
        core: Core,
        registers: Mapping[int, int],
        measured: Callable[[Segment], Measured],
        since: float,
    ) -> None:
        self._core = core
        self._registers = registers
        self._measured = measured
        self._seen = since
        self._steady: tuple[Segment, tuple[int, int], int] | None = None
        self.live = [0, 0]
        self.latched = [0, 0]

    def forget(self) -> None:
        """The configuration has changed: nothing known of the present stretch holds."""
        self._steady = None

    def follow(self, now: float) -> None:
        """Bring the flags up to the rig time `now`."""
        if now <= self._seen:
            return
        for segment, since, until in self._core.circuit.segments(self._seen, now):
            if segment.clip is None and since >= segment.start + _SETTLED_S:
                if self._steady is None or self._steady[0] is not segment:
                    state, instant = self._scan(segment, until - _CYCLE_S, until)
                    self._steady = (segment, state, instant)
                self._change(self._steady[1], self._steady[2])
            else:
                settled = until if segment.clip is not None else since + _SETTLED_S
                state, instant = self._scan(segment, since, min(until, settled))
                self._change(state, instant)
        self._seen = now

    def clear(self, register: int, mask: int) -> None:
        """Write 1 to clear, on latched State0 or State1."""
        self.latched[register] &= ~mask

    def _change(self, state: tuple[int, int], instant: int) -> None:
        for k in range(2):
            self.latched[k] |= self.live[k] ^ state[k]
            self.live[k] = state[k]
        self.latched[0] |= instant

    def _scan(self, segment: Segment, since: float, until: float) -> tuple[tuple[int, int], int]:
        """Flags at `until`, and which instantaneous or passing ones were up on the way."""
        get = self._registers.get
        period = max(get(r.SAG_PEAK_CFG, 0) & 0xFF, 1) / 1000.0
        window = round(period * r.SAMPLE_HZ)
        count = max(round((until - since) * r.SAMPLE_HZ), 1)
        t = until - np.arange(count + window - 1, -1, -1) / r.SAMPLE_HZ
        u, i = (np.abs(x) for x in self._core.pins(t))
        state0 = instant = state1 = 0
        for k in range(3):
            over = i[k][-count:] > self._level(r.OI_TH), u[k][-count:] > self._level(r.OV_TH)
            for bit, hits in zip((15 - k, 12 - k), over, strict=True):
                instant |= int(hits.any()) << bit
                state0 |= int(hits[-1]) << bit
            for bit, address in ((14 - k, r.SAG_TH), (10 - k, r.PHASE_LOSS_TH)):
                low = _starved(u[k] > self._level(address), window)
                state1 |= int(low[-1]) << bit
                if low.any() and not low.all():  # came or went on the way
                    self.latched[1] |= 1 << bit
        lost = [bool(state1 >> (10 - k) & 1) for k in range(3)]
        more0, more1 = self._slow(segment, lost)
        return (state0 | more0, state1 | more1), instant

    def _level(self, address: int) -> float:
        return self._registers.get(address, 0) * (_PEAK_MV / 0xFFFF)

    def _slow(self, segment: Segment, lost: list[bool]) -> tuple[int, int]:
        """Flags that follow measured values: sequence, neutral, no load, direction, frequency."""
        get = self._registers.get
        m = self._measured(segment)
        state0 = state1 = 0
        state0 |= _out_of_order(m.u1, np.array(lost)) << 9
        state0 |= _out_of_order(m.i1, m.i_mv < _SEQUENCE_MIN_MV) << 8
        state0 |= int(m.i_neutral * 1000.0 > get(r.IN_WARN_TH, 0xFFFF)) << 7
        sums = float(np.abs(m.p).sum()), float(np.abs(m.q).sum()), float(m.s.sum())
        for bit, offset, total in ((5, 0, sums[0]), (6, 1, sums[1]), (4, 2, sums[2])):
            state0 |= int(total < get(r.P_START_TH + offset, 0) * r.POWER_LSB) << bit
        noise = _SIGN_FLOOR * m.s
        for bit, power in ((3, m.p), (2, m.q), (1, m.p1), (0, m.ph)):
            state0 |= int(power.sum() < -noise.sum()) << bit
        for bit, power in ((7, m.q), (3, m.p)):
            state1 |= int(power.sum() < -noise.sum()) << bit
            for k in range(3):
                state1 |= int(power[k] < -noise[k]) << (bit - 1 - k)
        if not all(lost):
            hundredths = segment.frequency * 100.0
            state1 |= int(hundredths > get(r.FREQ_HI_TH, 0xFFFF)) << 15
            state1 |= int(hundredths < get(r.FREQ_LO_TH, 0)) << 11
        return state0, state1


def _starved(above: Floats, window: int) -> Floats:
    """For each sample past the first window: fewer than 3 of the last `window` are above."""
    total = np.concatenate(([0], np.cumsum(above)))
    starved: Floats = (total[window:] - total[:-window]) < 3
    return starved


def _out_of_order(lines: Floats, missing: Floats) -> int:
    """1 where all three are present and B does not follow A by about 120 degrees."""
    if missing.any() or not np.abs(lines).all():
        return 0
    step = np.degrees(np.angle(lines[1] * lines[0].conj())) % 360.0
    return int(not 180.0 < step < 300.0)
