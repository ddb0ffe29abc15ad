"""Device shadow documents as AWS IoT keeps them: pure, no transport, no clock of its own.

Sources: AWS IoT developer guide, "Device Shadow service documents", "... error messages" and
"... data flow"; where the guide is silent, AWS's own Greengrass shadow manager. What neither
settles (to be checked on the live service): whether an update that names a version may create a
shadow (here only with version 0), and whether an empty object counts as a level of nesting (here
it does).
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

SECTIONS = ("desired", "reported")
KEPT_AFTER_DELETE = 48 * 3600  # seconds for which a deleted shadow's version goes on counting
_TOKEN_BYTES = 64
_THING = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_NAME = re.compile(r"[$a-zA-Z0-9:_-]{1,64}")

Json = dict[str, Any]


class ShadowError(Exception):
    """A refused request, with the code and text of the ``rejected`` answer."""

    def __init__(self, code: int, message: str, token: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.token = token

    def answer(self, now: float) -> Json:
        """Return the ``rejected`` document; ``now`` is in Unix seconds."""
        document: Json = {"code": self.code, "message": self.message, "timestamp": int(now)}
        if self.token is not None:
            document["clientToken"] = self.token
        return document


@dataclass(frozen=True)
class ShadowLimits:
    """Limits of the shadow service; None switches one off."""

    state_bytes: int | None = 8 * 1024  # desired and reported without metadata
    nesting: int | None = 6  # objects and arrays from a section down, the section being the first
    # Requests of one thing under way at a time, and the seconds for which one counts as such.
    in_flight: int | None = 10
    in_flight_s: float = 0.05


@dataclass(frozen=True)
class Request:
    """A well-formed update, get or delete request."""

    state: Json | None = None
    version: int | None = None
    token: str | None = None


@dataclass(frozen=True)
class Update:
    """The three documents that follow an accepted update."""

    accepted: Json
    documents: Json
    delta: Json | None


def valid_thing(name: str) -> bool:
    """Tell whether a thing can have this name."""
    return _THING.fullmatch(name) is not None


def valid_name(name: str) -> bool:
    """Tell whether a named shadow can have this name."""
    return _NAME.fullmatch(name) is not None


def parse_update(payload: bytes, limits: ShadowLimits) -> Request:
    """Return the request in an ``update`` payload; raise `ShadowError`."""
    body = _parse(payload)
    token = _token(body)

    def refuse(message: str) -> NoReturn:
        raise ShadowError(400, message, token)

    version = body.get("version")
    if version is not None and (type(version) is not int or version < 0):
        refuse("Invalid version")
    if "state" not in body:
        refuse("Missing required node: state")
    state = body["state"]
    if state is None:
        state = dict.fromkeys(SECTIONS)
    if not isinstance(state, dict):
        refuse("State node must be an object")
    for section in SECTIONS:
        if not isinstance(state.get(section), dict | None):
            refuse(f"{section.capitalize()} node must be an object")
        if limits.nesting is not None and _deeper(state.get(section), limits.nesting):
            refuse(f"JSON contains too many levels of nesting; maximum is {limits.nesting}")
    patch = {s: state[s] for s in SECTIONS if s in state}  # what else there is, is ignored
    if (state and not patch) or any(map(_null_in_array, patch.values())):
        refuse("State contains an invalid node")
    return Request(patch, version, token)


def parse_plain(payload: bytes) -> Request:
    """Return the request in a ``get`` or ``delete`` payload, which may be empty."""
    return Request(token=_token(_parse(payload))) if payload.strip() else Request()


def token_of(payload: bytes) -> str | None:
    """Return the client token of a request that is refused unread, if it has a valid one."""
    try:
        return parse_plain(payload).token
    except ShadowError:
        return None


@dataclass
class Shadow:
    """One shadow. It exists while ``deleted_at`` is None and ``version`` is above 0."""

    desired: Json = field(default_factory=dict)
    reported: Json = field(default_factory=dict)
    metadata: dict[str, Json] = field(default_factory=dict)
    version: int = 0
    timestamp: int = 0
    deleted_at: float | None = None

    @property
    def exists(self) -> bool:
        return self.version > 0 and self.deleted_at is None

    def update(self, request: Request, limits: ShadowLimits, now: float) -> Update:
        """Merge ``request`` as a whole or raise `ShadowError` and change nothing."""
        self._forget(now)
        if request.version is not None and request.version != self.current_version:
            raise ShadowError(409, "Version conflict", request.token)
        patch, stamp = request.state or {}, int(now)
        merged = {s: copy.deepcopy(getattr(self, s)) for s in SECTIONS}
        marks = {s: copy.deepcopy(self.metadata.get(s, {})) for s in SECTIONS}
        for section, change in patch.items():
            if change is None:
                merged[section], marks[section] = {}, {}
            else:
                _merge(merged[section], marks[section], change, stamp)
        if limits.state_bytes is not None:
            if sum(_size(part) for part in merged.values() if part) > limits.state_bytes:
                raise ShadowError(
                    413, "The payload exceeds the maximum size allowed", request.token
                )
        previous = self._snapshot() if self.exists else None
        self.desired, self.reported = merged["desired"], merged["reported"]
        self.metadata = {s: m for s, m in marks.items() if m}
        self.version += 1
        self.timestamp, self.deleted_at = stamp, None
        return self._answers(request, patch, previous, stamp)

    def get(self, now: float, token: str | None = None) -> Json:
        """Return the whole document as ``get/accepted`` carries it. The shadow must exist."""
        state, metadata = self._state(), copy.deepcopy(self.metadata)
        delta, marks = self.delta()
        if delta:
            state["delta"] = delta
            metadata["delta"] = marks
        answer = {"state": state, "metadata": metadata}
        return _finish(answer, self.version, int(now), token)

    def delete(self, now: float, token: str | None = None) -> Json:
        """Delete the shadow and return ``delete/accepted``. The shadow must exist."""
        answer = _finish({}, self.version, int(now), token)
        self.desired, self.reported, self.metadata = {}, {}, {}
        self.version += 1  # the deletion counts
        self.deleted_at = now
        return answer

    def delta(self) -> tuple[Json, Json]:
        """Return what desired has and reported lacks or has otherwise, and its metadata."""
        return _difference(self.desired, self.reported, self.metadata.get("desired", {}))

    @property
    def current_version(self) -> int:
        """The version that an update may name."""
        return self.version if self.exists else 0

    def _forget(self, now: float) -> None:
        if self.deleted_at is not None and now - self.deleted_at > KEPT_AFTER_DELETE:
            self.version, self.deleted_at = 0, None

    def _answers(self, request: Request, patch: Json, previous: Json | None, stamp: int) -> Update:
        marks = {s: _marks(change, stamp) for s, change in patch.items() if change is not None}
        accepted = _finish(
            {"state": copy.deepcopy(patch), "metadata": marks}, self.version, stamp, request.token
        )
        documents: Json = {"previous": previous, "current": self._snapshot(), "timestamp": stamp}
        if request.token is not None:
            documents["clientToken"] = request.token
        state, metadata = self.delta()
        delta = None
        if state:
            delta = _finish(
                {"state": state, "metadata": metadata}, self.version, stamp, request.token
            )
        return Update(accepted, documents, delta)

    def _state(self) -> Json:
        return {s: copy.deepcopy(part) for s in SECTIONS if (part := getattr(self, s))}

    def _snapshot(self) -> Json:
        return {
            "state": self._state(),
            "metadata": copy.deepcopy(self.metadata),
            "version": self.version,
        }


def encode(document: Json) -> bytes:
    """Return a document as it goes on the wire."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def equal(a: Any, b: Any) -> bool:
    """Compare as JSON does: 1 equals 1.0, and neither equals true."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return bool(a == b)


def _parse(payload: bytes) -> Json:
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise ShadowError(
            415, "Unsupported documented encoding; supported encoding is UTF-8"
        ) from None
    try:
        body = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        # Half a surrogate pair is legal in a JSON escape but is no text that could be sent on.
        json.dumps(body, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ShadowError(400, "Invalid JSON")
    return body


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _token(body: Json) -> str | None:
    token = body.get("clientToken")
    if token is not None and (not isinstance(token, str) or len(token.encode()) > _TOKEN_BYTES):
        raise ShadowError(400, "Invalid clientToken")
    return token


def _deeper(node: Any, levels: int) -> bool:
    if isinstance(node, dict):
        node = list(node.values())
    if not isinstance(node, list):
        return False
    return levels == 0 or any(_deeper(child, levels - 1) for child in node)


def _null_in_array(node: Any, inside: bool = False) -> bool:
    if isinstance(node, dict):
        return any(_null_in_array(child, inside) for child in node.values())
    if isinstance(node, list):
        return any(_null_in_array(child, True) for child in node)
    return inside and node is None


def _size(part: Json) -> int:
    return len(encode(part))


def _merge(target: Json, marks: Json, patch: Json, stamp: int) -> None:
    """Merge ``patch`` into ``target`` and its mirror of timestamps, both in place."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
            marks.pop(key, None)
        elif isinstance(value, dict):
            if not isinstance(target.get(key), dict):
                target[key], marks[key] = {}, {}
            _merge(target[key], marks[key], value, stamp)
        else:
            target[key] = copy.deepcopy(value)
            marks[key] = _marks(value, stamp)


def _marks(node: Any, stamp: int) -> Any:
    """Return the mirror of ``node``: one timestamp for each value, array elements included."""
    if isinstance(node, dict):
        return {key: _marks(child, stamp) for key, child in node.items()}
    if isinstance(node, list):
        return [_marks(child, stamp) for child in node]
    return {"timestamp": stamp}


def _difference(desired: Json, reported: Json, marks: Json) -> tuple[Json, Json]:
    state: Json = {}
    metadata: Json = {}
    for key, value in desired.items():
        other = reported.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            inner, inner_marks = _difference(value, other, marks[key])
            if inner:
                state[key], metadata[key] = inner, inner_marks
        elif key not in reported or not equal(value, other):
            state[key], metadata[key] = copy.deepcopy(value), copy.deepcopy(marks[key])
    return state, metadata


def _finish(answer: Json, version: int, stamp: int, token: str | None) -> Json:
    answer["version"] = version
    answer["timestamp"] = stamp
    if token is not None:
        answer["clientToken"] = token
    return answer
