"""Brings the node on line and keeps it there: network, clock, TLS, MQTT, subscriptions, shadow
sync, in that order.

Any failure closes everything, is reported once as a fault, and is followed by a jittered pause
that grows to minutes and starts again from a second after a minute on line.
"""

import gc
import os
import time
from asyncio import create_task, sleep_ms
from micropython import const

from gridnode import clock, rooms
from gridnode.fault import Fault
from gridnode.link import Link
from gridnode.mqtt import Session

_PAUSE_MS = const(1000)  # AWS takes one CONNECT per second and client id
_PAUSE_MAX_MS = const(300000)
_STABLE_MS = const(60000)  # so long on line, and the next failure starts with a short pause
_SYNC_MS = const(15000)
_BUSY_MS = const(20)  # between two steps while something is awaited
_IDLE_MS = const(100)
_LOOK_MS = const(1000)  # between two looks at the network interface
_DOWN_LOOKS = const(5)  # the driver may heal a drop-out for so long


def backoff_ms(failures, random=None):
    """Pause before the next attempt: 1 s plus a random part up to 2^failures s (full jitter), at
    most 5 minutes.
    """
    span = min(_PAUSE_MS << min(failures, 10), _PAUSE_MAX_MS - _PAUSE_MS)
    if random is None:
        random = int.from_bytes(os.urandom(2), "big")
    return _PAUSE_MS + span * random // 65536


class Connection:
    """One node's way to its broker.

    `network` is of gridnode.wifi, `sntp` a clock.Sntp or None, `context` from setup.credentials,
    `will` a topic and a payload in bytes, `size` of the send buffer. `sync` is called when the subscriptions stand and
    publishes what asks for the shadow; the state is "online" when `synced` was called, or after
    15 s without it.

    Callbacks: `on_state(state)` with wifi, clock, tls, subscribe, sync, online, down;
    `on_fault(fault, retry_ms)`, retry_ms None where work goes on regardless; those of `session`.
    """

    def __init__(
        self,
        client_id,
        host,
        port,
        context,
        network,
        sntp=None,
        keepalive=60,
        will=None,
        timeout_ms=30000,
        size=4096,
    ):
        self.host = host
        self.port = port
        self.context = context
        self.network = network
        self.sntp = sntp
        self.subscriptions = ()
        self.sync = None
        self.state = "down"
        self.connects = 0  # times on line
        self.on_state = self.on_fault = None
        self.link = Link(size, timeout_ms)
        self.session = Session(client_id, self.link, keepalive, timeout_ms, will)
        self._failures = 0
        self._synced = False
        self._asking = None  # task that asks for the time

    @property
    def online(self):
        return self.state == "online"

    def publish(self, topic, payload, qos=1):
        """Send bytes; a token for `on_ack` (0 for QoS 0), or None if not connected or no room: try
        again later.

        Every token is answered once: True with the PUBACK, False when the connection was lost
        before it. Until then the payload must stay as it is, since it may be sent from where it
        lies. Raises ValueError for a payload of QoS 0 that does not fit the send buffer.
        """
        token = self.session.publish(topic, payload, qos=qos, lend=True)
        if token is not None:
            try:
                self.link.flush()
            except Fault:
                pass  # the link stays dead: `run` meets it at its next step
        return token

    def synced(self):
        """The answer to `sync` has come."""
        self._synced = True

    async def run(self):
        """Connect, serve, and connect again, until cancelled."""
        try:
            while True:
                try:
                    await self._connect()
                    rooms.forget()  # what opened the connection
                    await self._sync()
                    await self._serve()
                except Exception as e:  # noqa: BLE001 - whatever goes wrong, the node comes back
                    fault = e
                self.session.disconnect()
                self.enter("down")
                pause = backoff_ms(self._failures)
                self._failures += 1
                self._fault(fault, pause)
                fault = None  # with its traceback it would hold memory while the node waits
                rooms.forget()
                await sleep_ms(pause)
        finally:
            self.session.disconnect()
            if self._asking:
                self._asking.cancel()
            self.enter("down")

    async def _connect(self):
        from gridnode.opening import connection

        await connection.connect(self)

    async def _sync(self):
        self._synced = self.sync is None
        if self.sync:
            self.enter("sync")
            self.sync()
        start = time.ticks_ms()
        while not self._synced:
            if time.ticks_diff(time.ticks_ms(), start) > _SYNC_MS:
                self._fault(Fault("shadow", "sync_timeout", "no answer to the get request"), None)
                return
            await sleep_ms(_BUSY_MS)
            self.step()

    def step(self):
        """A step of the session; True if packets came in. Raises Fault."""
        session = self.session
        busy = session.step()
        if session.handler_error:
            error = session.handler_error
            session.handler_error = None
            self._fault(error, None)
        return busy

    async def ask_time(self):
        """One try; a clock that is plausible already may stay as it is."""
        try:
            await self.sntp.sync()
        except Fault as e:
            if not clock.valid():
                raise
            self._fault(e, None)
        finally:
            self._asking = None
            rooms.forget()

    async def _serve(self):
        self.connects += 1
        self.enter("online")
        start = looked = time.ticks_ms()
        down = 0
        while True:
            busy = self.step()
            now = time.ticks_ms()
            if time.ticks_diff(now, looked) > _LOOK_MS:
                looked = now
                down = 0 if self.network.is_up() else down + 1
                if down > _DOWN_LOOKS:
                    raise Fault("network", "network_lost", "the network interface is down")
                if self._failures and time.ticks_diff(now, start) > _STABLE_MS:
                    self._failures = 0
                if self.sntp and self.sntp.due() and not self._asking:
                    self._asking = create_task(self.ask_time())
            await sleep_ms(_BUSY_MS if busy or self.session.waiting() else _IDLE_MS)

    def enter(self, state):
        """Be in a state, and say so."""
        if state != self.state:
            self.state = state
            gc.collect()  # a stage loads rooms of its own, which want large pieces
            if self.on_state:
                self.on_state(state)

    def _fault(self, error, retry_ms):
        if self.on_fault:
            if not isinstance(error, Fault):
                code = "memory" if isinstance(error, MemoryError) else "internal"
                error = Fault("session", code, repr(error))
            self.on_fault(error, retry_ms)
