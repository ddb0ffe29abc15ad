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

import errno
import select
import socket
import time
from asyncio import sleep_ms
from micropython import const

from gridnode.fault import Fault

_STEP_MS = const(10)  # between two looks at a socket while something is awaited

_CONN_EOF = const(0x7280)  # negative: MBEDTLS_ERR_SSL_CONN_EOF
_CA_CHAIN_REQUIRED = const(0x7680)  # MBEDTLS_ERR_SSL_CA_CHAIN_REQUIRED
_FATAL_ALERT = const(0x7780)  # MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE
_EPIPE = const(32)  # same number in Linux and newlib; MicroPython has no name for it

# What Mbed TLS says of a certificate (x509_crt.c, X509_CRT_ERROR_INFO_LIST). Several lines may
# come at once: with an unset clock everything else is in doubt, so that one goes first.
_VERIFY = (
    ("in the future", "tls_not_yet_valid"),
    ("expired", "tls_expired"),
    ("correctly signed", "tls_ca"),
    ("does not match", "tls_hostname"),
    ("", "tls"),
)


def _link(code, message):
    return Fault("link", code, message)


def _fault(error, opening):
    """Fault for what a socket raised. Before MicroPython 1.28 TLS raises negative errnos."""
    if isinstance(error, Fault):
        return error
    text = str(error).replace("\n", " ").strip()
    if isinstance(error, MemoryError):
        return _link("memory", text)
    if isinstance(error, ValueError):
        for part, code in _VERIFY:
            if part in text:
                return _link(code, text)
    number = abs(error.args[0])
    if number == _CA_CHAIN_REQUIRED:
        return _link("tls_no_ca", "no CA certificate to check the broker with")
    if number in (_FATAL_ALERT, _CONN_EOF, _EPIPE, errno.ECONNRESET, errno.ENOTCONN):
        if opening:
            return _link("tls_refused", "the broker ended the handshake, its log tells why")
        return _link("closed", "the broker closed the connection")
    if number == errno.ENOMEM:
        return _link("memory", "no memory for TLS")
    return _link("tcp" if number < 256 else "tls", text)


def _check(start, limit_ms, what):
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
        self._sock = self._raw = self._dead = None
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

        `context` None means plain TCP. `host` must stand in the broker's certificate.
        `getaddrinfo` cannot be bounded: without a name server it blocks for lwIP's own time.
        Raises Fault.
        """
        self.close()
        self._dead = None
        start = time.ticks_ms()
        limit = self.timeout_ms
        try:
            address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][-1]
        except (OSError, IndexError) as e:
            raise _link("dns", "cannot resolve %s: %s" % (host, e))
        try:
            try:
                await self._connect(address, start, limit)
            except OSError as e:
                raise _link("tcp", "cannot reach %s: %s" % (host, e))
            if context is not None:
                # No call into the library may wait: the handshake goes on in each write.
                self._sock = context.wrap_socket(
                    self._raw, server_hostname=host, do_handshake_on_connect=False
                )
            while not self._send(True):
                _check(start, limit, "TLS handshake")
                await sleep_ms(_STEP_MS)
        except (OSError, ValueError, MemoryError) as e:
            self.close()
            raise _fault(e, context is not None)
        except BaseException:
            self.close()
            raise

    async def _connect(self, address, start, limit):
        self._raw = self._sock = sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(address)
        except OSError as e:
            if e.args[0] != errno.EINPROGRESS:
                raise
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while True:
            for _, events in poll.poll(0):
                if events & (select.POLLERR | select.POLLHUP):
                    sock.recv(1)  # raises the pending error
                return
            _check(start, limit, "TCP connection")
            await sleep_ms(_STEP_MS)

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
            return self._send(False)
        except (OSError, ValueError, Fault) as e:
            raise self._die(e)

    def _send(self, opening):
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
            _check(self._since, self.timeout_ms, "sending a packet")
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
        if self._sock is None:
            raise self._dead or _link("closed", "not connected")
        return self._sock

    def _die(self, error):
        self._dead = _fault(error, False)
        self.close()
        return self._dead

    def close(self):
        """Close without waiting; never raises. What waits to be sent stays in the buffer."""
        for sock in (self._sock, self._raw):  # a failed TLS socket does not close the one below
            if sock is not None:
                try:
                    sock.close()
                except OSError:
                    pass
        self._sock = self._raw = None
        self._offer = 0
