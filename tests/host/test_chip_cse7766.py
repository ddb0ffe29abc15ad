"""The CSE7766 model against the facts: frames, cycles, pulses, states and what breaks."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from gridnode_host.bench.chips.cse7766 import I_COEF, P_COEF, U_COEF, Cse7766
from gridnode_host.bench.chips.metering import Input
from gridnode_host.bench.mains import Circuit

START = 1_800_000_000.0
TYPICAL = (U_COEF, I_COEF, P_COEF)


class Clock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time


@dataclass
class Frame:
    """A frame's fields as the facts lay them out."""

    data: bytes

    def __post_init__(self) -> None:
        assert len(self.data) == 24
        assert self.data[1] == 0x5A
        assert sum(self.data[2:23]) & 0xFF == self.data[23]
        fields = [int.from_bytes(self.data[k : k + 3], "big") for k in range(2, 20, 3)]
        self.coefficients, self.cycles = fields[::2], fields[1::2]
        self.state, self.adj = self.data[0], self.data[20]
        self.pulses = int.from_bytes(self.data[21:23], "big")
        self.u, self.i, self.p = (
            coefficient / cycle if cycle else 0.0
            for coefficient, cycle in zip(self.coefficients, self.cycles, strict=True)
        )

    @property
    def power_valid(self) -> bool:
        return bool(self.adj & 0x10)


class Node:
    def __init__(self, coefficients=TYPICAL, **circuit) -> None:
        self.clock = Clock()
        self.circuit = Circuit(1, self.clock)
        self.circuit.set(**circuit)
        self.chip = Cse7766(self.circuit, Input(0, 1.0), Input(0, 1.0), coefficients=coefficients)

    def bytes_after(self, seconds: float) -> bytes:
        """What comes within some seconds, looked for every 20 ms as a node does."""
        end = self.clock.time + seconds
        out = b""
        while self.clock.time < end:
            self.clock.time = min(self.clock.time + 0.02, end)
            out += self.chip.pending(self.clock.time)
        return out

    def frames(self, seconds: float) -> list[Frame]:
        data = self.bytes_after(seconds)
        first = next(
            k for k in range(24) if data[k + 1] == 0x5A and sum(data[k + 2 : k + 23]) & 0xFF == data[k + 23]
        )
        return [Frame(data[k : k + 24]) for k in range(first, len(data) - 23, 24)]

    def last(self, seconds: float) -> Frame:
        return self.frames(seconds)[-1]


# -- on the wire -----------------------------------------------------------------------------


def test_24_bytes_of_11_bits_at_4800_baud_follow_each_other():
    node = Node()
    assert node.chip.baudrate == 4800
    assert node.chip.parity == "even"
    node.bytes_after(1.0)
    assert len(node.bytes_after(10.0)) == pytest.approx(10.0 * 4800 / 11, abs=2)


def test_bytes_come_one_by_one():
    node = Node()
    node.bytes_after(1.0)
    came = []
    for _ in range(100):
        node.clock.time += 11 / 4800
        came.append(len(node.chip.pending(node.clock.time)))
    assert set(came) <= {0, 1, 2}
    assert sum(came) == pytest.approx(100, abs=1)


def test_what_the_node_sends_is_not_heard():
    node = Node()
    node.chip.receive(b"\x55\x5a")
    assert node.last(1.0).state == 0x55


def test_wrong_parity_gives_garbage():
    node = Node()
    node.chip.setup(4800, "none")
    data = node.bytes_after(2.0)
    assert b"\x55\x5a" + U_COEF.to_bytes(3, "big") not in data


def test_nobody_has_listened_for_a_day():
    node = Node(voltage=230.0, current=10.0)
    node.bytes_after(1.0)
    node.clock.time += 86_400
    assert len(node.chip.pending(node.clock.time)) < 20_000
    assert node.last(1.0).power_valid


# -- values ----------------------------------------------------------------------------------


def test_voltage_current_and_power_by_coefficient_over_cycle():
    frame = Node(voltage=230.0, current=10.0, phase_deg=60.0).last(3.0)
    assert frame.state == 0x55
    assert frame.adj & 0x70 == 0x70
    assert frame.coefficients == list(TYPICAL)
    assert frame.cycles[0] == pytest.approx(191_200 / 230, abs=1.7)  # 1 us of 831
    assert frame.cycles[1] == pytest.approx(1614, abs=1.7)
    assert frame.cycles[2] == pytest.approx(5_364_000 / 1150, abs=1.7)
    assert frame.u == pytest.approx(230, rel=2.1e-3)
    assert frame.i == pytest.approx(10, rel=1.1e-3)
    assert frame.p == pytest.approx(1150, rel=4e-4)


def test_power_has_no_sign():
    assert Node(voltage=230.0, current=10.0, phase_deg=180.0).last(3.0).p == pytest.approx(
        2300, rel=1e-3
    )


def test_every_unit_has_coefficients_of_its_own_and_tells_the_truth():
    clock = Clock()
    circuit = Circuit(1, clock)
    units = [Cse7766(circuit, Input(0, 1.0), Input(0, 1.0), seed=k) for k in range(4)]
    assert len({unit.coefficients for unit in units}) == 4
    for unit in units:
        for mine, typical in zip(unit.coefficients, TYPICAL, strict=True):
            assert mine == pytest.approx(typical, rel=0.011)
        node = Node(coefficients=unit.coefficients, voltage=230.0, current=10.0)
        assert node.last(2.0).p == pytest.approx(2300, rel=1e-3)


def test_inputs_end_at_their_peaks():
    frame = Node(voltage=600.0, current=50.0).last(3.0)
    assert frame.u < 590
    assert frame.i < 44


def test_idle_chip_shows_a_current_of_noise_and_no_power():
    node = Node(voltage=230.0, current=0.0)
    frame = node.last(40.0)
    assert frame.i == pytest.approx(0.046, rel=0.01)
    assert frame.state == 0xF2
    assert not frame.power_valid
    assert frame.adj & 0x60 == 0x60


# -- energy ----------------------------------------------------------------------------------


def test_a_pulse_is_pcoef_microjoules():
    node = Node(voltage=230.0, current=1.0)
    before = node.last(2.0)
    after = node.last(360.0)
    assert (after.pulses - before.pulses) % 65536 * P_COEF / 1e6 == pytest.approx(
        230.0 * 360.0, rel=1e-3
    )


def test_pulse_of_a_pcoef_of_5351000_is_1_4864_mwh():
    node = Node(coefficients=(U_COEF, I_COEF, 5_351_000), voltage=230.0, current=1.0)
    before = node.last(2.0)
    after = node.last(360.0)
    mwh = 230.0 * 360.0 / 3.6
    assert mwh / ((after.pulses - before.pulses) % 65536) == pytest.approx(1.4864, rel=1e-3)


def test_count_wraps_at_16_bit_and_bit_7_toggles():
    node = Node(voltage=230.0, current=16.0)
    toggles = 0
    last = node.last(1.0)
    total = 0
    for _ in range(30):
        frame = node.last(10.0)
        total += (frame.pulses - last.pulses) % 65536
        toggles += (frame.adj ^ last.adj) >> 7
        last = frame
    assert total * P_COEF / 1e6 == pytest.approx(230 * 16 * 300, rel=1e-3)
    assert toggles == total // 65536 == 3


# -- slow cycles, ranges and switching -------------------------------------------------------


def test_power_comes_slowly_at_low_load():
    """3 W: 1.79 s between two pulses; the register counts on where a pulse is late."""
    node = Node(voltage=230.0, current=3.0 / 230)
    node.bytes_after(10.0)
    frames = node.frames(10.0)
    valid = [frame for frame in frames if frame.power_valid]
    waiting = [frame for frame in frames if not frame.power_valid]
    assert all(frame.state == 0x55 for frame in frames)
    assert all(frame.p == pytest.approx(3.0, rel=1e-3) for frame in valid)
    assert all(1.0e6 < frame.cycles[2] < 1.79e6 for frame in waiting)
    assert 0.4 < len(valid) / len(frames) < 0.7


def test_30_w_are_valid_in_every_frame():
    node = Node(voltage=230.0, current=30.0 / 230)
    node.bytes_after(3.0)
    assert all(frame.power_valid for frame in node.frames(5.0))


def test_power_after_the_load_has_gone():
    node = Node(voltage=230.0, current=1.0)
    node.bytes_after(5.0)
    node.circuit.set(current=0.0)
    held = node.last(0.8)
    assert held.power_valid
    assert held.p == pytest.approx(230.0, rel=1e-3)
    counting = node.last(4.2)
    assert counting.state == 0x55
    assert not counting.power_valid
    assert counting.cycles[2] == pytest.approx(5.0e6, rel=0.03)
    gone = node.last(15.0)
    assert gone.state == 0xF2
    assert not gone.power_valid
    node.circuit.set(current=1.0)
    assert node.last(1.0).p == pytest.approx(230.0, rel=1e-3)


def test_first_power_cycle_after_switch_on_is_incomplete():
    node = Node(voltage=230.0, current=20.0 / 230)  # 0.27 s for a pulse
    frames = node.frames(3.0)
    assert not frames[0].power_valid
    values = [frame.p for frame in frames if frame.power_valid]
    assert values[0] > 20.3
    assert values[-1] == pytest.approx(20.0, rel=1e-3)


def test_voltage_out_of_range():
    node = Node(voltage=0.0, current=0.0)
    frame = node.last(40.0)
    assert frame.state == 0xFA  # voltage and power
    assert frame.adj & 0x50 == 0


# -- faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "state"), [("uncalibrated", 0xAA), ("damaged", 0xF1)])
def test_states_of_a_bad_chip(fault, state):
    node = Node()
    node.chip.fault(fault)
    assert node.last(2.0).state == state
    node.chip.clear(fault)
    assert node.last(2.0).state == 0x55


def test_wild_frames_have_a_valid_checksum():
    node = Node(voltage=230.0, current=10.0)
    node.bytes_after(2.0)
    node.chip.fault("wild", rate=0.2)
    frames = node.frames(20.0)  # checks the sum of each
    wild = [
        frame
        for frame in frames
        if not (frame.u == pytest.approx(230, rel=0.05) and frame.p == pytest.approx(2300, rel=0.05)
                and frame.i == pytest.approx(10, rel=0.05))
    ]  # fmt: skip
    assert 0.1 < len(wild) / len(frames) < 0.3


def test_noise_garbage_and_silence():
    node = Node()
    clean = node.bytes_after(2.0)
    assert clean.count(b"\x55\x5a") > 30
    node.chip.fault("noise", rate=0.05)
    noisy = node.bytes_after(2.0)
    assert 10 < noisy.count(b"\x55\x5a" + U_COEF.to_bytes(3, "big")) < 34
    node.chip.clear("noise")
    node.chip.fault("garbage")
    assert node.bytes_after(2.0).count(b"\x55\x5a") < 3
    node.chip.clear("garbage")
    node.chip.fault("silent")
    assert node.bytes_after(2.0) == b""
    node.chip.clear("silent")
    assert node.last(1.0).state == 0x55


def test_live_chip_never_tells_the_same_cycles_for_long():
    node = Node(voltage=230.0, current=0.0)
    node.bytes_after(20.0)
    frames = node.frames(5.0)
    assert len({tuple(frame.cycles[:2]) for frame in frames}) > 2


def test_frozen_values_stand_still():
    node = Node(voltage=230.0, current=10.0)
    node.bytes_after(3.0)
    node.chip.fault("frozen")
    node.bytes_after(0.2)
    node.circuit.set(voltage=200.0)
    assert len({frame.data for frame in node.frames(5.0)}) == 1
    node.chip.clear("frozen")
    assert node.last(1.0).u == pytest.approx(200.0, rel=3e-3)


def test_brown_out_and_supply():
    node = Node(voltage=230.0, current=10.0)
    assert node.last(60.0).pulses > 20_000
    node.chip.brown_out()
    assert node.last(1.0).pulses < 1000
    node.chip.power(False)
    assert node.bytes_after(1.0) == b""
    node.chip.power(True)
    assert node.last(1.0).pulses < 1000
