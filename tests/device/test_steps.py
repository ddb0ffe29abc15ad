"""Each calibration step over a simulated front end: right beyond the load of the step, refused where it must be.

What is expected is what the physics says, not what the steps compute.
"""

import gc
import json
import math
import random

from front_end import NAMES, RATING, Bent, Place, feed, phasor
from gridnode.calibrating import Refused, angle_of, conditions, procedure, turn

TIMEOUT_S = 60
HEAP_KW = 512

# Loads that no step is taken at: V, A, degrees that the current lags.
OTHERS = ((230, 3, 0), (218, 7, 60), (241, 31, -30), (228, 58, 15), (236, 72, 60))
INF = float("inf")
BENT = Bent(1.08, 0.93, 0.6, 3.4)


def bent(**more):
    """Parts at the ends of what they may be."""
    return Bent(1.08, 0.93, 0.6, 3.4, **more)


def near(got, want, tolerance, what=""):
    assert got is not None and abs(got - want) <= tolerance, (what, got, want)


def right(place, tolerance=2e-5, loads=OTHERS, of_power=None):
    """The unit reads the truth at every load; tolerance: share of V, A and VA."""
    for load in loads:
        place.load(*load)
        for k, values in enumerate(place.read()):
            if len(place.bent) > 1 and not k:
                continue
            one = place.bent[k - 1 if k else 0]
            truth = one.truth()
            for name in ("voltage", "current", "power", "reactive_power"):
                if name not in place.names:
                    continue
                whole = one.volts * one.amperes if "power" in name else truth[name]
                share = of_power if of_power and "power" in name else tolerance
                near(values[name], truth[name], share * whole, (name, k, load))


def condition(refusal, name, limit=None):
    """(measured, limit) of a refusal for that condition; its sentence has both numbers."""
    assert refusal.code == "condition" and refusal.details["condition"] == name, (refusal.message, refusal.details)
    for key in ("measured", "limit"):
        assert "%.4g" % refusal.details[key] in refusal.message, (refusal.message, refusal.details)
    if limit is not None:
        near(refusal.details["limit"], limit, 1e-3 * abs(limit), refusal.message)
    return refusal.details["measured"]


def said(refusal, code, part):
    assert refusal.code == code and part in refusal.message, (refusal.code, refusal.message)


# -- gain and phase


def test_gain_and_phase_hold_at_every_other_load():
    for applies in ((), ("gain", "phase")):
        place = Place(bent(), applies=applies)
        place.load(230, 25, 0)
        records = place.step("gain", {"voltage": 230.0, "current": 25.0})
        assert len(records) == 1
        near(records[0]["before_percent"]["voltage"], 8, 1e-3)
        near(records[0]["before_percent"]["current"], -7, 1e-3)
        near(records[0]["after_percent"]["current"], 0, 1e-3)
        records = place.step("phase")
        near(records[0]["before_percent"]["angle"], 0.6 - 3.4, 1e-3)
        near(records[0]["after_percent"]["angle"], 0, 1e-3)
        near(place.entry["voltage"][0]["gain"], 1 / 1.08, 1e-5)
        near(place.entry["current"][0]["gain"], 1 / 0.93, 1e-5)
        near(place.entry["current"][0]["phase_deg"], 2.8, 1e-3)  # against the voltage's, which stays 0
        right(place)


def test_voltage_and_current_may_be_told_one_after_the_other():
    place = Place(bent())
    place.load(230, 25, 0)
    place.step("gain", {"voltage": 230.0})
    assert not place.entry.get("current") or "gain" not in place.entry["current"][0]
    place.step("gain", {"current": 25.0})
    place.step("phase", {"phase_deg": 0.0})
    right(place)


def test_a_second_gain_corrects_what_is_left_of_the_first():
    place = Place(bent())
    place.load(230, 25, 0)
    place.step("gain", {"voltage": 230.0 * 1.02, "current": 25.0 * 0.97})  # a reference that was wrong
    near(place.read()[0]["current"], 25 * 0.97, 1e-3)
    place.step("gain", {"voltage": 230.0, "current": 25.0})
    place.step("phase")
    right(place)


def test_design_leads_are_what_a_phase_starts_from():
    place = Place(bent(), phase_deg=2.6)
    place.load(230, 25, 0)
    place.step("gain", {"voltage": 230.0, "current": 25.0})
    records = place.step("phase")
    near(records[0]["before_percent"]["angle"], 2.6 - 2.8, 1e-3)
    near(place.entry["current"][0]["phase_deg"], 2.8, 1e-3)
    right(place)


def test_phase_at_a_known_angle():
    for reference, lag in (
        ({"phase_deg": 60.0}, 60),
        ({"phase_deg": -30.0}, -30),
        ({"phase_deg": 420.0}, 60),
        ({"power": 230 * 25 * math.cos(math.radians(37)), "reactive_power": 230 * 25 * math.sin(math.radians(37))}, 37),
        ({"phase_deg": 180.0}, 180),  # export, across the end of the circle
        ({"phase_deg": -179.0}, -179),
    ):
        place = Place(bent())
        place.load(230, 25, lag)
        place.step("gain", {"voltage": 230.0, "current": 25.0})
        records = place.step("phase", reference)
        near(records[0]["before_percent"]["angle"], -2.8, 2e-3)
        right(place)


def test_three_phases_at_once_and_one_by_one():
    for together in (True, False):
        place = Place(Bent(1.08, 0.92, 0.2, 4.9), Bent(0.95, 1.07, 0.0, 0.1), Bent(1.01, 1.0, 0.5, 2.5))
        place.load([229, 231, 233], [10, 20, 30], 0)
        volts, amperes = [229.0, 231.0, 233.0], [10.0, 20.0, 30.0]
        if together:
            records = place.step("gain", {"voltage": volts, "current": amperes})
            assert [record["phase"] for record in records] == [1, 2, 3]
            near(records[1]["before_percent"]["current"], 7, 1e-3)
            assert len(place.step("phase")) == 3
        else:
            for k in (3, 1, 2):
                records = place.step("gain", {"voltage": volts[k - 1], "current": amperes[k - 1]}, phase=k)
                assert [record["phase"] for record in records] == [k]
                assert len(place.step("phase", phase=k)) == 1
        right(place)


def test_a_number_holds_for_all_phases_and_null_for_none():
    place = Place(Bent(1.05, 0.95), Bent(0.95, 1.05), Bent(1.02, 1.01))
    place.load(230, [20, 0, 20], 0)
    records = place.step("gain", {"voltage": 230.0, "current": [20.0, None, 20.0]})
    assert [sorted(record["after_percent"]) for record in records] == [
        ["current", "voltage"],
        ["voltage"],
        ["current", "voltage"],
    ]
    assert "gain" not in place.entry["current"][1]
    place.load(228, [6, 6, 40], 0)
    values = place.read()
    for k in (1, 2, 3):
        near(values[k]["voltage"], 228, 0.005)
    near(values[1]["current"], 6, 2e-4)
    near(values[2]["current"], 6 * 1.05, 2e-4)
    near(values[3]["current"], 40, 1e-3)


def test_a_voltage_that_serves_several_clamps_is_corrected_once():
    """home-2ct, and an outlet with two channels."""
    place = Place(Bent(1.05, 0.95, 0.5, 2.0), Bent(1.05, 1.05, 0.5, 4.0), voltages=1)
    place.load(230, [20, 30], 0)
    place.step("gain", {"voltage": 230.0, "current": [20.0, 30.0]})
    near(place.entry["voltage"][0]["gain"], 1 / 1.05, 1e-5)
    assert len(place.entry["voltage"]) == 1
    place.step("phase")
    right(place)
    place.load(230, [20, 30], 0)
    place.step("gain", {"voltage": [231.0, 231.0]})  # and once more
    near(place.entry["voltage"][0]["gain"], 231 / 230 / 1.05, 1e-5)


def test_a_shared_voltage_keeps_what_all_phases_read_without_load():
    place = Place(
        Bent(1.06, 0.95, picked=phasor(0.15 / 230, 40)), Bent(1.06, 1.05, picked=phasor(0.12 / 230, -100)), voltages=1
    )
    place.load(230, 0, 0)
    place.step("offset")
    place.load(230, [20, 0], 0)
    place.step("gain", {"voltage": 230.0, "current": 20.0}, phase=1)
    place.load(230, [0, 20], 0)
    place.step("gain", {"current": 20.0}, phase=2)
    right(place, 1e-4)


# -- offset


def test_what_is_picked_up_is_found_before_anything_else():
    """The gains that come later take it with them."""
    place = Place(bent(picked=phasor(0.18 / 230, 70)))
    place.load(226, 0, 0)
    records = place.step("offset")
    near(records[0]["before_percent"]["power"], 100 * 0.18 * 1.08 * 0.93 * 226 / 230 * 226 / (RATING * 230), 1e-3)
    near(records[0]["after_percent"]["power"], 0, 1e-3)
    place.load(230, 25, 0)
    place.step("gain", {"voltage": 230.0, "current": 25.0})
    place.step("phase")
    right(place, 5e-5)


def test_what_is_picked_up_is_found_after_the_gains():
    place = Place(bent(picked=phasor(0.06 / 230, -120)))
    place.load(230, 55, 0)
    place.step("gain", {"voltage": 230.0, "current": 55.0})
    place.step("phase")
    place.load(233, 0, 0)
    place.step("offset")
    place.load(230, 55, 0)
    place.step("gain", {"current": 55.0})  # the first one had the pick-up in it
    place.step("phase")
    right(place, 5e-5)


def test_an_offset_goes_with_the_voltage_of_its_moment():
    place = Place(bent(picked=phasor(0.18 / 230, 70)))
    place.load(200, 0, 0)
    place.step("offset")
    for volts in (180, 230, 260):
        place.load(volts, 0, 0)
        values = place.read()[0]
        near(values["power"], 0, 2e-3)
        near(values["reactive_power"], 0, 2e-3)
        near(values["current"], 0, 3e-3)


def test_a_second_offset_takes_the_place_of_the_first():
    place = Place(bent(picked=phasor(0.1 / 230, 0)))
    place.load(230, 0, 0)
    place.step("offset")
    place.bent[0].picked = phasor(0.2 / 230, 90)
    place.load(220, 0, 0)
    place.step("offset")
    place.load(240, 0, 0)
    values = place.read()[0]
    near(values["power"], 0, 2e-3)
    near(values["reactive_power"], 0, 2e-3)
    place.load(240, 0, 0)
    place.step("offset")  # nothing is left: nothing changes
    near(place.read()[0]["reactive_power"], 0, 2e-3)


def test_an_offset_turns_with_the_phase_and_grows_with_the_gain():
    place = Place(Bent(picked=phasor(0.15 / 230, 30)))
    place.load(230, 0, 0)
    place.step("offset")
    p, q = place.entry["power"][0]["offset_w"], place.entry["power"][0]["offset_var"]
    near(p, 0.15 * 230 * math.cos(math.radians(30)), 1e-3)
    near(q, -0.15 * 230 * math.sin(math.radians(30)), 1e-3)  # a current that leads
    place.bent[0].lead_i = -5.0
    place.bent[0].i = 1 / 1.1
    place.bent[0].v = 1 / 1.05
    place.load(230, 20, 0)
    place.step("gain", {"voltage": 230.0, "current": 20.0})
    place.step("phase")
    power = place.entry["power"][0]
    # By complex numbers: the stored offset times the gains, turned by what the step has found.
    turned = complex(p, q) * 1.05 * 1.1 * phasor(1, place.entry["current"][0]["phase_deg"])
    near(power["offset_w"], turned.real, 0.02)
    near(power["offset_var"], turned.imag, 0.02)
    near(power["at_v"], 230 * 1.05, 1e-2)


def test_noise_is_taken_off_by_its_square():
    place = Place(bent(noise=0.4))
    place.load(230, 0, 0)
    place.step("offset")
    near(place.entry["current"][0]["noise_a"], 0.4 * 0.93, 1e-4)
    place.load(230, 40, 0)
    place.step("gain", {"voltage": 230.0, "current": 40.0})
    near(place.entry["current"][0]["noise_a"], 0.4, 2e-4)
    place.step("phase")
    right(place)


def test_noise_and_pick_up_are_told_apart():
    place = Place(bent(noise=0.3, picked=phasor(0.15 / 230, 100)))
    place.load(230, 0, 0)
    place.step("offset")
    near(place.entry["current"][0]["noise_a"], 0.3 * 0.93, 1e-3)
    place.load(230, 40, 0)
    place.step("gain", {"voltage": 230.0, "current": 40.0})
    place.step("phase")
    right(place, 5e-5)


def test_an_offset_within_its_uncertainty_is_none():
    random.seed(5)
    small = 0
    for _ in range(12):
        place = Place()
        place.load(230, 0, 0)
        found, meter, correction = place.begin("offset")
        while not found.windows.full:
            x = correction.correct(meter.block())
            for name in ("power", "reactive_power"):
                x.at[0][name] += 8 * (random.random() - 0.5)
            x.at[0]["current"] = 0.05 * random.random()
            found.windows.add(x)
        found.examine()
        entry = found.compute({}, {})
        small += entry["power"][0]["offset_w"] == 0
    assert small >= 8, small  # two deviations: 19 of 20 for normal values and many windows


def test_the_offset_of_a_reversed_clamp():
    place = Place(bent(picked=phasor(0.18 / 230, 70), reversed=True))
    place.document["meters"]["main"] = {"current": [{"reversed": True}]}
    place.load(230, 0, 0)
    place.step("offset")
    place.load(230, 25, 0)
    place.step("gain", {"voltage": 230.0, "current": 25.0})
    place.step("phase")
    right(place, 5e-5)


def test_the_offset_of_a_meter_without_reactive_power():
    place = Place(Bent(1.05, 0.95, picked=phasor(0.1 / 230, 0)), names=("voltage", "current", "power"))
    place.load(230, 0, 0)
    place.step("offset")
    place.load(230, 20, 0)
    place.step("gain", {"voltage": 230.0, "current": 20.0})
    right(place, 1e-4, ((230, 5, 0), (220, 50, 0)))


def test_an_offset_that_is_no_idle_load_is_refused():
    place = Place()
    place.load(230, 2, 0)
    near(condition(place.refused("offset"), "current", 0.02 * RATING), 2, 1e-3)


# -- power


def test_power_is_what_voltage_and_current_have_left():
    place = Place(bent(power=1.03))
    place.load(230, 25, 0)
    place.step("gain", {"voltage": 230.0, "current": 25.0})
    place.step("phase")
    record = place.step("power", {"power": 5750.0})[0]
    near(record["before_percent"]["power"], 3, 1e-3)
    near(place.entry["power"][0]["gain"], 1 / 1.03, 1e-5)
    right(place)


def test_power_after_an_offset():
    place = Place(bent(power=1.03, picked=phasor(0.18 / 230, 70)))
    place.load(230, 0, 0)
    place.step("offset")
    place.load(230, 25, 0)
    place.step("gain", {"voltage": 230.0, "current": 25.0})
    place.step("phase")
    place.step("power", {"power": 5750.0})
    # The offset's part in the current is as wrong as the product: 3 % of 0.2 A.
    right(place, 2e-3, of_power=5e-5)


def test_power_where_the_meter_applies_all():
    place = Place(bent(power=0.97), applies=("gain", "phase", "power"))
    place.load(230, 25, 60)
    place.step("gain", {"voltage": 230.0, "current": 25.0})
    place.step("phase", {"phase_deg": 60.0})
    place.step("power", {"power": 2875.0, "phase_deg": 60.0})
    right(place)
    place.load(230, 25, 0)
    place.step("power", {"power": 5750.0})
    right(place)


# -- curves


def core(amperes):
    """A clamp whose gain and lead follow the logarithm of the current."""
    x = math.log(max(0.3, amperes) / 60)
    return 1 + 0.004 * x, -0.35 * x


def calibrated(place, amperes=40):
    place.load(230, amperes, 0)
    place.step("gain", {"voltage": 230.0, "current": float(amperes)})
    place.step("phase")


def test_a_curve_of_points_is_right_between_them():
    place = Place(bent(core=core))
    calibrated(place)
    points = (2.5, 5, 10, 20, 40, 60)
    for n, amperes in enumerate(points):
        place.load(230, amperes, 0)
        place.step("multipoint", {"current": float(amperes), "phase_deg": 0.0})
        assert len(place.entry["current"][0]["curve"]) == n + 1
    for amperes in points:
        place.load(230, amperes, 0)
        near(place.read()[0]["current"], amperes, 2e-4 * amperes, amperes)
        near(place.read()[0]["reactive_power"], 0, 2e-4 * amperes * 230, amperes)
    # A logarithm between points a factor of two apart: the chord is 0.06 of its step away from it.
    for amperes in (3.5, 7, 14, 30, 50):
        for lag in (0, 60):
            place.load(230, amperes, lag)
            values, truth = place.read()[0], place.bent[0].truth()
            near(values["current"], amperes, 3e-4 * amperes, amperes)
            near(values["power"], truth["power"], 5e-4 * amperes * 230, amperes)


def test_points_may_come_in_any_order():
    entries = []
    for points in ((3, 12, 48), (48, 3, 12), (12, 48, 3)):
        place = Place(bent(core=core))
        calibrated(place)
        for amperes in points:
            place.load(230, amperes, 0)
            place.step("multipoint", {"current": float(amperes), "phase_deg": 0.0})
        curve = place.entry["current"][0]["curve"]
        assert curve == sorted(curve)
        entries.append(curve)
    for a, b, c in zip(*entries):
        for x, y, z, tolerance in zip(a, b, c, (0.05, 5e-4, 0.02)):
            near(x, y, tolerance)
            near(x, z, tolerance)


def test_a_point_at_nearly_the_same_current_replaces_the_former():
    place = Place(bent(core=core))
    calibrated(place)
    for amperes, count in ((5, 1), (20, 2), (5.3, 2), (6, 3), (20, 3)):
        place.load(230, amperes, 0)
        place.step("multipoint", {"current": float(amperes), "phase_deg": 0.0})
        assert len(place.entry["current"][0]["curve"]) == count, (amperes, place.entry)
    near(place.entry["current"][0]["curve"][0][0], 5.3, 0.1)


def test_a_curve_that_is_full_takes_no_further_point_but_replaces_one():
    place = Place(bent(core=core))
    calibrated(place)
    for n in range(8):
        amperes = 2.0 * 1.5**n
        place.load(230, amperes, 0)
        place.step("multipoint", {"current": amperes, "phase_deg": 0.0})
    place.load(230, 1.5, 0)
    assert condition(place.refused("multipoint", {"current": 1.5, "phase_deg": 0.0}), "points", 8) == 8
    place.load(230, 3.1, 0)
    place.step("multipoint", {"current": 3.1, "phase_deg": 0.0})
    assert len(place.entry["current"][0]["curve"]) == 8


MODEL = [[3, 3.1], [14, 2.8], [38, 2.5]]


def of_the_model(amperes):
    """The lead of MODEL's clamp: linear between its points."""
    (a, x), (b, y), (c, z) = MODEL
    if amperes <= a:
        return 1.0, x
    if amperes >= c:
        return 1.0, z
    if amperes < b:
        return 1.0, x + (y - x) * (amperes - a) / (b - a)
    return 1.0, y + (z - y) * (amperes - b) / (c - b)


def test_the_models_curve_holds_for_a_clamp_that_is_like_it():
    place = Place(Bent(1.05, 0.95, core=of_the_model), phase_deg=2.5, phase_points=MODEL)
    place.load(230, 40, 0)
    place.step("gain", {"voltage": 230.0, "current": 40.0})
    right(place)


def test_points_without_an_angle_keep_the_leads_of_the_model():
    """A technician with a clamp meter tells currents only: power at PF 0.5 must not suffer."""
    place = Place(Bent(1.05, 0.95, core=of_the_model), phase_deg=2.5, phase_points=MODEL)
    place.load(230, 40, 0)
    place.step("gain", {"voltage": 230.0, "current": 40.0})
    for amperes in (38, 3, 14, 60):
        place.load(230, amperes, 0)
        place.step("multipoint", {"current": float(amperes)})
    right(place, 1e-4, ((230, 3, 60), (230, 9, 60), (230, 20, 60), (230, 50, 60)))


def test_points_with_an_angle_replace_the_model():
    place = Place(bent(core=core), phase_deg=2.5, phase_points=MODEL)
    calibrated(place)
    for amperes in (3, 6, 12, 24, 48):
        place.load(230, amperes, 0)
        record = place.step("multipoint", {"current": float(amperes), "phase_deg": 0.0})[0]
        assert sorted(record["after_percent"]) == ["angle", "current"]
    right(place, 1e-3, ((230, 3, 60), (230, 4, 60), (230, 30, 60), (230, 48, 60)))


def test_a_gain_and_a_phase_after_a_curve():
    place = Place(bent(core=core))
    calibrated(place)
    for amperes in (3, 12, 48):
        place.load(230, amperes, 0)
        place.step("multipoint", {"current": float(amperes), "phase_deg": 0.0})
    place.bent[0].i *= 1.01  # years later
    place.bent[0].lead_i += 0.4
    place.load(230, 24, 0)
    place.step("gain", {"current": 24.0})
    place.step("phase")
    right(place, 2e-3, ((230, 3, 60), (230, 12, 30), (230, 48, 60)))


def test_a_gain_after_a_curve_leaves_its_points_where_they_are():
    """A burden that has changed leaves the core as it was: its curve stands over the current that the gain has made."""
    place = Place(bent(core=core))
    calibrated(place)
    for amperes in (3, 12, 48):
        place.load(230, amperes, 0)
        place.step("multipoint", {"current": float(amperes), "phase_deg": 0.0})
    place.bent[0].i *= 1.2  # another burden
    place.load(230, 48, 0)
    place.step("gain", {"current": 48.0})
    right(place, 2e-4, ((230, 3, 60), (230, 12, 30), (230, 48, 60)))


# -- temperature


def test_a_temperature_coefficient():
    place = Place(bent(ppm_v=140.0, ppm_i=-120.0))
    place.thermometer()
    calibrated(place)
    assert place.entry["temperature"] == 25.0
    place.warm_up(55.0)
    place.load(230, 20, 0)
    near(place.read()[0]["voltage"], 230 * (1 + 30 * 140e-6), 0.01)
    record = place.step("temperature", {"voltage": 230.0, "current": 20.0})[0]
    near(record["before_percent"]["voltage"], 30 * 0.0140, 1e-3)
    near(place.entry["voltage"][0]["ppm_per_k"], -140, 2)
    near(place.entry["current"][0]["ppm_per_k"], 120, 2)
    for celsius in (-10.0, 25.0, 40.0, 70.0):
        place.warm_up(celsius)
        right(place, 1e-4)
    place.warm_up(60.0)
    place.load(230, 20, 0)
    place.step("temperature", {"voltage": 230.0, "current": 20.0})  # once more
    near(place.entry["voltage"][0]["ppm_per_k"], -140, 2)


def test_a_shared_voltage_has_one_coefficient():
    place = Place(Bent(ppm_v=140.0), Bent(ppm_v=140.0), voltages=1)
    place.thermometer()
    place.load(230, 20, 0)
    place.step("gain", {"voltage": 230.0, "current": 20.0})
    place.warm_up(55.0)
    place.step("temperature", {"voltage": 230.0})
    near(place.entry["voltage"][0]["ppm_per_k"], -140, 2)


def test_a_temperature_needs_distance_and_a_thermometer():
    place = Place(bent(ppm_v=140.0))
    place.load(230, 40, 0)
    place.step("gain", {"voltage": 230.0})  # without a thermometer
    said(place.refused("temperature", {"voltage": 230.0}), "sequence", "now")
    place.thermometer()
    said(place.refused("temperature", {"voltage": 230.0}), "sequence", "the gains")
    place.step("gain", {"voltage": 230.0})
    place.warm_up(32.0)
    near(condition(place.refused("temperature", {"voltage": 230.0}), "temperature", 10), 7, 1e-3)
    place.warm_up(-2.0)
    place.step("temperature", {"voltage": 230.0})


def test_gains_that_are_found_again_hold_at_the_temperature_of_then():
    """Nothing follows the temperature yet: what counts is where the newest gains were found."""
    place = Place(bent(ppm_v=140.0))
    place.thermometer()
    calibrated(place)
    place.warm_up(45.0)
    place.load(230, 40, 0)
    place.step("gain", {"voltage": 230.0, "current": 40.0})
    place.warm_up(60.0)
    place.step("temperature", {"voltage": 230.0})
    near(place.entry["voltage"][0]["ppm_per_k"], -140, 3)
    place.warm_up(25.0)
    place.load(230, 40, 0)
    near(place.read()[0]["voltage"], 230, 0.02)
    # From now on gains keep the temperature that the coefficients hold from.
    place.warm_up(45.0)
    place.step("gain", {"voltage": 230.0, "current": 40.0})
    for celsius in (0.0, 45.0, 60.0):
        place.warm_up(celsius)
        near(place.read()[0]["voltage"], 230, 0.02)


# -- verify


def test_verify_tells_the_errors_and_changes_nothing():
    place = Place(bent())
    place.load(230, 20, 30)
    record = place.step("verify", place.bent[0].truth())[0]
    assert place.document == {"version": 2, "meters": {}} and record["before_percent"] == {}
    after = record["after_percent"]
    near(after["voltage"], 8, 1e-3)
    near(after["current"], -7, 1e-3)
    near(after["angle"], -2.8, 1e-3)
    true = math.cos(math.radians(30 - 2.8)) / math.cos(math.radians(30))
    near(after["power"], 100 * (1.08 * 0.93 * true - 1), 1e-3)
    assert record["windows"] == 3
    place.load(230, 0.9, 0)
    place.step("verify", {"current": 0.9, "power": 207.0})  # at any current
    place.load(180, 20, 0)
    place.step("verify", {"voltage": 180.0})


def test_a_record_tells_what_was_done():
    random.seed(1)
    place = Place(bent(scatter=2e-4))
    place.thermometer()
    place.load(230, 20, 0)
    reference = {"voltage": 230.0, "current": 20.0}
    record = place.step("gain", reference, uncertainty={"voltage": 0.05, "current": 0.1})[0]
    for name, value in (("step", "gain"), ("meter", "main"), ("phase", 0), ("windows", 5), ("window_s", 2)):
        assert record[name] == value, (name, record)
    assert record["reference"] == reference and record["uncertainty_percent"] == {"voltage": 0.05, "current": 0.1}
    assert record["rejected"] >= 0
    near(record["load"]["voltage"], 230, 0.2)
    near(record["load"]["current"], 20, 0.02)
    near(record["load"]["frequency"], 50, 1e-3)
    near(record["load"]["temperature"], 25, 1e-3)
    for name, own in (("voltage", 0.05), ("current", 0.1)):
        assert 0 < record["spread_percent"][name] < 0.2, record
        # The reference's and the scatter's: five windows of two blocks, 0.02 % each.
        assert own < record["u_percent"][name] < math.sqrt(own * own + 0.06**2), record
    json.dumps(record)


# -- references


def test_the_uncertainty_of_an_angle_is_in_degrees():
    """Power that scatters by 0.05 % of VA turns the angle by 0.03 degrees, whatever the power factor."""
    random.seed(3)
    for lag in (0, 60):
        found = []
        for _ in range(20):
            place = Place(Bent(scatter=0.0005))
            place.load(230, 25, lag)
            record = place.step("verify", {"current": 25.0, "phase_deg": float(lag)})[0]
            found.append(record["u_percent"]["angle"])
        # k=2, 1.25 for the median, two blocks in each of three windows
        near(sum(found) / 20, math.degrees(0.0005) * 2 * 1.25 / math.sqrt(6), 0.01, lag)


def test_a_wrong_decimal_is_refused():
    for name, value, step in (("voltage", 230.0, "gain"), ("current", 20.0, "gain"), ("power", 4600.0, "power")):
        for factor in (10, 0.1, 100, 1.5, 0.7):
            place = Place(bent())
            place.load(230, 20, 0)
            refusal = place.refused(step, {name: value * factor})
            reading = place.read()[0][name]
            near(condition(refusal, "reference", 20), 100 * abs(value * factor / reading - 1), 0.2)
            assert name in refusal.message
    for factor in (10, 0.1):
        place = Place(bent())
        place.load(230, 20, 0)
        condition(place.refused("multipoint", {"current": 20.0 * factor}), "reference", 20)
        condition(place.refused("verify", {"current": 20.0 * factor}), "reference", 50)
        place.thermometer()
        place.step("gain", {"voltage": 230.0})
        place.warm_up(60.0)
        condition(place.refused("temperature", {"voltage": 230.0 * factor}), "reference", 10)


def test_a_refused_reference_can_be_told_again():
    """What was measured stays: only the number was wrong."""
    place = Place(bent(), bent())
    place.load(230, 25, 0)
    found, meter, correction = place.begin("gain")
    feed(found.windows, meter, correction)
    found.examine()
    try:
        found.compute(place.entry, {"current": [25.0, 250.0]})
    except Refused as e:
        condition(e, "reference", 20)
    else:
        raise AssertionError("not refused")
    new = found.compute(place.entry, {"current": [25.0, 25.0]})
    meter, correction = place.meter({"version": 2, "meters": {"main": new}})
    feed(found.retry(meter), meter, correction)
    assert [record["phase"] for record in found.prove()] == [1, 2]


def test_a_wrong_decimal_at_one_of_three_phases_is_refused():
    place = Place(bent(), bent(), bent())
    place.load(230, 20, 0)
    refusal = place.refused("gain", {"voltage": 230.0, "current": [20.0, 20.0, 2.0]})
    assert refusal.message.startswith("L3: current"), refusal.message
    assert place.document["meters"] == {}


def test_a_sign_is_no_detail():
    place = Place()
    place.load(230, 20, 0)
    condition(place.refused("power", {"power": -4600.0}), "reference", 20)
    for value in (-230.0, 0.0):
        said(place.refused("gain", {"voltage": value}), "invalid", "above 0")
    assert place.refused("power", {"power": 0.0}).details["condition"] == "power"


def test_what_is_no_number_is_refused():
    place = Place(bent(), bent(), bent())
    place.load(230, 20, 0)
    for bad in (True, False, "230", "", float("nan"), INF, -INF, 1e12, {}, [230.0] * 2, [230.0] * 4, [], [[230.0]] * 3):
        said(place.refused("gain", {"voltage": bad}), "invalid", "voltage")
    for bad in (True, "230", float("nan"), INF, [1]):
        said(place.refused("gain", {"voltage": [230.0, bad, 230.0]}), "invalid", "voltage")
        said(place.refused("gain", {"voltage": 230.0, "current": bad}), "invalid", "current")
    for bad in ("60", True, INF):
        said(place.refused("phase", {"phase_deg": bad}), "invalid", "phase_deg")
    for bad in ([230.0], "voltage", 230.0, True, ["voltage"]):
        said(place.refused("gain", bad), "invalid", "reference")
    said(place.refused("gain", {"volts": 230.0}), "invalid", "volts")
    said(place.refused("gain", {"voltage": 230.0, "curent": 20.0}), "invalid", "curent")


def test_a_step_that_needs_a_reference_is_refused_without_it():
    place = Place(bent(), bent(), bent())
    place.thermometer()
    place.load(230, 20, 0)
    for reference in (None, {}, {"voltage": None}, {"voltage": [None, None, None]}):
        for step, needs in (
            ("gain", "voltage or current"),
            ("power", "power"),
            ("multipoint", "current"),
            ("temperature", "voltage or current"),
            ("verify", "voltage or current or power"),
        ):
            said(place.refused(step, reference), "invalid", "%s needs the reference of %s" % (step, needs))
    said(place.refused("gain", {"voltage": [230.0, None, 230.0]}, phase=2), "invalid", "needs the reference")
    said(place.refused("power", {"voltage": 230.0}), "invalid", "needs the reference")


def test_an_uncertainty_that_cannot_be_is_refused():
    place = Place(bent())
    place.load(230, 20, 0)
    for bad in ({"voltage": "0.02"}, {"voltage": float("nan")}, {"voltage": -1}, {"voltage": True}, [1], 0.02, "x"):
        said(place.refused("gain", {"voltage": 230.0}, uncertainty=bad), "invalid", "uncertainty")
    place.step("gain", {"voltage": 230.0}, uncertainty={"voltage": 0})
    place.step("gain", {"voltage": 230.0}, uncertainty={"voltage": None, "current": 0.1})


def test_a_quantity_that_the_meter_has_not():
    place = Place(names=("voltage", "current", "power"))
    place.load(230, 20, 0)
    said(place.refused("phase"), "invalid", "no step 'phase'")
    place.step("power", {"power": 4600.0})
    place = Place(names=("voltage", "power", "reactive_power"))
    place.load(230, 20, 0)
    for step, reference in (("phase", {}), ("power", {"power": 4600.0}), ("gain", {"current": 20.0})):
        said(place.refused(step, reference), "invalid", "measures no current")
    place = Place(names=("current",))
    place.load(230, 20, 0)
    said(place.refused("gain", {"voltage": 230.0}), "invalid", "measures no voltage")
    place.step("gain", {"current": 20.0})
    for step in ("offset", "phase", "power", "linearity"):
        said(place.refused(step), "invalid", "has no step")
    place.step("multipoint", {"current": 20.0})


def test_steps_that_are_not_known():
    place = Place()
    place.load(230, 20, 0)
    for step in ("", "gains", "nominal", None, 3, True):
        try:
            place.begin(step)
        except Refused as e:
            said(e, "invalid", "offset, gain, phase, power, multipoint, temperature, verify")
            continue
        raise AssertionError(step)


def test_phases_that_are_not_there():
    three, single = Place(bent(), bent(), bent()), Place(bent())
    for place in (three, single):
        place.load(230, 20, 0)
        for phase in (0, -1, 4, 1.5, "1", True, [1], INF):
            said(place.refused("gain", {"voltage": 230.0}, phase=phase), "invalid", "no phase")
    said(single.refused("gain", {"voltage": 230.0}, phase=2), "invalid", "no phase 2")
    assert len(single.step("gain", {"voltage": 230.0}, phase=1)) == 1


# -- conditions


def test_a_load_that_is_too_small():
    least = 0.04 * RATING
    for step, reference in (
        ("gain", {"current": 2.0}),
        ("phase", {}),
        ("power", {"power": 460.0}),
        ("temperature", {"current": 2.0}),
    ):
        place = Place()
        place.thermometer()
        place.step("gain", {"voltage": 230.0})
        place.warm_up(60.0)
        place.load(230, 2, 0)
        refusal = place.refused(step, reference)
        near(condition(refusal, "current", least), 2, 1e-3)
        assert "below" in refusal.message
    place = Place()
    place.load(230, 0.5, 0)
    near(condition(place.refused("multipoint", {"current": 0.5}), "current", 0.01 * RATING), 0.5, 1e-3)
    place.load(230, 0.7, 0)
    place.step("multipoint", {"current": 0.7})
    place.load(230, 0, 0)
    place.step("gain", {"voltage": 230.0})  # which needs no current
    refusal = place.refused("gain", {"voltage": 230.0, "current": 20.0})
    assert refusal.details["condition"] == "current", refusal.message


def test_the_load_of_one_phase_that_is_too_small():
    place = Place(bent(), bent(), bent())
    place.load(230, [20, 0.2, 20], 0)
    refusal = place.refused("phase")
    condition(refusal, "current")
    assert refusal.message.startswith("L2: "), refusal.message
    place.step("phase", phase=1)
    place.step("phase", {"phase_deg": [0.0, 0.0, 0.0]}, phase=3)


def test_a_load_that_is_too_large():
    for step, high in (("gain", 1.25), ("phase", 1.25), ("power", 1.25), ("multipoint", 1.25), ("verify", 1.3)):
        place = Place()
        place.load(230, 80, 0)
        refusal = place.refused(step, {"current": 80.0, "power": 18400.0})
        near(condition(refusal, "current", high * RATING), 80, 1e-2)
        assert "above" in refusal.message


def test_a_voltage_that_is_none():
    for volts, word, limit in ((0, "below", 115), (100, "below", 115), (310, "above", 299)):
        for step in ("offset", "gain", "phase", "verify"):
            place = Place(Bent(), Bent(), Bent())
            place.load([230, 230, volts], 0 if step == "offset" else 20, 0)
            refusal = place.refused(step, {"voltage": 230.0})
            near(condition(refusal, "voltage", limit), volts, 1e-2)
            assert refusal.message.startswith("L3: ") and word in refusal.message, refusal.message


def test_a_phase_is_measured_alone_whatever_the_others_do():
    def place_with_trouble():
        place = Place(bent(), bent(), bent())
        place.load([230, 3, 230], [25, 80, 20], 0)  # L2: no voltage, beyond what the step allows
        return place

    def flickering(n):
        place.bent[2].amperes = 20 + 10 * (n % 2) + n % 7

    place = place_with_trouble()
    refusal = place.refused("gain", {"voltage": 230.0, "current": 25.0}, during=flickering)
    assert refusal.details["condition"] in ("steady", "windows", "voltage", "current"), refusal.details
    place = place_with_trouble()
    records = place.step("gain", {"voltage": 230.0, "current": 25.0}, phase=1, during=flickering)
    assert [record["phase"] for record in records] == [1]
    near(place.read()[1]["current"], 25, 1e-3)
    for name in ("voltage", "current"):
        assert "gain" in place.entry[name][0] and not any(place.entry[name][1:]), place.entry
    for phase in (2, 3):  # itself it is judged
        place = place_with_trouble()
        condition = place.refused("gain", {"current": 25.0}, phase=phase, during=flickering).details["condition"]
        assert condition in (("voltage", "current") if phase == 2 else ("steady", "windows")), condition


def test_a_frequency_that_is_off():
    for hertz, off in ((60.0, 20), (44.0, 12)):
        place = Place()
        place.hertz = hertz
        near(condition(place.refused("gain", {"voltage": 230.0}), "frequency", 10), off, 1e-2)
    place.hertz = 46.0
    place.step("gain", {"voltage": 230.0})


def test_a_clamp_on_another_phase_or_the_wrong_way_is_refused():
    for lag in (120, -120, 180, 60, -60, 15, -15):
        place = Place()
        place.load(230, 20, lag)
        near(condition(place.refused("phase"), "angle", 12), abs(lag), 1e-2)
        refusal = place.refused("multipoint", {"current": 20.0, "phase_deg": 0.0})
        near(condition(refusal, "angle", 12), abs(lag), 1e-2)
    for lag in (120, 180, 60, 20):
        place = Place()
        place.load(230, 20, lag)
        true = 4600 * math.cos(math.radians(lag))
        near(condition(place.refused("power", {"power": true}), "angle", 15), lag, 1e-2)
    place = Place()
    place.load(230, 20, 11)
    place.step("phase", {"phase_deg": 11.0})
    place.load(230, 20, 9)
    record = place.step("phase", {"phase_deg": 0.0})[0]  # 9 degrees: as clamps may be
    near(record["before_percent"]["angle"], 9, 1e-2)


def test_a_power_factor_other_than_expected_is_refused():
    place = Place()
    place.load(230, 20, 30)
    near(condition(place.refused("phase", {"phase_deg": 60.0}), "angle", 12), 30, 1e-2)
    near(condition(place.refused("phase", {"phase_deg": -30.0}), "angle", 12), 60, 1e-2)
    p, q = 4600 * math.cos(math.radians(60)), 4600 * math.sin(math.radians(60))
    condition(place.refused("phase", {"power": p, "reactive_power": q}), "angle", 12)
    place.step("phase", {"phase_deg": 30.0})


def test_one_of_three_clamps_on_another_phase_is_refused():
    place = Place(bent(), bent(), bent())
    place.load(230, 20, [0, 120, -120])
    refusal = place.refused("phase")
    condition(refusal, "angle")
    assert refusal.message.startswith("L2: "), refusal.message


def test_a_lead_beyond_what_a_clamp_can_have_is_refused():
    place = Place()
    place.document["meters"]["main"] = {"current": [{"phase_deg": 9.0}]}
    place.load(230, 20, -10)  # which the step reads as -1
    place.bent[0].lag = -20
    near(condition(place.refused("phase", {"phase_deg": 0.0}), "phase_deg", 15), 20, 1e-2)


def test_a_gain_beyond_what_a_front_end_can_have_is_refused():
    place = Place(conditions={"gain": {"reference": 1000}})
    place.load(230, 20, 0)
    near(condition(place.refused("gain", {"current": 50.0}), "gain", 2), 2.5, 1e-3)
    near(condition(place.refused("gain", {"voltage": 110.0}), "gain", 0.5), 110 / 230, 1e-3)
    place = Place(Bent(power=0.75), conditions={"power": {"reference": 1000}})
    place.load(230, 20, 0)
    condition(place.refused("power", {"power": 4600.0}), "power gain", 1.25)


def test_a_distorted_current_is_no_load_for_a_phase():
    place = Place(Bent(thd=35.0), names=NAMES + ("thd_current",))
    place.load(230, 20, 0)
    near(condition(place.refused("phase"), "thd", 20), 35, 1e-2)
    place.step("gain", {"current": 20.0})
    place.bent[0].thd = 12.0
    place.step("phase")


def test_a_load_that_is_switched_during_a_step_is_refused():
    for step, reference in (("gain", {"current": 20.0}), ("phase", {}), ("power", {"power": 4600.0})):
        place = Place(bent())
        place.load(230, 20, 0)
        refusal = place.refused(step, reference, during=lambda n, place=place: place.load(230, 20 if n < 5 else 30, 0))
        condition(refusal, "steady")


def test_a_supply_that_moves_during_a_step_is_refused():
    place = Place(bent())
    refusal = place.refused("gain", {"voltage": 230.0}, during=lambda n: place.load(225 + n, 20, 0))
    condition(refusal, "steady")
    assert "voltage" in refusal.message


def test_too_few_cycles_seen_are_refused():
    place = Place(bent())
    place.coverage = 0.3
    said(place.refused("gain", {"voltage": 230.0}), "meter", "no usable reading")


def test_conditions_of_the_profile_take_the_place_of_the_own():
    place = Place(bent(), conditions={"gain": {"reference": 3, "windows": 3}, "phase": {"angle": 30}})
    place.load(230, 20, 0)
    condition(place.refused("gain", {"voltage": 230.0}), "reference", 3)
    place = Place(conditions={"phase": {"angle": 5}})
    place.load(230, 20, 6)
    condition(place.refused("phase"), "angle", 5)
    place = Place(conditions={"phase": {"angle": 5}, "gain": {"windows": 3}})
    assert conditions.of("gain", place.profile)["windows"] == 3
    assert conditions.of("gain", {})["windows"] == 5 and conditions.of("gain", {})["reference"] == 20
    assert conditions.of("nothing", {}) is None


# -- proof


def test_what_is_not_proven_is_not_kept():
    def changes(**parts):
        def change():
            for name, value in parts.items():
                setattr(place.bent[0], name, value)

        return change

    for step, reference, change in (
        ("gain", {"voltage": 230.0, "current": 20.0}, {"i": 0.99}),
        ("gain", {"voltage": 230.0, "current": 20.0}, {"v": 1.07}),
        ("gain", {"current": 20.0}, {"amperes": 21.0}),
        ("phase", {}, {"lead_i": 3.0}),
        ("power", {"power": 4600.0}, {"power": 1.02}),
        ("multipoint", {"current": 20.0}, {"i": 0.9}),
        ("multipoint", {"current": 20.0, "phase_deg": 0.0}, {"lead_i": 3.0}),
    ):
        place = Place(bent())
        place.load(230, 20, 0)
        place.step("gain", {"voltage": 230.0, "current": 20.0})
        place.step("phase")
        former = json.loads(json.dumps(place.document))
        refusal = place.refused(step, reference, between=changes(**change))
        assert refusal.code == "unproven" and "the old ones stay" in refusal.message, refusal.message
        assert place.document == former


def test_what_has_become_worse_within_the_limit_is_not_kept():
    for step, reference, name, new in (
        ("gain", {"current": 20.0}, "i", 1.0015),  # 0.2 % are allowed, where there was nothing
        ("phase", {}, "lead_i", 0.08),
        ("power", {"power": 4600.0}, "power", 1.002),
    ):
        place = Place(Bent())
        place.load(230, 20, 0)
        refusal = place.refused(step, reference, between=lambda p=place, n=name, x=new: setattr(p.bent[0], n, x))
        assert refusal.code == "unproven", refusal.message


def test_scatter_excuses_no_more_than_it_is():
    random.seed(9)
    for step, reference, name, new in (
        ("gain", {"current": 20.0}, "i", 0.996),
        ("phase", {}, "lead_i", 0.25),
        ("power", {"power": 4600.0}, "power", 0.996),
    ):
        place = Place(Bent(scatter=3e-4))
        place.load(230, 20, 0)
        refusal = place.refused(step, reference, between=lambda p=place, n=name, x=new: setattr(p.bent[0], n, x))
        assert refusal.code == "unproven", refusal.message


def test_an_offset_that_has_changed_is_not_proven():
    place = Place(bent(picked=phasor(0.15 / 230, 0)))
    place.load(230, 0, 0)

    def away():
        place.bent[0].picked = 0j

    assert place.refused("offset", between=away).code == "unproven"
    assert place.document["meters"] == {}


def test_a_load_that_is_switched_during_the_proof_is_refused():
    place = Place(bent())
    place.load(230, 20, 0)
    refusal = place.refused("gain", {"current": 20.0}, between=lambda: place.load(230, 30, 0))
    assert refusal.code == "unproven", refusal.message
    assert place.document["meters"] == {}


def test_one_phase_that_is_not_proven_keeps_all_as_they_were():
    place = Place(bent(), bent(), bent())
    place.load(230, 20, 0)

    def change():
        place.bent[1].i = 0.9

    refusal = place.refused("gain", {"voltage": 230.0, "current": 20.0}, between=change)
    assert refusal.code == "unproven" and refusal.message.startswith("L2: "), refusal.message


def test_what_was_right_may_stay_as_it_is():
    random.seed(2)
    place = Place(Bent(scatter=1e-4))
    place.load(230, 20, 0)
    for _ in range(10):
        place.step("gain", {"voltage": 230.0, "current": 20.0})
        place.step("phase")
        place.step("power", {"power": 4600.0})


def test_a_refused_step_leaves_its_entry_as_it_was():
    """compute works on a copy, whatever it meets halfway."""
    place = Place(bent(), bent(), bent())
    place.load(230, 20, 0)
    place.step("gain", {"voltage": 230.0, "current": 20.0})
    place.step("phase")
    entry = place.entry
    entry["adc_table"] = [1000 * k for k in range(129)]
    before = json.loads(json.dumps(entry))
    for reference in ({"current": [20.0, 20.0, 200.0]}, {"current": [20.0] * 2}, {"voltage": 230.0, "current": 1e-3}):
        found, meter, correction = place.begin("gain")
        feed(found.windows, meter, correction)
        found.examine()
        try:
            found.compute(entry, reference)
            raise AssertionError(reference)
        except Refused:
            assert entry == before
    found, meter, correction = place.begin("gain")
    feed(found.windows, meter, correction)
    found.examine()
    new = found.compute(entry, {"current": 21.0})
    assert entry == before and new["adc_table"] == before["adc_table"]
    assert new["current"][2]["gain"] != before["current"][2]["gain"]


def test_the_meter_that_was_measured_may_be_let_go_before_the_proof():
    """On a node there is no room for two of them."""
    place = Place(bent())
    place.load(230, 20, 0)

    def measured():
        found, meter, correction = place.begin("gain")
        meter.ballast = bytearray(100000)
        feed(found.windows, meter, correction)
        found.examine()
        found.compute({}, {"voltage": 230.0})
        return found

    gc.collect()
    before = gc.mem_alloc()
    found = measured()
    found.meter = None
    gc.collect()
    assert gc.mem_alloc() - before < 60000, gc.mem_alloc() - before


# -- clamps in another order


def test_steps_change_the_input_that_the_clamp_is_on():
    """The clamps of the phases 1 and 2 are exchanged, which the calibration knows."""
    place = Place(Bent(1.02, 0.93, 0, 3.0), Bent(1.01, 1.05, 0, 1.0), Bent(0.99, 1.0, 0, 2.0))
    place.document["meters"]["main"] = {"order": [2, 1, 3]}
    place.install()
    # FakeMeter takes what an input senses; its voltage is that of the same Bent, so all have the same.
    for one in place.bent:
        one.v = 1.04
    place.load(230, 20, 0)
    place.step("gain", {"voltage": 230.0, "current": 20.0}, phase=1)
    near(place.entry["current"][1]["gain"], 1 / 1.05, 1e-5)
    assert "gain" not in place.entry["current"][0]
    near(place.entry["voltage"][0]["gain"], 1 / 1.04, 1e-5)
    place.step("gain", {"voltage": 230.0, "current": 20.0}, phase=2)
    near(place.entry["current"][0]["gain"], 1 / 0.93, 1e-5)
    place.step("phase")
    near(place.entry["current"][0]["phase_deg"], 3, 1e-3)
    near(place.entry["current"][1]["phase_deg"], 1, 1e-3)
    for k in (1, 2):
        values = place.read()[k]
        near(values["current"], 20, 1e-3)
        near(values["power"], 4600, 0.1)


# -- the pure arithmetic


def test_angles():
    for degrees, turned in ((0, 0), (190, -170), (-190, 170), (359, -1), (540, -180), (720, 0)):
        assert turn(degrees) == turned
    near(angle_of({"power": 1.0, "reactive_power": 1.0}), 45, 1e-4)
    near(angle_of({"power": -1.0, "reactive_power": 1.0}), 135, 1e-4)
    assert angle_of({"power": 0.0, "reactive_power": 0.0}) is None
    assert angle_of({"power": 1.0}) is None and angle_of({"power": 1.0, "reactive_power": None}) is None


def test_steps_of_a_front_end():
    class Has:
        def __init__(self, *names, orders=0):
            self.names = names
            self.orders = orders

    assert procedure.available(Has("temperature", "humidity")) == []
    assert procedure.available(Has("current")) == ["gain", "multipoint", "temperature", "verify"]
    every = ["linearity", "offset", "gain", "phase", "power", "multipoint", "temperature", "verify"]
    assert procedure.available(Has(*NAMES, orders=15)) == every
    assert procedure.available(Has("voltage", "current", "power")) == [s for s in every[1:] if s != "phase"]
    assert sorted(conditions.STEPS) == sorted(every)


# -- random units


def test_random_units_end_within_their_class():
    """V and I within 0.3 %, P within 0.5 % at PF 1 and 1 % at PF 0.5, from 5 to 100 % of the rating."""
    random.seed(11)

    def spread(size):
        return size * (2 * random.random() - 1)

    for n in range(25):
        bend, turn = spread(0.002), spread(0.25)

        def own(amperes, bend=bend, turn=turn):
            x = math.log(max(0.05, amperes) / 20)
            return 1 + bend * x, turn * x

        place = Place(
            Bent(
                1 + spread(0.08),
                1 + spread(0.08),
                spread(0.5),
                2.5 + spread(2.5),
                power=1 + spread(0.004),
                picked=phasor(abs(spread(0.003)) * RATING / 230, spread(180)),
                noise=abs(spread(0.1)),
                core=own,
                scatter=2e-4,
            )
        )
        place.load(230, 0, 0)
        place.step("offset")
        place.load(230, 30, 0)
        place.step("gain", {"voltage": 230.0, "current": 30.0})
        place.step("phase")
        place.step("power", {"power": 6900.0})
        for percent in (5, 20, 50, 100):
            amperes = RATING * percent / 100
            place.load(230, amperes, 0)
            place.step("multipoint", {"current": amperes, "phase_deg": 0.0})
        place.bent[0].scatter = 0
        for amperes in (3.0, 4.5, 8.0, 20.0, 42.0, 60.0):
            for lag, share in ((0, 0.005), (60, 0.01)):
                place.load(224, amperes, lag)
                values, truth = place.read()[0], place.bent[0].truth()
                near(values["voltage"], 224, 0.003 * 224, n)
                near(values["current"], amperes, 0.003 * amperes, (n, amperes))
                near(values["power"], truth["power"], share * truth["power"], (n, amperes, lag))
