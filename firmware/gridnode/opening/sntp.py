"""Asks a time server once (SNTP, RFC 4330) and sets the clock."""

import errno
import os
import socket
import time
from asyncio import sleep_ms
from micropython import const

from gridnode import clock
from gridnode.fault import Fault

_STEP_LIMIT_MS = const(3600000)  # no larger step on one answer's word once the clock is set
_AGREE_MS = const(5000)
_RETRY_MS = const(60000)
_NTP_1900 = const(2208988800)  # s from 1900-01-01 to 1970-01-01


def _clock(code, message):
    return Fault("clock", "sntp_" + code, message)


def parse_reply(reply, cookie):
    """(Unix seconds, microseconds) of an SNTP reply; Fault if it may not be used (RFC 4330, 5)."""
    if len(reply) < 48 or reply[0] & 7 != 4 or reply[24:32] != cookie:
        raise _clock("bad", "not an answer to the question")
    stratum = reply[1]
    if stratum == 0:
        raise _clock("refused", "the server refuses: %s" % reply[12:16])
    seconds = int.from_bytes(reply[40:44], "big")
    if reply[0] >> 6 == 3 or stratum > 15 or not seconds:
        raise _clock("bad", "the server has no time itself")
    unix = seconds - _NTP_1900
    if unix < clock.EARLIEST:
        unix += 1 << 32  # NTP seconds wrap in 2036
    if not clock.EARLIEST <= unix < clock.LATEST:
        raise _clock("bad", "implausible time %d" % unix)
    return unix, int.from_bytes(reply[44:46], "big") * 15625 >> 10


async def ask(server, port, timeout_ms):
    """(Unix seconds, microseconds) now."""
    try:
        address = socket.getaddrinfo(server, port, socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as e:
        raise _clock("dns", "cannot resolve %s: %s" % (server, e))
    cookie = os.urandom(8)  # echoed: nobody answers who has not seen the question
    query = bytearray(48)
    query[0] = 0x23  # version 4, client
    query[40:48] = cookie
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect(address[0][-1])
        sent = time.ticks_ms()
        sock.send(query)
        while True:
            try:
                reply = sock.recv(80)
                break
            except OSError as e:
                age = time.ticks_diff(time.ticks_ms(), sent)
                if e.args[0] != errno.EAGAIN or age > timeout_ms:
                    raise
            await sleep_ms(10)
    except OSError as e:
        raise _clock("timeout", "no answer from %s: %s" % (server, e))
    finally:
        sock.close()
    age = time.ticks_diff(time.ticks_ms(), sent)
    unix, us = parse_reply(reply, cookie)
    us += age * 500  # the answer was half the way back
    return unix + us // 1000000, us % 1000000


async def sync(client):
    """See clock.Sntp.sync."""
    client.wait(_RETRY_MS)
    unix, us = await ask(client.server, client.port, client.timeout_ms)
    offset = (unix - clock.unix_time()) * 1000 + us // 1000
    if client.synced and abs(offset) > _STEP_LIMIT_MS:
        doubt = client.suspect
        client.suspect = offset
        if doubt is None or abs(offset - doubt) > _AGREE_MS:
            raise _clock("step", "the server is %d s away: asking again" % (offset // 1000))
    client.suspect = None
    _set(unix, us)
    client.synced = True
    client.offset_ms = offset
    client.wait(client.period_ms)
    return offset


def _set(seconds, microseconds):
    """Set the chip's clock, by which TLS judges certificates."""
    from machine import RTC

    t = clock.gmtime(seconds)
    RTC().datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], microseconds))
