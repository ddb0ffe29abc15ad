"""The report's schema and the firmware's table of names say the same."""

from __future__ import annotations

import ast
from typing import Any

import jsonschema
import pytest
from gridnode_host import resources

_LEDGER = {"energy_import_wh", "energy_export_wh", "energy_resets"}
_SPECTRA = {"harmonics_voltage", "harmonics_current"}


def _table(name: str) -> Any:
    """A table of the firmware's reading.py, whose constants may be built of one another."""
    root = resources.checkout()
    assert root is not None
    found: dict[str, Any] = {"const": lambda value: value}
    for node in ast.parse((root / "firmware/gridnode/reading.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign):
            exec(ast.unparse(node), found)
    return found[name]


def _report(**more: Any) -> dict[str, Any]:
    return {
        "timestamp": 1800000000,
        "seq": 1,
        "anomaly": {"grade": 0.0, "alarm": False},
        "node": {"firmware": "0", "uptime": 1, "reset_cause": "power_on", "free_memory": 1},
        **more,
    }


def test_every_name_of_the_firmware_is_in_the_schema() -> None:
    values = set(resources.schema("report")["$defs"]["values"]["properties"])
    assert values == {*_table("PHASE"), *_table("ONCE")} | _LEDGER | _SPECTRA


def test_short_names_of_signals_are_unique() -> None:
    shorts = list(_table("PHASE").values())
    assert len(shorts) == len(set(shorts))
    assert not set(shorts) & {*_table("PHASE"), *_table("ONCE")}


@pytest.mark.parametrize(
    "more",
    [
        {"voltage": 230.1, "harmonics_current": [1.0, 20.5], "flags": ["sag_v1"], "energy_resets": 2},
        {"l1": {"voltage": 230.0, "phase_angle": -30.0}, "l2": None},
        {"meters": {"air": {"temperature": 20.0, "quality": {"humidity": "stale"}}, "gone": None}},
        {"anomaly": {"grade": 1, "alarm": True, "model": "guarded", "faults": {"overload": 0.7, "gone": None}}},
        {"detector": {"state": "off", "reason": "it needs 60 KB of memory, 14 KB are free"}},
    ],
)
def test_what_a_node_may_say(more: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(resources.schema("report")).validate(_report(**more))


@pytest.mark.parametrize(
    "more",
    [
        {"volts": 230.1},
        {"voltage": "230"},
        {"l1": {"volts": 230.1}},
        {"meters": {"air": {"degrees": 20.0}}},
        {"harmonics_current": [-1.0]},
        {"quality": {"voltage": "bad"}},
        {"anomaly": {"grade": 1, "alarm": True, "model": "asleep"}},
        {"detector": {"rows": 5}},
    ],
)
def test_what_a_node_may_not_say(more: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(resources.schema("report")).validate(_report(**more))
