"""Bytes that no client should send: they end their own connection and touch nothing else."""

from __future__ import annotations

import logging
import random
import socket
from contextlib import suppress

import brokers
import mqtt_wire
import pytest
from gridnode_host.bench.limits import Limits
from gridnode_host.bench.mqtt_codec import FrameBuffer, Malformed, decode
from gridnode_host.bench.policy import Policy
from gridnode_host.bench.shadow import ShadowService
from gridnode_host.bench.shadow_document import Shadow, ShadowError, ShadowLimits, parse_update
from mqtt_wire import Closed

UPDATE = "$aws/things/{}/shadow/update"


def samples(thing):
    return [
        mqtt_wire.connect_packet(thing, will=("test/w", b"x", 1, False)),
        mqtt_wire.publish_packet("test/a", b"payload"),
        mqtt_wire.publish_packet("test/a", b"payload", 0),
        mqtt_wire.publish_packet(UPDATE.format(thing), b'{"state":{"reported":{"a":[1,2]}}}'),
        mqtt_wire.subscribe_packet([("test/+", 1), ("test/#", 0)]),
        mqtt_wire.unsubscribe_packet(["test/+"]),
        mqtt_wire.packet(0x40, b"\0\1"),
        mqtt_wire.packet(0xC0),
    ]


def mutate(rng, data):
    """Flip, cut, repeat or insert a few bytes."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.randint(1, 4)]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 4))
        elif kind == 3 and at < len(data):
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        else:
            data[at:at] = data[at : at + 8]
    return bytes(data)


def test_codec_takes_or_refuses_every_frame():
    rng = random.Random(1)
    taken = refused = 0
    for _ in range(8000):
        frames = FrameBuffer(100_000)
        frames.feed(mutate(rng, rng.choice(samples("n1"))))
        try:
            while (frame := frames.next()) is not None:
                packet = decode(*frame)
                assert packet.to_bytes().endswith(frame[1])
                taken += 1
        except Malformed:
            refused += 1
    assert taken > 500
    assert refused > 500


def test_frames_do_not_depend_on_how_bytes_arrive():
    rng, data = random.Random(2), b"".join(samples("n1")) * 3
    frames, found, left = FrameBuffer(1000), [], data
    while left:
        size = rng.randint(1, 40)
        frames.feed(left[:size])
        left = left[size:]
        while (frame := frames.next()) is not None:
            found.append(frame)
    assert len(found) == 24
    assert b"".join(mqtt_wire.packet(first, body) for first, body in found) == data


def test_frame_that_is_too_long_is_refused_before_it_is_there():
    frames = FrameBuffer(1000)
    frames.feed(b"\x30\xe9\x07")
    with pytest.raises(Malformed, match="1001 bytes"):
        frames.next()


def test_shadow_takes_or_refuses_every_document():
    rng, limits = random.Random(3), ShadowLimits()
    shadow, taken, refused = Shadow(), 0, 0
    good = b'{"state":{"desired":{"a":{"b":[1,2.5,true]}},"reported":{"a":null}},"version":1}'
    for _ in range(8000):
        try:
            shadow.update(parse_update(mutate(rng, good), limits), limits, 1.0)
            taken += 1
        except ShadowError as err:
            assert err.code in (400, 409, 413, 415)
            refused += 1
        assert len(shadow.desired) < 2000
    assert taken > 10
    assert refused > 500


@pytest.fixture(scope="module")
def bench(authority):
    made = brokers.embedded(
        authority, things=Policy(brokers.EXTRA), limits=Limits(publishes_per_second=None)
    )
    with made.broker:
        service = ShadowService(made.broker, limits=ShadowLimits(in_flight=None))
        yield made
        service.close()


class Bystander:
    """A client that must notice nothing."""

    def __init__(self, bench):
        self.bench, thing = bench, bench.thing()
        self.topic = f"own/{thing}/x"
        self.wire = bench.client(thing, keep_alive=600)
        self.wire.subscribe(self.topic)

    def check(self):
        self.wire.ping()
        self.bench.broker.publish(self.topic, b"fine")
        assert self.wire.message().payload == b"fine"


@pytest.fixture
def bystander(bench, caplog):
    caplog.set_level(logging.WARNING)
    client = Bystander(bench)
    with client.wire:
        yield client
        client.check()
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_bytes_that_are_no_tls(bench, bystander):
    rng = random.Random(4)
    for _ in range(60):
        with socket.create_connection(("127.0.0.1", bench.port), timeout=5) as raw:
            with suppress(OSError):
                raw.sendall(rng.randbytes(rng.randint(1, 600)))


def test_random_bytes_instead_of_connect(bench, bystander):
    rng = random.Random(5)
    for _ in range(60):
        with bench.open("fuzzer") as wire, suppress(Closed):
            wire.send(rng.randbytes(rng.randint(1, 300)))


def test_mutated_connect(bench, bystander):
    rng = random.Random(6)
    for _ in range(80):
        with bench.open("fuzzer") as wire, suppress(Closed, TimeoutError):
            wire.send(mutate(rng, mqtt_wire.connect_packet("fuzzer", clean=rng.random() < 0.5)))
            wire.receive(0.02)


def test_mutated_packets_in_a_session(bench, bystander):
    rng = random.Random(7)
    closed = 0
    for _ in range(80):
        with bench.client("fuzzer") as wire:
            try:
                for _ in range(20):
                    wire.send(mutate(rng, rng.choice(samples("fuzzer"))))
                while True:
                    wire.receive(0.05)
            except Closed:
                closed += 1
            except TimeoutError:
                pass  # a packet whose length was changed waits for the rest
    assert closed > 40


def test_connections_cut_anywhere(bench, bystander):
    rng = random.Random(8)
    data = b"".join(samples("fuzzer"))
    for _ in range(80):
        with bench.open("fuzzer") as wire, suppress(Closed):
            wire.send(data[: rng.randrange(len(data))])
            if rng.random() < 0.5:  # a reset instead of an orderly end
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
