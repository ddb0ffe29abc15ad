"""Plans: what they become, how a wrong one is told, and that none ever gives a traceback."""

from __future__ import annotations

import copy
import datetime
import math
import random
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomlkit
from gridnode_host import resources
from gridnode_host.calibrate import plan as plans
from gridnode_host.calibrate.plan import ModbusReference, Plan, ScpiReference
from gridnode_host.calibrate.quantities import Value
from gridnode_host.errors import Exit, GridnodeError

FULL = """
operator = "J. Doe"
factory = false
certificate = "node.html"
max_spread_percent = 0.4

[reference]
kind = "scpi"
resource = "TCPIP0::127.0.0.1::5025::SOCKET"
name = "Bench reference"
serial = "1"
uncertainty_percent = {voltage = 0.02, current = 0.02, power = 0.04}
queries = {voltage = "MEAS:VOLT{phase}?", current = "MEAS:CURR{phase}?", power = "MEAS:POW{phase}?", reactive_power = "MEAS:REAC{phase}?"}

[source]
kind = "scpi"
resource = "TCPIP0::127.0.0.1::5025::SOCKET"
settle_s = 1.0
commands = {voltage = "SOUR:VOLT{phase} {value}", current = "SOUR:CURR{phase} {value}", phase_deg = "SOUR:PHAS{phase} {value}", frequency = "SOUR:FREQ {value}", temperature = "SOUR:TEMP {value}"}
end = ["SOUR:CURR 0"]

[[step]]
step = "verify"

[[step]]
step = "gain"
meter = "main"
phase = 1
source = {voltage = 230, current = 30, phase_deg = 0}
reference = {current = 30.02}
uncertainty_percent = {current = 0.05}
instrument = "Shunt 17"

[[step]]
step = "gain"
source = {current = [10.0, 20, 30]}
quantities = ["voltage", "current"]
max_spread_percent = 1
optional = true
settle_s = 2
label = "three loads"
"""  # noqa: E501

MODBUS = """
[reference]
kind = "modbus"
url = "tcp://127.0.0.1:502"
map = "sdm630"
address = 3
baud = 19200
parity = "even"
word_order = "CDAB"
timeout_s = 1

[[step]]
step = "gain"
"""


def parse(text: str) -> Plan:
    return plans.parse(text.encode(), Path("/plans"))


def wrong(text: str | bytes) -> GridnodeError:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(GridnodeError) as failure:
        plans.parse(data, Path("/plans"))
    err = failure.value
    assert (err.step, err.exit) == ("read the plan", Exit.USAGE)
    assert err.cause and err.action
    return err


def test_a_plan_becomes_typed_data() -> None:
    plan = parse(FULL)
    assert plan.operator == "J. Doe"
    assert plan.certificate == Path("/plans/node.html")
    assert isinstance(plan.reference, ScpiReference)
    assert plan.reference.uncertainty_percent == {"voltage": 0.02, "current": 0.02, "power": 0.04}
    assert plan.source and plan.source.end == ("SOUR:CURR 0",)
    verify, gain, loads = plan.steps
    assert (verify.step, verify.meter, verify.phase) == ("verify", None, None)
    assert verify.max_spread_percent == 0.4
    assert gain.reference == {"current": (Value(30.02, pytest.approx(0.01)),)}
    assert gain.source["voltage"] == (Value(230.0, 1.0),)
    assert gain.source["phase_deg"] == (Value(0.0, 0.0),)
    assert gain.instrument == "Shunt 17"
    assert [one.value for one in loads.source["current"]] == [10.0, 20.0, 30.0]
    assert (loads.max_spread_percent, loads.settle_s, loads.optional) == (1.0, 2.0, True)
    assert loads.quantities == ("voltage", "current")
    assert loads.place == "step 3 (gain)"


def test_a_modbus_reference() -> None:
    reference = parse(MODBUS).reference
    assert isinstance(reference, ModbusReference)
    assert (reference.address, reference.baud, reference.parity) == (3, 19200, "even")
    assert (reference.word_order, reference.timeout_s) == ("CDAB", 1.0)


def test_instruments_alone_are_enough_for_a_guided_session() -> None:
    text = MODBUS[: MODBUS.index("[[step]]")]
    assert "step is missing" in wrong(text).cause
    plan = plans.parse(text.encode(), Path(), need_steps=False)
    assert plan.reference
    assert plan.steps == ()


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(resources.schema("calibration-plan"))


def step(text: str) -> str:
    return f"[[step]]\nstep = 'gain'\nreference = {{voltage = 230.0}}\n{text}"


@pytest.mark.parametrize(
    ("text", "cause", "action"),
    [
        ("", "step is missing", "[[step]]"),
        ("step = []", "step: ", "Write"),
        ("[[step]]\nmeter = 'main'", "step 1: step is missing", '"linearity"'),
        ("[[step]]\nstep = 'gian'", "step 1 (gian): step: 'gian' is not known", '"gain"'),
        (step("refernce = 1"), "unknown key 'refernce'; did you mean 'reference'?", "Known are"),
        (step("phase = 4"), "step 1 (gain): phase: 4 is out of range: 3 at the most", "example, 1"),
        (step("phase = true"), "phase: True is not a whole number", "1, 2 or 3"),
        (step("phase = 1.5"), "phase: 1.5 is not a whole number", "example, 1"),
        (step("sweep = {low = 200, high = 2400, levels = 23}"), "only linearity is swept", "Leave"),
        (
            "[[step]]\nstep = 'linearity'\nsweep = {low = 200, high = 2400, levels = 23}",
            "step 1 (linearity): sweep: the [source] has no command for level_mv",
            "level_mv = ",
        ),
        (
            "[[step]]\nstep = 'linearity'\nsweep = {low = 2400, high = 200, levels = 23}",
            "low is not below high",
            "low = 200",
        ),
        (
            "[[step]]\nstep = 'linearity'\nsweep = {low = 200, high = 2400, levels = 3}",
            "sweep.levels: 3 is out of range: 9 at the least",
            "23",
        ),
        (step("settle_s = nan"), "settle_s: NaN is no number", "finite"),
        (step("source = {voltage = inf}"), "source.voltage: Infinity is no number", "finite"),
        (step("source = {voltage = 230}"), "the plan has no [source]", "[source] table"),
        (step("optional = 'yes'"), "optional: 'yes' is not true or false", "true"),
        (step("quantities = ['amps']"), "quantities[1]: 'amps' is not known", '"current"'),
        (step("max_spread_percent = 0"), "it must be more than 0", "0.5"),
        (step("label = 2021-01-01"), "label: 2021-01-01 is not a text", "rating"),
        ("[[step]]\nstep = 'gain'", "reference: missing, and the plan has no", "reference = {"),
        (
            "[[step]]\nstep = 'gain'\nreference = {voltage = '230'}",
            "step 1 (gain): reference.voltage: '230' is not a number or a list",
            "12.5",
        ),
        (
            "[[step]]\nstep = 'gain'\nphase = 1\nreference = {voltage = [1, 2, 3]}",
            "a list of values goes with all phases",
            "Leave phase out",
        ),
        ("certificate = 'node.pdf'\n" + step(""), "certificate: 'node.pdf' has not", "node.html"),
        ("factory = 1\n" + step(""), "factory: 1 is not true or false", "true"),
        ("[reference]\nkind = 'gpib'\n" + step(""), "kind: 'gpib' is not known", '"scpi"'),
        ("[reference]\nkind = 'scpi'\n" + step(""), "resource is missing", "SOCKET"),
        ("[reference]\nkind = 'modbus'\nmap = 'x'\n" + step(""), "url is missing", "tcp://"),
        (
            MODBUS.replace("address = 3", "address = 300"),
            "reference.address: 300 is out of range: 247 at the most",
            "example, 1",
        ),
        (MODBUS.replace("address", "adress"), "unknown key 'adress'; did you mean 'address'?", "url"),
        (
            FULL.replace('"SOUR:FREQ {value}"', '"SOUR:FREQ"'),
            "source.commands.frequency: 'SOUR:FREQ' has not the form",
            "{value}",
        ),
        (
            FULL.replace("phase_deg = 0}", "temperature = 20}").replace(
                ', temperature = "SOUR:TEMP {value}"', ""
            ),
            "step 2 (gain): source.temperature: the [source] has no command",
            "Add temperature",
        ),
        ("operator = 'a\nb'", "not TOML", "Correct"),
        ("x = " + "[" * 5000, "not TOML", "Correct"),
        (step("x = " + "[" * 30 + "]" * 30), "nested too deeply", "form"),
        (step(f"settle_s = {10**400}"), "is no number to work with", "finite"),
        (step("settle_s = 1e400"), "is no number to work with", "finite"),
        (step("settle_s = 1e999999999999999999999"), "not TOML", "Correct"),
    ],
)
def test_a_wrong_plan_is_told_with_place_and_remedy(text: str, cause: str, action: str) -> None:
    err = wrong(text)
    assert cause in err.cause
    assert action in err.action


def test_what_is_no_text_or_no_file_is_told(tmp_path: Path) -> None:
    assert "UTF-8" in wrong(b"operator = '\xff'").cause
    assert "too large" in wrong(b"#" * 2_000_000).cause
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(GridnodeError) as failure:
            plans.load(path)
        assert failure.value.exit == Exit.USAGE


def accepted(data: bytes) -> bool:
    """Parse a mutant: a plan, or a refusal that names a cause and a remedy; nothing else."""
    try:
        plan = plans.parse(data, Path("/plans"))
    except GridnodeError as err:
        assert (err.step, err.exit) == ("read the plan", Exit.USAGE), err
        assert err.cause and err.action
        assert len(err.cause) < 400
        return False
    for one in plan.steps:
        for values in (*one.source.values(), *one.reference.values()):
            assert all(math.isfinite(value.value) for value in values)
        assert 0 < one.max_spread_percent <= 20
    return True


@pytest.mark.parametrize("seed", range(4))
def test_mutated_text_never_gives_a_traceback(seed: int) -> None:
    rng = random.Random(seed)
    odd = ("nan", "-inf", "1e999", "'", '"""', "\x00")
    tokens = [*re.findall(r"\w+|[^\w\s]|\s+", FULL + MODBUS), *odd]
    good = 0
    for _ in range(150):
        text = list(re.findall(r"\w+|[^\w\s]|\s+", rng.choice((FULL, MODBUS))))
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(text))
            match rng.randrange(4):
                case 0:
                    del text[at]
                case 1:
                    text[at] = rng.choice(tokens)
                case 2:
                    text.insert(at, rng.choice(tokens))
                case _:
                    word = text[at]
                    text[at] = word[: rng.randrange(len(word) + 1)]
        good += accepted("".join(text).encode())
    assert 5 < good < 120  # the mutants are neither all the same nor all hopeless


VALUES: tuple[Any, ...] = (
    0, -1, 3, 10**18, 1e300, -0.5, math.nan, math.inf, True, "", "x", "x" * 300, "\x07", "{value}",
    [], [1], ["a"], [[1.0]], {}, {"voltage": 1}, {"a": {"b": {"c": 1}}}, datetime.date(2024, 1, 1),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), datetime.time(1, 2), [230.0, 231.0],
)  # fmt: skip


def test_mutated_values_never_give_a_traceback() -> None:
    rng = random.Random(100)
    good = 0
    for _ in range(400):
        document = tomlkit.parse(rng.choice((FULL, MODBUS))).unwrap()
        for _ in range(rng.choice((1, 1, 3))):
            node: Any = document
            while True:
                key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
                if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
                    node = node[key]
                    continue
                break
            if rng.random() < 0.2 and isinstance(node, dict):
                node[rng.choice(("x", "step", "kind", "phase"))] = node.pop(key)
            else:
                node[key] = copy.deepcopy(rng.choice(VALUES))
        good += accepted(tomlkit.dumps(document).encode())
    assert 5 < good < 200
