"""What gains and phases cannot correct: offsets, noise, curves, temperature, reversed clamps.

What is expected comes from complex numbers.
"""

import math
from array import array

from gridnode import reading as r
from gridnode.calibration import Correction
from gridnode.trim import Phase, Trim, curve_at

CURVE = array("f", (1.0, 1.02, 0.9, 10.0, 1.0, 0.3, 60.0, 0.99, -0.1))
ENERGY = [0, 0, 700, 0, 0, 300, 50, 60]


def near(got, want, tolerance=2e-6):
    """Within so much of the value, and of 1: 24 bits are 6e-8, and a handful of operations lose a digit."""
    assert got is not None and abs(got - want) <= tolerance * max(1.0, abs(want)), (got, want)


def block(phases=1, metered=0, **values):
    x = r.Reading("main", phases)
    x.metered = metered
    for k in x.each():
        x.at[k].update(values)
    return x


def single(one, x, thermometer=None, celsius=None):
    """Values of a single-phase reading after its trim."""
    Trim([one], thermometer, celsius).correct(x)
    return x.at[0]


def phasor(size, degrees):
    return size * complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


def powers(volts, current):
    """P and Q1 of a voltage at 0 degrees and a current."""
    return volts * current.real, -volts * current.imag


# -- curves


def test_a_curve_is_linear_between_its_points_and_constant_beyond():
    for amperes, gain, lead in (
        (0, 1.02, 0.9),
        (0.5, 1.02, 0.9),
        (1, 1.02, 0.9),
        (2, 1.02 - 0.02 / 9, 0.9 - 0.6 / 9),
        (5.5, 1.01, 0.6),
        (10, 1.0, 0.3),
        (35, 0.995, 0.1),
        (60, 0.99, -0.1),
        (60.001, 0.99, -0.1),
        (1e6, 0.99, -0.1),
    ):
        got = curve_at(CURVE, amperes)
        near(got[0], gain)
        near(got[1], lead)


def test_a_curve_of_one_point_is_that_point():
    for amperes in (0, 3, 3.5, 100):
        gain, lead = curve_at(array("f", (3.0, 1.25, -0.5)), amperes)
        assert gain == 1.25 and lead == -0.5


def test_a_curve_does_not_jump_at_its_points():
    for at in (1.0, 10.0, 60.0):
        below, above = curve_at(CURVE, at * (1 - 1e-6)), curve_at(CURVE, at * (1 + 1e-6))
        near(below[0], above[0], 1e-6)
        near(below[1], above[1], 1e-6)


def test_the_curve_acts_on_the_current_and_turns_the_power():
    amperes, sensed_lead = 35.0, 0.1
    p, q = powers(230, phasor(amperes, -40 + sensed_lead))
    x = block(voltage=230.0, current=amperes, power=p, reactive_power=q, harmonic_power=7.0)
    values = single(Phase(curve=CURVE), x)
    p, q = powers(230, phasor(amperes * 0.995, -40))
    near(values["current"], amperes * 0.995)
    near(values["power"], p)
    near(values["reactive_power"], q, 1e-5)
    near(values["harmonic_power"], 7 * 0.995)
    assert values["voltage"] == 230.0


def test_a_curve_without_a_current_does_nothing():
    values = single(Phase(curve=CURVE), block(voltage=230.0, current=None, power=100.0, reactive_power=50.0))
    assert values["power"] == 100.0 and values["reactive_power"] == 50.0 and values["current"] is None


# -- offsets


def test_what_is_picked_up_is_taken_off_as_a_phasor():
    """Currents at any angle to what is picked up, at the voltage of the offset step and at others."""
    at = 230.0
    for size, angle in ((0.15, 0), (0.15, 90), (0.4, -130), (0.02, 179)):
        p_at, q_at = powers(at, phasor(size, angle))
        for volts in (230.0, 200.0, 260.0):
            picked = phasor(size * volts / at, angle)
            for amperes, lag in ((0.3, 0), (3, 60), (50, -30), (3, 180), (0.5, angle), (0.5, angle + 180)):
                true = phasor(amperes, -lag)
                p, q = powers(volts, true + picked)
                x = block(voltage=volts, current=abs(true + picked), power=p, reactive_power=q)
                values = single(Phase(offset=(p_at, q_at, at)), x)
                want = powers(volts, true)
                scale = 3e-6 * volts * (amperes + size)
                assert abs(values["power"] - want[0]) < scale and abs(values["reactive_power"] - want[1]) < scale
                # A difference of squares: what is lost of them is felt most where little remains.
                lost = 1e-6 * (amperes + size) * (amperes + size) / amperes
                assert abs(values["current"] - amperes) < lost, (values["current"], amperes, size, angle, volts)


def test_an_offset_that_the_meter_holds_is_only_missing_in_the_current():
    p, q = powers(230, phasor(0.4, -70))
    for amperes, lag in ((0.3, 0), (3, 60), (50, -30)):
        true = phasor(amperes, -lag)
        want = powers(230, true)
        x = block(voltage=230.0, current=abs(true + phasor(0.4, -70)), power=want[0], reactive_power=want[1])
        values = single(Phase(offset=(p, q, 230.0), held=True), x)
        assert (values["power"], values["reactive_power"]) == want
        near(values["current"], amperes, 1e-5)


def test_without_load_nothing_is_left():
    p, q = powers(230, phasor(0.4, -70))
    values = single(Phase(offset=(p, q, 230.0)), block(voltage=230.0, current=0.4, power=p, reactive_power=q))
    assert values["power"] == 0 and values["reactive_power"] == 0 and 0 <= values["current"] < 1e-3, values


def test_an_offset_needs_a_voltage():
    for volts in (None, 0.0):
        x = block(voltage=volts, current=2.0, power=5.0, reactive_power=1.0)
        values = single(Phase(offset=(9.0, 0.0, 230.0)), x)
        assert values["power"] == 5.0 and values["reactive_power"] == 1.0 and values["current"] == 2.0


def test_a_meter_without_reactive_power_has_its_active_power_put_right():
    values = single(Phase(offset=(23.0, 0.0, 230.0)), block(voltage=230.0, current=1.1, power=253.0))
    near(values["power"], 230)
    near(values["current"], 1.0)
    assert "reactive_power" not in values


def test_noise_goes_by_its_square_and_has_no_power():
    x = block(voltage=230.0, current=5.0, power=700.0, reactive_power=20.0, apparent_power=1150.0)
    values = single(Phase(noise=9.0), x)
    near(values["current"], 4.0)
    assert values["power"] == 700.0 and values["reactive_power"] == 20.0
    x.derive()
    near(values["apparent_power"], 920)
    near(values["power_factor"], 700 / 920)
    for amperes in (0.0, 1.0, 3.0):
        assert single(Phase(noise=9.0), block(voltage=230.0, current=amperes))["current"] == 0
    near(single(Phase(noise=9.0), block(current=5.0))["current"], 4.0)


def test_noise_and_offset_together():
    true, picked = phasor(2, -20), phasor(0.3, 60)
    p, q = powers(230, picked)
    seen = powers(230, true + picked)
    amperes = math.sqrt(abs(true + picked) ** 2 + 0.25)
    x = block(voltage=230.0, current=amperes, power=seen[0], reactive_power=seen[1])
    values = single(Phase(offset=(p, q, 230.0), noise=0.25), x)
    near(values["current"], 2.0, 1e-5)
    near(values["power"], powers(230, true)[0], 1e-5)


# -- gains, temperature


def test_the_gain_of_power_comes_before_its_offset():
    x = block(voltage=230.0, current=10.0, power=2000.0, reactive_power=-100.0, apparent_power=2300.0)
    values = single(Phase(power=1.01, offset=(20.0, -1.0, 230.0)), x)
    near(values["power"], 2000)
    near(values["reactive_power"], -100)
    x = block(voltage=230.0, current=10.0, power=2000.0, reactive_power=-100.0, apparent_power=2300.0)
    values = single(Phase(power=1.01), x)
    near(values["power"], 2020)
    near(values["reactive_power"], -101)
    assert values["current"] == 10.0 and values["voltage"] == 230.0 and values["apparent_power"] == 2300.0


def drifted(celsius, at=25.0):
    warm = r.Reading("air")
    if celsius is not None:
        warm.at[0]["temperature"] = celsius
    x = block(voltage=230.0, current=10.0, power=2000.0, reactive_power=500.0)
    x.at[0].update({"apparent_power": 2300.0, "harmonic_power": 10.0})
    return single(Phase(drift=(100e-6, -50e-6)), x, warm, at)


def test_gains_follow_the_temperature():
    for celsius in (25.0, 65.0, -20.0):
        values = drifted(celsius)
        v, i = 1 + 100e-6 * (celsius - 25), 1 - 50e-6 * (celsius - 25)
        near(values["voltage"], 230 * v)
        near(values["current"], 10 * i)
        for name, was in (("power", 2000), ("reactive_power", 500), ("apparent_power", 2300), ("harmonic_power", 10)):
            near(values[name], was * v * i)


def test_without_a_temperature_gains_stay_as_they_are():
    for celsius, at in ((None, 25.0), (65.0, None)):
        values = drifted(celsius, at)
        assert values["voltage"] == 230.0 and values["current"] == 10.0 and values["power"] == 2000.0
    x = block(voltage=230.0, current=10.0)
    assert single(Phase(drift=(1e-3, 1e-3)), x, None, 25.0)["voltage"] == 230.0


def test_the_curve_is_asked_for_the_current_without_what_is_picked_up():
    step = array("f", (1.0, 1.0, 0.0, 1.1, 1.5, 0.0))
    x = block(voltage=230.0, current=1.1, power=253.0, reactive_power=0.0)
    near(single(Phase(offset=(23.0, 0.0, 230.0), curve=step), x)["current"], 1.0, 1e-5)


# -- reversed clamps


def three(metered=r.PER_PHASE):
    x = block(3, metered, voltage=230.0, current=10.0, power=-2000.0, reactive_power=300.0, harmonic_power=-5.0)
    for k, angle in enumerate((30.0, -30.0, 0.0)):
        x.at[k + 1]["phase_angle"] = angle
    x.energy = list(ENERGY)
    x.own_totals = ("power", "energy")
    return x


def test_a_reversed_clamp_turns_power_angle_and_energies():
    x = three()
    Trim([Phase(reversed=True), None, Phase(reversed=True)]).correct(x)
    for k, angle in ((1, -150.0), (3, 180.0)):
        values = x.at[k]
        assert values["power"] == 2000.0 and values["reactive_power"] == -300.0 and values["harmonic_power"] == 5.0
        assert values["phase_angle"] == angle and values["current"] == 10.0, values
    assert x.at[2]["power"] == -2000.0 and x.at[2]["phase_angle"] == -30.0
    assert x.energy == [0, 0, 0, 700, 0, 300, 60, 50], x.energy
    x = three()
    Trim([None, Phase(reversed=True), None]).correct(x)
    assert x.at[2]["phase_angle"] == 150.0 and x.at[2]["power"] == 2000.0


def test_a_reversed_clamp_is_turned_after_its_offset():
    x = block(voltage=230.0, current=1.1, power=-207.0, reactive_power=0.0)
    near(single(Phase(offset=(23.0, 0.0, 230.0), reversed=True), x)["power"], 230)


def test_reversed_values_that_are_missing_stay_missing():
    x = block(voltage=230.0, current=None, power=None, reactive_power=None, phase_angle=None)
    values = single(Phase(reversed=True, power=1.1, offset=(1.0, 1.0, 230.0), noise=1.0, curve=CURVE), x)
    assert values["power"] is None and values["phase_angle"] is None and values["current"] is None


# -- who counts


def test_the_meters_counters_are_used_as_long_as_they_are_right():
    for one, alters in (
        (Phase(), False),
        (Phase(noise=0.1), False),
        (Phase(offset=(1.0, 0.0, 230.0), held=True), False),
        (Phase(offset=(1.0, 0.0, 230.0)), True),
        (Phase(power=1.001), True),
        (Phase(curve=CURVE), True),
        (Phase(drift=(0.0, 1e-6)), True),
        (Phase(drift=(1e-6, 0.0)), True),
        (Phase(reversed=True), False),
    ):
        assert one.alters == alters
        for metered in (0, r.PER_PHASE, r.IN_TOTAL):
            x = three(metered)
            Trim([None, one, None]).correct(x)
            # A total that the device counts has no part that could be turned.
            gone = alters or (one.reversed and metered == r.IN_TOTAL)
            assert x.metered == (0 if gone else metered), (metered, x.metered)
            assert x.own_totals == (() if alters or one.reversed else ("power", "energy"))
            assert x.energy[2:4] == ENERGY[2:4]


def test_phases_without_a_trim_are_left_alone():
    x = three()
    before = [dict(values) for values in x.at]
    Trim([None, None, None]).correct(x)
    assert x.at == before and x.metered == r.PER_PHASE and x.energy == ENERGY


def test_totals_come_from_what_was_trimmed():
    c = Correction(None, [(1.0, 0.0)] * 3, [(1.0, 0.0)] * 3)
    c.applied = ("gain", "phase")
    c.trim = Trim([None, Phase(reversed=True), Phase(power=1.1)])
    x = three()
    x.own_totals = ("power",)
    x.at[0]["power"] = -6000.0
    c.correct(x)
    near(x.at[0]["power"], -2000 + 2000 - 2200)
    near(x.at[0]["apparent_power"], 6900)
    near(x.at[2]["power_factor"], 2000 / 2300)
    assert x.metered == 0


def test_gains_come_before_the_trim():
    """Offsets are in corrected units: found with the gains in force, whoever applies them."""
    for applied in ((), ("gain", "phase")):
        c = Correction(None, [(1.02, 0.1)], [(0.95, 3.1)])
        c.applied = applied
        p, q = powers(230, phasor(0.3, 45))
        c.trim = Trim([Phase(offset=(p, q, 230.0))])
        seen = powers(230, phasor(7, -30) + phasor(0.3, 45))
        amperes = abs(phasor(7, -30) + phasor(0.3, 45))
        if not applied:
            s = complex(*seen) * phasor(1, -3.0) / (1.02 * 0.95)
            seen = s.real, s.imag
            x = block(voltage=230 / 1.02, current=amperes / 0.95, power=seen[0], reactive_power=seen[1])
        else:
            x = block(voltage=230.0, current=amperes, power=seen[0], reactive_power=seen[1])
        values = c.correct(x).at[0]
        want = powers(230, phasor(7, -30))
        near(values["current"], 7, 1e-5)
        near(values["power"], want[0], 1e-5)
        near(values["reactive_power"], want[1], 1e-5)
