"""Stand-ins for what is outside a session: a link made of bytes, a clock that is told the time."""

from gridnode.fault import Fault


class FakeTime:
    """Ticks as on the chip (period 2^30), which wrap soon."""

    def __init__(self):
        self.now = (1 << 30) - 1500

    def ticks_ms(self):
        return self.now & 0x3FFFFFFF

    def ticks_diff(self, a, b):
        return ((a - b + (1 << 29)) & 0x3FFFFFFF) - (1 << 29)

    def ticks_add(self, a, b):
        return (a + b) & 0x3FFFFFFF


class FakeLink:
    def __init__(self, size=4096):
        self.size = size
        self.buffer = b""
        self.lent = b""
        self.given_back = 0
        self.sent = b""  # what has left
        self.inbox = b""
        self.chunk = None  # at most so many bytes a read
        self.stuck = False  # the network takes nothing
        self.closed = False
        self.ends = False  # end of stream once the inbox is empty

    def clear(self):
        self.buffer = b""

    def room(self):
        return 0 if self.lent else self.size - len(self.buffer)

    def write(self, data, size=None):
        data = bytes(memoryview(data)[: len(data) if size is None else size])
        if len(data) > self.size - len(self.buffer):
            raise Fault("link", "overflow", "")
        self.buffer += data
        return len(data)

    def lend(self, data):
        assert not self.lent
        self.sent += self.buffer
        self.buffer = b""
        self.lent = data

    def give_back(self):
        self.given_back += 1

    def flush(self):
        if self.stuck:
            return False
        self.sent += bytes(self.lent) + self.buffer
        self.lent = self.buffer = b""
        return True

    def readinto(self, buf):
        n = min(len(buf), len(self.inbox), self.chunk or 1 << 20)
        if not n and self.ends:
            raise Fault("link", "closed", "")
        buf[:n] = self.inbox[:n]
        self.inbox = self.inbox[n:]
        return n

    def close(self):
        self.closed = True

    def packets(self):
        """Packets that have left, as (first byte, body); they are taken away."""
        out = []
        data = self.sent
        self.sent = b""
        while data:
            size = shift = 0
            i = 1
            while True:
                size |= (data[i] & 0x7F) << shift
                shift += 7
                i += 1
                if not data[i - 1] & 0x80:
                    break
            assert len(data) >= i + size, "half a packet left"
            out.append((data[0], data[i : i + size]))
            data = data[i + size :]
        return out


def packet(head, body):
    size = len(body)
    out = bytes((head,))
    while size > 0x7F:
        out += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return out + bytes((size,)) + body


def word(n):
    return bytes((n >> 8, n & 0xFF))


def message(topic, payload, pid=0, flags=0):
    head = 0x30 | (2 if pid else 0) | flags
    return packet(head, word(len(topic)) + topic + (word(pid) if pid else b"") + payload)
