"""Brokers for tests: certificates, the embedded endpoint and mosquitto behind one face."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import mqtt_wire
from gridnode_host import certs
from gridnode_host.bench.endpoint import Endpoint
from gridnode_host.bench.mosquitto import DIFFERENCES, Mosquitto

_numbers = count(1)
EXTRA = {
    # What the conformance tests need beyond a node's rights.
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "iot:Connect",
            "Resource": "arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}",
        },
        {
            "Effect": "Allow",
            "Action": ["iot:Publish", "iot:Receive"],
            "Resource": [
                "arn:aws:iot:*:*:topic/test/*",
                "arn:aws:iot:*:*:topic/own/${iot:Connection.Thing.ThingName}/*",
                "arn:aws:iot:*:*:topic/$aws/things/${iot:Connection.Thing.ThingName}/shadow/*",
            ],
        },
        {
            "Effect": "Allow",
            "Action": "iot:Subscribe",
            "Resource": [
                "arn:aws:iot:*:*:topicfilter/test/*",
                "arn:aws:iot:*:*:topicfilter/own/${iot:Connection.Thing.ThingName}/*",
                "arn:aws:iot:*:*:topicfilter/$aws/things/${iot:Connection.Thing.ThingName}/*",
            ],
        },
    ],
}


class Bench:
    """A running broker with everything that a client needs."""

    def __init__(
        self,
        authority: certs.Authority,
        broker: Endpoint | Mosquitto,
        differences: Mapping[str, str],
    ) -> None:
        self.authority = authority
        self.broker = broker
        self.differences = differences

    @property
    def port(self) -> int:
        return self.broker.port

    def thing(self) -> str:
        """Return a name that nobody has used yet."""
        return f"n{next(_numbers)}"

    def identity(self, thing: str) -> tuple[Path, Path]:
        return pem_identity(self.authority, thing)

    def open(self, thing: str, **options: Any) -> mqtt_wire.Wire:
        """Return a TLS connection of ``thing`` on which nothing was sent."""
        return mqtt_wire.Wire(self.port, self.authority.pem, self.identity(thing), **options)

    def client(self, thing: str | None = None, **options: Any) -> mqtt_wire.Wire:
        """Return a connected client."""
        thing = thing or self.thing()
        wire = self.open(thing)
        answer = wire.connect(thing, **options)
        assert answer == (0, 0), answer
        return wire


def pem_identity(authority: certs.Authority, thing: str) -> tuple[Path, Path]:
    """Return (certificate, key) of a thing in PEM, made at the first call."""
    folder = certs.node_folder(authority.folder, thing)
    files = folder / "cert.pem", folder / "key.pem"
    if not all(path.exists() for path in files):
        made = certs.issue_node(authority, thing, pem=True)
        assert (made.cert, made.key) == files
    return files


def server_identity(authority: certs.Authority) -> certs.Identity:
    """Return the broker's certificate, made at the first call."""
    folder = authority.folder / "server"
    found = certs.Identity(folder / "cert.pem", folder / "key.pem")
    return found if found.key.exists() else certs.issue_server(authority)


def embedded(authority: certs.Authority, **options: Any) -> Bench:
    """Return a bench with an endpoint that is not started."""
    server = server_identity(authority)
    endpoint = Endpoint(authority.pem, server.cert, server.key, **options)
    return Bench(authority, endpoint, {})


def external(authority: certs.Authority, policy: Mapping[str, object] | None = None) -> Bench:
    """Return a bench with a mosquitto that is not started."""
    server, name = server_identity(authority), "bench-service"
    broker = Mosquitto(
        authority.pem,
        server.cert,
        server.key,
        (name, *pem_identity(authority, name)),
        policy=policy,
    )
    return Bench(authority, broker, DIFFERENCES)
