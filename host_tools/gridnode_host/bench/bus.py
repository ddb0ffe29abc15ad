"""The bus between a node's VM and the bench: framed requests over a socket, one at a time.

Request: six native 32-bit integers ``op, a, b, c, n, tick``, then ``n`` payload bytes. The tick is
the time (µs) of a node that steps the rig's clock, else 0. Reply: three integers ``value, n,
flags``, then ``n`` bytes. A negative value is an errno. The flags tell the node that the host
typed Ctrl-C or that the rate of rig time has changed.

A Ctrl-C that hits the VM in the middle of a transaction leaves it half done. The node's next
request then begins with a resynchronisation frame, which both ends recognise anywhere.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from enum import IntEnum

from gridnode_host.bench.flash import PowerLost
from gridnode_host.bench.wiring import Nack

REQUEST = struct.Struct("<6i")
REPLY = struct.Struct("<3i")
RESYNC_REQUEST = REQUEST.pack(0x5AC3, 0x1E2D, 0x3C4B, 0x5A69, 0x7887, 0x2D4E)
RESYNC_REPLY = REPLY.pack(0x5AC3, 0x1E2D, 0x3C4B)
MAX_PAYLOAD = 1 << 20

FLAG_INTERRUPT = 1
FLAG_CLOCK = 2

log = logging.getLogger(__name__)


class Op(IntEnum):
    """Requests of the node; the shims use the same numbers."""

    HELLO = 1
    READY = 2
    DONE = 3
    TICK = 4
    CLOCK = 5
    RESET = 6
    FLASH_READ = 10
    FLASH_WRITE = 11
    FLASH_ERASE = 12
    ADC_CHANNELS = 20
    ADC_BLOCK = 21
    PIN_WRITE = 30
    PIN_READ = 31
    SPI_SETUP = 32
    SPI_TRANSFER = 33
    I2C_SCAN = 34
    I2C_WRITE = 35
    I2C_READ = 36
    UART_SETUP = 37
    UART_WRITE = 38
    UART_READ = 39
    UART_ANY = 40
    UART_LEFT = 41
    I2C_SETUP = 42
    ONEWIRE_RESET = 43
    ONEWIRE_WRITE = 44
    ONEWIRE_READ = 45
    WDT_START = 50
    WDT_FEED = 51
    RTC_SET = 52
    RTC_MEMORY = 53
    RTC_MEMORY_SET = 54
    NVS_GET = 60
    NVS_SET = 61
    NVS_ERASE = 62
    TEMPERATURE = 63
    NET_ACTIVE = 70
    NET_CONNECT = 71
    NET_DISCONNECT = 72
    NET_STATUS = 73
    NET_RSSI = 74


Answer = int | bytes | tuple[int, bytes] | None
Handler = Callable[[int, int, int, bytes], Answer]


class NoReply(Exception):
    """The node gets no answer now: it comes later, or what was asked for ends the node."""


class BusServer:
    """Serves the requests of one VM in a thread, until the VM's end of the socket closes."""

    def __init__(
        self,
        sock: socket.socket,
        handlers: Mapping[int, Handler],
        flags: Callable[[int], int],
        ended: Callable[[], None],
        name: str,
        passed: Callable[[int], None] = lambda tick: None,
    ) -> None:
        self._sock = sock
        self._handlers = dict(handlers)
        self._flags = flags
        self._passed = passed
        self._ended = ended
        self.last_request = time.monotonic()
        """Monotonic time of the newest request."""
        self._thread = threading.Thread(target=self._run, name=f"{name}-bus", daemon=True)
        self._thread.start()

    def answer(self) -> None:
        """Give the answer to a request whose handler has raised `NoReply`."""
        try:
            self._sock.sendall(REPLY.pack(0, 0, 0))
        except OSError:
            pass  # the VM has ended

    def close(self) -> None:
        """End the thread and close the socket."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if threading.current_thread() is not self._thread:
            self._thread.join(10)
        self._sock.close()

    def _run(self) -> None:
        try:
            self._serve()
        except OSError as err:
            log.debug("bus: %s", err)
        except PowerLost:
            pass  # the node dies without an answer
        finally:
            self._ended()

    def _serve(self) -> None:
        data = b""
        size = REQUEST.size
        while True:
            while len(data) < size:
                received = self._sock.recv(65536)
                if not received:
                    return
                data += received
            op, a, b, c, n, tick = REQUEST.unpack_from(data)
            end = size + n
            if data.endswith(RESYNC_REQUEST) or not 0 <= n <= MAX_PAYLOAD:
                data = self._resync(data)
                continue
            torn = False
            while len(data) < end:
                received = self._sock.recv(65536)
                if not received:
                    return
                data += received
                if data.endswith(RESYNC_REQUEST):
                    torn = True
                    break
            if torn:
                data = self._resync(data)
                continue
            self.last_request = time.monotonic()
            payload = data[size:end]
            data = data[end:]
            self._passed(tick)
            try:
                reply = self._answer(op, a, b, c, payload)
            except NoReply:
                continue
            self._sock.sendall(reply)

    def _resync(self, data: bytes) -> bytes:
        while not data.endswith(RESYNC_REQUEST):
            received = self._sock.recv(65536)
            if not received:
                raise ConnectionError("closed while out of step")
            data = (data + received)[-MAX_PAYLOAD:]
        self._sock.sendall(RESYNC_REPLY)
        return b""

    def _answer(self, op: int, a: int, b: int, c: int, payload: bytes) -> bytes:
        answer: Answer
        try:
            answer = self._handlers[op](a, b, c, payload)
        except (NoReply, PowerLost):
            raise
        except Nack:
            answer = -errno.ENODEV
        except TimeoutError:
            answer = -errno.ETIMEDOUT
        except OSError as err:
            answer = -(err.errno or errno.EIO)
        except Exception:  # a model's defect must not hang the node
            log.exception("request %d of the node failed", op)
            answer = -errno.EIO
        if answer is None:
            answer = 0
        if isinstance(answer, int):
            return REPLY.pack(answer, 0, self._flags(op))
        value, body = (0, answer) if isinstance(answer, bytes) else answer
        return REPLY.pack(value, len(body), self._flags(op)) + body
