"""ATM90E32 codec, byte by byte, and the driver on a bus that misbehaves. Values: datasheet and application note."""

from gridnode.meters import atm90e32 as atm
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


class Bus:
    """A register file behind `machine.SPI` and `Pin`: just enough to make accesses succeed or fail."""

    def __init__(self):
        self.registers = {}
        self.last = 0
        self.answer = None  # all bytes of every answer
        self.flip = {}  # access number -> mask on what the master receives
        self.accesses = 0
        self.ms = 0

    def SPI(self, number, **kwargs):
        assert kwargs["polarity"] == 1 and kwargs["phase"] == 1
        return self

    def write_readinto(self, out, into):
        self.accesses += 1
        address = (out[0] & 3) << 8 | out[1]
        if out[0] & 0x80:
            value = self.last if address == 0x78 else self.registers.get(address, 0)
            if 0x81 <= address <= 0x87:
                self.registers[address] = 0
            self.last = value
        else:
            value = self.last = out[2] << 8 | out[3]
            if address == 0x70:
                self.registers.clear()
            elif address not in (0x73, 0x74):
                self.registers[address] = value
            else:
                self.registers[address] = self.registers.get(address, 0) & ~value
        value ^= self.flip.pop(self.accesses, 0)
        into[2], into[3] = value >> 8, value & 0xFF
        if self.answer is not None:
            into[2] = into[3] = self.answer

    def sleep_ms(self, ms):
        self.ms += ms

    def ticks_ms(self):
        self.ms += 100
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


def running():
    bus = Bus()
    m = atm.Meter(SPEC, PROFILE, Machine(bus), bus)
    assert set(m.start(calibration.correction(SPEC))) == {"gain", "phase"}
    settle(bus, m)
    return bus, m


def settle(bus, m):
    """Set the chip up and let its first window pass, in which there are no values."""
    x = m.block()
    assert x.quality["v1"] == "stale" and x.quality["frequency"] == "stale" and x.at[1]["voltage"] is None, x.quality
    bus.ms += 400
    assert not m.block().quality, m.problem


def fill(bus):
    for k in range(3):
        bus.registers.update({0xD9 + k: 23012, 0xE9 + k: 0x4000, 0xDD + k: 12500, 0xED + k: 0x8000})
        bus.registers.update({0xB1 + k: 0x0012, 0xC1 + k: 0x3456, 0xB5 + k: 0xFFFF, 0xC5 + k: 0xFF00})
    bus.registers.update({0xF8: 5002, 0xFC: 0xFFFB})


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
    assert setup.phi(0.5, 50) == (57, 0.0)
    assert setup.phi(-0.5, 50) == (0x8000 | 57, 0.0)
    register, left = setup.phi(4.0, 50)
    assert register == 255 and abs(left - (4.0 - 255 * step)) < 1e-5


def test_flags():
    assert atm.flags(0x8000, 0x2000) == ["over_current_i1", "sag_v2"]
    assert atm.flags(0x0400, 0x0100) == ["over_voltage_v3", "phase_loss_v3"]
    assert atm.flags(0x0200, 0) == ["sequence"] and atm.flags(0, 0) == []


def test_values_of_a_block():
    bus, m = running()
    fill(bus)
    bus.registers.update({0x81: 10, 0x86: 3, 0x73: 0x2000})
    x = m.block()
    assert abs(x.at[1]["voltage"] - 230.1225) < 1e-3, x.at[1]
    assert abs(x.at[2]["current"] - 4 * 12.5005) < 1e-3
    assert abs(x.at[3]["power"] - 0x123456 * 0.00032 * 4) < 1e-2
    assert abs(x.at[3]["reactive_power"] + 256 * 0.00032 * 4) < 1e-3
    assert abs(x.at[0]["frequency"] - 50.02) < 1e-4 and x.at[0]["temperature"] == -5
    # 3.125 mWh times the scale of four, in uJ.
    assert x.metered and x.energy[2] == 10 * 45000000 and x.energy[5] == 3 * 45000000, x.energy
    assert x.flags == ["over_current_i3"], x.flags
    assert m.block().flags == [], "latched flags are cleared by writing ones"


def test_a_flipped_bit_is_corrected_and_energy_kept():
    bus, m = running()
    fill(bus)
    for k in range(1, 60):
        bus.registers[0x81] = 100
        bus.flip = {bus.accesses + k: 0x0100}
        x = m.block()
        assert not x.quality and x.energy[2] == 4500000000, (k, x.quality, x.energy)
        assert abs(x.at[1]["voltage"] - 230.1225) < 1e-3, k
    assert m.errors > 20


def test_dead_buses_are_faults_and_heal():
    for level in (0xFF, 0x00):
        bus, m = running()
        fill(bus)
        bus.answer = level
        x = m.block()
        assert x.at[1]["voltage"] is None and x.quality["v1"] == "bus_fault", x.quality
        assert x.at[0].get("voltage") is None and x.covered_ms == 0
        assert "does not answer" in m.problem
        bus.answer = None
        settle(bus, m)
        fill(bus)
        assert m.block().at[1]["voltage"] > 200


def test_a_chip_that_was_reset_is_set_up_again():
    bus, m = running()
    fill(bus)
    gain = bus.registers[0x61]
    bus.registers.clear()
    fill(bus)
    assert m.block().quality["v1"] == "bus_fault", "no value from a chip that has lost its gains"
    settle(bus, m)
    assert bus.registers[0x61] == gain


def test_full_scale_current_is_saturated():
    bus, m = running()
    fill(bus)
    for address, value in ((0xDE, 0xFFFF), (0xF6, 0x8000)):  # the end of the register, of the converter
        before = bus.registers.get(address, 0)
        bus.registers[address] = value
        x = m.block()
        assert x.at[2]["current"] is None and x.quality["i2"] == "saturated" and x.at[1]["current"] is not None
        bus.registers[address] = before
    assert not m.block().quality


def test_a_gain_that_does_not_fit_is_refused():
    spec = dict(SPEC)
    spec["voltage"] = [{"mv_per_v": 0.2}] * 3
    bus = Bus()
    m = atm.Meter(spec, PROFILE, Machine(bus), bus)
    try:
        m.start(calibration.correction(spec))
    except ValueError as e:
        assert "16 bits" in str(e)
        return
    raise AssertionError("no refusal")
