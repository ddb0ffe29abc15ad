"""MQTT 3.1.1 session over a `Link` that never blocks.

CONNECT is framed by umqtt.simple (see opening.hello). Everything after it is done here: `step`
consumes exactly the packets that have arrived, publishes do not wait for their PUBACK, and a peer
that does not answer is noticed.

Limits: a packet to send must fit the link's buffer, but for what is lent; at most `IN_FLIGHT` publishes wait for their
PUBACK; a message longer than the receive buffer is handed over in pieces, one above `MAX_MESSAGE`
is counted and thrown away. QoS 0 and 1.

Faults of the room "mqtt": mqtt_protocol, mqtt_refused, mqtt_timeout, subscribe_refused.
"""

import time
from micropython import const

from gridnode.fault import Fault

IN_FLIGHT = const(4)
MAX_MESSAGE = const(65536)  # an AWS shadow document with its metadata stays well below
_RECEIVE = const(256)  # the receive buffer: all packets fit but a long PUBLISH, of which the head
_READS = const(24)  # in one step, to leave time to others: 6 KB, the answer to a report fits
_RESERVE = const(64)  # of the send buffer, kept for acks and pings
_TRIES = const(3)  # a publish is sent at most this often


def _mqtt(code, message):
    return Fault("mqtt", code, message)


def _space(topic, payload, lend):
    """Bytes that must be free in the link's buffer for a PUBLISH."""
    return len(topic) + 9 + (0 if lend else len(payload)) + _RESERVE


def packet_head(first, size):
    """Fixed header of a packet with `size` bytes behind it (MQTT 3.1.1, 2.2)."""
    head = bytes((first,))
    while size > 0x7F:
        head += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return head + bytes((size,))


def word(value):
    return bytes((value >> 8, value & 0xFF))


class Session:
    """One MQTT connection. The owner opens the link after `begin`, then calls `step` until it
    raises.

    Callbacks: `on_message(topic, data, offset, total)` with data valid during the call only (a
    long message comes in pieces), `on_ack(token, delivered)` once per QoS 1 publish. They may
    publish. An exception in `on_message` is kept in `handler_error`; the message counts as
    delivered, since a poisonous one must not come back for ever.
    """

    def __init__(self, client_id, link, keepalive=60, timeout_ms=20000, will=None):
        self.client_id = client_id.encode()
        self.keepalive = keepalive  # s
        self.will = will  # topic and payload (bytes), or None
        self.opening = None  # whether it begins a clean session, and the CONNECT that was framed for that
        self.link = link
        self.timeout_ms = timeout_ms
        self.on_message = self.on_ack = None
        self.handler_error = None
        self.dropped = 0  # messages above MAX_MESSAGE
        self.late = 0  # acks nobody waits for
        self.flags = 0  # of the message being handed over: bit 0 retained, bit 3 duplicate
        self._box = memoryview(bytearray(_RECEIVE))
        self._flight = []  # [packet id, token, topic, payload, lent, sent at, tries, first byte]
        self._token = 0
        self.pid = 0  # packet id that was given last
        self._reset()

    def _reset(self):
        self.connected = False  # from CONNACK on
        self.present = False  # the broker kept the last session, its subscriptions included
        self.subscribed = False
        self._left = 0  # bytes of a long message still to come
        self._next()
        self.sub = 0  # packet id of the SUBSCRIBE that waits
        self._sub_at = 0
        self._ping_at = None
        self._ack = 0
        self._topic = None
        self._in_at = self._part_at = time.ticks_ms()
        self._out_at = None  # set by the first step, since the link has its own time to open

    # -- connection

    def begin(self, clean=True):
        """Put the CONNECT into the link's empty buffer: the link is then opened with it as its
        first packet.
        """
        self.fail()
        self._reset()
        self.link.clear()
        if not self.opening or self.opening[0] != clean:
            from gridnode.opening import hello

            self.opening = clean, hello.packet(self.client_id, self.keepalive, self.will, clean)
        self.link.write(self.opening[1])

    def fail(self):
        """Report every publish still in flight as not delivered."""
        while self._flight:
            self._done(self._flight.pop(0)[1], False)

    def disconnect(self):
        """Say goodbye as far as the socket takes it at once, and close; never raises."""
        if self.connected:
            try:
                self.link.write(b"\xe0\0")
                self.link.flush()
            except Fault:
                pass
        self.link.close()
        self.connected = False
        self.fail()

    # -- sending

    def publish(self, topic, payload, retain=False, qos=0, lend=False):
        """Queue a PUBLISH (`topic` and `payload` are bytes); a token, or None if there is no room: try
        again later.

        The token is 0 for QoS 0; for QoS 1 `on_ack` gets it. With `lend` a long message of QoS 1
        is sent from where it lies. Raises ValueError for what can never be sent.
        """
        if qos > 1:
            raise ValueError("QoS 2")
        size = self.link.size
        lend = lend and qos and _space(topic, payload, False) > size
        space = _space(topic, payload, lend)
        if space > size:
            raise ValueError("message too long")
        if not self.connected or space > self.link.room():
            return None
        if not qos:
            self._put_publish(0x30 | retain, 0, topic, payload, False)
            return 0
        if len(self._flight) >= IN_FLIGHT:
            return None
        self._token += 1
        head = 0x32 | retain
        self._flight.append([self._next_id(), self._token, topic, payload, lend, time.ticks_ms(), 1, head])
        self._put_publish(head, self.pid, topic, payload, lend)
        return self._token

    def withdraw(self, token):
        """Repeat a publish no more: something newer takes its place, in its memory too. It counts as not delivered."""
        for i, entry in enumerate(self._flight):
            if entry[1] == token:
                self._flight.pop(i)
                if entry[4]:
                    self.link.give_back()
                self._done(token, False)
                return

    def waiting(self):
        """True while an answer is awaited or something waits to be sent."""
        return self._n + self._left + len(self._flight) > 0 or self.link.room() < self.link.size

    def subscribe(self, topics, qos=1):
        """Queue one SUBSCRIBE for up to 8 filters (bytes); `subscribed` becomes True with the
        SUBACK.
        """
        from gridnode.opening import mqtt

        self.sub = self._next_id()
        self._sub_at = self._out_at = time.ticks_ms()
        self.topics = topics
        self.subscribed = False
        self.link.lend(mqtt.subscribe_packet(self.sub, topics, qos))

    def _next_id(self):
        while True:
            self.pid = self.pid % 65535 + 1
            for entry in self._flight:
                if entry[0] == self.pid:
                    break
            else:
                if self.pid != self.sub:
                    return self.pid

    def _put_publish(self, head, pid, topic, payload, lend):
        packet = packet_head(head, 2 + len(topic) + len(payload) + (2 if pid else 0))
        packet += word(len(topic)) + topic
        if pid:
            packet += word(pid)
        self.link.write(packet)
        if lend:
            self.link.lend(payload)
        else:
            self.link.write(payload)
        self._out_at = time.ticks_ms()

    # -- receiving

    def step(self):
        """Do what can be done now: send, receive and dispatch, repeat unacked publishes, keep the
        connection alive.

        True if packets came in. Raises LinkError or MqttError when the connection is lost.
        """
        now = time.ticks_ms()
        if self._out_at is None:
            self._out_at = now
        busy = self._receive(now)
        if (self._n or self._left) and self._late(now, self._part_at):
            raise _mqtt("mqtt_timeout", "the rest of a packet does not come")
        self._keep(now)
        self.link.flush()
        return busy

    def _late(self, now, since):
        return time.ticks_diff(now, since) > self.timeout_ms

    def _keep(self, now):
        if not self.connected:
            if self._late(now, self._out_at):
                raise _mqtt("mqtt_timeout", "no CONNACK")
            return
        if self.sub and self._late(now, self._sub_at):
            raise _mqtt("mqtt_timeout", "no SUBACK")
        for entry in self._flight:
            pid, _, topic, payload, lent, at, tries, head = entry
            if self._late(now, at):
                if tries >= _TRIES:
                    raise _mqtt("mqtt_timeout", "no PUBACK after %d tries" % _TRIES)
                if _space(topic, payload, lent) <= self.link.room():
                    entry[5] = now
                    entry[6] += 1
                    self._put_publish(head | 8, pid, topic, payload, lent)
        if self._ping_at is not None:
            if self._late(now, self._ping_at):
                raise _mqtt("mqtt_timeout", "no PINGRESP")
        elif self.keepalive:
            quiet = max(time.ticks_diff(now, self._out_at), time.ticks_diff(now, self._in_at))
            if quiet > self.keepalive * 500:
                self.link.write(b"\xc0\0")
                self._ping_at = self._out_at = now

    def _receive(self, now):
        """Read what has come, but never beyond the packet at hand: MicroPython's streams return
        what they have and forget an end of the stream behind it.
        """
        for i in range(_READS):
            n = self.link.readinto(self._box[self._n : self._need])
            if not n:
                return i > 0
            if not self._n and not self._left:
                self._part_at = now
            self._in_at = now
            self._ping_at = None
            self._n += n
            if self._left:
                self._piece(self._box[:n])
            elif self._n == self._need:
                self._packet()
        return True

    def _next(self):
        """Get ready for the next packet, or for the next piece of a long message."""
        self._n = self._head = 0
        self._need = min(self._left, _RECEIVE) or 2

    def _packet(self):
        """The bytes that were needed are there: of the length, or of the packet."""
        box = self._box
        n = self._n
        if not self._head:
            if box[n - 1] & 0x80:
                if n == 5:
                    raise _mqtt("mqtt_protocol", "bad packet length")
                self._need += 1
                return
            size = 0
            for i in range(n - 1, 0, -1):
                size = size << 7 | box[i] & 0x7F
            self._head = n
            self._size = size
            self._need = min(n + size, _RECEIVE)
            if box[0] >> 4 != 3 and n + size > _RECEIVE:
                raise _mqtt("mqtt_protocol", "packet of %d bytes" % size)
            if size:
                return
        kind = box[0] >> 4
        head = self._head
        size = self._size
        number = box[head] << 8 | box[head + 1]
        if kind == 3:
            self._message(head, size, number)
            return
        if kind == 4 and size == 2:
            self._acked(number)
        elif (kind == 2 and size == 2) or (kind == 9 and size > 2):
            from gridnode.opening import mqtt

            mqtt.answered(self, kind, box[head:n])
        elif kind != 13 or size:
            raise _mqtt("mqtt_protocol", "packet %d of %d bytes" % (kind, size))
        self._next()

    def _message(self, head, size, topic):
        qos = self._box[0] >> 1 & 3
        skip = head + 2 + topic
        body = skip + (2 if qos else 0)
        if qos > 1 or body > min(head + size, _RECEIVE):
            raise _mqtt("mqtt_protocol", "bad PUBLISH")
        self.flags = self._box[0] & 0x0F
        self._ack = self._box[skip] << 8 | self._box[skip + 1] if qos else 0
        self._topic = bytes(self._box[head + 2 : skip])
        self._total = self._left = head + size - body
        if self._total > MAX_MESSAGE:
            self.dropped += 1
            self._topic = None
        self._piece(self._box[body : self._n])

    def _piece(self, data):
        """Hand over the next part of a message; acknowledge it after the last one."""
        offset = self._total - self._left
        self._left -= len(data)
        if self._topic is not None:
            try:
                self.on_message(self._topic, data, offset, self._total)
            except Exception as e:  # noqa: BLE001 - a handler's fault is not the connection's
                self.handler_error = e
        if not self._left and self._ack:
            self.link.write(b"\x40\x02" + word(self._ack))
        self._next()

    def _acked(self, pid):
        for i, entry in enumerate(self._flight):
            if entry[0] == pid:
                self._flight.pop(i)
                self._done(entry[1], True)
                return
        self.late += 1

    def _done(self, token, delivered):
        if self.on_ack:
            self.on_ack(token, delivered)
