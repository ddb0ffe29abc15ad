"""Frames the CONNECT of a session with umqtt.simple."""

import umqtt.simple as umqtt


class _Framed(Exception):
    """umqtt has written its CONNECT and asks for the answer."""


class _Paper:
    """Stands in for the socket module and for the socket while umqtt writes its CONNECT, so that releases 1.3.4 to
    1.8.0 serve alike."""

    def __init__(self, link):
        self.write = link.write

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


def connect_packet(session, clean):
    """Put the CONNECT of `session` into its link."""
    client = umqtt.MQTTClient(session.client_id, None, keepalive=session.keepalive)
    if session.will:
        topic, payload = session.will
        client.set_last_will(topic, payload, qos=1)
    kept = umqtt.socket  # type: ignore[attr-defined]
    umqtt.socket = _Paper(session.link)  # type: ignore[attr-defined]
    try:
        client.connect(clean)
    except _Framed:
        pass
    finally:
        umqtt.socket = kept  # type: ignore[attr-defined]
