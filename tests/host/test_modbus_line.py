"""The firmware's Modbus drivers against the meters' models, on a node alone: what it reports is what flows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from gridnode_host import resources
from gridnode_host.bench.solo import Solo

SECONDS = 20
RISH_ENERGY_UNIT = 0x04
RISH_SYSTEM = 0x0A


def solo(name: str, **modbus: Any) -> Solo:
    profile = json.loads(json.dumps(resources.profile(name))) | {"row_s": 1}
    profile["meters"][0]["modbus"] |= modbus
    return Solo(profile, interval_s=2)


def run(bench: Solo, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Reports of the first `seconds`."""
    found: list[dict[str, Any]] = []
    bench.circuit.set(voltage=230.0, current=12.5, phase_deg=25.0, frequency=50.0)
    bench.start()
    for report in bench.reports(bench.clock.now() + seconds):
        found.append(report)
    return found


@pytest.mark.parametrize(
    ("name", "step_wh"), [("rish-3430", 1), ("sdm630", 30), ("sdm120", 1), ("pzem-100a", 1)]
)
def test_reports_what_flows(name: str, step_wh: float) -> None:
    with solo(name) as bench:
        reports = run(bench)
        truth = bench.circuit.truth()
    last = reports[-1]
    assert last.get("quality") is None
    for key, tolerance in (
        ("voltage", 0.1),
        ("current", 0.01),
        ("power", 0.5),
        ("frequency", 0.05),
    ):
        assert last[key] == pytest.approx(truth[key], abs=tolerance), key
    if name != "pzem-100a":
        assert last["reactive_power"] == pytest.approx(truth["reactive_power"], abs=0.5)
        assert last["phase_angle"] == pytest.approx(25.0, abs=0.1)
        assert last["power_demand"] > 0 and last["reactive_energy_import_varh"] >= 0
    whole = [report for report in reports if report.get("power") and not report.get("quality")]
    hours = (whole[-1]["timestamp"] - whole[1]["timestamp"]) / 3600
    counted = whole[-1]["energy_import_wh"] - whole[1]["energy_import_wh"]
    # one count at either end, and one reading's delay
    assert counted == pytest.approx(
        truth["power"] * hours, abs=2 * step_wh + truth["power"] * 3 / 3600
    )


@pytest.mark.parametrize(("setting", "wh"), [(2.0, 1e3), (3.0, 1e6)])
def test_energy_comes_in_the_unit_that_the_meter_is_set_to(setting: float, wh: float) -> None:
    with solo("rish-3430") as bench:
        meter = bench.node.chip()
        meter.settings[RISH_ENERGY_UNIT] = setting
        meter.energies.e_import[:] = 5 * wh
        last = run(bench)[-1]
        truth = bench.circuit.truth()
    # steps of 1 Wh stay visible as fractions of the unit, as far as a float32 of 24 bits has them
    assert last["energy_import_wh"] == pytest.approx(truth["power"] * SECONDS / 3600, abs=25)
    assert last["energy_import_wh"] > 0


def test_other_word_order() -> None:
    with solo("rish-3430", word_order="CDAB") as bench:
        bench.node.chip().least_first = True
        last = run(bench, 8)[-1]
    assert last["voltage"] == pytest.approx(230.0, abs=0.1) and last.get("quality") is None


def _two_wire(meter: Any) -> None:
    meter.settings[RISH_SYSTEM] = 2.0


def _swap(meter: Any) -> None:
    meter.least_first = True


@pytest.mark.parametrize("break_it", [_two_wire, _swap])
def test_wrong_settings_of_the_meter_are_no_values(break_it: Callable[[Any], None]) -> None:
    with solo("rish-3430") as bench:
        break_it(bench.node.chip())
        last = run(bench, 8)[-1]
    assert last.get("voltage") is None and last["quality"]["v1"] == "bus_fault"


def test_a_dead_meter_does_not_take_the_line() -> None:
    with solo("panel-rs485") as bench:
        bench.node.fault("bus_silent", meter="feeder")
        reports = run(bench)
        asked = bench.node.chip("main").requests
        truth = bench.circuit.truth()
    last = reports[-1]
    assert last["power"] == pytest.approx(truth["power"], abs=0.5) and last.get("quality") is None
    assert set(last["meters"]["feeder"]["quality"].values()) == {"bus_fault"}
    assert asked > 4 * SECONDS / 2.5, "a reading of the other every 2.5 s at the least"


def test_a_meter_that_was_away_comes_back_with_its_energy() -> None:
    with solo("pzem-100a") as bench:
        bench.circuit.set(voltage=230.0, current=50.0)
        bench.start()
        began = bench.clock.now()
        before: dict[str, Any] = {}
        away: dict[str, Any] = {}
        for report in bench.reports(began + 40):
            if not before and report["timestamp"] >= began + 6:
                before = report
                bench.node.fault("bus_absent")
            elif report["timestamp"] >= began + 18 and not away:
                away = report
                bench.node.clear("bus_absent")
        after = report
        truth = bench.circuit.truth()
    assert away["voltage"] is None and away["energy_import_wh"] == pytest.approx(
        before["energy_import_wh"], abs=4
    )
    hours = (after["timestamp"] - before["timestamp"]) / 3600
    counted = after["energy_import_wh"] - before["energy_import_wh"]
    assert counted == pytest.approx(truth["power"] * hours, abs=2 + truth["power"] * 3 / 3600)
