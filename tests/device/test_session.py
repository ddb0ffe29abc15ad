"""Connection against a real broker over TLS: states, faults, coming back, no growth."""

import asyncio
import gc
import time
from binascii import unhexlify

from gridnode import clock, session
from gridnode.fault import Fault
from gridnode.setup import credentials
from harness import fixtures

FIXTURES = ("link_peers",)
TIMEOUT_S = 60

session.backoff_ms, backoff_ms = lambda failures: 50, session.backoff_ms


class Interface:
    up = True
    connects = 0
    fails = ()

    async def connect(self):
        self.connects += 1
        if self.fails:
            raise self.fails.pop(0)

    def is_up(self):
        return self.up


class Sntp:
    """Says when it is asked; `answers` are faults to raise or None."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def due(self):
        return bool(self.answers)

    async def sync(self):
        self.asked += 1
        answer = self.answers.pop(0)
        if answer:
            raise answer


def context():
    value = fixtures["link_peers"]
    cert, key = value["own"]
    return credentials.tls_context(unhexlify(value["ca"]), unhexlify(cert), unhexlify(key))


class Rig:
    """A connection and a log of what it says."""

    def __init__(self, peer="broker", sntp=None, timeout_ms=5000):
        self.states = []
        self.faults = []
        self.acks = []
        self.got = []
        self.interface = Interface()
        port = fixtures["link_peers"]["ports"][peer]
        self.conn = conn = session.Connection(
            "n1", "127.0.0.1", port, context(), self.interface, sntp, timeout_ms=timeout_ms
        )
        conn.on_state = self.states.append
        conn.on_fault = lambda fault, retry: self.faults.append((fault.code, retry))
        conn.session.on_ack = lambda token, delivered: self.acks.append((token, delivered))
        conn.session.on_message = lambda t, data, at, total: self.got.append((t, len(data), total))

    def run(self, story, seconds=20):
        """Run the connection beside a story (a coroutine), then end it."""

        async def main():
            task = asyncio.create_task(self.conn.run())
            try:
                await asyncio.wait_for(story(), seconds)
            finally:
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass

        asyncio.run(main())
        assert self.conn.state == "down"

    async def until(self, true, ms=8000):
        start = time.ticks_ms()
        while not true():
            assert time.ticks_diff(time.ticks_ms(), start) < ms, (self.states, self.faults)
            await asyncio.sleep_ms(10)


def test_from_nothing_to_online():
    rig = Rig(sntp=Sntp(None))
    conn = rig.conn
    conn.subscriptions = (b"a", b"b")

    def sync():
        assert conn.publish(b"echo", b"answer", 0) == 0

    def message(topic, data, at, total):
        assert bytes(data) == b"answer"
        conn.synced()

    conn.sync = sync
    conn.session.on_message = message

    async def story():
        assert conn.publish(b"x", b"too early") is None
        await rig.until(lambda: conn.online)
        token = conn.publish(b"x", b"hello")
        assert token
        await rig.until(lambda: rig.acks == [(token, True)])

    rig.run(story)
    assert rig.states == ["wifi", "clock", "tls", "subscribe", "sync", "online", "down"]
    assert rig.faults == []
    assert conn.publish(b"x", b"too late") is None


def test_end_answers_what_is_in_flight():
    rig = Rig()
    rig.conn = conn = session.Connection(
        "n1", "127.0.0.1", rig.conn.port, context(), rig.interface, will=(b"gone", b"off line")
    )
    conn.session.on_ack = lambda token, delivered: rig.acks.append((token, delivered))
    assert conn.session.will[0] == b"gone"

    async def story():
        await rig.until(lambda: conn.online)
        conn.publish(b"quiet", b"")

    rig.run(story)
    assert rig.acks == [(1, False)]


def test_shadow_service_that_is_silent_does_not_keep_the_node_off_line():
    rig = Rig()
    rig.conn.sync = lambda: None
    kept = session.time
    session.time = Hasty(400)

    async def story():
        await rig.until(lambda: rig.conn.online)

    try:
        rig.run(story)
    finally:
        session.time = kept
    assert rig.faults == [("sync_timeout", None)]


class Hasty:
    """Time that runs faster."""

    def __init__(self, rate):
        self.rate = rate
        self.start = time.ticks_ms()

    def ticks_ms(self):
        return time.ticks_add(self.start, time.ticks_diff(time.ticks_ms(), self.start) * self.rate)

    ticks_diff = staticmethod(time.ticks_diff)
    ticks_add = staticmethod(time.ticks_add)


def lose(topic):
    """Have the broker end the connection in the way of `topic`, and come back."""
    rig = Rig()

    async def story():
        await rig.until(lambda: rig.conn.online)
        lost = rig.conn.publish(b"quiet", b"never acknowledged")
        rig.conn.publish(topic, b"", 0)
        await rig.until(lambda: "down" in rig.states)
        assert rig.acks == [(lost, False)]
        assert rig.conn.publish(b"x", b"y") is None
        await rig.until(lambda: rig.conn.connects == 2 and rig.conn.online)
        token = rig.conn.publish(b"x", b"y")
        await rig.until(lambda: (token, True) in rig.acks)

    rig.run(story)
    assert rig.faults == [("closed", 50)], rig.faults


def test_broker_that_goes_away_is_found_again():
    lose(b"close")
    lose(b"reset")


def test_faults_on_the_way_are_told_once_each_and_tried_again():
    rig = Rig("wrong_ca")

    async def story():
        await rig.until(lambda: len(rig.faults) >= 3)

    rig.run(story)
    assert set(rig.faults) == {("tls_ca", 50)}
    assert rig.states[:5] == ["wifi", "tls", "down", "wifi", "tls"]


def test_network_and_clock_come_first():
    rig = Rig(sntp=Sntp(Fault("clock", "sntp_timeout", "")))
    rig.interface.fails = [Fault("network", "wlan_key", "")]
    valid = clock.valid
    clock.valid = lambda: False

    async def story():
        await rig.until(lambda: len(rig.faults) >= 2)
        clock.valid = valid
        await rig.until(lambda: rig.conn.online)

    try:
        rig.run(story)
    finally:
        clock.valid = valid
    assert [f[0] for f in rig.faults[:2]] == ["wlan_key", "sntp_timeout"]
    assert all(f[1] for f in rig.faults[:2])
    assert rig.states[:5] == ["wifi", "down", "wifi", "clock", "down"]


def test_time_server_that_fails_does_not_stop_a_node_whose_clock_is_right():
    rig = Rig(sntp=Sntp(Fault("clock", "sntp_timeout", "")))

    async def story():
        await rig.until(lambda: rig.conn.online)

    rig.run(story)
    assert rig.faults == [("sntp_timeout", None)]


def test_time_is_asked_again_while_on_line():
    sntp = Sntp()
    rig = Rig(sntp=sntp)

    async def story():
        await rig.until(lambda: rig.conn.online)
        sntp.answers = [None]
        await rig.until(lambda: sntp.asked == 1)

    rig.run(story)


def test_lost_network_is_noticed():
    rig = Rig()
    kept = session.time
    session.time = Hasty(20)

    async def story():
        await rig.until(lambda: rig.conn.online)
        rig.interface.up = False
        await rig.until(lambda: "down" in rig.states)

    try:
        rig.run(story)
    finally:
        session.time = kept
    assert rig.faults[0][0] == "network_lost"


def test_handler_that_raises_does_not_cost_the_connection():
    rig = Rig()

    def bad(*_):
        raise ValueError("x")

    rig.conn.session.on_message = bad

    async def story():
        await rig.until(lambda: rig.conn.online)
        rig.conn.publish(b"echo", b"")
        await rig.until(lambda: rig.faults)
        token = rig.conn.publish(b"x", b"")
        await rig.until(lambda: (token, True) in rig.acks)

    rig.run(story)
    assert rig.faults == [("internal", None)]
    assert rig.states[-2:] == ["online", "down"]


def test_long_message():
    rig = Rig()

    async def story():
        await rig.until(lambda: rig.conn.online)
        rig.conn.publish(b"big", b"30000", 0)
        await rig.until(lambda: sum(g[1] for g in rig.got) == 30000)

    rig.run(story)
    assert all(g[0] == b"big" and g[1] <= 1024 and g[2] == 30000 for g in rig.got)


def test_others_have_their_turn_while_the_node_connects():
    rig = Rig()
    longest = 0

    async def watch():
        nonlocal longest
        last = time.ticks_ms()
        while True:
            await asyncio.sleep_ms(1)
            now = time.ticks_ms()
            longest = max(longest, time.ticks_diff(now, last))
            last = now

    async def story():
        task = asyncio.create_task(watch())
        await rig.until(lambda: rig.conn.online)
        task.cancel()

    rig.run(story)
    assert longest < 2000, longest


def test_pause_grows_with_full_jitter():
    assert backoff_ms(0, 0) == backoff_ms(9, 0) == 1000
    assert 1990 < backoff_ms(0, 65535) <= 2000
    assert 8990 < backoff_ms(3, 65535) <= 9000
    assert 299000 < backoff_ms(100, 65535) <= 300000
    assert all(1000 <= backoff_ms(2) <= 5000 for _ in range(50))
    assert len({backoff_ms(8) for _ in range(20)}) > 5


def test_no_growth():
    rig = Rig()
    conn = rig.conn
    conn.session.on_message = lambda *_: None
    done = []
    conn.session.on_ack = lambda token, delivered: done.append(delivered)
    payload = b"x" * 900

    async def publish(count):
        for _ in range(count):
            done.clear()
            assert conn.publish(b"x", payload)
            assert conn.publish(b"echo", payload, 0) == 0
            while not done:
                await asyncio.sleep_ms(5)

    async def renew():
        before = conn.connects
        conn.publish(b"close", b"", 0)
        await rig.until(lambda: conn.connects > before and conn.online)
        await publish(2)

    async def story():
        await rig.until(lambda: conn.online)
        await publish(10)
        gc.collect()
        before = gc.mem_alloc()
        await publish(40)
        gc.collect()
        # a leak would be a block (16 bytes) or more each
        assert gc.mem_alloc() - before < 40 * 8, gc.mem_alloc() - before
        await renew()
        gc.collect()
        before = gc.mem_alloc()
        for _ in range(3):
            await renew()
        gc.collect()
        # lists of this test's own log grow
        assert gc.mem_alloc() - before <= 1024, gc.mem_alloc() - before

    rig.run(story, 40)
