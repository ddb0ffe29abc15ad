"""Packets of a session's beginning: CONNECT, framed with umqtt.simple, and SUBSCRIBE; what a broker may answer."""

from micropython import const

from gridnode.fault import Fault
from gridnode.mqtt import packet_head, word

# MQTT 3.1.1, table 3.1
_REFUSED = const(("protocol", "client id", "unavailable", "user name or password", "not authorised"))


class _Framed(Exception):
    """umqtt has written its CONNECT and asks for the answer."""


class _Paper:
    """Stands in for the socket module and for the socket while umqtt writes its CONNECT, so that releases 1.3.4 to
    1.8.0 serve alike."""

    def __init__(self):
        self.packet = b""

    def write(self, data, size=None):
        self.packet += bytes(data if size is None else data[:size])

    def socket(self):
        return self

    def getaddrinfo(self, host, port):
        return ((None,),)

    def settimeout(self, _):
        pass

    def connect(self, _):
        pass

    def close(self):
        pass

    def read(self, _):
        raise _Framed


def connect_packet(client_id, keepalive, will, clean=True):
    """The CONNECT of a client (bytes); will: topic and payload, or None."""
    import umqtt.simple as umqtt  # by far the largest here

    client = umqtt.MQTTClient(client_id, None, keepalive=keepalive)
    if will:
        client.set_last_will(will[0], will[1], qos=1)
    kept = umqtt.socket  # type: ignore[attr-defined]
    paper = umqtt.socket = _Paper()  # type: ignore[attr-defined]
    try:
        client.connect(clean)
    except _Framed:
        pass
    finally:
        umqtt.socket = kept  # type: ignore[attr-defined]
    return paper.packet


def subscribe_packet(pid, topics, qos):
    """SUBSCRIBE to all filters (bytes) at once."""
    body = word(pid)
    for topic in topics:
        body += word(len(topic)) + topic + bytes((qos,))
    return packet_head(0x82, len(body)) + body


def answered(session, kind, data):
    """The body of a CONNACK or SUBACK has come. Raises Fault if the broker refuses."""
    if kind == 2:
        code = data[1]
        if code:
            text = _REFUSED[code - 1] if code <= len(_REFUSED) else code
            raise Fault("mqtt", "mqtt_refused", "the broker refuses: %s" % text)
        session.connected = True
        session.present = data[0] & 1 > 0
    elif word(session.sub) != data[:2]:
        session.late += 1
    else:
        session.sub = 0
        for topic, code in zip(session.topics, data[2:]):
            if code & 0x80:
                raise Fault("mqtt", "subscribe_refused", "the broker refuses %s" % topic)
        session.subscribed = True
