"""The embedded endpoint: its life, its clock, its limits and what it tells the bench."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import brokers
import mqtt_wire
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gridnode_host import certs
from gridnode_host.bench.endpoint import Endpoint
from gridnode_host.bench.limits import Limits
from gridnode_host.bench.policy import Policy
from gridnode_host.errors import GridnodeError
from mqtt_wire import Closed, Wire, eventually, packet, publish_packet

POLICY = Policy(brokers.EXTRA)
WITH_RETAIN = Policy(
    {
        **brokers.EXTRA,
        "Statement": [
            *brokers.EXTRA["Statement"],
            {"Effect": "Allow", "Action": "iot:RetainPublish", "Resource": "*"},
        ],
    }
)


class Clock:
    """Rig time that moves when the test says so."""

    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(authority):
    """Return a function that starts an endpoint; all are stopped at the end."""
    started = []

    def start(**options):
        bench = brokers.embedded(authority, **{"things": POLICY, **options})
        started.append(bench.broker)
        bench.broker.start()
        return bench

    yield start
    for endpoint in started:
        endpoint.stop()


def reasons(bench, stage):
    return [r.reason for r in bench.broker.refused if r.stage == stage]


# Life.


def open_files():
    return sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else []


def test_nothing_is_left_after_stop(authority):
    bench = brokers.embedded(authority, things=POLICY)
    files, threads = open_files(), set(threading.enumerate())
    for _ in range(3):
        bench.broker.start()
        good = bench.client()
        half_open = socket.create_connection(("127.0.0.1", bench.port), timeout=5)
        half_open.sendall(b"\x16\x03\x01")
        assert eventually(lambda: len(bench.broker.connected) == 1)
        began = time.monotonic()
        bench.broker.stop()
        assert time.monotonic() - began < 2
        assert good.closed()
        good.close()
        half_open.close()
        assert bench.broker.connected == []
        assert not bench.broker.running
    assert set(threading.enumerate()) == threads
    gc.collect()
    assert open_files() == files


def test_stop_does_not_wait_for_a_client_that_does_not_read(make):
    bench = make(limits=Limits(publishes_per_second=None))
    with bench.client() as idle, bench.client() as source:
        idle.subscribe("test/big")
        for i in range(60):
            source.publish("test/big", bytes(100_000), i + 1)
        began = time.monotonic()
        bench.broker.stop()
        assert time.monotonic() - began < 2


def test_start_and_stop_twice_are_harmless(make):
    bench = make()
    port = bench.port
    bench.broker.start()
    bench.broker.stop()
    bench.broker.stop()
    bench.broker.start()
    assert bench.port == port
    bench.client().disconnect()


def test_port_that_is_taken(authority):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        free = brokers.embedded(authority, port=other.getsockname()[1])
        with pytest.raises(GridnodeError, match="cannot listen"):
            free.broker.start()
        assert not free.broker.running


def test_port_that_cannot_be(authority):
    with pytest.raises(GridnodeError, match="cannot listen"):
        brokers.embedded(authority, port=70_000).broker.start()


def test_files_that_cannot_be_used(authority, tmp_path):
    server, empty = brokers.server_identity(authority), tmp_path / "empty.pem"
    empty.write_bytes(b"")
    for ca, cert, key, named in (
        (empty, server.cert, server.key, "empty.pem"),
        (authority.pem, tmp_path / "none.pem", server.key, "none.pem"),
        (authority.pem, server.cert, empty, "cert.pem or its key"),
    ):
        with pytest.raises(GridnodeError, match=named) as caught:
            Endpoint(ca, cert, key)
        assert "gridnode certs" in caught.value.action


# What only this side knows.


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("none", "the client sent no certificate"),
        ("foreign", "the client certificate is not of the endpoint's CA"),
        ("expired", "the client certificate was refused: certificate has expired"),
        ("early", "the client certificate was refused: certificate is not yet valid"),
    ],
)
def test_reason_of_a_refused_certificate(make, tmp_path, fault, reason):
    bench = make()
    day, now = timedelta(days=1), datetime.now(UTC).replace(tzinfo=None)
    times = {
        "expired": {"not_before": now - 2 * day, "not_after": now - day},
        "early": {"not_before": now + day},
    }.get(fault, {})
    issuer = certs.ensure_ca(tmp_path / "ca", "Other") if fault == "foreign" else bench.authority
    made = certs.issue_node(issuer, bench.thing(), pem=True, **times)
    with pytest.raises((OSError, Closed)):
        with Wire(
            bench.port, bench.authority.pem, None if fault == "none" else (made.cert, made.key)
        ) as wire:
            wire.ping()
    assert eventually(lambda: bench.broker.refused)
    found = bench.broker.refused[0]
    assert found.stage == "tls"
    assert found.client.startswith("127.0.0.1:")
    assert found.reason.startswith(reason)


def test_client_is_told_by_an_alert(make):
    bench = make()
    with pytest.raises(OSError, match="ALERT"):
        Wire(bench.port, bench.authority.pem, None)


def test_client_that_does_not_trust_the_endpoint_is_named(make, tmp_path):
    bench, other = make(), certs.ensure_ca(tmp_path / "other", "Other")
    with pytest.raises(OSError):
        Wire(bench.port, other.pem, bench.identity(bench.thing()))
    assert eventually(lambda: bench.broker.refused)
    assert reasons(bench, "tls") == ["the client does not trust the endpoint's CA"]


def test_client_without_tls(make):
    bench = make()
    for data, reason in (
        (b"GET / HTTP/1.1\r\n\r\n", "the client does not speak TLS"),
        (mqtt_wire.connect_packet("x"), "the client does not speak TLS"),
        (b"", "the client closed the connection during the handshake"),
    ):
        with socket.create_connection(("127.0.0.1", bench.port), timeout=5) as raw:
            raw.sendall(data)
            if data:
                while raw.recv(100):
                    pass
        count = len(bench.broker.refused)
        assert eventually(lambda n=count: len(bench.broker.refused) >= max(n, 1))
        assert eventually(lambda r=reason: reasons(bench, "tls")[-1:] == [r])


def test_silent_connections_end(make):
    bench = make(limits=Limits(handshake_timeout=0.2, connect_timeout=0.2))
    with socket.create_connection(("127.0.0.1", bench.port), timeout=5) as raw:
        assert raw.recv(10) == b""
    assert reasons(bench, "tls") == ["the handshake took longer than 0.2 s"]
    with bench.open(bench.thing()) as wire:
        assert wire.closed()
    assert reasons(bench, "connect") == ["no CONNECT within 0.2 s"]


def test_certificate_that_has_expired_at_rig_time(make, clock):
    bench = make(clock=clock)
    bench.client().disconnect()
    clock.now += 40 * 365 * 86400
    thing = bench.thing()
    with bench.open(thing) as wire:
        with pytest.raises(Closed):
            wire.connect(thing)
    assert reasons(bench, "tls") == ["the client certificate has expired at rig time"]


def test_certificate_whose_name_is_no_thing(make, authority, tmp_path):
    bench, key, now = make(), ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "things/+")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(authority.cert.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(authority.key, hashes.SHA256())
    )
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with Wire(bench.port, authority.pem, files) as wire:
        with pytest.raises(Closed):
            wire.connect("things/+")
    assert "no thing name" in reasons(bench, "tls")[0]


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        ({"client_id": "someone-else"}, 5, "client id is not the certificate's name"),
        ({"client_id": ""}, 2, "client id of 0 bytes"),
        ({"level": 5}, 1, "protocol is not MQTT 3.1.1"),
        ({"will": ("other/topic", b"", 1, False)}, 5, "last will: iot:Publish on other/topic"),
        ({"will": ("test/+", b"", 1, False)}, 5, "last will: topic 'test/+'"),
        ({"will": ("test/x", b"", 1, True)}, 5, "last will: iot:RetainPublish"),
        ({"will": ("$aws/x", b"", 1, True)}, 5, "last will: retained"),
    ],
)
def test_refused_connect(make, options, code, reason):
    bench, thing = make(), "refused-1"
    with bench.open(thing) as wire:
        assert wire.connect(**{"client_id": thing, **options}) == (0, code)
        assert wire.closed()
    found = bench.broker.refused[-1]
    assert found.stage == "connect"
    assert reason in found.reason


@pytest.mark.parametrize("flags", [0x01, 0x08, 0x10, 0x20, 0x40, 0x1C, 0x04])
def test_connect_flags_that_cannot_be(make, flags):
    bench, thing = make(), "flags-1"
    with bench.open(thing) as wire:
        wire.send(mqtt_wire.connect_packet(thing, flags=flags))
        assert wire.closed()
    assert bench.broker.connected == []


def test_policy_by_name(make):
    rights = {"plain": POLICY, "node": Policy.named("node-policy")}
    bench = make(things=rights.get)
    with bench.open("stranger") as wire:
        assert wire.connect("stranger") == (0, 5)
    assert reasons(bench, "connect") == ["no active thing of this name"]
    with bench.client("plain") as wire:
        wire.publish("test/x", b"")
    with bench.client("node") as wire:
        wire.send(publish_packet("test/x", b""))
        assert wire.closed()
    assert reasons(bench, "session") == ["iot:Publish on test/x is not allowed"]


def test_default_is_the_node_policy(make):
    bench = make(things=None)
    thing = bench.thing()
    base = f"$aws/things/{thing}/shadow"
    with bench.client(thing, will=(f"dt/gridnode/{thing}/status", b"{}", 1, False)) as wire:
        paths = ["get/accepted", "get/rejected", "update/accepted", "update/rejected"]
        wire.subscribe(*[f"{base}/{p}" for p in [*paths, "update/delta"]])
        wire.publish(f"{base}/update", b'{"state":{}}')
        wire.publish(f"dt/gridnode/{thing}/history", b"[]")
        wire.send(publish_packet(f"{base}/delete", b""))
        assert wire.closed()


# Rights during a session.


def test_subscription_without_the_right_to_receive(make):
    statements = brokers.EXTRA["Statement"]
    deaf = {"Effect": "Deny", "Action": "iot:Receive", "Resource": "arn:aws:iot:*:*:topic/test/n"}
    bench = make(things=Policy({**brokers.EXTRA, "Statement": [*statements, deaf]}))
    with bench.client() as wire:
        wire.subscribe("test/n", "test/y")
        wire.publish("test/n", b"no")
        wire.publish("test/y", b"yes")
        assert wire.message().payload == b"yes"
        assert wire.silent()


def test_retained_messages_where_they_are_allowed(make):
    bench = make(things=WITH_RETAIN)
    with bench.client() as wire:
        wire.subscribe("test/r/live")
        wire.publish("test/r/live", b"now", retain=True)
        live = wire.message()
        assert (live.payload, live.retain) == (b"now", False)
        wire.publish("test/r/gone", b"x", retain=True)
        wire.publish("test/r/gone", b"", retain=True)
    with bench.client() as late:
        late.subscribe("test/r/+")
        kept = late.message()
        assert (kept.topic, kept.payload, kept.retain) == ("test/r/live", b"now", True)
        assert late.silent()
        late.send(publish_packet("$aws/things/x/shadow/update", b"{}", retain=True))
        assert late.closed()
    assert reasons(bench, "session")[-1].startswith("retained message on reserved topic")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (publish_packet("test/" + "x" * 252, b""), "topic of 257 bytes"),
        (publish_packet("test/" + "µ" * 126, b""), "topic of 257 bytes"),
        (publish_packet("test/1/2/3/4/5/6/7/8", b""), "topic with 8 slashes"),
        (publish_packet("test/x", bytes(131_073)), "payload of 131073 bytes"),
        (publish_packet("test/x", b"", 2), "QoS 2 is not supported"),
        (mqtt_wire.subscribe_packet([("test/x", 2)]), "QoS 2 is not supported"),
        (mqtt_wire.subscribe_packet([("test/x", 1), ("#", 1)]), "iot:Subscribe to # is not"),
        (mqtt_wire.subscribe_packet([(f"test/{i}", 1) for i in range(9)]), "9 filters"),
        (publish_packet("test/x", b"", 0, dup=True), "impossible flags"),
    ],
)
def test_what_closes_a_connection(make, data, reason):
    bench = make()
    with bench.client() as wire:
        wire.send(data)
        assert wire.closed()
    assert reason in reasons(bench, "session")[0]


def test_largest_of_everything_is_fine(make):
    bench = make()
    with bench.client() as wire:
        wire.publish("test/" + "x" * 251, bytes(131_072))
        wire.publish("test/1/2/3/4/5/6/7", b"")
        for group in range(7):
            names = [f"test/s/{i}" for i in range(group * 8, min(group * 8 + 8, 50))]
            wire.subscribe(*names)
        wire.subscribe("test/s/0")  # known already
        wire.send(mqtt_wire.subscribe_packet([("test/s/50", 1)]))
        assert wire.closed()
    assert reasons(bench, "session") == ["51 subscriptions"]


def test_limits_are_switches(make):
    free = Limits(
        payload_bytes=None,
        topic_bytes=None,
        topic_slashes=None,
        filters_per_subscribe=None,
        subscriptions=None,
        publishes_per_second=None,
        client_id_bytes=None,
    )
    bench = make(limits=free)
    with bench.client() as wire:
        wire.publish("test/" + "x/" * 300, bytes(300_000))
        assert len(wire.subscribe(*[f"test/{i}" for i in range(60)])) == 60
        for i in range(150):
            wire.publish("test/y", b"", i + 1)


def test_more_than_100_publishes_a_second_are_discarded(make, clock):
    bench = make(clock=clock)
    seen = []
    bench.broker.subscribe("test/rate", seen.append)
    with bench.client() as wire:
        for i in range(100):
            wire.publish("test/rate", b"x", i + 1)
        wire.send(publish_packet("test/rate", b"too many", 1, 500))
        wire.ping()  # no acknowledgement came first, and the connection stays
        assert len(seen) == 100
        clock.now += 1.0
        wire.publish("test/rate", b"x", 501)
        wire.ping()
    assert len(seen) == 101


def test_connects_per_second(make, clock):
    bench = make(clock=clock, limits=Limits(connects_per_second=1))
    thing = bench.thing()
    with bench.client(thing) as first:
        with bench.open(thing) as hasty:
            assert hasty.connect(thing) == (0, 3)
            assert hasty.closed()
        first.ping()
        clock.now += 1.0
        with bench.client(thing):
            assert first.closed()
    assert reasons(bench, "connect") == ["too many CONNECTs per second"]


# Time.


@pytest.mark.parametrize(("asked", "meant"), [(5, 30), (60, 60), (0, 1200), (40_000, 1200)])
def test_keep_alive(make, clock, asked, meant):
    bench = make(clock=clock)
    wills = []
    bench.broker.subscribe("test/ka", wills.append)
    with bench.client(keep_alive=asked, will=("test/ka", b"late", 1, False)) as wire:
        for _ in range(3):  # traffic keeps it
            clock.now += meant * 1.4
            time.sleep(0.12)
            wire.ping()
        clock.now += meant * 1.49
        time.sleep(0.12)
        assert wills == []
        clock.now += meant * 0.02
        assert wire.closed()
    assert eventually(lambda: wills)
    assert reasons(bench, "session")[0] == f"silent for more than {1.5 * meant:g} s"


@pytest.mark.parametrize(("away", "present"), [(3599, 1), (3601, 0)])
def test_persistent_session_expires(make, clock, away, present):
    bench = make(clock=clock)
    thing = bench.thing()
    bench.client(thing, clean=False).disconnect()
    assert eventually(lambda: not bench.broker.connected)
    clock.now += away
    with bench.open(thing) as wire:
        assert wire.connect(thing, clean=False) == (present, 0)


def test_unacknowledged_message_is_sent_again_and_given_up_after_an_hour(make, clock):
    bench = make(clock=clock)
    with bench.client() as wire:
        wire.subscribe("test/re")
        wire.publish("test/re", b"x")
        first = wire.message(acknowledge=False)
        clock.now += 29
        time.sleep(0.12)
        assert wire.silent()
        clock.now += 1.1
        second = wire.message(acknowledge=False)
        assert (second.packet_id, second.dup) == (first.packet_id, True)
        for _ in range(70):
            clock.now += 60
            wire.ping()
        time.sleep(0.12)
        while not wire.silent():
            wire.published.clear()
        clock.now += 60
        time.sleep(0.12)
        assert wire.silent()


def test_messages_in_flight_are_limited(make):
    bench = make(limits=Limits(in_flight=10, publishes_per_second=None))
    with bench.client() as wire, bench.client() as source:
        wire.subscribe("test/window")
        for i in range(25):
            source.publish("test/window", str(i).encode(), i + 1)
        got = [wire.message(acknowledge=False) for _ in range(10)]
        assert wire.silent()
        for message in got:
            wire.send(packet(0x40, message.packet_id.to_bytes(2, "big")))
        got += [wire.message() for _ in range(15)]
        assert [m.payload for m in got] == [str(i).encode() for i in range(25)]


def test_slow_reader_gets_everything_and_delays_nobody(make):
    bench = make(limits=Limits(publishes_per_second=None))
    with bench.client() as slow, bench.client() as quick, bench.client() as source:
        slow.subscribe("test/big")
        quick.subscribe("test/big")
        for i in range(80):
            source.publish("test/big", bytes([i]) * 100_000, i + 1)
            assert quick.message().payload[0] == i
        assert [slow.message().payload[0] for _ in range(80)] == list(range(80))


# The bench's side.


def test_kick_is_a_lost_connection(make):
    bench = make()
    thing = bench.thing()
    seen = []
    bench.broker.subscribe("test/will", seen.append)
    with bench.client(thing, will=("test/will", b"gone", 1, False)) as wire:
        assert bench.broker.connected == [thing]
        assert bench.broker.kick(thing)
        assert wire.closed()
    assert not bench.broker.kick(thing)
    assert [(m.payload, m.will, m.client) for m in seen] == [(b"gone", True, thing)]
    assert reasons(bench, "session") == ["dropped by the bench"]


def test_observers(make, clock, caplog):
    bench = make(clock=clock)
    seen, answered = [], []
    bench.broker.subscribe("test/#", lambda _message: 1 / 0)
    cancel = bench.broker.subscribe("test/+", seen.append)
    # an observer may publish, from the endpoint's own thread
    bench.broker.subscribe("test/ask", lambda _m: bench.broker.publish("answer", b"yes"))
    bench.broker.subscribe("answer", answered.append)
    thing = bench.thing()
    with bench.client(thing) as wire:
        wire.publish("test/ask", b"1", 9)
        wire.publish("test/deep/down", b"2")
        wire.ping()  # observers come after the acknowledgement
        cancel()
        wire.publish("test/ask", b"3")
        wire.ping()
    assert [(m.topic, m.payload, m.client, m.time) for m in seen] == [
        ("test/ask", b"1", thing, clock.now)
    ]
    assert len(answered) == 2
    assert "ZeroDivisionError" in caplog.text


def test_publish_as_the_service_needs_no_rights_and_takes_text(make):
    bench = make()
    with bench.client() as wire:
        wire.subscribe("test/service")
        bench.broker.publish("test/service", "µ", qos=0)
        got = wire.message()
        assert (got.payload.decode(), got.qos) == ("µ", 0)


def test_many_threads_use_the_bench_side(make):
    bench = make()
    seen = []
    bench.broker.subscribe("test/t", seen.append)

    def work():
        for _ in range(50):
            bench.broker.publish("test/t", b"")
            bench.broker.kick("nobody")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    bench.broker.stop()
    bench.broker.start()
    for thread in threads:
        thread.join(10)
    assert len(seen) == 200
