"""ATM90E32AS, three phases over SPI. Registers and formats: Atmel-46003 datasheet, Atmel-46103 application note.

The functions above `Meter` are the codec: bytes and numbers in, bytes and numbers out. The chip offers the active power
of the harmonics, and no THD. Apparent power is V * I here as in the chip.
"""

import asyncio
from micropython import const

from gridnode import reading as r
from gridnode.meters import angle
from gridnode.meters.polled import BusError, Polled, Unusable

_METER_EN = const(0x00)
_MMODE0 = const(0x33)
_RESET = const(0x70)
_STATE = const(0x71)  # EMMState0, 1
_INT_STATE = const(0x73)  # EMMIntState0, 1: what has changed since it was cleared
_INT_EN = const(0x75)
_LAST_DATA = const(0x78)
_CRC_ERROR = const(0x79)
_CFG_ACCESS = const(0x7F)
_ENERGY = const(0x81)  # forward A, B, C; reverse from 0x85
_P = const(0xB1)
_Q = const(0xB5)
_P_HARMONIC = const(0xD5)
_URMS = const(0xD9)
_I_NEUTRAL = const(0xDC)
_IRMS = const(0xDD)
_LOW_WORD = const(0x10)  # the low words stand so far above the high ones
_U_PEAK = const(0xF1)
_I_PEAK = const(0xF5)
_FREQUENCY = const(0xF8)
_ANGLE = const(0xF9)
_TEMPERATURE = const(0xFC)
# What the note sets up for the temperature.
_SENSOR = const(((0x2FF, 0x55AA), (0x216, 0x5183), (0x219, 0x01C1), (0x2FF, 0)))

# Status bit of phase A, those of B and C lie below it, and what it says.
_FLAGS = const((((15, "over_current_i"), (12, "over_voltage_v")), ((14, "sag_v"), (10, "phase_loss_v"))))
_SEQUENCE = const(0x0200)

_POWER_ON_MS = const(40)
_RESET_MS = const(6)
_WINDOW_MS = const(340)  # 16 cycles at 47 Hz: the first values stand
_FULL_SCALE = const(0x7F00)  # of a peak register: the converter's limits read 4 * 2^13, whatever the gain
_FULL_RMS = const(0xFFFF00)
_LONGEST_MS = const(10000)  # between readings: at 65 A and 655 V the energy registers run over after 17 s
_ENERGY_LSB_UJ = const(11250000)  # 0.01 CF at 3200 pulses per kWh: 3.125 mWh


def frame(address, value=None, out=None):
    """Bytes of one access in `out`: bit 15 of the address word reads; a read clocks in two dummy bytes."""
    out = out or bytearray(4)
    read = value is None
    out[0] = address >> 8 | (0x80 if read else 0)
    out[1] = address & 0xFF
    out[2] = 0 if read else value >> 8
    out[3] = 0 if read else value & 0xFF
    return out


def signed32(high, low):
    """Signed 32-bit power from its register pair."""
    return (high - 0x10000 if high & 0x8000 else high) << 16 | low


def flags(state0, state1, phases=3):
    """Names of what the status registers hold, `sag_v1` for phase A."""
    if not (state0 or state1):
        return ()
    found = []
    for state, table in ((state0, _FLAGS[0]), (state1, _FLAGS[1])):
        for top, name in table:
            for k in range(phases):
                if state >> top - k & 1:
                    found.append(name + str(k + 1))
    if state0 & _SEQUENCE and phases == 3:
        found.append("sequence")
    return tuple(found)


class Meter(Polled):
    """ATM90E32AS of one profile entry."""

    names = (
        "voltage",
        "current",
        "power",
        "reactive_power",
        "phase_angle",
        "harmonic_power",
        "frequency",
        "temperature",
    )
    period_ms = 320  # the chip's RMS and power average over 16 cycles
    stuck_after = 4  # RMS of 24 bits do not repeat on a live supply, but where two readings fall into one window

    def __init__(self, spec, profile, machine, time):
        super().__init__(spec, time, min(len(spec["voltage"]), len(spec["current"])))
        self.period_ms = min(self.period_ms, _LONGEST_MS)
        if self.phases == 3:
            self.names += ("neutral_current",)
        self.warnings = ()
        self._spec = spec
        self._profile = profile
        self._machine = machine
        scale_i = spec.get("current_scale", 1)
        scale = spec.get("voltage_scale", 1) * scale_i
        self._volts = spec.get("voltage_scale", 1) / 25600  # per 1/256 of a register's step, as for the others
        self._amperes = scale_i / 256000
        self._watts = 0.00032 * scale
        self._step = _ENERGY_LSB_UJ * scale
        self._out = bytearray(4)
        self._in = bytearray(4)
        self._last_data = 0  # what LastSPIData holds
        self._counts = [0] * (2 * self.phases)  # of energy, read and not delivered
        self._states = [0, 0]  # latched, read and not delivered
        self._owed = None  # energy register whose read failed, what LastSPIData held before, what was read
        self._unfinished = False  # the last `measure` was cut short

    def start(self, correction):
        """Work out the configuration; returns what of `correction` the chip applies.

        The first `block` writes it, as does any later one after the chip has lost it. Raises ValueError for gains
        beyond the chip's registers. `warnings` names the flags that this front end cannot raise.
        """
        from gridnode.setup import atm90e32, buses

        setup = atm90e32.registers(self._spec, self._profile, correction)
        self._setup, self._leads, whole, applied, self.warnings = setup
        self._hertz = self._profile["nominal"]["frequency"]
        # What is left of a lead beyond the chip's range is missing in its counts too: then power is integrated.
        self.phase_left = not whole
        self._metered = r.PER_PHASE if whole else 0
        self._no_load = self._profile["rating"]["current"] / 1000
        self._spi, self._cs = buses.spi(self._machine, self._spec)
        self._spec = self._profile = self._machine = None  # all of it stands in the registers
        return applied

    # -- access

    def _access(self, address, value=None):
        self._cs(0)
        try:
            self._spi.write_readinto(frame(address, value, self._out), self._in)
        finally:
            self._cs(1)
        return self._in[2] << 8 | self._in[3]

    def _read(self, address):
        """One register, checked against LastSPIData."""
        for _ in range(3):
            value = self._access(address)
            if self._access(_LAST_DATA) == value:
                self._last_data = value
                return value
            self.errors += 1
        raise BusError("read %02X" % address)

    def _write(self, address, value):
        for _ in range(3):
            self._access(address, value)
            if self._access(_LAST_DATA) == value:
                self._last_data = value
                return
            self.errors += 1
        raise BusError("write %02X" % address)

    def _take(self, k):
        """Add what energy register k holds to `_counts`; the chip clears it once LastSPIData has the same.

        So a garbled read is found there again, unless the chip never saw the frame: then LastSPIData is what it was,
        and the counts stay in the register.
        """
        before = self._last_data
        if before == 0xFFFF:
            raise BusError("no chip")  # before something is read that can be read once
        value = self._access(_ENERGY + k % self.phases + (4 if k >= self.phases else 0))
        again = self._access(_LAST_DATA)
        if again != value or value == 0xFFFF:
            self.errors += 1
            self._owed = k, before, value
            self._recover()
        else:
            self._last_data = value
            self._counts[k] += value

    def _recover(self):
        """Take the energy of a read that failed from LastSPIData, before any other access."""
        k, before, got = self._owed
        for _ in range(3):
            value = self._access(_LAST_DATA)
            if value == self._access(_LAST_DATA) != 0xFFFF:
                self._owed = None
                self._last_data = value
                if value != before or value == got:
                    self._counts[k] += value
                return
            self.errors += 1
        raise BusError("energy %d" % k)

    # -- configuration

    async def configure(self):
        """Reset and set up the chip, unless it has come through a fault of the bus and goes on counting."""
        if self._owed:
            self._recover()
        if not self._unfinished:
            await asyncio.sleep_ms(_POWER_ON_MS)
        if self._read(_MMODE0) & 0xFF != 0x87:  # as set up and as after a reset: a silent chip is not written to
            raise BusError("no chip")
        if self._unfinished and self._intact():
            self.settle_ms = 0
            return
        self._unfinished = False
        self.settle_ms = _WINDOW_MS
        self._access(_RESET, 0x789A)
        await asyncio.sleep_ms(_RESET_MS)
        self._write(_CFG_ACCESS, 0x55AA)
        self._write(_METER_EN, 1)
        setup = self._setup
        for k in range(0, len(setup), 2):
            self._write(setup[k], setup[k + 1])
        for address, value in _SENSOR:
            self._write(address, value)
        for k in range(0, len(setup), 2):
            if self._read(setup[k]) != setup[k + 1]:
                raise BusError("read back %02X" % setup[k])
        for k in (0, 1):
            self._write(_INT_EN + k, 0)
            self._write(_INT_STATE + k, 0xFFFF)
        self._write(_CFG_ACCESS, 0)  # from now on the chip watches its configuration by a CRC
        for k in range(3):
            self._read(_ENERGY + k)
            self._read(_ENERGY + 4 + k)

    def _intact(self):
        """Whether the chip measures with the configuration that it was given: a reset stops it, an upset fails the CRC.

        1 and 0 in turn: neither a bus of ones nor one of zeros.
        """
        return self._read(_METER_EN) == 1 and self._read(_CRC_ERROR) == 0

    # -- measurement

    async def measure(self, reading):
        """Read everything; energies and latched flags that were read before a fault are kept for the next reading."""
        self._unfinished = True
        if not self._intact():
            raise BusError("configuration lost")
        self.fingerprint = None
        raw = self._read(_FREQUENCY)
        ratio = raw / 100 / self._hertz if 4000 < raw < 7000 else 1
        heard = 0
        for k in range(self.phases):
            heard |= self._phase(reading, k, ratio)
        flat = reading.at[0]
        live = self.fingerprint is not None
        flat["frequency"] = raw / 100 if live and raw else None
        t = self._read(_TEMPERATURE)
        flat["temperature"] = float(t - 0x10000 if t & 0x8000 else t)
        if self.phases == 3:
            raw = self._read(_I_NEUTRAL)
            flat["neutral_current"] = raw * 256 * self._amperes
            if raw == 0xFFFF:
                reading.spoil(0, "neutral_current", r.SATURATED)
        for k in (0, 1):
            self._latched(k)
        if not self._intact():  # a bus that went silent meanwhile reads as ones or zeros everywhere
            raise BusError("configuration lost")
        if not heard:
            raise Unusable("it measures nothing, not even noise", r.STALE)
        self._deliver(reading)
        self._unfinished = False

    def _phase(self, reading, k, ratio):
        """Fill the entry of phase k; returns the bits of its RMS registers."""
        at = k + 1 if self.phases > 1 else 0
        values = reading.at[at]
        # Energies are not read in a row: they may be equal, and `_take` tells them by what was read before.
        u = self._fine(_URMS + k)
        self._take(k)
        i = self._fine(_IRMS + k)
        self._take(k + self.phases)
        values["voltage"] = u * self._volts
        values["current"] = current = i * self._amperes
        values["power"] = self._power(_P + k)
        values["reactive_power"] = q = self._power(_Q + k)
        values["harmonic_power"] = self._power(_P_HARMONIC + k)
        lead, turned = self._leads[k]
        rest = angle.left(lead, turned, ratio)
        values["phase_angle"] = None
        if current > self._no_load:
            values["phase_angle"] = angle.lag(self._read(_ANGLE + k) / 10, q, rest)
        reading.rotate(at, rest)
        clipped_u = u >= _FULL_RMS or self._read(_U_PEAK + k) >= _FULL_SCALE
        clipped_i = i >= _FULL_RMS or self._read(_I_PEAK + k) >= _FULL_SCALE
        if clipped_u or clipped_i:
            for name in ("power", "reactive_power", "harmonic_power", "phase_angle"):
                reading.spoil(at, name, r.SATURATED)
        if clipped_u:
            reading.spoil(at, "voltage", r.SATURATED)
        if clipped_i:
            reading.spoil(at, "current", r.SATURATED)
        if u > 25600:  # 1 V: the supply is on
            self.fingerprint = ((self.fingerprint or 0) << 3 ^ u ^ i) & 0xFFFFFF
        return u | i

    def _fine(self, address):
        """RMS register with the 8 valid bits of its low word."""
        high = self._read(address)
        return high << 8 | self._read(address + _LOW_WORD) >> 8

    def _power(self, address):
        """Power register pair; both words of the same window."""
        high = self._read(address)
        for _ in range(3):
            low = self._read(address + _LOW_WORD)
            before, high = high, self._read(address)
            if high == before:
                return signed32(high, low) * self._watts
        raise BusError("read %02X" % address)

    def _latched(self, k):
        """Note what a status register has latched, clear that, and note what still holds."""
        state = self._read(_INT_STATE + k)
        now = self._read(_STATE + k)
        if state == 0xFFFF or now == 0xFFFF:
            raise BusError("state %d" % k)
        self._states[k] |= state | now
        if state:
            self._write(_INT_STATE + k, state)

    def _deliver(self, reading):
        states, counts, energy = self._states, self._counts, reading.energy
        reading.flags = flags(states[0], states[1], self.phases)
        states[0] = states[1] = 0
        reading.metered = self._metered
        reading.energy_step = self._step
        for k in range(self.phases):
            at = 2 * (k + 1 if self.phases > 1 else 0)
            for way in (0, 1):
                n = k + way * self.phases
                energy[at + way] = counts[n] * self._step
                counts[n] = 0
