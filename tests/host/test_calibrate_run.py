"""A calibration by a plan: what the node is asked, what is refused, and what is in force after."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_calibration import CalibratingNode
from gridnode_host.calibrate import certificate, plan, run
from gridnode_host.calibrate.session import STILL
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output
from instrument_peers import ScpiPeer

TYPED = """
[[step]]
step = "verify"
reference = {voltage = 230.0, current = 30.00, power = 6900.0}
[[step]]
step = "gain"
reference = {voltage = 230.0, current = 30.00}
uncertainty_percent = {voltage = 0.02, current = 0.03}
instrument = "Fluke 6105A s/n 123"
[[step]]
step = "phase"
reference = {phase_deg = 0}
[[step]]
step = "power"
reference = {power = 6900.0}
[[step]]
step = "verify"
reference = {voltage = 230.0, current = 30.00, power = 6900.0}
uncertainty_percent = {voltage = 0.02, current = 0.03, power = 0.05}
"""

BENCH = """
operator = "J. Doe"
[reference]
kind = "scpi"
resource = "RESOURCE"
timeout_s = 1
uncertainty_percent = {voltage = 0.02, current = 0.02, power = 0.04}
queries = {voltage = "MEAS:VOLT{phase}?", current = "MEAS:CURR{phase}?", power = "MEAS:POW{phase}?", reactive_power = "MEAS:REAC{phase}?"}
[source]
kind = "scpi"
resource = "RESOURCE"
settle_s = 0
commands = {voltage = "SOUR:VOLT{phase} {value}", current = "SOUR:CURR{phase} {value}", phase_deg = "SOUR:PHAS{phase} {value}"}
end = ["SOUR:CURR1 0"]
"""  # noqa: E501


def carry_out(node: CalibratingNode, text: str, folder: Path = Path()) -> None:
    run.run(node.port, plan.parse(text.encode(), folder), Output(as_json=True))


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refused(node: CalibratingNode, text: str) -> GridnodeError:
    with pytest.raises(GridnodeError) as failure:
        carry_out(node, text)
    return failure.value


class Bench(ScpiPeer):
    """An instrument that sets the load of a node and tells the truth of it."""

    def __init__(self, node: CalibratingNode) -> None:
        super().__init__()
        self.node = node
        self.drift = 0.0  # share by which each answer is larger than the one before
        self.overrange = False
        self._asked = 0

    def answer(self, text: str) -> str | None:
        """Take a command; returns the answer to a query."""
        load = self.node.load
        head, _, value = text.partition(" ")
        k = int(head.rstrip("?")[-1]) - 1 if head.rstrip("?")[-1].isdigit() else 0
        name = {"VOLT": "voltage", "CURR": "current", "PHAS": "phase_deg"}.get(head[5:9])
        if head == "SOUR:DC":
            self.node.pin = value
        elif head.startswith("SOUR:"):
            assert name
            load[name][k] = float(value)
        if not head.startswith("MEAS:"):
            return super().answer(text)
        self.received.append(text)
        if self.overrange:
            return "9.9E37"
        v, i = load["voltage"][k], load["current"][k]
        angle = math.radians(load["phase_deg"][k])
        found = {
            "VOLT": v, "CURR": i, "POW": v * i * math.cos(angle), "REAC": v * i * math.sin(angle)
        }  # fmt: skip
        self._asked += 1
        return f"{found[head[5:].rstrip('123?')] * (1 + self.drift * self._asked):.8E}"


def bench_plan(peer: ScpiPeer, steps: str) -> str:
    return BENCH.replace("RESOURCE", peer.resource) + steps


def test_typed_values_calibrate_a_node(capsys: pytest.CaptureFixture[str]) -> None:
    with CalibratingNode() as node:
        carry_out(node, TYPED)
    assert node.generation == 8
    assert node.in_force["voltage"][0] == pytest.approx(1 / 0.97)
    assert node.in_force["lead"][0] == pytest.approx(1.5)
    assert node.names()[:3] == ["begin", "measure", "apply"]
    assert node.names()[-1] == "commit"
    as_found, gain, *_, as_left = node.requests("apply")
    assert as_found["as_found"] and not as_left["as_found"]
    assert gain == {
        "step": "gain",
        "meter": "main",
        "phase": None,
        "reference": {"voltage": 230.0, "current": 30.0},
        "uncertainty_percent": {"voltage": 0.02, "current": 0.03},
        "instrument": "Fluke 6105A s/n 123",
        "as_found": False,
    }
    told = events(capsys)
    results = [event for event in told if event["event"] == "result"]
    assert [event["step"] for event in results] == ["verify", "gain", "phase", "power", "verify"]
    assert results[1]["records"][0]["before_percent"]["voltage"] == pytest.approx(-3.0)
    [committed] = [event for event in told if event["event"] == "committed"]
    assert committed["generation"] == 8
    assert told[-1]["event"] == "done"
    assert (told[-1]["steps"], told[-1]["prompts"]) == (3, 0)
    # verify measures 3 windows, the others 5 and 2 of proof, each of 2 s
    assert told[-1]["measuring_s"] == 2 * 6 + 3 * 14
    assert told[-1]["verdict"] == "pass"


def test_an_instrument_sets_the_load_and_tells_the_truth(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    steps = """
    [[step]]
    step = "verify"
    source = {voltage = 230, current = 30, phase_deg = 0}
    [[step]]
    step = "offset"
    source = {current = 0}
    [[step]]
    step = "gain"
    source = {current = [20, 30, 40]}
    [[step]]
    step = "phase"
    [[step]]
    step = "verify"
    phase = 2
    source = {phase_deg = 60}
    [[step]]
    step = "verify"
    source = {phase_deg = 0}
    """
    with CalibratingNode(phases=3) as node, Bench(node) as peer:
        node.measure_s = 0.6  # long enough for samples in between
        text = "certificate = 'c.html'\n" + bench_plan(peer, steps)
        carry_out(node, text, tmp_path)
        asked = [text for text in peer.received if text.startswith("MEAS:VOLT")]
    verify, _, gain, phase, one, _ = node.requests("apply")
    assert verify["reference"] == {
        "voltage": [230.0] * 3,
        "current": [30.0] * 3,
        "power": [pytest.approx(6900.0)] * 3,
        "phase_deg": [pytest.approx(0.0)] * 3,
    }
    assert gain["reference"] == {"voltage": [230.0] * 3, "current": [20.0, 30.0, 40.0]}
    assert gain["instrument"] == "Bench Reference 3 s/n 1234"
    assert set(phase["reference"]) == {"phase_deg"}
    assert phase["uncertainty_percent"] == {"power": 0.04}
    assert one["phase"] == 2
    assert [request["phase"] for request in node.requests("measure")] == [None] * 4 + [2, None]
    assert one["reference"]["phase_deg"] == pytest.approx(60.0)
    assert one["reference"]["power"] == pytest.approx(230 * 30 * 0.5)
    assert node.load["current"][0] == 0.0  # [source] end
    assert len(asked) > 4 * 3 * 3  # more than before and after each of the four steps with V
    document = json.loads((tmp_path / "c.json").read_text())
    means = document["steps"][0]["reference"]["voltage"]["1"]
    assert means["samples"] >= 3
    assert document["operator"] == "J. Doe"
    assert certificate.verify(tmp_path / "c.json").matches
    assert events(capsys)[-1]["verdict"] == "pass"


SWEEP = """
[[step]]
step = "linearity"
settle_s = 0
sweep = {low = 200, high = 2400, levels = 12}
"""


def swept_plan(peer: ScpiPeer, steps: str) -> str:
    text = bench_plan(peer, steps)
    return text.replace(
        "commands = {", "sweep_end = ['SOUR:DC 36,OFF']\ncommands = {level_mv = 'SOUR:DC 36,{value}', "
    )


def test_a_sweep_puts_each_level_on_the_pin_and_gives_it_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with CalibratingNode() as node, Bench(node) as peer:
        text = "certificate = 'c.html'\n" + swept_plan(peer, SWEEP)
        carry_out(node, text, tmp_path)
    assert node.taken == [(f"36,{200 + 200 * k}", 200.0 + 200 * k) for k in range(12)]
    assert node.pin == "36,OFF"
    [applied] = node.requests("apply")
    assert (applied["step"], applied["reference"]) == ("linearity", {})
    assert applied["instrument"] == "Bench Reference 3 s/n 1234"
    assert node.names()[-1] == "commit"
    assert certificate.verify(tmp_path / "c.html").matches
    assert events(capsys)[-1]["event"] == "done"


def test_a_level_that_is_refused_gives_the_pin_back() -> None:
    message = "the pin is 900 mV off the level that was told, allowed are 350 mV"
    with CalibratingNode() as node, Bench(node) as peer:
        node.refusals["measure"] = [{"code": "condition", "message": message}]
        error = refused(node, swept_plan(peer, SWEEP))
    assert error.exit == Exit.REFUSED
    assert message in error.cause
    assert node.pin == "36,OFF"
    assert "commit" not in node.names()


def test_a_phase_without_load_is_left_out_of_the_reference() -> None:
    steps = "[[step]]\nstep = 'gain'\nsource = {voltage = 230, current = [30, 0, 30]}"
    with CalibratingNode(phases=3) as node, Bench(node) as peer:
        carry_out(node, bench_plan(peer, steps))
    [gain] = node.requests("apply")
    assert gain["reference"] == {"voltage": [230.0] * 3, "current": [30.0, None, 30.0]}


def test_without_any_load_there_is_nothing_to_apply() -> None:
    steps = "[[step]]\nstep = 'power'\nsource = {voltage = 230, current = 0}"
    with CalibratingNode() as node, Bench(node) as peer:
        err = refused(node, bench_plan(peer, steps))
    assert err.exit == Exit.REFUSED
    assert "sees no load" in err.cause
    assert "apply" not in node.names()


@pytest.mark.parametrize(
    ("change", "condition"),
    [({"drift": 0.01}, "reference_steady"), ({"overrange": True}, "reference_value")],
)
def test_a_reference_that_moves_or_fails_stores_nothing(
    change: dict[str, Any], condition: str, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = "[[step]]\nstep = 'gain'\nsource = {voltage = 230, current = 30}"
    with CalibratingNode() as node, Bench(node) as peer:
        vars(peer).update(change)
        err = refused(node, bench_plan(peer, steps))
    assert err.exit == Exit.REFUSED
    assert err.fields["condition"] == condition
    assert node.names()[-1] == "abandon"
    assert "apply" not in node.names()
    assert node.generation == 7
    assert events(capsys)[-1] == {"v": 1, "event": "abandoned", "generation": 7}


def condition(**changes: Any) -> dict[str, Any]:
    return {
        "code": "condition",
        "message": "load current 0.6 A is below 2.4 A",
        "condition": "current",
        "measured": 0.6,
        "limit": 2.4,
        **changes,
    }


@pytest.mark.parametrize("order", ["measure", "apply", "commit"])
def test_a_refusal_ends_the_run_with_its_number_and_limit(
    order: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with CalibratingNode() as node:
        node.refusals[order] = [condition()]
        err = refused(node, TYPED)
        Output(as_json=True).fail(err)
    assert err.exit == Exit.REFUSED
    assert "0.6" in err.cause and "2.4" in err.cause
    assert node.generation == 7
    assert node.names()[-1] == "abandon"
    *_, abandoned, last = events(capsys)
    assert abandoned["event"] == "abandoned"
    assert (last["condition"], last["measured"], last["limit"], last["exit"]) == (
        "current",
        0.6,
        2.4,
        7,
    )


def test_an_optional_step_may_be_refused(capsys: pytest.CaptureFixture[str]) -> None:
    text = TYPED.replace('step = "phase"\n', 'step = "phase"\noptional = true\n')
    with CalibratingNode() as node:
        node.refusals["phase"] = [condition(condition="angle")]
        carry_out(node, text)
    assert node.generation == 8
    assert node.in_force["lead"][0] == 0.0
    [event] = [event for event in events(capsys) if event["event"] == "refused"]
    assert (event["step"], event["condition"], event["limit"]) == ("phase", "angle", 2.4)


def test_a_wrong_decimal_in_the_plan_is_refused_by_the_node() -> None:
    with CalibratingNode() as node:
        err = refused(node, TYPED.replace("current = 30.00", "current = 3.000"))
    assert err.exit == Exit.REFUSED
    assert err.fields["condition"] == "reference"
    assert err.fields["limit"] == 20
    assert node.generation == 7


@pytest.mark.parametrize("order", ["begin", "measure", "apply", "gain"])
def test_a_node_that_is_unplugged_keeps_its_calibration(order: str) -> None:
    with CalibratingNode() as node:
        node.unplug_at = order
        started = time.monotonic()
        err = refused(node, TYPED)
        assert time.monotonic() - started < 10
    assert err.exit == Exit.NO_NODE
    if order != "begin":
        assert f"Nothing was stored: {STILL}" in err.cause
    assert node.generation == 7


def test_unplugged_at_the_commit_nobody_claims_to_know(capsys: pytest.CaptureFixture[str]) -> None:
    with CalibratingNode() as node:
        node.unplug_at = "commit"
        err = refused(node, TYPED)
    assert err.exit == Exit.NO_NODE
    assert "not known" in err.cause
    assert "calibrate show" in err.action
    assert STILL not in err.cause
    assert "abandoned" not in [event["event"] for event in events(capsys)]


@pytest.mark.parametrize("order", ["begin", "measure", "apply", "commit"])
def test_an_answer_of_another_form_is_told(order: str) -> None:
    with CalibratingNode() as node:
        node.garbled.add(order)
        err = refused(node, TYPED)
    assert err.exit == Exit.REFUSED
    assert "not understood" in err.cause


def test_verification_alone_writes_nothing_to_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    text = "[[step]]\nstep = 'verify'\nreference = {voltage = 230.0}"
    with CalibratingNode() as node:
        with pytest.raises(GridnodeError) as failure:
            carry_out(node, text)
    assert failure.value.exit == Exit.VERIFY  # 3 % off, as it came
    assert "commit" not in node.names()
    assert node.names()[-1] == "abandon"
    assert node.generation == 7
    assert "unchanged" in [event["event"] for event in events(capsys)]


def test_a_node_outside_its_class_ends_with_6_and_has_its_certificate(tmp_path: Path) -> None:
    last = TYPED.rindex("[[step]]")
    text = TYPED[:last] + TYPED[last:].replace("230.0", "234.0")
    with CalibratingNode() as node:
        with pytest.raises(GridnodeError) as failure:
            carry_out(node, "certificate = 'c.html'\n" + text, tmp_path)
    assert failure.value.exit == Exit.VERIFY
    assert "voltage" in failure.value.cause
    assert node.generation == 8
    assert json.loads((tmp_path / "c.json").read_text())["verdict"]["result"] == "fail"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[[step]]\nstep = 'gain'\nmeter = 'x'\nreference = {voltage = 230.0}", "no meter 'x'"),
        ("[[step]]\nstep = 'gain'\nphase = 3\nreference = {voltage = 230.0}", "has no phase 3"),
        ("[[step]]\nstep = 'gain'\nreference = {voltage = [1.0, 2.0]}", "2 values for 1 phases"),
        ("[[step]]\nstep = 'phase'\nreference = {voltage = 230.0}", "does not tell phase_deg"),
    ],
)
def test_a_plan_that_does_not_fit_the_node_measures_nothing(text: str, cause: str) -> None:
    with CalibratingNode() as node:
        err = refused(node, text)
    assert cause in err.cause
    assert "measure" not in node.names()
    assert node.names()[-1] == "abandon"


def test_a_reference_of_one_phase_needs_the_phase() -> None:
    with CalibratingNode(phases=3) as node, Bench(node) as peer:
        text = bench_plan(peer, "[[step]]\nstep = 'gain'").replace("{phase}?", "1?")
        err = refused(node, text)
        assert "name the phase" in err.cause
        carry_out(node, text + "\nphase = 2\n[[step]]\nstep='verify'\nphase = 2")
    assert node.requests("apply")[0]["phase"] == 2


def test_a_certificate_that_cannot_be_written_is_told_before_the_node_is_touched(
    tmp_path: Path,
) -> None:
    with CalibratingNode() as node:
        err = refused(node, f"certificate = '{tmp_path}/none/c.html'\n" + TYPED)
    assert err.exit == Exit.USAGE
    assert node.orders == []


def test_an_instrument_that_is_not_there_leaves_the_node_running() -> None:
    with CalibratingNode() as node:
        text = BENCH.replace("RESOURCE", "TCPIP0::127.0.0.1::9::SOCKET")
        err = refused(node, text + "[[step]]\nstep = 'gain'")
        assert node.received == b""
    assert err.exit == Exit.NO_NODE


def test_dry_run_tells_the_steps_and_touches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    text = BENCH.replace("RESOURCE", "TCPIP0::127.0.0.1::9::SOCKET")
    steps = "[[step]]\nstep = 'gain'\nsource = {current = [1.0, 2.0, 3.0]}\noptional = true"
    run.dry_run("/dev/none", plan.parse((text + steps).encode(), Path()), Output(as_json=True))
    found = events(capsys)
    assert found[0]["step"] == "gain"
    assert found[0]["source"] == {"current": [1.0, 2.0, 3.0]}
    assert found[-1]["event"] == "done"


@pytest.mark.parametrize("busy", [True, False])
def test_ctrl_c_drops_the_draft(busy: bool, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(TYPED)
    with CalibratingNode() as node:
        node.measure_s = 20.0 if busy else 0.5
        process = subprocess.Popen(
            [sys.executable, "-m", "gridnode_host", "calibrate", "--port", node.port,
             "--plan", str(tmp_path / "plan.toml"), "--json"],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        limit = time.monotonic() + 20
        while "measure" not in node.names() and time.monotonic() < limit:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert node.names()[-1] == "abandon"
    assert node.generation == 7
    assert json.loads(out.splitlines()[-1])["event"] == "abandoned"
