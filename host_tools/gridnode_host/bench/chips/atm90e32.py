"""ATM90E32AS three-phase metering chip on SPI, at register level.

Bus, registers and side effects as the data sheet (Atmel-46003) and the application note
(Atmel-46103) tell them: frames of 32 clocks in SPI mode 3, a write that takes effect only when
CS rises after exactly 32 of them, LastSPIData, protected configuration with its CRC,
read-clear energy registers. Values come from a `Circuit`, computed when they are read.

Not modelled: temperature and current-segment compensation (registers 1A to 2F are kept and
have no effect), Rogowski and 3P3W modes, detector modes, CF, ZX and IRQ pins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from gridnode_host.bench.chips import atm90e32_registers as r
from gridnode_host.bench.chips.atm90e32_core import NOISE_MV, Core, Measured
from gridnode_host.bench.chips.atm90e32_status import Status
from gridnode_host.bench.chips.chip import Chip
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.segment import Floats, Segment
from gridnode_host.bench.sensors import Input
from gridnode_host.bench.site import Site, Spec, Wired

__all__ = ["Atm90e32", "Input"]


class Atm90e32(Chip):
    """One chip; `cs` and `transfer` are its bus. `now` is the rig time of its circuit.

    `voltage` and `current` are its inputs A, B, C (None: not connected).
    """

    def __init__(
        self,
        circuit: Circuit,
        voltage: Sequence[Input | None],
        current: Sequence[Input | None],
        *,
        temperature: Callable[[], float] = lambda: 25.0,
        seed: int = 0,
    ) -> None:
        super().__init__(circuit.now, seed, 0x90E32)
        self.registers: dict[int, int] = {}
        self.aborted = 0  # frames that were not 32 clocks long
        self._circuit = circuit
        self._core = Core(circuit, voltage, current, self.registers)
        self._temperature = temperature
        self._selected = False
        self._frame = bytearray()
        self._fetched = 0
        self._reset()

    # -- supply and faults -----------------------------------------------------------------

    def upset(self, address: int, mask: int = 1) -> None:
        """Flip bits of a configuration register, which the chip finds by its CRC."""
        with self._lock:
            self.registers[address] = self.registers.get(address, 0) ^ mask

    # -- bus -------------------------------------------------------------------------------

    def cs(self, level: int) -> None:
        """Chip select: low begins a frame, high ends it and makes a write take effect."""
        with self._lock:
            if not level:
                if not self._selected:
                    self._frame.clear()
                self._selected = True
                return
            if self._selected and self._answers():
                if len(self._frame) == 4:
                    self._commit()
                elif self._frame:
                    self.aborted += 1
            self._selected = False

    def transfer(self, data: bytes) -> bytes:
        """Clock bytes through; what comes out in the frame's second half is the register."""
        with self._lock:
            if not self._selected or not self._answers():
                return b"\xff" * len(data)
            out = bytearray()
            for byte in data:
                out.append(self._shift(byte))
            return self._on_the_wire(bytes(out), 2)

    def _shift(self, byte: int) -> int:
        position = len(self._frame)
        self._frame.append(byte)
        if position == 1 and self._frame[0] & 0x80:
            self._fetched = self._read((self._frame[0] & 0x03) << 8 | byte)
        if position in (2, 3) and self._frame[0] & 0x80:
            return self._fetched >> 8 if position == 2 else self._fetched & 0xFF
        return 0

    def _answers(self) -> bool:
        return self._clock() >= self._awake and super()._answers()

    # -- registers -------------------------------------------------------------------------

    def _reset(self, busy: float = r.POWER_ON_BUSY_S) -> None:
        now = self._now()
        self.registers.clear()
        self.registers.update(r.RESET_VALUES)
        self._awake = self._clock() + busy
        self._selected = False
        self._last_data = 0
        self._golden: int | None = None
        self._energy = dict.fromkeys(range(r.ENERGY_FIRST, r.ENERGY_LAST + 1), 0.0)
        self._read_energy = dict.fromkeys(self._energy, 0)
        self._results: dict[int, int] = {}
        self._begin(now)

    def _begin(self, now: float) -> None:
        """Metering starts: nothing has been measured or counted yet."""
        self._window_end = now
        self._counted = now
        self._of_segment: tuple[Segment, tuple[float, ...], Measured] | None = None
        self._status = Status(self._core, self.registers, self._measured, now)
        self._results = {}

    def _commit(self) -> None:
        """CS has risen after 32 clocks."""
        address = (self._frame[0] & 0x03) << 8 | self._frame[1]
        if self._frame[0] & 0x80:
            if address != r.LAST_SPI_DATA:
                self._last_data = self._fetched
            if address in self._energy:
                self._energy[address] -= self._read_energy[address]
            return
        value = self._frame[2] << 8 | self._frame[3]
        self._last_data = value
        self._write(address, value)

    def _write(self, address: int, value: int) -> None:
        key = self.registers.get(r.CFG_REG_ACC_EN, 0)
        if address == r.SOFT_RESET:
            if value == r.RESET_KEY:
                self._reset(r.RESET_BUSY_S)
        elif address == r.CFG_REG_ACC_EN:
            self.registers[address] = value
            if key in (r.ACCESS_KEY, r.DIGEST_KEY) and value not in (r.ACCESS_KEY, r.DIGEST_KEY):
                self._golden = self._digest()
        elif address in (r.EMM_INT_STATE0, r.EMM_INT_STATE1):
            self._settle()
            self._status.clear(address - r.EMM_INT_STATE0, value)
        elif address == r.CRC_DIGEST:
            if key == r.DIGEST_KEY:
                self._golden = value
        elif address < r.CONFIG_END:
            if key in (r.ACCESS_KEY, r.DIGEST_KEY):
                self._configure(address, value)
        elif address in (r.EMM_INT_EN0, r.EMM_INT_EN1) or address >= 0x200:
            self.registers[address] = value

    def _configure(self, address: int, value: int) -> None:
        self._settle()  # what was before counts with the old settings
        was_on = self._metering()
        self.registers[address] = value
        self._of_segment = None
        self._status.forget()
        if self._metering() and not was_on:
            self._begin(self._now())

    def _digest(self) -> int:
        return r.crc16([self.registers.get(a, 0) for a in range(r.CONFIG_END)])

    def _read(self, address: int) -> int:
        if address == r.LAST_SPI_DATA:
            return self._last_data
        if address == r.CRC_ERR_STATUS:
            closed = self.registers.get(r.CFG_REG_ACC_EN, 0) not in (r.ACCESS_KEY, r.DIGEST_KEY)
            return int(closed and self._golden not in (None, self._digest()))
        if address == r.CRC_DIGEST:
            return self._digest()
        if address in (r.EMM_STATE0, r.EMM_STATE1):
            self._settle()
            return self._status.live[address - r.EMM_STATE0]
        if address in (r.EMM_INT_STATE0, r.EMM_INT_STATE1):
            self._settle()
            return self._status.latched[address - r.EMM_INT_STATE0]
        if r.ENERGY_FIRST <= address <= r.ENERGY_LAST:
            self._settle()
            self._read_energy[address] = int(self._energy[address])
            return self._read_energy[address] & 0xFFFF
        if r.MEASURED_FIRST <= address <= r.MEASURED_LAST:
            self._measure()
            return self._results.get(address, 0)
        return self.registers.get(address, 0)

    # -- measuring -------------------------------------------------------------------------

    def _metering(self) -> bool:
        return bool(self.registers.get(r.METER_EN, 0) & 1)

    def _measured(self, segment: Segment) -> Measured:
        known, gains = self._of_segment, self._core.gains()
        if known is not None and known[0] is segment and known[1] == gains:
            return known[2]
        measured = self._core.of(segment)
        self._of_segment = (segment, gains, measured)
        return measured

    def _settle(self) -> None:
        """Count energies and follow events up to now."""
        now = self._now()
        if not self._metering() or now <= self._counted:
            return
        pl_const = self.registers.get(r.PL_CONST_H, 0) << 16 | self.registers.get(r.PL_CONST_L, 0)
        if pl_const:
            per_ws = 450e9 / pl_const / 10.0 / 3600.0  # counts of 0.01 CF
            for segment, since, until in self._circuit.segments(self._counted, now):
                self._count(self._measured(segment), (until - since) * per_ws)
        self._status.follow(now)
        self._counted = now

    def _count(self, m: Measured, scale: float) -> None:
        get = self.registers.get
        mode = get(r.MMODE0, 0)
        included = np.array([bool(mode >> (2 - k) & 1) for k in range(3)])
        for first, reverse, power, start, absolute in (
            (0x80, 0x84, m.p, 0, bool(mode & 0x08)),
            (0x88, 0x8C, m.q, 1, bool(mode & 0x10)),
            (0x90, None, m.s, 2, False),
            (0xA0, 0xA4, m.p1, 0, bool(mode & 0x08)),
            (0xA8, 0xAC, m.ph, 0, bool(mode & 0x08)),
        ):
            if np.abs(power).sum() < get(r.P_START_TH + start, 0) * r.POWER_LSB:
                continue
            floor = get(r.P_PHASE_TH + start, 0) * r.POWER_LSB
            counted = np.where(np.abs(power) >= floor, power, 0.0)
            in_total = (np.abs(counted) if absolute else counted)[included].sum()
            for k, value in enumerate((in_total, *counted)):
                if value > 0:
                    self._energy[first + k] += value * scale
                elif reverse is not None:
                    self._energy[reverse + k] -= value * scale

    def _measure(self) -> None:
        """Refresh the measurement registers where 16 more cycles have passed."""
        if not self._metering():
            self._results = {}
            return
        now = self._now()
        frequency = self._circuit.segments(now, now)[0][0].frequency
        window = r.WINDOW_CYCLES / frequency
        passed = int((now - self._window_end) / window)
        if passed > 0:
            self._window_end += passed * window
            begin = self._window_end - window
            measured = self._core.over(begin, r.WINDOW_CYCLES, frequency)
            self._scatter(measured, window * r.SAMPLE_HZ)
            self._results = self._format(measured, frequency)

    def _scatter(self, m: Measured, samples: float) -> None:
        """What the converters' noise leaves in RMS values over so many samples."""
        for rms, mv in ((m.u, m.u_mv), (m.i, m.i_mv)):
            share = NOISE_MV / np.maximum(mv, NOISE_MV) / math.sqrt(samples)
            np.multiply(rms, 1.0 + share * self._rng.standard_normal(3), out=rms)

    def _format(self, m: Measured, frequency: float) -> dict[int, int]:
        out: dict[int, int] = {}
        mode = self.registers.get(r.MMODE0, 0)
        included = np.array([bool(mode >> (2 - k) & 1) for k in range(3)])

        def power(address: int, low: int, values: Floats) -> None:
            for k, value in enumerate((values[included].sum(), *values)):
                whole = round(value / r.POWER_LSB) & 0xFFFFFFFF
                out[address + k], out[low + k] = whole >> 16, whole & 0xFFFF

        power(0xB0, 0xC0, m.p)
        power(0xB4, 0xC4, m.q)
        power(0xB8, 0xC8, m.s)
        power(0xD0, 0xE0, m.p1)
        power(0xD4, 0xE4, m.ph)
        p_sum, s_sum = m.p[included].sum(), m.s[included].sum()
        for k, (p, s) in enumerate(zip((p_sum, *m.p), (s_sum, *m.s), strict=True)):
            factor = float(np.clip(p / s, -1, 1)) if s > 1e-3 else 0.0
            out[0xBC + k] = round(1000 * factor) & 0xFFFF
        peaks = self._peaks()
        for k in range(3):
            out[0xD9 + k], out[0xE9 + k] = _fixed(m.u[k] * 100)
            out[0xDD + k], out[0xED + k] = _fixed(m.i[k] * 1000)
            out[0xF1 + k], out[0xF5 + k] = peaks[k]
            out[0xF9 + k] = _tenths(m.u1[k], m.i1[k])
            out[0xFD + k] = _tenths(m.u1[0], m.u1[k])
        out[0xDC] = min(round(m.i_neutral * 1000), 0xFFFF)
        out[0xF8] = round(frequency * 100) if (m.u_mv > 1.0).any() else 0
        out[0xFC] = round(self._temperature()) & 0xFFFF
        return out

    def _peaks(self) -> list[tuple[int, int]]:
        """UPeak and IPeak of each phase over the peak period before the window's end."""
        period = max(self.registers.get(r.SAG_PEAK_CFG, 0) >> 8, 1) / 1000.0
        t = self._window_end - np.arange(round(period * r.SAMPLE_HZ)) / r.SAMPLE_HZ
        # Register times gain over 2^13 is the value: the gain drops out of the register.
        scale = 2.0 * math.sqrt(2.0) / r.FULL_SCALE_MV * 2**13
        u, i = (np.abs(x).max(axis=1) * scale for x in self._core.pins(t))
        return [(min(round(u[k]), 0xFFFF), min(round(i[k]), 0xFFFF)) for k in range(3)]


def _fixed(value: float) -> tuple[int, int]:
    """An RMS register and its low word, of which only bits 15:8 count; both stop at the top."""
    whole = min(round(value * 256), 0xFFFFFF)
    return whole >> 8, (whole & 0xFF) << 8


def _tenths(reference: complex, line: complex) -> int:
    """Angle by which `line` lags `reference`, 0 to 360 degrees in 0.1."""
    if not abs(reference) or not abs(line):
        return 0
    return round(math.degrees(np.angle(reference * np.conj(line))) % 360.0 * 10) % 3600


def wire(spec: Spec, site: Site) -> Wired:
    """Solder a chip with its clamps and voltage dividers to an SPI bus."""
    voltage, current, entry = site.parts.inputs(spec, NOISE_MV / spec.get("pga", 1))
    chip = Atm90e32(
        site.circuit,
        [*voltage, None, None][:3],
        [*current, None, None][:3],
        temperature=site.environment.temperature,
        seed=site.seed,
    )
    site.wiring.attach_spi(spec["spi"]["id"], spec["spi"]["cs"], chip)
    return chip, entry
