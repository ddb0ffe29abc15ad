"""Maps of Modbus meters: they keep to their schema and to the meters' limits, and profiles carry them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from gridnode_host import maps, resources
from gridnode_host.errors import Exit, GridnodeError

MAPS = Path(__file__).parents[2] / "boards" / "maps"
WIDTH = {"float32": 2, "u32": 2, "s32": 2, "u16": 1, "s16": 1}
# Registers per request: Rish Master 3430 manual p. 43 (20 parameters); Eastron (40 parameters)
LIMITS = {"rish-3430": 40, "sdm120": 80, "sdm630": 80}


def load(name: str) -> dict[str, Any]:
    chart: dict[str, Any] = json.loads((MAPS / f"{name}.json").read_text("utf-8"))
    return chart


def test_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(resources.schema("map"))


@pytest.mark.parametrize("name", resources.map_names())
def test_map_keeps_to_its_schema(name: str) -> None:
    chart = load(name)
    jsonschema.validate(chart, resources.schema("map"))
    assert chart["max_registers"] <= LIMITS.get(name, 125)
    places = [(row["name"], row.get("phase", 0)) for row in chart["rows"]]
    assert len(set(places)) == len(places), "each value stands in one row"
    taken: set[int] = set()
    for row in chart["rows"]:
        assert row.get("phase", 0) <= (chart["phases"] if chart["phases"] > 1 else 0), row
        start = int(row["address"], 16)
        cells = set(range(start, start + WIDTH[row.get("type", "float32")]))
        assert not cells & taken, f"{row} shares a register"
        taken |= cells
        if row["unit"] == "energy_unit":
            assert any("units" in setting for setting in chart["settings"])
    energies = {phase for name, phase in places if name.startswith("energy_")}
    phases = {0} if chart["phases"] == 1 or chart["metered"] == "total" else {1, 2, 3}
    assert energies == phases, "energy rows are those that count"


def test_schema_refuses_what_is_no_map() -> None:
    chart = load("rish-3430")
    for path, value in (
        (("rows", 0, "address"), 4),
        (("rows", 0, "address"), "0xZZ"),
        (("rows", 0, "name"), "volts"),
        (("rows", 0, "type"), "float64"),
        (("rows", 0, "scale"), 0),
        (("rows", 0, "unit"), "volt"),
        (("word_order",), "ABDC"),
        (("settings", 0, "units"), {"x": "Wh"}),
        (("settings", 1, "text"), ""),
        (("max_registers",), 126),
        (("surprise",), 1),
    ):
        broken = json.loads(json.dumps(chart))
        place = broken
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, resources.schema("map"))


@pytest.mark.parametrize("name", resources.profile_names())
def test_profiles_carry_their_maps(name: str) -> None:
    for meter in resources.profile(name)["meters"]:
        chart = meter.get("modbus", {}).get("map")
        if meter["driver"] == "modbus":
            assert chart["version"] == 1 and chart["rows"]
            text = json.dumps(chart, separators=(",", ":"))
            assert "note" not in text and "source" not in text and len(text) < 1700


def test_rows_are_lines_for_the_node() -> None:
    document = {
        "version": 1,
        "title": "T",
        "source": ["S"],
        "phases": 1,
        "max_registers": 10,
        "max_gap": 0,
        "settings": [{"name": "energy_unit", "address": "0x0A", "units": {"1": "Wh", "3": "MWh"}}],
        "rows": [
            {"name": "energy_import", "address": "0x14", "unit": "energy_unit", "scale": 0.1},
            {"name": "voltage", "phase": 2, "address": "0x10", "type": "u16", "scale": 0.1, "unit": "V", "note": "N"},
            {"name": "current", "address": "0x11", "type": "s32", "unit": "mA"},
            {"name": "power", "address": "0x13", "type": "s16", "unit": "kW", "scale": 0.01},
            {"name": "energy_export", "address": "0x16", "unit": "MWh"},
        ],
    }
    jsonschema.validate(document, resources.schema("map"))
    made = maps.compact("t", document)
    assert made["rows"].splitlines() == [
        "voltage 2 16 H 0.1",
        "current 0 17 i 0.001",
        "power 0 19 h 10",
        "energy_import 0 20 f *0.1",
        "energy_export 0 22 f 1000000",
    ]
    assert made["settings"] == [{"name": "energy_unit", "address": 10, "type": "f", "units": [[1, 1], [3, 1000000]]}]
    assert made["name"] == "t" and not {"title", "source"} & set(made)
    assert maps.names(made) == {"voltage", "current", "power", "energy_import", "energy_export"}


def test_unknown_map_is_said(tmp_path: Path) -> None:
    profile = json.loads((MAPS.parent / "profiles" / "sdm120.json").read_text("utf-8"))
    profile["meters"][0]["modbus"]["map"] = "sdm12O"
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(profile))
    with pytest.raises(GridnodeError) as caught:
        resources.profile(str(path))
    assert caught.value.exit == Exit.USAGE
    assert "sdm12O" in caught.value.cause and "sdm120" in caught.value.action


def test_own_map_lies_beside_the_profile(tmp_path: Path) -> None:
    profile = json.loads((MAPS.parent / "profiles" / "sdm120.json").read_text("utf-8"))
    profile["meters"][0]["modbus"]["map"] = "mine-map.json"
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(profile))
    with pytest.raises(GridnodeError, match=r"mine-map\.json"):
        resources.profile(str(path))
    chart = load("sdm120")
    (tmp_path / "mine-map.json").write_text(json.dumps(chart))
    carried = resources.profile(str(path))["meters"][0]["modbus"]["map"]
    assert carried == resources.modbus_map("sdm120") | {"name": "mine-map"}
    chart["rows"][0]["address"] = "4"
    (tmp_path / "mine-map.json").write_text(json.dumps(chart))
    with pytest.raises(GridnodeError, match="address"):
        resources.profile(str(path))
