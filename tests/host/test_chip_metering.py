"""What chip models share: exact means of a circuit, and named faults."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gridnode_host import resources
from gridnode_host.bench import frontend
from gridnode_host.bench.chips.ade7953 import Ade7953
from gridnode_host.bench.chips.bl0942 import Bl0942
from gridnode_host.bench.chips.chip import Chip, UartChip
from gridnode_host.bench.chips.metering import Input, Inputs
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.sensors import Sensor
from gridnode_host.bench.wiring import Wiring

START = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time


@pytest.fixture
def circuit() -> Circuit:
    return Circuit(1, Clock())


@pytest.fixture
def inputs(circuit) -> Inputs:
    return Inputs(circuit, Input(0, 2.0), Input(0, 3.0))


# -- means -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["sine", "smps", "dimmer"])
@pytest.mark.parametrize("frequency", [45.0, 50.0, 65.3])
def test_means_are_those_of_the_truth(circuit, inputs, shape, frequency):
    circuit.set(shape=shape, frequency=frequency, voltage=231.7, current=7.3, noise_v=2.0)
    truth = circuit.truth()
    means = inputs.over(START, START + 0.4)
    assert math.sqrt(means.u2) == pytest.approx(2 * truth["voltage"], rel=1e-6)
    assert math.sqrt(means.i2) == pytest.approx(3 * truth["current"], rel=1e-6)
    assert means.p == pytest.approx(6 * truth["power"], rel=1e-5)
    assert means.q1 == pytest.approx(6 * truth["reactive_power"], rel=1e-5, abs=1e-2)


def test_reactive_power_of_harmonics_counts_in_q_alone(circuit, inputs):
    circuit.set(phase_deg=0.0, harmonics={5: (0.5, -90.0)}, voltage_harmonics={5: 0.1})
    means = inputs.over(START, START + 0.4)
    fundamental = 6 * 2300 / math.sqrt(1.25 * 1.01)
    assert means.q1 == pytest.approx(0, abs=0.01)
    assert means.q == pytest.approx(0.05 * fundamental, rel=1e-4)
    assert means.p == pytest.approx(means.p1, rel=1e-6)
    assert means.p == pytest.approx(fundamental, rel=1e-4)


def test_means_over_changes_are_weighted_by_time(circuit, inputs):
    circuit.set(voltage=100.0, at=START + 0.3)
    circuit.set(voltage=200.0, at=START + 0.4)
    means = inputs.over(START + 0.2, START + 0.6)
    assert means.u2 / 4 == pytest.approx((0.1 * 230**2 + 0.1 * 100**2 + 0.2 * 200**2) / 0.4)


def test_delay_turns_the_current(circuit, inputs):
    delay = 1e-3  # 18 degrees
    means = inputs.over(START, START + 0.4, delay_s=delay)
    assert means.q1 / means.p1 == pytest.approx(math.tan(math.radians(18.0)), rel=1e-5)


def test_converters_end(circuit, inputs):
    means = inputs.over(START, START + 0.4, limits=(1e-6, math.inf))
    assert means.u2 == pytest.approx(1e-12, rel=1e-3)  # a square wave
    assert means.p == pytest.approx(6 * 2300 / (460 * math.sqrt(2)) * 1e-6 * 4 / math.pi, rel=1e-3)


def test_sensor_and_its_faults_are_in_the_way(circuit):
    sensor = Sensor(3.0, 2.0, 50.0)
    inputs = Inputs(circuit, Input(0, 2.0), Input(0, sensor.mv_per_unit, sensor.transfer))
    means = inputs.over(START, START + 0.4)
    assert means.q1 / means.p1 == pytest.approx(-math.tan(math.radians(2.0)), rel=1e-4)
    circuit.fault("ct_reversed")
    assert inputs.over(START, START).p == pytest.approx(-means.p)
    circuit.fault("ct_open")
    assert inputs.over(START, START).i2 == 0


def test_unconnected_inputs_see_nothing(circuit):
    for inputs in (Inputs(circuit, None, None), Inputs(circuit, Input(1, 1.0), Input(2, 1.0))):
        assert inputs.over(START, START + 1) == (0, 0, 0, 0, 0, 0)
        assert not inputs.samples(np.array([START]))[0].any()


def test_clip_is_sampled_through(circuit, inputs):
    rate = 10_000.0
    t = np.arange(60_000) / rate
    level = np.where(t < 3.0, 1.0, 0.5)
    wave = level * np.sin(2 * np.pi * 50 * t)
    circuit.play(voltage=325.0 * wave, current=10.0 * wave, rate_hz=rate, start=START)
    first, second = inputs.over(START, START + 3.0), inputs.over(START + 3.0, START + 6.0)
    assert first.p == pytest.approx(6 * 1625.0, rel=2e-3)
    assert second.p == pytest.approx(6 * 1625.0 / 4, rel=2e-3)
    whole = inputs.over(START, START + 6.0)
    assert whole.p == pytest.approx((first.p + second.p) / 2, rel=1e-3)
    assert whole.u2 == pytest.approx(4 * 325**2 / 2 * 0.625, rel=2e-3)


# -- faults ----------------------------------------------------------------------------------


class Echo(UartChip):
    """Sends back what it hears."""

    def _reset(self) -> None:
        self._quiet()

    def _hear(self, byte: int, at: float) -> None:
        self._send(bytes([byte]), at)


def echo(rate: float, name: str = "noise", seed: int = 1) -> tuple[bytes, bytes]:
    clock = Clock()
    chip = Echo(clock.now, seed, baudrate=9600)
    chip.brown_out()
    chip.fault(name, rate)
    sent = bytes(range(256)) * 4
    chip.receive(sent)
    clock.time += 2 * len(sent) * 10 / 9600
    return sent, chip.pending(clock.time)


def test_noise_is_seeded_and_goes_by_its_rate():
    sent, got = echo(0.0)
    assert got == sent
    assert echo(0.1)[1] == echo(0.1)[1] != echo(0.1, seed=2)[1]
    sent, got = echo(0.01)
    assert got != sent
    assert abs(len(got) - len(sent)) < 40
    assert len(got) > 900


def test_noise_makes_bytes_on_an_idle_line():
    clock = Clock()
    chip = Echo(clock.now, 1, baudrate=9600)
    chip.brown_out()
    assert chip.pending(clock.time) == b""
    chip.fault("noise", rate=0.01)
    clock.time += 10.0  # 9600 byte times
    assert 0 < len(chip.pending(clock.time)) <= 150


def test_bytes_take_their_time_both_ways():
    clock = Clock()
    chip = Echo(clock.now, 1, baudrate=9600, parity="even")
    chip.brown_out()
    chip.receive(b"abc")
    byte = 11 / 9600
    assert chip.pending(START + 1.9 * byte) == b""
    assert chip.pending(START + 2.1 * byte) == b"a"
    assert chip.pending(START + 4.1 * byte) == b"bc"


def test_faults_are_known_by_name():
    clock = Clock()
    chip = Echo(clock.now, 1)
    assert {"absent", "stuck_high", "stuck_low", "bit_error", "frozen"} <= set(Chip.faults)
    assert {"silent", "noise", "garbage"} <= set(chip.faults)
    with pytest.raises(ValueError, match="no such fault: fire"):
        chip.fault("fire")
    chip.clear("noise")  # was not on


# -- units as a profile wires them -----------------------------------------------------------


def unit(name: str, seed: int):
    """The chip of a profile, its exact calibration, its circuit and its clock."""
    profile = resources.profile(name)
    clock = Clock()
    circuit = frontend.circuit(profile, clock)
    built = frontend.wire(profile, circuit, Wiring(), seed=seed)
    return built.chips["main"], built.calibration["meters"]["main"], circuit, clock


def registers(chip, clock: Clock) -> tuple[float, float, float]:
    """V, A and W of the first channel by the chip's own scale, per mV at its pins."""
    if isinstance(chip, Ade7953):
        clock.time += 0.1
        chip.write(b"\x00\xfe\xad")
        chip.write(b"\x01\x20\x00\x30")
        chip.write(b"\x00\x08\x03")  # PGA of 8
        clock.time += 1.0
        full = 500 / math.sqrt(2)
        values = []
        for address in (0x31C, 0x31A, 0x312):
            chip.write(address.to_bytes(2, "big"))
            values.append(int.from_bytes(chip.read(4), "big"))
        v, i, p = values
        return (
            v * full / 9_032_007,
            i * full / 9_032_007 / 8,
            p * full**2 / 4_862_401 / 8,
        )
    clock.time += 1.0
    if isinstance(chip, Bl0942):
        chip.receive(b"\x58\xaa")
        clock.time += 0.1
        data = chip.pending(clock.time)
        i, v, _, p = (int.from_bytes(data[k : k + 3], "little") for k in (1, 4, 7, 10))
        return v * 1.218 / 73989, i * 1.218 / 305978, p * 1.218**2 / 3537
    clock.time += 1.0
    data = chip.pending(clock.time)[-48:]
    start = next(k for k in range(24) if data[k : k + 2] == b"\x55\x5a")
    fields = [int.from_bytes(data[start + k : start + k + 3], "big") for k in range(2, 20, 3)]
    v, i, p = (fields[k] / fields[k + 1] for k in (0, 2, 4))
    return v, i, p


@pytest.mark.parametrize("name", ["plug-ade7953", "plug-bl0942", "plug-cse7766"])
def test_exact_calibration_undoes_the_parts_of_a_unit(name):
    spec = resources.profile(name)["meters"][0]
    per_v, per_a = spec["voltage"][0]["mv_per_v"], spec["current"][0]["shunt_mohm"]
    gains = set()
    for seed in range(3):
        chip, calibration, circuit, clock = unit(name, seed)
        circuit.set(current=7.0, phase_deg=30.0)
        v_gain, i_gain = (calibration[key][0]["gain"] for key in ("voltage", "current"))
        gains.add((v_gain, i_gain))
        v, i, p = registers(chip, clock)
        assert v / per_v * v_gain == pytest.approx(230.0, rel=2.5e-3)
        assert i / per_a * i_gain == pytest.approx(7.0, rel=1e-3)
        power = 230.0 * 7.0 * math.cos(math.radians(30.0))
        assert p / per_v / per_a * v_gain * i_gain == pytest.approx(power, rel=1e-3)
    assert len(gains) == 3
