"""CONNECT, framed by umqtt.simple."""


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


def packet(client_id, keepalive, will, clean=True):
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
