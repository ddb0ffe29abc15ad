"""The guided session: a scripted person at a terminal, and a node on a pty."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_calibration import CalibratingNode
from gridnode_host.calibrate import guide
from gridnode_host.calibrate.guide import Item, Options, plan_items
from gridnode_host.calibrate.plan import Plan, ScpiLink, ScpiReference, Source
from gridnode_host.calibrate.session import Meter
from gridnode_host.calibrate.steadiness import Steadiness
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output
from rich.console import Console
from test_calibrate_run import Bench

Script = list[tuple[str, str | list[str]]]

WATCH = r"(not steady yet|steady); Enter"

ORDINARY: Script = [
    (r"all phases at the same time", "y"),
    (r"Reference instrument", "Fluke 6105A s/n 123"),
    (r"uncertainty for voltage", "0.02"),
    (r"uncertainty for current", "0,03 %"),
    (r"uncertainty for power", "0.05"),
    (r"reference voltage", "230.0"),
    (r"reference current", "30,00 A"),
    (r"reference power", "6900.0"),
    (r"angle of the load", ""),
    (r"Put the", "y"),
    (WATCH, ""),
    (r"Enter = accept", ""),
]


class Person:
    """Answers by what stands last on the screen; a list is given one after the other."""

    def __init__(self, screen: io.StringIO, script: Script, node: CalibratingNode) -> None:
        self._screen = screen
        self._script = [(pattern, answer) for pattern, answer in script]
        self._node = node
        self.asked: list[str] = []

    def get(self, timeout_s: float) -> str | None:
        """Answer the last question."""
        tail = self._screen.getvalue().rstrip().splitlines()[-1]
        for k, (pattern, answer) in enumerate(self._script):
            if re.search(pattern, tail):
                self.asked.append(tail)
                assert len(self.asked) < 400, "the session does not end"
                if not isinstance(answer, str):
                    self._script[k] = (pattern, answer[1:] if len(answer) > 2 else answer[-1])
                    answer = answer[0]
                self._screen.write(f"{answer}\n")  # a terminal shows what is typed
                return answer
        raise AssertionError(f"nobody knows what to answer to {tail!r}")

    def drain(self) -> None:
        """Nothing was typed ahead."""


class Told:
    """What came of a session."""

    def __init__(self) -> None:
        self.screen = io.StringIO()
        self.out = Output()
        self.out.console = Console(file=self.screen, width=120, force_terminal=False)
        self.person: Person | None = None
        self.error: GridnodeError | None = None

    @property
    def text(self) -> str:
        """All that was on the screen."""
        return self.screen.getvalue()


def session(
    node: CalibratingNode, *script: tuple[str, str | list[str]], plan: Plan | None = None, **options: Any
) -> Told:
    """Run a session with a person who does what is ordinary, apart from ``script``."""
    told = Told()
    told.person = Person(told.screen, [*script, *ORDINARY], node)
    chosen = Options(operator="J. Doe", **options)
    try:
        guide.start(node.port, told.out, chosen, plan, told.person)
    except GridnodeError as err:
        told.error = err
    return told


def test_a_session_from_as_found_to_as_left(tmp_path: Path) -> None:
    with CalibratingNode() as node:
        told = session(node, certificate=tmp_path / "c.html")
    assert told.error is None, told.error
    assert node.generation == 8
    steps = [request["step"] for request in node.requests("apply")]
    assert steps == [
        "verify", "offset", "gain", "phase", "power", *["multipoint"] * 4, "verify",
    ]  # fmt: skip
    first = node.requests("apply")[0]
    assert first["as_found"]
    assert first["reference"] == {"voltage": 230.0, "current": 30.0, "power": 6900.0}
    assert first["uncertainty_percent"] == {"voltage": 0.02, "current": 0.03, "power": 0.05}
    assert first["instrument"] == "Fluke 6105A s/n 123"
    assert node.requests("begin")[0]["operator"] == "J. Doe"
    assert "-3.000 %" in told.text
    assert "Zero without a load" in told.text
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["verdict"]["result"] == "pass"
    assert told.person
    assert document["effort"]["prompts"] == len(told.person.asked)
    assert f"{len(told.person.asked)} prompts" in told.text
    # 2 x verify (3 windows), 8 steps (5 + 2 windows), of 2 s, and one window at each look
    assert document["effort"]["measuring_s"] == 2 * (2 * 3 + 8 * 7 + 10)


def test_three_phases_at_once_ask_for_each_phase() -> None:
    with CalibratingNode(phases=3) as node:
        told = session(node)
    assert told.error is None, told.error
    gain = node.requests("apply")[2]
    assert gain["phase"] is None
    assert gain["reference"] == {"voltage": [230.0] * 3, "current": [30.0] * 3}
    assert told.person
    asked = Counter(re.sub(r"\s*\(.*", "", text).strip() for text in told.person.asked)
    assert asked["reference voltage L2, V"] == 3  # as found, gain, as left
    assert "L3" in told.text


def test_phase_by_phase_where_the_reference_has_one() -> None:
    with CalibratingNode(phases=3) as node:
        told = session(node, (r"all phases at the same time", "n"))
    assert told.error is None, told.error
    requests = node.requests("apply")
    assert [one["phase"] for one in requests[:5]] == [1, 2, 3, None, 1]
    assert requests[3]["step"] == "offset"
    assert [one["phase"] for one in requests[-3:]] == [1, 2, 3]
    assert all(not isinstance(one["reference"].get("voltage"), list) for one in requests)


def test_an_instrument_answers_for_the_person() -> None:
    queries = {
        "voltage": "MEAS:VOLT{phase}?", "current": "MEAS:CURR{phase}?",
        "power": "MEAS:POW{phase}?", "reactive_power": "MEAS:REAC{phase}?",
    }  # fmt: skip
    with CalibratingNode(phases=3) as node, Bench(node) as peer:
        plan = Plan((), reference=ScpiReference(ScpiLink(peer.resource, timeout_s=1.0), queries))
        told = session(node, plan=plan)
    assert told.error is None, told.error
    assert told.person
    assert not [text for text in told.person.asked if "reference" in text or "angle" in text]
    assert node.requests("apply")[0]["instrument"] == "Bench Reference 3 s/n 1234"
    assert "inconclusive" in told.text  # its uncertainty is not stated


def test_a_source_goes_through_the_levels_of_the_pin() -> None:
    source = Source(
        ScpiLink("", timeout_s=1.0), {"level_mv": "SOUR:DC 36,{value}"}, 0.0, ("SOUR:CURR1 7",), ("SOUR:DC 36,OFF",)
    )
    with CalibratingNode() as node, Bench(node) as peer:
        source = replace(source, link=replace(source.link, resource=peer.resource))
        told = session(node, plan=Plan((), source=source), further=("linearity",))
    assert told.error is None, told.error
    assert "connect the source" in told.text
    assert len(node.taken) == 23
    assert node.taken[0] == ("36,200", 200.0)
    assert node.taken[-1] == ("36,2400", 2400.0)
    assert node.pin == "36,OFF"
    assert node.load["current"] == [30.0]  # its load is set by hand, its end too


def test_levels_of_the_pin_can_be_set_by_hand() -> None:
    levels = [str(200 + 200 * k) for k in range(10)]
    script: Script = [
        (r"take its table from", "l"),
        (r"level at the pin", ["200 mV", "4oo", *levels[1:], ""]),
        (r"Give the pin back", ""),
    ]
    with CalibratingNode() as node:
        told = session(node, *script, further=("linearity",))
    assert told.error is None, told.error
    assert "voltmeter" in told.text
    assert [mv for _, mv in node.taken] == [float(level) for level in levels]
    assert "is not the unit; the value is wanted in mV" in told.text
    [applied] = [one for one in node.requests("apply") if one["step"] == "linearity"]
    assert applied["instrument"] == "Fluke 6105A s/n 123"
    assert not [one for one in node.requests("measure") if one["step"] == "linearity" and "level_mv" not in one]


def test_a_level_that_is_refused_is_asked_again_and_too_few_are_told() -> None:
    condition = {"code": "condition", "condition": "level", "measured": 120.0, "limit": 80.0}
    with CalibratingNode() as node:
        node.refusals["linearity"] = [{"message": "the pin is 120 mV off the level that was told", **condition}]
        node.refusals["apply"] = [{"code": "condition", "message": "1 levels are known, 9 are needed"}]
        told = session(
            node,
            (r"take its table from", "l"),
            (r"level at the pin", ["200", "200", "", ""]),
            (r"Give the pin back", ""),
            (r"What now\?", "s"),
            (WATCH, ["s", "", "s", *["s"] * 7, "s"]),
            further=("linearity",),
        )
    assert told.error is None, told.error
    assert "refused  the pin is 120 mV off" in told.text
    assert [mv for _, mv in node.taken] == [200.0]
    assert "9 are needed" in told.text
    assert node.generation == 7


def test_the_sine_is_what_a_linearity_without_a_source_takes() -> None:
    with CalibratingNode() as node:
        told = session(node, (r"take its table from", ""), further=("linearity",))
    assert told.error is None, told.error
    assert [one for one in node.requests("measure") if one["step"] == "linearity" and "level_mv" not in one]
    assert not node.taken


def test_a_wrong_decimal_is_refused_and_asked_again() -> None:
    with CalibratingNode() as node:
        told = session(
            node,
            (r"reference voltage", ["230.0", "23.00", "230.0"]),
            (r"What now\?", ""),
        )
    assert told.error is None, told.error
    assert "refused  voltage reference is 89" in told.text
    assert "limit 20" in told.text
    assert node.generation == 8
    gains = [one for one in node.requests("apply") if one["step"] == "gain"]
    assert [one["reference"]["voltage"] for one in gains] == [23.0, 230.0]
    measures = [one for one in node.requests("measure") if one["step"] == "gain"]
    assert len(measures) == 2  # node and reference are read at the same time, again


@pytest.mark.parametrize("text", ["23O.0", "1.234,5", "230 A", "two"])
def test_what_is_no_number_is_asked_again(text: str) -> None:
    with CalibratingNode() as node:
        told = session(node, (r"reference voltage", [text, "230,0"]))
    assert told.error is None, told.error
    assert node.requests("apply")[0]["reference"]["voltage"] == 230.0
    assert "write it as 12.5" in told.text or "wanted in V" in told.text


def test_what_was_typed_stands_there_when_it_is_asked_once_more() -> None:
    with CalibratingNode() as node:
        told = session(
            node,
            # as found; gain with a wrong decimal, Enter for the current that was right; power too
            (r"reference voltage", ["230.0", "23.00", "230.0"]),
            (r"reference current.*\[30,00 A\]", ""),
            (r"What now\?", ""),
        )
    assert told.error is None, told.error
    gains = [one for one in node.requests("apply") if one["step"] == "gain"]
    assert [one["reference"]["current"] for one in gains] == [30.0, 30.0]
    assert "[23.00]" in told.text


def test_a_dash_takes_back_what_was_typed() -> None:
    with CalibratingNode() as node:
        told = session(
            node,
            (r"reference voltage.*\[23.00\]", "-"),
            (r"reference voltage", ["230.0", "23.00", "230.0"]),
            (r"What now\?", ""),
        )
    gains = [one for one in node.requests("apply") if one["step"] == "gain"]
    assert [one["reference"].get("voltage") for one in gains] == [23.0, None]
    assert told.error and told.error.exit == Exit.VERIFY  # without its gain


def test_what_is_not_measured_is_left_out() -> None:
    with CalibratingNode() as node:
        told = session(node, (r"reference (current|power)", ""), (r"What now\?", "s"))
    assert told.error is None, told.error
    assert node.requests("apply")[0]["reference"] == {"voltage": 230.0}
    assert "power" not in [one["step"] for one in node.requests("apply")]
    assert "there is no true power" in told.text


def test_steps_can_be_skipped() -> None:
    with CalibratingNode() as node:
        told = session(node, (WATCH, ["s", "s", "", *["s"] * 7, "s"]))
    assert told.error is None, told.error
    assert [one["step"] for one in node.requests("apply")] == ["gain"]
    assert "not verified" in told.text
    assert node.generation == 8


def test_undo_goes_back_to_the_step() -> None:
    with CalibratingNode() as node:
        # as found, offset, gain, back from phase to gain, gain once more, and on
        told = session(node, (WATCH, ["", "", "", "u", ""]))
    assert told.error is None, told.error
    names = [
        request.get("step") or name for name, request in node.orders if name in ("apply", "undo")
    ]
    assert names[:6] == ["verify", "offset", "gain", "undo", "gain", "phase"]
    assert "Undone: gain" in told.text
    assert node.in_force["voltage"][0] == pytest.approx(1 / 0.97)


def test_undo_before_the_first_step_is_told() -> None:
    with CalibratingNode() as node:
        told = session(node, (WATCH, ["u", ""]))
    assert told.error is None, told.error
    assert "no step to undo" in told.text
    assert "undo" not in node.names()


@pytest.mark.parametrize(("choice", "gains"), [("r", 2), ("u", 1)])
def test_a_result_can_be_repeated_or_taken_back(choice: str, gains: int) -> None:
    with CalibratingNode() as node:
        told = session(node, (r"Enter = accept", ["", "", choice, ""]))
    assert (told.error is None) == (choice == "r")  # without its gain it is outside its class
    assert [one["step"] for one in node.requests("apply")].count("gain") == gains
    assert node.names().count("undo") == 1
    right = node.in_force["voltage"][0] == pytest.approx(1 / 0.97)
    assert right == (choice == "r")


def test_quit_keeps_nothing_unless_it_is_wanted() -> None:
    with CalibratingNode() as node:
        told = session(node, (WATCH, ["", "", "", "q"]), (r"Put the", ""))
        assert told.error is None, told.error
        assert node.generation == 7
        assert node.names()[-1] == "abandon"
        assert "nothing was stored: the former calibration is still in force" in told.text
    with CalibratingNode() as node:
        told = session(node, (WATCH, ["", "", "", "q"]), (r"Put the 2 accepted steps", "y"))
        assert told.error is None, told.error
        assert node.generation == 8


def test_no_at_the_end_writes_neither_calibration_nor_certificate(tmp_path: Path) -> None:
    with CalibratingNode() as node:
        told = session(node, (r"Put the", "n"), certificate=tmp_path / "c.html")
    assert told.error is None, told.error
    assert node.generation == 7
    assert not list(tmp_path.iterdir())


def test_a_condition_that_does_not_hold_is_told_and_measured_again() -> None:
    refusal = {
        "code": "condition", "message": "current 0.6 A is below 2.4 A",
        "condition": "current", "measured": 0.6, "limit": 2.4,
    }  # fmt: skip
    with CalibratingNode() as node:
        node.refusals["gain"] = [dict(refusal), dict(refusal)]
        told = session(node, (r"What now\?", ["r", "s"]))
    assert told.error and told.error.exit == Exit.VERIFY  # without its gain
    assert told.text.count("measured 0.6, limit 2.4") == 2
    assert "gain" not in [one["step"] for one in node.requests("apply")]
    assert node.generation == 8


def test_a_meter_without_values_is_told_while_watching() -> None:
    with CalibratingNode() as node:
        node.refusals["observe"] = [{"code": "meter", "message": "voltage bus_fault"}]

        class Patient(Person):
            def get(self, timeout_s: float) -> str | None:
                tail = self._screen.getvalue().rstrip().splitlines()[-1]
                return None if "no values" in tail else super().get(timeout_s)

        told = Told()
        told.person = Patient(told.screen, ORDINARY, node)
        guide.start(node.port, told.out, Options(operator="x"), None, told.person)
    assert "no values: voltage bus_fault (meter)" in told.text


def test_an_unplugged_node_ends_the_session() -> None:
    with CalibratingNode() as node:
        node.unplug_at = "phase"
        told = session(node)
    assert told.error and told.error.exit == Exit.NO_NODE
    assert "the former calibration is still in force" in told.error.cause
    assert node.generation == 7


def test_an_instrument_that_is_gone_can_be_plugged_in_again() -> None:
    queries = {"voltage": "MEAS:VOLT{phase}?", "current": "MEAS:CURR{phase}?", "power": "MEAS:POW{phase}?"}
    with CalibratingNode() as node, Bench(node) as peer:
        plan = Plan((), reference=ScpiReference(ScpiLink(peer.resource, timeout_s=0.5), queries))
        peer.overrange = True

        class Repairs(Person):
            def get(self, timeout_s: float) -> str | None:
                if "What now" in self._screen.getvalue().splitlines()[-1]:
                    peer.overrange = False
                return super().get(timeout_s)

        told = Told()
        told.person = Repairs(told.screen, [(r"What now\?", "r"), *ORDINARY], node)
        guide.start(node.port, told.out, Options(operator="x"), plan, told.person)
    assert "which is no value" in told.text
    assert node.generation == 8


def test_the_input_that_ends_drops_the_draft() -> None:
    class Gone(Person):
        def get(self, timeout_s: float) -> str | None:
            if len(self.asked) > 12:
                raise EOFError
            return super().get(timeout_s)

    with CalibratingNode() as node:
        told = Told()
        told.person = Gone(told.screen, ORDINARY, node)
        with pytest.raises(GridnodeError) as failure:
            guide.start(node.port, told.out, Options(operator="x"), None, told.person)
    assert failure.value.exit == Exit.USAGE
    assert node.names()[-1] == "abandon"


def test_without_a_terminal_it_says_to_use_a_plan() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gridnode_host", "calibrate", "--port", "/dev/none"],
        capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == Exit.USAGE
    assert "--plan" in done.stderr


# -- the order of the steps

METER = Meter("main", "ct", 3, ("voltage", "current", "power"), (), 60.0, 230.0, 50.0)


def meter(*steps: str) -> Meter:
    return Meter(**{**vars(METER), "steps": steps})


def test_only_steps_of_the_front_end_in_their_order() -> None:
    found = plan_items(meter("verify", "power", "gain"), (100, 5), (), at_once=True)
    assert [item.step for item in found] == ["verify", "gain", "power", "verify"]
    found = plan_items(meter("linearity", "gain", "multipoint"), (100, 5), (), at_once=True)
    assert "linearity" not in [item.step for item in found]
    assert [item.point for item in found if item.step == "multipoint"] == [5, 100]
    asked = plan_items(meter("gain", "linearity"), (), ("linearity",), at_once=True)
    assert asked[1] == Item("linearity")


def test_phase_by_phase_moves_the_clamps_once() -> None:
    found = plan_items(meter("offset", "gain", "phase"), (), (), at_once=False)
    assert [(item.step, item.phase) for item in found[3:10]] == [
        ("offset", None), ("gain", 1), ("phase", 1), ("gain", 2), ("phase", 2), ("gain", 3),
        ("phase", 3),
    ]  # fmt: skip


# -- steadiness


def look(steady: Steadiness, *volts: float) -> None:
    for v in volts:
        row = {"voltage": v, "current": 30.0}
        steady.add({"values": [{}, row, row, row], "quality": {}})


def test_steady_needs_three_windows_within_the_limit() -> None:
    steady = Steadiness(METER, ("voltage", "current"), (1, 2, 3))
    look(steady, 230.0, 230.5)
    assert not steady.steady
    look(steady, 230.2)
    assert steady.steady
    state = steady.state(1, "voltage")
    assert state and state.spread == pytest.approx(100 * 0.5 / 230.2)
    assert state.limit == 0.5
    look(steady, 240.0)
    assert not steady.steady
    look(steady, 240.1, 240.2)  # what was before has left the windows
    assert steady.steady


def test_a_small_current_may_have_its_noise() -> None:
    steady = Steadiness(METER, ("current",), (1,))
    for amps in (1.000, 1.010, 1.005):
        steady.add({"values": [{}, {"current": amps}], "quality": {}})
    state = steady.state(1, "current")
    assert state and state.spread == pytest.approx(0.995, abs=0.01)
    assert state.limit == pytest.approx(0.5 + 0.02 * 60 / 1.005)
    assert state.steady


def test_a_temperature_is_shown_where_the_node_tells_one() -> None:
    steady = Steadiness(METER, ("voltage",), (1,))
    for celsius, shown in ((24.26, "24.3 degC"), (None, "")):
        steady.add({"values": [{}, {"voltage": 230.0}], "quality": {}, "temperature": celsius})
        console = Console(file=io.StringIO(), width=100)
        console.print(steady.view())
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert shown in text
        assert bool(shown) == ("degC" in text)


def test_a_value_that_is_gone_is_not_steady() -> None:
    steady = Steadiness(METER, ("voltage",), (1,))
    look(steady, 230.0, 230.0)
    steady.add({"values": [{}, {"voltage": None}], "quality": {"voltage1": "bus_fault"}})
    assert steady.state(1, "voltage") is None
    assert not steady.steady
    console = Console(file=io.StringIO(), width=100)
    console.print(steady.view())
    assert "bus_fault" in console.file.getvalue()  # type: ignore[attr-defined]


# -- a real terminal


def read_until(descriptor: int, pattern: bytes, seconds: float = 20.0) -> bytes:
    text, limit = b"", time.monotonic() + seconds
    while not re.search(pattern, text):
        assert time.monotonic() < limit, text
        if select.select([descriptor], [], [], 0.2)[0]:
            text += os.read(descriptor, 4096)
    return text


def test_on_a_real_terminal_with_an_enter_too_many_and_ctrl_c() -> None:
    with CalibratingNode() as node:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "gridnode_host", "calibrate", "--port", node.port],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )  # fmt: skip
        os.close(slave)
        read_until(master, rb"Operator")
        os.write(master, b"J. Doe\n")
        read_until(master, rb"not steady yet")
        read_until(master, rb"[^t] steady;|\n.*\x1b\[1;32msteady")
        os.write(master, b"\n\n\n")  # what is typed ahead must not answer the next questions
        read_until(master, rb"Reference instrument")
        assert not select.select([master], [], [], 0.7)[0]
        os.write(master, b"Meter 1\n")
        read_until(master, rb"uncertainty for voltage")
        process.send_signal(signal.SIGINT)
        rest = read_until(master, rb"still in force")
        assert process.wait(20) == 130, rest
        os.close(master)
    assert node.names()[-1] == "abandon"
    assert node.generation == 7
