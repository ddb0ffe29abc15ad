"""The ADE7953 model against the data sheet and AN-1118: registers, side effects and numbers."""

from __future__ import annotations

import math

import pytest
from gridnode_host.bench.chips.ade7953 import Ade7953
from gridnode_host.bench.chips.metering import Input
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.wiring import Nack

START = 1_800_000_000.0
V_MV = 1.0  # 1 Mohm over 1 kohm
I_MV = 8.0
FULL_MV = 500 / math.sqrt(2)
VRMS_PER_V = 9_032_007 * V_MV / FULL_MV
IRMS_PER_A = 9_032_007 * I_MV / FULL_MV
WATT_PER_W = 4_862_401 * V_MV * I_MV / FULL_MV**2
WATT_SECONDS_PER_COUNT = 4_862_401 / 206_900 / WATT_PER_W


class Clock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time


class Node:
    """A chip on a circuit of two currents with one voltage, and a master on I2C."""

    def __init__(self, ready: bool = True, **circuit) -> None:
        self.clock = Clock()
        self.circuit = Circuit(2, self.clock)
        self.circuit.set(phase_deg=[0.0, -120.0])  # the second current in phase with V of L1
        self.circuit.set(**circuit)
        self.chip = Ade7953(
            self.circuit, Input(0, V_MV), (Input(0, I_MV), Input(1, I_MV))
        )
        if ready:
            self.clock.time += 0.1
            self.write(0x0FE, 0xAD)
            self.write(0x120, 0x0030)
            self.clock.time += 0.5

    @staticmethod
    def size(address: int) -> int:
        return 1 if address >> 8 in (0, 7, 8) else (address >> 8) + 1

    def read(self, address: int, signed: bool = False) -> int:
        self.chip.write(address.to_bytes(2, "big"))
        return int.from_bytes(self.chip.read(self.size(address)), "big", signed=signed)

    def write(self, address: int, value: int) -> None:
        self.chip.write(address.to_bytes(2, "big") + value.to_bytes(self.size(address), "big"))

    def spi(self, data: str) -> str:
        self.chip.cs(0)
        out = self.chip.transfer(bytes.fromhex(data))
        self.chip.cs(1)
        return out.hex()


@pytest.fixture
def node() -> Node:
    return Node()


# -- start and identity ----------------------------------------------------------------------


def test_nothing_answers_until_it_has_started_then_the_reset_bit_is_set():
    node = Node(ready=False)
    node.clock.time += 0.06
    with pytest.raises(Nack):
        node.read(0x32D)
    assert node.spi("032d8000000000") == "ffffffffffffff"
    node.clock.time += 0.04  # 100 ms: what the data sheet says to wait
    assert node.read(0x32D) >> 20 & 1
    assert node.read(0x32E) >> 20 & 1  # this one clears
    assert not node.read(0x32D) >> 20 & 1


@pytest.mark.parametrize(
    ("address", "value"),
    [
        (0x000, 0), (0x001, 0), (0x004, 0x40), (0x007, 0), (0x008, 0), (0x009, 0),
        (0x100, 0xFFFF), (0x101, 0), (0x102, 0x8004), (0x103, 0x3F), (0x107, 0x300),
        (0x108, 0), (0x120, 0), (0x300, 0), (0x303, 0xE419), (0x304, 0xE419), (0x305, 0),
        (0x324, 0xFFFFFF), (0x325, 0xFFFFFF), (0x32C, 0x100000), (0x32F, 0), (0x37F, 0xFFFFFFFF),
        (0x380, 0x400000), (0x381, 0x400000), (0x382, 0x400000), (0x383, 0x400000),
        (0x384, 0x400000), (0x386, 0), (0x388, 0), (0x389, 0), (0x38C, 0x400000),
        (0x38D, 0x400000), (0x390, 0x400000), (0x397, 0),
    ],
)  # fmt: skip
def test_reset_values(address, value):
    node = Node(ready=False)
    node.clock.time += 0.1
    assert node.read(address) == value


# -- faces -----------------------------------------------------------------------------------


def test_24_and_32_bits_are_views_of_one_register(node):
    node.write(0x282, 0x384804)
    assert node.read(0x382) == 0x00384804
    node.write(0x389, 0xFFFFFE)  # a signed one
    assert node.read(0x289) == 0xFFFFFE
    assert node.read(0x389) == 0xFFFFFFFE
    node.write(0x380, 0x00600000)
    assert node.read(0x280) == 0x600000


def test_spi_access_has_16_bit_address_then_direction_then_data(node):
    assert node.spi("0102800000") == "0000008004"
    node.spi("0382 00 00384804".replace(" ", ""))
    assert node.spi("028280000000") == "000000384804"
    assert node.spi("0004 80 00".replace(" ", "")) == "00000040"


@pytest.mark.parametrize("data", ["03820000384804ff", "038200003848", "0382 00".replace(" ", "")])
def test_write_of_a_wrong_length_changes_nothing(node, data):
    node.spi(data)
    assert node.read(0x382) == 0x400000
    node.chip.write(bytes.fromhex("0382003848"))
    assert node.read(0x382) == 0x400000
    assert node.chip.aborted >= 1


def test_deselected_chip_does_not_drive_the_bus(node):
    assert node.chip.transfer(bytes(5)) == b"\xff" * 5


@pytest.mark.parametrize("face", ["spi", "i2c"])
def test_interface_can_be_locked_until_a_reset(node, face):
    if face == "spi":
        node.spi("0102000004")
        with pytest.raises(Nack):
            node.read(0x102)
        assert node.spi("0102800000") == "0000000004"
    else:
        node.write(0x102, 0x0004)
        assert node.spi("0102800000") == "ff" * 5
        assert node.read(0x102) == 0x0004
    node.chip.brown_out()
    node.clock.time += 0.1
    assert node.read(0x102) == 0x8004
    assert node.spi("0102800000") == "0000008004"


def test_software_reset(node):
    node.write(0x382, 0x300000)
    node.write(0x102, 0x8084)
    with pytest.raises(Nack):
        node.read(0x382)
    node.clock.time += 0.1
    assert node.read(0x382) == 0x400000
    assert node.read(0x32D) >> 20 & 1


def test_required_setting_needs_its_key_just_before():
    node = Node(ready=False)
    node.clock.time += 0.1
    node.write(0x120, 0x30)
    assert node.read(0x120) == 0
    node.write(0x0FE, 0xAD)
    node.read(0x102)
    node.write(0x120, 0x30)
    assert node.read(0x120) == 0
    node.write(0x0FE, 0xAD)
    node.write(0x120, 0x30)
    assert node.read(0x120) == 0x30


def test_without_the_required_setting_the_chip_is_off_its_accuracy():
    node = Node(ready=False)
    node.clock.time += 1.0
    assert node.read(0x31C) / VRMS_PER_V < 230 * 0.995
    node.write(0x0FE, 0xAD)
    node.write(0x120, 0x30)
    assert node.read(0x31C) / VRMS_PER_V == pytest.approx(230, rel=5e-4)


def test_last_operation_address_and_data(node):
    node.write(0x382, 0x384804)
    assert node.read(0x0FD) == 0xCA
    assert node.read(0x1FE) == 0x382
    assert node.read(0x3FF) == node.read(0x2FF) == 0x384804
    node.read(0x102)
    assert node.read(0x0FD) == 0x35
    assert node.read(0x1FE) == 0x102
    assert node.read(0x1FF) == 0x8004
    node.read(0x004)
    assert node.read(0x0FF) == 0x40
    assert node.read(0x0FD) == 0x35  # reading these does not count as an operation


def test_write_protection_by_width(node):
    node.write(0x040, 0x06)
    node.write(0x102, 0x8005)
    node.write(0x382, 0x300000)
    node.write(0x004, 0x00)
    assert (node.read(0x102), node.read(0x382), node.read(0x004)) == (0x8004, 0x400000, 0)
    node.write(0x040, 0)
    node.write(0x382, 0x300000)
    assert node.read(0x382) == 0x300000


def test_pulse_denominator_takes_two_writes_in_succession(node):
    node.write(0x103, 0x1234)
    assert node.read(0x103) == 0x3F
    node.write(0x103, 0x1234)
    node.write(0x103, 0x1234)
    assert node.read(0x103) == 0x1234


def test_checksum_is_off_until_enabled_and_tells_every_change(node):
    assert node.read(0x37F) == 0xFFFFFFFF
    node.write(0x102, 0x8104)
    assert node.read(0x37F) == 0x48739163  # all else as after a reset
    node.read(0x32E)
    assert not node.read(0x32D) >> 21 & 1
    node.chip.upset(0x382, 0x10)
    changed = node.read(0x37F)
    assert changed != 0x48739163
    assert node.read(0x32E) >> 21 & 1
    node.chip.upset(0x382, 0x10)
    assert node.read(0x37F) == 0x48739163
    node.chip.upset(0x108, 1)
    assert node.read(0x37F) not in (changed, 0x48739163)


# -- measurement -----------------------------------------------------------------------------


def test_full_scale_counts():
    node = Node(voltage=FULL_MV / V_MV, current=FULL_MV / I_MV, phase_deg=[0, -120])
    assert node.read(0x31C) == pytest.approx(9_032_007, rel=2e-4)
    for address in (0x31A, 0x31B):
        assert node.read(address) == pytest.approx(9_032_007, rel=2e-4)
    assert node.read(0x312) == pytest.approx(4_862_401, rel=2e-4)
    assert node.read(0x310) == pytest.approx(4_862_401, rel=2e-4)
    node.read(0x31E)
    node.clock.time += 10.0
    assert node.read(0x31E) == pytest.approx(2_069_000, rel=2e-4)
    node.read(0x327)
    node.clock.time += 0.1
    assert node.read(0x326) == pytest.approx(6_500_000, rel=2e-3)


@pytest.mark.parametrize("lag", [0, 60, -30, 120, 180])
def test_values_of_both_channels(lag):
    node = Node(voltage=230, current=[10, 2], phase_deg=[lag, lag - 120], frequency=50.5)
    for channel, amperes in enumerate((10, 2)):
        assert node.read(0x31A + channel) / IRMS_PER_A == pytest.approx(amperes, rel=3e-4)
        watt = node.read(0x312 + channel, signed=True) / WATT_PER_W
        var = node.read(0x314 + channel, signed=True) / WATT_PER_W
        assert watt == pytest.approx(230 * amperes * math.cos(math.radians(lag)), rel=5e-4, abs=0.2)
        assert var == pytest.approx(230 * amperes * math.sin(math.radians(lag)), rel=5e-4, abs=0.2)
        assert node.read(0x310 + channel) / WATT_PER_W == pytest.approx(230 * amperes, rel=3e-4)
        factor = node.read(0x10A + channel, signed=True) / 0x8000
        assert abs(factor) == pytest.approx(abs(math.cos(math.radians(lag))), abs=1e-3)
        angle = node.read(0x10C + channel, signed=True) * 360 * 50.5 / 223_750
        assert (angle - lag + 180) % 360 - 180 == pytest.approx(0, abs=0.05)
    assert node.read(0x31C) / VRMS_PER_V == pytest.approx(230, rel=3e-4)
    assert 223_750 / (node.read(0x10E) + 1) == pytest.approx(50.5, abs=0.006)


@pytest.mark.parametrize(("lag", "sign"), [(60, 1), (-60, -1), (120, 1), (-120, -1)])
def test_sign_of_the_power_factor_is_that_of_the_reactive_power(lag, sign):
    node = Node(phase_deg=[lag, 0])
    assert node.read(0x10A, signed=True) / 0x8000 == pytest.approx(0.5 * sign, abs=1e-3)


def test_resistive_load_has_a_power_factor_of_7fff(node):
    assert node.read(0x10A) == 0x7FFF


def test_direction_is_told_by_accmode(node):
    assert node.read(0x301) >> 10 & 0x3 == 0
    node.circuit.set(phase_deg=[180 + 30, -120])
    node.clock.time += 1
    assert node.read(0x301) >> 10 & 0xF == 0b0101  # A: active and reactive
    assert node.read(0x32D) >> 9 & 1  # APSIGN_A


def test_values_settle_within_200_ms():
    node = Node(ready=False)
    node.clock.time += 0.066 + 0.1
    node.write(0x0FE, 0xAD)
    node.write(0x120, 0x30)
    assert 0.5 < node.read(0x31C) / VRMS_PER_V / 230 < 0.8
    node.clock.time += 0.11
    assert node.read(0x31C) / VRMS_PER_V == pytest.approx(230, rel=5e-4)
    node.circuit.set(voltage=115)
    node.clock.time += 0.1
    assert node.read(0x31C) / VRMS_PER_V == pytest.approx(
        math.sqrt((230**2 + 115**2) / 2), rel=1e-3
    )
    node.clock.time += 0.11
    assert node.read(0x31C) / VRMS_PER_V == pytest.approx(115, rel=1e-3)


def test_gains_act_and_an_1118s_gain_step_corrects(node):
    assert pytest.approx(0x384804, rel=1e-3) == 0x400000 * 1.9556 / 2.2238
    before = node.read(0x312)
    node.write(0x382, 0x384804)
    assert node.read(0x312) / before == pytest.approx(1.9556 / 2.2238, rel=2e-4)
    node.write(0x382, 0x400000)
    node.write(0x380, 0x200000)
    assert node.read(0x31A) / IRMS_PER_A == pytest.approx(5, rel=5e-4)
    assert node.read(0x312) / before == pytest.approx(0.5, rel=3e-4)
    node.write(0x381, 0x600000)
    assert node.read(0x31C) / VRMS_PER_V == pytest.approx(345, rel=5e-4)
    b = node.read(0x313)
    node.write(0x38E, 0x600000)
    assert node.read(0x313) / b == pytest.approx(1.5, rel=3e-4)


def test_offsets(node):
    before = node.read(0x31A)
    node.write(0x386, 1_000_000)
    assert node.read(0x31A) ** 2 - before**2 == pytest.approx(1e6 * 4096, rel=0.15)
    power = node.read(0x312)
    node.write(0x389, 5_120_000)
    assert node.read(0x312) - power == pytest.approx(10_000, abs=100)
    node.write(0x389, 0x1000000 - 5_120_000)
    assert node.read(0x312) - power == pytest.approx(-10_000, abs=100)


@pytest.mark.parametrize(("register", "steps"), [(0x007, 7), (0x207, -7), (0x1FF, 383)])
def test_phase_register_is_sign_and_magnitude_and_plus_delays(register, steps):
    """A load of 60 degrees: 7 steps of 1.117 us are 0.14 degrees at 50 Hz."""
    node = Node(phase_deg=[60, -60])
    node.write(0x108, register)
    lag = 60 + steps * 1.117e-6 * 50 * 360
    assert node.read(0x312) / WATT_PER_W == pytest.approx(2300 * math.cos(math.radians(lag)), rel=5e-4)
    assert node.read(0x313) / WATT_PER_W == pytest.approx(1150, rel=5e-4)  # B has its own


def test_an_1118s_phase_example():
    """10141 counts where 10185 are expected, 60 degrees leading, 50 Hz: +7 puts it right."""
    error = math.degrees(math.acos(10141 / 10185 * 0.5)) - 60
    assert error * 893.85e3 / (360 * 50) == pytest.approx(7.09, abs=0.01)
    node = Node(phase_deg=[-60 - error, -120])
    assert node.read(0x312) / WATT_PER_W == pytest.approx(1150 * 10141 / 10185, rel=3e-4)
    node.write(0x108, 0x007)
    assert node.read(0x312) / WATT_PER_W == pytest.approx(1150, rel=3e-4)


@pytest.mark.parametrize(("setting", "gain"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 22)])
def test_amplifiers(setting, gain):
    node = Node(current=1.0)
    node.write(0x008, setting)
    assert node.read(0x31A) / IRMS_PER_A == pytest.approx(gain, rel=1e-3)
    assert node.read(0x312) / WATT_PER_W == pytest.approx(230 * gain, rel=1e-3)


def test_converters_end_at_full_scale(node):
    node.circuit.set(current=100.0, voltage=600.0)  # 1131 mV and 848 mV peak
    node.clock.time += 1
    assert node.read(0x31A) < 1.3 * 9_032_007
    assert node.read(0x31C) < 1.25 * 9_032_007
    node.read(0x327), node.read(0x329)
    node.clock.time += 0.1
    assert node.read(0x326) == node.read(0x328) == 6_500_000
    node.circuit.set(current=10.0, voltage=230.0)
    node.write(0x008, 3)  # 62.5 mV
    node.clock.time += 1
    assert node.read(0x328) <= 6_500_000


def test_wave_registers(node):
    values = []
    for _ in range(100):
        node.clock.time += 0.00041
        values.append(node.read(0x318, signed=True))
    assert max(values) == pytest.approx(230 * math.sqrt(2) / 500 * 6_500_000, rel=0.01)
    assert min(values) == pytest.approx(-max(values), rel=0.02)


# -- energy ----------------------------------------------------------------------------------


def test_energy_is_signed_and_cleared_by_reading():
    node = Node(voltage=230, current=[10, 2], phase_deg=[60, 60])  # B: exported
    for address in range(0x31E, 0x324):
        node.read(address)
    node.clock.time += 60
    counts = 60 / WATT_SECONDS_PER_COUNT
    assert node.read(0x31E, signed=True) == pytest.approx(1150 * counts, rel=2e-4)
    assert node.read(0x31F, signed=True) == pytest.approx(-460 * counts, rel=2e-4)
    assert node.read(0x320, signed=True) == pytest.approx(
        2300 * math.sin(math.pi / 3) * counts, rel=2e-4
    )
    assert node.read(0x321, signed=True) == pytest.approx(0, abs=2)
    assert node.read(0x322, signed=True) == pytest.approx(2300 * counts, rel=2e-4)
    assert node.read(0x31E) == node.read(0x31F) == node.read(0x322) == 0
    assert node.read(0x31E) == 0


def test_nothing_is_lost_between_readings_and_24_bits_clear_too(node):
    node.read(0x31E)
    total = 0
    for k in range(500):
        node.clock.time += 0.0123
        total += node.read(0x21E if k & 1 else 0x31E)
    assert total == pytest.approx(2300 * 500 * 0.0123 / WATT_SECONDS_PER_COUNT, abs=2)


def test_lost_reading_is_in_last_data_and_an_unfinished_one_does_not_clear(node):
    node.clock.time += 10
    node.chip.write(b"\x03\x1e")
    node.chip.read(3)
    assert node.chip.aborted == 1
    counts = node.read(0x31E)
    assert counts > 1000
    assert node.read(0x1FE) == 0x31E
    assert node.read(0x3FF) == counts
    node.spi("031e80000000")  # 3 of 4 bytes
    node.clock.time += 10
    assert node.read(0x31E) == pytest.approx(counts * 10 / 10.5, rel=0.1)


def test_read_with_reset_can_be_switched_off(node):
    node.write(0x004, 0x00)
    node.clock.time += 1
    first = node.read(0x31E)
    node.clock.time += 1
    assert node.read(0x31E) > first
    assert node.read(0x32E) == node.read(0x32E) != 0


def test_register_is_half_full_then_rolls_over():
    node = Node(voltage=FULL_MV, current=FULL_MV / I_MV)
    node.read(0x31E), node.read(0x32E)
    node.clock.time += 20.0
    assert not node.read(0x32D) & 1
    node.clock.time += 1.0  # 20.26 s
    assert node.read(0x32D) & 0b1001 == 1
    node.clock.time += 20.0  # 40.5 s
    assert node.read(0x32D) & 0b1001 == 0b1001
    assert node.read(0x31E, signed=True) < -8_000_000


@pytest.mark.parametrize(
    ("mode", "active", "reactive"), [(0x00, -1, 1), (0x01, 0, 1), (0x02, 1, 1), (0x10, -1, -1), (0x20, -1, 1)]
)  # fmt: skip
def test_accumulation_modes(mode, active, reactive):
    node = Node(phase_deg=[120, 0])  # P -1150 W, Q +1992 var
    node.write(0x301, mode)
    node.read(0x31E), node.read(0x320)
    node.clock.time += 10
    counts = 10 / WATT_SECONDS_PER_COUNT
    assert node.read(0x31E, signed=True) == pytest.approx(1150 * active * counts, rel=1e-3)
    assert node.read(0x320, signed=True) == pytest.approx(1991.9 * reactive * counts, rel=1e-3)


def test_line_cycle_accumulation(node):
    node.write(0x101, 100)  # 1 s
    node.write(0x004, 0x41)
    node.read(0x32E), node.read(0x31E)
    node.clock.time += 0.9
    assert node.read(0x31E) == 0
    assert not node.read(0x32D) >> 18 & 1
    node.clock.time += 0.2
    assert node.read(0x32E) >> 18 & 1
    expected = 2300 / WATT_SECONDS_PER_COUNT
    assert node.read(0x31E) == pytest.approx(expected, abs=1)
    assert node.read(0x31E) == 0
    node.clock.time += 10
    assert node.read(0x31E) == pytest.approx(expected, abs=1)  # of one period, not of ten
    assert node.read(0x31F) > 5 * expected  # B goes on as always


# -- no load ---------------------------------------------------------------------------------


def test_no_load_stops_counting_and_shows_in_accmode():
    floor = 4_862_401 / 10_000 / WATT_PER_W  # W
    node = Node(voltage=230, current=[1.2 * floor / 230, 10])
    node.read(0x31E), node.read(0x32E)
    node.clock.time += 100
    assert node.read(0x301) >> 16 & 0b111 == 0b100  # reactive only
    assert node.read(0x31E) > 0
    node.circuit.set(current=[0.8 * floor / 230, 10])
    node.clock.time += 1
    node.read(0x31E)
    node.clock.time += 100
    assert node.read(0x301) >> 16 & 0b111 == 0b101
    assert node.read(0x301) >> 19 & 0b111 == 0b100
    assert node.read(0x31E) == 0
    assert node.read(0x32D) >> 6 & 1
    assert node.read(0x10A) == 0  # power factor while there is no active power
    node.write(0x001, 0x07)
    node.clock.time += 100
    assert node.read(0x301) >> 16 & 0b111111 == 0
    assert node.read(0x31E) > 0


def test_apparent_no_load_makes_the_power_factor_1():
    node = Node(current=[0.0, 10])
    assert node.read(0x301) >> 16 & 0b111 == 0b111
    assert node.read(0x10A) == 0x7FFF


# -- events ----------------------------------------------------------------------------------


def test_peaks_and_their_reset(node):
    node.read(0x327)
    assert node.read(0x326) == 0
    node.clock.time += 0.1
    nominal = node.read(0x326)
    assert nominal == pytest.approx(230 * math.sqrt(2) / 500 * 6_500_000, rel=2e-3)
    node.circuit.event("swell", 1.2, cycles=2)
    node.clock.time += 1
    assert node.read(0x326) == pytest.approx(1.2 * nominal, rel=5e-3)
    assert node.read(0x327) == pytest.approx(1.2 * nominal, rel=5e-3)
    node.clock.time += 0.1
    assert node.read(0x326) == pytest.approx(nominal, rel=2e-3)


def sag_at_80_percent(node: Node, half_cycles: int) -> None:
    node.write(0x000, half_cycles)
    node.write(0x300, round(0.8 * 230 * math.sqrt(2) / 500 * 6_500_000))
    node.clock.time += 0.2
    node.read(0x32E)


@pytest.mark.parametrize(("cycles", "found"), [(1.5, False), (3.0, True)])
def test_sag_needs_its_half_cycles(node, cycles, found):
    sag_at_80_percent(node, 4)
    node.circuit.event("dip", 0.4, cycles=cycles)
    node.clock.time += 2
    assert node.read(0x32D) >> 19 & 1 == found
    assert node.read(0x32E) >> 19 & 1 == found
    assert not node.read(0x32E) >> 19 & 1


@pytest.mark.parametrize("readings", [1, 7, 50])
def test_sag_is_found_however_often_the_node_looks(node, readings):
    sag_at_80_percent(node, 10)
    node.circuit.event("dip", 0.4, start=node.clock.time + 0.3, cycles=6)
    flags = 0
    for _ in range(readings):
        node.clock.time += 1.0 / readings
        flags |= node.read(0x32D)
    assert flags >> 19 & 1


def test_no_sag_without_either_register_or_above_the_level(node):
    node.write(0x000, 4)
    node.circuit.event("interruption", duration=0.3)
    node.clock.time += 1
    assert not node.read(0x32D) >> 19 & 1
    sag_at_80_percent(node, 4)
    node.circuit.event("dip", 0.9, duration=0.3)
    node.clock.time += 1
    assert not node.read(0x32D) >> 19 & 1


def test_sag_of_a_long_outage_and_what_happens_when_it_is_cleared(node):
    sag_at_80_percent(node, 4)
    node.circuit.set(voltage=0.0)
    node.clock.time += 100
    assert node.read(0x32E) >> 19 & 1
    node.clock.time += 1
    assert node.read(0x32E) >> 19 & 1  # it lasts
    node.circuit.set(voltage=230.0)
    node.clock.time += 1
    node.read(0x32E)
    node.clock.time += 1
    assert not node.read(0x32E) >> 19 & 1


def test_over_voltage_and_over_current_are_latched_per_channel(node):
    node.write(0x324, round(1.1 * 230 * math.sqrt(2) / 500 * 6_500_000))
    node.write(0x325, round(12 * 8 * math.sqrt(2) / 500 * 6_500_000))
    node.clock.time += 0.2
    node.read(0x32E), node.read(0x331)
    node.clock.time += 0.2
    assert not node.read(0x32D) & (1 << 16 | 1 << 13)
    node.circuit.event("swell", 1.15, cycles=3)
    node.clock.time += 1
    assert node.read(0x32E) & (1 << 16 | 1 << 13) == 1 << 16
    node.circuit.set(current=[10, 15])
    node.clock.time += 0.1
    assert not node.read(0x32E) & (1 << 16 | 1 << 13)
    assert node.read(0x331) >> 13 & 1


def test_zero_crossings_and_their_time_out(node):
    node.write(0x100, 1400)  # 100 ms
    node.read(0x32E)
    node.clock.time += 1
    flags = node.read(0x32E)
    assert flags >> 15 & 1
    assert flags >> 12 & 1
    assert not flags & (1 << 14 | 1 << 11)
    period = node.read(0x10E)
    node.circuit.set(voltage=0.0)
    node.clock.time += 0.05
    assert not node.read(0x32D) & 1 << 14
    node.clock.time += 0.5
    node.read(0x32E)
    node.clock.time += 0.5
    flags = node.read(0x32E)
    assert flags >> 14 & 1
    assert not flags >> 15 & 1
    assert not flags >> 11 & 1  # the current goes on
    assert node.read(0x10E) == period


# -- supply and faults -----------------------------------------------------------------------


def test_brown_out_and_supply(node):
    node.write(0x382, 0x300000)
    node.chip.power(False)
    with pytest.raises(Nack):
        node.read(0x382)
    node.chip.power(True)
    node.clock.time += 0.1
    assert node.read(0x382) == 0x400000
    assert node.read(0x120) == 0


def test_bus_faults_on_i2c(node):
    node.chip.fault("absent")
    assert not node.chip.present
    with pytest.raises(Nack):
        node.read(0x102)
    node.chip.clear("absent")
    node.chip.fault("stuck_high")
    with pytest.raises(Nack):
        node.read(0x102)
    node.chip.clear("stuck_high")
    node.chip.fault("stuck_low")
    assert node.chip.stuck
    with pytest.raises(TimeoutError):
        node.read(0x102)
    node.chip.clear("stuck_low")
    assert node.read(0x102) == 0x8004
    node.chip.fault("bit_error", rate=1.0)
    assert (node.read(0x102) ^ 0x8004).bit_count() == 1
    node.chip.clear("bit_error")
    assert node.read(0x1FF) == 0x8004  # what the chip has sent


@pytest.mark.parametrize(
    ("fault", "answer"), [("absent", "ff" * 5), ("stuck_high", "ff" * 5), ("stuck_low", "00" * 5)]
)
def test_bus_faults_on_spi(node, fault, answer):
    node.chip.fault(fault)
    assert node.spi("0102800000") == answer
    node.chip.clear(fault)
    assert node.spi("0102800000") == "0000008004"


def test_bit_errors_on_spi_hit_the_data(node):
    node.chip.fault("bit_error", rate=1.0)
    wrong = int(node.spi("0102800000"), 16) ^ 0x8004
    assert wrong.bit_count() == 1


def test_wrong_id(node):
    version = node.read(0x702)
    node.chip.fault("wrong_id")
    assert node.read(0x702) != version
    assert node.read(0x303) != 0xE419


def test_frozen_values_stand_still(node):
    node.chip.fault("frozen")
    shown = (0x31A, 0x31C, 0x312, 0x10E, 0x31E, 0x326)
    first = [node.read(address) for address in shown]
    assert all(first)
    node.circuit.set(voltage=100.0, current=1.0)
    for _ in range(5):
        node.clock.time += 1
        assert [node.read(address) for address in shown] == first
    node.chip.clear("frozen")
    assert node.read(0x31C) != first[1]


def test_converter_noise_is_small_and_seeded():
    def readings() -> list[int]:
        node = Node()
        out = []
        for _ in range(50):
            node.clock.time += 0.1
            out.append(node.read(0x312))
        return out

    first = readings()
    assert len(set(first)) > 5
    assert (max(first) - min(first)) / first[0] < 5e-4
    assert readings() == first
