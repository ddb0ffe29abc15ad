"""One MQTT client at the endpoint: what it may do, and what its packets cause.

Behaviour follows AWS IoT Core (developer guide, "MQTT"): identity before everything else, and a
forbidden or unsupported action closes the connection instead of being ignored.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import deque
from typing import Any, Protocol

from amqtt.mqtt.connack import (
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
    UNACCEPTABLE_PROTOCOL_VERSION,
    ConnackPacket,
)
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.pingresp import PingRespPacket
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsuback import UnsubackPacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from gridnode_host.bench.limits import Limits
from gridnode_host.bench.mqtt_codec import FrameBuffer, Malformed, decode
from gridnode_host.bench.policy import Identity, Policy
from gridnode_host.bench.routing import Message, Router, Session
from gridnode_host.bench.rules import Rules, check_connect_flags
from gridnode_host.bench.tls import TlsProtocol

log = logging.getLogger(__name__)

_THING = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_MAX_REMAINING = 268_435_455  # MQTT 3.1.1, 2.2.3
_OVERHEAD = 1024  # room for topic, packet id and the fields of CONNECT beside the payload
_WRITE_HIGH = 1024 * 1024


class Hub(Protocol):
    """What a connection needs of the endpoint."""

    router: Router
    limits: Limits
    stalled: bool
    clients: dict[str, Connection]

    def now(self) -> float: ...

    def policy_for(self, thing: str) -> Policy | None: ...

    def connect_allowed(self, client_id: str) -> bool: ...

    def refuse(self, stage: str, client: str, reason: str) -> None: ...

    def arrived(self, connection: Connection) -> None: ...

    def gone(self, connection: Connection) -> None: ...


class Connection(TlsProtocol):
    """The protocol object of one client."""

    def __init__(self, hub: Hub, context: ssl.SSLContext) -> None:
        limits = hub.limits
        super().__init__(context, limits.handshake_timeout, limits.close_timeout)
        self._hub = hub
        self._limits = limits
        room = limits.payload_bytes
        self._frames = FrameBuffer(_MAX_REMAINING if room is None else room + _OVERHEAD)
        self.writable = True
        self._ended = False
        self.thing = ""
        self.client_id = ""
        self._rules = Rules(limits)
        self._session: Session | None = None
        self._will: Message | None = None
        self._keep_alive = 0.0
        self._heard = 0.0
        self._recent: deque[float] = deque(maxlen=limits.publishes_per_second or 1)

    # What the endpoint asks.

    def check(self, now: float) -> None:
        """Close when the client has been silent for 1.5 times its keep-alive."""
        if self._session and now - self._heard > 1.5 * self._keep_alive:
            self.end(f"silent for more than {1.5 * self._keep_alive:g} s", log_it=True)

    def end(self, reason: str = "", *, will: bool = True, log_it: bool = False) -> None:
        """Close this connection; ``will`` publishes the last will, ``log_it`` tells the log."""
        if self._ended:
            return
        self._ended = True
        if log_it:
            stage = "session" if self._session else "connect"
            self._hub.refuse(stage, self.client_id or self.thing or self.peer, reason)
        self._detach(will)
        self.shut()

    def hold(self) -> None:
        """Take no more input until `release`."""
        self._transport.pause_reading()
        self.writable = False

    def release(self) -> None:
        """Go on after `hold`."""
        if self._ended:
            return
        self._heard = self._hub.now()
        self.resume_writing()

    # Routing's view (`gridnode_host.bench.routing.Link`).

    def may_receive(self, topic: str) -> bool:
        return self._rules.receive(topic)

    def send_publish(self, message: Message, qos: int, packet_id: int | None, dup: bool) -> None:
        packet = PublishPacket.build(
            message.topic, message.payload, packet_id, dup, qos, message.retain
        )
        self.send(packet.to_bytes())

    # The transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._hub.arrived(self)
        if self._hub.stalled:
            self.hold()

    def secured(self, certificate: dict[str, Any]) -> None:
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self._restart_timer(self._limits.connect_timeout, self._connect_late)
        names = [v for rdn in certificate.get("subject", ()) for k, v in rdn if k == "commonName"]
        self.thing = names[0] if len(names) == 1 else ""
        now = self._hub.now()
        # OpenSSL has checked this against the wall clock; a warped rig has a time of its own.
        if now > ssl.cert_time_to_seconds(certificate["notAfter"]):
            self._refuse_certificate("the client certificate has expired at rig time")
        elif not _THING.fullmatch(self.thing):
            self._refuse_certificate(f"the certificate's name {self.thing!r} is no thing name")

    def failed(self, reason: str) -> None:
        self._ended = True
        self._hub.refuse("tls", self.peer, reason)

    def received(self, data: bytes) -> None:
        self._heard = self._hub.now()
        self._frames.feed(data)
        self._process()

    def lost(self) -> None:
        if not self._ended:
            self._ended = True
            self._detach(will=True)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._hub.gone(self)

    def pause_writing(self) -> None:
        self.hold()

    def resume_writing(self) -> None:
        if self._hub.stalled or self._ended:
            return
        self.writable = True
        self._transport.resume_reading()
        if self._session:
            self._session.pump(self._hub.now())
        self._process()

    # Packets.

    def _process(self) -> None:
        try:
            while self.writable and not self._ended:
                frame = self._frames.next()
                if frame is None:
                    return
                self._handle(decode(*frame))
        except Malformed as err:
            self.end(str(err), log_it=True)
        except Exception:
            log.exception("a packet of %s failed", self.client_id or self.peer)
            self.end("internal error", log_it=True)

    def _handle(self, packet: Any) -> None:
        session = self._session
        if session is None:
            if not isinstance(packet, ConnectPacket):
                raise Malformed("the first packet is not CONNECT")
            self._connect(packet)
        elif isinstance(packet, PublishPacket):
            self._publish(packet)
        elif isinstance(packet, PubackPacket):
            session.acknowledged(packet.packet_id, self._hub.now())
        elif isinstance(packet, SubscribePacket):
            self._subscribe(packet, session)
        elif isinstance(packet, UnsubscribePacket):
            self._unsubscribe(packet, session)
        elif isinstance(packet, PingReqPacket):
            self.send(PingRespPacket.build().to_bytes())
        elif isinstance(packet, DisconnectPacket):
            self.end(will=False)
        else:
            raise Malformed("a second CONNECT")

    def _connect(self, packet: ConnectPacket) -> None:
        head = packet.variable_header
        assert head is not None and packet.client_id is not None
        self._stop_timer()
        self.client_id = packet.client_id
        if packet.proto_name != "MQTT" or head.proto_level != 4:
            self._refuse_connect(UNACCEPTABLE_PROTOCOL_VERSION, "protocol is not MQTT 3.1.1")
            return
        check_connect_flags(head)
        # The will goes out in this client's name, so its rights are settled first.
        policy = self._hub.policy_for(self.thing)
        size = len(self.client_id.encode())
        if not size or (self._limits.client_id_bytes and size > self._limits.client_id_bytes):
            self._refuse_connect(IDENTIFIER_REJECTED, f"client id of {size} bytes")
            return
        if self.client_id != self.thing:
            self._refuse_connect(
                NOT_AUTHORIZED, f"client id is not the certificate's name {self.thing!r}"
            )
            return
        if policy is None:
            self._refuse_connect(NOT_AUTHORIZED, "no active thing of this name")
            return
        rights = policy.bind(Identity(self.thing, self.client_id))
        attributes = [] if head.clean_session_flag else ["PersistentConnect"]
        attributes += ["LastWill"] if head.will_flag else []
        if not rights.allows("iot:Connect", f"client/{self.client_id}", attributes):
            self._refuse_connect(NOT_AUTHORIZED, "iot:Connect is not allowed by the policy")
            return
        self._rules = Rules(self._limits, rights)
        will = self._read_will(packet)
        if isinstance(will, str):
            self._refuse_connect(NOT_AUTHORIZED, f"last will: {will}")
            return
        if not self._hub.connect_allowed(self.client_id):
            self._refuse_connect(SERVER_UNAVAILABLE, "too many CONNECTs per second")
            return
        self._accept(head, will)

    def _accept(self, head: Any, will: Message | None) -> None:
        hub, limits = self._hub, self._limits
        older = hub.clients.get(self.client_id)
        if older:
            older.end("a new connection has the same client id", log_it=True)
        hub.clients[self.client_id] = self
        self._will = will
        wanted = head.keep_alive or limits.keep_alive_max
        self._keep_alive = min(max(wanted, limits.keep_alive_min), limits.keep_alive_max)
        session, present = hub.router.open_session(self.client_id, head.clean_session_flag, self)
        self._session = session
        self.send(ConnackPacket.build(int(present), 0).to_bytes())
        session.resend(hub.now())
        session.pump(hub.now())

    def _read_will(self, packet: ConnectPacket) -> Message | str | None:
        """Return the will, None without one, or why it is refused."""
        head = packet.variable_header
        assert head is not None
        if not head.will_flag:
            return None
        topic, payload = packet.will_topic or "", bytes(packet.will_message or b"")
        problem = self._rules.publish(topic, payload, head.will_qos, head.will_retain_flag)
        if problem:
            return problem
        return Message(
            topic, payload, head.will_qos, head.will_retain_flag, self.client_id, will=True
        )

    def _publish(self, packet: PublishPacket) -> None:
        topic, payload, qos = packet.topic_name or "", packet.data or b"", packet.qos or 0
        if (qos == 0 and packet.dup_flag) or (qos and not packet.packet_id):
            raise Malformed("PUBLISH with impossible flags or packet id")
        problem = self._rules.publish(topic, payload, qos, packet.retain_flag)
        if problem:
            self.end(problem, log_it=True)
            return
        now = self._hub.now()
        if self._limits.publishes_per_second:
            if len(self._recent) == self._recent.maxlen and now - self._recent[0] < 1.0:
                return  # throttled: neither routed nor acknowledged
            self._recent.append(now)
        message = Message(topic, payload, qos, packet.retain_flag, self.client_id, time=now)
        # Routed, then acknowledged, then the services: nothing in between can be interrupted.
        self._hub.router.route(message)
        if qos:
            self.send(PubackPacket.build(packet.packet_id or 0).to_bytes())
        self._hub.router.notify(message)

    def _subscribe(self, packet: SubscribePacket, session: Session) -> None:
        wanted = packet.payload.topics if packet.payload else []
        packet_id = packet.variable_header.packet_id if packet.variable_header else 0
        if not wanted or not packet_id:
            raise Malformed("SUBSCRIBE without a filter or packet id")
        problem = self._rules.subscribe(wanted, session.filters)
        if problem:
            self.end(problem, log_it=True)
            return
        session.filters.update(wanted)
        self.send(SubackPacket.build(packet_id, [qos for _, qos in wanted]).to_bytes())
        for topic_filter, qos in wanted:
            for message in self._hub.router.retained_for(topic_filter):
                session.deliver(message, min(qos, message.qos), self._hub.now())

    def _unsubscribe(self, packet: UnsubscribePacket, session: Session) -> None:
        wanted = packet.payload.topics if packet.payload else []
        packet_id = packet.variable_header.packet_id if packet.variable_header else 0
        if not wanted or not packet_id:
            raise Malformed("UNSUBSCRIBE without a filter or packet id")
        for topic_filter in wanted:
            session.filters.pop(topic_filter, None)
        self.send(UnsubackPacket.build(packet_id).to_bytes())

    def _refuse_connect(self, code: int, reason: str) -> None:
        # Noted first: who sees the refusal finds its reason.
        self._hub.refuse("connect", self.client_id or self.thing, reason)
        self.send(ConnackPacket.build(0, code).to_bytes())
        self.end()

    def _refuse_certificate(self, reason: str) -> None:
        self.failed(reason)
        self.shut()

    def _connect_late(self) -> None:
        self.end(f"no CONNECT within {self._limits.connect_timeout:g} s", log_it=True)

    def _detach(self, will: bool) -> None:
        """Leave the session and the table of clients; then the will may go out."""
        session, self._session = self._session, None
        if session is None:
            return
        if self._hub.clients.get(self.client_id) is self:
            del self._hub.clients[self.client_id]
        self._hub.router.close_session(session)
        if will and self._will:
            self._hub.router.publish(self._will)
