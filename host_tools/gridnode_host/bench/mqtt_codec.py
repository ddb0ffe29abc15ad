"""MQTT 3.1.1 frames to packets and back, strictly, on amqtt's packet classes.

amqtt decodes leniently (a string that is not UTF-8 becomes its Python notation, missing payload
fields become None, trailing bytes are ignored). Encoding a packet again and comparing it with what
arrived catches all of these at once.
"""

from __future__ import annotations

import struct
from typing import Any

from amqtt.adapters import BufferReader
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
from amqtt.mqtt import MQTTFixedHeader, packet_class
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBLISH,
    SUBSCRIBE,
    UNSUBSCRIBE,
)

# What a client sends where QoS 2 does not exist, with the flag bits that each type must carry
# (MQTT 3.1.1, table 2.2); those of PUBLISH have a meaning.
_FLAGS = {CONNECT: 0, PUBACK: 0, SUBSCRIBE: 2, UNSUBSCRIBE: 2, PINGREQ: 0, DISCONNECT: 0}


class Malformed(Exception):
    """The bytes are no MQTT 3.1.1 packet; the connection has to be closed."""


class FrameBuffer:
    """Cuts a byte stream into MQTT frames."""

    def __init__(self, max_length: int) -> None:
        """``max_length`` is the largest remaining length that is taken, in bytes."""
        self._buffer = bytearray()
        self._max_length = max_length

    def feed(self, data: bytes) -> None:
        """Append what the transport received."""
        self._buffer += data

    def next(self) -> tuple[int, bytes] | None:
        """Return (first byte, body) of the next whole frame, or None; raise `Malformed`."""
        buffer = self._buffer
        length = shift = 0
        for at in range(1, 5):
            if at >= len(buffer):
                return None
            length |= (buffer[at] & 0x7F) << shift
            shift += 7
            if not buffer[at] & 0x80:
                break
        else:
            raise Malformed("remaining length is longer than four bytes")
        if length > self._max_length:
            raise Malformed(f"packet of {length} bytes is too large")
        start = at + 1
        if len(buffer) < start + length:
            return None
        body = bytes(buffer[start : start + length])
        first = buffer[0]
        del buffer[: start + length]
        return first, body


def decode(first: int, body: bytes) -> Any:
    """Return the amqtt packet of one frame; raise `Malformed`."""
    kind, flags = first >> 4, first & 0x0F
    if kind != PUBLISH and flags != _FLAGS.get(kind):
        raise Malformed(f"packet type {kind} with flags {flags:#x} is not for a client to send")
    header = MQTTFixedHeader(kind, flags, len(body))
    try:
        packet = _run(packet_class(header).from_stream(BufferReader(body), header))
        if isinstance(packet, ConnectPacket) and packet.client_id_is_random:
            packet.client_id = ""
        again = packet.to_bytes()
    except (AMQTTError, CodecError, MQTTError, NoDataError, ValueError, struct.error) as err:
        raise Malformed(f"packet type {kind}: {err}") from err
    if again != MQTTFixedHeader(kind, flags, len(body)).to_bytes() + body:
        raise Malformed(f"packet type {kind} does not match its own length or encoding")
    return packet


def _run(coroutine: Any) -> Any:
    """Run one of amqtt's decoders; on a buffer it never waits, so no event loop is needed."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise Malformed("the decoder waited for more data")
