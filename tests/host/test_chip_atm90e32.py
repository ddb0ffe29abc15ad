"""The ATM90E32AS model against the data sheet's facts, byte by byte where they give bytes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gridnode_host.bench.chips.atm90e32 import Atm90e32, Input
from gridnode_host.bench.mains import Circuit

START = 1_800_000_000.0
U_MV = 1000.0 / 1681.0  # 240 kohm x 7 over 1 kohm
I_MV = 4.8  # 9.6 mV per A through 2 x 2.4 ohm, half of it
UGAIN = round(23000 / (2 * math.sqrt(2) * 230 * U_MV / 720))
IGAIN = round(10000 / (2 * math.sqrt(2) * 10 * I_MV / 720))


class Clock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time


class Node:
    """A chip on a three-phase circuit, and the frames of a master."""

    def __init__(self, phases: int = 3) -> None:
        self.clock = Clock()
        self.circuit = Circuit(phases, self.clock)
        voltage = [Input(p, U_MV) if p < phases else None for p in range(3)]
        current = [Input(p, I_MV) if p < phases else None for p in range(3)]
        self.chip = Atm90e32(self.circuit, voltage, current)
        self.clock.time += 0.05

    def frame(self, data: str) -> str:
        self.chip.cs(0)
        out = self.chip.transfer(bytes.fromhex(data))
        self.chip.cs(1)
        return out.hex()

    def read(self, address: int) -> int:
        return int(self.frame(f"{0x8000 | address:04x}0000")[4:], 16)

    def write(self, address: int, value: int) -> None:
        self.frame(f"{address:04x}{value & 0xFFFF:04x}")

    def signed32(self, high: int, low: int) -> int:
        value = self.read(high) << 16 | self.read(low)
        return value - (1 << 32) if value & 0x80000000 else value

    def configure(self, **registers: int) -> None:
        self.write(0x7F, 0x55AA)
        for name, value in registers.items():
            self.write(int(name[1:], 16), value)
        self.write(0x7F, 0)

    def on(self, **registers: int) -> Node:
        """Gains for 0.01 V and 1 mA, metering, and two windows passed."""
        gains = {f"r{0x61 + 4 * k:02x}": UGAIN for k in range(3)}
        gains |= {f"r{0x62 + 4 * k:02x}": IGAIN for k in range(3)}
        self.configure(**gains, **registers, r00=1)
        self.clock.time += 0.7
        return self


@pytest.fixture
def node() -> Node:
    return Node()


# -- frames ----------------------------------------------------------------------------------


def test_frame_of_32_clocks_reads_and_writes_and_last_data_tells(node):
    assert node.frame("80050000") == "0000143f"  # reset value of SagPeakDetCfg
    assert node.frame("80780000") == "0000143f"
    node.frame("007f55aa")
    assert node.frame("80780000") == "000055aa"
    node.frame("00080a5b")
    assert node.frame("80080000") == "00000a5b"
    assert node.frame("80780000") == "00000a5b"


def test_dont_care_bits_of_the_address_are_ignored(node):
    assert node.frame("fc310000") == "00000861"


@pytest.mark.parametrize("data", ["007f55", "007f55aa00"])
def test_write_of_other_than_32_clocks_has_no_effect(node, data):
    node.frame(data)
    assert node.read(0x7F) == 0
    assert node.read(0x78) == 0
    assert node.chip.aborted == 1


def test_write_takes_effect_only_when_cs_rises(node):
    node.chip.cs(0)
    node.chip.transfer(bytes.fromhex("007f55aa"))
    assert node.chip.registers.get(0x7F, 0) == 0
    node.chip.cs(1)
    assert node.chip.registers[0x7F] == 0x55AA


def test_frame_may_come_in_pieces_and_one_register_per_cs(node):
    node.chip.cs(0)
    assert node.chip.transfer(b"\x80\x31") == b"\x00\x00"
    assert node.chip.transfer(b"\x00\x00") == b"\x08\x61"
    node.chip.cs(1)


def test_deselected_chip_does_not_drive_the_bus(node):
    assert node.chip.transfer(bytes.fromhex("80310000")) == b"\xff\xff\xff\xff"


# -- configuration ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "value"),
    [
        (0x01, 0x0210), (0x02, 0x0654), (0x05, 0x143F), (0x06, 0xC000), (0x0B, 0xC000),
        (0x07, 0x0001), (0x08, 0x1000), (0x09, 0x0400), (0x0A, 0xFFFF), (0x0C, 0x1324),
        (0x0D, 0x13EC), (0x22, 5000), (0x23, 25), (0x31, 0x0861), (0x32, 0xC468),
        (0x33, 0x0087), (0x34, 0), (0x61, 0x8000), (0x62, 0x8000), (0x6A, 0x8000), (0x6C, 0),
    ],
)  # fmt: skip
def test_reset_values(node, address, value):
    assert node.read(address) == value


def test_configuration_is_closed_until_the_key_is_written(node):
    node.write(0x31, 0x1234)
    assert node.read(0x78) == 0x1234  # the bus was fine ...
    assert node.read(0x31) == 0x0861  # ... and the register was closed
    node.configure(r31=0x1234)
    assert node.read(0x31) == 0x1234
    node.write(0x31, 0x4321)
    assert node.read(0x31) == 0x1234


def test_soft_reset_needs_its_key_and_takes_5_ms(node):
    node.configure(r61=0x9000)
    node.write(0x70, 0x1111)
    assert node.read(0x61) == 0x9000
    node.write(0x70, 0x789A)
    assert node.frame("80610000") == "ffffffff"  # busy
    node.clock.time += 0.0051
    assert node.read(0x61) == 0x8000


def test_crc_finds_an_upset_of_the_configuration(node):
    node.configure(r61=0x9000)
    assert node.read(0x79) == 0
    node.chip.upset(0x61, 0x0100)
    assert node.read(0x79) == 1
    node.configure(r61=0x9000)
    assert node.read(0x79) == 0
    digest = node.read(0x7A)
    node.write(0x7A, digest ^ 1)  # closed: no effect
    assert node.read(0x79) == 0
    node.write(0x7F, 0xAA55)
    node.write(0x7A, digest ^ 1)
    node.chip.registers[0x7F] = 0
    assert node.read(0x79) == 1


def test_nothing_is_measured_until_metering_is_on(node):
    node.clock.time += 5
    assert node.read(0xD9) == node.read(0x80) == node.read(0xF8) == 0
    node.on()
    assert node.read(0xD9) > 0


# -- measurement -----------------------------------------------------------------------------


def test_rms_power_frequency_and_angles(node):
    node.circuit.set(voltage=[230, 220, 240], current=[10, 5, 1], phase_deg=[0, 60, -30])
    node.circuit.set(frequency=50.25)
    node.on()
    for k, (u, i, lag) in enumerate([(230, 10, 0), (220, 5, 60), (240, 1, 330)]):
        assert node.read(0xD9 + k) / 100 == pytest.approx(u, rel=1e-4)
        assert node.read(0xDD + k) / 1000 == pytest.approx(i, rel=2e-3)
        power = u * i * math.cos(math.radians(lag))
        assert node.signed32(0xB1 + k, 0xC1 + k) * 0.00032 == pytest.approx(power, rel=2e-4)
        reactive = u * i * math.sin(math.radians(lag))
        assert node.signed32(0xB5 + k, 0xC5 + k) * 0.00032 == pytest.approx(
            reactive, rel=2e-4, abs=0.2
        )
        assert node.read(0xF9 + k) in (10 * lag, 10 * lag + 1, 10 * lag - 1, 3599)
        assert node.read(0xFD + k) == pytest.approx([0, 1200, 2400][k], abs=1)
    total = 230 * 10 + 220 * 5 * 0.5 + 240 * math.cos(math.pi / 6)
    assert node.signed32(0xB0, 0xC0) * 0.00032 == pytest.approx(total, rel=2e-4)
    apparent = 2300 + 1100 + 240
    assert node.signed32(0xB8, 0xC8) * 0.00032 == pytest.approx(apparent, rel=5e-4)
    assert node.read(0xBC) == pytest.approx(1000 * total / apparent, abs=1)
    assert node.read(0xBE) == 500
    assert node.read(0xF8) == 5025
    assert node.read(0xFC) == 25


def test_scale_is_that_of_the_threshold_formula(node):
    # 720 mV rms is 0xFFFF peak; register = RMS * sqrt2 * 2^14 / gain.
    node.circuit.set(voltage=230.0)
    node.on()
    registers = [(node.read(0xD9) + 0.5) * math.sqrt(2) * 2**14 / UGAIN]
    assert registers[0] == pytest.approx(230 * U_MV / 720 * 65536, rel=1e-3)


def test_low_words_of_rms_carry_8_bits(node):
    node.circuit.set(voltage=230.003)
    node.on()
    low = node.read(0xE9)
    assert low & 0xFF == 0
    scale = 2 * math.sqrt(2) * U_MV / 720 * UGAIN / 100
    # The noise of the converter leaves 0.7 mV rms of the mains in it.
    assert (node.read(0xD9) + (low >> 8) / 256) / 100 == pytest.approx(230.003 * scale, abs=4e-3)


def test_negative_power_is_twos_complement(node):
    node.circuit.set(voltage=230, current=10, phase_deg=180)
    node.on()
    assert node.read(0xB1) & 0x8000
    assert node.signed32(0xB1, 0xC1) * 0.00032 == pytest.approx(-2300, rel=2e-4)
    assert node.read(0xBD) == 0x10000 - 1000


def test_current_register_stops_at_65_535_a_and_pga_multiplies(node):
    node.circuit.set(current=80)
    node.on()
    assert node.read(0xDD) == 0xFFFF
    assert node.read(0xED) == 0xFF00
    node.circuit.set(current=10)
    node.configure(r34=0x0015)
    node.clock.time += 1
    assert node.read(0xDD) / 1000 == pytest.approx(20, rel=1e-3)


def test_gains_and_offsets_act(node):
    node.circuit.set(voltage=230, current=10, phase_deg=0)
    before = node.on().read(0xD9)
    node.configure(r63=-512, r47=round(-0.01 * 32768), r43=1000)
    node.clock.time += 1
    assert node.read(0xD9) == pytest.approx(before - 1, abs=0.5)
    power_a, power_b = (node.signed32(0xB1 + k, 0xC1 + k) * 0.00032 for k in range(2))
    assert power_a == pytest.approx(2300 * 0.99, rel=2e-4)
    assert power_b == pytest.approx(2300 + 0.32, rel=2e-4)


@pytest.mark.parametrize(("register", "turn"), [(0x00D5, 1), (0x80D5, -1)])
def test_phi_delays_current_or_voltage_in_steps_of_1_over_2_048_mhz(node, register, turn):
    node.circuit.set(phase_deg=60)
    node.on(r48=register)
    lag = 60 + turn * 0xD5 / 2.048e6 * 50 * 360
    expected = 2300 * math.cos(math.radians(lag))
    assert node.signed32(0xB1, 0xC1) * 0.00032 == pytest.approx(expected, rel=3e-4)


def test_calibration_formulas_of_the_application_note_correct_the_chip(node):
    """Power gain at PF 1, then phase at PF 0.5 L: the errors they measure must vanish."""
    error = 0.01
    node.circuit.set(current=10 * (1 + error), phase_deg=0)
    node.on(r47=int(-error / (1 + error) * 2**15))
    assert node.signed32(0xB1, 0xC1) * 0.00032 == pytest.approx(2300, rel=3e-4)
    lead = 0.4
    node.circuit.set(current=10, phase_deg=60 - lead)  # as a clamp that leads shows it
    error = math.cos(math.radians(60 - lead)) / 0.5 - 1
    node.configure(r47=0, r48=round(error * 3763.739))
    node.clock.time += 1
    assert node.signed32(0xB1, 0xC1) * 0.00032 == pytest.approx(1150, rel=5e-4)


def test_fundamental_and_harmonic_power_are_told_apart(node):
    node.circuit.set(
        current=10, harmonics={5: 0.5}, voltage_harmonics={5: 0.05}, phase_deg=0, voltage=230
    )
    node.on()
    fundamental = 2300 / math.sqrt(1.25) / math.sqrt(1.0025)
    assert node.signed32(0xD1, 0xE1) * 0.00032 == pytest.approx(fundamental, rel=5e-4)
    harmonic = fundamental * 0.5 * 0.05
    assert node.signed32(0xD5, 0xE5) * 0.00032 == pytest.approx(harmonic, rel=5e-3)


def test_peak_registers(node):
    node.on()
    volts = node.read(0xF1) * UGAIN / (100 * 2**13)
    amperes = node.read(0xF5) * IGAIN / (1000 * 2**13)
    assert volts == pytest.approx(230 * math.sqrt(2), rel=5e-3)
    assert amperes == pytest.approx(10 * math.sqrt(2), rel=5e-3)


def test_neutral_current_is_that_of_the_sum(node):
    node.circuit.set(current=[10, 10, 10])
    node.on()
    assert node.read(0xDC) < 10
    node.circuit.set(current=[10, 10, 0])
    node.clock.time += 1
    assert node.read(0xDC) / 1000 == pytest.approx(10, rel=2e-3)


def test_values_stand_still_for_16_cycles(node):
    node.on()
    node.clock.time += 0.32 - math.fmod(node.clock.time - START - 0.05, 0.32) + 0.01
    first = node.read(0xD9)
    node.circuit.set(voltage=115)
    node.clock.time += 0.30
    assert node.read(0xD9) == first
    node.clock.time += 0.02
    assert node.read(0xD9) < 0.6 * first
    node.clock.time += 0.32
    assert node.read(0xD9) / 100 == pytest.approx(115, rel=1e-3)


# -- energy ----------------------------------------------------------------------------------


def test_energy_counts_0_01_cf_and_clears_on_read(node):
    node.circuit.set(voltage=[230, 230, 230], current=[10, 10, 1], phase_deg=[0, 0, 180])
    node.on()
    for address in range(0x80, 0xB0):
        node.read(address)
    node.clock.time += 36  # 23 Wh on A and B, 2.3 Wh back on C
    assert node.read(0x81) * 0.003125 == pytest.approx(23.0, rel=1e-3)
    assert node.read(0x87) * 0.003125 == pytest.approx(2.3, rel=3e-3)
    assert node.read(0x83) == node.read(0x85) == 0
    assert node.read(0x80) * 0.003125 == pytest.approx(43.7, rel=1e-3)
    assert node.read(0x91) * 0.003125 == pytest.approx(23.0, rel=1e-3)
    assert node.read(0x81) == 0
    node.read(0x82)
    counts = 0
    for _ in range(100):  # about 2.5 counts each: the halves are kept, not lost
        node.clock.time += 0.0123
        counts += node.read(0x82)
    assert counts == pytest.approx(2300 * 1.23 / 3600 / 0.003125, abs=1.5)


def test_pl_const_sets_the_unit_and_the_counter_rolls(node):
    pl_const = round(450e9 / 6400)
    node.circuit.set(current=10)
    node.on(r31=pl_const >> 16, r32=pl_const & 0xFFFF)
    node.read(0x81)
    node.clock.time += 36
    assert node.read(0x81) == pytest.approx(23.0 * 640, rel=1e-3)
    node.clock.time += 360
    assert node.read(0x81) == pytest.approx(230.0 * 640 - 65536 * 2, rel=2e-2)


def test_lost_energy_is_recovered_from_last_data(node):
    node.on()
    node.read(0x81)
    node.clock.time += 36
    node.chip.fault("bit_error")
    garbled = node.read(0x81)
    node.chip.clear("bit_error")
    kept = node.read(0x78)
    assert kept != garbled
    assert bin(kept ^ garbled).count("1") == 1
    assert kept * 0.003125 == pytest.approx(23.0, rel=1e-3)
    assert node.read(0x81) == 0


def test_aborted_read_does_not_clear(node):
    node.on()
    node.read(0x81)
    node.clock.time += 36
    node.frame("808100")
    assert node.read(0x81) * 0.003125 == pytest.approx(23.0, rel=1e-3)


def test_below_the_start_threshold_nothing_counts(node):
    node.circuit.set(current=[0.004, 0.004, 0.004])
    node.on(r35=0x1D4C, r36=0x1D4C, r37=0x1D4C)  # 2.4 W in all
    node.clock.time += 3600
    assert node.read(0x82) > 0 or node.read(0x81) > 0  # 2.76 W count
    node.circuit.set(current=[0.003, 0.003, 0.003])
    for address in range(0x80, 0x94):
        node.read(address)
    node.clock.time += 3600
    assert node.read(0x80) == node.read(0x81) == 0
    assert node.read(0x71) & 0x0020  # no load, P


def test_phase_below_its_own_threshold_does_not_count(node):
    node.circuit.set(current=[10, 0.004, 10])
    node.on(r38=0x1D4C)  # 2.4 W
    for address in range(0x80, 0x94):
        node.read(address)
    node.clock.time += 36
    assert node.read(0x82) == 0
    assert node.read(0x81) * 0.003125 == pytest.approx(23.0, rel=1e-3)
    assert node.read(0x80) * 0.003125 == pytest.approx(46.0, rel=1e-3)


def test_energy_is_that_of_the_circuit_over_changes_and_dips(node):
    node.on()
    node.read(0x81)
    node.circuit.mark()
    begun = node.clock.time
    node.circuit.set(current=20, phase_deg=45, at=begun + 3)
    node.circuit.event("dip", 0.4, start=begun + 5, duration=1.0)
    node.circuit.set(frequency=50.7, at=begun + 7)
    node.clock.time += 11
    true = node.circuit.truth()["l1"]["energy_import_wh"]
    assert node.read(0x81) * 0.003125 == pytest.approx(true, rel=1e-3)


# -- status ----------------------------------------------------------------------------------


def thresholds() -> dict[str, int]:
    def limit(volts: float) -> int:
        return round(volts * 100 * math.sqrt(2) * 2**14 / UGAIN)

    over_current = min(0xFFFF, round(20e3 * math.sqrt(2) * 2**14 / IGAIN))
    return {"r08": limit(0.78 * 230), "r09": limit(23), "r06": limit(1.22 * 230)} | {
        "r0b": over_current
    }


def clear(node: Node) -> None:
    node.read(0x74)
    node.write(0x73, 0xFFFF)
    node.write(0x74, 0xFFFF)


def test_dip_latches_sag_and_clears_with_a_one(node):
    node.on(**thresholds())
    clear(node)
    node.circuit.event("dip", 0.5, start=node.clock.time + 0.1, duration=0.2, phase=2)
    node.clock.time += 0.05
    assert node.read(0x74) == 0
    node.clock.time += 0.2
    assert node.read(0x72) & 0x7700 == 0x2000  # sag B, live
    node.write(0x74, 0x2000)
    node.clock.time += 0.02
    assert node.read(0x74) & 0x2000 == 0
    node.clock.time += 1  # the flag tells changes: the end is one too
    assert node.read(0x72) & 0x7700 == 0  # over
    assert node.read(0x74) & 0x7700 == 0x2000  # and latched
    node.write(0x74, 0x1000)
    assert node.read(0x74) & 0x2000
    node.write(0x74, 0x2000)
    assert node.read(0x74) == 0


def test_dip_shorter_than_the_sag_period_is_not_seen(node):
    node.on(**thresholds())
    clear(node)
    node.circuit.event("dip", 0.5, start=node.clock.time + 0.1, duration=0.045)
    node.clock.time += 1
    assert node.read(0x74) == 0
    node.configure(r05=0x140A)  # 10 ms
    clear(node)
    node.circuit.event("dip", 0.5, start=node.clock.time + 0.1, duration=0.045)
    node.clock.time += 1
    assert node.read(0x74) & 0x7000 == 0x7000


def test_dip_inside_a_played_waveform_is_latched(node):
    node.on(**thresholds())
    clear(node)
    t = np.arange(10_000) / 10_000
    wave = 230 * math.sqrt(2) * np.sin(2 * np.pi * 50 * t - np.array([[0], [2], [4]]) * np.pi / 3)
    wave[1, 4000:6000] *= 0.5
    node.circuit.play(voltage=wave, rate_hz=10_000)
    node.clock.time += 0.9
    assert node.read(0x72) & 0x2000 == 0
    assert node.read(0x74) & 0x7000 == 0x2000


def test_interruption_is_phase_loss_too(node):
    node.on(**thresholds())
    clear(node)
    node.circuit.event("interruption", duration=0.3, phase=1)
    node.clock.time += 2
    assert node.read(0x74) & 0x7700 == 0x4400


def test_over_voltage_and_over_current_are_instantaneous(node):
    node.on(**thresholds())
    clear(node)
    node.circuit.event("swell", 1.4, start=node.clock.time + 0.1, duration=0.1, phase=3)
    node.circuit.set(current=[10, 25, 10])
    node.clock.time += 1
    assert node.read(0x71) & 0x1C00 == 0
    assert node.read(0x73) & 0xFC00 == 0x4400  # over-current B, over-voltage C
    clear(node)
    node.clock.time += 0.1
    assert node.read(0x73) & 0xFC00 == 0x4000  # the current still passes the limit
    node.circuit.set(current=10)
    node.clock.time += 0.1
    clear(node)
    node.clock.time += 0.1
    assert node.read(0x73) & 0xFC00 == 0


def test_direction_sequence_and_frequency(node):
    node.on()
    clear(node)
    assert node.read(0x72) & 0x880F == 0
    node.circuit.set(phase_deg=[180, 0, 0], frequency=51.5)
    node.clock.time += 1
    assert node.read(0x72) & 0x880F == 0x8004
    node.circuit.set(frequency=48.5, phase_deg=180)
    node.clock.time += 1
    assert node.read(0x72) & 0x880F == 0x080F
    assert node.read(0x71) & 0x030F == 0x000A  # CF1 and CF3 run backwards
    node.configure(r02=0x0456)  # A and C exchanged
    node.clock.time += 1
    assert node.read(0x71) & 0x0200


def test_swapped_clamps_show_as_current_sequence_error(node):
    node.on()
    node.clock.time += 1
    assert node.read(0x71) & 0x0100 == 0
    node.circuit.fault("ct_swapped", phase=1)
    node.clock.time += 1
    assert node.read(0x71) & 0x0100


# -- faults ----------------------------------------------------------------------------------


def test_bus_faults(node):
    for name, answer in (
        ("absent", "ffffffff"),
        ("stuck_high", "ffffffff"),
        ("stuck_low", "00000000"),
    ):
        node.chip.fault(name)
        assert node.frame("80310000") == answer
        node.chip.clear(name)
        assert node.frame("80310000") == "00000861"
    with pytest.raises(ValueError):
        node.chip.fault("gremlins")


def test_absent_chip_takes_no_writes(node):
    node.chip.fault("absent")
    node.write(0x7F, 0x55AA)
    node.chip.clear("absent")
    assert node.read(0x7F) == 0


def test_brown_out_and_power_cycle_forget_the_configuration(node):
    node.on()
    node.chip.brown_out()
    assert node.read(0x00) == 0xFFFF  # busy
    node.clock.time += 0.02
    assert node.read(0x00) == 0
    assert node.read(0x61) == 0x8000
    node.on()
    node.chip.power(False)
    assert node.frame("80310000") == "ffffffff"
    node.chip.power(True)
    node.clock.time += 0.02
    assert node.read(0x61) == 0x8000


def test_single_phase_leaves_the_other_channels_lost():
    node = Node(phases=1).on()
    assert node.read(0xDA) < 10 > node.read(0xDE)  # the converter's own noise
    assert node.read(0xD9) / 100 == pytest.approx(230, rel=1e-3)
    node.clock.time += 1
    assert node.read(0x72) & 0x0700 == 0x0300


def test_played_waveform_is_measured(node):
    t = np.arange(2000) / 10_000
    wave = np.sin(2 * np.pi * 50 * t - np.array([[0], [2], [4]]) * np.pi / 3)
    node.circuit.play(voltage=300 * wave, current=5 * wave, rate_hz=10_000, repeat=True)
    node.on()
    node.read(0x81)
    node.clock.time += 100
    assert node.read(0xD9) / 100 == pytest.approx(300 / math.sqrt(2), rel=1e-3)
    assert node.signed32(0xB1, 0xC1) * 0.00032 == pytest.approx(750, rel=1e-3)
    assert node.read(0x81) * 0.003125 == pytest.approx(75 / 3.6, rel=1e-3)
