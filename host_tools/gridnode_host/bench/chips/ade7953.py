"""ADE7953 single-phase metering chip with two currents, on I2C or SPI, at register level.

Facts: data sheet Rev. B and AN-1118 (Pfannex/ADE7953_Breakoutboard `_Datasheet/`). Registers of
8, 16 and 24/32 bits by their address, the interface lock, the key pair for register 0x120, what
was done last, write protection, the configuration checksum, read-with-reset, latched status.
Values are means over the settling time of 200 ms before the read.

Decided here, where the data sheet is silent:
* without 0x30 in register 0x120 all values are 1 % low and noisy (see `ade7953_core`);
* an access with other than the register's number of bytes is not one: it changes nothing, and
  nor does a read that ends early;
* reading LAST_OP, LAST_ADD or LAST_RWDATA leaves them as they are;
* a sag that lasts sets its bit again as soon as that is cleared;
* ANGLE is positive where the current lags; Period and ANGLE keep their values without zero
  crossings (ANGLE of a current without any is 0).

Not modelled: UART, the pins (CF, ZX, REVP, IRQ), Rogowski integrators, switching the high-pass
filter off, the bandwidth of 1.23 kHz, PFMODE (power factor from line cycles).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridnode_host.bench.chips import ade7953_registers as r
from gridnode_host.bench.chips.ade7953_core import NOISE_MV, Core, Power, lag_counts
from gridnode_host.bench.chips.ade7953_energy import Energies
from gridnode_host.bench.chips.ade7953_events import Events
from gridnode_host.bench.chips.chip import Chip
from gridnode_host.bench.chips.metering import Means
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.sensors import Input
from gridnode_host.bench.site import Site, Spec
from gridnode_host.bench.wiring import Nack

I2C_ADDRESS = 0x38
READ, WRITE = 0x35, 0xCA  # LAST_OP
SPI_READ = 0x80
_VERSION = 0x03
_KEY = 0xAD
_NOTHING_DONE = (0, 0)
_JITTER = 3e-5  # of a reading, from one update to the next
_POWER_JITTER = 1.0  # counts
_PEAK_OF = {r.VPEAK: 0, r.RSTVPEAK: 0, r.IAPEAK: 1, r.RSTIAPEAK: 1, r.IBPEAK: 2, r.RSTIBPEAK: 2}
_STATUS_OF = {r.IRQSTATA: 0, r.RSTIRQSTATA: 0, r.IRQSTATB: 1, r.RSTIRQSTATB: 1}
_IDENTITY = (r.VERSION, r.AP_NOLOAD, r.VAR_NOLOAD)  # what tells this chip from another


class Ade7953(Chip):
    """One chip; `write` and `read` are its I2C face, `cs` and `transfer` its SPI face."""

    faults = (*Chip.faults, "wrong_id")

    def __init__(
        self,
        circuit: Circuit,
        voltage: Input | None,
        currents: tuple[Input | None, Input | None],
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(circuit.now, seed, 0xADE7953)
        self.registers: dict[int, int] = {}
        self.aborted = 0  # accesses of a wrong length
        self._circuit = circuit
        self._core = Core(circuit, voltage, currents, self.registers)
        self._reset()

    def upset(self, address: int, mask: int = 1) -> None:
        """Flip bits of a configuration register, which the checksum tells."""
        with self._lock:
            self._change(address, self.registers[address] ^ mask)

    # -- I2C -------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """The address of a register, and its new value unless a read follows."""
        with self._lock:
            self._acknowledge()
            if len(data) >= 2:
                self._pointer = data[0] << 8 | data[1]
            if len(data) > 2:
                self._write(self._pointer, data[2:], "i2c")
            elif len(data) == 1:
                self.aborted += 1

    def read(self, n: int) -> bytes:
        """The register that the last write has pointed to."""
        with self._lock:
            self._acknowledge()
            data = self._fetch(self._pointer)
            if n < len(data):
                self.aborted += 1
            elif data:
                self._was_read(self._pointer, data)
            return self._on_the_wire(data[:n].ljust(n, b"\xff"))

    def _acknowledge(self) -> None:
        if self.stuck:
            raise TimeoutError("the data line is held low")
        if not self.present or self._locked not in (None, "i2c"):
            raise Nack

    # -- SPI -------------------------------------------------------------------------------

    def cs(self, level: int) -> None:
        """Chip select: low begins an access, high ends it."""
        with self._lock:
            if not level:
                self._selected = True
                self._frame.clear()
                return
            if self._selected and self._spi_answers() and len(self._frame) > 3:
                address, data = self._spi_address(), bytes(self._frame[3:])
                if not self._frame[2] & SPI_READ:
                    self._write(address, data, "spi")
                elif len(data) < len(self._answer):
                    self.aborted += 1
                elif self._answer:
                    self._was_read(address, self._answer)
            self._selected = False

    def transfer(self, data: bytes) -> bytes:
        """Clock bytes through: address, direction, value."""
        with self._lock:
            if not self._selected or not self._spi_answers():
                return b"\xff" * len(data)
            out = bytearray()
            for byte in data:
                position = len(self._frame) - 3
                self._frame.append(byte)
                if position == -1:
                    reading = byte & SPI_READ
                    self._answer = self._fetch(self._spi_address()) if reading else b""
                out.append(self._answer[position] if 0 <= position < len(self._answer) else 0)
            return self._on_the_wire(bytes(out), max(len(self._frame) - 3, 1))

    def _spi_address(self) -> int:
        return self._frame[0] << 8 | self._frame[1]

    def _spi_answers(self) -> bool:
        return self._answers() and self._locked in (None, "spi")

    # -- registers -------------------------------------------------------------------------

    def _answers(self) -> bool:
        return super()._answers() and self._clock() >= self._awake

    def _reset(self) -> None:
        now = self._clock()
        self.registers.clear()
        self.registers.update(r.RESET_VALUES)
        self._awake = now + r.START_S
        self._locked: str | None = None
        self._pointer = 0
        self._selected = False
        self._frame = bytearray()
        self._answer = b""
        self._last_op, self._last_address = _NOTHING_DONE
        self._last_data = {1: 0, 2: 0, 3: 0}
        self._written = 0  # the register of the access before, if that was a write
        self._open = False  # register 0x120 can be written now
        self._latched = [1 << r.RESET, 0]
        self._kept = {r.PERIOD: 0, r.ANGLE_A: 0, r.ANGLE_B: 0}
        self._energies = Energies(self._core, self.registers, self._latch, self._awake)
        self._events = Events(self._core, self.registers, self._latch, self._awake)
        self._measured_at = -1
        self._measured: dict[int, int] = {}

    def _latch(self, channel: int, bit: int) -> None:
        self._latched[channel] |= 1 << bit

    def _settle(self) -> None:
        """Count energies and follow events up to now, with the settings of until now."""
        now = self._now()
        self._energies.follow(now)
        self._events.follow(now)
        self._latch(0, r.WSMP)

    def _fetch(self, address: int) -> bytes:
        """A register's bytes; none where there is no register."""
        size = r.width(address)
        key = r.canonical(address)
        value = self._value(address, key)
        if value is None:
            return b"\xff" * size
        if self._has("wrong_id") and key in _IDENTITY:
            value ^= 0x5A
        if size == 4 and key in r.SIGNED:
            value = r.signed24(value)
        return (value & ((1 << 8 * size) - 1)).to_bytes(size, "big")

    def _value(self, address: int, key: int) -> int | None:
        if address in r.LAST_RWDATA:
            return self._last_data[min(r.LAST_RWDATA[address], 3)]
        if key in (r.LAST_OP, r.LAST_ADD):
            return self._last_op if key == r.LAST_OP else self._last_address
        if key == r.VERSION:
            return _VERSION
        if key == r.CRC:
            return self._checksum()
        if r.AENERGYA <= key <= r.APENERGYB:
            self._settle()
            return self._energies.read(key) & 0xFFFFFF
        if key in _STATUS_OF:
            self._settle()
            return self._latched[_STATUS_OF[key]]
        if key in _PEAK_OF:
            self._settle()
            return self._events.peaks[_PEAK_OF[key]]
        if key in self.registers:
            live = self._measure()[key] if key == r.ACCMODE else 0
            return self.registers[key] | live
        return self._measure().get(key)

    def _was_read(self, address: int, data: bytes) -> None:
        """All of a register's bytes have gone out."""
        key = r.canonical(address)
        if self.registers[r.LCYCMODE] & 0x40 and not self._has("frozen"):
            if r.AENERGYA <= key <= r.APENERGYB:
                self._energies.clear(key)
            elif key in (r.RSTVPEAK, r.RSTIAPEAK, r.RSTIBPEAK):
                self._events.peaks[_PEAK_OF[key]] = 0
            elif key in (r.RSTIRQSTATA, r.RSTIRQSTATB):
                self._latched[_STATUS_OF[key]] = 0
        self._done(READ, address, data)

    def _write(self, address: int, data: bytes, face: str) -> None:
        size, key = r.width(address), r.canonical(address)
        protected = self.registers[r.WRITE_PROTECT] >> min(size - 1, 2) & 1
        if len(data) != size or (protected and key != r.WRITE_PROTECT):
            self.aborted += 1
            return
        value = int.from_bytes(data, "big") & 0xFFFFFF
        was_open, before = self._open, self._written
        self._done(WRITE, address, data)
        self._open = key == r.UNLOCK and value == _KEY
        if key in r.READ_ONLY or key not in self.registers:
            return
        if key == r.CONFIG:
            if value & 0x80:
                self._reset()
                return
            if not value & 0x8000 and self._locked is None:
                self._locked = face
        if key == r.OPTIMUM and not was_open:
            return
        if key in (r.CF1DEN, r.CF2DEN) and before != key:
            return  # takes two writes in succession
        if key == r.ACCMODE:
            value &= 0x3FF
        if key == r.IRQENA:
            value |= 1 << r.RESET
        self._change(key, value)

    def _done(self, operation: int, address: int, data: bytes) -> None:
        self._open = False
        self._written = r.canonical(address) if operation == WRITE else 0
        if address in (r.LAST_OP, r.LAST_ADD) or address in r.LAST_RWDATA:
            return
        self._last_op, self._last_address = operation, address
        self._last_data[min(len(data), 3)] = int.from_bytes(data, "big") & 0xFFFFFF

    def _change(self, key: int, value: int) -> None:
        self._settle()
        before = self._checksum()
        self.registers[key] = value
        if key in (r.LINECYC, r.LCYCMODE):
            self._energies.restart()
        if before not in (self._checksum(), 0xFFFFFFFF):
            self._latch(0, r.CRC_CHANGED)
        self._measured_at = -1

    def _checksum(self) -> int:
        """The checksum; it is not computed until CONFIG bit 8 is set."""
        if not self.registers[r.CONFIG] & 0x100:
            return 0xFFFFFFFF
        changed = [self.registers[key] ^ r.RESET_VALUES[key] for key in r.CHECKED]
        changed[r.CHECKED.index(r.CONFIG)] &= ~0x100
        return r.checksum(changed)

    # -- measuring -------------------------------------------------------------------------

    def _measure(self) -> dict[int, int]:
        """The measured registers as of the newest update."""
        now = self._now()
        update = int(now * r.UPDATE_HZ)
        if update != self._measured_at:
            self._measured_at = update
            self._measured = self._format(now)
        return self._measured

    def _format(self, now: float) -> dict[int, int]:
        core = self._core
        means = [core.means(channel, self._awake, now) for channel in range(2)]
        powers = [core.power(channel, means[channel]) for channel in range(2)]
        random = iter(self._rng.standard_normal(9))

        def jittered(value: float, floor: float = 0.0) -> float:
            return value + (_JITTER * value + floor) * float(next(random))

        out: dict[int, int] = {}
        for channel in range(2):
            out[r.IRMSA + channel] = _unsigned(jittered(core.current(channel, means[channel])))
            for first, value in zip(
                (r.AWATT, r.AVAR, r.AVA), powers[channel].values, strict=True
            ):
                out[first + channel] = _twos_complement(jittered(value, _POWER_JITTER))
            out[r.PFA + channel] = _power_factor(powers[channel])
        out[r.VRMS] = _unsigned(jittered(core.voltage(means[0])))
        for address, wave in zip((r.V, r.IA, r.IB), core.waves(np.array([now])), strict=True):
            out[address] = _twos_complement(float(wave[0]))
        self._time(now, means)
        out |= self._kept
        out[r.ACCMODE] = self._live(powers)
        return out

    def _time(self, now: float, means: list[Means]) -> None:
        """Period and angles, where there are zero crossings to time."""
        frequency = self._circuit.segments(now, now)[0][0].frequency
        if now < self._awake + r.PERIOD_SETTLE_S or not self._core.crosses_zero(0, means[0])[0]:
            return
        self._kept[r.PERIOD] = min(round(r.COUNTER_HZ / frequency) - 1, 0xFFFF)
        for channel in range(2):
            crosses = self._core.crosses_zero(channel, means[channel])[1]
            lag = lag_counts(means[channel], frequency) if crosses else 0
            self._kept[r.ANGLE_A + channel] = lag & 0xFFFF

    def _live(self, powers: list[Power]) -> int:
        """The bits of ACCMODE that follow the powers."""
        modes = self.registers[r.ACCMODE]
        bits = 0
        for channel, power in enumerate(powers):
            active, reactive, apparent = power.idle
            bits |= (active | apparent << 1 | reactive << 2) << (16 + 3 * channel)
            if not active and not modes >> 2 * channel & 3:
                bits |= (power.active < 0) << (10 + channel)
            if not reactive and not modes >> (4 + 2 * channel) & 3:
                bits |= (power.reactive < 0) << (12 + channel)
        return bits


def _power_factor(power: Power) -> int:
    active, reactive, apparent = power.idle
    if apparent or power.apparent <= 0:
        return 0x7FFF
    if active:
        return 0
    sign = power.active if reactive else power.reactive
    factor = min(abs(power.active) / power.apparent, 1.0)
    return min(round(factor * 0x8000), 0x7FFF) if sign >= 0 else -round(factor * 0x8000) & 0xFFFF


def _unsigned(value: float) -> int:
    return min(max(round(value), 0), 0xFFFFFF)


def _twos_complement(value: float) -> int:
    return min(max(round(value), -0x800000), 0x7FFFFF) & 0xFFFFFF


def wire(spec: Spec, site: Site) -> tuple[Ade7953, dict[str, Any]]:
    """Solder the chip of a profile's entry to the node; return it and its exact calibration."""
    (voltage, *_), currents, entry = site.parts.inputs(spec, NOISE_MV / spec.get("pga", 1))
    first, second, *_ = [*currents, None]
    chip = Ade7953(site.circuit, voltage, (first, second), seed=site.seed)
    if "spi" in spec:
        site.wiring.attach_spi(spec["spi"]["id"], spec["spi"]["cs"], chip)
    else:
        bus = spec["i2c"]
        site.wiring.attach_i2c(bus["id"], I2C_ADDRESS, chip, scl=bus["scl"], sda=bus["sda"])
    return chip, entry
