"""calibration.json: what is refused, what it changes in a profile, and what a meter is started with."""

from gridnode import reading as r
from gridnode.calibrating import procedure
from gridnode.setup import calibration, judge

TABLE = [100000 + 23000 * k for k in range(129)]
NODE = "0123456789abcdef"


def document(**entry):
    return {"version": 2, "node": NODE, "sku": "home", "generation": 3, "meters": {"main": entry}}


def profile(driver="ct", currents=3):
    return {
        "nominal": {"voltage": 230, "frequency": 50},
        "meters": [
            {
                "id": "main",
                "driver": driver,
                "voltage": [{"mv_per_v": 2.9, "phase_deg": 0.1 * k} for k in range(3)],
                "current": [{"adc": 32 + k, "ratio": 1000 * (k + 1), "phase_deg": 1.0 + k} for k in range(currents)],
            },
            {"id": "air", "driver": "sht3x"},
        ],
    }


class Meter:
    """What `put` sees of a driver that applies these parts."""

    names = ("voltage",)

    def __init__(self, *applies, phases=3):
        self.applies = applies
        self.phases = phases
        self.reading = r.Reading("main", phases)

    def start(self, correction):
        self.correction = correction
        return self.applies


def refused(document, text, *names):
    try:
        judge.check(document, *names)
    except ValueError as e:
        assert text in str(e), e
        return
    raise AssertionError("no refusal: " + text)


def near(got, want):
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert abs(a - b) < 1e-6, (got, want)


# -- check


def test_a_good_calibration_passes():
    good = document(
        temperature=24.5,
        adc_table=TABLE,
        order=[2, 1, 3],
        voltage=[{"gain": 1.01, "phase_deg": 0.3, "ppm_per_k": -20.0}],
        current=[
            {"gain": 0.98, "phase_deg": 2.6, "ratio": 1000, "reversed": True, "noise_a": 0.05},
            {"curve": [[3.0, 1.002, 0.25], [30.0, 1.0, -0.1]]},
            {"curve": [[3, 1, 0]]},
        ],
        power=[{"gain": 1.0, "offset_w": 0.4, "offset_var": -0.2, "at_v": 230.1}, {"gain": 1.001}],
    )
    good["nominal"] = {"voltage": 120, "frequency": 60}
    good["steps"] = [{"step": "gain"}]
    good["later"] = {"key": 1}
    judge.check(good)
    judge.check(good, NODE, "home")
    judge.check({"version": 2, "meters": {}}, NODE, "home")  # of no node in particular


def test_other_versions_are_refused():
    for version in (1, 3, "2", None):
        refused(dict(document(), version=version), "this firmware knows 2")
    refused({"meters": {}}, "calibration version None")


def test_the_calibration_of_another_is_refused():
    refused(document(), "of another node, %s; this is fedcba98" % NODE, "fedcba98", "home")
    refused(document(), "of another sku, home; this is plug", NODE, "plug")
    judge.check(document(), None, "home")
    judge.check(document(), NODE, None)


def test_tables_that_cannot_be_are_refused():
    refused(document(adc_table=TABLE[:128]), "adc_table")
    refused(document(adc_table=TABLE + [4000000]), "adc_table")
    refused(document(adc_table=[x + 0.5 for x in TABLE]), "adc_table")
    falling = list(TABLE)
    falling[64] = falling[63] - 1
    refused(document(adc_table=falling), "rising")
    refused(document(adc_table=[k * 7000 for k in range(129)]), "rising values in uV")  # mV, or counts


def test_orders_that_cannot_be_are_refused():
    for order in ([1, 1, 2], [2, 3], [1, 3]):
        refused(document(order=order), "each input once")
    for order in ([1], [1, 2, 4], [0, 1, 2], [1, 2, 3, 1]):
        refused(document(order=order), "order")


def test_curves_that_cannot_be_are_refused():
    for curve in ([[3, 1, 0], [3, 1, 0.1]], [[3, 1, 0], [30, 1, 0], [10, 1, 0]]):
        refused(document(current=[{}, {"curve": curve}]), "must rise")
    for point in ([-1, 1, 0], [3, 0.4, 0], [3, 2.5, 0], [3, 1, 16], [3, 1, -16]):
        refused(document(current=[{"curve": [point]}]), "cannot be")
    for curve in ([], [[3, 1]], [[3, 1, 0, 0]], [[3, 1, "0"]], [[k, 1, 0] for k in range(13)]):
        refused(document(current=[{"curve": curve}]), "curve")


def test_values_out_of_range_are_refused():
    for name, low, high in (("gain", 0.49, 2.01), ("phase_deg", -15.1, 15.1), ("ppm_per_k", -2001, 2001)):
        for value in (low, high, "1"):
            refused(document(voltage=[{}, {name: value}]), "voltage[1]." + name)
            refused(document(current=[{name: value}]), "current[0]." + name)
    for name, value in (("ratio", 0.5), ("noise_a", -0.1), ("reversed", 1)):
        refused(document(current=[{name: value}]), name)
    for value in (0.79, 1.26):
        refused(document(power=[{"gain": value}]), "power[0].gain")
    refused(document(power=[{"offset_w": 3.0}]), "at_v")
    refused(document(power=[{"offset_var": 3.0}]), "at_v")
    refused(document(power=[{"offset_w": 3.0, "at_v": 0}]), "at_v")
    for name, value in (("voltage", 0), ("frequency", 55)):
        refused(dict(document(), nominal={name: value}), "nominal." + name)
    refused({"version": 2}, "meters")
    refused(dict(document(), meters=[]), "meters")


# -- install


def test_ratios_go_to_inputs_and_inputs_to_phases():
    p = profile()
    stored = document(order=[3, 1, 2], current=[{}, {"ratio": 500}, {"ratio": 250}])
    stored["nominal"] = {"voltage": 120}
    calibration.install(p, stored)
    spec = p["meters"][0]
    assert [channel["adc"] for channel in spec["current"]] == [34, 32, 33]
    assert [channel["ratio"] for channel in spec["current"]] == [250, 1000, 500]
    assert spec["order"] == [3, 1, 2] and p["nominal"] == {"voltage": 120, "frequency": 50}
    p = profile("atm90e32")
    calibration.install(p, document(order=[2, 1, 3]))
    assert [channel["adc"] for channel in p["meters"][0]["current"]] == [33, 32, 34]


def test_without_a_calibration_a_profile_stays_as_it_is():
    for stored in (None, document(), {"version": 2, "meters": {"other": {"order": [2, 1, 3]}}}):
        p = profile()
        calibration.install(p, stored)
        assert p == profile()


def test_other_front_ends_cannot_exchange_their_inputs():
    for driver in ("ade7953", "bl0942", "modbus"):
        p = profile(driver)
        if driver == "modbus":
            del p["meters"][0]["voltage"], p["meters"][0]["current"]
        before = str(sorted(p["meters"][0].items()))
        stored = document(order=[2, 1, 3], current=[{"ratio": 500}])
        stored["nominal"] = {"voltage": 120}
        try:
            calibration.install(p, stored)
        except ValueError as e:
            assert str(e) == "meter main: this front end cannot exchange its inputs", e
        else:
            raise AssertionError(driver)
        assert str(sorted(p["meters"][0].items())) == before and p["nominal"]["voltage"] == 230


# -- correction


def test_a_channel_that_was_never_calibrated_has_its_design_values():
    for stored in (None, document(), {"version": 2, "meters": {}}):
        c = calibration.correction(profile()["meters"][0], stored)
        assert [gain for gain, _ in c.voltage + c.current] == [1.0] * 6
        near([lead for _, lead in c.voltage], [0.0, 0.1, 0.2])
        near([lead for _, lead in c.current], [1.0, 2.0, 3.0])
        assert c.adc_table is None and not c.power and not c.noise


def test_own_values_take_the_place_of_design_values():
    stored = document(
        adc_table=TABLE,
        voltage=[{"gain": 1.25}, {"phase_deg": 0.5}],
        current=[{}, {"gain": 0.75, "phase_deg": -1.5, "noise_a": 0.125}],
        power=[{"gain": 1.125}, {"offset_w": 2.5, "offset_var": -0.5, "at_v": 230}],
    )
    c = calibration.correction(profile()["meters"][0], stored)
    assert c.voltage[0] == (1.25, 0.0) and c.voltage[1] == (1.0, 0.5) and c.voltage[2][0] == 1.0
    assert c.current == [(1.0, 1.0), (0.75, -1.5), (1.0, 3.0)]
    assert c.power == [(1.125, 0.0, 0.0), (1.0, 2.5, -0.5)] and c.noise == [0.0, 0.125]
    assert list(c.adc_table) == TABLE


def test_inputs_are_told_in_the_order_of_the_phases():
    p = profile()
    stored = document(
        order=[3, 1, 2],
        voltage=[{"gain": 1.25}],
        current=[{"gain": 0.75, "noise_a": 0.5}, {"gain": 0.875}],
        power=[{"gain": 1.125}],
    )
    calibration.install(p, stored)
    c = calibration.correction(p["meters"][0], stored)
    assert c.current == [(1.0, 3.0), (0.75, 1.0), (0.875, 2.0)], c.current
    assert c.voltage[0] == (1.25, 0.0) and c.noise == [0.0, 0.5, 0.0]
    assert c.power == [(1.0, 0.0, 0.0), (1.125, 0.0, 0.0), (1.0, 0.0, 0.0)]


def test_a_meter_that_comes_adjusted_has_gains_once_it_is_calibrated():
    spec = {"id": "main", "driver": "modbus"}
    c = calibration.correction(spec, document(voltage=[{"gain": 1.01}], current=[{}, {"gain": 0.99}]), 3)
    near([gain for gain, _ in c.voltage], [1.01, 1, 1])
    near([gain for gain, _ in c.current], [1, 0.99, 1])
    assert not calibration.correction(spec, document(), 3).voltage
    assert not calibration.correction(spec, None, 3).voltage


# -- put


def put(stored, *applies, spec=None, phases=3):
    m = Meter(*applies, phases=phases)
    return m, calibration.put(m, spec or profile()["meters"][0], stored)


def test_a_unit_that_needs_no_trim_has_none():
    gains = document(voltage=[{"gain": 1.1}], current=[{"phase_deg": 2}], power=[{"gain": 1}])
    for stored in (None, document(), gains):
        m, c = put(stored, "gain", "phase")
        assert c is m.correction and c.applied == ("gain", "phase") and c.trim is None


def test_what_the_meter_applies_is_not_applied_again():
    power = [{}, {"gain": 1.01, "offset_w": 2.0, "offset_var": 1.0, "at_v": 231.0}]
    stored = document(current=[{}, {"noise_a": 0.5}], power=power)
    for applies, gain, held, noise in (
        ((), 1.01, False, 0.25),
        (("power",), 1.0, False, 0.25),
        (("power", "offset"), 1.0, True, 0.25),
        (("noise",), 1.01, False, 0),
        (("power", "offset", "noise"), 1.0, True, 0),
    ):
        _, c = put(stored, *applies)
        first, one, third = c.trim.phases
        assert first is None and third is None
        near((one.power, one.noise), (gain, noise))
        assert one.offset == (2.0, 1.0, 231.0) and one.held == held
        assert one.alters == (applies not in (("power", "offset"), ("power", "offset", "noise")))
    for part, entry in (("noise", {"current": [{"noise_a": 0.5}]}), ("power", {"power": [{"gain": 1.01}]})):
        assert put(document(**entry), part)[1].trim is None
        assert put(document(**entry))[1].trim


def test_trims_follow_the_order_of_the_phases():
    p = profile()
    power = [{}, {}, {"gain": 1.1}]
    stored = document(order=[3, 1, 2], voltage=[{"ppm_per_k": 30}], current=[{"reversed": True}], power=power)
    calibration.install(p, stored)
    c = put(stored, "gain", "phase", spec=p["meters"][0])[1]
    assert [one.reversed for one in c.trim.phases] == [False, True, False]
    near([one.power for one in c.trim.phases], [1.1, 1, 1])
    near([one.drift_v for one in c.trim.phases], [30e-6] * 3)  # one voltage for all


def test_the_curve_of_a_sensor_is_that_of_its_channel_until_it_has_its_own():
    p = profile()
    p["meters"][0]["current"][1]["phase_points"] = [[3, 2.75], [30, 2.25], [60, 2.0]]  # its lead is 2 degrees
    spec = p["meters"][0]
    for stored in (None, document(current=[{}, {"gain": 1.02, "phase_deg": 1.5}])):
        c = put(stored, "gain", "phase", spec=spec)[1]
        assert c.trim.phases[0] is None and c.trim.phases[2] is None
        near(list(c.trim.phases[1].curve), [3, 1, 0.75, 30, 1, 0.25, 60, 1, 0])
    c = put(document(current=[{}, {"curve": [[5, 1.0625, 0.125]]}]), "gain", "phase", spec=spec)[1]
    near(list(c.trim.phases[1].curve), [5, 1.0625, 0.125])
    # It goes with the clamp to another phase.
    stored = document(order=[2, 1, 3])
    calibration.install(p, stored)
    c = put(stored, "gain", "phase", spec=spec)[1]
    assert c.trim.phases[1] is None
    near(list(c.trim.phases[0].curve), [3, 1, 0.75, 30, 1, 0.25, 60, 1, 0])


def test_the_temperature_comes_from_the_meter_or_the_first_that_knows_it():
    a, b, c = Meter(), Meter(), Meter()
    b.names, c.names = ("temperature", "humidity"), ("temperature",)
    assert calibration.thermometer([a, b, c], 0) is b.reading
    assert calibration.thermometer([a, b, c], 2) is c.reading
    assert calibration.thermometer([None, a], 1) is None and calibration.thermometer([a, None, c], 0) is c.reading
    stored = document(temperature=24.5, current=[{"ppm_per_k": 50}])
    trim = calibration.put(a, profile()["meters"][0], stored, b.reading).trim
    assert trim.thermometer is b.reading and trim.celsius == 24.5


def test_a_meter_that_cannot_be_set_so_refuses():
    m = Meter()

    def start(correction):
        raise ValueError("gain")

    m.start = start
    try:
        calibration.put(m, profile()["meters"][0], document())
    except ValueError:
        return
    raise AssertionError("no refusal")


# -- applied_by


def test_where_each_part_is_applied():
    m, c = put(document(), "adc", "gain", "phase")
    samples = {"gain": "samples", "phase": "samples", "offset": "software", "power": "software", "noise": "software"}
    assert procedure.applied_by(m, c) == samples
    m, c = put(document(), "gain", "phase", "power", "offset", "noise")
    m.phase_left = False
    assert procedure.applied_by(m, c) == dict.fromkeys(samples, "registers")
    m, c = put(document(), "gain", "phase", "power")
    m.phase_left = True
    chip = {"gain": "registers", "phase": "registers+software", "power": "registers"}
    assert procedure.applied_by(m, c) == dict(chip, offset="software", noise="software")
    m, c = put(document())
    assert procedure.applied_by(m, c) == dict.fromkeys(samples, "software")
