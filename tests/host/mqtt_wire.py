"""A blocking MQTT 3.1.1 client for tests, made of bytes by hand.

It shares no code with the endpoint, sends what no library would, and sees every packet.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE = 15.0
CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP = 2, 3, 4, 9, 11, 13


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(data)) + data


def packet(first: int, body: bytes = b"") -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, digit = left >> 7, left & 0x7F
        length.append(digit | (0x80 if left else 0))
        if not left:
            return bytes([first]) + bytes(length) + body


def connect_packet(
    client_id: str,
    clean: bool = True,
    keep_alive: int = 60,
    will: tuple[str, bytes, int, bool] | None = None,
    level: int = 4,
    flags: int = 0,
) -> bytes:
    flags |= 0x02 if clean else 0
    tail = text(client_id)
    if will:
        topic, payload, qos, retain = will
        flags |= 0x04 | qos << 3 | (0x20 if retain else 0)
        tail += text(topic) + text(payload)
    return packet(
        0x10, text("MQTT") + bytes([level, flags]) + struct.pack("!H", keep_alive) + tail
    )


def publish_packet(
    topic: str | bytes,
    payload: bytes = b"",
    qos: int = 1,
    packet_id: int = 1,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    first = 0x30 | (8 if dup else 0) | qos << 1 | int(retain)
    return packet(first, text(topic) + (struct.pack("!H", packet_id) if qos else b"") + payload)


def subscribe_packet(filters: list[tuple[str, int]], packet_id: int = 1) -> bytes:
    body = b"".join(text(name) + bytes([qos]) for name, qos in filters)
    return packet(0x82, struct.pack("!H", packet_id) + body)


def unsubscribe_packet(filters: list[str], packet_id: int = 1) -> bytes:
    return packet(0xA2, struct.pack("!H", packet_id) + b"".join(map(text, filters)))


@dataclass
class Publish:
    topic: str
    payload: bytes
    qos: int
    packet_id: int
    retain: bool
    dup: bool


class Closed(Exception):
    """The other side ended the connection."""


class Wire:
    """One TLS connection. ``identity`` is (certificate, key) in PEM, or None for neither."""

    def __init__(
        self,
        port: int,
        ca: Path,
        identity: tuple[Path, Path] | None,
        tls13: bool = False,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(str(ca))
        if not tls13:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        if identity:
            context.load_cert_chain(str(identity[0]), str(identity[1]))
        raw = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket = context.wrap_socket(raw, server_hostname="localhost")
        except BaseException:
            raw.close()
            raise
        self.published: list[Publish] = []
        self._buffer = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as err:
            raise Closed from err

    def receive(self, seconds: float = DEADLINE) -> tuple[int, bytes]:
        """Return (first byte, body) of the next packet; TimeoutError or Closed without one."""
        deadline = time.monotonic() + seconds
        while True:
            frame = self._cut()
            if frame:
                return frame
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise
            except OSError as err:
                raise Closed from err
            if not data:
                raise Closed
            self._buffer += data

    def _cut(self) -> tuple[int, bytes] | None:
        length = 0
        for at, byte in enumerate(self._buffer[1:5]):
            length |= (byte & 0x7F) << 7 * at
            if not byte & 0x80:
                start = at + 2
                if len(self._buffer) < start + length:
                    return None
                frame = self._buffer[0], self._buffer[start : start + length]
                self._buffer = self._buffer[start + length :]
                return frame
        return None

    def wait(self, kind: int, seconds: float = DEADLINE) -> tuple[int, bytes]:
        """Return the next packet of a type; PUBLISH packets met on the way are kept."""
        deadline = time.monotonic() + seconds
        while True:
            first, body = self.receive(deadline - time.monotonic())
            if first >> 4 == kind:
                return first, body
            assert first >> 4 == PUBLISH, f"unexpected packet {first:#x}"
            self.published.append(_publish(first, body))

    def connect(self, client_id: str, **options: Any) -> tuple[int, int]:
        """Send CONNECT and return (session present, return code)."""
        self.send(connect_packet(client_id, **options))
        body = self.wait(CONNACK)[1]
        return body[0], body[1]

    def subscribe(self, *filters: tuple[str, int] | str, packet_id: int = 1) -> list[int]:
        wanted = [f if isinstance(f, tuple) else (f, 1) for f in filters]
        self.send(subscribe_packet(wanted, packet_id))
        body = self.wait(SUBACK)[1]
        assert body[:2] == struct.pack("!H", packet_id)
        return list(body[2:])

    def unsubscribe(self, *filters: str, packet_id: int = 1) -> None:
        self.send(unsubscribe_packet(list(filters), packet_id))
        assert self.wait(UNSUBACK)[1] == struct.pack("!H", packet_id)

    def publish(self, topic: str, payload: bytes, packet_id: int = 1, **options: Any) -> None:
        """Publish with QoS 1 and wait for the acknowledgement."""
        self.send(publish_packet(topic, payload, 1, packet_id, **options))
        assert self.wait(PUBACK)[1] == struct.pack("!H", packet_id)

    def message(self, seconds: float = DEADLINE, acknowledge: bool = True) -> Publish:
        """Return the next message, acknowledged unless told otherwise."""
        if self.published:
            found = self.published.pop(0)
        else:
            found = _publish(*self.wait(PUBLISH, seconds))
        if found.qos and acknowledge:
            self.send(packet(0x40, struct.pack("!H", found.packet_id)))
        return found

    def ping(self) -> None:
        """Prove that the connection works both ways."""
        self.send(packet(0xC0))
        self.wait(PINGRESP)

    def silent(self) -> bool:
        """Tell whether nothing but the answer to a ping arrives."""
        self.ping()
        return not self.published

    def disconnect(self) -> None:
        self.send(packet(0xE0))
        self.close()

    def closed(self, seconds: float = DEADLINE) -> bool:
        """Wait until the other side ends the connection; whatever it still sends is dropped."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                self.receive(deadline - time.monotonic())
        except Closed:
            return True
        except TimeoutError:
            return False


def _publish(first: int, body: bytes) -> Publish:
    size = struct.unpack_from("!H", body)[0]
    topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
    qos = first >> 1 & 3
    packet_id = struct.unpack_from("!H", rest)[0] if qos else 0
    payload = rest[2:] if qos else rest
    return Publish(topic, payload, qos, packet_id, bool(first & 1), bool(first & 8))


def eventually(condition, seconds: float = DEADLINE) -> bool:
    """Wait for something that another thread brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
