"""TCP + TLS byte pipe that never blocks: every wait has a deadline and belongs to the caller.

`write` collects a packet in a buffer made at start, `flush` offers it in one piece: one TLS record
per packet, which also keeps Nagle's algorithm and delayed ACKs from adding 40 ms. What is too long
for the buffer is lent by its owner and leaves in a record of its own.

A link that has failed or seen the end of the stream never touches the socket again, because a TLS
socket keeps its first error and a read after close_notify may hang. The first write drives the TLS
handshake, so a link is opened with its first packet already in the buffer.

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

    `size` bounds the copies waiting to be sent, `timeout_ms` is the time a packet may take to
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
        self._lent = None  # what has not left of the lent data
        self._before = 0  # bytes in the buffer that leave before it
        self._offer = 0  # bytes offered to the socket: Mbed TLS wants the same again
        self._since = 0

    def room(self):
        """Bytes that `write` takes for another packet: none before lent data has left."""
        return self.size - self._len if self._lent is None else 0

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

    def lend(self, data):
        """Send `data` from where it lies, after what waits already; it must not change until there is `room` again or
        `give_back` was called.
        """
        self._lent = memoryview(data)
        self._before = self._len

    def give_back(self):
        """Its owner needs the memory of lent data: what has not left is copied, or the link given up."""
        if self._lent is not None:
            try:
                self._lent = memoryview(bytes(self._lent))
            except MemoryError:
                self.close()
                self.dead = _link("memory", "no memory for the rest of a packet")

    def flush(self):
        """Offer what waits to the network; True when all has left. Raises Fault."""
        try:
            return self.send(False)
        except (OSError, ValueError, Fault) as e:
            raise self._die(e)

    def send(self, opening):
        """`flush` with what the socket raises; while `opening`, the caller keeps the deadline."""
        while self._len or self._lent is not None:
            end = self._len if self._lent is None else self._before
            data = self._view[:end] if end else self._lent
            now = time.ticks_ms()
            if not self._offer:
                self._offer = len(data)
                self._since = now
            sent = self._stream().write(data[: self._offer])
            if not sent:
                if not opening:
                    check(self._since, self.timeout_ms, "sending a packet")
                return False
            self._since = now
            self._offer -= sent
            if end:
                self._view[: self._len - sent] = self._view[sent : self._len]
                self._len -= sent
                self._before = end - sent
            else:
                self._lent = data[sent:] if sent < len(data) else None
            if self._offer:
                return False
        return True

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
        self.sock = self.raw = self._lent = None
        self._offer = 0
