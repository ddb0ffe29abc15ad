"""The BL0942 model against the data sheet's facts: frames byte by byte, values by the formulas."""

from __future__ import annotations

import math

import pytest
from gridnode_host.bench.chips.bl0942 import Bl0942
from gridnode_host.bench.chips.metering import Input
from gridnode_host.bench.mains import Circuit

START = 1_800_000_000.0
V_MV = 510e3 / (5 * 390e3 + 510)  # the application note's board: 5 x 390 kohm over 510 ohm
I_MV = 1.0  # 1 mohm


class Clock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time


class Node:
    """A chip on a circuit, and the frames of a master."""

    def __init__(self, **how) -> None:
        self.clock = Clock()
        self.circuit = Circuit(1, self.clock)
        self.chip = Bl0942(self.circuit, Input(0, V_MV), Input(0, I_MV), **how)
        self.clock.time += 2.0

    def send(self, data: str, wait: float = 0.2) -> bytes:
        self.chip.receive(bytes.fromhex(data))
        self.clock.time += wait
        return self.chip.pending(self.clock.time)

    def read(self, register: int) -> int:
        head = bytes([0x58 | self.chip.address, register])
        answer = self.send(head.hex())
        assert len(answer) == 4
        assert ~sum(head + answer[:3]) & 0xFF == answer[3]
        return int.from_bytes(answer[:3], "little")

    def write(self, register: int, value: int) -> None:
        head = bytes([0xA8 | self.chip.address, register]) + value.to_bytes(3, "little")
        assert self.send((head + bytes([~sum(head) & 0xFF])).hex()) == b""

    def unlocked(self, **registers: int) -> Node:
        self.write(0x1D, 0x55)
        for name, value in registers.items():
            self.write(int(name[1:], 16), value)
        return self

    def packet(self) -> bytes:
        answer = self.send(bytes([0x58 | self.chip.address, 0xAA]).hex())
        assert len(answer) == 23
        assert answer[0] == 0x55
        assert ~(0x58 + self.chip.address + sum(answer[:22])) & 0xFF == answer[22]
        return answer


@pytest.fixture
def node() -> Node:
    return Node()


# -- frames and time on the wire -------------------------------------------------------------


@pytest.mark.parametrize(("baudrate", "seconds"), [(4800, 23 * 10 / 4800), (9600, 23 * 10 / 9600)])
def test_packet_takes_its_time_on_the_wire(baudrate, seconds):
    node = Node(baudrate=baudrate)
    node.chip.receive(b"\x58\xaa")
    asked = 20 / baudrate
    assert node.chip.pending(node.clock.time + asked + 9.9 / baudrate) == b""
    assert node.chip.pending(node.clock.time + asked + 10.6 / baudrate) == b"\x55"
    assert len(node.chip.pending(node.clock.time + asked + seconds - 1e-4)) == 21
    assert len(node.chip.pending(node.clock.time + asked + seconds + 1e-3)) == 1
    assert 0.047 < 23 * 10 / 4800 < 0.049  # "about 48 ms"


def test_reset_values(node):
    for register, value in [(0x12, 0), (0x14, 0x0B), (0x15, 0xFFFF), (0x16, 1), (0x17, 3)]:
        assert node.read(register) == value
    for register, value in [(0x18, 0x24), (0x19, 0x87), (0x1A, 2), (0x1D, 0)]:
        assert node.read(register) == value
    fresh = Node()
    fresh.clock.time = START + 0.1  # nothing measured yet
    assert fresh.read(0x08) == 0x4E20
    assert fresh.read(0x04) == 0


def test_registers_are_protected_until_0x55_is_written(node):
    node.write(0x14, 0x20)
    assert node.read(0x14) == 0x0B
    node.unlocked(r14=0x20)
    assert node.read(0x14) == 0x20
    node.write(0x1D, 0)
    node.write(0x14, 0x30)
    assert node.read(0x14) == 0x20


def test_register_keeps_its_width_and_measured_ones_are_read_only(node):
    node.unlocked(r19=0x12F7, r1a=0xFF, r03=5)
    assert node.chip.registers[0x19] == 0x2F7
    assert node.chip.registers[0x1A] == 3
    assert 0x03 not in node.chip.registers


def test_wrong_checksum_drops_the_frame(node):
    node.send("a81d550000e4")
    node.write(0x14, 0x20)
    assert node.read(0x14) == 0x0B
    assert node.chip.dropped == 1


def test_frame_that_takes_longer_than_16_ms_is_dropped(node):
    assert node.send("58", wait=0.020) == b""
    assert node.send("19", wait=0.1) == b""  # neither the rest of the first nor a command
    assert node.read(0x19) == 0x87
    assert node.send("58", wait=0.010) == b""
    assert len(node.send("19", wait=0.1)) == 4


def test_noise_before_a_frame_does_not_matter(node):
    assert len(node.send("00ff13" + "5819")) == 4


def test_address_selects_the_chip():
    node = Node(address=2)
    assert node.read(0x19) == 0x87  # 5A 19
    assert node.send("5819") == b""
    assert len(node.packet()) == 23


def test_soft_reset_needs_its_word_and_the_lock_open(node):
    node.write(0x1C, 0x5A5A5A)
    node.unlocked(r14=0x20, r1c=0x5A5A5B)
    assert node.read(0x14) == 0x20
    node.write(0x1C, 0x5A5A5A)
    assert node.read(0x14) == 0x0B
    assert node.read(0x1D) == 0


@pytest.mark.parametrize(("mode", "baudrate"), [(0x287, 19200), (0x387, 38400), (0x187, 4800)])
def test_mode_changes_the_baud_rate_until_reset(node, mode, baudrate):
    node.unlocked(r19=mode)
    assert node.chip.baudrate == baudrate
    assert node.read(0x19) == mode
    node.chip.brown_out()
    assert node.chip.baudrate == 4800


def test_wrong_settings_of_the_uart_give_garbage(node):
    node.chip.setup(9600, "none")
    assert [node.send("5819") for _ in range(5)] != [b"\x87\0\0\x07"] * 5
    node.chip.setup(4800, "none")
    assert node.read(0x19) == 0x87


# -- values ----------------------------------------------------------------------------------


def test_counts_of_the_application_notes_board(node):
    node.circuit.set(voltage=230.0, current=10.0, phase_deg=60.0)
    node.clock.time += 2
    assert node.read(0x03) == pytest.approx(10 * 251_213, rel=2e-4)
    assert node.read(0x04) == pytest.approx(230 * 15_883.3, rel=2e-4)
    assert node.read(0x06) == pytest.approx(1150 * 623.4, rel=3e-4)
    assert node.read(0x05) == pytest.approx(0.363 * 2_512_130, rel=1e-3)
    assert node.read(0x08) == 20_000


def test_packet_holds_the_registers(node):
    node.circuit.set(voltage=230.0, current=10.0, phase_deg=180.0, frequency=60.0)
    node.clock.time += 2
    packet = node.packet()

    def field(first: int, size: int = 3) -> int:
        return int.from_bytes(packet[first : first + size], "little")

    assert field(1) == pytest.approx(2_512_130, rel=2e-4)
    assert field(4) == pytest.approx(230 * 15_883.3, rel=2e-4)
    assert field(10) - (1 << 24) == pytest.approx(-2300 * 623.4, rel=3e-4)
    assert 1e6 / field(16, 2) == pytest.approx(60.0, abs=0.01)
    assert packet[18] == packet[21] == 0
    assert packet[19] & 1 == 1  # the last pulse was negative


@pytest.mark.parametrize(("mode", "period"), [(0x87, 0.4), (0x8F, 0.8)])
def test_registers_are_refreshed_every_400_or_800_ms(mode, period):
    node = Node()
    node.unlocked(r19=mode)
    node.clock.time += 2
    values = []
    for k in range(40):
        node.circuit.set(voltage=200.0 + k)
        node.clock.time += period / 10 - 0.02
        values.append(int.from_bytes(node.send("5804", wait=0.02)[:3], "little"))
    assert 4 <= len(set(values)) <= 6


def test_frozen_registers_stand_still(node):
    node.clock.time += 2
    node.chip.fault("frozen")
    before = node.packet()
    node.circuit.set(voltage=100.0, current=1.0)
    node.clock.time += 10
    assert node.packet() == before
    node.chip.clear("frozen")
    assert node.packet() != before


@pytest.mark.parametrize(("gain", "factor"), [(0, 1 / 16), (1, 0.25), (2, 1.0), (3, 1.5)])
def test_current_gain(gain, factor):
    node = Node()
    node.circuit.set(current=10.0)
    node.unlocked(r1a=gain)
    node.clock.time += 2
    assert node.read(0x03) == pytest.approx(2_512_130 * factor, rel=5e-4)
    assert node.read(0x06) == pytest.approx(2300 * 623.4 * factor, rel=5e-4)


def test_inputs_end_at_42_and_100_mv(node):
    node.circuit.set(current=60.0)  # 84.9 mV peak
    node.clock.time += 2
    assert node.read(0x03) / 251_213 < 42.0
    node.circuit.set(current=29.0, voltage=250.0)  # 41 mV and 92 mV peak
    node.clock.time += 2
    assert node.read(0x03) / 251_213 == pytest.approx(29.0, rel=2e-4)
    assert node.read(0x04) / 15_883.3 == pytest.approx(250.0, rel=2e-4)


def test_status_tells_weak_signals_and_frequency_is_kept(node):
    node.circuit.set(voltage=230.0, current=2.0, frequency=51.0)
    node.clock.time += 2
    assert node.read(0x09) == 0
    node.circuit.set(voltage=30.0, current=1.0, frequency=49.0)  # below 33 V and 1.04 A
    node.clock.time += 2
    assert node.read(0x09) == 0x300
    assert 1e6 / node.read(0x08) == pytest.approx(51.0, abs=0.01)


def test_creep_silences_power_current_and_pulses(node):
    limit = 0x0B * 3125 / 256 / 623.4  # W
    node.circuit.set(voltage=230.0, current=1.2 * limit / 230)
    node.clock.time += 2
    assert node.read(0x06) > 0
    assert node.read(0x03) > 0
    node.circuit.set(current=0.8 * limit / 230)
    node.clock.time += 2
    pulses = node.read(0x07)
    assert node.read(0x06) == node.read(0x03) == 0
    assert node.read(0x09) & 2
    node.clock.time += 1e5
    assert node.read(0x07) == pulses


# -- pulses ----------------------------------------------------------------------------------

KWH_PER_PULSE = 0.000186894


def test_pulses_count_energy(node):
    node.circuit.set(voltage=230.0, current=10.0)
    before = node.read(0x07)
    node.clock.time += 3600
    assert (node.read(0x07) - before) * KWH_PER_PULSE == pytest.approx(2.3, rel=3e-4)


def test_absolute_counting_adds_what_is_exported_and_algebraic_takes_it_away(node):
    node.circuit.set(voltage=230.0, current=10.0, phase_deg=180.0)
    before = node.read(0x07)
    node.clock.time += 360
    exported = node.read(0x07) - before
    assert exported * KWH_PER_PULSE == pytest.approx(0.23, rel=2e-3)
    assert node.read(0x09) & 1
    node.unlocked(r19=0x07)
    before = node.read(0x07)
    node.clock.time += 360
    assert before - node.read(0x07) == pytest.approx(exported, abs=2)
    node.circuit.set(phase_deg=0.0)
    node.clock.time += 1
    assert not node.read(0x09) & 1


def test_algebraic_count_goes_below_zero_modulo_2_to_24():
    node = Node()
    node.circuit.set(voltage=230.0, current=0.0)
    node.chip.brown_out()
    node.unlocked(r19=0x07)
    node.circuit.set(current=10.0, phase_deg=180.0)
    node.clock.time += 30
    assert node.read(0x07) > 0xFFFF00


def test_count_wraps_at_24_bit(node):
    node.circuit.set(voltage=230.0, current=25.0)
    node.chip._pulses = 0xFFFFF0
    node.read(0x07)
    node.clock.time += 60
    assert node.read(0x07) < 1000


def test_count_is_cleared_on_read_if_mode_says_so_and_stops_if_disabled(node):
    node.unlocked(r19=0xC7)
    node.clock.time += 60
    assert node.read(0x07) > 100
    node.chip._count(node.clock.time)
    assert node.read(0x07) <= 2
    node.unlocked(r19=0x83)
    stopped = node.read(0x07)
    node.clock.time += 60
    assert node.read(0x07) == stopped


# -- supply and faults -----------------------------------------------------------------------


def test_brown_out_clears_count_and_configuration(node):
    node.unlocked(r14=0x20)
    node.clock.time += 60
    assert node.read(0x07) > 0
    node.chip.brown_out()
    assert node.read(0x14) == 0x0B
    assert node.read(0x07) <= 1


def test_without_supply_nothing_answers(node):
    node.chip.power(False)
    assert node.send("5819") == b""
    node.chip.power(True)
    assert node.read(0x19) == 0x87


@pytest.mark.parametrize("name", ["absent", "silent", "stuck_high"])
def test_silence(node, name):
    node.chip.fault(name)
    assert node.send("5819") == b""
    node.chip.clear(name)
    assert node.read(0x19) == 0x87


def test_disturbed_answers(node):
    good = node.send("58aa")
    node.chip.fault("stuck_low")
    assert node.send("58aa") == bytes(23)
    node.chip.clear("stuck_low")
    node.chip.fault("bit_error", rate=1.0)
    wrong = int.from_bytes(node.send("5819")) ^ int.from_bytes(b"\x87\0\0\x07")
    assert wrong.bit_count() == 1
    node.chip.clear("bit_error")
    node.chip.fault("garbage")
    assert len(garbage := node.send("58aa")) == 23
    assert garbage != good
    node.chip.clear("garbage")
    node.chip.fault("noise", rate=0.2)
    answers = {node.send("5819") for _ in range(30)}
    assert len(answers) > 10
    with pytest.raises(ValueError, match="no such fault"):
        node.chip.fault("wrong_id")


def test_values_are_exact_through_a_change(node):
    """A refresh period that holds half of each: rms is the root of the mean of the squares."""
    node.clock.time = START + 20.0
    node.read(0x04)
    edge = START + 24.0
    node.circuit.set(voltage=200.0, at=edge - 1.0)
    node.circuit.set(voltage=240.0, at=edge + 0.2)
    node.clock.time = edge + 0.45 - 0.1
    node.chip.pending(node.clock.time)
    node.clock.time = edge + 0.45
    rms = node.read(0x04) / 15_883.3
    assert rms == pytest.approx(math.sqrt((200**2 + 240**2) / 2), rel=2e-4)
