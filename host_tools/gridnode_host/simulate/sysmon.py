"""This computer as a thing: processor, memory and temperature as metrics of its shadow."""

from __future__ import annotations

import json
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from gridnode_host import certs
from gridnode_host.address import MQTT_PORT, host_port
from gridnode_host.bench.endpoint import Endpoint
from gridnode_host.bench.routing import Message
from gridnode_host.bench.service_client import ServiceClient
from gridnode_host.bench.shadow import ShadowService
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

Json = dict[str, Any]

_ANSWER_S = 10.0
_WARM_UP_S = 0.2  # of the processor's load, before its first value


@dataclass(frozen=True)
class Target:
    """Where to publish, as which thing, and the TLS with its certificate."""

    host: str
    port: int
    thing: str
    tls: ssl.SSLContext


def measure() -> Json:
    """Load of the processor since the last call and memory in use, %, and degC where known.

    `timestamp` is in s of the Unix epoch.
    """
    reported: Json = {
        "cpu": psutil.cpu_percent(),
        "memory": psutil.virtual_memory().percent,
        "timestamp": int(time.time()),
    }
    celsius = _temperature()
    if celsius is not None:
        reported["temperature"] = celsius
    return reported


def _temperature() -> float | None:
    """The hottest sensor of this computer, degC; None where it has none."""
    read = getattr(psutil, "sensors_temperatures", None)  # not on every system
    found = [one.current for group in (read() if read else {}).values() for one in group]
    return round(max(found), 1) if found else None


class Shadow:
    """Updates the shadow of one thing and waits for the answer."""

    def __init__(self, target: Target) -> None:
        self._topic = f"$aws/things/{target.thing}/shadow/update"
        self._answered = threading.Condition()
        self._answers: dict[str, tuple[bool, Json]] = {}
        self._client = ServiceClient(target.thing, target.tls)
        for end, good in (("accepted", True), ("rejected", False)):
            self._client.observe(f"{self._topic}/{end}", partial(self._hear, good))
        self._client.start(target.host, target.port)

    def close(self) -> None:
        self._client.stop()

    def update(self, reported: Json) -> int:
        """Report a state; returns the shadow's version.

        Raises GridnodeError if it is rejected, or nobody answers.
        """
        token = uuid4().hex
        document = {"state": {"reported": reported}, "clientToken": token}
        self._client.publish(self._topic, json.dumps(document), 1, False)
        with self._answered:
            if not self._answered.wait_for(lambda: token in self._answers, _ANSWER_S):
                raise _failed(
                    f"no answer within {_ANSWER_S:g} s",
                    "The broker needs a shadow service, and a policy that lets this thing use it.",
                )
            good, answer = self._answers.pop(token)
        if not good:
            raise _failed(
                f"rejected with {answer.get('code')}: {answer.get('message')}",
                "Look at what the shadow holds for this thing.",
            )
        return int(answer["version"])

    def _hear(self, good: bool, message: Message) -> None:
        answer = json.loads(message.payload)
        with self._answered:
            self._answers[str(answer.get("clientToken"))] = good, answer
            self._answered.notify_all()


def _failed(cause: str, action: str) -> GridnodeError:
    return GridnodeError("update the shadow", cause, action, Exit.CLOUD)


@contextmanager
def bench_target(thing: str) -> Iterator[Target]:
    """An endpoint with a shadow service on this computer, and a certificate for the thing."""
    with tempfile.TemporaryDirectory(prefix="gridnode-sysmon-") as folder, ExitStack() as stack:
        authority = certs.ensure_ca(Path(folder))
        server = certs.issue_server(authority)
        endpoint = stack.enter_context(Endpoint(authority.pem, server.cert, server.key))
        stack.callback(ShadowService(endpoint).close)
        identity = certs.issue_node(authority, thing)
        tls = certs.client_context(authority.pem, identity)
        yield Target("localhost", endpoint.port, thing, tls)


def broker_target(broker: str, thing: str, certs_dir: Path, ca: Path | None) -> Target:
    """A broker (HOST:PORT, port 8883), with the thing's certificate of `gridnode certs`.

    Raises GridnodeError for an address, a certificate or a key that cannot be used.
    """
    host, port = host_port("--broker", broker, MQTT_PORT)
    identity = certs.node_identity(certs_dir, thing)
    if identity is None:
        raise GridnodeError(
            "find the certificate",
            f"there is none for {thing}, or no key, in {certs_dir}",
            f"Make it: gridnode certs --thing {thing}.",
            Exit.USAGE,
        )
    tls = certs.client_context(ca or certs_dir / "ca.pem", identity)
    return Target(host, port, thing, tls)


def run(out: Output, target: Target, interval: float, count: int | None) -> None:
    """Publish every `interval` s, `count` times or until Ctrl-C."""
    with out.step(f"connect to {target.host}:{target.port} as {target.thing}"):
        shadow = Shadow(target)
    sent = 0
    try:
        measure()
        time.sleep(min(_WARM_UP_S, interval))
        due = time.monotonic()
        while count is None or sent < count:
            reported = measure()
            version = shadow.update(reported)
            sent += 1
            out.event("metrics", _line(reported, version), version=version, reported=reported)
            if sent != count:
                due += interval
                time.sleep(max(0.0, due - time.monotonic()))
    except KeyboardInterrupt:
        pass  # the way to end it
    finally:
        shadow.close()
    out.done(f"{sent} updates of the shadow of {target.thing}.", updates=sent)


def _line(reported: Json, version: int) -> str:
    celsius = reported.get("temperature")
    heat = "no thermometer" if celsius is None else f"{celsius:.1f} degC"
    return (
        f"cpu {reported['cpu']:5.1f} %  memory {reported['memory']:5.1f} %  {heat}"
        f"  (version {version})"
    )
