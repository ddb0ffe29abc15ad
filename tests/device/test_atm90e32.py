"""ATM90E32 codec, byte by byte, and the driver on a bus that misbehaves. Values: datasheet and application note."""

import asyncio
import gc

from gridnode import reading as r
from gridnode.meters import atm90e32 as atm
from gridnode.meters.angle import lag, left
from gridnode.setup import atm90e32 as setup
from gridnode.setup import calibration

SPEC = {
    "id": "main",
    "spi": {"id": 2, "sck": 18, "mosi": 23, "miso": 19, "cs": 5},
    "pga": 1,
    "current_scale": 4,
    "voltage": [{"mv_per_v": 0.5949}] * 3,
    "current": [{"ratio": 2000, "burden_ohm": 4.8, "phase_deg": 0.5}] * 3,
}
PROFILE = {"nominal": {"voltage": 230, "frequency": 50}, "rating": {"current": 200}}
APPLIED = ("gain", "phase", "power", "offset")


class Bus:
    """A register file behind `machine.SPI` and `Pin`: just enough to make accesses succeed or fail."""

    def __init__(self):
        self.registers = {}
        self.last = 0
        self.answer = None  # all bytes of every answer
        self.flip = {}  # access number -> mask on what the master receives
        self.unseen = ()  # access numbers that do not reach the chip
        self.accesses = 0
        self.ms = 0
        self.fail_after = None  # from this access on all answers are ones
        self.frozen = False  # the last digits of phase C do not move
        self.resets = 0
        self.written = []  # frames
        self.reset()

    def reset(self):
        self.resets += 1
        self.registers.clear()
        self.registers.update({0x33: 0x0087, 0xE9: 0x0300})  # noise
        self.last = 0

    def SPI(self, number, **kwargs):
        assert kwargs["polarity"] == 1 and kwargs["phase"] == 1
        self.opened = number, kwargs["baudrate"]
        return self

    def write_readinto(self, out, into):
        self.accesses += 1
        if self.accesses in self.unseen:
            into[2] = into[3] = 0xFF
            return
        address = (out[0] & 3) << 8 | out[1]
        if out[0] & 0x80:
            value = self.last if address == 0x78 else self.registers.get(address, 0)
            if address == 0xEB and not self.frozen:
                value = self.registers[address] = value + 0x700 & 0xFF00
            if 0x80 <= address <= 0x8F:
                self.registers[address] = 0
            self.last = value
        else:
            self.written.append(bytes(out))
            value = self.last = out[2] << 8 | out[3]
            if address == 0x70:
                self.reset()
            elif address not in (0x73, 0x74):
                self.registers[address] = value
            else:
                self.registers[address] = self.registers.get(address, 0) & ~value
        value ^= self.flip.pop(self.accesses, 0)
        into[2], into[3] = value >> 8, value & 0xFF
        if self.fail_after and self.accesses >= self.fail_after:
            into[2] = into[3] = 0xFF
        if self.answer is not None:
            into[2] = into[3] = self.answer

    def ticks_ms(self):
        return self.ms

    def ticks_diff(self, a, b):
        return a - b


class Machine:
    def __init__(self, bus):
        self.SPI = bus.SPI
        self.Pin = _Pin


class _Pin:
    OUT = 1

    def __init__(self, number, mode=None, value=None):
        pass

    def __call__(self, level):
        pass


def block(bus, m, ms=320):
    bus.ms += ms
    return asyncio.run(m.block())


def running(spec=SPEC, stored=None, applied=APPLIED):
    bus = Bus()
    m = atm.Meter(spec, PROFILE, Machine(bus), bus)
    assert bus.accesses == 0
    assert set(m.start(calibration.correction(spec, stored))) == set(applied)
    assert bus.accesses == 0
    settle(bus, m)
    return bus, m


def settle(bus, m, reason=None):
    """Set the chip up and let its first window pass, in which there are no values."""
    x = block(bus, m)
    assert x.quality["v1"] == "stale" and x.quality["frequency"] == "stale" and x.at[1]["voltage"] is None, x.quality
    assert block(bus, m, 400).quality.get("v1") == reason, m.problem


def fill(bus):
    for k in range(3):
        bus.registers.update({0xD9 + k: 23012, 0xE9 + k: 0x4000, 0xDD + k: 12500, 0xED + k: 0x8000})
        bus.registers.update({0xB1 + k: 0x0012, 0xC1 + k: 0x3456, 0xB5 + k: 0xFFFF, 0xC5 + k: 0xFF00})
        bus.registers.update({0xD5 + k: 0xFFFF, 0xE5 + k: 0xF000, 0xF9 + k: 3455})
    bus.registers.update({0xF8: 5002, 0xFC: 0xFFFB, 0xDC: 1234})


def near(got, want, tolerance):
    assert got is not None and abs(got - want) <= tolerance, (got, want)


def test_frames():
    assert atm.frame(0x70, 0x789A) == b"\x00\x70\x78\x9a"
    assert atm.frame(0x7F, 0x55AA) == b"\x00\x7f\x55\xaa"
    assert atm.frame(0x78) == b"\x80\x78\x00\x00"
    assert atm.frame(0x219, 0x01C1) == b"\x02\x19\x01\xc1"


def test_numbers():
    assert atm.signed32(0x0012, 0x3456) == 0x123456
    assert atm.signed32(0xFFFF, 0xFF00) == -256
    assert atm.signed32(0x8000, 0) == -(1 << 31)
    # 122 % of 220 V with gain 7305 would be 85132: clamped.
    assert setup.threshold(1.22 * 22000, 7305) == 0xFFFF
    assert setup.threshold(0.78 * 22000, 42791) == 9291, setup.threshold(0.78 * 22000, 42791)


def test_gains_fill_the_registers():
    u, i = setup.gains(SPEC, 0)
    assert abs(u - 42789) < 30 and abs(i - 26516) < 30, (u, i)


def test_phase_register():
    step = 360 * 50 / 2048000
    for lead, register, turned in (
        (0.5, 57, 57 * step),
        (-0.5, 0x8000 | 57, -57 * step),
        (255.4 * step, 255, 255 * step),
        (4.0, 255, 255 * step),
        (-4.0, 0x80FF, -255 * step),
        (0.0, 0, 0),
    ):
        got, taken = setup.phi(lead, 50)
        assert got == register, (lead, got)
        near(taken, turned, 1e-5)


def test_lead_at_other_frequencies():
    assert left(2.0, 2.0, 1) == 0 and left(4.0, 2.25, 1) == 1.75
    near(left(2.0, 2.0, 1.3), 2 / 1.3 - 2.6, 1e-5)  # a transformer leads less, the delay turns more
    assert left(-0.5, -0.5, 1.3) == 0  # a filter lags like a delay


def test_angle_takes_its_side_from_the_reactive_power():
    assert lag(30, 1.0, 0) == lag(330, 1.0, 0) == lag(-30, 1.0, 0) == 30
    assert lag(30, -1.0, 0) == lag(330, -1.0, 0) == -30
    assert lag(180, 0.0, 0) == 180 and lag(0, -1.0, 0) == 0
    assert lag(179, 1.0, 2) == -179 and lag(181, -1.0, -2) == 179 and lag(1, -1.0, 2) == 1


def test_flags():
    assert atm.flags(0x8000, 0x2000) == ("over_current_i1", "sag_v2")
    assert atm.flags(0x0400, 0x0100) == ("over_voltage_v3", "phase_loss_v3")
    assert atm.flags(0x0200, 0) == ("sequence",) and atm.flags(0, 0) == ()
    # What is not wired is lost for ever: not a word of it.
    assert atm.flags(0x7E00, 0x3700, 1) == ("over_voltage_v1", "phase_loss_v1")


def test_thresholds_of_different_gains():
    # The lower gain needs the higher threshold: no dip is missed.
    a, b = setup.threshold(78 * 230, 42000), setup.threshold(78 * 230, 44000)
    assert a > b and setup.common(78, 230, (42000, 44000)) == a
    assert setup.common(122, 230, (42000, 44000)) == setup.threshold(122 * 230, 44000)
    # With gains far apart the higher one must not be flagged at its nominal voltage.
    assert setup.common(78, 230, (30000, 44000)) == setup.threshold(89 * 230, 44000)
    assert setup.common(122, 230, (30000, 44000)) == setup.threshold(111 * 230, 30000)


def configuration(spec, profile=PROFILE):
    table, leads, _, _, warnings = setup.registers(spec, profile, calibration.correction(spec))
    return {table[k]: table[k + 1] for k in range(0, len(table), 2)}, leads, warnings


def test_configuration():
    chip, leads, warnings = configuration(SPEC)
    assert warnings == () and len(leads) == 3
    near(leads[0][1], 0.5, 0.005)
    u, c = chip[0x61], chip[0x62]
    assert chip[0x65] == chip[0x69] == u and abs(u - 42790) < 2 and abs(c - 26517) < 2, chip
    assert chip[0x31] == 0x0861 and chip[0x32] == 0xC468 and chip[0x33] == 0x0087 and chip[0x34] == 0
    assert chip[0x08] == setup.threshold(78 * 230, u) and chip[0x06] == setup.threshold(122 * 230, u)
    assert chip[0x09] == setup.threshold(10 * 230, u) and chip[0x05] == 0x1414
    assert chip[0x0B] == setup.threshold(120 * 10 * 200 / 4, c)
    assert chip[0x0C] == 4700 and chip[0x0D] == 5300
    profile = {"nominal": {"voltage": 230, "frequency": 60}, "rating": {"current": 200}}
    profile["events"] = {"dip": 90, "swell": 110, "interruption": 5}
    chip, _, _ = configuration(dict(SPEC, pga=2, current_scale=2), profile)
    assert chip[0x33] == 0x1087 and chip[0x34] == 0x15 and chip[0x0C] == 5700 and chip[0x0D] == 6300
    assert chip[0x08] == setup.threshold(90 * 230, u) and chip[0x09] == setup.threshold(5 * 230, u)


def stored(**entry):
    return {"version": 2, "meters": {"main": entry}}


def power_frames(bus):
    """What was written to the registers of power and the map of the inputs, in the order of the addresses."""
    places = [0x01] + [x for x in range(0x41, 0x57) if x not in (0x48, 0x4A, 0x4C)]
    return sorted([x for x in set(bus.written) if x[0] == 0 and x[1] in places])


def test_powers_are_put_right_by_the_chip():
    # A step of an offset is 0.00032 W of the chip, here 0.00128 W; the gain is in 2^-15 of what it adds.
    power = [{"gain": 1.25, "offset_w": 1.28, "offset_var": -0.64, "at_v": 230}, {"gain": 0.875}]
    power.append({"offset_w": -41.9328, "offset_var": 41.9328, "at_v": 230})
    bus, m = running(SPEC, stored(power=power))
    assert m.phase_left is False and power_frames(bus) == [
        b"\x00\x41\xfc\x18",  # -1000 steps of P
        b"\x00\x42\x01\xf4",  # 500 of Q
        b"\x00\x45\x7f\xf8",  # 32760, all but the end of the register
        b"\x00\x46\x80\x08",
        b"\x00\x47\x20\x00",
        b"\x00\x49\xf0\x00",
        b"\x00\x51\xfc\x18",  # the fundamental's, or the harmonic power would have what is taken off
        b"\x00\x53\x7f\xf8",
    ], power_frames(bus)
    fill(bus)
    assert block(bus, m).metered == r.PER_PHASE
    # Nothing of it in the voltage's and the current's offset registers, nor without a calibration.
    assert not [x for x in bus.written if x[1] in (0x63, 0x64, 0x67, 0x68, 0x6B, 0x6C)]
    bus, _ = running()
    assert power_frames(bus) == []


def test_the_example_of_the_application_note():
    # An energy error of -13.78 % at PF 1 wants 1475H (4.2.7).
    chip, applied = setup.power([(1 / (1 - 0.1378), 0.0, 0.0)], 1, 1, True)
    assert chip == [0x47, 0x1475] and applied == ("power", "offset"), chip


def test_offsets_that_do_not_fit_are_left_to_the_software():
    at = 230
    for name, value in (("w", 41.95), ("w", -41.95), ("var", 41.95), ("var", -1e4), ("w", 3e38)):
        power = [{}, {"offset_" + name: value, "at_v": at, "gain": 1.01}, {"offset_w": 1.0, "at_v": at}]
        bus, _ = running(SPEC, stored(power=power), ("gain", "phase", "power"))
        # All phases or none: no wrap, and no phase with half of it.
        assert power_frames(bus) == [b"\x00\x49\x01\x48"], power_frames(bus)
    # One that the software must rotate first, too.
    spec = dict(SPEC, current=[SPEC["current"][0], dict(SPEC["current"][0], phase_deg=2.5), SPEC["current"][0]])
    bus, m = running(spec, stored(power=[{"offset_w": 1.0, "at_v": at}]), ("gain", "phase", "power"))
    assert power_frames(bus) == [] and m.phase_left


def test_gains_that_do_not_fit_are_left_to_the_software():
    for gain, applied in ((1.9999, True), (2.0, False), (0.001, True), (2.5, False)):
        chip, got = setup.power([(gain, 1.0, 0.0)], 1, 1, True)
        assert (("power", "offset") if applied else ()) == got
        assert applied or not chip
    assert setup.power([(1.9999, 0.0, 0.0)], 1, 1, True)[0] == [0x47, 0x7FFD]


def test_the_scale_of_the_chips_watts():
    spec = dict(SPEC, voltage_scale=50, current_scale=16, voltage=[{"mv_per_v": 0.012}])
    spec["current"] = [{"ratio": 600, "burden_ohm": 0.4}]
    profile = {"nominal": {"voltage": 24000, "frequency": 50}, "rating": {"current": 600}}
    c = calibration.correction(spec, stored(power=[{"offset_w": 256.0, "offset_var": 0.256, "at_v": 24000}]))
    table = setup.registers(spec, profile, c)[0]
    chip = {table[k]: table[k + 1] for k in range(0, len(table), 2)}
    assert chip[0x41] == 0x10000 - 1000 and chip[0x42] == 0x10000 - 1 and 0x43 not in chip and 0x47 not in chip


def test_inputs_of_the_phases():
    for order, value in (([2, 1, 3], 0x0201), ([3, 1, 2], 0x0102), ([2, 3, 1], 0x0021), ([1, 2, 3], 0x0210)):
        assert setup.current_map(order) == value
        bus, _ = running(dict(SPEC, order=order))
        assert power_frames(bus) == [b"\x00\x01" + bytes((value >> 8, value & 0xFF))]
        assert not [x for x in bus.written if x[:2] == b"\x00\x02"], "the voltages stay"
    assert setup.current_map([2, 1]) == 0x0201


def test_gains_and_leads_go_with_the_inputs():
    spec = {"driver": "atm90e32", "current": [dict(SPEC["current"][0], burden_ohm=4.8 + 0.2 * k) for k in range(3)]}
    spec = dict(SPEC, **spec)
    document = stored(order=[3, 1, 2], current=[{"gain": 1.01}, {"phase_deg": 1.0}])
    calibration.install({"nominal": {}, "meters": [spec]}, document)
    table = setup.registers(spec, PROFILE, calibration.correction(spec, document))[0]
    chip = {table[k]: table[k + 1] for k in range(0, len(table), 2)}
    design = 1000 * 720 / 2.8284271 / (1000 / 2000 * 4)
    for address, want in ((0x62, design / 5.2), (0x66, 1.01 * design / 4.8), (0x6A, design / 5.0)):
        assert abs(chip[address] - want) < 1, (address, chip[address], want)
    assert chip[0x01] == 0x0102 and chip[0x4C] == setup.phi(1.0, 50)[0] and chip[0x48] == setup.phi(0.5, 50)[0]


def test_medium_voltage_is_scaled():
    spec = dict(SPEC, voltage=[{"mv_per_v": 0.012}], current=[{"ratio": 600, "burden_ohm": 0.4}])
    spec["voltage_scale"], spec["current_scale"] = 50, 16
    profile = {"nominal": {"voltage": 24000, "frequency": 50}, "rating": {"current": 600}}
    chip, _, warnings = configuration(spec, profile)
    u = 100 * 720 / 2.8284271 / (0.012 * 50)
    assert abs(chip[0x61] - u) < 1 and not warnings
    assert chip[0x08] == setup.threshold(78 * 480, chip[0x61])
    bus = Bus()
    m = atm.Meter(spec, profile, Machine(bus), bus)
    m.start(calibration.correction(spec))
    block(bus, m)
    fill(bus)
    bus.registers.update({0x81: 2, 0xD9: 48000})
    x = block(bus, m, 400)
    near(x.at[0]["voltage"], 50 * 480.0025, 0.01)
    near(x.at[0]["current"], 16 * 12.5005, 1e-3)
    near(x.at[0]["power"], 800 * 0x123456 * 0.00032, 1)
    assert x.energy[0] == 2 * 11250000 * 800 and x.energy_step == 11250000 * 800
    assert "neutral_current" not in m.names and "neutral_current" not in x.at[0]


def test_what_cannot_be_flagged_is_said():
    # A sensor that fills half of the converter at nominal voltage: 122 % of it still fits, 200 % would not.
    spec = dict(SPEC, voltage=[{"mv_per_v": 2.8}] * 3)
    _, _, warnings = configuration(spec)
    assert warnings == ("over_voltage at 122 % lies beyond the converter and is never flagged",), warnings


def test_values_of_a_block():
    bus, m = running()
    fill(bus)
    bus.registers.update({0x81: 10, 0x86: 3, 0x73: 0x2000})
    x = block(bus, m)
    near(x.at[1]["voltage"], 230.1225, 1e-3)
    near(x.at[2]["current"], 4 * 12.5005, 1e-3)
    near(x.at[3]["power"], 0x123456 * 0.00032 * 4, 1e-2)
    near(x.at[3]["reactive_power"], -256 * 0.00032 * 4, 0.05)  # less than a step of the phase register is left
    near(x.at[3]["harmonic_power"], -4096 * 0.00032 * 4, 1e-3)
    near(x.at[1]["phase_angle"], -14.5, 0.01)
    near(x.at[0]["neutral_current"], 4 * 1.234, 1e-4)
    near(x.at[0]["frequency"], 50.02, 1e-4)
    assert x.at[0]["temperature"] == -5
    # 3.125 mWh times the scale of four, in uJ.
    assert x.metered == r.PER_PHASE and x.energy_step == 45000000
    assert x.energy == [0, 0, 10 * 45000000, 0, 0, 3 * 45000000, 0, 0], x.energy
    assert x.flags == ("over_current_i3",), x.flags
    assert block(bus, m).flags == (), "latched flags are cleared by writing ones"
    bus.registers[0x72] = 0x4000
    assert block(bus, m).flags == block(bus, m).flags == ("sag_v1",), "what lasts is flagged as long as it does"
    for name in m.names:
        assert name in x.at[1] or name in x.at[0], name


def test_words_of_two_windows_are_not_mixed():
    bus, m = running()
    fill(bus)
    bus.registers.update({0xB1: 0x0012, 0xC1: 0xFFFF})
    later = {0xB1: 0x0013, 0xC1: 0x0001}
    read = bus.write_readinto

    def refreshed(out, into):  # between the first reads of the two words
        if out[0] == 0x80 and out[1] == 0xC1:
            bus.registers.update(later)
        read(out, into)

    bus.write_readinto = refreshed
    near(block(bus, m).at[1]["power"], 0x130001 * 0.00032 * 4, 0.05)


def test_no_angle_without_a_current_and_no_frequency_without_a_voltage():
    bus, m = running()
    fill(bus)
    bus.registers.update({0xDD: 10})
    x = block(bus, m)
    assert x.at[1]["phase_angle"] is None and x.at[2]["phase_angle"] is not None and not x.quality
    for k in range(3):
        bus.registers[0xD9 + k] = 40
    x = block(bus, m)
    assert x.at[0]["frequency"] is None and not x.quality


def test_what_the_phase_register_cannot_do_is_rotated():
    spec = dict(SPEC, current=[{"ratio": 2000, "burden_ohm": 4.8, "phase_deg": 4.0}] * 3)
    bus, m = running(spec, None, ("gain", "phase", "power"))
    assert m.phase_left
    fill(bus)
    p = 1000000
    bus.registers[0xF8] = 5000
    bus.registers.update({0xB1: p >> 16, 0xC1: p & 0xFFFF, 0xB5: 0, 0xC5: 0, 0xF9: 0, 0x81: 7})
    x = block(bus, m)
    left = 4.0 - 255 * 360 * 50 / 2048000
    near(x.at[1]["phase_angle"], left, 1e-3)
    near(x.at[1]["reactive_power"] / x.at[1]["power"], 0.030706, 1e-5)
    assert not x.metered, "the chip's counts lack the rotation"


def test_a_flipped_bit_is_corrected_and_energy_kept():
    bus, m = running()
    fill(bus)
    block(bus, m)
    before = bus.accesses
    block(bus, m)
    for k in range(1, bus.accesses - before + 1):
        bus.registers.update({0x81: 100, 0x82: 100, 0x87: 0})
        errors = m.errors
        bus.flip = {bus.accesses + k: 0x0100}
        x = block(bus, m)
        assert not x.quality and x.energy[2] == x.energy[4] == 4500000000, (k, x.quality, x.energy)
        near(x.at[1]["voltage"], 230.1225, 1e-3)
        assert m.errors == errors + 1 and not bus.flip, k


def test_a_frame_that_the_chip_does_not_see_counts_nothing_twice():
    bus, m = running()
    fill(bus)
    block(bus, m)
    before = bus.accesses
    block(bus, m)
    for k in range(1, bus.accesses - before + 1):
        bus.registers.update({0x81: 100, 0x82: 23, 0x83: 23012})
        bus.unseen = (bus.accesses + k,)
        got = [0] * 8
        for _ in range(3):  # after a fault the chip is asked again, what remained comes with the next reading
            x = block(bus, m)
            got = [a + b for a, b in zip(got, x.energy)]
        assert not x.quality and got == [0, 0, 4500000000, 0, 23 * 45000000, 0, 23012 * 45000000, 0], (k, got)


def test_energy_before_a_fault_comes_after_it():
    """Whatever access the bus dies at, and however, no increment is lost that the chip can still tell."""
    for level in (0xFF, None):
        bus, m = running()
        fill(bus)
        block(bus, m)
        before = bus.accesses
        block(bus, m)
        for k in range(1, bus.accesses - before + 1):
            bus.registers.update({0x81: 100, 0x82: 23, 0x87: 5, 0x74: 0x2000})
            start = bus.accesses
            bus.unseen = range(start + k, start + 500) if level is None else ()
            bus.fail_after = start + k if level else None
            x = block(bus, m)
            assert x.quality["v1"] == "bus_fault" and not x.metered and not any(x.energy), k
            assert "v1" in block(bus, m).quality
            bus.unseen, bus.fail_after = (), None
            bus.registers[0x81] += 7
            x = block(bus, m)
            got = [n // 45000000 for n in x.energy]
            assert not x.quality and got == [0, 0, 107, 0, 23, 0, 0, 5], (k, level, got, x.quality)
            assert x.energy_ms == 3 * 320 and x.ms == 320 and x.flags == ("sag_v2",), (k, x.flags)


def test_dead_buses_are_faults_and_heal():
    for level in (0xFF, 0x00):
        bus, m = running()
        fill(bus)
        bus.answer = level
        resets = bus.resets
        for _ in range(3):
            x = block(bus, m)
            assert x.at[1]["voltage"] is None and x.quality["v1"] == "bus_fault", x.quality
            assert x.at[0].get("voltage") is None and x.covered_ms == 0
        assert "no proper answer" in m.problem
        bus.answer = None
        x = block(bus, m)
        assert x.at[1]["voltage"] > 200 and not x.quality and bus.resets == resets, "a chip that came through is kept"


def test_a_chip_that_was_reset_is_set_up_again():
    bus, m = running()
    fill(bus)
    gain = bus.registers[0x61]
    bus.reset()
    fill(bus)
    assert block(bus, m).quality["v1"] == "bus_fault", "no value from a chip that has lost its gains"
    settle(bus, m)
    assert bus.registers[0x61] == gain


def test_energy_before_an_unplugging_comes_after_it():
    bus, m = running()
    fill(bus)
    bus.registers.update({0x81: 100, 0x74: 0x2000})
    bus.unseen = range(bus.accesses + 40, bus.accesses + 9999)
    assert block(bus, m).quality["v1"] == "bus_fault" and block(bus, m).quality["v1"] == "bus_fault"
    bus.unseen = ()
    bus.reset()
    block(bus, m)
    x = block(bus, m, 400)
    assert not x.quality and x.energy[2] == 100 * 45000000 and not x.energy[4], x.energy


def test_an_upset_configuration_is_written_again():
    bus, m = running()
    fill(bus)
    bus.registers[0x79] = 1
    assert block(bus, m).quality["v1"] == "bus_fault"
    settle(bus, m)


def test_a_chip_that_has_stopped_measuring_is_stale_and_reset():
    bus, m = running()
    fill(bus)
    bus.frozen = True
    for k in range(m.stuck_after + 1):
        x = block(bus, m)
        assert k == m.stuck_after or not x.quality, k
    assert x.quality["v1"] == "stale" and x.at[1]["voltage"] is None, x.quality
    resets = bus.resets
    block(bus, m)
    assert bus.resets == resets + 1
    bus.registers.update(dict.fromkeys(range(0xD9, 0xF0), 0))
    settle(bus, m, "stale")  # not even noise
    bus, m = running()  # without a supply nothing moves
    bus.frozen = True
    for _ in range(3 * m.stuck_after):
        assert not block(bus, m).quality


def test_full_scale_is_saturated():
    bus, m = running()
    fill(bus)
    # The end of the register, and of the converter, of a current and of a voltage.
    for address, value, name in ((0xDE, 0xFFFF, "i"), (0xF6, 0x8000, "i"), (0xDA, 0xFFFF, "v"), (0xF2, 0x7F00, "v")):
        before = bus.registers.get(address, 0)
        bus.registers[address] = value
        x = block(bus, m)
        other = "voltage" if name == "i" else "current"
        assert x.quality[name + "2"] == x.quality["p2"] == x.quality["angle2"] == "saturated", x.quality
        assert x.at[2]["power"] is None and x.at[2][other] is not None and x.at[1]["power"] is not None
        bus.registers[address] = before
    assert not block(bus, m).quality


def test_two_chips_share_a_bus():
    one, two = running()[0], running()[0]
    assert one.opened == two.opened


def test_garbage_of_a_reading():
    bus, m = running()
    fill(bus)

    async def run():
        bus.ms += 320
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        await m.block()
        after = gc.mem_alloc()
        gc.enable()
        return after - before

    asyncio.run(run())
    used = asyncio.run(run())
    print("garbage of a reading:", used)
    assert used < 6000, used


def test_a_gain_that_does_not_fit_is_refused():
    spec = dict(SPEC, voltage=[{"mv_per_v": 0.2}] * 3)
    bus = Bus()
    m = atm.Meter(spec, PROFILE, Machine(bus), bus)
    try:
        m.start(calibration.correction(spec))
    except ValueError as e:
        assert "16 bits" in str(e)
        return
    raise AssertionError("no refusal")
