"""Sessions and routing: who gets which message, and what waits for whom.

Everything here runs in one thread at a time and never waits, so a message is routed to all
sessions in one step: a client that subscribes meanwhile can neither lose nor duplicate one.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from gridnode_host.bench.limits import Limits
from gridnode_host.bench.topics import matches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """One published message. ``client`` is the sender, empty for the service itself."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    client: str = ""
    will: bool = False
    time: float = 0.0


class Link(Protocol):
    """The connection of a session, as routing needs it."""

    writable: bool

    def may_receive(self, topic: str) -> bool: ...

    def send_publish(self, message: Message, qos: int, packet_id: int | None, dup: bool) -> None:
        """Send ``message``; ``packet_id`` is None with ``qos`` 0."""


@dataclass
class _Sent:
    message: Message
    at: float


@dataclass
class Session:
    """What the endpoint keeps for one client id."""

    client_id: str
    clean: bool
    limits: Limits
    filters: dict[str, int] = field(default_factory=dict)
    in_flight: OrderedDict[int, _Sent] = field(default_factory=OrderedDict)
    queue: deque[Message] = field(default_factory=deque)
    link: Link | None = None
    expires: float = 0.0
    _last_id: int = 0

    def granted(self, topic: str) -> int | None:
        """Return the highest QoS that a filter of this session grants for ``topic``."""
        return max((q for f, q in self.filters.items() if matches(f, topic)), default=None)

    def deliver(self, message: Message, qos: int, now: float) -> None:
        """Send or keep one message; QoS 0 is for those who can take it now."""
        if qos == 0:
            if self.link and self.link.writable and self.link.may_receive(message.topic):
                self.link.send_publish(message, 0, None, False)
        elif self.link or not self.clean:
            self.queue.append(message)
            self.pump(now)

    def pump(self, now: float) -> None:
        """Send what waits, as far as the client keeps up."""
        while self.link and self.link.writable and self.queue:
            if len(self.in_flight) >= self.limits.in_flight:
                return
            message = self.queue.popleft()
            if not self.link.may_receive(message.topic):
                continue
            packet_id = self._next_id()
            self.in_flight[packet_id] = _Sent(message, now)
            self.link.send_publish(message, 1, packet_id, False)

    def acknowledged(self, packet_id: int, now: float) -> None:
        """Take a PUBACK; one for a message that is not in flight means nothing."""
        self.in_flight.pop(packet_id, None)
        self.pump(now)

    def resend(self, now: float, older_than: float = 0.0) -> None:
        """Send again, marked as duplicate, what was sent so long ago and not acknowledged."""
        for packet_id, sent in list(self.in_flight.items()):
            if now - sent.message.time > self.limits.session_expiry:
                del self.in_flight[packet_id]
            elif now - sent.at >= older_than and self.link and self.link.writable:
                sent.at = now
                self.link.send_publish(sent.message, 1, packet_id, True)

    def _next_id(self) -> int:
        while True:
            self._last_id = self._last_id % 0xFFFF + 1
            if self._last_id not in self.in_flight:
                return self._last_id


class Router:
    """All sessions, the retained messages, and the observers and services on the bench side."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.clock = clock
        self.sessions: dict[str, Session] = {}
        self.retained: dict[str, Message] = {}
        self._observers: tuple[tuple[str, Callable[[Message], None]], ...] = ()
        self._observers_lock = threading.Lock()

    def open_session(self, client_id: str, clean: bool, link: Link) -> tuple[Session, bool]:
        """Attach ``link`` to the session of ``client_id``; tell whether it was present."""
        session = self.sessions.get(client_id)
        if session and not session.clean and session.link is None:
            if self.clock() >= session.expires:
                session = None
        present = session is not None and not session.clean and not clean
        if session is None or not present:
            session = Session(client_id, clean, self.limits)
            self.sessions[client_id] = session
        session.link = link
        return session, present

    def close_session(self, session: Session) -> None:
        """Detach the link: a clean session ends now, a persistent one when it expires."""
        session.link = None
        if session.clean:
            if self.sessions.get(session.client_id) is session:
                del self.sessions[session.client_id]
        else:
            session.expires = self.clock() + self.limits.session_expiry

    def route(self, message: Message) -> None:
        """Hand ``message`` to every session that subscribed to its topic, or keep it there."""
        now = self.clock()
        live = message
        if message.retain:
            live = replace(message, retain=False)  # set only on what a new subscription gets
            if message.payload:
                self.retained[message.topic] = message
            else:
                self.retained.pop(message.topic, None)
        for session in list(self.sessions.values()):
            granted = session.granted(message.topic)
            if granted is not None:
                session.deliver(live, min(granted, message.qos), now)

    def publish(self, message: Message) -> None:
        """Route a message of the service or a last will, and tell the observers."""
        message = replace(message, time=self.clock())
        self.route(message)
        self.notify(message)

    def retained_for(self, topic_filter: str) -> list[Message]:
        """Return the retained messages that a new subscription gets."""
        return [m for m in self.retained.values() if matches(topic_filter, m.topic)]

    def tick(self) -> None:
        """Do what time asks for: end expired sessions, send unacknowledged messages again."""
        now = self.clock()
        for session in list(self.sessions.values()):
            if session.link:
                session.resend(now, self.limits.resend_after)
                session.pump(now)
            elif now >= session.expires:
                del self.sessions[session.client_id]

    def observe(
        self, topic_filter: str, callback: Callable[[Message], None]
    ) -> Callable[[], None]:
        """Call ``callback`` with every message on ``topic_filter``; return how to end that."""
        entry = (topic_filter, callback)
        with self._observers_lock:
            self._observers += (entry,)

        def cancel() -> None:
            with self._observers_lock:
                self._observers = tuple(e for e in self._observers if e is not entry)

        return cancel

    def notify(self, message: Message) -> None:
        """Call the observers. What one of them raises is logged and harms nobody else."""
        for topic_filter, callback in self._observers:
            if matches(topic_filter, message.topic):
                try:
                    callback(message)
                except Exception:
                    log.exception("an observer of %s failed", topic_filter)
