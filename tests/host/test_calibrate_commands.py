"""`gridnode calibrate` on the command line: help, options, exit codes, and the orders apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import command_line
import pytest
from command_line import events
from fake_calibration import CalibratingNode
from gridnode_host.calibrate import orders
from gridnode_host.errors import Exit, GridnodeError
from test_calibrate_run import TYPED


def gridnode(*arguments: str) -> tuple[int, str, str]:
    return command_line.gridnode("calibrate", *arguments)


def test_the_help_of_gridnode_loads_nothing_heavy() -> None:
    code = """
import sys
from gridnode_host import cli
from typer.testing import CliRunner
assert CliRunner().invoke(cli.app, ["--help"]).exit_code == 0
print([name for name in ("pyvisa", "pymodbus", "matplotlib", "jinja2", "numpy", "serial", "jsonschema") if name in sys.modules])
"""  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["no-such-order"],
        ["show"],
        ["restore", "--port", "x"],
        ["restore", "yesterday", "--port", "x"],
        ["set", "--port", "x"],
        ["set", "fly", "1", "--port", "x"],
        ["set", "ct_ratio", "--port", "x"],
        ["set", "ct_ratio", "many", "--port", "x"],
        ["set", "ct_ratio", "2000", "--phase", "4", "--port", "x"],
        ["--plan", "/no/such/plan.toml", "--port", "x"],
        ["--dry-run", "--port", "x"],
        ["--json", "--port", "x"],
        ["verify-certificate", "/no/such/file.json"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    code, out, err = gridnode(*arguments)
    assert code == Exit.USAGE, out + err
    assert err or out


@pytest.mark.parametrize("before", [True, False])
def test_the_port_stands_in_front_or_behind(before: bool) -> None:
    with CalibratingNode() as node:
        port = ["--port", node.port]
        code, out, err = gridnode(*(port if before else []), "show", *([] if before else port))
    assert code == 0, err
    assert node.orders[0] == ("show", {})
    assert [request["from"] for request in node.requests("records")] == [0, 4, 6]
    assert "generation 7 of 2026-11-25 by jd" in out
    assert "generations kept: 6, 7; the factory set is kept" in out
    assert "current 1: gain 0.98, curve of 1 points" in out
    assert "gain of main L1, 2026-11-25: error current +0.020" in out
    assert "ct_ratio of main L1, 2026-11-25: value 2000" in out


def test_json_in_front_goes_to_the_sub_command() -> None:
    with CalibratingNode() as node:
        code, out, _ = gridnode("--json", "--port", node.port, "show")
    assert code == 0
    *_, shown, done = events(out)
    assert shown["event"] == "calibration"
    assert shown["calibration"]["generation"] == 7
    assert len(shown["records"]) == 6
    assert done["event"] == "done"


def test_damaged_records_are_told_and_the_values_shown_all_the_same() -> None:
    told = "the records of generation 7 are damaged or gone"
    for as_json in (["--json"], []):
        with CalibratingNode() as node:
            node.refusals["records"] = [{"code": "storage", "message": told}]
            code, out, err = gridnode("show", "--port", node.port, *as_json)
        assert code == 0, err
        assert told in out
        if as_json:
            assert [e["calibration"]["generation"] for e in events(out) if e["event"] == "calibration"] == [7]


def test_a_node_without_a_calibration_is_told() -> None:
    lines = orders.described({"calibration": None, "generations": [], "factory": False})
    assert "design values" in lines[0]
    assert "is not there" in lines[1]


def test_restore_asks_for_what_is_named() -> None:
    with CalibratingNode() as node:
        code, out, err = gridnode("restore", "previous", "--port", node.port, "--json")
        assert code == 0, err
        assert gridnode("restore", "factory", "--dry-run", "--port", node.port)[0] == 0
    assert node.orders == [("restore", {"to": "previous"})]
    assert events(out)[-1]["generation"] == 6


def test_a_restore_that_is_refused_ends_with_7() -> None:
    with CalibratingNode() as node:
        node.refusals["restore"] = [{"code": "storage", "message": "this node has no factory set"}]
        code, _, err = gridnode("restore", "factory", "--port", node.port)
    assert code == Exit.REFUSED
    assert "no factory set" in err


def test_check_tells_evidence_and_the_command_that_does_it() -> None:
    with CalibratingNode(phases=3) as node:
        node.suggestions = [
            {
                "check": "ct_reversed",
                "meter": "main",
                "phase": 2,
                "evidence": "L2 takes -1200 W for 10 s on a node that never exports",
                "command": {"command": "ct_direction", "phase": 2, "value": -1},
            },
            {"check": "dead_input", "meter": "main", "phase": 3, "evidence": "0 A", "command": None},
        ]
        code, out, err = gridnode("check", "--port", node.port)
        node.suggestions = []
        assert gridnode("check", "--port", node.port)[1].count("nothing to suggest") == 1
    assert code == 0, err
    assert "L2 takes -1200 W" in out
    assert f"gridnode calibrate set ct_direction reversed --phase 2 --port {node.port}" in out
    assert "dead_input  meter main, phase 3: 0 A" in out
    assert out.rstrip().endswith("2 suggestions")


@pytest.mark.parametrize(
    ("arguments", "command", "phase", "value"),
    [
        (["ct_ratio", "2000", "--phase", "1"], "ct_ratio", 1, 2000.0),
        (["ct-ratio", "2000"], "ct_ratio", None, 2000.0),
        (["ct_direction", "reversed"], "ct_direction", None, -1),
        (["ct_direction", "-1", "--phase", "2"], "ct_direction", 2, -1),
        (["ct_direction", "normal"], "ct_direction", None, 1),
        (["phase_swap", "3", "--phase", "2"], "phase_swap", 2, 3),
        (["nominal", "voltage=120", "frequency=60"], "nominal", None, {"voltage": 120, "frequency": 60}),
        (["energy_preset", "import_wh=1234567"], "energy_preset", None, {"import_wh": 1234567}),
    ],
)
def test_field_commands_reach_the_node(
    arguments: list[str], command: str, phase: int | None, value: Any
) -> None:
    with CalibratingNode(phases=3) as node:
        code, out, err = gridnode("set", *arguments, "--operator", "jd", "--port", node.port)
    assert code == 0, err
    [(_, request)] = node.orders
    assert (request["command"], request["phase"], request["value"]) == (command, phase, value)
    assert (request["operator"], request["meter"]) == ("jd", None)
    assert request["date"] > 1_700_000_000
    assert "generation 8 is in force" in out


@pytest.mark.parametrize(
    ("command", "values", "phase"),
    [
        ("ct_direction", ["sideways"], 1),
        ("ct_ratio", ["1", "2"], 1),
        ("phase_swap", ["2"], None),
        ("phase_swap", ["2"], 2),
        ("phase_swap", ["1.5"], 2),
        ("nominal", ["230"], None),
        ("nominal", ["volts=230"], None),
        ("nominal", ["voltage=230", "voltage=231"], None),
        ("nominal", [], None),
        ("energy_preset", ["import_wh=x"], None),
    ],
)
def test_values_that_cannot_be_say_what_to_write(
    command: str, values: list[str], phase: int | None
) -> None:
    with pytest.raises(GridnodeError) as failure:
        orders.parse(command, values, phase)
    assert failure.value.exit == Exit.USAGE
    assert f"gridnode calibrate set {command}" in failure.value.action


def test_a_plan_runs_and_its_certificate_verifies(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(TYPED)
    page = tmp_path / "meter-1.html"
    plan = ["--plan", str(tmp_path / "plan.toml"), "--certificate", str(page)]
    with CalibratingNode() as node:
        code, out, err = gridnode(*plan, "--dry-run", "--json")
        assert code == 0, err
        assert [event["event"] for event in events(out)] == ["plan"] * 7 + ["done"]
        assert node.received == b""
        code, out, err = gridnode(
            *plan, "--port", node.port, "--operator", "K. Roe", "--factory", "--json"
        )
    assert code == 0, err
    assert node.requests("begin")[0]["operator"] == "K. Roe"
    assert node.requests("commit") == [{"factory": True}]
    [written] = [event for event in events(out) if event["event"] == "certificate"]
    assert written["path"] == str(page)
    code, out, _ = gridnode("verify-certificate", written["json"], "--json")
    assert code == 0
    assert events(out)[-1]["sha256"] == written["sha256"]

    text = Path(written["json"]).read_text()
    Path(written["json"]).write_text(text.replace("K. Roe", "J. Doe"))
    code, out, _ = gridnode("verify-certificate", written["json"], "--json")
    assert code == Exit.VERIFY
    last = events(out)[-1]
    assert last["event"] == "error"
    assert last["stated"] == written["sha256"] != last["sha256"]


def test_a_refusal_has_its_number_and_limit_in_the_json_and_in_the_text(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(TYPED)
    refusal = {
        "code": "condition", "message": "load current 0.6 A is below 3 A, 5 % of the rating",
        "condition": "current", "measured": 0.6, "limit": 3.0,
    }  # fmt: skip
    for as_json in (["--json"], []):
        with CalibratingNode() as node:
            node.refusals["measure"] = [dict(refusal)]
            plan = ["--plan", str(tmp_path / "plan.toml"), "--port", node.port]
            code, out, err = gridnode(*plan, *as_json)
        assert code == Exit.REFUSED
        if as_json:
            last = events(out)[-1]
            assert (last["event"], last["exit"], last["code"]) == ("error", 7, "condition")
            assert (last["condition"], last["measured"], last["limit"]) == ("current", 0.6, 3.0)
        else:
            assert "load current 0.6 A is below 3 A" in err
            assert "nothing was stored: the former calibration is still in force" in out
