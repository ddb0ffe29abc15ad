"""Profiles: those that come with the product fit, and each slip is told in a sentence."""

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from gridnode_host import build, profiles, provision, resources
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

Profile = dict[str, Any]
Change = Callable[[Profile], object]


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(resources.schema("profile"))


@pytest.mark.parametrize("name", resources.profile_names())
def test_every_profile_keeps_to_the_schema_and_fits(name: str) -> None:
    profile = resources.profile(name)
    assert [error.message for error in validator().iter_errors(profile)] == []
    assert profiles.problems(profile) == []
    assert profile["sku"] == name
    profiles.check(profile)


def test_the_profiles_that_are_promised_are_there() -> None:
    assert set(resources.profile_names()) >= {
        "home-60a-ct",
        "feeder-200a",
        "feeder-500a",
        "mv-sensor-24kv",
        "rish-3430",
        "sdm630",
        "plug-bl0942",
        "plug-cse7766",
        "pzem-100a",
    }


def test_a_medium_voltage_sensor_is_what_it_is() -> None:
    profile = resources.profile("mv-sensor-24kv")
    limits = profile["limits"]
    assert 23_000 <= profile["nominal"]["voltage"] <= 25_000
    assert limits["voltage"]["low"] == 23_000 and limits["voltage"]["high"] == 25_000
    assert limits["current"]["high"] == 600
    assert (limits["temperature"]["low"], limits["temperature"]["high"]) == (30, 100)
    assert (limits["humidity"]["low"], limits["humidity"]["high"]) == (20, 80)


def test_every_profile_says_how_good_a_calibrated_unit_is() -> None:
    for name in resources.profile_names():
        profile = resources.profile(name)
        wanted = {"voltage", "current", "power"} & (profiles.measured(profile["meters"][0]) or set())
        assert set(calibration(profile)["class"]) == wanted, name
    for name in ("home-60a-ct", "home-2ct", "home-3ph-ct", "plug-ade7953", "plug-bl0942", "plug-cse7766"):
        assert calibration(resources.profile(name))["load_only"]
    for name in ("feeder-200a", "feeder-500a", "mv-sensor-24kv"):
        assert "load_only" not in calibration(resources.profile(name))


_ASK = """
import json, sys
sys.path[:] = [".frozen", {image!r}]
class Time:
    def ticks_ms(self): return 0
    def ticks_us(self): return 0
    def ticks_diff(self, a, b): return a - b
class Machine:  # and everything that can be had of it
    def __getattr__(self, name): return self
    def __call__(self, *args, **named): return self
from gridnode import reading
from gridnode.setup import drivers
found = {{}}
for name, profile in json.loads(sys.stdin.read()).items():
    meters = [drivers.load_meter(s, profile, Machine(), Time()) for s in profile["meters"]]
    found[name] = [(m.phases, sorted(m.names)) for m in meters]
print(json.dumps([[reading.PHASE, reading.ONCE], found]))
"""


def test_what_meters_measure_is_what_the_node_says() -> None:
    """The host's table of names against the drivers, for each meter of each profile."""
    vm = build.micropython()
    image = resources.image_dir(build.vm_arch(vm))
    known = {name: resources.profile(name) for name in resources.profile_names()}
    done = subprocess.run(
        [vm, "-c", _ASK.format(image=str(image))],
        input=json.dumps(known),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names, found = json.loads(done.stdout)
    assert names == [profiles.PHASE, list(profiles.ONCE)]
    for name, profile in known.items():
        for meter, (phases, measured) in zip(profile["meters"], found[name], strict=True):
            assert profiles.channels(meter) == phases, (name, meter["id"])
            assert profiles.measured(meter) == set(measured), (name, meter["id"])


def meter(profile: Profile, k: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = profile["meters"][k]
    return found


def calibration(profile: Profile) -> dict[str, Any]:
    found: dict[str, Any] = profile["calibration"]
    return found


def more(profile: Profile, k: int = -1, **changes: Any) -> None:
    """Add a copy of a meter, the last one, with other values; `uart={"baud": 1}` changes one key."""
    new = copy.deepcopy(profile["meters"][k])
    for key, value in changes.items():
        new[key] = {**new.get(key, {}), **value} if isinstance(value, dict) else value
    profile["meters"].append(new)


SLIPS: list[tuple[str, Change, str]] = [
    # converters
    (
        "home-60a-ct",
        lambda p: p["rating"].update(current=100),
        "meter main, current 1: the pin at the peaks of 120 A is -567 to 3167 mV, the limit is 150 "
        "to 2450 mV of a linear ADC: take bias_mv 1300 and burden_ohm 13.6 or less",
    ),
    (
        "home-60a-ct",
        lambda p: meter(p)["current"][0].update(bias_mv=1650),
        "meter main, current 1: the pin at the peaks of 72 A is 530 to 2770 mV",
    ),
    (
        "home-60a-ct",
        lambda p: meter(p)["current"][0].pop("bias_mv"),
        "530 to 2770 mV",
    ),
    (
        "home-60a-ct",
        lambda p: meter(p)["voltage"][0].update(mv_per_v=4),
        "meter main, voltage 1: the pin at the peaks of 276 V is -261 to 2861 mV",
    ),
    (
        "home-60a-ct",
        lambda p: meter(p)["current"][0].update(burden_ohm=0.22),
        "the swing of 60 A at the pin is 19 mV, the limit is 69 mV at least: raise burden_ohm",
    ),
    (
        "home-60a-ct",
        lambda p: meter(p)["voltage"].append({"adc": 33, "mv_per_v": 2.9, "bias_mv": 1300}),
        "there are 2 voltages for 1 currents",
    ),
    (
        "feeder-200a",
        lambda p: meter(p)["current"][1].update(burden_ohm=9.6),
        "meter main, current 2: 240 A at the converter is 1152 mV rms, the limit is 720 mV: take "
        "burden_ohm 6 or less",
    ),
    (
        "feeder-200a",
        lambda p: meter(p).update(pga=2),
        "the limit is 720 mV: take burden_ohm 3 or less or a smaller pga",
    ),
    (
        "feeder-200a",
        lambda p: meter(p).update(current_scale=2),
        "meter main, current 1: 240 A in IRMS is 120 A, the limit is 65.53 A: take current_scale 4",
    ),
    (
        "mv-sensor-24kv",
        lambda p: meter(p).update(voltage_scale=40),
        "meter main, voltage 1: 2.88e+04 V in URMS is 720 V, the limit is 655.4 V: take "
        "voltage_scale 44 or more",
    ),
    (
        "feeder-200a",
        lambda p: meter(p)["voltage"][2].update(mv_per_v=0.3),
        "meter main, voltage 3: the gain register is 84853, the limit is 62414",
    ),
    (
        "feeder-200a",
        lambda p: meter(p)["voltage"][0].update(mv_per_v=0.05),
        "meter main, voltage 1: 230 V at the converter is 11.5 mV rms, the limit is 21.6 mV at least",
    ),
    ("feeder-200a", lambda p: meter(p)["current"].pop(), "3 voltages and 2 currents"),
    (
        "feeder-200a",
        lambda p: meter(p)["spi"].update(baud=2_000_000),
        "meter main, spi: baud is 2000000, the limit is 1100000",
    ),
    (
        "feeder-200a",
        lambda p: meter(p)["current"][0].update(shunt_mohm=1),
        "it has a shunt and a burden",
    ),
    (
        "mv-sensor-24kv",
        lambda p: p["rating"].update(current=700),
        "meter main, current 1: 1.2 times the rating is 840 A, the limit is 720 A, where ct-1a "
        "saturates: lower the rating to 600 A or take a larger clamp",
    ),
    (
        "home-60a-ct",
        lambda p: meter(p)["current"][0].update(phase_points=[[3, 3], [38, 2.5], [14, 2.8]]),
        "meter main, current 1: phase_points: the currents must rise: put them in order",
    ),
    (
        "plug-ade7953",
        lambda p: meter(p).update(pga=16),
        "meter main, current 1: the peak of 19.2 A at the input is 54.31 mV, the limit is 31.25 mV: "
        "take shunt_mohm 1.15 or less",
    ),
    ("plug-ade7953", lambda p: meter(p).update(pga=22), "current 2: pga is 22"),
    (
        "plug-ade7953",
        lambda p: meter(p)["voltage"][0].update(mv_per_v=1.5),
        "voltage 1: the peak of 276 V at the input is 585.5 mV, the limit is 500 mV",
    ),
    (
        "plug-bl0942",  # the divider of the application note
        lambda p: meter(p)["voltage"][0].update(mv_per_v=0.261471),
        "voltage 1: the peak of 276 V at the input is 102.1 mV, the limit is 100 mV: take mv_per_v "
        "0.256 or less",
    ),
    (
        "plug-bl0942",
        lambda p: p["rating"].update(current=32),
        "current 1: the peak of 38.4 A at the input is 54.31 mV, the limit is 42 mV",
    ),
    ("plug-bl0942", lambda p: meter(p)["uart"].update(baud=19200), "baud is 19200, the limit is 4800"),
    ("plug-bl0942", lambda p: meter(p)["uart"].update(parity="even"), "parity is even"),
    ("plug-cse7766", lambda p: meter(p)["uart"].pop("parity"), "parity is none, the limit is even"),
    ("plug-cse7766", lambda p: meter(p)["uart"].update(baud=9600), "baud is 9600"),
    ("plug-cse7766", lambda p: meter(p)["current"][0].update(shunt_mohm=3), "43.75 mV"),
    (
        "pzem-100a",
        lambda p: p["rating"].update(current=120),
        "meter main, current: the rating is 120 A, the limit is 100 A: take another meter",
    ),
    ("pzem-100a", lambda p: p["nominal"].update(voltage=277), "the limit is 80 to 260 V"),
    ("pzem-100a", lambda p: meter(p)["uart"].update(baud=4800), "baud is 4800, the limit is 9600"),
    (
        "pump-ads1115",
        lambda p: meter(p)["current"][0].update(gain_v=0.512),
        "meter main, current 1: the input at the peaks of 36 A is -560 to 560 mV, the limit is -512 "
        "to 512 mV: take a larger gain_v, or burden_ohm 20.1 or less",
    ),
    (
        "pump-ads1115",
        lambda p: meter(p)["current"][0].update(channel=0, gain_v=6.144, bias_mv=400),
        "is -160 to 960 mV, the limit is 0 to 3300 mV",
    ),
    (
        "pump-ads1115",
        lambda p: meter(p)["inputs"][0].update(channel="0-1"),
        "input aux1: it sits on the channel of the current",
    ),
    ("pump-ads1115", lambda p: meter(p)["inputs"][1].update(name="aux1"), "two inputs have one name"),
    # pins and buses
    (
        "plug-bl0942",
        lambda p: meter(p)["uart"].update(id=0),
        "meter main: it sits on UART 0, the console of the board: take another uart.id",
    ),
    (
        "plug-bl0942",
        lambda p: meter(p)["uart"].update(tx=1, rx=3),
        "meter main: uart.rx is pin 3 of the board's console: take another pin",
    ),
    (
        "mv-sensor-24kv",
        lambda p: meter(p, 2)["onewire"].update(pin=3),
        "meter terminal: onewire.pin is pin 3 of the board's console",
    ),
    (
        "home-60a-ct",
        lambda p: meter(p)["current"][0].update(adc=25),
        "meter main: current 1 adc is pin 25, which is not on ADC1: take one of 32, 33",
    ),
    (
        "home-2ct",
        lambda p: meter(p)["current"][1].update(adc=34),
        "meter main: pin 34 is both current 1 adc and current 2 adc: take another pin for one",
    ),
    ("feeder-200a", lambda p: meter(p)["spi"].update(cs=9), "spi.cs is pin 9, which belongs to the flash"),
    ("feeder-200a", lambda p: meter(p)["spi"].update(cs=24), "which the chip does not have"),
    (
        "feeder-200a",
        lambda p: meter(p)["spi"].update(cs=35),
        "spi.cs is pin 35, an input only: pins 34, 35, 36, 37, 38, 39 cannot send",
    ),
    ("feeder-200a", lambda p: meter(p)["spi"].update(miso=12), "spi.miso is pin 12, which sets the voltage"),
    ("sdm630", lambda p: meter(p)["uart"].update(de=2), "uart.de is pin 2, which keeps the chip from"),
    (
        "mv-sensor-24kv",
        lambda p: meter(p, 1)["i2c"].update(sda=19),
        "meters main and air: pin 19 is both spi.miso and i2c.sda",
    ),
    (
        "feeder-200a",
        lambda p: more(p, id="second"),
        "meters main and second: pin 5 is both spi.cs and spi.cs",
    ),
    (
        "feeder-200a",
        lambda p: more(p, id="second", spi={"cs": 27, "baud": 400_000}),
        "meters main and second share spi 2, but baud is 500000 and 400000: use the same",
    ),
    (
        "mv-sensor-24kv",
        lambda p: p["meters"].insert(2, {**meter(p, 1), "id": "twin", "flat": False}),
        "meters air and twin share i2c 0 and the address 0x44: give one another address",
    ),
    (
        "mv-sensor-24kv",
        lambda p: more(p, 2, id="twin"),
        "meters terminal and twin share the 1-Wire pin 27: give both a rom of its own",
    ),
    (
        "mv-sensor-24kv",
        lambda p: meter(p, 3)["contact"].update(pin=35),
        "meter cabinet: contact.pin is pin 35, an input only: pins 34, 35, 36, 37, 38, 39 have no pull-up",
    ),
    (
        "mv-sensor-24kv",
        lambda p: meter(p, 3)["contact"].update(pin=0),
        "meter cabinet: contact.pin is pin 0, which starts the boot loader",
    ),
    (
        "mv-sensor-24kv",
        lambda p: meter(p, 3)["contact"].update(pin=27),
        "meters terminal and cabinet: pin 27 is both onewire.pin and contact.pin: take another pin for one",
    ),
    (
        "mv-sensor-24kv",
        lambda p: more(p, id="twin", flat=False),
        "meters cabinet and twin: pin 26 is both contact.pin and contact.pin",
    ),
    (
        "panel-rs485",
        lambda p: meter(p, 1)["modbus"].update(address=1),
        "meters main and feeder share uart 2 and the address 1: give one another address",
    ),
    (
        "panel-rs485",
        lambda p: meter(p, 1)["uart"].update(baud=19200),
        "meters main and feeder share uart 2, but baud is 9600 and 19200",
    ),
    (
        "panel-rs485",
        lambda p: meter(p, 1)["uart"].update(parity="even"),
        "meters main and feeder share uart 2, but parity is none and even",
    ),
    (
        "panel-rs485",
        lambda p: meter(p, 1)["uart"].pop("de"),
        "share uart 2, but de is 4 and not given",
    ),
    (
        "pzem-100a",
        lambda p: (meter(p)["modbus"].update(address=248), more(p, id="b", modbus={"address": 2})),
        "meters main and b share uart 2, where both answer to address 248: give each its own",
    ),
    (
        "plug-cse7766",
        lambda p: more(p, id="b"),
        "meters main and b share uart 2, and cse7766 cannot share it with cse7766",
    ),
    ("plug-bl0942", lambda p: more(p, id="b", address=0), "share uart 2 and the address 0"),
    # the profile as a whole
    ("mv-sensor-24kv", lambda p: meter(p, 1).update(id="main"), "two meters are named 'main'"),
    ("home-60a-ct", lambda p: p.update(row_s=7), "row_s is 7, which does not divide a minute"),
    (
        "pzem-100a",
        lambda p: meter(p).update(period_ms=20_000),
        "meter main: period_ms is 20000, longer than a row of 10 s",
    ),
    ("home-60a-ct", lambda p: p.update(phases=3), "it measures 1 of the profile's 3 phases"),
    (
        "home-60a-ct",
        lambda p: p["limits"].update(temperature={"high": 60}),
        "limits: no meter measures 'temperature', which 'temperature' means: remove the limit",
    ),
    ("plug-cse7766", lambda p: p["limits"].update(frequency={"high": 51}), "no meter measures 'frequency'"),
    ("home-60a-ct", lambda p: p["limits"].update(v1={"high": 250}), "there is no signal 'v1'"),
    ("feeder-200a", lambda p: p["limits"].update(v4={"high": 250}), "there is no signal 'v4'"),
    ("home-60a-ct", lambda p: p["limits"].update(voltage={}), "'voltage' has neither low nor high"),
    (
        "home-60a-ct",
        lambda p: p["limits"].update(voltage={"low": 230, "high": 231, "hysteresis": 2}),
        "'voltage' is never good between low 230 and high 231 with a hysteresis of 2",
    ),
    ("home-60a-ct", lambda p: p["report"].update(extremes=["humidity"]), "no meter measures 'humidity'"),
    (
        "mv-sensor-24kv",
        lambda p: meter(p, 2).update(flat=True),
        "meters air and terminal are both flat and measure temperature",
    ),
]


@pytest.mark.parametrize(("name", "change", "sentence"), SLIPS)
def test_a_slip_is_told(name: str, change: Change, sentence: str) -> None:
    profile = resources.profile(name)
    change(profile)
    assert [error.message for error in validator().iter_errors(profile)] == []
    found = profiles.problems(profile)
    assert any(sentence in problem for problem in found), found
    with pytest.raises(GridnodeError) as refusal:
        profiles.check(profile)
    assert refusal.value.exit == Exit.USAGE and refusal.value.action


FINE: list[tuple[str, Change]] = [
    ("feeder-200a", lambda p: more(p, id="second", spi={"cs": 27})),
    ("plug-bl0942", lambda p: more(p, id="b", address=1)),
    ("mv-sensor-24kv", lambda p: p["limits"].update(power_factor={"low": 0.8})),
    ("feeder-200a", lambda p: p["limits"].update(i2={"high": 150}, pf={"low": 0.8})),
    ("home-60a-ct", lambda p: p["meters"].append({"id": "x", "driver": "anew"})),
    ("home-60a-ct", lambda p: p["board"].update(mcu="esp32s3")),
    ("mv-sensor-24kv", lambda p: more(p, id="door", flat=False, contact={"pin": 32})),
    ("home-60a-ct", lambda p: p.pop("calibration")),
    (
        "home-60a-ct",
        lambda p: calibration(p).update(points=[5, 20, 50, 100], conditions={"gain": {"current_low": 10}}),
    ),
    (
        "mv-sensor-24kv",
        lambda p: (
            meter(p, 2)["onewire"].update(rom="28ff641e0f1603aa"),
            more(p, 2, id="twin", onewire={"rom": "28ff641e0f1604bb"}),
        ),
    ),
]


@pytest.mark.parametrize(("name", "change"), FINE)
def test_what_is_no_slip_is_let_pass(name: str, change: Change) -> None:
    profile = resources.profile(name)
    change(profile)
    assert [error.message for error in validator().iter_errors(profile)] == []
    assert profiles.problems(profile) == []


NEEDS: list[tuple[str, Change, str]] = [
    ("home-60a-ct", lambda p: meter(p)["current"][0].pop("adc"), "'adc' is a required property"),
    ("home-60a-ct", lambda p: meter(p)["current"][0].pop("ratio"), "'ratio' is a required property"),
    ("feeder-200a", lambda p: meter(p).pop("spi"), "'spi' is a required property"),
    ("feeder-200a", lambda p: meter(p).update(pga=8), "8 is not one of [1, 2, 4]"),
    ("plug-ade7953", lambda p: meter(p).pop("i2c"), "'i2c' is a required property"),
    ("plug-bl0942", lambda p: meter(p).pop("uart"), "'uart' is a required property"),
    ("plug-bl0942", lambda p: meter(p)["uart"].pop("baud"), "'baud' is a required property"),
    ("pzem-100a", lambda p: meter(p).pop("modbus"), "'modbus' is a required property"),
    ("sdm630", lambda p: meter(p)["modbus"].pop("map"), "'map' is a required property"),
    ("sdm630", lambda p: meter(p)["modbus"].update(address=248), "248 is greater than"),
    ("mv-sensor-24kv", lambda p: meter(p, 1)["i2c"].update(address=70), "70 is not one of [68, 69]"),
    ("mv-sensor-24kv", lambda p: meter(p, 2).pop("onewire"), "'onewire' is a required property"),
    ("mv-sensor-24kv", lambda p: meter(p, 3).pop("contact"), "'contact' is a required property"),
    (
        "pump-ads1115",
        lambda p: (meter(p).pop("current"), meter(p).pop("inputs")),
        "'inputs' is a required property",
    ),
    ("pump-ads1115", lambda p: meter(p)["inputs"][0].update(name="level"), "'level' is not one of"),
    ("home-60a-ct", lambda p: meter(p)["current"][0].update(sensor=7), "7 is not of type 'string'"),
    ("home-60a-ct", lambda p: meter(p)["current"][0].update(phase_points=[[3, 3.1]]), "is too short"),
    ("home-60a-ct", lambda p: calibration(p).update({"class": {"power": 0}}), "0 is less than"),
    ("home-60a-ct", lambda p: calibration(p).update(points=[]), "[] should be non-empty"),
    ("home-60a-ct", lambda p: calibration(p).update(points=[300]), "300 is greater than"),
    ("home-60a-ct", lambda p: calibration(p).update(load_only="yes"), "is not of type 'boolean'"),
    ("home-60a-ct", lambda p: calibration(p).update(auto=["", "x"]), "'' should be non-empty"),
    (
        "home-60a-ct",
        lambda p: calibration(p).update(conditions={"gain": {"current_low": "5 %"}}),
        "'5 %' is not of type 'number'",
    ),
]


@pytest.mark.parametrize(("name", "change", "message"), NEEDS)
def test_the_schema_knows_what_a_driver_needs(name: str, change: Change, message: str) -> None:
    profile = resources.profile(name)
    change(profile)
    found = [error.message for error in validator().iter_errors(profile)]
    assert any(message in text for text in found), found


def test_provisioning_refuses_a_profile_that_does_not_fit(tmp_path: Path) -> None:
    profile = resources.profile("plug-bl0942")
    meter(profile)["uart"].update(id=0, tx=1, rx=3)
    plan = provision.Plan(
        port="/dev/null",
        thing="meter-1",
        config=provision.node_config("meter-1", "broker.example", "none"),
        profile=profile,
        certs_dir=tmp_path,
    )
    with pytest.raises(GridnodeError, match="it sits on UART 0, the console of the board") as failure:
        provision.run(plan, Output(as_json=True), dry_run=True)
    assert failure.value.exit == Exit.USAGE
