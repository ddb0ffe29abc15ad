"""Embedded MQTT endpoint of the bench: a small twin of AWS IoT Core's device gateway.

It runs an asyncio loop in a thread of its own, on loopback, with mutual TLS. Sessions and retained
messages outlive `Endpoint.stop`, as those of a service that cannot be reached for a while.
"""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gridnode_host.bench.connection import Connection
from gridnode_host.bench.limits import Limits
from gridnode_host.bench.policy import Policy
from gridnode_host.bench.routing import Message, Router
from gridnode_host.bench.tls import server_context
from gridnode_host.errors import Exit, GridnodeError

_T = TypeVar("_T")
_TICK = 0.05  # real seconds between looks at keep-alives, expiries and resends
_DEADLINE = 10.0  # real seconds for the thread to start, answer or end
_GRACE = 0.3  # real seconds for clients to follow when the endpoint stops
_REFUSALS = 1000


@dataclass(frozen=True)
class Refusal:
    """Why a client was refused or thrown out, as only the endpoint's side knows it.

    ``stage`` is ``tls`` (then ``client`` is an address), ``connect`` or ``session``.
    """

    time: float
    stage: str
    client: str
    reason: str


class Endpoint:
    """The endpoint; also a context manager that starts and stops it."""

    faults = frozenset({"stop", "stall", "kick"})

    def __init__(
        self,
        ca_cert: Path,
        cert: Path,
        key: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        things: Policy | Callable[[str], Policy | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``port`` 0 takes a free one at the first start and keeps it.

        ``things`` is the policy of every certificate of the CA, or a function from a thing's name
        to its policy (None refuses it); without it every node gets the product's node policy.
        ``clock`` gives Unix seconds.
        """
        self.host, self.port = host, port
        self.ca_cert = ca_cert
        self.limits = limits or Limits()
        self.clock = clock
        self.router = Router(self.limits, clock)
        self.clients: dict[str, Connection] = {}
        self.stalled = False
        self._context = server_context(ca_cert, cert, key)
        given = things if things is not None else Policy.named("node-policy")
        self._policy_for = given if callable(given) else lambda _thing: given
        self._refused: deque[Refusal] = deque(maxlen=_REFUSALS)
        self._connections: set[Connection] = set()
        self._last_connect: dict[str, float] = {}
        self._lifecycle = threading.RLock()
        self._thread: threading.Thread | None = None
        self._ident: int | None = None
        self._restarting = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    # For the bench.

    def __enter__(self) -> Endpoint:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether clients can connect."""
        return self._thread is not None

    @property
    def refused(self) -> list[Refusal]:
        """The last refusals, oldest first."""
        return list(self._refused)

    @property
    def connected(self) -> list[str]:
        """The client ids that are connected now."""
        return sorted(self.clients.copy())

    def start(self) -> None:
        """Listen; raise `GridnodeError` if the port cannot be had."""
        with self._lifecycle:
            if self._thread:
                return
            ready: Future[int] = Future()
            thread = threading.Thread(
                target=self._run, args=(ready,), name="mqtt-endpoint", daemon=True
            )
            thread.start()
            try:
                self.port = ready.result(_DEADLINE)
            except (OSError, OverflowError) as err:
                thread.join(_DEADLINE)
                raise GridnodeError(
                    "start endpoint",
                    f"cannot listen on {self.host}:{self.port}: {err}",
                    "Stop what uses this port, or choose another one.",
                    Exit.CLOUD,
                ) from err
            self._thread = thread
            self._restarting = True

    def stop(self) -> None:
        """Drop every connection and stop listening; sessions are kept."""
        with self._lifecycle:
            thread, loop, stopping = self._thread, self._loop, self._stopping
            if not thread or not loop or not stopping:
                return
            loop.call_soon_threadsafe(stopping.set)
            thread.join(_DEADLINE)
            if thread.is_alive():
                raise GridnodeError("stop endpoint", "its thread does not end")
            self._thread = self._ident = None

    def publish(
        self, topic: str, payload: bytes | str, qos: int = 1, retain: bool = False
    ) -> None:
        """Publish as the service; while stopped, persistent sessions keep the message."""
        data = payload.encode() if isinstance(payload, str) else payload
        self._call(lambda: self.router.publish(Message(topic, data, qos, retain)))

    def subscribe(
        self, topic_filter: str, callback: Callable[[Message], None]
    ) -> Callable[[], None]:
        """Call ``callback`` in the endpoint's thread with each message; return how to end that."""
        return self.router.observe(topic_filter, callback)

    def kick(self, client_id: str) -> bool:
        """Drop the connection of ``client_id``; tell whether there was one."""

        def drop() -> bool:
            connection = self.clients.get(client_id)
            if connection:
                connection.end("dropped by the bench", log_it=True)
            return connection is not None

        return self._call(drop)

    @contextmanager
    def stall(self) -> Iterator[None]:
        """Neither read nor answer while the context lasts; TCP still connects."""
        self._call(lambda: self._set_stalled(True))
        try:
            yield
        finally:
            self._call(lambda: self._set_stalled(False))

    # For connections (`gridnode_host.bench.connection.Hub`).

    def now(self) -> float:
        return self.clock()

    def policy_for(self, thing: str) -> Policy | None:
        return self._policy_for(thing)

    def connect_allowed(self, client_id: str) -> bool:
        limit = self.limits.connects_per_second
        now = self.clock()
        if limit and now - self._last_connect.get(client_id, float("-inf")) < 1.0 / limit:
            return False
        self._last_connect[client_id] = now
        return True

    def refuse(self, stage: str, client: str, reason: str) -> None:
        self._refused.append(Refusal(self.clock(), stage, client, reason))

    def arrived(self, connection: Connection) -> None:
        self._connections.add(connection)

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)

    # The thread.

    def _run(self, ready: Future[int]) -> None:
        self._ident = threading.get_ident()
        with asyncio.Runner() as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready: Future[int]) -> None:
        loop = asyncio.get_running_loop()
        try:
            server = await self._listen(loop)
        except (OSError, OverflowError) as err:
            ready.set_exception(err)
            return
        self._stopping = asyncio.Event()
        self._loop = loop
        ready.set_result(server.sockets[0].getsockname()[1])
        try:
            while not self._stopping.is_set():
                self._tick()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK):
                        await self._stopping.wait()
        finally:
            self._loop = None
            self.stalled = False
            server.close()
            await self._drop_all()

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> asyncio.Server:
        """Bind, with patience when it is a restart: another process may hold the port a while."""
        deadline = loop.time() + (_DEADLINE / 2 if self._restarting else 0.0)
        while True:
            try:
                return await loop.create_server(self._accept, self.host, self.port)
            except OSError as err:
                if err.errno != errno.EADDRINUSE or loop.time() > deadline:
                    raise
                await asyncio.sleep(0.1)

    def _accept(self) -> Connection:
        return Connection(self, self._context)

    def _tick(self) -> None:
        if not self.stalled:
            now = self.clock()
            for connection in list(self.clients.values()):
                connection.check(now)
            self.router.tick()

    async def _drop_all(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _GRACE
        await asyncio.sleep(0.01)  # a connection that was just accepted appears meanwhile
        while self._connections:
            for connection in list(self._connections):
                connection.end(will=False)
                if loop.time() > deadline:
                    connection.abort()
            await asyncio.sleep(0.01)

    def _set_stalled(self, stalled: bool) -> None:
        self.stalled = stalled
        for connection in list(self._connections):
            connection.hold() if stalled else connection.release()

    def _call(self, action: Callable[[], _T]) -> _T:
        """Run ``action`` in the endpoint's thread, or here while there is none."""
        if threading.get_ident() == self._ident:
            return action()
        with self._lifecycle:
            loop = self._loop
            if loop is None:
                return action()
            done: Future[_T] = Future()
            loop.call_soon_threadsafe(_settle, done, action)
        return done.result(_DEADLINE)


def _settle(done: Future[Any], action: Callable[[], Any]) -> None:
    try:
        done.set_result(action())
    except Exception as err:  # noqa: BLE001 - raised again where the result is awaited
        done.set_exception(err)
