"""TCP + TLS byte pipe that never blocks: every wait has a deadline and belongs to the caller.

`write` collects a packet in a buffer made at start, `flush` offers it in one piece: one TLS record
per packet, which also keeps Nagle's algorithm and delayed ACKs from adding 40 ms. A link that has
failed or seen the end of the stream never touches the socket again, because a TLS socket keeps its
first error and a read after close_notify may hang. The first write drives the TLS handshake, so a
link is opened with its first packet already in the buffer.

Faults of the room "link": dns, tcp, timeout, memory, closed, overflow, tls_ca, tls_expired,
tls_not_yet_valid, tls_hostname, tls_no_ca, tls_key_mismatch, tls_refused (the broker ends the
handshake: only its log tells why), tls (anything else).
"""

import time

from gridnode.fault import Fault


def _link(code, message):
    return Fault("link", code, message)


def check(start, limit_ms, what):
    """Raise Fault timeout when `limit_ms` have passed since `start`."""
    if time.ticks_diff(time.ticks_ms(), start) > limit_ms:
        raise _link("timeout", "%s took more than %d ms" % (what, limit_ms))


class Link:
    """One connection at a time; reusable through `open`.

    `size` bounds the bytes waiting to be sent, `timeout_ms` is the time a packet may take to
    leave.
    """

    def __init__(self, size=4096, timeout_ms=20000):
        self.timeout_ms = timeout_ms
        self.size = size
        self._view = memoryview(bytearray(size))
        self.sock = self.raw = None  # the socket to talk to, and the one below TLS
        self.dead = None  # why the link was closed
        self.clear()

    def clear(self):
        """Forget what waits to be sent."""
        self._len = 0  # bytes in the buffer
        self._offer = 0  # of them, bytes offered to the socket: Mbed TLS wants the same again
        self._since = 0

    def room(self):
        """Bytes that `write` still takes."""
        return self.size - self._len

    async def open(self, host, port, context):
        """Connect and send what is in the buffer; with a TLS context this is the handshake.

        `context` None means plain TCP. `host` must stand in the broker's certificate. Raises Fault.
        """
        from gridnode.opening import tcp

        await tcp.connect(self, host, port, context)

    def write(self, data, size=None):
        """Append `data` (bytes-like; its first `size` bytes) to what waits to be sent."""
        n = len(data) if size is None else size
        end = self._len + n
        if end > self.size:
            raise _link("overflow", "packet larger than the send buffer")
        self._view[self._len : end] = memoryview(data)[:n]
        self._len = end
        return n

    def flush(self):
        """Offer the buffer to the network; True when all has left. Raises Fault."""
        try:
            return self.send(False)
        except (OSError, ValueError, Fault) as e:
            raise self._die(e)

    def send(self, opening):
        """`flush` with what the socket raises; while `opening`, the caller keeps the deadline."""
        if not self._len:
            return True
        now = time.ticks_ms()
        if not self._offer:
            self._offer = self._len
            self._since = now
        sent = self._stream().write(self._view[: self._offer])
        if sent:
            self._offer -= sent
            self._since = now
            left = self._len - sent
            if left:
                self._view[:left] = self._view[sent : self._len]
            self._len = left
        elif not opening:
            check(self._since, self.timeout_ms, "sending a packet")
        return not self._len

    def readinto(self, buf):
        """Read what is there into `buf`; number of bytes, 0 for nothing yet. Raises Fault.

        Ask for no more than must come: an end of the stream right behind what is there gets lost.
        """
        try:
            n = self._stream().readinto(buf)
            if n == 0:
                raise _link("closed", "the broker closed the connection")
        except (OSError, ValueError, Fault) as e:
            raise self._die(e)
        return n or 0

    def _stream(self):
        if self.sock is None:
            raise self.dead or _link("closed", "not connected")
        return self.sock

    def _die(self, error):
        self.close()
        from gridnode.opening import faults

        self.dead = faults.explain(error, False)
        return self.dead

    def close(self):
        """Close without waiting; never raises. What waits to be sent stays in the buffer."""
        for sock in (self.sock, self.raw):  # a failed TLS socket does not close the one below
            if sock is not None:
                try:
                    sock.close()
                except OSError:
                    pass
        self.sock = self.raw = None
        self._offer = 0
