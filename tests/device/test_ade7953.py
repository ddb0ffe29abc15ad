"""ADE7953 codec, byte by byte on both buses, and the driver with a chip and buses that misbehave.

Values: datasheet Rev. B and AN-1118, as the facts page has them.
"""

import asyncio
import gc
import math

from gridnode import reading as r
from gridnode.meters import ade7953 as ade
from gridnode.setup import ade7953 as setup
from gridnode.setup import calibration

I2C = {
    "id": "main",
    "i2c": {"id": 0, "scl": 22, "sda": 21, "freq": 400000, "address": 56},
    "pga": 8,
    "voltage": [{"mv_per_v": 1}],
    "current": [{"shunt_mohm": 2}, {"shunt_mohm": 2}],
}
SPI = {
    "id": "main",
    "spi": {"id": 2, "sck": 18, "mosi": 23, "miso": 19, "cs": 5},
    "voltage": [{"mv_per_v": 1}],
    "current": [{"ratio": 2000, "burden_ohm": 10}],
}
PROFILE = {"nominal": {"voltage": 230, "frequency": 50}, "rating": {"current": 16}}
APPLIED = {"gain", "phase", "power", "offset", "noise"}


async def pass_time(ms):
    """The chip needs no time to start here."""


asyncio.sleep_ms = pass_time

CLEARED = tuple(range(0x21E, 0x224)) + (0x227, 0x229, 0x22B, 0x22E, 0x231)


class Chip:
    """Registers behind `machine.I2C` or `machine.SPI`: just enough to make accesses succeed or fail."""

    def __init__(self):
        self.ms = 1000
        self.accesses = 0
        self.flip = {}  # access number -> mask on what the master receives
        self.deaf = ()  # access numbers that do not reach the chip
        self.mute = ()  # access numbers whose answer is lost
        self.answer = None  # all bytes of every answer
        self.frozen = False
        self.noise = 0
        self.log = []
        self.reset()

    def reset(self):
        self.registers = {0x102: 0x8004, 0x004: 0x40, 0x22E: 0x100000, 0x280: 0x400000, 0x28C: 0x400000}
        self.last = (0, 0, 0)
        self.unlocked = False
        self.fill()

    def fill(self):
        self.registers.update({0x21A: 40, 0x21B: 41, 0x21C: 42, 0x10E: 4474, 0x201: 0})

    # -- what the chip does

    def heard(self, register, value=None):
        """One communication; returns the value read."""
        if register in (0x0FD, 0x1FE) or register & 0xFF == 0xFF:
            assert value is None
            return self.last[{0xFD: 0, 0xFE: 1, 0xFF: 2}[register & 0xFF]]
        if value is None:
            value = self.registers.get(register, 0)
            if register == 0x21C and value and not self.frozen:
                self.noise = (self.noise + 1) % 4
                value += self.noise
            if register in CLEARED:
                self.registers[register] = 0
            self.last = (0x35, register, value)
            return value
        self.log.append((register, value))
        if register != 0x120 or self.unlocked:
            self.registers[register] = value
        self.unlocked = register == 0x0FE and value == 0xAD
        self.last = (0xCA, register, value)
        return None

    def exchange(self, register, width, data=None):
        """One access with its faults: bytes for the master, None where nothing acknowledges."""
        self.accesses += 1
        if self.accesses in self.deaf:
            return None
        value = self.heard(register, None if data is None else number(data))
        if data is not None:
            return b""
        if self.accesses in self.mute:
            return None
        value ^= self.flip.pop(self.accesses, 0)
        if self.answer is not None:
            return bytes([self.answer]) * width
        return bytes([value >> 8 * k & 0xFF for k in range(width - 1, -1, -1)])

    # -- I2C

    def I2C(self, number, scl, sda, freq, timeout):
        assert (number, freq) == (0, 400000)
        return self

    def readfrom_mem_into(self, device, register, data, addrsize):
        assert device == 0x38 and addrsize == 16 and len(data) == (register >> 8) + 1
        answer = self.exchange(register, len(data))
        if answer is None:
            raise OSError(19)
        data[:] = answer

    def writeto_mem(self, device, register, data, addrsize):
        assert device == 0x38 and addrsize == 16 and len(data) == (register >> 8) + 1
        if self.exchange(register, len(data), data) is None:
            raise OSError(19)

    # -- SPI

    def SPI(self, number, **kwargs):
        assert kwargs["polarity"] == kwargs["phase"] == 1
        return self

    def write_readinto(self, out, into):
        assert len(out) == len(into) == (out[0]) + 4 and out[2] in (0, 0x80)
        register = out[0] << 8 | out[1]
        answer = self.exchange(register, len(out) - 3, None if out[2] else out[3:])
        if answer is None:
            answer = b"\xff" * (len(out) - 3)
        if out[2]:
            into[3:] = answer

    # -- time

    def ticks_ms(self):
        return self.ms

    def ticks_us(self):
        return self.ms * 1000

    def ticks_diff(self, a, b):
        return a - b


class Machine:
    def __init__(self, chip):
        self.I2C = chip.I2C
        self.SPI = chip.SPI
        self.Pin = _Pin


class _Pin:
    OUT = 1

    def __init__(self, number, mode=None, value=None):
        pass

    def __call__(self, level):
        pass


def number(data):
    value = 0
    for byte in data:
        value = value << 8 | byte
    return value


def block(chip, m, ms=1000):
    chip.ms += ms
    return asyncio.run(m.block())


def running(spec=I2C, profile=PROFILE, stored=None, applied=APPLIED):
    chip = Chip()
    m = ade.Meter(spec, profile, Machine(chip), chip)
    assert set(m.start(calibration.correction(spec, stored))) == applied
    assert chip.accesses == 0
    settle(chip, m)
    return chip, m


def settle(chip, m):
    """Set the chip up; the first reading is the one after the next."""
    x = block(chip, m)
    assert "stale" in x.quality.values() and "bus_fault" not in x.quality.values(), (x.quality, m.problem)
    assert not block(chip, m).quality, m.problem


def load(chip, volts=230.0, amps=8.0, lag=30.0, seconds=1.0):
    """Registers of the plug profile with this load on both channels, `seconds` after the last reading."""
    full_v, full_i = 353.55339, 353.55339 / 16
    share = volts * amps / full_v / full_i
    p, q = share * math.cos(math.radians(lag)), share * math.sin(math.radians(lag))
    values = {0x21C: int(9032007 * volts / full_v), 0x10E: 4474, 0x227: int(6500000 * volts * 1.4142 / 500)}
    for k in (0, 1):
        values[0x21A + k] = int(9032007 * amps / full_i)
        values[0x21E + k] = int(206900 * p * seconds) & 0xFFFFFF
        values[0x220 + k] = int(206900 * q * seconds) & 0xFFFFFF
        values[0x10C + k] = int(lag / 360 * 4475 + (0.5 if lag > 0 else -0.5)) & 0xFFFF
        values[0x229 + 2 * k] = int(6500000 * amps * 1.4142 * 16 / 500)
    chip.registers.update(values)


def near(got, want, tolerance):
    assert got is not None and abs(got - want) <= tolerance, (got, want)


class Wire:
    """Keeps the bytes of one access."""

    def __init__(self, answer):
        self.answer = answer
        self.sent = None

    def write_readinto(self, out, into):
        self.sent = bytes(out)
        into[3:] = self.answer

    def readfrom_mem_into(self, device, register, data, addrsize):
        self.sent = (device, register, addrsize)
        data[:] = self.answer

    def writeto_mem(self, device, register, data, addrsize):
        self.sent = (device, register, bytes(data), addrsize)

    def __call__(self, level):
        pass


def test_width_goes_by_the_address():
    for register, answer, value, frame in (
        (0x0FD, b"\x35", 0x35, b"\x00\xfd\x80\x00"),
        (0x10E, b"\x11\x7a", 0x117A, b"\x01\x0e\x80\x00\x00"),
        (0x21E, b"\xff\xff\xfe", 0xFFFFFE, b"\x02\x1e\x80\x00\x00\x00"),
        (0x37F, b"\x48\x73\x91\x63", 0x48739163, b"\x03\x7f\x80\x00\x00\x00\x00"),
    ):
        wire = Wire(answer)
        assert ade.SpiBus(wire, wire).read(register) == value and wire.sent == frame, wire.sent
        wire = Wire(answer)
        assert ade.I2cBus(wire, 0x38).read(register) == value and wire.sent == (0x38, register, 16)
    for register, value, data in (
        (0x0FE, 0xAD, b"\xad"),
        (0x120, 0x0030, b"\x00\x30"),
        (0x102, 0x0004, b"\x00\x04"),
        (0x282, 0x384804, b"\x38\x48\x04"),
        (0x389, -2, b"\xff\xff\xff\xfe"),
    ):
        wire = Wire(data)
        ade.SpiBus(wire, wire).write(register, value)
        assert wire.sent == bytes((register >> 8, register & 0xFF, 0)) + data, wire.sent
        ade.I2cBus(wire, 0x38).write(register, value)
        assert wire.sent == (0x38, register, data, 16)


def test_numbers():
    assert ade.signed(0xFFFFFE, 24) == -2 and ade.signed(0x7FFFFF, 24) == 8388607
    assert ade.signed(0x800000, 24) == -8388608 and ade.signed(0x8000, 16) == -32768
    near(ade.hertz(4474), 50, 1e-5)
    near(ade.hertz(3728), 60, 0.005)
    # One step of the angle is 0.0807 degrees at 50 Hz (0.0969 at 60).
    near(ade.degrees(1, 4474), 0.0804, 1e-4)
    near(ade.degrees(1, 3728), 0.0965, 1e-4)
    near(ade.degrees(746, 4474), 60.01, 0.01)
    near(ade.degrees(0x10000 - 746, 4474), -60.01, 0.01)


def test_gain_register():
    # AN-1118: 0x400000 * 1.9556 / 2.2238.
    assert abs(setup.gain(1.9556 / 2.2238) - 0x384804) <= 1, hex(setup.gain(1.9556 / 2.2238))
    assert setup.gain(1) == 0x400000 and setup.gain(2) == 0x600000 and setup.gain(0.1) == 0x200000


def test_phase_register_is_sign_magnitude():
    assert setup.sign_magnitude(7) == 0x007 and setup.sign_magnitude(-3) == 0x203
    assert setup.sign_magnitude(383) == 0x17F and setup.sign_magnitude(-383) == 0x37F and not setup.sign_magnitude(0)
    # The examples of AN-1118, at 60 degrees lag and 50 Hz: 10141 counts instead of 10185 come from a current that
    # lags 7.09 steps more, 0.98 Hz instead of 0.9778 from one that leads by 3.70. A lead wants a delay.
    for actual, expected, register in ((10141, 10185, 0x207), (0.98, 0.97778, 0x004)):
        lag = math.degrees(math.acos(actual / expected * 0.5)) - 60
        got, turned = setup.phcal(-lag, 50)
        assert got == register, (hex(got), turned, lag)
        near(turned, -lag, 0.0101)
    per_step = 360 * 50 / 895000
    assert setup.phcal(2.5, 50)[0] == round(2.5 / per_step)
    got, turned = setup.phcal(9.0, 50)
    assert got == 383
    near(turned, 383 * per_step, 1e-4)
    assert setup.phcal(-9.0, 60)[0] == 0x200 | 373


def test_scale_of_a_known_board():
    # 154 counts a watt, 100 000 an ampere, 26 000 a volt: the product of the last two is 1168 times the first,
    # which full scale counts explain: 9032007^2 / 4862401 / 26000 / 100000 * 154 = 0.9937.
    full_v, full_i = 9032007 / 26000, 9032007 / 100000
    near(4862401 / (full_v * full_i) / 154, 1.0, 0.01)
    spec = dict(SPI, voltage=[{"mv_per_v": 353.55339 / full_v}], current=[{"shunt_mohm": 353.55339 / full_i}])
    units = setup.registers(spec, PROFILE, calibration.correction(spec))[1]
    near(units[0] * 26000, 1, 1e-5)
    near(units[2][0] * 100000, 1, 1e-5)
    # One count of energy is 23.50 counts of power for a second.
    near(units[4][0] / 1e6 * 4862401 / (full_v * full_i), 23.50, 0.01)


def test_flags():
    assert ade.flags(0x090000, 0, 0, 1) == ("over_voltage", "sag")
    assert ade.flags(0x002000, 0x002000, 0, 2) == ("over_current_i1", "over_current_i2")
    assert ade.flags(0, 0x002000, 0x090000, 2) == ("no_load_i1", "over_current_i2", "no_load_i2")
    assert ade.flags(0, 0x002000, 0x080000, 1) == ()


def test_configuration():
    chip, m = running()
    assert chip.log[:3] == [(0x0FE, 0xAD), (0x120, 0x0030), (0x102, 0x0104)], chip.log[:3]
    g = chip.registers
    assert g[0x007] == 0 and g[0x008] == g[0x009] == 3 and g[0x280] == g[0x28C] == 0x400000
    assert g[0x000] == 2 and g[0x120] == 0x30
    near(g[0x200], 6500000 * 0.78 * 230 * math.sqrt(2) / 500, 2)
    near(g[0x224], 6500000 * 1.22 * 230 * math.sqrt(2) / 500, 2)
    near(g[0x225], 6500000 * 1.2 * 16 * math.sqrt(2) * 16 / 500, 2)
    assert m.warnings == ()
    chip, m = running(SPI)
    assert m.phases == 1 and chip.registers[0x008] == 0 and 0x009 not in chip.registers
    spec = dict(I2C, pga=16)
    warnings = setup.registers(spec, PROFILE, calibration.correction(spec))[-1]
    assert warnings == ("over_current at 120 % lies beyond the converter and is never flagged",), warnings


def test_gains_make_both_currents_count_alike():
    entry = {"voltage": [{"gain": 1.02}], "current": [{"gain": 0.98}, {"gain": 1.9}]}
    correction = calibration.correction(I2C, {"version": 2, "meters": {"main": entry}})
    table, units = setup.registers(I2C, PROFILE, correction)[:2]
    chip = {table[k]: table[k + 1] for k in range(0, len(table), 2)}
    near(chip[0x280], 0.98 * 0x400000, 2)
    assert chip[0x28C] == 0x600000, "1.9 is beyond the register"
    near(units[2][0], 353.55339 / 16 / 9032007, 1e-11)
    near(units[2][1], 353.55339 / 16 / 9032007 * 1.9 / 1.5, 1e-11)
    near(units[0], 353.55339 / 9032007 * 1.02, 1e-9)
    near(units[4][0], 1e6 * 353.55339 * 1.02 * 353.55339 / 16 / 206900, 2)
    assert 0x281 not in chip and 0x28D not in chip


def stored(**entry):
    return {"version": 2, "meters": {"main": entry}}


TRIMS = (0x282, 0x283, 0x286, 0x289, 0x28A, 0x28E, 0x28F, 0x292, 0x295, 0x296)  # gains, noise, offsets of A and B
CLEAR = [0x400000, 0x400000, 0, 0, 0] * 2
FULL_W = 353.55339 * 353.55339 / 16  # of the plug
STEP_W = FULL_W / 4862401 / 512
STEP_A = 353.55339 / 16 / 9032007


def written(chip):
    """What stands in the registers of power and noise, and was written there."""
    log = dict(chip.log)
    assert all(chip.registers[x] == log[x] for x in TRIMS)
    return [log[x] for x in TRIMS]


def signed(value):
    return ade.signed(value, 24)


def test_powers_and_noise_are_put_right_by_the_chip():
    power = [{"gain": 1.25, "offset_w": 3.0, "offset_var": -2.0, "at_v": 230}]
    power.append({"gain": 0.875, "offset_w": -1.5, "at_v": 230})
    entry = stored(power=power, current=[{"noise_a": 0.05}, {"noise_a": 0.02}])
    chip, m = running(stored=entry)
    got = written(chip)
    assert got[:2] == [0x500000] * 2 and got[5:7] == [0x380000] * 2, got
    # Of full scale, 7812.5 W, a step is 1 / 4862401 / 512; noise in units of 4096 squares.
    near(signed(got[3]), -3.0 / STEP_W, 1)
    near(signed(got[4]), 2.0 / STEP_W, 1)
    near(signed(got[8]), 1.5 / STEP_W, 1)
    assert got[9] == 0 and 0 < got[4] < 0x800000 < got[3]
    near(signed(got[2]), -((0.05 / STEP_A) ** 2) / 4096, 1)
    near(signed(got[7]), -((0.02 / STEP_A) ** 2) / 4096, 1)
    load(chip)
    assert block(chip, m).metered == r.PER_PHASE and m.phase_left is False


def test_bytes_of_the_power_registers():
    power = [{"offset_w": 5000 * STEP_W, "offset_var": -STEP_W, "at_v": 230}]
    c = calibration.correction(SPI, stored(power=power))
    chip, applied = setup.trims(c, [FULL_W / 206900], [STEP_A], True)
    assert chip == [0x282, 0x400000, 0x283, 0x400000, 0x286, 0, 0x289, 0x1000000 - 5000, 0x28A, 1], chip
    for register, value, data in ((0x289, chip[7], b"\xff\xec\x78"), (0x28A, chip[9], b"\x00\x00\x01")):
        wire = Wire(data)
        ade.SpiBus(wire, wire).write(register, value)
        assert wire.sent == bytes((register >> 8, register & 0xFF, 0)) + data, wire.sent
        ade.I2cBus(wire, 0x38).write(register, value)
        assert wire.sent == (0x38, register, data, 16)


def test_an_1118s_offset_example():
    """2.273 % more than 0.0195556 Hz behind a divider of 0x2963: the note writes 0xFF233B, with its clock rounded."""
    per_s = 0.02273 * 0.0195556 * 0x2963  # counts of energy
    c = calibration.correction(SPI, stored(power=[{"offset_w": per_s, "at_v": 220}]))
    chip, _ = setup.trims(c, [1.0], [1.0], True)
    near(signed(chip[7]) / signed(0xFF233B), 1, 0.003)
    # A current that reads 17250 where 17000 are expected wants 0xFFF7D6.
    noise = math.sqrt(17250 * 17250 - 17000 * 17000)
    c = calibration.correction(SPI, stored(current=[{"noise_a": noise}]))
    chip, _ = setup.trims(c, [1.0], [1.0], True)
    near(chip[5], 0xFFF7D6, 1)


def test_what_another_calibration_has_left_is_taken_away():
    """The chip keeps its registers over a restart of the node: all of them are written, whatever they must be."""
    chip = Chip()
    chip.registers.update(dict.fromkeys(TRIMS, 0x123456))
    m = ade.Meter(I2C, PROFILE, Machine(chip), chip)
    m.start(calibration.correction(I2C))
    settle(chip, m)
    assert written(chip) == CLEAR


def test_offsets_of_the_chip_end_somewhere():
    most = 8388607 * STEP_W
    for part, entry in (
        ("offset", {"power": [{"offset_w": 0.5, "at_v": 230}, {"offset_w": 1.001 * most, "at_v": 230}]}),
        ("offset", {"power": [{"offset_var": -1.001 * most, "at_v": 230}]}),
        ("offset", {"power": [{"offset_w": 1e30, "at_v": 230}]}),
        ("noise", {"current": [{"noise_a": 0.1}, {"noise_a": 0.46}]}),
        ("noise", {"current": [{"noise_a": 10000}]}),
    ):
        # All currents or none: no wrap, and no current with half of it.
        chip, _ = running(stored=stored(**entry), applied=APPLIED - {part})
        assert written(chip) == CLEAR, (part, entry, written(chip))
    power = [{"offset_w": 0.999 * most, "at_v": 230}, {"offset_var": -0.999 * most, "at_v": 230}]
    chip, _ = running(stored=stored(power=power))
    near(signed(written(chip)[3]) / -8380218, 1, 1e-5)
    near(signed(written(chip)[9]) / 8380218, 1, 1e-5)
    chip, _ = running(stored=stored(current=[{"noise_a": 0.45}]))
    near(signed(written(chip)[2]) / (-((0.45 / STEP_A) ** 2) / 4096), 1, 1e-5)


def test_what_the_software_must_do_before_an_offset_keeps_it_there():
    power = [{"gain": 1.51, "offset_w": 1.0, "at_v": 230}]
    c = calibration.correction(I2C, stored(power=power, current=[{"noise_a": 0.01}]))
    chip, applied = setup.trims(c, [FULL_W / 206900], [STEP_A], True)
    assert applied == ("noise",) and chip[1] == chip[3] == 0x400000 and chip[7] == chip[9] == 0 != chip[5]
    c = calibration.correction(I2C, stored(power=[{"gain": 1.5, "offset_w": 1.0, "at_v": 230}]))
    chip, applied = setup.trims(c, [FULL_W / 206900], [STEP_A], False)  # a lead is not all taken off
    assert applied == ("power", "noise") and chip[1] == 0x600000 and chip[7] == 0


def test_units_of_the_offsets_follow_the_gains():
    """A gain of a current makes its counts worth less or more, and its offsets with them."""
    entry = stored(
        voltage=[{"gain": 1.02}],
        current=[{"gain": 0.98}, {"gain": 1.9, "noise_a": 0.05}],
        power=[{"offset_w": 2.0, "at_v": 230}] * 2,
    )
    chip, _ = running(stored=entry)
    got = written(chip)
    near(signed(got[3]), -2.0 / (STEP_W * 1.02), 1)
    near(signed(got[8]), -2.0 / (STEP_W * 1.02 * 1.9 / 1.5), 1)
    near(signed(got[7]), -((0.05 / (STEP_A * 1.9 / 1.5)) ** 2) / 4096, 1)


def test_an_outlet_is_what_it_is_wired_to():
    m = ade.Meter(dict(I2C, order=[2, 1]), PROFILE, Machine(Chip()), Chip())
    try:
        m.start(calibration.correction(I2C))
    except ValueError as e:
        assert "cannot be exchanged" in str(e)
        return
    raise AssertionError("no refusal")


def test_front_ends_that_cannot_be_are_refused():
    for spec in (dict(I2C, pga=22), dict(I2C, pga=3)):
        m = ade.Meter(spec, PROFILE, Machine(Chip()), Chip())
        try:
            m.start(calibration.correction(spec))
        except ValueError as e:
            assert "pga" in str(e)
        else:
            raise AssertionError("no refusal")


def test_values_of_a_block():
    for amps, lag in ((8, 30), (0.4, -60), (15, 150), (1, -170), (16, 0)):
        chip, m = running()
        load(chip, 231.5, amps, lag)
        x = block(chip, m)
        assert not x.quality and x.ms == 1000 and x.metered == r.PER_PHASE
        p = 231.5 * amps * math.cos(math.radians(lag))
        for k in (1, 2):
            near(x.at[k]["voltage"], 231.5, 1e-3)
            near(x.at[k]["current"], amps, 1e-4)
            near(x.at[k]["power"], p, 0.06)
            near(x.at[k]["reactive_power"], 231.5 * amps * math.sin(math.radians(lag)), 0.06)
            near(x.at[k]["phase_angle"], lag, 0.1)
            joules = x.energy[2 * k] - x.energy[2 * k + 1]
            near(joules / 1e6, p, 0.06)
            assert x.energy[2 * k + (p > 0)] == 0
        near(x.at[0]["frequency"], 50, 1e-4)
        near(x.energy_step, 1e6 * 353.55339 * 353.55339 / 16 / 206900, 1)
        assert x.energy_ms == 1000
        x = block(chip, m)
        assert x.at[1]["power"] == 0 and not any(x.energy), "counters are cleared by a read"
    for name in m.names:
        assert name in x.at[1] or name in x.at[0], name


def test_one_current_over_spi():
    chip, m = running(SPI)
    load(chip)
    x = block(chip, m)
    scale = 353.55339 / 5 / (353.55339 / 16)
    near(x.at[0]["current"], 8 * scale, 1e-3)
    near(x.at[0]["power"], 230 * 8 * scale * math.cos(math.radians(30)), 0.3)
    assert len(x.at) == 1 and x.flags == ()


def test_lead_beyond_the_register_is_rotated():
    spec = dict(SPI, current=[{"ratio": 2000, "burden_ohm": 10, "phase_deg": 9.0}])
    chip, m = running(spec, applied=APPLIED - {"offset"})
    assert chip.registers[0x108] == 383 and m.phase_left
    load(chip, lag=0)
    x = block(chip, m)
    left = 9 - 383 * 360 * 50 / 895000
    near(math.degrees(math.atan2(x.at[0]["reactive_power"], x.at[0]["power"])), left, 1e-3)
    near(x.at[0]["phase_angle"], left, 1e-3)
    assert not x.metered


def test_without_load_or_supply():
    chip, m = running()
    load(chip, amps=0.01)
    chip.registers[0x201] = 0x090000
    x = block(chip, m)
    assert x.at[1]["phase_angle"] is None and not x.quality and x.flags == ("no_load_i1", "no_load_i2")
    load(chip, volts=3)
    x = block(chip, m)
    assert x.at[0]["frequency"] is None and x.at[1]["phase_angle"] is None and not x.quality
    chip.frozen = True
    for _ in range(3 * m.stuck_after):
        assert not block(chip, m).quality


def test_what_is_picked_up_without_load_shows_when_it_is_asked_for():
    """The chip reads P and Q as 0 below its no-load threshold unless DISNOLOAD says otherwise."""
    chip, m = running()
    assert chip.registers[0x001] == 0
    m.deadband = 0
    chip.reset()
    block(chip, m)
    settle(chip, m)
    assert chip.registers[0x001] == 7
    chip, m = running()  # the next one takes it back
    chip.registers[0x001] = 7
    chip.registers[0x22E] = 0x100000
    block(chip, m)
    settle(chip, m)
    assert chip.registers[0x001] == 0


def test_full_scale_is_saturated():
    chip, m = running()
    load(chip)
    chip.registers[0x22B] = 6400000
    x = block(chip, m)
    assert x.quality == {"i2": "saturated", "p2": "saturated", "q2": "saturated", "angle2": "saturated"}, x.quality
    load(chip)
    chip.registers[0x227] = 6400000
    x = block(chip, m)
    assert x.quality["v1"] == x.quality["p2"] == "saturated" and x.at[1]["current"] is not None
    load(chip)
    assert not block(chip, m).quality


def per_block(chip, m):
    load(chip)
    before = chip.accesses
    assert not block(chip, m).quality
    return chip.accesses - before


def counts(x, m):
    return [x.energy[k] // m._steps[0] for k in (2, 3, 4, 5)]


def test_one_bad_access_costs_nothing():
    """Every single access garbled, not acknowledged before or after the chip has heard it: values and energy stand."""
    for spec in (I2C, dict(SPI, pga=8, current=I2C["current"])):
        chip, m = running(spec)
        load(chip)
        total = per_block(chip, m)
        for k in range(1, total + 1):
            for fault in ("flip", "deaf", "mute"):
                load(chip)
                chip.registers.update({0x21E: 1234, 0x21F: 0xFFFFF0, 0x22E: 0x080000})
                n = chip.accesses + k
                chip.flip = {n: 0x4} if fault == "flip" else {}
                chip.deaf = (n,) if fault == "deaf" else ()
                chip.mute = (n,) if fault == "mute" else ()
                x = block(chip, m)
                assert not x.quality and counts(x, m) == [1234, 0, 0, 16], (fault, k, x.quality, counts(x, m))
                assert x.flags == ("sag",), (fault, k, x.flags)
                near(x.at[1]["voltage"], 230, 1e-3)
        assert m.errors > 2 * total


def test_energy_before_a_fault_comes_after_it():
    """The bus dies at any access, with and without the chip hearing on, and comes back two readings later."""
    for spec in (I2C, dict(SPI, pga=8, current=I2C["current"])):
        chip, m = running(spec)
        total = per_block(chip, m)
        for fault in ("deaf", "mute"):
            for k in range(1, total + 1):
                load(chip)
                chip.registers.update({0x21E: 1234, 0x21F: 0xFFFFF0, 0x22E: 0x010000})
                lost = range(chip.accesses + k, chip.accesses + 5000)
                chip.deaf = lost if fault == "deaf" else ()
                chip.mute = lost if fault == "mute" else ()
                x = block(chip, m)
                assert x.quality["v1"] == "bus_fault" and not any(x.energy), (fault, k)
                assert block(chip, m).quality["v1"] == "bus_fault"
                chip.deaf = chip.mute = ()
                chip.registers[0x21E] += 6
                x = block(chip, m)
                assert not x.quality and counts(x, m) == [1240, 0, 0, 16], (fault, k, counts(x, m), x.quality)
                assert x.flags == ("over_voltage",) and x.energy_ms == 3000 and x.ms == 1000, (fault, k, x.flags)
                near(x.at[1]["power"], 1240 * m._steps[0] / 3e6, 0.01)


def test_counts_of_too_long_a_time_are_not_believed():
    chip, m = running()
    load(chip)
    chip.deaf = range(chip.accesses + 30, chip.accesses + 9999)
    for _ in range(45):
        block(chip, m)
    chip.deaf = ()
    load(chip, seconds=45)  # more than 24 bits hold: it would read as exported
    x = block(chip, m)
    assert x.quality["p1"] == "stale" and not any(x.energy)
    load(chip)
    x = block(chip, m)
    assert not x.quality and x.energy[2] > 0 and not x.energy[3]
    near(x.at[1]["power"], 230 * 8 * math.cos(math.radians(30)), 0.1)
    assert ade.Meter(dict(I2C, period_ms=60000), PROFILE, Machine(chip), chip).period_ms == 20000


def test_dead_buses_are_faults_and_heal():
    for level in (0xFF, 0x00):
        for spec in (I2C, SPI):
            chip, m = running(spec)
            load(chip)
            chip.answer = level
            wrote = len(chip.log)
            for _ in range(3):
                x = block(chip, m)
                assert "bus_fault" in x.quality.values() and x.at[0].get("voltage") is None and x.covered_ms == 0
            assert "no proper answer" in m.problem and len(chip.log) == wrote, "a silent chip is not written to"
            chip.answer = None
            load(chip)
            assert not block(chip, m).quality and len(chip.log) == wrote


def test_a_chip_that_was_reset_is_set_up_again():
    chip, m = running()
    load(chip)
    chip.reset()
    assert block(chip, m).quality["v1"] == "bus_fault", "no value from a chip that has lost its gains"
    settle(chip, m)
    assert chip.registers[0x120] == 0x30 and chip.registers[0x102] == 0x0104
    # Unplugged after the energy of the first current was read, and plugged in again after a while.
    load(chip)
    chip.registers.update({0x21E: 1234, 0x22E: 0x080000})
    chip.deaf = range(chip.accesses + 40, chip.accesses + 9999)
    assert block(chip, m).quality["v1"] == "bus_fault" and block(chip, m).quality["v1"] == "bus_fault"
    chip.reset()
    chip.deaf = ()
    block(chip, m)
    x = block(chip, m)
    assert not x.quality and x.at[1]["power"] == 0 and counts(x, m) == [1234, 0, 0, 0] and x.flags == ("sag",), x.energy
    # An upset configuration changes the checksum.
    chip.registers[0x22E] = 0x200000
    assert block(chip, m).quality["v1"] == "bus_fault"
    settle(chip, m)


def test_a_write_that_does_not_stay_is_a_fault():
    chip = Chip()
    m = ade.Meter(SPI, PROFILE, Machine(chip), chip)
    m.start(calibration.correction(SPI))
    chip.deaf = (chip.accesses + 1,)  # the unlocking: the next write has no effect
    assert block(chip, m).quality["voltage"] == "bus_fault" and "120" in m.problem, m.problem
    chip.deaf = ()
    settle(chip, m)


def test_a_chip_that_has_stopped_measuring_is_stale():
    chip, m = running()
    chip.frozen = True
    for k in range(m.stuck_after + 1):
        load(chip)
        x = block(chip, m)
        assert k == m.stuck_after or not x.quality, k
    assert x.quality["v1"] == "stale" and x.at[1]["voltage"] is None, x.quality
    chip.frozen = False
    settle(chip, m)
    chip.registers.update({0x21A: 0, 0x21B: 0, 0x21C: 0})
    x = block(chip, m)
    assert x.quality["v1"] == "stale" and "noise" in m.problem, "a chip that has never measured reads zeros"


def test_garbage_of_a_reading():
    chip, m = running()
    used = 0

    async def run():
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        await m.block()
        after = gc.mem_alloc()
        gc.enable()
        return after - before

    class Quiet:
        """A bus that allocates nothing."""

        def __init__(self, chip):
            self.small = [bytearray(n) for n in (1, 2, 3, 4)]

        def read(self, register):
            if register == 0x0FD:
                return 0x35
            if register == 0x1FE:
                return self.register
            if register & 0xFF == 0xFF:
                return self.value
            self.register = register
            self.value = 1000 if register < 0x22E else 0
            return self.value

    m._bus = Quiet(chip)
    for _ in range(2):
        chip.ms += 1000
        used = asyncio.run(run())
    assert not m.reading.quality, m.problem
    print("garbage of a reading:", used)
    assert used < 3000, used
