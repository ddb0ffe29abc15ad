"""Units with spread parts: what may vary does, and the exact calibration of a unit undoes it all."""

from __future__ import annotations

import cmath
import math
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
from gridnode_host import resources
from gridnode_host.bench import frontend
from gridnode_host.bench.chips.metering import Inputs
from gridnode_host.bench.environment import Environment
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.sensors import Input, Magnetisation, Sensor
from gridnode_host.bench.site import Parts
from gridnode_host.bench.tolerance import Tolerance
from gridnode_host.bench.wiring import Wiring
from host.perfect import START, curve_at, measure

WIDE = Tolerance.WIDE
CALIBRATED = ("home-60a-ct", "home-3ph-ct", "feeder-200a", "plug-ade7953", "plug-bl0942", "plug-cse7766")


class Bench:
    """A front end with its surroundings, and a clock that only a test moves."""

    def __init__(self, name: str, seed: int = 0, tolerance: Tolerance | None = WIDE, **how: Any) -> None:
        self.profile = resources.profile(name)
        self.time = START
        self.circuit = frontend.circuit(self.profile, SimpleNamespace(now=lambda: self.time))
        self.wiring, self.environment = Wiring(), Environment()
        built = frontend.wire(
            self.profile, self.circuit, self.wiring, self.environment, seed, tolerance=tolerance, **how
        )
        self.calibration, self.chips = built.calibration, built.chips
        self.exact = built.calibration["meters"]["main"]


def parts(name: str, seed: int, environment: Environment | None = None, **how: Any) -> Parts:
    profile = resources.profile(name)
    temperature = environment.temperature if environment else None
    return Parts(profile, seed, False, Tolerance(**how) if how else WIDE, temperature)


# -- what is drawn ---------------------------------------------------------------------------


def test_wide_units_fill_the_ranges_that_they_may_have() -> None:
    spec = resources.profile("home-60a-ct")["meters"][0]
    gains, leads, vt_leads, falls, droops, ppm, idle, angles, noise = ([] for _ in range(9))
    for seed in range(400):
        unit = parts("home-60a-ct", seed, Environment())
        volts, _ = unit.voltage(spec["voltage"][0])
        amperes, _ = unit.current(spec["current"][0])
        (small, most), (large, least) = amperes.at(0.0), amperes.at(1e9)
        assert 0.0 <= least <= most <= 5.0
        gains += [volts.mv_per_unit / 2.9, amperes.mv_per_unit / 11.0]
        leads.append(most)
        vt_leads.append(volts.lead_deg)
        falls.append(most - least)
        droops.append(large - small)
        ppm += [volts.ppm_per_k, amperes.ppm_per_k]
        idle.append(abs(amperes.pickup) * 230.0 / 60.0)
        angles.append(cmath.phase(amperes.pickup))
        noise.append(unit.noise)
    for values, low, high in (
        (gains, 0.92, 1.08),
        (leads, 0.0, 5.0),
        (vt_leads, 0.0, 1.0),
        (ppm, -150.0, 150.0),
        (idle, 0.0, 0.003),
        (angles, -math.pi, math.pi),
        (noise, 0.7, 1.3),
        (droops, 0.0, 0.01),
    ):
        found = np.array(values)
        assert low <= found.min() and found.max() <= high
        # of a uniform distribution, and well within what 400 draws scatter
        assert found.mean() == pytest.approx((low + high) / 2, abs=0.06 * (high - low))
        assert found.std() == pytest.approx((high - low) / math.sqrt(12.0), rel=0.1)
    assert np.max(falls) <= 1.2 and np.mean(falls) > 0.5


def test_a_seed_keeps_the_parts_that_it_had() -> None:
    """Numbers of the units before there were tolerances."""
    found = Bench("feeder-200a", 3, None).exact
    assert [c["gain"] for c in found["voltage"]] == pytest.approx(
        [1.00471676323765, 1.0000588176446004, 1.0003451906983054], abs=1e-12
    )
    assert [c["phase_deg"] for c in found["current"]] == pytest.approx(
        [0.4648364387892734, 0.6539360269171736, 0.431030048964162], abs=1e-12
    )
    clamp = Bench("home-60a-ct", 3, None).exact["current"][0]
    assert clamp["gain"] == pytest.approx(1.001027851898389, abs=1e-12)
    assert clamp["phase_deg"] == pytest.approx(2.6926056089398993 - 2.7 + 2.5, abs=1e-12)


def test_good_parts_neither_drift_nor_pick_up() -> None:
    for name in CALIBRATED:
        exact = Bench(name, 5, None).exact
        assert "power" not in exact and "temperature" not in exact
        assert not any("ppm_per_k" in channel for channel in exact["voltage"] + exact["current"])


def test_an_ideal_unit_has_no_tolerance() -> None:
    wide, plain = Bench("home-3ph-ct", 3, WIDE, ideal=True), Bench("home-3ph-ct", 3, None, ideal=True)
    assert wide.calibration == plain.calibration
    assert wide.chips["main"].noise_mv == 5.0


def test_shunts_have_neither_lead_nor_core_but_the_rest() -> None:
    spec = resources.profile("plug-ade7953")["meters"][0]
    for seed in range(8):
        unit = parts("plug-ade7953", seed, Environment())
        volts, _ = unit.voltage(spec["voltage"][0])
        shunt, exact = unit.current(spec["current"][1])
        assert (volts.lead_deg, shunt.lead_deg, shunt.core, shunt.points) == (0.0, 0.0, None, ())
        assert "curve" not in exact
        assert shunt.mv_per_unit != 2.0 and shunt.ppm_per_k and shunt.pickup


def test_a_core_is_smooth_and_not_made_of_points() -> None:
    core = Magnetisation(2.0, 1.2, 0.01, 10.0)
    assert core.at(0.0) == pytest.approx((0.99, 3.2))
    assert core.at(10.0) == pytest.approx((0.995, 2.6))
    assert core.at(30.0) == pytest.approx((0.9975, 2.3))
    sensor = Sensor(1.0, 3.2, core=core)
    gain = complex(sensor.transfer(np.array([50.0]), 30.0)[0])
    assert abs(gain) == pytest.approx(0.9975)
    assert math.degrees(cmath.phase(gain)) == pytest.approx(2.3)


@pytest.mark.parametrize("name", CALIBRATED)
def test_calibration_keeps_to_its_schema(name: str) -> None:
    for seed in range(3):
        found = Bench(name, seed).calibration
        assert found["version"] == 2
        jsonschema.validate(found, resources.schema("calibration"))


@pytest.mark.parametrize("name", ["home-60a-ct", "feeder-200a"])
def test_points_of_an_exact_curve_are_dense_enough(name: str) -> None:
    """Straight lines between them, against the core itself: within 0.02 degrees and 0.02 %."""
    spec, worst = resources.profile(name)["meters"][0]["current"][0], np.zeros(2)
    for seed in range(100):
        unit = parts(name, seed)
        sensor, exact = unit.current(spec)
        at, gains, leads = zip(*exact["curve"], strict=True)
        amperes = unit.rating * np.linspace(0.02, 1.25, 300)
        truth = np.array([sensor.at(a) for a in amperes])
        lead = np.interp(amperes, at, leads) + exact["phase_deg"] - truth[:, 1]
        spread = sensor.mv_per_unit / (1000 * spec["burden_ohm"] / spec["ratio"])
        gain = np.interp(amperes, at, gains) * exact["gain"] * spread * truth[:, 0] - 1
        worst = np.maximum(worst, [np.abs(lead).max(), np.abs(gain).max()])
    assert worst[0] < 0.03
    assert worst[1] < 0.0003


# -- pick-up ---------------------------------------------------------------------------------

PICKUP = cmath.rect(0.18 / 230.0, math.radians(40.0))  # leads the voltage


def phasor(signal: np.ndarray, t: np.ndarray) -> complex:
    """rms phasor of the 50 Hz in a signal, against a sine that begins at START."""
    return complex(np.mean(signal * np.exp(-2j * np.pi * 50 * (t - START))) * 1j * math.sqrt(2))


def seen(circuit: Circuit, pickup: complex = PICKUP, phase: int = 0, **how: Any) -> complex:
    t = START + np.arange(4000) * 5e-5
    own = phasor(circuit.signal("current", phase, t, pickup=pickup, **how), t)
    volts = phasor(circuit.signal("voltage", phase, t, sensed=False), t)
    return own * abs(volts) / volts  # against the phase's voltage


@pytest.fixture
def circuit() -> Circuit:
    made = Circuit(3, SimpleNamespace(now=lambda: START))
    made.set(current=0.0)
    return made


def test_a_clamp_without_load_sees_its_phases_voltage(circuit: Circuit) -> None:
    for phase in range(3):
        found = seen(circuit, phase=phase)
        assert abs(found) == pytest.approx(0.18, rel=1e-6)
        assert math.degrees(cmath.phase(found)) == pytest.approx(40.0, abs=1e-4)
    circuit.set(voltage=115.0)
    assert abs(seen(circuit)) == pytest.approx(0.09, rel=1e-6)


def test_pickup_adds_to_the_load_as_a_phasor(circuit: Circuit) -> None:
    circuit.set(current=3.0, phase_deg=60.0)
    expected = cmath.rect(3.0, math.radians(-60.0)) + cmath.rect(0.18, math.radians(40.0))
    assert seen(circuit) == pytest.approx(expected, rel=1e-6)


def test_a_clamp_that_is_turned_or_off_takes_what_it_picks_up_with_it(circuit: Circuit) -> None:
    circuit.set(current=3.0)
    straight = seen(circuit)
    circuit.fault("ct_reversed", 1)
    assert seen(circuit) == pytest.approx(-straight, rel=1e-6)
    circuit.clear("ct_reversed", 1)
    circuit.fault("ct_open", 1)
    assert abs(seen(circuit)) < 1e-9


@pytest.mark.parametrize("played", ["voltage", "current", "both"])
def test_pickup_while_a_clip_plays(circuit: Circuit, played: str) -> None:
    rate, t = 10_000.0, np.arange(4000) / 10_000.0
    sines = np.array([np.sin(2 * np.pi * 50 * t - k * 2 * np.pi / 3) for k in range(3)]) * math.sqrt(2)
    clip = {"voltage": 200.0 * sines, "current": 2.0 * sines}
    if played != "both":
        clip = {played: clip[played]}
    circuit.play(rate_hz=rate, start=START, repeat=True, **clip)
    volts = 230.0 if played == "current" else 200.0
    amperes = 0.0 if played == "voltage" else 2.0
    sensor = Sensor(1.0, 2.0)
    expected = amperes + PICKUP * volts
    for phase in range(3):
        assert seen(circuit, phase=phase) == pytest.approx(expected, rel=1e-4)
        through = seen(circuit, phase=phase, transfer=sensor.transfer)
        assert through == pytest.approx(expected * cmath.exp(1j * math.radians(2.0)), rel=1e-4)


def test_chips_average_the_same_pickup(circuit: Circuit) -> None:
    inputs = Inputs(circuit, Input(1, 2.0), Input(1, 3.0, pickup=PICKUP))
    means = inputs.over(START, START + 0.2)
    assert math.sqrt(means.i2) == pytest.approx(3.0 * 0.18, rel=1e-6)
    # S = V conj(I): a current that leads takes negative vars
    assert means.p == pytest.approx(6 * 230 * 0.18 * math.cos(math.radians(40.0)), rel=1e-6)
    assert means.q == pytest.approx(-6 * 230 * 0.18 * math.sin(math.radians(40.0)), rel=1e-6)


# -- temperature -----------------------------------------------------------------------------


def test_a_sensor_drifts_around_25_degrees() -> None:
    surroundings = Environment()
    sensor = Sensor(2.0, ppm_per_k=-150.0, temperature=surroundings.temperature)
    one = Input.of(0, sensor)
    assert (sensor.mv, one.mv) == (2.0, 2.0)
    surroundings.set(temperature=65.0)
    assert sensor.mv == one.mv == pytest.approx(2.0 * (1 - 0.006))
    surroundings.set(temperature=-15.0)
    assert one.mv == pytest.approx(2.0 * (1 + 0.006))


def volts_of(bench: Bench) -> float:
    """Voltage as the front end's own scale has it, a whole window after the last change."""
    bench.time += 2.0
    chip, driver = bench.chips["main"], bench.profile["meters"][0]["driver"]
    if driver == "ct":
        t = bench.time - np.arange(20_000) * 1e-5
        counts = bench.wiring.adc[35].sample(t, 3)
        return float(np.std(np.interp(counts, np.arange(129) * 32, np.array(chip.table()) / 1000)))
    if driver == "atm90e32":
        chip.cs(0)
        high = chip.transfer(bytes([0x80, 0xD9, 0, 0]))
        chip.cs(1), chip.cs(0)
        low = chip.transfer(bytes([0x80, 0xE9, 0, 0]))
        chip.cs(1)
        return int.from_bytes(high[2:], "big") * 256.0 + low[2]
    if driver == "ade7953":
        chip.write((0x31C).to_bytes(2, "big"))
        return float(int.from_bytes(chip.read(4), "big"))
    if driver == "bl0942":
        chip.receive(b"\x58\x04")
        bench.time += 0.1
        return float(int.from_bytes(chip.pending(bench.time)[:3], "little"))
    data = chip.pending(bench.time)[-48:]
    start = next(k for k in range(24) if data[k : k + 2] == b"\x55\x5a")
    return 1.0 / int.from_bytes(data[start + 5 : start + 8], "big")


SET_UP = {
    "feeder-200a": lambda chip: [
        (chip.cs(0), chip.transfer(frame), chip.cs(1))
        for frame in (b"\x00\x7f\x55\xaa", b"\x00\x61\x80\x00", b"\x00\x00\x00\x01")
    ],
    "plug-ade7953": lambda chip: [chip.write(b"\x00\xfe\xad"), chip.write(b"\x01\x20\x00\x30")],
}


@pytest.mark.parametrize(
    ("name", "resolution"),
    [
        ("home-60a-ct", 3e-4),  # the noise of the converter
        ("feeder-200a", 1e-4),
        ("plug-ade7953", 2e-4),
        ("plug-bl0942", 2e-4),
        ("plug-cse7766", 7e-4),  # a cycle of some 800 microseconds
    ],
)
def test_a_change_of_temperature_takes_effect_while_the_mains_stand_still(
    name: str, resolution: float
) -> None:
    sizes = [abs(Bench(name, s).exact["voltage"][0]["ppm_per_k"]) for s in range(20)]
    bench = Bench(name, int(np.argmax(sizes)))
    bench.time += 0.1
    SET_UP.get(name, lambda chip: None)(bench.chips["main"])
    ppm = -bench.exact["voltage"][0]["ppm_per_k"]  # of the part itself
    assert abs(ppm) > 100
    cold = np.mean([volts_of(bench) for _ in range(6)])
    bench.environment.set(temperature=85.0)
    warm = np.mean([volts_of(bench) for _ in range(6)])
    assert warm / cold - 1 == pytest.approx(60e-6 * ppm, abs=resolution)
    bench.environment.set(temperature=25.0)
    assert np.mean([volts_of(bench) for _ in range(6)]) == pytest.approx(cold, rel=resolution)


def test_energy_of_a_chip_follows_the_temperature_too() -> None:
    """Registers that count are computed by another way than those that measure."""
    environment = Environment()
    circuit = Circuit(1, SimpleNamespace(now=lambda: START))
    gain = Sensor(2.0, ppm_per_k=1000.0, temperature=environment.temperature)
    inputs = Inputs(circuit, Input(0, 1.0), Input.of(0, gain))
    segment = circuit.segments(START, START)[0][0]
    cold = inputs.of(segment, START, START + 1).p
    environment.set(temperature=35.0)
    assert inputs.of(segment, START, START + 1).p == pytest.approx(1.01 * cold)


def test_chips_and_the_processor_have_the_temperature_around_them() -> None:
    bench = Bench("feeder-200a", 1, None)
    chip = bench.chips["main"]
    bench.time += 0.1
    SET_UP["feeder-200a"](chip)
    for celsius in (25.0, 61.0, -12.0):
        bench.environment.set(temperature=celsius)
        bench.time += 1.0
        chip.cs(0)
        told = int.from_bytes(chip.transfer(b"\x80\xfc\x00\x00")[2:], "big", signed=True)
        chip.cs(1)
        assert told == celsius
        assert bench.wiring.temperature() == celsius


# -- exact -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_calibration_undoes_a_wide_clamp(seed: int) -> None:
    """Counts of the converter, at loads, angles and temperatures, against what was set."""
    bench = Bench("home-60a-ct", seed)
    for amperes, lag, celsius in ((60.0, 0.0, 25.0), (20.0, 60.0, 55.0), (3.0, 60.0, -10.0)):
        bench.circuit.set(voltage=234.5, current=amperes, phase_deg=lag)
        bench.environment.set(temperature=celsius)
        v, i, p, _ = measure(bench.wiring, bench.calibration, bench.profile, 4.0, celsius=celsius)
        assert v == pytest.approx(234.5, rel=1e-3)
        assert i == pytest.approx(amperes, rel=3e-3)
        assert p == pytest.approx(234.5 * amperes * math.cos(math.radians(lag)), rel=5e-3)


def test_an_uncalibrated_wide_clamp_is_far_off() -> None:
    """With the calibration of an ideal unit, so that it is known what the one above corrects."""
    plain = Bench("home-60a-ct", 2, None, ideal=True).calibration["meters"]["main"]
    worst = 0.0
    for seed in range(6):
        bench = Bench("home-60a-ct", seed)
        exact = bench.exact
        bench.calibration["meters"]["main"] = {**plain, "adc_table": exact["adc_table"]}
        bench.circuit.set(current=3.0, phase_deg=60.0)
        _, _, p, _ = measure(bench.wiring, bench.calibration, bench.profile)
        worst = max(worst, abs(p / (230 * 1.5) - 1))
    assert worst > 0.05


@pytest.mark.parametrize("name", ["feeder-200a", "plug-ade7953", "plug-bl0942", "plug-cse7766"])
@pytest.mark.parametrize("seed", range(3))
def test_calibration_undoes_what_is_in_front_of_a_chip(name: str, seed: int) -> None:
    """Exact means of what is at the pins, by the arithmetic of the calibration."""
    profile, environment = resources.profile(name), Environment()
    spec = profile["meters"][0]
    unit = Parts(profile, seed, False, WIDE, environment.temperature)
    voltage, current, exact = unit.inputs(spec)
    circuit = Circuit(1, SimpleNamespace(now=lambda: START))
    inputs = Inputs(circuit, voltage[0], current[0])
    own_v, own_i = exact["voltage"][0], exact["current"][0]
    design_v = spec["voltage"][0]["mv_per_v"]
    channel = spec["current"][0]
    design_i = channel.get("shunt_mohm") or 1000 * channel["burden_ohm"] / channel["ratio"]

    def corrected() -> tuple[float, complex]:
        means = inputs.over(START, START + 0.2)
        volts = math.sqrt(means.u2) / design_v * own_v["gain"]
        apparent = complex(means.p, means.q) / design_v / design_i * own_v["gain"] * own_i["gain"]
        return volts, apparent * cmath.exp(1j * math.radians(own_i["phase_deg"] - own_v["phase_deg"]))

    circuit.set(current=0.0)
    volts, apparent = corrected()
    (power,) = exact["power"][:1]
    assert apparent == pytest.approx(complex(power["offset_w"], power["offset_var"]), abs=2e-3)
    assert power["at_v"] == 230.0 and abs(apparent) <= 0.003 * 1.02 * 230.0 * unit.rating

    for share, lag, celsius in ((1.0, 0.0, 25.0), (0.3, 60.0, 60.0), (0.05, 60.0, 0.0)):
        amperes = share * unit.rating
        circuit.set(voltage=210.0, current=amperes, phase_deg=lag)
        environment.set(temperature=celsius)
        volts, apparent = corrected()
        apparent -= complex(power["offset_w"], power["offset_var"]) * (volts / 230.0) ** 2
        gain, lead = curve_at(own_i.get("curve"), abs(apparent) / volts)
        apparent *= gain * cmath.exp(1j * math.radians(lead))
        warmer = celsius - exact["temperature"]
        warm_v, warm_i = (1 + 1e-6 * own["ppm_per_k"] * warmer for own in (own_v, own_i))
        assert volts * warm_v == pytest.approx(210.0, rel=1e-4)
        expected = 210.0 * amperes * cmath.exp(1j * math.radians(lag))
        assert abs(apparent * warm_v * warm_i - expected) / abs(expected) < 1.5e-3


def test_noise_of_a_chip_is_told_in_amperes_of_the_unit() -> None:
    """CSE7766: an idle chip shows 0.046 mV on its shunt; ADE7953: 0.01 mV behind its amplifier, less than shows."""
    found = Bench("plug-cse7766", 4).exact["current"][0]
    assert found["noise_a"] == pytest.approx(0.046 / (1.0 / found["gain"]), abs=1e-5)
    assert 0.01 / 8 / 2.0 < 1e-4 * 16
    assert "noise_a" not in Bench("plug-ade7953", 4).exact["current"][0]
