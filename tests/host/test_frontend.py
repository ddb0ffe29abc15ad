"""Sensors and the ESP32 converter: a unit's exact calibration must undo the unit."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from gridnode_host import resources
from gridnode_host.bench.bus import Op
from gridnode_host.bench.chips.esp32_adc import Esp32Adc
from gridnode_host.bench.environment import Environment
from gridnode_host.bench.frontend import wire
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.peripherals import Pins
from gridnode_host.bench.sensors import Saturation, Sensor
from gridnode_host.bench.wiring import Wiring
from host.perfect import measure

START = 1_800_000_000.0


def now() -> SimpleNamespace:
    return SimpleNamespace(now=lambda: START)


# -- converter -------------------------------------------------------------------------------


def clean(seed: int) -> Esp32Adc:
    return Esp32Adc(seed, noise_mv=0.0)


def test_reported_unit_reads_1814_at_1641_mv():
    adc = Esp32Adc(ideal=True)
    adc.vref_mv = 1128.0
    assert float(adc.millivolts(np.array([1814.0]))[0]) == pytest.approx(1641, abs=1)


@pytest.mark.parametrize("seed", range(8))
def test_unit_is_monotone_dead_below_100_mv_and_bends_above_2450(seed):
    adc = clean(seed)
    assert 1000 <= adc.vref_mv <= 1200
    counts = adc.convert(np.arange(0, 3300, 0.25), np.random.default_rng(0)).astype(int)
    assert (np.diff(counts) >= 0).all()
    assert counts[:400].max() == 0
    assert counts[800] > 0  # 200 mV
    assert counts[-1] == 4095

    def slope(low: int, high: int) -> float:
        return float(counts[4 * high] - counts[4 * low]) / (high - low)

    assert slope(2800, 3000) > 1.1 * slope(1000, 2000)


def test_units_differ_and_repeat():
    assert clean(1).table() != clean(2).table()
    assert clean(1).table() == clean(1).table()
    mv = np.linspace(200, 2400, 500)
    one = Esp32Adc(1).convert(mv, np.random.default_rng(5))
    assert (one == Esp32Adc(1).convert(mv, np.random.default_rng(5))).all()


def test_codes_have_unequal_widths():
    counts = clean(3).convert(np.arange(400, 2400, 0.05), np.random.default_rng(0))
    widths = np.bincount(counts)[600:2500] * 0.05
    assert widths.std() > 0.1
    assert widths.mean() == pytest.approx(clean(3).count_mv, rel=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_table_undoes_the_unit(seed):
    adc = Esp32Adc(seed)
    table = np.array(adc.table()) / 1000
    assert len(table) == 129
    rng = np.random.default_rng(seed)
    for mv in (200.0, 700.0, 1300.0, 2000.0, 2400.0, 2700.0):
        counts = adc.convert(np.full(20_000, mv), rng)
        read = np.interp(counts, np.arange(129) * 32, table)
        assert read.mean() == pytest.approx(mv, abs=0.5)
        assert read.std() == pytest.approx(5.0, rel=0.05)


def test_typical_unit_is_the_design_of_the_board():
    board = resources.profile("home-60a-ct")["board"]["adc"]
    table = np.array(Esp32Adc(ideal=True).table()[:80]) / 1000
    design = board["offset_mv"] + board["mv_per_count"] * 32 * np.arange(80)
    assert table == pytest.approx(design, abs=2.0)


def test_chips_own_calibration_is_in_whole_millivolts_and_leaves_the_inl():
    adc = Esp32Adc(2)
    raw = np.arange(100, 3500, 100)
    read = adc.calibrated(raw)
    assert (read == np.round(read)).all()
    off = np.abs(read - adc.millivolts(raw))
    assert 1.0 < off.max() < 10


def test_other_attenuations_have_their_ranges():
    adc = Esp32Adc(ideal=True, noise_mv=0.0)
    rng = np.random.default_rng(0)
    tops = [int(np.argmax(adc.convert(np.arange(0.0, 3300), rng, a) == 4095)) for a in range(4)]
    assert tops == sorted(tops)
    assert tops[0] == pytest.approx(1040, abs=30)


# -- sensors ---------------------------------------------------------------------------------


def test_lead_is_that_of_a_high_pass():
    sensor = Sensor(1.0, lead_deg=2.7)
    gain = sensor.transfer(np.array([0.0, 50.0, 60.0, 150.0]), 1.0)
    degrees = np.degrees(np.angle(gain[1:]))
    assert degrees == pytest.approx([2.7, 2.7 * 50 / 60, 0.9], rel=0.01)
    assert np.abs(gain[:2]) == pytest.approx([0.0, 1.0])


def test_negative_lead_is_a_low_pass_and_points_override_by_current():
    lag = Sensor(1.0, lead_deg=-1.0).transfer(np.array([50.0]), 1.0)
    assert np.degrees(np.angle(lag[0])) == pytest.approx(-1.0)
    sensor = Sensor(1.0, 2.8, points=((4.0, 3.1), (38.0, 2.5)))
    leads = [np.degrees(np.angle(sensor.transfer(np.array([50.0]), a)[0])) for a in (1, 21, 99)]
    assert leads == pytest.approx([3.1, 2.8, 2.5])


def test_core_saturates_smoothly_and_only_above_its_knee():
    core = Saturation(100.0)
    x = np.linspace(-400, 400, 801)
    y = core(x)
    assert (y[np.abs(x) <= 100] == x[np.abs(x) <= 100]).all()
    assert y.max() == pytest.approx(130, abs=0.1)
    assert (np.diff(y) >= 0).all()


# -- whole profile ---------------------------------------------------------------------------


@pytest.mark.parametrize("ideal", [True, False])
@pytest.mark.parametrize("current", [3.0, 20.0, 60.0])
def test_calibration_of_a_ct_unit_is_exact(ideal, current):
    profile = resources.profile("home-60a-ct")
    circuit = Circuit(clock=now(), seed=3)
    circuit.set(voltage=234.5, current=current, phase_deg=60.0)
    wiring = Wiring()
    calibration = wire(profile, circuit, wiring, seed=11, ideal=ideal).calibration
    v, i, p, q = measure(wiring, calibration, profile)
    assert v == pytest.approx(234.5, rel=1e-3)
    assert i == pytest.approx(current, rel=2e-3)
    assert p == pytest.approx(234.5 * current * 0.5, rel=3e-3)
    assert q == pytest.approx(234.5 * current * math.sin(math.pi / 3), rel=3e-3)


def test_uncalibrated_unit_is_off_and_an_ideal_one_is_at_its_design():
    profile = resources.profile("home-60a-ct")
    units = [
        wire(profile, Circuit(clock=now()), Wiring(), seed=seed).calibration["meters"]["main"]
        for seed in range(12)
    ]
    gains = np.array([unit["current"][0]["gain"] for unit in units])
    assert 0.003 < gains.std() < 0.02
    front_end = wire(profile, Circuit(clock=now()), Wiring(), seed=4, ideal=True)
    ideal = front_end.calibration["meters"]["main"]
    assert ideal["voltage"] == [{"gain": 1.0, "phase_deg": 0.3}]
    assert ideal["current"] == [{"gain": 1.0, "phase_deg": 2.5}]  # at the rated current
    assert "power" not in ideal
    assert "temperature" not in ideal


def test_an_ideal_clamp_leads_as_its_model_says():
    profile = resources.profile("home-60a-ct")
    wiring = Wiring()
    wire(profile, Circuit(clock=now()), wiring, ideal=True)
    sensor = wiring.adc[34].sensor
    found = [np.degrees(np.angle(sensor.transfer(np.array([50.0]), a)[0])) for a in (1, 26, 60)]
    assert found == pytest.approx([3.1, 2.65, 2.5])


def test_a_clamp_without_a_model_brings_its_curve_with_it():
    built = wire(resources.profile("feeder-200a"), Circuit(3, now()), Wiring(), seed=2)
    for channel in built.calibration["meters"]["main"]["current"]:
        assert channel["curve"] == [[8.0, 1.0, 0.3], [76.0, 1.0, -0.3]]


def test_counts_clip_where_the_supply_is_out_of_range():
    profile = resources.profile("home-60a-ct")
    circuit = Circuit(clock=now())
    circuit.set(current=140.0)
    wiring = Wiring()
    wire(profile, circuit, wiring, seed=1)
    counts = wiring.adc[34].sample(START + np.arange(2000) * 1e-5, 3)
    assert counts.min() == 0
    assert counts.max() == 4095


def test_core_of_a_wired_clamp_saturates_above_its_rating():
    profile = resources.profile("home-60a-ct")
    profile["meters"][0]["current"][0]["burden_ohm"] = 5  # far from the converter's limits
    circuit = Circuit(clock=now())
    wiring = Wiring()
    wire(profile, circuit, wiring, seed=1, ideal=True)

    def swing(amperes: float) -> float:
        circuit.set(current=amperes)
        mv = np.interp(
            wiring.adc[34].sample(START + np.arange(20_000) * 1e-5, 3),
            np.arange(129) * 32,
            np.array(Esp32Adc(ideal=True).table()) / 1000,
        )
        return float(np.ptp(mv))

    assert swing(120.0) == pytest.approx(2 * 120 * math.sqrt(2) * 2.5, rel=0.06)
    assert swing(250.0) < 2 * 140 * 1.3 * math.sqrt(2) * 2.5 * 1.05


def test_three_phase_chip_is_attached_and_reads_with_design_gains():
    profile = resources.profile("feeder-200a")
    spec = profile["meters"][0]
    clock = SimpleNamespace(time=START)
    clock.now = lambda: clock.time
    circuit = Circuit(3, clock)
    circuit.set(current=150.0, phase_deg=0.0)
    wiring = Wiring()
    calibration = wire(profile, circuit, wiring, seed=5).calibration
    chip = wiring.spi[spec["spi"]["id"]][spec["spi"]["cs"]]
    clock.time += 0.1
    chip.registers[0x7F] = 0x55AA
    meter = calibration["meters"]["main"]
    for k in range(3):
        mv_per_v = spec["voltage"][k]["mv_per_v"] / meter["voltage"][k]["gain"]
        gain = 23000 / (2 * math.sqrt(2) * 230 * mv_per_v / 720)
        frame = bytes([0, 0x61 + 4 * k, *round(gain).to_bytes(2, "big")])
        chip.cs(0), chip.transfer(frame), chip.cs(1)
    chip.cs(0), chip.transfer(bytes([0, 0, 0, 1])), chip.cs(1)
    clock.time += 1
    for k in range(3):
        chip.cs(0)
        volts = int.from_bytes(chip.transfer(bytes([0x80, 0xD9 + k, 0, 0]))[2:], "big") / 100
        chip.cs(1)
        assert volts == pytest.approx(230, rel=1e-3)


def test_an_open_cover_leaves_its_pin_to_the_pull_up():
    surroundings, wiring = Environment(), Wiring()
    wire(resources.profile("mv-sensor-24kv"), Circuit(clock=now()), wiring, surroundings)
    read = Pins(wiring).handlers()[Op.PIN_READ]

    def levels() -> list[object]:
        return [read(26, pulled_up, 0, b"") for pulled_up in (1, 0)]

    assert levels() == [0, 0]
    surroundings.set(cover_open=True, at="cabinet")
    assert levels() == [1, 0]


def test_refuses_what_it_has_no_model_of():
    profile = resources.profile("feeder-200a")
    with pytest.raises(ValueError, match="phases"):
        wire(profile, Circuit(1, now()), Wiring())
    profile["meters"][0]["driver"] = "pigeon"
    with pytest.raises(ValueError, match="pigeon"):
        wire(profile, Circuit(3, now()), Wiring())
