"""Opens a link: name, TCP connection, TLS handshake."""

import errno
import select
import socket
import time
from asyncio import sleep_ms
from micropython import const

from gridnode.fault import Fault
from gridnode.link import check

_STEP_MS = const(10)  # between two looks at a socket


async def connect(link, host, port, context):
    """See Link.open. `getaddrinfo` cannot be bounded: without a name server it blocks for lwIP's own time."""
    link.close()
    link.dead = None
    start = time.ticks_ms()
    try:
        address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][-1]
    except (OSError, IndexError) as e:
        raise Fault("link", "dns", "cannot resolve %s: %s" % (host, e))
    try:
        try:
            await _reach(link, address, start)
        except OSError as e:
            raise Fault("link", "tcp", "cannot reach %s: %s" % (host, e))
        if context is not None:
            # No call into the library may wait: the handshake goes on in each write.
            link.sock = context.wrap_socket(link.raw, server_hostname=host, do_handshake_on_connect=False)
        while not link.send(True):
            check(start, link.timeout_ms, "TLS handshake")
            await sleep_ms(_STEP_MS)
    except (OSError, ValueError, MemoryError) as e:
        link.close()
        from gridnode.opening import faults

        raise faults.explain(e, context is not None)
    except BaseException:
        link.close()
        raise


async def _reach(link, address, start):
    link.raw = link.sock = sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
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
        check(start, link.timeout_ms, "TCP connection")
        await sleep_ms(_STEP_MS)
