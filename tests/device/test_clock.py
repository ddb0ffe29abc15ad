"""Clock: SNTP answers good and bad, step policy, ticks that wrap, both epochs."""

import asyncio
import socket
import sys
import time

from gridnode import clock
from gridnode.fault import Fault
from gridnode.opening import sntp

NOW = 1795000000  # 2026-11-18
COOKIE = b"12345678"


def reply(unix=NOW, cookie=COOKIE, head=0x24, stratum=2, fraction=0, refid=b"LOCL"):
    out = bytearray(48)
    out[0] = head
    out[1] = stratum
    out[12:16] = refid
    out[24:32] = cookie
    if unix is not None:
        out[40:44] = ((unix + 2208988800) & 0xFFFFFFFF).to_bytes(4, "big")
        out[44:48] = fraction.to_bytes(4, "big")
    return bytes(out)


def fault(code, call, *args):
    try:
        call(*args)
    except Fault as e:
        assert e.room == "clock" and e.code == code, (e.code, e.message)
        return e
    raise AssertionError("no fault " + code)


def test_good_reply():
    assert sntp.parse_reply(reply(), COOKIE) == (NOW, 0)
    assert sntp.parse_reply(reply(fraction=1 << 31), COOKIE) == (NOW, 500000)
    assert sntp.parse_reply(reply(head=0x64, stratum=15), COOKIE) == (NOW, 0)
    late = 2088000000  # 2036-03-01, behind the end of the NTP era
    assert sntp.parse_reply(reply(late), COOKIE) == (late, 0)


def test_bad_replies():
    for bad, code in (
        (reply()[:47], "sntp_bad"),
        (reply(head=0x23), "sntp_bad"),  # a client's
        (reply(head=0x25), "sntp_bad"),  # broadcast
        (reply(cookie=b"x" * 8), "sntp_bad"),
        (reply(head=0xE4), "sntp_bad"),  # leap indicator 3: not synchronised
        (reply(stratum=16), "sntp_bad"),
        (reply(None), "sntp_bad"),
        (reply(1700000000 - (1 << 32)), "sntp_bad"),
        (reply(stratum=0, refid=b"RATE"), "sntp_refused"),
    ):
        fault(code, sntp.parse_reply, bad, COOKIE)
    assert "RATE" in fault(
        "sntp_refused", lambda: sntp.parse_reply(reply(stratum=0, refid=b"RATE"), COOKIE)
    ).message


class Server:
    """SNTP server in this VM; `times` are its answers, one each (None: silence, bytes: as is),
    given after `delay_ms`.
    """

    def __init__(self, times, delay_ms):
        self.times = times
        self.delay_ms = delay_ms
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        for port in range(20123, 20223):
            try:
                self.sock.bind(socket.getaddrinfo("127.0.0.1", port)[0][-1])
                break
            except OSError:
                pass
        self.port = port

    async def run(self):
        for answer in self.times:
            while True:
                try:
                    query, address = self.sock.recvfrom(100)
                    break
                except OSError:
                    await asyncio.sleep_ms(2)
            assert len(query) == 48 and query[0] == 0x23
            if answer is None:
                continue
            if isinstance(answer, int):
                answer = reply(answer, query[40:48])
            await asyncio.sleep_ms(self.delay_ms)
            self.sock.sendto(answer, address)


class Rtc:
    """Stands in for machine.RTC: the time that was set."""

    value = None

    def datetime(self, value):
        Rtc.value = value


class Machine:
    RTC = Rtc


def sync(times, timeout_ms=300, delay_ms=0):
    """Results of one sync per answer: offset, or code of the fault; the Sntp object is kept."""
    server = Server(times, delay_ms)
    client = clock.Sntp("127.0.0.1", server.port, timeout_ms=timeout_ms)
    out = []

    async def main():
        task = asyncio.create_task(server.run())
        for _ in times:
            try:
                out.append(await client.sync())
            except Fault as e:
                out.append(e.code)
        task.cancel()

    sys.modules["machine"] = Machine
    try:
        asyncio.run(main())
    finally:
        del sys.modules["machine"]
        server.sock.close()
    return out, client


def test_sync_sets_the_clock():
    Rtc.value = None
    (offset,), client = sync([NOW])
    set_to = Rtc.value
    t = time.gmtime(NOW - clock._EPOCH)
    assert set_to[:3] == t[:3] and set_to[3] == t[6] and set_to[4:7] == t[3:6], (set_to, t)
    assert 0 <= set_to[7] < 1000000
    assert abs(offset - (NOW - clock.unix_time()) * 1000) < 3000
    assert client.synced and client.offset_ms == offset
    assert not client.due()


def test_half_of_the_way_is_made_good():
    sync([NOW], timeout_ms=2000, delay_ms=400)
    assert 190000 <= Rtc.value[7] <= 300000, Rtc.value


def test_silence_and_nobody_there():
    out, client = sync([None])
    assert out == ["sntp_timeout"] and not client.synced
    assert not client.due()  # a minute's rest
    client = clock.Sntp("127.0.0.1", 9, timeout_ms=200)
    assert client.due()
    fault("sntp_timeout", lambda: asyncio.run(client.sync()))
    fault("sntp_dns", lambda: asyncio.run(clock.Sntp("no such name").sync()))


def test_forged_answer_is_not_taken():
    out, _ = sync([reply(NOW, b"\0" * 8)])
    assert out == ["sntp_bad"]


def test_large_step_needs_a_second_answer():
    base = clock.unix_time()
    far = base + 86400
    out, client = sync([base, far, base, far, far + 7200, far + 7200])
    assert isinstance(out[0], int)
    assert out[1] == "sntp_step"
    assert isinstance(out[2], int)  # the first one was wrong
    assert out[3:5] == ["sntp_step", "sntp_step"]  # they do not agree
    assert abs(out[5] - 86400000 - 7200000) < 5000
    out, _ = sync([base, base + 1800])
    assert abs(out[1] - 1800000) < 5000


def test_validity():
    assert clock.valid()
    kept = clock.time

    class Year2000:
        @staticmethod
        def time():
            return 946684800 - clock._EPOCH

    clock.time = Year2000
    try:
        assert not clock.valid()
        assert clock.unix_time() == 946684800
    finally:
        clock.time = kept


def test_unix_time_is_an_integer():
    assert isinstance(clock.unix_time(), int)
    assert abs(clock.unix_time() - int(time.time()) - clock._EPOCH) <= 1


def test_uptime_over_wraps():
    period = 1 << 30
    now = period - 5000

    def diff(a, b):
        return ((a - b + period // 2) & (period - 1)) - period // 2

    up = clock.Uptime(lambda: now & (period - 1), diff)
    assert up.ms() == 0
    total = 0
    for step in (4999, 1, 1, 0, 400000000, 400000000, 400000000, 7):
        now += step
        total += step
        assert up.ms() == total
    assert total > period


def test_uptime_never_goes_back():
    now = 1000
    up = clock.Uptime(lambda: now, lambda a, b: a - b)
    now = 3000
    assert up.ms() == 2000
    now = 2500
    assert up.ms() == 2000
    now = 3001
    assert up.ms() == 2001


def test_a_shorter_period_counts_at_once():
    sntp = clock.Sntp("a.example", 123, 3600)
    sntp._wait_ms = sntp.period_ms  # as after an answer
    sntp.change("b.example", 1123, 60)
    assert (sntp.server, sntp.port, sntp._wait_ms) == ("b.example", 1123, 60000)
    sntp.change("b.example", 1123, 7200)
    assert sntp._wait_ms == 60000 and sntp.period_ms == 7200000, "what is under way is not put off"
