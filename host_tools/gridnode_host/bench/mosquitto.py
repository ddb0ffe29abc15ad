"""A mosquitto process as the bench's broker, with the identity rules of the embedded endpoint.

The client id is the common name of the certificate, and the access list is made from the same
policy that the embedded endpoint enforces. What mosquitto does otherwise is in `DIFFERENCES`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gridnode_host import certs, resources
from gridnode_host.bench.endpoint import Refusal
from gridnode_host.bench.limits import Limits
from gridnode_host.bench.routing import Message
from gridnode_host.bench.service_client import ServiceClient
from gridnode_host.bench.tls import plain_words
from gridnode_host.errors import Exit, GridnodeError

# Behaviour of mosquitto 2.0 that a test has to permit; everything else is as in the endpoint.
DIFFERENCES = {
    "forbidden_publish": "acknowledged and dropped; the connection stays",
    "forbidden_subscribe": "granted; nothing is delivered",
    "forbidden_will": "accepted, and dropped when it is due",
    "foreign_client_id": "replaced by the name in the certificate",
    "packet_limits": "filters per request, subscriptions and slashes are not limited",
    "reserved_will": "a last will on a shadow topic looks like any other message",
}

_DEADLINE = 10.0  # real seconds for the process to start or to end
_THING = "${iot:Connection.Thing.ThingName}"
_DEEPEST = 4  # levels that one "*" of a policy stands for, at most
_TLS_ERROR = re.compile(r"(?:OpenSSL Error|failed).* error:[0-9A-F]+:[^:]*:[^:]*:([^.]*)")
_CLIENT = re.compile(
    r"Client (\S+) (?:\[\S+\] )?(disconnected.*not authori[sz]ed.*|"
    r"disconnected due to .*|already connected.*|has exceeded timeout.*)"
)


def installed() -> str | None:
    """Return the path of the mosquitto program, or None."""
    # Debian puts it where the search path of an ordinary user does not look.
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Mosquitto:
    """Same interface as `gridnode_host.bench.endpoint.Endpoint`, as far as mosquitto allows."""

    faults = frozenset({"stop", "stall"})

    def __init__(
        self,
        ca_cert: Path,
        cert: Path,
        key: Path,
        service: tuple[str, Path, Path],
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        """``service`` is (common name, certificate, key) of the bench's own client, in PEM.

        ``policy`` is the policy document of every node, by default the product's.
        """
        self.host, self.port = host, port
        self._limits = limits or Limits()
        self._policy = policy if policy is not None else resources.policy("node-policy")
        self._files = {"cafile": ca_cert, "certfile": cert, "keyfile": key}
        self._name = service[0]
        tls = certs.client_context(ca_cert, certs.Identity(*service[1:]))
        self._client = ServiceClient(self._name, tls)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log = b""

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether clients can connect."""
        return self._process is not None and self._process.poll() is None

    @property
    def refused(self) -> list[Refusal]:
        """The refusals in mosquitto's log, oldest first; a TLS error there names no client."""
        return [r for line in self._read_log().splitlines() if (r := _refusal(line))]

    def start(self) -> None:
        """Start the process and connect the bench's client; raise `GridnodeError`."""
        if self.running:
            return
        program = installed()
        if program is None:
            raise _failed("mosquitto is not installed", "Install it, or use the embedded broker.")
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="gridnode-mosquitto-")
        self.port = _claim(self.host, self.port)
        config = self._write_config(Path(self._folder.name))
        with (Path(self._folder.name) / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            self._wait_for_port()
            self._client.start(self.host, self.port)
        except BaseException:
            self._end_process()
            raise

    def stop(self) -> None:
        """End the process; sessions and undelivered messages are kept for the next start."""
        if self._process:
            self._client.stop()
            self._end_process()

    def close(self) -> None:
        """Stop and remove everything that was kept."""
        self.stop()
        if self._folder:
            self._log = self._read_log().encode()
            self._folder.cleanup()
            self._folder = None

    def publish(
        self, topic: str, payload: bytes | str, qos: int = 1, retain: bool = False
    ) -> None:
        """Publish as the service; delivered after the next start while stopped."""
        self._client.publish(topic, payload, qos, retain)

    def subscribe(
        self, topic_filter: str, callback: Callable[[Message], None]
    ) -> Callable[[], None]:
        """Call ``callback`` in the client's thread with each message; return how to end that."""
        return self._client.observe(topic_filter, callback)

    @contextmanager
    def stall(self) -> Iterator[None]:
        """Stop the process from running while the context lasts; TCP still connects."""
        process = self._process
        if process is None:
            raise _failed("it is not running", "Start it first.")
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def _write_config(self, folder: Path) -> Path:
        (folder / "acl").write_text("\n".join(access_list(self._policy, self._name)) + "\n")
        lines = {
            "listener": f"{self.port} {self.host}",
            **self._files,
            "tls_version": "tlsv1.2",
            "require_certificate": "true",
            "use_identity_as_username": "true",
            "use_username_as_clientid": "true",
            "allow_anonymous": "false",
            "acl_file": folder / "acl",
            "max_qos": 1,
            "retain_available": "false",
            "max_inflight_messages": self._limits.in_flight,
            # Not 0, which means no limit too, but also closes on a forbidden publish (2.0.11).
            "max_queued_messages": 1_000_000,
            "set_tcp_nodelay": "true",
            "persistence": "true",
            "persistence_location": f"{folder}/",
            "log_dest": "stderr",
            "log_type": "all",
        }
        if self._limits.payload_bytes is not None:
            lines["max_packet_size"] = self._limits.payload_bytes + 512
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            # As root it would change to a user of its own, who may not read the bench's keys.
            lines["user"] = "root"
        config = folder / "mosquitto.conf"
        config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        return config

    def _wait_for_port(self) -> None:
        deadline = time.monotonic() + _DEADLINE
        while True:
            if not self.running:
                raise _failed(f"it ended at once: {self._read_log()[-500:]}", "See its log.")
            try:
                socket.create_connection((self.host, self.port), timeout=1.0).close()
                return
            except OSError as err:
                if time.monotonic() > deadline:
                    raise _failed(str(err), "See its log.") from err
            time.sleep(0.02)

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_DEADLINE)

    def _read_log(self) -> str:
        if self._folder is None:
            return self._log.decode(errors="replace")
        path = Path(self._folder.name) / "log"
        return path.read_text(errors="replace") if path.exists() else ""


def access_list(policy: Mapping[str, Any], service: str) -> list[str]:
    """Return the lines of an access list that grants what ``policy`` allows every node.

    ``service`` is the user who may do everything. Publish becomes write and Receive becomes
    read; mosquitto has no check of its own for Subscribe.
    """
    lines = [f"user {service}", "topic readwrite #", "topic readwrite $aws/#", ""]
    for statement in policy["Statement"]:
        if statement["Effect"] != "Allow":
            raise _failed("its access list cannot deny", "Use a policy that only allows.")
        actions, paths = _listed(statement["Action"]), _listed(statement["Resource"])
        for action, right in (("iot:Publish", "write"), ("iot:Receive", "read")):
            if action in actions:
                lines += [f"pattern {right} {t}" for path in paths for t in _patterns(path)]
    return lines


def _patterns(resource: str) -> list[str]:
    """Return the mosquitto patterns for one resource of a policy."""
    topic = resource.split(":", 5)[5].removeprefix("topic/").replace(_THING, "%u")
    levels = topic.split("/")
    if "${" in topic or any("*" in level and level != "*" for level in levels):
        raise _failed(f"cannot express {resource}", "Use whole levels in the policy.")
    if levels[-1] == "*":
        levels[-1] = "#"
    if "*" not in levels:
        return ["/".join(levels)]
    at = levels.index("*")  # a "*" of a policy spans levels, a "+" of mosquitto does not
    return [
        p
        for count in range(1, _DEEPEST)
        for p in _patterns(
            ":::::topic/" + "/".join([*levels[:at], *["+"] * count, *levels[at + 1 :]])
        )
    ]


def _listed(value: Any) -> list[str]:
    return list(value) if isinstance(value, list) else [value]


def _refusal(line: str) -> Refusal | None:
    stamp, _, text = line.partition(": ")
    if not stamp.isdigit():
        return None
    if match := _TLS_ERROR.search(text):
        reason = match[1].strip()
        if reason == "unexpected eof while reading":
            return None  # a client that left without a goodbye was not refused
        return Refusal(float(stamp), "tls", "", plain_words(reason.upper().replace(" ", "_")))
    if match := _CLIENT.search(text):
        return Refusal(float(stamp), "session", match[1], match[2].rstrip("."))
    return None


def _claim(host: str, port: int) -> int:
    """Return ``port``, or a free one for 0; mosquitto itself would not say that it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as err:
            raise _failed(
                f"cannot listen on {host}:{port}: {err.strerror}",
                "Stop what uses this port, or choose another one.",
            ) from err
        return int(probe.getsockname()[1])


def _failed(cause: str, action: str) -> GridnodeError:
    return GridnodeError("run mosquitto", cause, action, Exit.CLOUD)
