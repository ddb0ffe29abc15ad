"""ATM90E32AS, three phases over SPI. Registers and formats: Atmel-46003 datasheet, Atmel-46103 application note.

The functions above `Meter` are the codec: bytes and numbers in, bytes and numbers out.
"""

from micropython import const

from gridnode import reading as r

_METER_EN = const(0x00)
_UGAIN_A = const(0x61)
_RESET = const(0x70)
_INT_STATE0 = const(0x73)
_INT_STATE1 = const(0x74)
_INT_EN0 = const(0x75)
_LAST_DATA = const(0x78)
_CFG_ACCESS = const(0x7F)
_ENERGY_FORWARD = const(0x81)  # A, B, C; read-clear
_ENERGY_REVERSE = const(0x85)
_P = const(0xB1)
_Q = const(0xB5)
_URMS = const(0xD9)
_IRMS = const(0xDD)
_LOW_WORD = const(0x10)  # the low words stand so far above the high ones
_I_PEAK = const(0xF5)
_FREQUENCY = const(0xF8)
_TEMPERATURE = const(0xFC)

NAMES = ("voltage", "current", "power", "reactive_power", "frequency")

_FLAGS0 = ((0xE000, "over_current"), (0x1C00, "over_voltage"))
_FLAGS1 = ((0x7000, "sag"), (0x0700, "phase_loss"))
_WINDOW_MS = const(340)  # 16 cycles at 47 Hz: the first values stand
_FULL_SCALE = const(0x7F00)  # of a peak register: the converter's limits read 4 * 2^13, whatever the gain
_POWER_LSB = 0.00032  # W, var
_ENERGY_LSB_UJ = const(11250000)  # 0.01 CF at 3200 pulses per kWh: 3.125 mWh


class BusError(Exception):
    """The chip did not answer as it must; `args[0]` says where."""


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
    value = high << 16 | low
    return value - (1 << 32) if high & 0x8000 else value


def flags(state0, state1):
    """Names of what the latched status registers hold, `sag_v1` for phase A."""
    found = []
    for state, table in ((state0, _FLAGS0), (state1, _FLAGS1)):
        for mask, name in table:
            top = mask & ~(mask >> 1)
            for k in range(3):
                if state & top >> k & mask:
                    found.append("%s_%s%d" % (name, "i" if name == "over_current" else "v", k + 1))
    if state0 & 0x0200:
        found.append("sequence")
    return found


class Meter:
    """ATM90E32AS of one profile entry. `machine` and `time` are passed in; nothing is touched before `start`."""

    period_ms = 320  # the chip's RMS and power average over 16 cycles

    def __init__(self, spec, profile, machine, time):
        self.id = spec["id"]
        self.phases = min(len(spec["voltage"]), len(spec["current"]))
        self.reading = r.Reading(self.id, self.phases)
        self.errors = 0  # accesses that had to be repeated
        self._spec = spec
        self._nominal = profile["nominal"]
        self._rating = profile["rating"]
        self._scale = spec.get("current_scale", 1)
        self._time = time
        spi = spec["spi"]
        self._cs = machine.Pin(spi["cs"], machine.Pin.OUT, value=1)
        self._spi = machine.SPI(
            spi["id"],
            baudrate=spi.get("baud", 500000),
            polarity=1,
            phase=1,
            sck=machine.Pin(spi["sck"]),
            mosi=machine.Pin(spi["mosi"]),
            miso=machine.Pin(spi["miso"]),
        )
        self._out = bytearray(4)
        self._in = bytearray(4)
        self.problem = ""
        self._down = True
        self._fresh = 0

    def _access(self, address, value=None):
        self._cs(0)
        try:
            self._spi.write_readinto(frame(address, value, self._out), self._in)
        finally:
            self._cs(1)
        return self._in[2] << 8 | self._in[3]

    def _read(self, address):
        """One register, checked against LastSPIData; a read-clear register is recovered from there."""
        value = self._access(address)
        for _ in range(3):
            again = self._access(_LAST_DATA)
            if again == value:
                return value
            self.errors += 1
            value = again
        raise BusError("read %02X" % address)

    def _write(self, address, value):
        for _ in range(3):
            self._access(address, value)
            if self._access(_LAST_DATA) == value:
                return
            self.errors += 1
        raise BusError("write %02X" % address)

    def start(self, correction):
        """Work out the configuration; returns what of `correction` the chip applies.

        The first `block` writes it, as does any later one after the chip has lost it. Raises ValueError for gains
        beyond the chip's registers.
        """
        from gridnode.setup import atm90e32

        self._setup, self._rest = atm90e32.registers(self._spec, self._nominal, self._rating, correction)
        self._spec = self._nominal = self._rating = None  # all of it stands in the registers
        self._last = self._time.ticks_ms()
        return ("gain", "phase")

    def _configure(self):
        self._down = True
        self._access(_RESET, 0x789A)
        self._time.sleep_ms(6)
        self._write(_CFG_ACCESS, 0x55AA)
        self._write(_METER_EN, 1)
        setup = self._setup
        for k in range(0, len(setup), 2):
            self._write(setup[k], setup[k + 1])
        for k in range(0, len(setup), 2):
            if self._read(setup[k]) != setup[k + 1]:
                raise BusError("read back %02X" % setup[k])
        self._write(_INT_EN0, 0)
        self._access(_INT_STATE0, 0xFFFF)
        self._access(_INT_STATE1, 0xFFFF)
        self._write(_CFG_ACCESS, 0)
        for k in range(3):
            self._read(_ENERGY_FORWARD + k)
            self._read(_ENERGY_REVERSE + k)
        self._down = False

    def block(self):
        """Read the chip; every value is None with reason `bus_fault` while it does not answer as configured."""
        reading = self.reading
        now = self._time.ticks_ms()
        try:
            if self._down:
                self._configure()
                self._fresh = now
            if self._time.ticks_diff(now, self._fresh) < _WINDOW_MS:
                self._spoil(r.STALE)  # the chip has not measured anything yet
            else:
                self._measure(reading)
        except (BusError, OSError) as e:
            self._down = True
            self.problem = "ATM90E32 does not answer: %s" % e
            self._spoil(r.BUS_FAULT)
        reading.ms = reading.covered_ms = self._time.ticks_diff(now, self._last)
        if reading.quality:
            reading.covered_ms = 0
        self._last = now
        return reading

    def _spoil(self, reason):
        self.reading.clear(NAMES, reason)
        self.reading.spoil(0, "frequency", reason)

    def _measure(self, reading):
        reading.clear()
        self._alive()
        for k in range(self.phases):
            self._phase(reading.at[k + 1 if self.phases > 1 else 0], k)
        self._energy(reading)
        flat = reading.at[0]
        flat["frequency"] = self._hertz(reading)
        t = self._read(_TEMPERATURE)
        flat["temperature"] = float(t - 0x10000 if t & 0x8000 else t)
        reading.flags = self._latched()
        self._alive()  # a bus that went silent meanwhile reads as ones or zeros everywhere

    def _alive(self):
        """A chip that was reset has lost its gains: no value may be taken before it is set up again."""
        if self._read(_METER_EN) != 1 or self._read(_UGAIN_A) != self._setup[1]:
            raise BusError("configuration lost")

    def _phase(self, values, k):
        values["voltage"] = self._read(_URMS + k) / 100 + (self._read(_URMS + _LOW_WORD + k) >> 8) / 25600
        raw = self._read(_IRMS + k)
        low = self._read(_IRMS + _LOW_WORD + k) >> 8
        values["current"] = (raw + low / 256) / 1000 * self._scale
        for name, address in (("power", _P), ("reactive_power", _Q)):
            high = self._read(address + k)
            values[name] = signed32(high, self._read(address + _LOW_WORD + k)) * _POWER_LSB * self._scale
        at = k + 1 if self.phases > 1 else 0
        if raw == 0xFFFF or self._read(_I_PEAK + k) >= _FULL_SCALE:
            for name in ("current", "power", "reactive_power"):
                self.reading.spoil(at, name, r.SATURATED)
        else:
            self.reading.rotate(at, self._rest[k])

    def _energy(self, reading):
        reading.metered = True
        for k in range(self.phases):
            at = 2 * (k + 1 if self.phases > 1 else 0)
            reading.energy[at] = self._read(_ENERGY_FORWARD + k) * _ENERGY_LSB_UJ * self._scale
            reading.energy[at + 1] = self._read(_ENERGY_REVERSE + k) * _ENERGY_LSB_UJ * self._scale

    def _hertz(self, reading):
        raw = self._read(_FREQUENCY)
        if not raw or raw == 0xFFFF or all((reading.at[k].get("voltage") or 0) < 1 for k in reading.each()):
            return None
        return raw / 100

    def _latched(self):
        state0, state1 = self._read(_INT_STATE0), self._read(_INT_STATE1)
        if state0:
            self._access(_INT_STATE0, state0)
        if state1:
            self._access(_INT_STATE1, state1)
        return flags(state0, state1)
