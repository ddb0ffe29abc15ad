"""Device shadow service: answers the shadow topics of a broker.

The broker is anything with ``subscribe`` and ``publish``: the embedded endpoint, or a real one
through a client (`gridnode_host.bench.mosquitto.Mosquitto`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol

from gridnode_host.bench.routing import Message
from gridnode_host.bench.shadow_document import (
    Json,
    Request,
    Shadow,
    ShadowError,
    ShadowLimits,
    encode,
    parse_plain,
    parse_update,
    token_of,
    valid_name,
    valid_thing,
)

log = logging.getLogger(__name__)

_OPERATIONS = ("get", "update", "delete")
_Key = tuple[str, str]  # thing and shadow name; the classic shadow's name is empty


class Broker(Protocol):
    """What the service needs of a broker."""

    def subscribe(
        self, topic_filter: str, callback: Callable[[Message], None]
    ) -> Callable[[], None]: ...

    def publish(
        self, topic: str, payload: bytes | str, qos: int = 1, retain: bool = False
    ) -> None: ...


class ShadowService:
    """All shadows of all things. Documents outlive restarts of the broker."""

    def __init__(
        self,
        broker: Broker,
        clock: Callable[[], float] = time.time,
        limits: ShadowLimits | None = None,
        things: Collection[str] | None = None,
    ) -> None:
        """``clock`` gives Unix seconds. ``things`` are the known ones; None knows every name."""
        self._broker = broker
        self._clock = clock
        self._limits = limits or ShadowLimits()
        self._things = things
        self._shadows: dict[_Key, Shadow] = {}
        self._under_way: dict[str, deque[float]] = {}
        self._lock = threading.Lock()
        self._cancel = [
            broker.subscribe(f"$aws/things/+/shadow/{path}{operation}", self._request)
            for path in ("", "name/+/")
            for operation in _OPERATIONS
        ]

    def close(self) -> None:
        """Take no more requests."""
        for cancel in self._cancel:
            cancel()

    def get(self, thing: str, name: str | None = None) -> Json | None:
        """Return the document as the cloud side sees it, or None if there is none."""
        with self._lock:
            shadow = self._shadows.get((thing, name or ""))
            return shadow.get(self._clock()) if shadow and shadow.exists else None

    def update(
        self,
        thing: str,
        state: Json,
        name: str | None = None,
        version: int | None = None,
        token: str | None = None,
    ) -> Json:
        """Update as an application does; ``state`` is for example ``{"desired": {...}}``.

        The usual messages go out. Return the ``accepted`` document, or raise `ShadowError`.
        """
        body: Json = {"state": state}
        if version is not None:
            body["version"] = version
        if token is not None:
            body["clientToken"] = token
        return self._answer(thing, name or "", "update", encode(body))

    def delete(self, thing: str, name: str | None = None) -> Json:
        """Delete as an application does; raise `ShadowError` if there is no such shadow."""
        return self._answer(thing, name or "", "delete", b"")

    def _request(self, message: Message) -> None:
        if message.will:
            return  # AWS ignores a last will on a shadow topic
        parts = message.topic.split("/")
        thing, name, operation = parts[2], parts[5] if len(parts) == 7 else "", parts[-1]
        try:
            self._count(thing)
            self._answer(thing, name, operation, message.payload)
        except ShadowError as err:
            self._reject(message, err)
        except Exception:
            log.exception("shadow %s of %s failed", operation, thing)
            self._reject(message, ShadowError(500, "Internal service failure"))

    def _answer(self, thing: str, name: str, operation: str, payload: bytes) -> Json:
        """Do one operation and publish what follows from it; raise `ShadowError`."""
        if not valid_thing(thing) or (self._things is not None and thing not in self._things):
            raise ShadowError(404, "Thing not found")
        if name and not valid_name(name):
            raise ShadowError(400, "Invalid shadow name")
        with self._lock:
            messages = self._apply((thing, name), operation, payload)
        # Published without the lock: the broker's thread may be waiting for it.
        for ending, document in messages.items():
            self._broker.publish(f"{_prefix(thing, name)}/{operation}/{ending}", encode(document))
        return messages["accepted"]

    def _apply(self, key: _Key, operation: str, payload: bytes) -> dict[str, Json]:
        now = self._clock()
        if operation == "update":
            request = parse_update(payload, self._limits)
            # A refused first update must not leave an empty shadow behind.
            shadow = self._shadows.get(key, Shadow())
            result = shadow.update(request, self._limits, now)
            self._shadows[key] = shadow
            messages = {"accepted": result.accepted}
            if result.delta is not None:
                messages["delta"] = result.delta
            return {**messages, "documents": result.documents}
        request = parse_plain(payload)
        shadow = self._existing(key, request)
        act = shadow.get if operation == "get" else shadow.delete
        return {"accepted": act(now, request.token)}

    def _existing(self, key: _Key, request: Request) -> Shadow:
        shadow = self._shadows.get(key)
        if shadow is None or not shadow.exists:
            thing, name = key
            raise ShadowError(404, f"No shadow exists with name: {name or thing}", request.token)
        return shadow

    def _count(self, thing: str) -> None:
        """Raise 429 when too many requests of ``thing`` are still under way.

        The service answers at once, so each request is counted as under way for as long as the
        real service would take.
        """
        limits, now = self._limits, self._clock()
        if limits.in_flight is None:
            return
        with self._lock:
            recent = self._under_way.setdefault(thing, deque())
            while recent and now - recent[0] >= limits.in_flight_s:
                recent.popleft()
            if len(recent) >= limits.in_flight:
                raise ShadowError(429, "Too many requests")
            recent.append(now)

    def _reject(self, message: Message, error: ShadowError) -> None:
        error.token = error.token or token_of(message.payload)
        document = error.answer(self._clock())
        self._broker.publish(f"{message.topic}/rejected", encode(document))


def _prefix(thing: str, name: str) -> str:
    return f"$aws/things/{thing}/shadow" + (f"/name/{name}" if name else "")
