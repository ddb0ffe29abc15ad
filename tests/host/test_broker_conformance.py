"""One set of cases for the embedded endpoint and for mosquitto.

Where mosquitto may differ, the case names an entry of `gridnode_host.bench.mosquitto.DIFFERENCES`
and states what happens there instead, so that the list stays true.
"""

from __future__ import annotations

import json
import ssl
import struct
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import brokers
import mqtt_wire
import pytest
from gridnode_host import certs
from gridnode_host.bench import mosquitto
from gridnode_host.bench.limits import Limits
from gridnode_host.bench.policy import Policy
from gridnode_host.bench.shadow import ShadowService
from mqtt_wire import Closed, Wire, eventually, packet, publish_packet

KINDS = [
    "embedded",
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(
            mosquitto.installed() is None, reason="mosquitto is not installed"
        ),
    ),
]


@pytest.fixture(scope="module", params=KINDS)
def bench(request, authority):
    if request.param == "embedded":
        made = brokers.embedded(
            authority, things=Policy(brokers.EXTRA), limits=Limits(publishes_per_second=None)
        )
    else:
        made = brokers.external(authority, brokers.EXTRA)
    with made.broker:
        yield made


def differs(bench, name):
    return name in bench.differences


# Connections.


def test_connect_ping_disconnect(bench):
    with bench.client() as wire:
        wire.ping()
        wire.send(packet(0xE0))
        assert wire.closed()


@pytest.mark.parametrize("tls13", [False, True])
def test_tls_versions(bench, tls13):
    thing = bench.thing()
    with bench.open(thing, tls13=tls13) as wire:
        assert wire.socket.version() in ("TLSv1.2", "TLSv1.3" if tls13 else "")
        assert wire.connect(thing) == (0, 0)


def test_client_id_is_bound_to_the_certificate(bench):
    victim, thief = bench.thing(), bench.thing()
    with bench.client(victim, clean=False) as wire:
        wire.subscribe("test/bound")
        with bench.open(thief) as other:
            answer = other.connect(victim)
            if differs(bench, "foreign_client_id"):
                assert answer == (0, 0)
                other.publish(f"own/{thief}/x", b"1")
            else:
                assert answer == (0, 5)
                assert other.closed()
        # whatever the thief tried, neither connection nor subscription of the victim suffers
        bench.broker.publish("test/bound", b"still here")
        assert wire.message().payload == b"still here"


def test_second_connection_ends_the_first(bench):
    thing = bench.thing()
    with bench.client(thing) as first:
        with bench.client(thing) as second:
            assert first.closed()
            second.ping()


def refused_handshake(bench, identity, tls13=False):
    """Tell whether the broker lets nobody in with this identity."""
    try:
        with Wire(bench.port, bench.authority.pem, identity, tls13) as wire:
            wire.connect("x")
    except (ssl.SSLError, OSError, Closed):
        return True
    return False


def tls_refusals(bench):
    return [r.reason for r in bench.broker.refused if r.stage == "tls"]


@pytest.mark.parametrize("tls13", [False, True])
@pytest.mark.parametrize("fault", ["none", "foreign", "expired", "early", "server"])
def test_bad_client_certificates(bench, tmp_path, fault, tls13):
    day, now = timedelta(days=1), datetime.now(UTC).replace(tzinfo=None)
    authority = bench.authority
    if fault == "foreign":
        authority = certs.ensure_ca(tmp_path / "other", "Some other CA")
    if fault == "none":
        identity = None
    elif fault == "server":
        made = brokers.server_identity(authority)  # not for clients by its extended key usage
        identity = made.cert, made.key
    else:
        times = {
            "expired": {"not_before": now - 2 * day, "not_after": now - day},
            "early": {"not_before": now + day},
        }.get(fault, {})
        made = certs.issue_node(authority, bench.thing(), pem=True, **times)
        identity = made.cert, made.key
    before = len(tls_refusals(bench))
    assert refused_handshake(bench, identity, tls13)
    # only the broker's side knows why
    assert eventually(lambda: len(tls_refusals(bench)) > before)


def test_client_that_does_not_trust_the_broker(bench, tmp_path):
    other = certs.ensure_ca(tmp_path / "other", "Some other CA")
    before = len(tls_refusals(bench))
    with pytest.raises(ssl.SSLCertVerificationError):
        Wire(bench.port, other.pem, bench.identity(bench.thing()))
    assert eventually(lambda: len(tls_refusals(bench)) > before)


# Publishing and subscribing.


@pytest.mark.parametrize("sent", [0, 1])
@pytest.mark.parametrize("granted", [0, 1])
def test_delivery_with_the_lower_qos(bench, sent, granted):
    topic = f"test/qos/{sent}{granted}"
    with bench.client() as a, bench.client() as b:
        assert b.subscribe((topic, granted)) == [granted]
        a.send(publish_packet(topic, b"hello", sent, 7))
        if sent:
            assert a.wait(mqtt_wire.PUBACK)[1] == struct.pack("!H", 7)
        got = b.message()
        assert (got.topic, got.payload, got.qos) == (topic, b"hello", min(sent, granted))
        assert (got.retain, got.dup) == (False, False)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "match"),
    [
        ("test/f/a", "test/f/a", True),
        ("test/f/+", "test/f/a", True),
        ("test/f/+", "test/f/", True),
        ("test/f/+", "test/f/a/b", False),
        ("test/f/#", "test/f", True),
        ("test/f/#", "test/f/a/b", True),
        ("test/+/b", "test/f/b", True),
        ("test/+/b", "test/f/c", False),
        ("test/f/a", "test/f/A", False),
        ("test/f/a", "test/f/a/", False),
    ],
)
def test_filters(bench, topic_filter, topic, match):
    with bench.client() as wire:
        wire.subscribe(topic_filter)
        wire.publish(topic, b"x")
        if match:
            assert wire.message().topic == topic
        assert wire.silent()


def test_reserved_topics_reach_their_exact_filter(bench):
    thing = bench.thing()
    topic = f"$aws/things/{thing}/shadow/update/delta"
    with bench.client(thing) as wire:
        wire.subscribe(topic)
        bench.broker.publish(topic, b"{}")
        assert wire.message().topic == topic


def test_overlapping_filters_deliver_at_least_once(bench):
    with bench.client() as wire:
        wire.subscribe(("test/over/#", 0), ("test/over/+", 1))
        wire.publish("test/over/a", b"x")
        assert wire.message().payload == b"x"


def test_unsubscribe(bench):
    with bench.client() as wire:
        wire.subscribe("test/un/a", "test/un/b")
        wire.unsubscribe("test/un/a", "test/un/never")
        wire.publish("test/un/a", b"no")
        wire.publish("test/un/b", b"yes")
        assert wire.message().payload == b"yes"
        assert wire.silent()


def test_order_and_large_payload(bench):
    big = bytes(range(256)) * 500  # 128,000 bytes
    with bench.client() as a, bench.client() as b:
        b.subscribe("test/order")
        for i in range(30):
            a.send(publish_packet("test/order", str(i).encode(), 1, i + 1))
        a.send(publish_packet("test/order", big, 1, 99))
        got = [b.message().payload for _ in range(31)]
        assert got == [str(i).encode() for i in range(30)] + [big]


def test_too_large_payload_closes(bench):
    with bench.client() as wire:
        with suppress(Closed):  # it need not even take it all
            wire.send(publish_packet("test/large", bytes(140_000)))
        assert wire.closed()


# Sessions.


def test_persistent_session_keeps_qos_1(bench):
    thing = bench.thing()
    with bench.client(thing, clean=False) as wire:
        wire.subscribe("test/kept")
        wire.disconnect()
    with bench.client() as other:
        for i in range(5):
            other.publish("test/kept", str(i).encode())
    with bench.open(thing) as wire:
        assert wire.connect(thing, clean=False) == (1, 0)
        assert [wire.message().payload for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        assert wire.silent()
    # a clean session ends it
    with bench.open(thing) as wire:
        assert wire.connect(thing, clean=True) == (0, 0)
    with bench.open(thing) as wire:
        assert wire.connect(thing, clean=False) == (0, 0)


def test_unacknowledged_message_comes_again_marked(bench):
    thing = bench.thing()
    with bench.client(thing, clean=False) as wire:
        wire.subscribe("test/again")
        wire.publish("test/again", b"x")
        first = wire.message(acknowledge=False)
        assert not first.dup
    with bench.open(thing) as wire:
        assert wire.connect(thing, clean=False) == (1, 0)
        second = wire.message()
        assert (second.payload, second.packet_id, second.dup) == (b"x", first.packet_id, True)
        wire.ping()
    with bench.open(thing) as wire:
        assert wire.connect(thing, clean=False) == (1, 0)
        assert wire.silent()


def test_clean_session_forgets(bench):
    thing = bench.thing()
    with bench.client(thing) as wire:
        wire.subscribe("test/forgotten")
        wire.disconnect()
    with bench.client() as other:
        other.publish("test/forgotten", b"x")
    with bench.client(thing) as wire:
        assert wire.silent()


def test_session_survives_a_restart_of_the_broker(bench):
    thing, port = bench.thing(), bench.port
    with bench.client(thing, clean=False) as wire:
        wire.subscribe("test/restart")
        bench.broker.stop()
        assert wire.closed()
    with pytest.raises(OSError):
        bench.open(thing)
    bench.broker.publish("test/restart", b"meanwhile")
    bench.broker.start()
    assert bench.port == port
    with bench.open(thing) as wire:
        assert wire.connect(thing, clean=False) == (1, 0)
        assert wire.message().payload == b"meanwhile"


# Last will.


def test_will_after_a_lost_connection(bench):
    thing = bench.thing()
    with bench.client() as watcher:
        watcher.subscribe("test/will")
        with bench.client(thing, will=("test/will", b"gone", 1, False)):
            pass  # the socket closes without DISCONNECT
        assert watcher.message().payload == b"gone"


def test_no_will_after_disconnect(bench):
    with bench.client() as watcher:
        watcher.subscribe("test/nowill")
        with bench.client(will=("test/nowill", b"gone", 1, False)) as wire:
            wire.send(packet(0xE0))
            assert wire.closed()
        assert watcher.silent()


@pytest.mark.parametrize(
    ("topic", "qos", "retain"),
    [("forbidden/topic", 1, False), ("test/will", 1, True), ("test/will", 2, False)],
)
def test_forbidden_will_refuses_the_connection(bench, topic, qos, retain):
    thing = bench.thing()
    seen: list[object] = []
    cancel = bench.broker.subscribe("forbidden/#", seen.append)
    with bench.open(thing) as wire:
        wire.send(mqtt_wire.connect_packet(thing, will=(topic, b"x", qos, retain)))
        try:
            code = wire.wait(mqtt_wire.CONNACK)[1][1]
        except Closed:
            code = -1
        if topic.startswith("forbidden") and differs(bench, "forbidden_will"):
            assert code == 0
        else:
            assert code != 0
            assert wire.closed()
    with bench.client() as other:  # a round trip after the connection is gone
        other.ping()
    cancel()
    assert seen == []


def test_will_on_a_shadow_topic(bench):
    thing = bench.thing()
    update = f"$aws/things/{thing}/shadow/update"
    service, seen = ShadowService(bench.broker), []
    cancel = bench.broker.subscribe(update, seen.append)  # told after the service
    with bench.client(thing, will=(update, b'{"state":{"reported":{"a":1}}}', 1, False)):
        pass
    assert eventually(lambda: seen)
    cancel()
    service.close()
    assert (service.get(thing) is not None) == differs(bench, "reserved_will")


# What is forbidden.


def test_forbidden_publish(bench):
    with bench.client() as wire:
        wire.send(publish_packet("forbidden/topic", b"x", 1, 5))
        if differs(bench, "forbidden_publish"):
            assert wire.wait(mqtt_wire.PUBACK)[1] == struct.pack("!H", 5)
            wire.ping()
        else:
            assert wire.closed()


def test_forbidden_subscribe(bench):
    thing, other = bench.thing(), bench.thing()
    theirs = f"$aws/things/{other}/shadow/update/delta"
    with bench.client(thing) as wire:
        if differs(bench, "forbidden_subscribe"):
            assert wire.subscribe(theirs, "#") == [1, 1]
            bench.broker.publish(theirs, b"secret")
            bench.broker.publish("forbidden/topic", b"secret")
            bench.broker.publish("test/allowed", b"open")
            assert wire.message().payload == b"open"
            assert wire.silent()
        else:
            wire.send(mqtt_wire.subscribe_packet([(theirs, 1)]))
            assert wire.closed()


@pytest.mark.parametrize("topic", ["test/x", "$aws/things/{thing}/shadow/update"])
def test_retained_publish_closes(bench, topic):
    thing = bench.thing()
    with bench.client(thing) as wire:
        wire.send(publish_packet(topic.format(thing=thing), b"{}", 1, 1, retain=True))
        assert wire.closed()


def test_qos_2_publish_closes(bench):
    with bench.client() as wire:
        wire.send(publish_packet("test/x", b"", 2, 1))
        assert wire.closed()


@pytest.mark.parametrize("case", ["filters", "subscriptions", "slashes"])
def test_limits_of_aws_close(bench, case):
    with bench.client() as wire:
        if case == "filters":
            wire.send(mqtt_wire.subscribe_packet([(f"test/l/{i}", 1) for i in range(9)]))
        elif case == "slashes":
            wire.send(publish_packet("test/1/2/3/4/5/6/7/8", b""))
        else:
            for group in range(7):
                names = [(f"test/l/{group * 8 + i}", 1) for i in range(8)]
                wire.send(mqtt_wire.subscribe_packet(names))
        if differs(bench, "packet_limits"):
            wire.receive()
        else:
            assert wire.closed()


@pytest.mark.parametrize(
    "data",
    [
        packet(0xC0),  # PINGREQ first
        publish_packet("test/x", b""),
        mqtt_wire.subscribe_packet([("test/x", 1)]),
        packet(0xE0),
        packet(0x00),
        packet(0xF0),
        b"\x10\xff\xff\xff\xff\x01",
        packet(0x10, b"\x00\x04MQTX" + bytes([4, 2, 0, 60]) + mqtt_wire.text("x")),
    ],
)
def test_connection_that_does_not_begin_with_connect(bench, data):
    with bench.open(bench.thing()) as wire:
        wire.send(data)
        assert wire.closed()


@pytest.mark.parametrize(
    "data",
    [
        packet(0x10, b""),
        mqtt_wire.connect_packet("x"),  # a second CONNECT
        packet(0x00),
        packet(0xF0),
        packet(0x20, b"\0\0"),  # CONNACK from a client
        packet(0x80, struct.pack("!H", 1) + mqtt_wire.text("test/x") + b"\1"),  # wrong flags
        packet(0x82, struct.pack("!H", 1)),  # no filter
        packet(0x82, struct.pack("!H", 0) + mqtt_wire.text("test/x") + b"\1"),  # packet id 0
        packet(0x82, struct.pack("!H", 1) + mqtt_wire.text("test/x") + b"\3"),  # QoS 3
        packet(0xA2, struct.pack("!H", 1)),
        mqtt_wire.subscribe_packet([("test/#/x", 1)]),
        mqtt_wire.subscribe_packet([("test/a+", 1)]),
        mqtt_wire.subscribe_packet([("", 1)]),
        publish_packet("test/+", b""),
        publish_packet("test/#", b""),
        publish_packet("", b""),
        publish_packet(b"test/\xff", b""),
        publish_packet("test/x", b"", 3),
        publish_packet("test/x", b"", 1, 0),
        packet(0x30, b"\x00\x09test"),  # topic longer than the packet
        packet(0x32, mqtt_wire.text("test/x")),  # no packet id
    ],
)
def test_malformed_packet_closes(bench, data):
    with bench.client() as wire:
        wire.send(data)
        assert wire.closed()


# Nothing acknowledged is lost.


def test_no_acknowledged_message_is_lost_while_others_subscribe(bench):
    """1000 QoS 1 messages to two matching filters while others add and drop filters."""
    total, window = 1000, 50
    done = threading.Event()
    received: dict[str, list[bytes]] = {"a": [], "b": []}
    failures: list[BaseException] = []

    def guarded(work, *args):
        try:
            work(*args)
        except BaseException as err:
            failures.append(err)

    def take(name, topic_filter, ready):
        with bench.client() as wire:
            wire.subscribe(topic_filter)
            ready.set()
            while len(set(received[name])) < total:
                received[name].append(wire.message(15).payload)

    def churn():
        with bench.client() as wire:
            i = 0
            while not done.is_set():
                names = [f"test/churn/{i % 40}", f"test/load/{i % 7}"]
                wire.subscribe(*names)
                if i % 2:
                    wire.unsubscribe(*names)
                i += 1

    threads = []
    for name, topic_filter in (("a", "test/load/#"), ("b", "test/load/+")):
        ready = threading.Event()
        threads.append(threading.Thread(target=guarded, args=(take, name, topic_filter, ready)))
        threads[-1].start()
        assert ready.wait(20)
    threads += [threading.Thread(target=guarded, args=(churn,)) for _ in range(3)]
    for thread in threads[2:]:
        thread.start()
    acknowledged = 0
    with bench.client() as wire:
        for i in range(total):
            wire.send(publish_packet(f"test/load/{i % 7}", str(i).encode(), 1, i % window + 1))
            if i >= window:
                wire.wait(mqtt_wire.PUBACK)
                acknowledged += 1
        while acknowledged < total:
            wire.wait(mqtt_wire.PUBACK)
            acknowledged += 1
    for thread in threads[:2]:
        thread.join(20)
    done.set()
    for thread in threads[2:]:
        thread.join(5)
    assert failures == []
    expected = [str(i).encode() for i in range(total)]
    # each one once and in order
    assert received == {"a": expected, "b": expected}


# The shadow service on both.


def test_shadow_service_on_the_broker(bench):
    thing = bench.thing()
    base = f"$aws/things/{thing}/shadow"
    service = ShadowService(bench.broker)
    try:
        with bench.client(thing) as wire:
            wire.subscribe(
                *[
                    f"{base}/{path}"
                    for path in (
                        "update/accepted",
                        "update/rejected",
                        "update/delta",
                        "get/accepted",
                        "get/rejected",
                    )
                ]
            )

            def answers(count):
                got = [wire.message() for _ in range(count)]
                return {m.topic.removeprefix(base + "/"): json.loads(m.payload) for m in got}

            wire.publish(f"{base}/get", b'{"clientToken":"1"}')
            assert answers(1)["get/rejected"]["code"] == 404
            wire.publish(f"{base}/update", b'{"state":{"reported":{"v":230}},"clientToken":"2"}')
            assert answers(1)["update/accepted"]["clientToken"] == "2"
            service.update(thing, {"desired": {"config": {"x": 5}}})
            got = answers(2)
            assert got["update/delta"]["state"] == {"config": {"x": 5}}
            assert got["update/accepted"]["version"] == 2
            wire.publish(f"{base}/update", b'{"state":{},"version":9}')
            assert answers(1)["update/rejected"]["code"] == 409
            wire.publish(f"{base}/get", b"")
            assert answers(1)["get/accepted"]["state"]["delta"] == {"config": {"x": 5}}
    finally:
        service.close()


def test_stalled_broker_answers_nothing_and_loses_nothing(bench):
    with bench.client() as wire:
        wire.subscribe("test/stall")
        with bench.broker.stall():
            wire.send(publish_packet("test/stall", b"x", 1, 3))
            with pytest.raises(TimeoutError):
                wire.receive(0.3)
            with pytest.raises(TimeoutError):
                mqtt_wire.DEADLINE, saved = 0.3, mqtt_wire.DEADLINE
                try:
                    bench.open(bench.thing())
                finally:
                    mqtt_wire.DEADLINE = saved
        assert wire.message().payload == b"x"
