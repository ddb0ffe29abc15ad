"""AWS IoT policies as the bench enforces them: parse once, then answer "may this client do that?".

Language: AWS IoT Core developer guide, "AWS IoT Core policies", "Thing policy variables" and
"Publish/Subscribe policy examples". ``*`` and ``?`` are the only wildcards of a policy; the MQTT
wildcards ``+`` and ``#`` of a topic filter are ordinary characters here. A deny wins over every
allow, and what nothing allows is denied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gridnode_host import resources
from gridnode_host.errors import Exit, GridnodeError

ACTIONS = ("iot:Connect", "iot:Publish", "iot:RetainPublish", "iot:Subscribe", "iot:Receive")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class Identity:
    """Who is connected: the client id, and the thing that its certificate is attached to.

    ``thing`` is the common name of the certificate. As on AWS, the thing variables resolve only
    when the client id names the attached thing.
    """

    thing: str
    client_id: str
    thing_type: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Return the policy variables of this connection by name."""
        attached = self.client_id == self.thing
        known = {
            "iot:ClientId": self.client_id,
            "iot:Certificate.Subject.CommonName": self.thing,
            "iot:Connection.Thing.IsAttached": "true" if attached else "false",
        }
        if attached:
            known["iot:Connection.Thing.ThingName"] = self.thing
            if self.thing_type:
                known["iot:Connection.Thing.ThingTypeName"] = self.thing_type
            for name, value in self.attributes.items():
                known[f"iot:Connection.Thing.Attributes[{name}]"] = value
        return known


class Policy:
    """One policy document, checked when it is loaded."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Raise `GridnodeError` for anything in the document that could not be enforced."""
        if document.get("Version") != "2012-10-17":
            raise _invalid(f"version {document.get('Version')!r} is not 2012-10-17")
        self._statements = [_Statement(item) for item in _as_list(document.get("Statement"))]
        if not self._statements:
            raise _invalid("it has no statement")

    @classmethod
    def named(cls, name: str) -> Policy:
        """Return the policy ``certs/policy/<name>.json`` of the product."""
        return cls(resources.policy(name))

    def bind(self, identity: Identity) -> BoundPolicy:
        """Return the rights of one connection."""
        return BoundPolicy(self._statements, identity)


class BoundPolicy:
    """The rights of one connection: a policy with the variables of an identity filled in."""

    def __init__(self, statements: Sequence[_Statement], identity: Identity) -> None:
        self._variables = identity.variables()
        self._rules = [
            (statement, pattern)
            for statement in statements
            if (pattern := statement.compile(self._variables)) is not None
        ]

    def allows(self, action: str, resource: str, attributes: Iterable[str] = ()) -> bool:
        """Tell whether ``action`` (one of `ACTIONS`) is allowed on ``resource``.

        ``resource`` is the part after the account, as in ``topic/dt/x`` or ``client/node-1``;
        ``attributes`` are the ``iot:ConnectAttributes`` of a connect request.
        """
        context: dict[str, list[str]] = {k: [v] for k, v in self._variables.items()}
        context["iot:ConnectAttributes"] = list(attributes)
        allowed = False
        for statement, pattern in self._rules:
            if action not in statement.actions or not pattern.fullmatch(resource):
                continue
            if not statement.applies(context):
                continue
            if not statement.allow:
                return False
            allowed = True
        return allowed


class _Statement:
    def __init__(self, item: Any) -> None:
        if not isinstance(item, Mapping):
            raise _invalid("a statement is not an object")
        unknown = set(item) - {"Sid", "Effect", "Action", "Resource", "Condition"}
        if unknown:
            raise _invalid(f"{sorted(unknown)[0]!r} is not supported in a statement")
        effect = item.get("Effect")
        if effect not in ("Allow", "Deny"):
            raise _invalid(f"effect {effect!r} is neither Allow nor Deny")
        self.allow = effect == "Allow"
        self.actions = _actions(_strings(item.get("Action")))
        self._resources = [_in_account(r) for r in _strings(item.get("Resource"))]
        if not self._resources:
            raise _invalid("a statement has no resource")
        self._conditions = _conditions(item.get("Condition", {}))

    def compile(self, variables: Mapping[str, str]) -> re.Pattern[str] | None:
        """Return one expression for all resources, or None if every one lacks a variable."""
        parts = [p for r in self._resources if (p := _expression(r, variables)) is not None]
        return re.compile("|".join(parts), re.DOTALL) if parts else None

    def applies(self, context: Mapping[str, Sequence[str]]) -> bool:
        return all(test(context.get(key, ()), values) for test, key, values in self._conditions)


def _in_account(resource: str) -> str:
    """Cut ``arn:aws:iot:REGION:ACCOUNT:`` off: the bench stands for any account and region."""
    if resource == "*":
        return resource
    parts = resource.split(":", 5)
    if len(parts) < 6 or parts[0] != "arn" or parts[2] != "iot":
        raise _invalid(f"resource {resource!r} is no ARN of AWS IoT")
    return parts[5]


def _expression(resource: str, variables: Mapping[str, str]) -> str | None:
    out, at = [], 0
    for match in _VARIABLE.finditer(resource):
        if match[1] not in variables:
            return None
        # A value is literal text: a client called "*" gains nothing by its name.
        out += [_glob(resource[at : match.start()]), re.escape(variables[match[1]])]
        at = match.end()
    return "".join([*out, _glob(resource[at:])])


def _glob(text: str) -> str:
    return re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")


def _actions(names: list[str]) -> frozenset[str]:
    found: set[str] = set()
    for name in names:
        matching = [a for a in ACTIONS if re.fullmatch(_glob(name), a)]
        if not matching:
            raise _invalid(f"action {name!r} is not one of {', '.join(ACTIONS)}")
        found.update(matching)
    if not found:
        raise _invalid("a statement has no action")
    return frozenset(found)


def _equal(have: Sequence[str], want: Sequence[str]) -> bool:
    return len(have) == 1 and have[0] in want


def _like(have: Sequence[str], want: Sequence[str]) -> bool:
    return len(have) == 1 and any(re.fullmatch(_glob(w), have[0]) for w in want)


def _every(have: Sequence[str], want: Sequence[str]) -> bool:
    return all(h in want for h in have)  # true for an empty set, as ForAllValues is


def _any(have: Sequence[str], want: Sequence[str]) -> bool:
    return any(h in want for h in have)


_OPERATORS = {
    "Bool": _equal,
    "StringEquals": _equal,
    "StringLike": _like,
    "ForAllValues:StringEquals": _every,
    "ForAnyValue:StringEquals": _any,
}


def _conditions(block: Any) -> list[tuple[Any, str, list[str]]]:
    if not isinstance(block, Mapping):
        raise _invalid("a condition is not an object")
    found = []
    for operator, keys in block.items():
        if operator not in _OPERATORS:
            raise _invalid(f"condition operator {operator!r} is not supported")
        if not isinstance(keys, Mapping):
            raise _invalid(f"condition {operator!r} is not an object")
        found += [(_OPERATORS[operator], key, _strings(value)) for key, value in keys.items()]
    return found


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _strings(value: Any) -> list[str]:
    found = _as_list(value)
    for item in found:
        if not isinstance(item, str):
            raise _invalid(f"{item!r} is not a string")
    return found


def _invalid(cause: str) -> GridnodeError:
    return GridnodeError("read policy", cause, "Correct the policy file.", Exit.USAGE)
