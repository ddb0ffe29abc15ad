"""A small SNTP server (RFC 4330, unicast) on the loopback, which gives rig time."""

from __future__ import annotations

import socket
import struct
import threading

from gridnode_host.bench.clock import RigClock

UNIX_TO_NTP = 2_208_988_800
"""Seconds from 1900-01-01 to 1970-01-01."""

_PACKET = struct.Struct("!BBbb3I4Q")
_SERVER_MODE = 4


class SntpServer:
    """Answers SNTP requests in a thread.

    ``offset_s`` makes it wrong on purpose; ``stratum`` 0 is the kiss of death and ``leap`` 3 says
    that the server's clock is not set (a client must refuse both). ``requests`` counts what came
    in. Usable as a context manager; `stop` and `start` keep the port.
    """

    def __init__(self, clock: RigClock, host: str = "127.0.0.1", port: int = 0) -> None:
        self._clock = clock
        self._host = host
        self.port = port
        self.offset_s = 0.0
        self.stratum = 1
        self.leap = 0
        self.requests = 0
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the port and serve it."""
        if self._thread is not None:
            return
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((self._host, self.port))
        except OSError:
            sock.close()
            raise
        self.port = sock.getsockname()[1]
        sock.settimeout(0.2)
        self._socket = sock
        self._thread = threading.Thread(target=self._run, args=(sock,), name="sntp", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port: clients get no answer."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(5)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> SntpServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, sock: socket.socket) -> None:
        while self._thread is threading.current_thread():
            try:
                request, client = sock.recvfrom(1024)
            except TimeoutError:
                continue
            except OSError:
                return
            received = self._timestamp()
            if len(request) < _PACKET.size:
                continue
            self.requests += 1
            try:
                sock.sendto(self._answer(request, received), client)
            except OSError:
                continue  # the client has gone

    def _answer(self, request: bytes, received: int) -> bytes:
        version = request[0] >> 3 & 7
        (originate,) = struct.unpack_from("!Q", request, 40)
        return _PACKET.pack(
            self.leap << 6 | version << 3 | _SERVER_MODE,
            self.stratum,
            request[2] if request[2] < 128 else request[2] - 256,
            -20,  # precision: about a microsecond
            0,
            0,
            int.from_bytes(b"LOCL", "big"),
            received,
            originate,
            received,
            self._timestamp(),
        )

    def _timestamp(self) -> int:
        """Return the time shown as an NTP timestamp (32.32 bits; the era wraps in 2036)."""
        seconds = self._clock.now() + self.offset_s + UNIX_TO_NTP
        return int(seconds * 2**32) & (1 << 64) - 1
