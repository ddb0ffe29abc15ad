"""Peers for the tests of the node's link: a scripted MQTT broker with mutual TLS, and bad ones.

Each peer listens on a port of its own of 127.0.0.1 and serves every connection in a thread. The
broker answers by the topic of a publish:

* ``echo``: sends the payload back under the same topic;
* ``big``: sends as many bytes as the payload says in decimal;
* ``quiet``: no PUBACK;
* ``close``: ends the connection, ``reset`` does so without a goodbye;
* ``reads``: sends the sizes of the TLS records received so far, separated by commas;
* ``name``: sends the server name that the client asked for in its TLS greeting;
* ``sum``: sends the SHA-256 of all bytes received so far;
* ``sleep``: reads nothing for as many milliseconds as the payload says.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gridnode_host import certs

_TIMEOUT_S = 20
_SERVE = Callable[[socket.socket], None]


class _Tls(ssl.SSLSocket):
    server_name = ""  # that the client asked for

    def ask(self, name: str | None, context: ssl.SSLContext) -> None:
        self.server_name = name or ""


class Peer:
    """One listening port; `serve` gets each connection and may do what it likes with it."""

    def __init__(self, serve: _SERVE) -> None:
        self._serve = serve
        self._listener = socket.socket()
        # small, and inherited by the connections: a peer that sleeps is soon felt
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._open: set[socket.socket] = set()
        self._ending = False
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(_TIMEOUT_S)
            self._open.add(connection)
            thread = threading.Thread(target=self._handle, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), connection:
            self._serve(connection)
        self._open.discard(connection)

    def close(self) -> None:
        """Stop listening and end every connection."""
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=5)


class _Broker:
    """The broker's side of one connection."""

    def __init__(self, context: ssl.SSLContext, connection: socket.socket) -> None:
        self._raw = connection
        self._tls = context.wrap_socket(connection, server_side=True)
        self._box = b""
        self._reads: list[int] = []
        self._hash = hashlib.sha256()
        self._closed = False

    def run(self) -> None:
        while not self._closed:
            head, body = self._packet()
            kind = head >> 4
            if kind == 1:
                self._tls.sendall(b"\x20\2\0\0")
            elif kind == 8:
                count, at = 0, 2
                while at < len(body):
                    at += 3 + struct.unpack_from(">H", body, at)[0]
                    count += 1
                self._tls.sendall(bytes((0x90, 2 + count)) + body[:2] + bytes((1,)) * count)
            elif kind == 12:
                self._tls.sendall(b"\xd0\0")
            elif kind == 14:
                return
            elif kind == 3:
                self._publish(head, body)

    def _publish(self, head: int, body: bytes) -> None:
        end = 2 + struct.unpack_from(">H", body)[0]
        topic = body[2:end].decode()
        if head & 6:
            if topic != "quiet":
                self._tls.sendall(b"\x40\2" + body[end : end + 2])
            end += 2
        payload = body[end:]
        if topic == "echo":
            self._send(topic, payload)
        elif topic == "big":
            self._send(topic, bytes(i & 0xFF for i in range(int(payload))))
        elif topic == "reads":
            self._send(topic, ",".join(map(str, self._reads)).encode())
        elif topic == "name":
            assert isinstance(self._tls, _Tls)
            self._send(topic, self._tls.server_name.encode())
        elif topic == "sum":
            self._send(topic, self._hash.hexdigest().encode())
        elif topic == "sleep":
            time.sleep(int(payload) / 1000)
        elif topic == "close":
            with contextlib.suppress(OSError):
                self._tls.unwrap()
            self._closed = True
        elif topic == "reset":
            self._tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._closed = True
        if self._closed:
            self._tls.close()

    def _send(self, topic: str, payload: bytes) -> None:
        body = struct.pack(">H", len(topic)) + topic.encode() + payload
        size, length = len(body), b""
        while True:
            length += bytes((size & 0x7F | (0x80 if size > 0x7F else 0),))
            size >>= 7
            if not size:
                break
        self._tls.sendall(b"\x30" + length + body)

    def _packet(self) -> tuple[int, bytes]:
        head, size, shift = self._take(1)[0], 0, 0
        while True:
            byte = self._take(1)[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return head, self._take(size)

    def _take(self, count: int) -> bytes:
        while len(self._box) < count:
            data = self._tls.recv(16384)
            if not data:
                raise EOFError
            self._reads.append(len(data))
            self._hash.update(data)
            self._box += data
        taken, self._box = self._box[:count], self._box[count:]
        return taken


def _context(identity: certs.Identity, client_ca: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = _Tls
    context.sni_callback = _Tls.ask
    context.load_cert_chain(identity.cert, identity.key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _handshake(context: ssl.SSLContext) -> _SERVE:
    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1)

    return serve


def _stall(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def _garbage(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.recv(4096)


@contextlib.contextmanager
def peers(folder: Path) -> Iterator[dict[str, Any]]:
    """Start all peers; yields ports by name and credentials in hexadecimal."""
    now = datetime.now(UTC).replace(microsecond=0)
    day = timedelta(days=1)
    ours = certs.ensure_ca(folder / "ca")
    other = certs.ensure_ca(folder / "other", "Another CA")
    good = _context(certs.issue_server(ours), ours.pem)
    past = {"not_before": now - 2 * day, "not_after": now - day}
    serves: dict[str, _SERVE] = {
        "broker": lambda connection: _Broker(good, connection).run(),
        "wrong_ca": _handshake(_context(certs.issue_server(other))),
        "expired": _handshake(_context(certs.issue_server(ours, **past))),
        "future": _handshake(_context(certs.issue_server(ours, not_before=now + day))),
        "wrong_host": _handshake(
            _context(certs.issue_server(ours, ["elsewhere.example"], defaults=()))
        ),
        "stall": _stall,
        "garbage": _garbage,
        "hang_up": lambda connection: None,
    }
    values: dict[str, Any] = {"ca": ours.der.read_bytes().hex()}
    for name, authority, times in (
        ("own", ours, {}),
        ("second", ours, {}),
        ("foreign", other, {}),
        ("stale", ours, past),
    ):
        identity = certs.issue_node(authority, name, **times)
        values[name] = [identity.cert.read_bytes().hex(), identity.key.read_bytes().hex()]
    running = {name: Peer(serve) for name, serve in serves.items()}
    values["ports"] = {name: peer.port for name, peer in running.items()}
    with socket.create_server(("127.0.0.1", 0)) as unused:
        values["ports"]["nobody"] = unused.getsockname()[1]
    try:
        yield values
    finally:
        for peer in running.values():
            peer.close()
