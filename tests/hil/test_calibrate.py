"""`gridnode calibrate` as a technician runs it, on a node that runs the real firmware.

Reference meter and source are those of the bench, on real sockets; time stands between the calls
of the node.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gridnode_host import resources
from gridnode_host.bench.instruments import Instruments
from gridnode_host.bench.solo import Solo
from gridnode_host.bench.tolerance import Tolerance

LOAD = "source = {voltage = 230, current = 30, phase_deg = 0}"
STEPS = f"""
[[step]]
step = "verify"
{LOAD}
[[step]]
step = "offset"
source = {{current = 0}}
[[step]]
step = "gain"
{LOAD}
[[step]]
step = "phase"
[[step]]
step = "verify"
source = {{current = 25, phase_deg = 60}}
"""
TYPED = f"""
[[step]]
step = "gain"
{LOAD}
reference = {{voltage = 230.0, current = 3.00}}
"""


@pytest.fixture(scope="module")
def solo() -> Iterator[Solo]:
    """A node as the factory builds it: gains off by up to 8 %, angles by up to 5 degrees."""
    profile = resources.profile("home-60a-ct")
    with Solo(
        profile, interval_s=10, ideal=False, seed=4, tolerance=Tolerance.WIDE, calibrated=False
    ) as bench:
        bench.start()
        assert any(event["event"] == "report" for event in bench.events())
        bench.link.close()
        yield bench


@pytest.fixture(scope="module")
def instruments(solo: Solo) -> Instruments:
    return solo.instruments()


def plan(folder: Path, instruments: Instruments, steps: str) -> str:
    text = f"""
operator = "J. Doe"
certificate = "node.html"
[reference]
kind = "modbus"
url = "{instruments.modbus_url}"
map = "{instruments.modbus_map}"
uncertainty_percent = {{voltage = 0.02, current = 0.02, power = 0.04}}
[source]
kind = "scpi"
resource = "{instruments.resource}"
settle_s = 0
commands = {{voltage = "SOUR:VOLT{{phase}} {{value}}", current = "SOUR:CURR{{phase}} {{value}}", phase_deg = "SOUR:PHAS{{phase}} {{value}}", level_mv = "SOUR:DC 35,{{value}}"}}
sweep_end = ["SOUR:DC 35,OFF"]
{steps}"""  # noqa: E501
    (folder / "plan.toml").write_text(text)
    return str(folder / "plan.toml")


def command(solo: Solo, *arguments: str) -> list[str]:
    return [
        sys.executable, "-m", "gridnode_host", "calibrate", "--json", "--port", solo.node.port,
        *arguments,
    ]  # fmt: skip


def gridnode(solo: Solo, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        command(solo, *arguments), capture_output=True, text=True, timeout=90, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def in_force(solo: Solo) -> dict[str, Any]:
    code, events = gridnode(solo, "show")
    assert code == 0, events
    return next(event for event in events if event["event"] == "calibration")


def test_a_plan_calibrates_the_node_and_gives_its_certificate(
    solo: Solo, instruments: Instruments, tmp_path: Path
) -> None:
    code, events = gridnode(solo, "--plan", plan(tmp_path, instruments, STEPS))
    assert code == 0, events[-1]
    results = [event["records"][0] for event in events if event["event"] == "result"]
    as_found, _, gain, phase, as_left = (record["after_percent"] for record in results)
    assert abs(as_found["voltage"]) > 0.5 or abs(as_found["current"]) > 0.5
    assert abs(gain["voltage"]) < 0.1 and abs(gain["current"]) < 0.1
    assert abs(phase["angle"]) < 0.1
    assert abs(as_left["current"]) < 0.3 and abs(as_left["power"]) < 1.0  # at power factor 0.5
    document = json.loads((tmp_path / "node.json").read_text())
    assert document["verdict"]["result"] == "pass"
    assert document["steps"][2]["reference"]["voltage"]["1"]["samples"] >= 2
    shown = in_force(solo)
    assert shown["calibration"]["generation"] == document["node"]["generation"]
    assert shown["calibration"]["operator"] == "J. Doe"
    assert {record["step"] for record in shown["records"]} >= {"gain", "phase", "verify"}


def test_a_wrong_decimal_stores_nothing(
    solo: Solo, instruments: Instruments, tmp_path: Path
) -> None:
    before = in_force(solo)
    code, events = gridnode(solo, "--plan", plan(tmp_path, instruments, TYPED))
    assert code == 7, events
    last = events[-1]
    assert last.get("condition") == "reference", last
    assert last["measured"] > last["limit"]
    assert in_force(solo) == before


def test_ctrl_c_leaves_the_former_calibration_and_a_running_node(
    solo: Solo, instruments: Instruments, tmp_path: Path
) -> None:
    before = in_force(solo)
    many = plan(tmp_path, instruments, f'[[step]]\nstep = "gain"\n{LOAD}\n' * 50)
    process = subprocess.Popen(
        command(solo, "--plan", many), stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout
    for line in process.stdout:
        if '"result"' in line:
            break
    time.sleep(0.3)  # in the middle of the next step
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=30)[0].splitlines()
    assert process.returncode == 130
    assert json.loads(rest[-1])["event"] == "abandoned"
    assert in_force(solo) == before


def test_a_node_without_power_in_the_middle_comes_back_as_it_was(
    solo: Solo, instruments: Instruments, tmp_path: Path
) -> None:
    before = in_force(solo)
    many = plan(tmp_path, instruments, f'[[step]]\nstep = "gain"\n{LOAD}\n' * 50)
    process = subprocess.Popen(command(solo, "--plan", many), stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if '"result"' in line:
            break
    solo.node.power_off()
    rest = process.communicate(timeout=90)[0].splitlines()
    solo.node.power_on()
    assert process.returncode == 3
    assert "former calibration is still in force" in json.loads(rest[-1])["cause"]
    assert in_force(solo) == before


def test_a_swept_source_straightens_the_converter(
    solo: Solo, instruments: Instruments, tmp_path: Path
) -> None:
    """The table of the node's own converter, unlike a typical one, and a gain step right after it."""
    steps = f"""
[[step]]
step = "linearity"
sweep = {{low = 200, high = 2400, levels = 23}}
[[step]]
step = "gain"
{LOAD}
"""
    code, events = gridnode(solo, "--plan", plan(tmp_path, instruments, steps))
    assert code == 0, events[-1]
    swept, gain = (event["records"][0] for event in events if event["event"] == "result")
    before, after = (swept[key]["nonlinearity"] for key in ("before_percent", "after_percent"))
    assert after < 0.05 and after < before, swept  # before: 8 %, or 0.05 % with the table of a former gain step
    assert swept["instrument"].startswith("Gridnode"), swept
    assert abs(gain["after_percent"]["voltage"]) < 0.1  # the pin was given back
    table = in_force(solo)["calibration"]["meters"]["main"]["adc_table"]
    assert len(table) == 129
    code, events = gridnode(
        solo,
        "--plan",
        plan(tmp_path, instruments, steps.replace("high = 2400", "high = 3200")),
    )
    assert code == 7, "a level beyond the converter"
    assert in_force(solo)["calibration"]["meters"]["main"]["adc_table"] == table
