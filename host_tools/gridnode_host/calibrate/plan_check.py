"""Judge a plan against its schema, and say in plain words where it is wrong and what to write."""

from __future__ import annotations

import datetime
import difflib
import json
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from gridnode_host import resources
from gridnode_host.errors import Exit, GridnodeError

_STEP = "read the plan"
_DEEPEST = 8


def check(document: Mapping[str, Any], *, need_steps: bool = True) -> None:
    """Raise `GridnodeError` (USAGE) for the first thing that is wrong with a plan."""
    _numbers(document, ())
    schema = resources.schema("calibration-plan")
    if not need_steps:
        schema = {**schema, "required": []}
    errors = sorted(Draft202012Validator(schema).iter_errors(document), key=_order)
    if errors:
        raise _told(document, errors[0])


def wrong(place: str, cause: str, action: str) -> GridnodeError:
    """Return the error of a plan that is wrong at ``place``."""
    return GridnodeError(_STEP, f"{place}: {cause}", action, Exit.USAGE)


def place(document: Mapping[str, Any], path: Iterable[str | int]) -> str:
    """Return where something stands, as a person counts: ``step 2 (gain): reference.current``."""
    parts = list(path)
    if parts[:1] == ["step"] and len(parts) > 1 and isinstance(parts[1], int):
        step = document["step"][parts[1]]
        kind = step.get("step") if isinstance(step, dict) else None
        name = f"step {parts[1] + 1}" + (f" ({kind})" if isinstance(kind, str) else "")
        rest = _dotted(parts[2:])
        return f"{name}: {rest}" if rest else name
    return _dotted(parts) or "the plan"


def _dotted(parts: Sequence[str | int]) -> str:
    text = ""
    for part in parts:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _order(error: ValidationError) -> tuple[list[str], int]:
    # a wrong value says more than what is missing beside it
    return [str(part) for part in error.absolute_path], error.validator == "required"


def _numbers(value: Any, path: tuple[str | int, ...]) -> None:
    """Refuse nan and inf, which TOML knows, numbers beyond any instrument, and endless nesting."""
    if len(path) > _DEEPEST:
        raise wrong(_dotted(path), "nested too deeply", "Keep to the form in the documentation.")
    if isinstance(value, Mapping):
        for key, part in value.items():
            _numbers(part, (*path, key))
    elif isinstance(value, list):
        for k, part in enumerate(value):
            _numbers(part, (*path, k))
    elif isinstance(value, int | float | Decimal) and not _sensible(value):
        raise wrong(_dotted(path), f"{value} is no number to work with", "Write a finite number.")


def _sensible(value: int | float | Decimal) -> bool:
    if isinstance(value, int):
        return value.bit_length() < 64
    return math.isfinite(value) and abs(float(value)) < 1e12


def _told(document: Mapping[str, Any], error: ValidationError) -> GridnodeError:
    where = place(document, error.absolute_path)
    schema = error.schema if isinstance(error.schema, dict) else {}
    instance: Any = error.instance
    rule: Any = error.validator_value
    known = schema.get("properties", {})
    match error.validator:
        case "additionalProperties":
            extra = sorted(str(key) for key in instance if key not in known)[0]
            close = difflib.get_close_matches(extra, list(known), 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            return wrong(where, f"unknown key {extra!r}{hint}", f"Known are: {_names(known)}.")
        case "required":
            key = next(key for key in rule if key not in instance)
            example = _examples(known.get(key, {}))
            return wrong(where, f"{key} is missing", f"Write {key} = {example}.")
        case "enum":
            chosen = ", ".join(json.dumps(one) for one in rule)
            return wrong(where, f"{_shown(instance)} is not known", f"Write one of: {chosen}.")
        case "type":
            cause = f"{_shown(instance)} is not {_kinds(rule)}"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            bound = {"minimum": "least", "maximum": "most"}.get(error.validator)
            cause = f"{_shown(instance)} is out of range: " + (
                f"{rule} at the {bound}" if bound else f"it must be more than {rule}"
            )
        case "pattern":
            cause = f"{_shown(instance)} has not the form that is wanted"
        case _:
            cause = error.message[:200]
    meant = _meant(error.absolute_path)
    about = f" ({meant['description']})" if "description" in meant else ""
    return wrong(where, cause, f"Write, for example, {_examples(meant)}{about}.")


def _meant(path: Iterable[str | int]) -> Mapping[str, Any]:
    """Return the part of the schema that describes a place, what stands beside a $ref included."""
    root = resources.schema("calibration-plan")

    def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
        name = schema.get("$ref", "").rpartition("/")[2]
        return {**resolved(root["$defs"][name]), **schema} if name else schema

    found: Mapping[str, Any] = root
    for part in path:
        if isinstance(part, int):
            found = resolved(found.get("items", {}))
            continue
        kinds = [found, *(resolved(rule["then"]) for rule in found.get("allOf", ()))]
        parts = [kind["properties"][part] for kind in kinds if part in kind.get("properties", {})]
        found = resolved(max(parts, key=len, default={}))
    return found


def _names(known: Mapping[str, Any]) -> str:
    return ", ".join(known)


def _kinds(kinds: str | list[str]) -> str:
    words = {
        "number": "a number", "integer": "a whole number", "string": "a text in quotes",
        "boolean": "true or false", "object": "a table", "array": "a list",
    }  # fmt: skip
    return " or ".join(words[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _examples(schema: Mapping[str, Any]) -> str:
    """Return an example of what fits a schema, as TOML."""
    if "examples" in schema:
        return _toml(schema["examples"][0])
    if "enum" in schema:
        return _toml(schema["enum"][0])
    if "$ref" in schema:
        return _examples(
            resources.schema("calibration-plan")["$defs"][schema["$ref"].split("/")[-1]]
        )
    if schema.get("type") == "object" or "properties" in schema:
        for key, part in schema.get("properties", {}).items():
            return f"{{{key} = {_examples(part)}}}"
    return {"array": "[[step]] tables", "boolean": "true", "number": "1.0"}.get(
        str(schema.get("type")), '"..."'
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, numbers.Number):
        return str(value)
    return json.dumps(value)


def _shown(value: Any) -> str:
    plain = isinstance(value, Decimal | datetime.date | datetime.time)
    text = str(value) if plain else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
