"""The rules of faults keep to their schema, which names the inputs that the firmware has."""

from __future__ import annotations

import ast
import copy
import json
from typing import Any

import jsonschema
import pytest
from gridnode_host import resources

_SCOPES = ("device", "phase", "joint", "signal")
_URGENT = {"short_circuit", "neutral_loss", "phase_loss", "overheating_joint", "overload"}


def _document() -> dict[str, Any]:
    root = resources.checkout()
    assert root is not None
    document: dict[str, Any] = json.loads((root / "boards/faults.json").read_text("utf-8"))
    return document


def _inputs() -> dict[str, tuple[str, ...]]:
    root = resources.checkout()
    assert root is not None
    found: dict[str, tuple[str, ...]] = {}
    source = (root / "firmware/gridnode/setup/electrical.py").read_text("utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).lower() in _SCOPES:
            found[ast.unparse(node.targets[0]).lower()] = ast.literal_eval(node.value)
    return found


def test_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(resources.schema("faults"))


def test_rules_keep_to_their_schema() -> None:
    jsonschema.validate(_document(), resources.schema("faults"))
    rules = resources.faults()
    assert len(rules) == len(_document()["faults"])
    assert not any("why" in rule for rule in rules), "a node has no use for the reasons"


def test_every_rule_has_its_reason() -> None:
    assert all(rule.get("why") for rule in _document()["faults"])


def test_the_most_urgent_are_those_that_burn_or_destroy() -> None:
    urgent = {rule["fault"] for rule in resources.faults() if rule["priority"] == 1}
    assert urgent == _URGENT


def test_schema_and_firmware_know_the_same_inputs() -> None:
    known = resources.schema("faults")["$defs"]
    inputs = _inputs()
    assert set(inputs) == set(_SCOPES)
    for scope in _SCOPES:
        assert tuple(known[scope]["enum"]) == inputs[scope], scope


def _changed(where: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(_document())
    rule = document["faults"][0]
    if where == "condition":
        rule["all"][0] = value
    elif value is None:
        del rule[where]
    else:
        rule[where] = value
    return document


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("fault", None),
        ("fault", "Short circuit"),
        ("priority", 0),
        ("priority", "1"),
        ("each", "wire"),
        ("guilty", []),
        ("guilty", ["everything"]),
        ("all", None),
        ("all", []),
        ("any", []),
        ("any", [[]]),
        ("unless", []),
        ("condition", ["volts", 0, 1]),
        ("condition", ["rise", 0, 1]),  # of a joint
        ("condition", ["v", 0]),
        ("condition", ["v", 0, 1, 2]),
        ("condition", ["v", 0.5, 1]),
        ("condition", ["v", 0, 40000]),
    ],
)
def test_schema_refuses_what_is_no_rule(where: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(_changed(where, value), resources.schema("faults"))
