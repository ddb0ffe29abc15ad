"""The mains circuit: waveform, truth and energy must tell one story."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gridnode_host.bench import shapes
from gridnode_host.bench.mains import Circuit

START = 1_800_000_000.0


class Clock:
    def __init__(self, start: float = START) -> None:
        self.time = start

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sampled(circuit: Circuit, seconds: float = 0.2, points: int = 40_000, start: float = 0.0):
    """Means computed from the waveform alone: v rms, i rms, power (per phase)."""
    t = circuit.now() + start + np.arange(points) * (seconds / points)
    v, i = circuit.waveform(t)
    return np.sqrt(np.mean(v**2, 1)), np.sqrt(np.mean(i**2, 1)), np.mean(v * i, 1)


def test_sine_has_the_values_that_were_set(clock):
    circuit = Circuit(clock=clock)
    circuit.set(voltage=231.5, current=12.5, phase_deg=60.0)
    true = circuit.truth()
    assert true["voltage"] == pytest.approx(231.5)
    assert true["power"] == pytest.approx(231.5 * 12.5 * 0.5)
    assert true["reactive_power"] == pytest.approx(231.5 * 12.5 * math.sin(math.pi / 3))
    assert true["power_factor"] == pytest.approx(0.5)
    assert true["thd_current"] == pytest.approx(0.0, abs=1e-6)
    v, i, p = sampled(circuit)
    assert v[0] == pytest.approx(231.5, rel=1e-6)
    assert i[0] == pytest.approx(12.5, rel=1e-6)
    assert p[0] == pytest.approx(true["power"], rel=1e-5)


def test_lagging_current_crosses_zero_after_the_voltage(clock):
    circuit = Circuit(clock=clock)
    circuit.set(phase_deg=90.0)
    v, i = circuit.waveform(START + np.array([0.0, 0.005]))
    assert v[0] == pytest.approx([0.0, 230 * math.sqrt(2)], abs=0.05)
    assert i[0] == pytest.approx([-10 * math.sqrt(2), 0.0], abs=0.01)


@pytest.mark.parametrize("shape", ["smps", "dimmer"])
def test_current_is_the_total_rms_whatever_the_shape(clock, shape):
    circuit = Circuit(clock=clock)
    circuit.set(shape=shape, current=7.0, voltage_harmonics={5: (0.03, 40.0)})
    true = circuit.truth()
    v, i, p = sampled(circuit)
    assert true["current"] == pytest.approx(7.0)
    assert i[0] == pytest.approx(7.0, rel=1e-5)
    assert v[0] == pytest.approx(230.0, rel=1e-5)
    assert p[0] == pytest.approx(true["power"], rel=1e-5)
    assert true["thd_voltage"] == pytest.approx(3.0)


def test_supply_current_is_a_pulse_before_the_crest_with_over_100_percent_thd(clock):
    circuit = Circuit(clock=clock)
    circuit.set(shape="smps")
    assert circuit.truth()["thd_current"] == pytest.approx(112.0, abs=1.0)
    assert max(shapes.smps()[1]) == 21
    t = START + np.arange(2000) * 1e-5
    current = circuit.waveform(t)[1][0]
    assert np.argmax(current) * 1e-5 == pytest.approx(0.02 * 85 / 360, abs=2e-4)
    assert abs(current[50]) < 0.05 * current.max()  # no current near the zero crossing


def test_dimmer_conducts_after_the_firing_angle_only(clock):
    circuit = Circuit(clock=clock)
    circuit.set(shape="dimmer")
    current = circuit.waveform(START + np.array([0.003, 0.0062, 0.013, 0.0162]))[1][0]
    assert np.abs(current[[0, 2]]).max() < 0.6
    assert current[1] > 10 > -10 > current[3]


def test_shape_keeps_when_the_angle_moves(clock):
    circuit = Circuit(clock=clock)
    circuit.set(harmonics={3: (0.5, 30.0)}, phase_deg=0.0)
    t = START + np.arange(1000) * 2e-5
    before = circuit.waveform(t)[1][0]
    circuit.set(phase_deg=36.0)  # 2 ms at 50 Hz
    after = circuit.waveform(t + 0.002)[1][0]
    assert after == pytest.approx(before, abs=1e-3)


def test_phase_is_continuous_over_a_frequency_change(clock):
    circuit = Circuit(clock=clock)
    circuit.set(frequency=49.0)
    circuit.set(frequency=51.0, at=START + 1.2345)
    t = START + 1.2345 + np.arange(-50, 50) * 1e-6
    steps = np.diff(circuit.waveform(t)[0][0])
    assert np.abs(steps).max() < 230 * math.sqrt(2) * 2 * math.pi * 51 * 1.5e-6
    clock.time += 2
    assert circuit.truth()["frequency"] == 51.0


def test_three_phases_are_120_degrees_apart_and_the_neutral_is_their_sum(clock):
    circuit = Circuit(3, clock)
    circuit.set(current=[10, 20, 30], phase_deg=[0, 0, 0])
    t = START + np.arange(1000) * 2e-5
    v, i = circuit.waveform(t)
    assert v[1] == pytest.approx(np.interp(t - 0.02 / 3, t, v[0], period=0.02), abs=0.1)
    assert circuit.neutral(t) == pytest.approx(i.sum(axis=0))
    true = circuit.truth()
    assert true["current"] == pytest.approx(20.0)
    assert true["power"] == pytest.approx(230 * 60)
    assert true["l3"]["power"] == pytest.approx(230 * 30)
    circuit.set(phase_deg=[90, -90, 90])
    assert circuit.truth()["reactive_power"] == pytest.approx(230 * 20)
    assert "frequency" not in true["l1"]


def test_balanced_third_harmonics_add_up_in_the_neutral(clock):
    circuit = Circuit(3, clock)
    circuit.set(current=10.0, harmonics={3: 0.5})
    neutral = circuit.neutral(START + np.arange(2000) * 1e-5)
    third = 10 * 0.5 / math.sqrt(1.25)
    assert np.sqrt(np.mean(neutral**2)) == pytest.approx(3 * third, rel=1e-4)


def test_scheduled_change_comes_at_its_time_and_not_before(clock):
    circuit = Circuit(clock=clock)
    circuit.set(current=20.0, at=START + 5)
    circuit.set(voltage=220.0)  # an earlier change made later is kept by the scheduled one
    assert circuit.truth()["current"] == 10.0
    clock.time += 6
    assert circuit.truth()["current"] == pytest.approx(20.0)
    assert circuit.truth()["voltage"] == pytest.approx(220.0)


def test_history_cannot_be_changed(clock):
    circuit = Circuit(clock=clock)
    clock.time += 10
    circuit.set(current=0.0, at=START + 5)
    assert circuit.truth(at=START + 9)["current"] == pytest.approx(10.0)
    assert circuit.truth()["energy_import_wh"] == pytest.approx(2300 * 10 / 3600)


def test_energy_is_exact_over_changes_and_kept_apart_by_direction(clock):
    circuit = Circuit(clock=clock)
    circuit.set(voltage=200.0, current=10.0)
    circuit.mark()
    circuit.set(phase_deg=180.0, at=START + 1800)
    clock.time = START + 2700
    true = circuit.truth()
    assert true["energy_import_wh"] == pytest.approx(1000.0)
    assert true["energy_export_wh"] == pytest.approx(500.0)
    circuit.mark()
    assert circuit.truth()["energy_import_wh"] == 0.0


def test_total_energy_follows_the_sign_of_the_total(clock):
    circuit = Circuit(3, clock)
    circuit.set(voltage=100.0, current=[10, 10, 10], phase_deg=[0, 0, 180])
    circuit.mark()
    clock.time += 3600
    true = circuit.truth()
    assert true["energy_import_wh"] == pytest.approx(1000.0)
    assert true["energy_export_wh"] == pytest.approx(0.0)
    assert true["l3"]["energy_export_wh"] == pytest.approx(1000.0)


def test_averages_over_an_interval_as_a_report_does(clock):
    circuit = Circuit(clock=clock)
    circuit.set(voltage=100.0, current=10.0, at=START + 1)
    circuit.set(current=20.0, at=START + 6)
    clock.time = START + 11
    true = circuit.truth(over=10.0)
    assert true["current"] == pytest.approx(math.sqrt(250))
    assert true["power"] == pytest.approx(1500)
    assert true["apparent_power"] == pytest.approx(1500)


@pytest.mark.parametrize(
    ("kind", "given", "residual"),
    [("dip", {"residual": 0.4}, 0.4), ("swell", {}, 1.2), ("interruption", {}, 0.0)],
)
def test_event_changes_the_voltage_for_its_cycles_only(clock, kind, given, residual):
    circuit = Circuit(clock=clock)
    start, end = circuit.event(kind, start=START + 1, cycles=2, **given)
    assert end - start == pytest.approx(0.04)
    times = (START + 0.99, START + 1.01, START + 1.05)
    volts = [circuit.truth(at=at)["voltage"] for at in times]
    assert volts == pytest.approx([230, 230 * residual, 230])


def test_event_on_one_phase_leaves_the_others(clock):
    circuit = Circuit(3, clock)
    circuit.event("interruption", duration=0.3, phase=2)
    true = circuit.truth()
    assert true["l2"]["voltage"] == 0.0
    assert true["l2"]["power_factor"] is None
    assert true["l1"]["voltage"] == true["l3"]["voltage"] == pytest.approx(230)


def test_plays_arrays_with_linear_interpolation_and_returns(clock):
    circuit = Circuit(clock=clock)
    ramp = np.linspace(0.0, 100.0, 101)
    end = circuit.play(voltage=ramp, rate_hz=1000.0, start=START + 1)
    assert end == pytest.approx(START + 1.101)
    v, _ = circuit.waveform(START + 1 + np.array([0.0, 0.0105, 0.05]))
    assert v[0] == pytest.approx([0.0, 10.5, 50.0], abs=1e-3)
    assert circuit.truth(at=START + 1.05)["voltage"] == pytest.approx(100 / math.sqrt(3), rel=0.01)
    assert circuit.truth(at=START + 1.2)["voltage"] == pytest.approx(230)


def test_repeated_clip_goes_on_until_stopped(clock):
    circuit = Circuit(clock=clock)
    t = np.arange(200) / 10_000
    circuit.play(
        voltage=325.27 * np.sin(2 * np.pi * 50 * t),
        current=10 * np.sin(2 * np.pi * 50 * t - np.pi / 3),
        rate_hz=10_000,
        repeat=True,
    )
    circuit.mark()
    clock.time += 100.0
    true = circuit.truth()
    assert true["power"] == pytest.approx(325.27 * 10 / 4, rel=1e-3)
    assert true["reactive_power"] == pytest.approx(325.27 * 5 * math.sin(math.pi / 3), rel=1e-3)
    v, _, p = sampled(circuit)
    assert v[0] == pytest.approx(true["voltage"], rel=1e-5)
    assert p[0] == pytest.approx(true["power"], rel=1e-5)
    assert true["energy_import_wh"] == pytest.approx(true["power"] / 36)
    circuit.stop()
    assert circuit.truth()["power"] == pytest.approx(2300)


def test_clamp_faults_reach_the_sensor_and_not_the_truth(clock):
    circuit = Circuit(3, clock)
    circuit.set(current=[10, 20, 30])
    t = START + np.arange(1000) * 2e-5

    def sensed(quantity: str, phase: int) -> float:
        return float(np.sqrt(np.mean(circuit.signal(quantity, phase, t) ** 2)))

    circuit.fault("ct_open", phase=1)
    circuit.fault("ct_swapped", phase=2)
    circuit.fault("voltage_lost", phase=3)
    assert [sensed("current", p) for p in range(3)] == pytest.approx([0, 30, 20], rel=1e-4)
    assert sensed("voltage", 2) == 0.0
    assert circuit.truth()["l1"]["current"] == pytest.approx(10)
    assert circuit.truth()["l3"]["voltage"] == pytest.approx(230)
    circuit.clear("ct_open", phase=1)
    circuit.fault("ct_reversed", phase=1)
    assert circuit.signal("current", 0, t) == pytest.approx(-circuit.waveform(t)[1][0])
    for name in ("ct_reversed", "ct_swapped", "voltage_lost"):
        circuit.clear(name)
    assert [sensed("current", p) for p in range(3)] == pytest.approx([10, 20, 30], rel=1e-4)


def test_lost_neutral_shifts_voltage_to_the_light_phase(clock):
    circuit = Circuit(3, clock)
    circuit.set(current=[10, 10, 1])
    circuit.fault("neutral_lost")
    true = circuit.truth()
    assert true["l3"]["voltage"] > 300 > 230 > true["l1"]["voltage"]
    v, _ = circuit.waveform(START + np.arange(2000) * 1e-5)
    assert np.sqrt(np.mean(v[2] ** 2)) == pytest.approx(true["l3"]["voltage"], rel=1e-5)


def test_noise_is_a_function_of_time_and_seed(clock):
    one, two, other = (Circuit(clock=clock, seed=seed) for seed in (1, 1, 2))
    for circuit in (one, two, other):
        circuit.set(noise_v=5.0, noise_i=0.1)
    t = START + (np.arange(20_000) + 0.5) * 1e-5
    assert np.array_equal(one.waveform(t)[0], two.waveform(t)[0])
    assert not np.array_equal(one.waveform(t)[0], other.waveform(t)[0])
    v, i = one.waveform(t)
    clean = Circuit(clock=clock).waveform(t)
    assert np.std(v - clean[0]) == pytest.approx(5.0, rel=0.03)
    assert abs(np.corrcoef(v - clean[0], i - clean[1])[0, 1]) < 0.03
    noise = (v - clean[0])[0]
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.03  # white
    assert one.truth()["voltage"] == pytest.approx(math.hypot(230, 5))


def test_history_does_not_grow_without_bound(clock, monkeypatch):
    from gridnode_host.bench import mains

    monkeypatch.setattr(mains, "_KEPT_SEGMENTS", 50)
    circuit = Circuit(clock=clock)
    circuit.mark()
    circuit.set(current=7.0, at=START + 100_000)
    for _ in range(120):
        clock.time += 100
        circuit.set(current=10.0, voltage=200.0)
    assert len(circuit._supplies) < 60
    true = circuit.truth()
    assert true["energy_import_wh"] == pytest.approx((2300 * 100 + 2000 * 11_900) / 3600)
    clock.time = START + 100_001
    assert circuit.truth()["current"] == pytest.approx(7.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"voltage": float("nan")},
        {"current": -1},
        {"frequency": 0},
        {"harmonics": {1: 0.5}},
        {"harmonics": {2.5: 0.5}},
        {"current": [1, 2]},
        {"shape": "square"},
        {"at": float("inf"), "voltage": 1},
    ],
)
def test_refuses_what_no_supply_can_be(clock, bad):
    circuit = Circuit(clock=clock)
    with pytest.raises(ValueError):
        circuit.set(**bad)
    assert circuit.truth()["voltage"] == pytest.approx(230)


def test_refuses_unknown_events_faults_and_arrays(clock):
    circuit = Circuit(clock=clock)
    for call in (
        lambda: circuit.event("surge", duration=1),
        lambda: circuit.event("dip"),
        lambda: circuit.fault("ct_melted"),
        lambda: circuit.fault("ct_open", phase=2),
        lambda: circuit.fault("ct_swapped", phase=1),
        lambda: circuit.play(rate_hz=1000),
        lambda: circuit.play(voltage=[1.0, float("nan")], rate_hz=1000),
        lambda: circuit.play(voltage=[1, 2], current=[1, 2, 3], rate_hz=1000),
    ):
        with pytest.raises(ValueError):
            call()
