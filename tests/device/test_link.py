"""TCP and TLS link against real peers: faults told apart, whole packets, deadlines."""

import asyncio
import gc
import hashlib
import time
import tls
from binascii import hexlify, unhexlify

from fake_link import packet, word
from gridnode import link
from gridnode.fault import Fault
from gridnode.setup import credentials
from harness import fixtures

FIXTURES = ("link_peers",)

HOST = "127.0.0.1"
CONNECT = packet(0x10, b"\0\4MQTT\4\2\0\x3c\0\1n")


def der(name, part=None):
    value = fixtures["link_peers"][name]
    return unhexlify(value if part is None else value[part])


def port(name):
    return fixtures["link_peers"]["ports"][name]


def context(name="own"):
    return credentials.tls_context(der("ca"), der(name, 0), der(name, 1))


def fault(code, call, *args):
    try:
        call(*args)
    except Fault as e:
        assert e.room == "link" and e.code == code, (e.code, e.message)
        return e
    raise AssertionError("no fault " + code)


def opened(peer="broker", ctx=None, host=HOST, timeout_ms=5000, size=4096):
    pipe = link.Link(size, timeout_ms)
    pipe.write(CONNECT)
    asyncio.run(pipe.open(host, port(peer), ctx or context()))
    return pipe


def receive(pipe, enough, timeout_ms=5000):
    """Read until `enough(bytes)`; the bytes."""
    got = b""
    box = bytearray(500)
    start = time.ticks_ms()
    while not enough(got):
        assert time.ticks_diff(time.ticks_ms(), start) < timeout_ms, got[:200]
        pipe.flush()
        n = pipe.readinto(box)
        got += box[:n]
        if not n:
            time.sleep_ms(2)
    return got


def never(_):
    return False


def drain(pipe, timeout_ms=10000):
    start = time.ticks_ms()
    while not pipe.flush():
        assert time.ticks_diff(time.ticks_ms(), start) < timeout_ms
        time.sleep_ms(1)


def publish(pipe, topic, payload=b""):
    pipe.write(packet(0x30, word(len(topic)) + topic + payload))


# -- faults


def test_certificate_faults():
    for peer, code in (
        ("wrong_ca", "tls_ca"),
        ("expired", "tls_expired"),
        ("future", "tls_not_yet_valid"),
        ("wrong_host", "tls_hostname"),
    ):
        e = fault(code, opened, peer)
        assert "\n" not in e.message


def test_name_that_is_not_in_the_certificate():
    pipe = opened(host="localhost")  # it is
    pipe.close()


def test_server_is_told_the_name_it_is_called_by():
    # A broker that serves many names on one address chooses its certificate by it.
    pipe = opened(host="localhost")
    publish(pipe, b"name")
    expected = b"\x20\2\0\0" + packet(0x30, word(4) + b"name" + b"localhost")
    assert receive(pipe, lambda got: len(got) >= len(expected)) == expected
    pipe.close()


def test_no_ca():
    ctx = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    fault("tls_no_ca", lambda: opened(ctx=ctx))


def test_client_certificates_that_the_broker_refuses():
    bare = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(der("ca"))
    for ctx in (bare, context("foreign"), context("stale")):
        fault("tls_refused", opened, "broker", ctx)


def test_credentials_are_judged_before_any_connection():
    ca, cert, key = der("ca"), der("own", 0), der("own", 1)
    fault("ca_invalid", lambda: credentials.tls_context(b"", cert, key))
    fault("ca_invalid", lambda: credentials.tls_context(ca[:-9], cert, key))
    fault("cert_invalid", lambda: credentials.tls_context(ca, b"garbage", key))
    fault("key_invalid", lambda: credentials.tls_context(ca, cert, cert))
    fault("key_invalid", lambda: credentials.tls_context(ca, cert, key[:20]))
    fault("tls_key_mismatch", lambda: credentials.tls_context(ca, cert, der("second", 1)))


def test_nobody_there():
    e = fault("tcp", lambda: opened("nobody"))
    assert "cannot reach" in e.message


def test_name_that_does_not_resolve():
    fault("dns", lambda: opened(host="no such name"))


def test_peer_that_speaks_no_tls():
    fault("tls", lambda: opened("garbage"))
    fault("tls_refused", lambda: opened("hang_up"))


def test_peer_that_is_silent_meets_the_deadline_and_leaves_time_to_others():
    turns = 0

    async def work():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep_ms(10)

    async def main():
        task = asyncio.create_task(work())
        pipe = link.Link(4096, 300)
        pipe.write(CONNECT)
        try:
            await pipe.open(HOST, port("stall"), context())
        finally:
            task.cancel()

    start = time.ticks_ms()
    fault("timeout", lambda: asyncio.run(main()))
    assert 300 <= time.ticks_diff(time.ticks_ms(), start) < 2000
    assert turns > 10, turns


def test_cancelled_opening_leaves_no_socket():
    async def main():
        pipe = link.Link()
        pipe.write(CONNECT)
        task = asyncio.create_task(pipe.open(HOST, port("stall"), context()))
        await asyncio.sleep_ms(100)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        return pipe

    fault("closed", lambda: asyncio.run(main()).readinto(bytearray(1)))


# -- data


def test_packet_travels_in_one_tls_record():
    pipe = opened()
    receive(pipe, lambda got: len(got) == 4)
    for i in range(3):
        publish(pipe, b"x", b"y" * (100 + 500 * i))
        drain(pipe)
        time.sleep_ms(20)
    publish(pipe, b"reads")
    got = receive(pipe, lambda got: b"reads" in got)
    sizes = [int(n) for n in got[got.index(b"reads") + 5 :].decode().split(",")]
    # CONNECT, then one record each
    assert sizes == [len(CONNECT), 105, 606, 1106, 9], sizes
    pipe.close()


def test_data_both_ways():
    pipe = opened()
    publish(pipe, b"echo", b"abc" * 1000)
    publish(pipe, b"big", b"20000")
    got = receive(pipe, lambda got: len(got) >= 4 + 3009 - 2 + 20009 - 2)
    assert got[:4] == b"\x20\2\0\0"
    assert b"abc" * 1000 in got
    assert got.endswith(bytes(i & 0xFF for i in range(19900, 20000)))
    pipe.close()


def test_slow_reader_loses_and_repeats_nothing():
    pipe = opened()
    digest = hashlib.sha256(CONNECT)
    receive(pipe, lambda got: len(got) == 4)
    publish(pipe, b"sleep", b"3000")
    digest.update(packet(0x30, word(5) + b"sleep3000"))
    body = bytes(range(250)) * 15
    stuck = 0
    for i in range(5000):
        data = packet(0x30, b"\0\1x%d" % i + body[: i * 15 % 3000])
        while pipe.room() < len(data):
            if not pipe.flush():
                stuck += 1
                time.sleep_ms(1)
        pipe.write(data)
        pipe.flush()
        digest.update(data)
        if stuck > 200:
            break
    publish(pipe, b"sum")
    digest.update(packet(0x30, word(3) + b"sum"))
    got = receive(pipe, lambda got: b"sum" in got, 15000)
    assert stuck, "the network never filled"
    assert got.endswith(hexlify(digest.digest())), got
    pipe.close()


def test_lent_data_keeps_its_place_and_may_be_taken_back():
    pipe = opened(size=200)
    digest = hashlib.sha256(CONNECT)
    receive(pipe, lambda got: len(got) == 4)
    publish(pipe, b"sleep", b"3000")
    digest.update(packet(0x30, word(5) + b"sleep3000"))
    mine = bytearray(bytes(range(250)) * 40)
    left = True
    for i in range(3000):
        size = 3000 + i % 7 * 1000
        mine[i % 3000] ^= 0x55
        data = packet(0x30, b"\0\1x" + mine[:size])
        digest.update(data)
        pipe.write(data[: len(data) - size])
        pipe.lend(memoryview(mine)[:size])
        assert pipe.room() == 0
        left = pipe.flush()
        if not left:
            break
    assert not left, "the network never filled"
    pipe.write(b"\xc0\0")  # what is written meanwhile leaves behind it
    digest.update(b"\xc0\0")
    pipe.flush()
    pipe.give_back()
    mine[:] = bytes(len(mine))
    drain(pipe)
    assert pipe.room() == 200
    publish(pipe, b"sum")
    digest.update(packet(0x30, word(3) + b"sum"))
    got = receive(pipe, lambda got: b"sum" in got, 15000)
    assert got.endswith(hexlify(digest.digest())), got
    pipe.close()


def test_lent_data_travels_in_a_record_of_its_own():
    pipe = opened(size=100)
    receive(pipe, lambda got: len(got) == 4)
    pipe.write(packet(0x30, bytes(2003))[:3])
    pipe.write(b"\0\1x")
    pipe.lend(bytes(2000))
    drain(pipe)
    publish(pipe, b"reads")
    got = receive(pipe, lambda got: b"reads" in got)
    assert got.endswith(b"%d,6,2000,9" % len(CONNECT)), got
    pipe.close()


def test_reader_that_stops_meets_the_deadline():
    pipe = opened(timeout_ms=300)
    pipe.timeout_ms = 300

    def push():
        publish(pipe, b"sleep", b"2000")
        start = time.ticks_ms()
        while time.ticks_diff(time.ticks_ms(), start) < 5000:
            if pipe.room() >= 3000:
                publish(pipe, b"x", b"y" * 2900)
            pipe.flush()

    fault("timeout", push)
    pipe.write(b"x")
    fault("timeout", pipe.flush)  # and again, at once


def test_end_of_the_connection():
    for topic in (b"close", b"reset"):
        pipe = opened()
        receive(pipe, lambda got: len(got) == 4)
        publish(pipe, topic)
        e = fault("closed", receive, pipe, never)
        assert "broker" in e.message
        fault("closed", pipe.readinto, bytearray(10))  # and again, at once


def test_packet_larger_than_the_buffer():
    pipe = link.Link(100)
    assert pipe.room() == 100
    fault("overflow", lambda: pipe.write(bytes(101)))
    assert pipe.write(bytes(50), 7) == 7
    assert pipe.room() == 93
    pipe.clear()
    assert pipe.room() == 100


def test_plain_tcp():
    pipe = link.Link()
    pipe.write(b"x")
    asyncio.run(pipe.open(HOST, port("garbage"), None))
    assert receive(pipe, lambda got: got.endswith(b"\r\n\r\n")).startswith(b"HTTP")
    pipe.close()


def test_no_growth_over_packets_and_connections():
    ctx = context()
    pipe = link.Link()
    box = bytearray(500)

    def packets(count):
        for _ in range(count):
            publish(pipe, b"echo", b"z" * 100)
            drain(pipe)
            while not pipe.readinto(box):
                time.sleep_ms(1)

    def connection():
        pipe.clear()
        pipe.write(CONNECT)
        asyncio.run(pipe.open(HOST, port("broker"), ctx))
        receive(pipe, lambda got: len(got) == 4)

    connection()
    packets(10)
    gc.collect()
    before = gc.mem_alloc()
    packets(100)
    gc.collect()
    # a leak would be a block (16 bytes) or more each
    assert gc.mem_alloc() - before < 100 * 8, gc.mem_alloc() - before
    connection()
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(5):
        connection()
    gc.collect()
    assert gc.mem_alloc() - before < 5 * 16, gc.mem_alloc() - before
