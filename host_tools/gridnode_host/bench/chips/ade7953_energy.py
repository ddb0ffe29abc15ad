"""Energy registers of the ADE7953: signed counts that wrap, no-load, line cycle accumulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gridnode_host.bench.chips import ade7953_registers as r
from gridnode_host.bench.chips.ade7953_core import Core, Power
from gridnode_host.bench.segment import Segment

_PER_SECOND = r.ENERGY_HZ / r.POWER_FULL_SCALE  # counts per second and count of power
_HALF, _FULL = 0x400000, 0x800000
_AMPERE_HOURS = r.POWER_FULL_SCALE / r.RMS_FULL_SCALE  # "internal scaling": not published


class Energies:
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
        self._counted = since
        self._counts = dict.fromkeys(range(r.AENERGYA, r.APENERGYB + 1), 0.0)
        self._under_way = dict(self._counts)  # of the line cycles
        self._cycles_end: float | None = None
        self._were: list[tuple[tuple[bool, ...], list[bool]] | None] = [None, None]

    def read(self, address: int) -> int:
        """Whole counts of a register."""
        return int(self._counts[address])

    def clear(self, address: int) -> None:
        """Take out the whole counts, as a read with reset does."""
        self._counts[address] -= int(self._counts[address])

    def restart(self) -> None:
        """Line cycle accumulation has been set anew."""
        self._under_way = dict.fromkeys(self._under_way, 0.0)
        self._cycles_end = None

    def follow(self, now: float) -> None:
        """Count up to the rig time `now`."""
        if now <= self._counted:
            return
        for segment, since, until in self._core.circuit.segments(self._counted, now):
            for start, end in self._pieces(segment, since, until):
                for channel in range(2):
                    power = self._core.over(channel, segment, start, end)
                    self._signs(channel, power)
                    self._add(channel, power, end - start)
                if end == self._cycles_end:
                    self._end_of_cycles()
        self._counted = now

    def _pieces(
        self, segment: Segment, since: float, until: float
    ) -> Iterator[tuple[float, float]]:
        """The stretch, cut where line cycle accumulation ends."""
        half_cycles = self._registers[r.LINECYC]
        if not half_cycles or not self._registers[r.LCYCMODE] & 0x3F:
            yield since, until
            return
        while since < until:
            if self._cycles_end is None:
                self._cycles_end = since + half_cycles / (2.0 * segment.frequency)
            end = min(self._cycles_end, until)
            yield since, end
            since = end

    def _end_of_cycles(self) -> None:
        for address, counts in self._under_way.items():
            if self._in_line_cycles(address):
                self._counts[address] = counts
        self.restart()
        self._latch(0, r.CYCEND)

    def _in_line_cycles(self, address: int) -> bool:
        return bool(self._registers[r.LCYCMODE] >> (address - r.AENERGYA) & 1)

    def _add(self, channel: int, power: Power, seconds: float) -> None:
        modes = self._registers[r.ACCMODE]
        for kind in range(3):
            if power.idle[kind]:
                continue
            address = r.AENERGYA + 2 * kind + channel
            if kind < 2:
                mode = modes >> (4 * kind + 2 * channel) & 3
            else:
                mode = modes >> (8 + channel) & 1
            counts = _accumulated(kind, mode, power) * _PER_SECOND * seconds
            if self._registers[r.LINECYC] and self._in_line_cycles(address):
                self._under_way[address] += counts
                continue
            self._counts[address] += counts
            if abs(self._counts[address]) >= _HALF:
                self._latch(channel, r.AEHF + kind)
            if not -_FULL <= self._counts[address] < _FULL:
                self._latch(channel, r.AEOF + kind)
                self._counts[address] = (self._counts[address] + _FULL) % (2 * _FULL) - _FULL

    def _signs(self, channel: int, power: Power) -> None:
        """Latch what has changed: no load begun, sign turned."""
        before = self._were[channel]
        negative = [power.active < 0, power.reactive < 0]
        if before is None:
            before = (False, False, False), [power.active < 0, power.reactive < 0]
        idle_before, negative_before = before
        for kind in range(3):
            if power.idle[kind] and not idle_before[kind]:
                self._latch(channel, r.AP_NOLOAD_BIT + kind)
        for kind in range(2):
            if power.idle[kind]:
                negative[kind] = negative_before[kind]
            elif negative[kind] != negative_before[kind]:
                self._latch(channel, r.APSIGN + kind)
        self._were[channel] = power.idle, negative


def _accumulated(kind: int, mode: int, power: Power) -> float:
    """What of an active (kind 0), reactive or apparent power counts in an accumulation mode."""
    value = power.values[kind]
    if mode == 0:
        return value
    if kind == 2:
        return power.rms * _AMPERE_HOURS
    if mode == 2:
        return abs(value)
    if kind == 0:
        return max(value, 0.0)
    return -value if power.active < 0 else value  # anti-tamper
