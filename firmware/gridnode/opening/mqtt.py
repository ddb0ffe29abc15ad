"""SUBSCRIBE, and what a broker may answer to it and to CONNECT."""

from micropython import const

from gridnode.fault import Fault
from gridnode.mqtt import packet_head, word

# MQTT 3.1.1, table 3.1
_REFUSED = const(("protocol", "client id", "unavailable", "user name or password", "not authorised"))


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
