"""Models of transformers: they keep to their schema and their sources, and profiles carry them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from gridnode_host import profiles, resources, sensor_models
from gridnode_host.errors import Exit, GridnodeError

SENSORS = Path(__file__).parents[2] / "boards" / "sensors"
PROFILES = Path(__file__).parents[2] / "boards" / "profiles"


def model(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SENSORS / f"{name}.json").read_text("utf-8"))
    return found


def own_profile(folder: Path, change: Any) -> str:
    """Path of a copy of home-60a-ct in which the clamp's channel was changed."""
    document = json.loads((PROFILES / "home-60a-ct.json").read_text("utf-8"))
    change(document)
    path = folder / "own.json"
    path.write_text(json.dumps(document), "utf-8")
    return str(path)


def clamp(**keys: Any) -> Any:
    def change(document: dict[str, Any]) -> None:
        document["meters"][0]["current"] = [{"adc": 34, "bias_mv": 1300, **keys}]

    return change


# -- the files -------------------------------------------------------------------------------


def test_the_models_that_are_promised_are_there() -> None:
    assert set(resources.sensor_names()) >= {"sct-013-000", "sct-013-030", "zmpt101b", "ct-1a", "ct-5a"}
    jsonschema.Draft202012Validator.check_schema(resources.schema("sensor"))


@pytest.mark.parametrize("name", resources.sensor_names())
def test_model_keeps_to_its_schema_and_tells_where_each_figure_is_from(name: str) -> None:
    document = model(name)
    jsonschema.validate(document, resources.schema("sensor"))
    assert sensor_models.problems(document) == []
    assert resources.sensor(name) == document
    for figure in ("ratio", "saturation_a", "saturation_rated", "phase"):
        assert (figure in document) == (figure in document["source"]), figure


def test_figures_are_those_of_the_sources() -> None:
    """IoTaWatt's table of the SCT-013-000: degrees up to so many A, and what lies beyond."""
    table = {
        50: [(4, 3.1), (8, 3.0), (12, 2.9), (17, 2.8), (26, 2.7), (38, 2.6), (math.inf, 2.5)],
        60: [(4, 2.7), (8, 2.6), (12, 2.5), (18, 2.4), (30, 2.3), (44, 2.2), (math.inf, 2.1)],
    }
    for frequency, steps in table.items():
        points = sensor_models.curve(model("sct-013-000"), frequency, 100.0)
        begin = 0.0
        for end, degrees in steps:
            middle = (begin + min(end, 100.0)) / 2
            assert sensor_models.lead_at(points, middle) == pytest.approx(degrees, abs=0.05)
            begin = end
    small = model("sct-013-030")
    assert 1000 * small["burden_ohm"] / small["ratio"] * 30 == pytest.approx(1000)  # 1 V at 30 A
    large = model("sct-013-000")
    assert large["rated_a"] / large["secondary_a"] == large["ratio"] == 2000
    assert sensor_models.curve(model("zmpt101b"), 50, 1.0)[0][1] <= 20 / 60  # 20 minutes at most


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "shunt"}, "'shunt' is not one of"),
        ({"version": 2}, "1 was expected"),
        ({"phase": {"of": "A"}}, "does not have enough properties"),
        ({"phase": {"of": "A", "50": [[3, 99]]}}, "99 is greater than"),
        ({"phase": {"of": "A", "50": [[3]]}}, "is too short"),
        ({"saturation_rated": 2, "saturation_a": 9}, "should not be valid"),
        ({"colour": "blue"}, "Additional properties"),
    ],
)
def test_schema_refuses_what_is_no_model(keys: dict[str, Any], message: str) -> None:
    document = {"version": 1, "kind": "ct", "title": "a", "source": {}, **keys}
    found = jsonschema.Draft202012Validator(resources.schema("sensor")).iter_errors(document)
    assert any(message in error.message for error in found)


# -- what a channel gets ---------------------------------------------------------------------


def test_a_profile_carries_the_data_of_its_sensors() -> None:
    (meter,) = resources.profile("home-60a-ct")["meters"]
    assert meter["current"] == [
        {
            "adc": 34,
            "sensor": "sct-013-000",
            "burden_ohm": 22,
            "bias_mv": 1300,
            "ratio": 2000,
            "saturation_a": 140,
            "phase_deg": 2.5,
            "phase_points": [[3, 3.1], [14, 2.8], [38, 2.5]],
        }
    ]
    assert meter["voltage"] == [
        {"adc": 35, "sensor": "zmpt101b", "mv_per_v": 2.9, "bias_mv": 1300, "phase_deg": 0.3}
    ]


def test_every_profile_says_which_sensor_its_own_figures_are_of() -> None:
    for name in resources.profile_names():
        for meter in resources.profile(name)["meters"]:
            for channel in meter.get("current", ()):
                if channel.get("phase_points"):
                    lead = sensor_models.lead_at(
                        channel["phase_points"], resources.profile(name)["rating"]["current"]
                    )
                    assert channel["phase_deg"] == pytest.approx(lead, abs=0.001)
                    assert channel["sensor"] in resources.sensor_names()


def test_lead_is_that_of_the_nominal_frequency_and_at_the_rating(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        clamp(sensor="sct-013-000", burden_ohm=22)(document)
        document["nominal"]["frequency"] = 60
        document["rating"]["current"] = 29  # halfway from 14 to 44 A

    (channel,) = resources.profile(own_profile(tmp_path, change))["meters"][0]["current"]
    assert channel["phase_points"] == [[3, 2.7], [14, 2.4], [44, 2.1]]
    assert channel["phase_deg"] == pytest.approx(2.25)


def test_a_lead_of_the_other_frequency_goes_with_the_magnetising_current(tmp_path: Path) -> None:
    """SCT-013-030: 3.8 degrees at 60 Hz; at 50 Hz the tangent is 6 / 5 of it."""
    path = own_profile(tmp_path, clamp(sensor="sct-013-030"))
    (channel,) = resources.profile(path)["meters"][0]["current"]
    expected = math.degrees(math.atan(1.2 * math.tan(math.radians(3.8))))
    assert channel["phase_deg"] == pytest.approx(expected, abs=0.001)
    assert channel["phase_deg"] > 3.8
    assert "phase_points" not in channel  # one figure is no curve
    assert (channel["ratio"], channel["burden_ohm"]) == (1800, 60)


def test_what_the_channel_tells_itself_stands(tmp_path: Path) -> None:
    change = clamp(sensor="sct-013-000", burden_ohm=18, ratio=1990, phase_deg=1.9, saturation_a=120)
    (channel,) = resources.profile(own_profile(tmp_path, change))["meters"][0]["current"]
    assert channel == {
        "adc": 34,
        "bias_mv": 1300,
        "sensor": "sct-013-000",
        "burden_ohm": 18,
        "ratio": 1990,
        "phase_deg": 1.9,
        "saturation_a": 120,
    }
    change = clamp(sensor="sct-013-000", burden_ohm=18, phase_points=[[1, 4.0], [100, 2.0]])
    (channel,) = resources.profile(own_profile(tmp_path, change))["meters"][0]["current"]
    assert channel["phase_points"] == [[1, 4.0], [100, 2.0]]
    assert channel["phase_deg"] == pytest.approx(4.0 - 2.0 * 59 / 99, abs=0.001)


def test_a_generic_transformer_saturates_by_its_ratio(tmp_path: Path) -> None:
    change = clamp(sensor="ct-5a", ratio=40, burden_ohm=0.1)
    (channel,) = resources.profile(own_profile(tmp_path, change))["meters"][0]["current"]
    assert channel["saturation_a"] == 240  # 200 A : 5 A
    assert "phase_deg" not in channel
    (channel,) = resources.profile("mv-sensor-24kv")["meters"][0]["current"]
    assert (channel["sensor"], channel["saturation_a"], channel["phase_deg"]) == ("ct-1a", 720, 0.2)


def test_a_generic_transformer_needs_its_ratio(tmp_path: Path) -> None:
    profile = resources.profile(own_profile(tmp_path, clamp(sensor="ct-1a", burden_ohm=1)))
    found = [e.message for e in jsonschema.Draft202012Validator(resources.schema("profile")).iter_errors(profile)]
    assert "'ratio' is a required property" in found


def test_a_model_of_ones_own_lies_beside_the_profile(tmp_path: Path) -> None:
    document = {**model("sct-013-000"), "ratio": 3000}
    (tmp_path / "big-clamp.json").write_text(json.dumps(document), "utf-8")
    path = own_profile(tmp_path, clamp(sensor="big-clamp.json", burden_ohm=22))
    (channel,) = resources.profile(path)["meters"][0]["current"]
    assert (channel["sensor"], channel["ratio"]) == ("big-clamp", 3000)


REFUSED = [
    ({"sensor": "sct-999"}, "no sensor named 'sct-999'", "sct-013-000"),
    ({"sensor": "zmpt101b"}, "zmpt101b is a vt, which does not measure a current", "ct-1a"),
    ({"sensor": "none.json"}, "none.json cannot be read", ""),
    ({"sensor": "bad.json"}, "is not one of", "sensor.schema.json"),
    ({"sensor": "fallen.json"}, "the currents of a curve must rise", ""),
]


@pytest.mark.parametrize(("keys", "cause", "action"), REFUSED)
def test_a_slip_is_refused(tmp_path: Path, keys: dict[str, Any], cause: str, action: str) -> None:
    (tmp_path / "bad.json").write_text(json.dumps({**model("ct-1a"), "kind": "rope"}), "utf-8")
    fallen = {**model("ct-1a"), "phase": {"of": "A", "50": [[3, 2.0], [2, 1.0]]}}
    (tmp_path / "fallen.json").write_text(json.dumps(fallen), "utf-8")
    path = own_profile(tmp_path, clamp(burden_ohm=22, **keys))
    with pytest.raises(GridnodeError) as refusal:
        resources.profile(path)
    assert refusal.value.exit == Exit.USAGE
    assert cause in refusal.value.cause
    assert action in (refusal.value.action or "")


def test_a_rating_beyond_the_core_is_refused(tmp_path: Path) -> None:
    change = clamp(sensor="sct-013-000", burden_ohm=5)  # far from the converter's limits
    profile = resources.profile(own_profile(tmp_path, change))
    profile["rating"]["current"] = 116
    assert profiles.problems(profile) == []
    profile["rating"]["current"] = 118
    assert profiles.problems(profile) == [
        "meter main, current 1: 1.2 times the rating is 141.6 A, the limit is 140 A, where "
        "sct-013-000 saturates: lower the rating to 116.7 A or take a larger clamp"
    ]
