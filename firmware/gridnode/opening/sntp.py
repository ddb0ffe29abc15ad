"""Asks a time server once (SNTP, RFC 4330)."""

import errno
import os
import socket
import time
from asyncio import sleep_ms

from gridnode.clock import EARLIEST, LATEST
from gridnode.fault import Fault

_NTP_1900 = 2208988800  # s from 1900-01-01 to 1970-01-01


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
    if unix < EARLIEST:
        unix += 1 << 32  # NTP seconds wrap in 2036
    if not EARLIEST <= unix < LATEST:
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
