"""The bench's SNTP server."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.sntp import UNIX_TO_NTP, SntpServer

ORIGINATE = 0x1234567890ABCDEF


@pytest.fixture
def server() -> Iterator[SntpServer]:
    with SntpServer(RigClock()) as server:
        yield server


def ask(port: int, version: int = 4, timeout_s: float = 3) -> tuple[int, ...]:
    request = struct.pack("!BBbb3I4Q", version << 3 | 3, 0, 6, 0, 0, 0, 0, 0, 0, 0, ORIGINATE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        sock.sendto(request, ("127.0.0.1", port))
        return struct.unpack("!BBbb3I4Q", sock.recv(100))


@pytest.mark.parametrize("version", [3, 4])
def test_an_answer_gives_rig_time_and_the_fields_of_rfc_4330(
    server: SntpServer, version: int
) -> None:
    clock = server._clock
    clock.warp(50)
    before = clock.now()
    answer = ask(server.port, version)
    after = clock.now()
    first, stratum, poll = answer[:3]
    originate, receive, transmit = answer[8:]
    assert (first >> 6, first >> 3 & 7, first & 7) == (0, version, 4)
    assert (stratum, poll, originate) == (1, 6, ORIGINATE)
    assert before - 1e-3 <= receive / 2**32 - UNIX_TO_NTP <= transmit / 2**32 - UNIX_TO_NTP
    assert transmit / 2**32 - UNIX_TO_NTP <= after + 1e-3


def test_it_can_be_wrong_on_purpose(server: SntpServer) -> None:
    server.offset_s = -86400.0
    server.stratum, server.leap = 0, 3
    answer = ask(server.port)
    assert answer[0] >> 6 == 3
    assert answer[1] == 0
    assert answer[10] / 2**32 - UNIX_TO_NTP == pytest.approx(server._clock.now() - 86400, abs=2)


def test_short_packets_get_no_answer(server: SntpServer) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.sendto(b"short", ("127.0.0.1", server.port))
        with pytest.raises(TimeoutError):
            sock.recv(100)
    assert server.requests == 0


def test_stopped_it_is_silent_and_keeps_its_port(server: SntpServer) -> None:
    port = server.port
    server.stop()
    with pytest.raises(OSError):
        ask(port, timeout_s=0.2)
    server.start()
    assert server.port == port
    ask(port)
