"""The bench's own MQTT client at a broker that runs outside it (paho-mqtt, mutual TLS)."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gridnode_host.bench.routing import Message
from gridnode_host.bench.topics import matches
from gridnode_host.errors import Exit, GridnodeError

log = logging.getLogger(__name__)

_DEADLINE = 10.0  # real seconds to connect, or to be granted a subscription


class ServiceClient:
    """Observers and publishing through an ordinary connection with a persistent session.

    The session is persistent so that nothing that a node got acknowledged is lost while this
    client is away.
    """

    def __init__(self, name: str, tls: ssl.SSLContext) -> None:
        """``name`` is the client id and the common name of the certificate in ``tls``."""
        self._observers: dict[str, tuple[Callable[[Message], None], ...]] = {}
        self._lock = threading.Lock()
        self._granted: set[int] = set()
        self._changed = threading.Condition()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, clean_session=False
        )
        self._client.tls_set_context(tls)
        self._client.max_inflight_messages_set(100)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def start(self, host: str, port: int) -> None:
        """Connect and subscribe; raise `GridnodeError` if that is not done in time."""
        try:
            self._client.connect(host, port, keepalive=60)
        except OSError as err:
            raise _failed(str(err)) from err
        self._client.loop_start()
        self._wait(self._client.is_connected, "no answer to CONNECT")
        for topic_filter in list(self._observers):
            self._subscribe(topic_filter)

    def stop(self) -> None:
        """Disconnect; the broker keeps the session."""
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes | str, qos: int, retain: bool) -> None:
        """Hand a message over; with QoS 1 it is sent after the next start if need be."""
        self._client.publish(topic, payload, qos, retain)

    def observe(
        self, topic_filter: str, callback: Callable[[Message], None]
    ) -> Callable[[], None]:
        """Call ``callback`` with every message on ``topic_filter``; return how to end that."""
        with self._lock:
            known = self._observers.get(topic_filter, ())
            self._observers[topic_filter] = (*known, callback)
        if not known and self._client.is_connected():
            self._subscribe(topic_filter)

        def cancel() -> None:
            with self._lock:
                left = [c for c in self._observers.get(topic_filter, ()) if c is not callback]
                self._observers[topic_filter] = tuple(left)

        return cancel

    def _subscribe(self, topic_filter: str) -> None:
        result, packet_id = self._client.subscribe(topic_filter, qos=1)
        if result != paho.MQTT_ERR_SUCCESS or packet_id is None:
            raise _failed(f"cannot subscribe to {topic_filter}")
        self._wait(lambda: packet_id in self._granted, f"no SUBACK for {topic_filter}")

    def _wait(self, condition: Callable[[], bool], failure: str) -> None:
        deadline = time.monotonic() + _DEADLINE
        with self._changed:
            while not condition():
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise _failed(failure)

    def _tell(self, packet_id: int | None = None) -> None:
        with self._changed:
            if packet_id is not None:
                self._granted.add(packet_id)
            self._changed.notify_all()

    def _on_connect(self, *_args: Any) -> None:
        self._tell()

    def _on_subscribe(self, _client: Any, _data: Any, packet_id: int, *_args: Any) -> None:
        self._tell(packet_id)

    def _on_message(self, _client: Any, _data: Any, received: paho.MQTTMessage) -> None:
        message = Message(received.topic, bytes(received.payload), received.qos, received.retain)
        for topic_filter, callbacks in list(self._observers.items()):
            if matches(topic_filter, message.topic):
                for callback in callbacks:
                    _safely(callback, message)


def _safely(callback: Callable[[Message], None], message: Message) -> None:
    try:
        callback(message)
    except Exception:
        log.exception("an observer of %s failed", message.topic)


def _failed(cause: str) -> GridnodeError:
    return GridnodeError("connect to the broker", cause, "Look at the broker's log.", Exit.CLOUD)
