"""The mosquitto runner: access list and log without the program, the rest with it."""

from __future__ import annotations

import os
import socket

import brokers
import pytest
from gridnode_host import resources
from gridnode_host.bench import mosquitto
from gridnode_host.bench.mosquitto import DIFFERENCES, access_list
from gridnode_host.errors import GridnodeError
from mqtt_wire import eventually, publish_packet

needs_it = pytest.mark.skipif(mosquitto.installed() is None, reason="mosquitto is not installed")


def test_access_list_grants_what_the_node_policy_allows():
    lines = access_list(resources.policy("node-policy"), "svc")
    assert lines[:3] == ["user svc", "topic readwrite #", "topic readwrite $aws/#"]
    patterns = lines[4:]
    base = "$aws/things/%u"
    for wanted in (
        f"pattern write {base}/shadow/update",
        f"pattern write {base}/shadow/get",
        f"pattern write {base}/shadow/name/+/update",
        f"pattern write {base}/jobs/+/update",
        "pattern write dt/gridnode/%u/#",
        f"pattern read {base}/shadow/+/accepted",
        f"pattern read {base}/shadow/+/+/+/accepted",  # named shadows
        f"pattern read {base}/shadow/+/delta",
        f"pattern read {base}/jobs/#",
    ):
        assert wanted in patterns
    assert all("%u" in line for line in patterns)
    assert not any("delete" in line or "documents" in line for line in patterns)


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ({"Effect": "Deny", "Action": "iot:Publish", "Resource": "*"}, "cannot deny"),
        (
            {"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/a*"},
            "cannot express",
        ),
        (
            {
                "Effect": "Allow",
                "Action": ["iot:Publish"],
                "Resource": ["arn:aws:iot:*:*:topic/${iot:ClientId}/x"],
            },
            "cannot express",
        ),
    ],
)
def test_policy_that_no_access_list_can_express(statement, cause):
    with pytest.raises(GridnodeError, match=cause):
        access_list({"Statement": [statement]}, "svc")


@pytest.mark.parametrize(
    ("line", "client", "reason"),
    [
        (
            "1700000000: OpenSSL Error[0]: error:0A0000C7:SSL routines::"
            "peer did not return a certificate",
            "",
            "the client sent no certificate",
        ),
        (
            "1700000000: OpenSSL Error[0]: error:0A000418:SSL routines::tlsv1 alert unknown ca",
            "",
            "the client does not trust the endpoint's CA",
        ),
        (
            "1700000000: Client connection from 127.0.0.1 failed: error:0A000086:SSL routines::"
            "certificate verify failed.",
            "",
            "TLS: certificate verify failed",
        ),
        (
            "1700000000: Client connection from 127.0.0.1 failed: error:0A000126:SSL routines::"
            "unexpected eof while reading.",
            None,
            None,
        ),
        (
            "1700000000: Client n1 disconnected due to protocol error.",
            "n1",
            "disconnected due to protocol error",
        ),
        (
            "1700000000: Client n1 already connected, closing old connection.",
            "n1",
            "already connected, closing old connection",
        ),
        ("1700000000: Client n1 closed its connection.", None, None),
        ("1700000000: New client connected from 127.0.0.1:1 as n1", None, None),
        ("no time stamp", None, None),
    ],
)
def test_reasons_in_the_log(line, client, reason):
    found = mosquitto._refusal(line)
    if reason is None:
        assert found is None
    else:
        assert (found.client, found.reason, found.time) == (client, reason, 1_700_000_000)


def test_missing_program_is_said(authority, monkeypatch):
    monkeypatch.setattr(mosquitto, "installed", lambda: None)
    with pytest.raises(GridnodeError, match="not installed") as caught:
        brokers.external(authority).broker.start()
    assert "embedded" in caught.value.action


def test_permitted_differences_are_few():
    assert len(DIFFERENCES) <= 6


@needs_it
def test_nothing_is_left_after_close(authority):
    bench = brokers.external(authority)
    with bench.broker as broker:
        process, folder = broker._process, broker._folder.name
        with bench.client() as wire:
            wire.send(b"\0\0")
            assert wire.closed()
        assert eventually(lambda: broker.refused)
    assert process.poll() is not None
    assert not os.path.exists(folder)
    assert not broker.running
    assert broker.refused  # the log can still be read
    broker.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", bench.port), timeout=1)


@needs_it
def test_port_that_is_taken(authority):
    bench = brokers.external(authority)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        bench.broker.port = other.getsockname()[1]
        with pytest.raises(GridnodeError, match="cannot listen"):
            bench.broker.start()
    bench.broker.close()
    assert not bench.broker.running


@needs_it
def test_node_policy_on_mosquitto(authority):
    bench = brokers.external(authority)
    with bench.broker as broker:
        seen = []
        broker.subscribe("dt/#", seen.append)
        broker.subscribe("$aws/things/#", seen.append)
        thing = bench.thing()
        allowed = [f"dt/gridnode/{thing}/event", f"$aws/things/{thing}/shadow/name/w/update"]
        with bench.client(thing) as wire:
            for topic in ("dt/gridnode/other/event", f"$aws/things/{thing}/shadow/delete"):
                wire.send(publish_packet(topic, b"no", 0))
            for topic in allowed:
                wire.publish(topic, b"yes")
            delta = f"$aws/things/{thing}/shadow/name/w/update/delta"
            wire.subscribe(delta)
            broker.publish(delta, b"{}")
            assert wire.message().topic == delta
        assert eventually(lambda: len(seen) >= 3)
        assert [m.topic for m in seen if m.payload != b"{}"] == allowed


@needs_it
def test_observers_of_one_filter(authority):
    with brokers.external(authority).broker as broker:
        seen, also = [], []
        cancel = broker.subscribe("test/x", seen.append)
        broker.subscribe("test/x", lambda _m: 1 / 0)
        broker.subscribe("test/x", also.append)
        broker.publish("test/x", "µ")
        assert eventually(lambda: also)
        assert [m.payload.decode() for m in seen] == ["µ"]
        cancel()
        broker.publish("test/x", b"2")
        assert eventually(lambda: len(also) == 2)
        assert len(seen) == 1


@needs_it
def test_overlapping_observers_hear_a_message_once_each(authority):
    bench = brokers.external(authority, brokers.EXTRA)
    with bench.broker as broker, bench.client() as wire:
        wide, narrow, end = [], [], []
        broker.subscribe("test/#", wide.append)
        broker.subscribe("test/+", narrow.append)
        broker.subscribe("own/#", end.append)
        wire.publish("test/a", b"x")
        broker.publish("own/end", b"")  # behind it, so nothing more is to come
        assert eventually(lambda: end)
        assert (len(wide), len(narrow)) == (1, 1)
