"""ADE7953, one voltage and up to two currents, over I2C or SPI. Registers: ADE7953 datasheet Rev. B, AN-1118.

The functions above the buses are the codec. Power and reactive power are those of the energy registers over the time
between two readings: nothing is left out between them, while the power registers ripple with twice the line frequency
(datasheet p. 24). No THD. The chip's power factor has the sign of the reactive power and is not used.
"""

import asyncio
from micropython import const

from gridnode import reading as r
from gridnode.meters import angle
from gridnode.meters.polled import BusError, Polled, Unusable

_DISNOLOAD = const(0x001)  # no-load detection off: bit 0 of active, 1 of reactive, 2 of apparent energy
_LAST_OP = const(0x0FD)
_UNLOCK = const(0x0FE)
_CONFIG = const(0x102)
_ANGLE = const(0x10C)
_PERIOD = const(0x10E)
_RESERVED = const(0x120)
_LAST_ADD = const(0x1FE)
_ACCMODE = const(0x201)
_IRMS = const(0x21A)  # A, B
_VRMS = const(0x21C)
_ENERGY = const(0x21E)  # active A, B, reactive A, B; cleared by a read
_V_PEAK = const(0x227)  # this and those of the currents: cleared by a read
_I_PEAK = const(0x229)  # A, B two further
_STATUS_A = const(0x22E)  # RSTIRQSTATA, cleared by a read
_STATUS_B = const(0x231)

_READ = const(0x35)  # of LAST_OP
_WRITE = const(0xCA)
_OTHER = const(-1)  # the chip's last communication was another one

_OVER_CURRENT = const(0x002000)
_LOST = const(0x300000)  # reset, checksum of the configuration changed
_VOLTAGE_FLAGS = const(((0x010000, "over_voltage"), (0x080000, "sag")))
_NO_LOAD = const(0x010000)  # of ACCMODE, channel A; that of B stands three bits higher

_PERIOD_HZ = const(223750)
_START_MS = const(100)
_SETTLE_MS = const(250)  # RMS take 200
_RANGE_MS = const(40000)  # at full scale the energy registers run over after 40.5 s


def pack(value, data, start=0):
    """Fill `data` from `start` with a value, most significant byte first; negative ones in two's complement."""
    for k in range(len(data) - 1, start - 1, -1):
        data[k] = value & 0xFF
        value >>= 8
    return data


def unpack(data, start=0):
    """Unsigned value of the bytes from `start`."""
    value = 0
    for k in range(start, len(data)):
        value = value << 8 | data[k]
    return value


def signed(value, bits):
    """Two's complement of so many bits."""
    return value - (1 << bits) if value >> bits - 1 else value


def hertz(period):
    """Line frequency of the period register."""
    return _PERIOD_HZ / (period + 1)


def degrees(delay, period):
    """Delay between the zero crossings of voltage and current, from the angle and the period register."""
    return 360 * signed(delay, 16) / (period + 1)


def flags(status_a, status_b, accmode, phases):
    """Names of what the status registers have latched and of the currents without load."""
    found = [name for bit, name in _VOLTAGE_FLAGS if status_a & bit]
    for k in range(phases):
        if (status_b if k else status_a) & _OVER_CURRENT:
            found.append("over_current_i%d" % (k + 1))
        if accmode & _NO_LOAD << 3 * k:
            found.append("no_load_i%d" % (k + 1))
    return tuple(found)


class I2cBus:
    """Registers over I2C: the address, then the value, both most significant byte first.

    The width goes by the address: 0xx 1 byte, 1xx 2, 2xx 3, 3xx 4 (the same registers as 2xx).
    """

    def __init__(self, i2c, device):
        self._i2c = i2c
        self._device = device
        self._data = tuple([bytearray(n) for n in (1, 2, 3, 4)])

    def read(self, register):
        """Unsigned value of a register. Raises OSError without an acknowledge."""
        data = self._data[register >> 8]
        self._i2c.readfrom_mem_into(self._device, register, data, addrsize=16)
        return unpack(data)

    def write(self, register, value):
        """Write a register."""
        data = pack(value, self._data[register >> 8])
        self._i2c.writeto_mem(self._device, register, data, addrsize=16)


class SpiBus:
    """Registers over SPI: the address, 0x80 to read or 0 to write, the value; as wide as over I2C."""

    def __init__(self, spi, cs):
        self._spi = spi
        self._cs = cs
        self._frames = tuple([(bytearray(n), bytearray(n)) for n in (4, 5, 6, 7)])

    def read(self, register):
        """Unsigned value of a register."""
        return unpack(self._transfer(register, 0x80, 0), 3)

    def write(self, register, value):
        """Write a register. Chip select stays low for longer than the 1.2 us that the lock of the interface wants."""
        self._transfer(register, 0, value)

    def _transfer(self, register, way, value):
        out, answer = self._frames[register >> 8]
        out[0] = register >> 8
        out[1] = register & 0xFF
        out[2] = way
        self._cs(0)
        try:
            self._spi.write_readinto(pack(value, out, 3), answer)
        finally:
            self._cs(1)
        return answer


class Meter(Polled):
    """ADE7953 of one profile entry. Two currents are two phases with the same voltage."""

    names = ("voltage", "current", "power", "reactive_power", "phase_angle", "frequency")
    period_ms = 480  # a row of one second always has a reading
    stuck_after = 2  # RMS of 24 bits do not repeat on a live supply
    deadband = 1  # 0: what is picked up without load shows, where the chip otherwise reads no power

    def __init__(self, spec, profile, machine, time):
        super().__init__(spec, time, len(spec["current"]))
        self.period_ms = min(self.period_ms, _RANGE_MS // 2)
        self.warnings = ()
        self._spec = spec
        self._profile = profile
        self._machine = machine
        self._counts = [0, 0, 0, 0]  # of energy, read and not delivered
        self._kept = [0, 0]  # such ones of active energy from before counting was begun anew
        self._status = [0, 0]  # latched, read and not delivered
        self._now = [0, 0]  # us when energy was read
        self._since = [0, 0]  # and for the last good reading
        self._since_ms = 0
        self._owed = 0  # register whose read failed though it may have cleared it
        self._unfinished = False  # the last `measure` was cut short

    def start(self, correction):
        """Work out the configuration; returns what of `correction` the meter applies.

        The first `block` writes it, as does any later one after the chip has lost it. Raises ValueError for a front
        end that does not fit. `warnings` names the flags that it cannot raise.
        """
        from gridnode.setup import ade7953, buses

        spec = self._spec
        setup = ade7953.registers(spec, self._profile, correction)
        self._setup, units, self._leads, whole, applied, self.warnings = setup
        self._volts, self._v_peak, self._amperes, self._i_peak, self._steps = units
        self._hertz = self._profile["nominal"]["frequency"]
        # What is left of a lead beyond the chip's range is missing in its counts too: then power is integrated.
        self.phase_left = not whole
        self._metered = r.PER_PHASE if whole else 0
        self._least_v = self._profile["nominal"]["voltage"] / 20
        self._least_i = self._profile["rating"]["current"] / 1000
        if "i2c" in spec:
            self._bus = I2cBus(buses.i2c(self._machine, spec), spec["i2c"].get("address", 0x38))
        else:
            self._bus = SpiBus(*buses.spi(self._machine, spec))
        self._spec = self._profile = self._machine = None  # all of it stands in the registers
        return applied

    # -- access

    def _get(self, register):
        try:
            return self._bus.read(register)
        except OSError:
            return None

    def _done(self, operation, register):
        """Data of the chip's last communication if it was this one, else _OTHER; None if it cannot be read."""
        what = self._get(_LAST_OP)
        if what not in (_READ, _WRITE):  # nor do ones or zeros
            return None
        address = self._get(_LAST_ADD)
        if address is None:
            return None
        if what != operation or address != register:
            return _OTHER
        return self._get(register & 0x300 | 0xFF)

    def _heard(self, register, value):
        """What the chip says it has answered for `register`, or _OTHER; `value` is what has come here.

        It counts when it comes twice in a row.
        """
        for _ in range(5):
            last = self._done(_READ, register)
            if last == value and last is not None:
                return last
            self.errors += 1
            value = last
        raise BusError("read %03X" % register)

    def _read(self, register):
        """One register, unsigned and checked. It is asked again only if the chip has not heard the first time."""
        for _ in range(3):
            self._owed = register
            value = self._heard(register, self._get(register))
            self._owed = 0
            if value != _OTHER:
                return value
        raise BusError("read %03X" % register)

    def _write(self, register, value):
        for _ in range(3):
            try:
                self._bus.write(register, value)
            except OSError:
                pass  # as if it had not been heard
            if self._done(_WRITE, register) == value:
                return
            self.errors += 1
        raise BusError("write %03X" % register)

    def _take(self, register):
        self._store(register, self._read(register))

    def _store(self, register, value):
        """Keep what a read has cleared until it is delivered."""
        if _ENERGY <= register < _ENERGY + 4:
            self._counts[register - _ENERGY] += signed(value, 24)
        elif register in (_STATUS_A, _STATUS_B):
            self._status[register == _STATUS_B] |= value

    def _recover(self):
        """Fetch what a read that failed has cleared, before any other access."""
        register = self._owed
        if self._get(_LAST_OP) != 0:  # a chip that was reset has nothing to tell
            value = self._heard(register, None)
            if value != _OTHER:
                self._store(register, value)
        self._owed = 0

    # -- configuration

    async def configure(self):
        """Set up the chip, unless it has come through a fault of the bus and goes on counting."""
        if self._owed:
            self._recover()
        setup = self._setup
        if self._unfinished and self._read(_RESERVED) == 0x30 and self._read(_CONFIG) == setup[1]:
            self.settle_ms = 0
            if self._time.ticks_diff(self._time.ticks_ms(), self._since_ms) >= _RANGE_MS:
                self._restart()
            return
        self._unfinished = False
        await asyncio.sleep_ms(_START_MS)
        self._bus.write(_UNLOCK, 0xAD)  # and nothing between this and
        self._write(_RESERVED, 0x30)
        for k in range(0, len(setup), 2):
            self._write(setup[k], setup[k + 1])
        self._write(_DISNOLOAD, 0 if self.deadband else 7)
        for k in range(0, len(setup), 2):
            if self._read(setup[k]) != setup[k + 1]:
                raise BusError("read back %03X" % setup[k])
        if self._read(_RESERVED) != 0x30:
            raise BusError("read back %03X" % _RESERVED)
        await asyncio.sleep_ms(_SETTLE_MS)
        self._status[0] &= ~_LOST
        for register in (_STATUS_A, _STATUS_B, _V_PEAK, _I_PEAK, _I_PEAK + 2):
            self._read(register)
        self._restart()

    def _restart(self):
        """Count energy from now on; what was read before is delivered, and has no part in the next power."""
        self.settle_ms = 400  # until there is enough for a power
        self._since_ms = self._time.ticks_ms()
        for k in range(self.phases):
            self._since[k] = self._time.ticks_us()
            self._read(_ENERGY + k)
            self._read(_ENERGY + 2 + k)
            self._kept[k] += self._counts[k]
            self._counts[k] = self._counts[2 + k] = 0

    # -- measurement

    async def measure(self, reading):
        """Read everything; energies and latched flags that were read before a fault are kept for the next reading."""
        self._unfinished = True
        self._take(_STATUS_A)
        if self._status[0] & _LOST:
            self._unfinished = False
            raise BusError("configuration lost")
        if self.phases > 1:
            self._take(_STATUS_B)
        accmode = self._read(_ACCMODE)
        raw = heard = self._read(_VRMS)
        voltage = raw * self._volts
        clipped = self._read(_V_PEAK) >= self._v_peak
        period = self._read(_PERIOD)
        live = voltage > self._least_v and 0 < period < 0xFFFF
        self.fingerprint = raw if live else None
        reading.at[0]["frequency"] = hertz(period) if live else None
        for k in range(self.phases):
            at = k + 1 if self.phases > 1 else 0
            heard |= self._channel(reading, at, k, period)
            reading.at[at]["voltage"] = voltage
            if not live:
                reading.at[at]["phase_angle"] = None
            if clipped:
                for name in ("voltage", "power", "reactive_power", "phase_angle"):
                    reading.spoil(at, name, r.SATURATED)
        if not heard:
            raise Unusable("it measures nothing, not even noise", r.STALE)
        self._deliver(reading)
        reading.flags = flags(self._status[0], self._status[1], accmode, self.phases)
        self._status[0] = self._status[1] = 0
        self._unfinished = False

    def _channel(self, reading, at, k, period):
        """Fill the entry of current k; returns its RMS register."""
        raw = self._read(_IRMS + k)
        if self.fingerprint is not None:
            self.fingerprint ^= raw << 3
        now = self._time.ticks_us()
        self._take(_ENERGY + k)
        self._take(_ENERGY + 2 + k)
        delay = self._read(_ANGLE + k)
        clipped = self._read(_I_PEAK + 2 * k) >= self._i_peak[k]
        values = reading.at[at]
        values["current"] = current = raw * self._amperes[k]
        us = self._time.ticks_diff(now, self._since[k])
        values["power"] = self._counts[k] * self._steps[k] / us
        values["reactive_power"] = q = self._counts[2 + k] * self._steps[k] / us
        self._now[k] = now
        lead, turned = self._leads[k]
        rest = angle.left(lead, turned, hertz(period) / self._hertz if self.fingerprint is not None else 1)
        values["phase_angle"] = None
        if current > self._least_i:
            values["phase_angle"] = angle.lag(degrees(delay, period), q, rest)
        reading.rotate(at, rest)
        if clipped:
            for name in ("current", "power", "reactive_power", "phase_angle"):
                reading.spoil(at, name, r.SATURATED)
        return raw

    def _deliver(self, reading):
        reading.metered = self._metered
        self._since_ms = self._time.ticks_ms()
        counts, energy = self._counts, reading.energy
        for k in range(self.phases):
            at = 2 * (k + 1 if self.phases > 1 else 0)
            step = self._steps[k]
            count = counts[k] + self._kept[k]
            energy[at if count > 0 else at + 1] = abs(count) * step
            reading.energy_step = max(reading.energy_step, step)
            counts[k] = counts[2 + k] = self._kept[k] = 0
            self._since[k] = self._now[k]
