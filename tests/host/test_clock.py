"""Rig time, node time, and how they warp together."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gridnode_host import certs
from gridnode_host.bench import vm
from gridnode_host.bench.clock import RigClock, SteppedClock, monotonic_ns
from gridnode_host.bench.node import VirtualNode
from gridnode_host.bench.wiring import Wiring
from numpy.typing import NDArray
from repl import Repl, wait_for

EPOCH_2000 = 946_684_800


class Ramp:
    """An ADC input that shows the microseconds of rig time, and keeps when it was sampled."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def sample(self, t: NDArray[np.float64], atten: int) -> NDArray[np.uint16]:
        self.times.extend(t.tolist())
        return (np.round(t * 1e6).astype(np.int64) % 4096).astype(np.uint16)


@pytest.fixture
def clock() -> RigClock:
    return RigClock()


@pytest.fixture
def stepped(tmp_path: Path, ramp: Ramp) -> Iterator[tuple[Repl, SteppedClock]]:
    """A node that steps its clock itself."""
    wiring, clock = Wiring(), SteppedClock()
    wiring.adc[36] = ramp
    with VirtualNode("stepper", tmp_path, None, wiring, clock) as node, Repl(node.port) as repl:
        repl.raw()
        yield repl, clock


@pytest.fixture
def ramp() -> Ramp:
    return Ramp()


@pytest.fixture
def node(tmp_path: Path, clock: RigClock, ramp: Ramp) -> Iterator[VirtualNode]:
    wiring = Wiring()
    wiring.adc[36] = wiring.adc[39] = ramp
    with VirtualNode("node", tmp_path, None, wiring, clock) as node:
        yield node


@pytest.fixture
def repl(node: VirtualNode) -> Iterator[Repl]:
    with Repl(node.port) as repl:
        repl.raw()
        yield repl


def test_rig_time_starts_at_real_time_and_runs_at_the_rate(clock: RigClock) -> None:
    assert abs(clock.now() - time.time()) < 0.1
    begun = monotonic_ns()
    before = clock.rig_at(begun)
    clock.warp(100)
    assert clock.rate == 100
    # Rig times of moments that are known: a pause of the test itself would count a hundredfold.
    turn = clock.newest.mono_ns
    warped = clock.rig_at(turn)
    assert warped - before == pytest.approx(turn - begun, abs=1e6), "no jump on the way"
    clock.sleep(20)
    assert clock.now() >= warped / 1e9 + 20
    now = monotonic_ns()
    assert clock.rig_at(now) - warped == pytest.approx((now - turn) * 100, rel=1e-6)
    clock.warp(1)
    assert clock.now() - before / 1e9 < 100


def test_sleepers_notice_a_warp(clock: RigClock) -> None:
    thread = threading.Thread(target=clock.sleep, args=(30,))
    thread.start()
    clock.warp(200)
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("rate", [0, -1, 0.5, 1001])
def test_senseless_rates_are_refused(clock: RigClock, rate: float) -> None:
    with pytest.raises(ValueError):
        clock.warp(rate)  # type: ignore[arg-type]


def test_the_clock_of_a_new_node_shows_2000_and_runs_once_set(repl: Repl) -> None:
    code = "import time, machine; r = machine.RTC()\nprint(time.gmtime(0), time.time() < 60)\n"
    code += "r.datetime((2026, 7, 1, 0, 12, 30, 15, 0)); print(r.datetime()[:7])\n"
    code += "print(time.time() - time.mktime((2026, 7, 1, 12, 30, 15, 0, 0)), time.localtime()[0])"
    assert repl.run(code).splitlines() == [
        "(2000, 1, 1, 0, 0, 0, 5, 1) True",
        "(2026, 7, 1, 2, 12, 30, 15)",
        "0 2026",
    ]
    assert repl.run("print(time.time(), time.time_ns() // 10 ** 9 - time.time())").endswith(" 0")


WATCH = """
import asyncio, time
async def lap(ms):
    begin, t0 = time.ticks_ms(), time.time()
    await asyncio.sleep_ms(ms)
    return time.ticks_diff(time.ticks_ms(), begin), time.time() - t0
async def both():
    return await asyncio.gather(lap(30000), lap(6000))
"""


def test_the_clock_is_set_to_the_microsecond(repl: Repl) -> None:
    code = "import machine, time; r = machine.RTC(); r.datetime((2026, 7, 1, 0, 12, 30, 15, 700000))\n"
    code += "time.sleep_ms(400); print(r.datetime()[6])"
    assert repl.run(code).strip() == "16"


def test_sleep_ticks_and_time_of_day_warp_together(repl: Repl, clock: RigClock) -> None:
    repl.run(WATCH)
    repl.run(f"import machine; machine.RTC().datetime({rtc(clock)})")
    clock.warp(60)
    begun = time.monotonic()
    long, short = eval(repl.run("print(asyncio.run(both()))"))
    took = time.monotonic() - begun
    assert took < 5
    for wanted, (ticks, seconds) in ((30000, long), (6000, short)):
        assert wanted <= ticks < wanted + 6000
        assert abs(seconds * 1000 - ticks) < 1100
    repl.run("t = time.ticks_us(); time.sleep(5); d = time.ticks_diff(time.ticks_us(), t)")
    assert 5_000_000 <= int(repl.run("print(d)")) < 12_000_000
    clock.warp(1)
    repl.run("t = time.ticks_us(); time.sleep_ms(100); d = time.ticks_diff(time.ticks_us(), t)")
    assert 100_000 <= int(repl.run("print(d)")) < 400_000
    offset = int(repl.run("print(time.time())")) + EPOCH_2000 - clock.now()
    assert abs(offset) < 3, "the node's clock and the rig's have parted"


def test_a_warp_reaches_a_node_that_sleeps(repl: Repl, clock: RigClock) -> None:
    repl.run("import time, select")
    repl.start("time.sleep(60)\nselect.poll().poll(60000)\nprint('awake')")
    time.sleep(0.2)
    clock.warp(100)
    assert repl.finish(10)[0] == "awake\n"


def test_ticks_never_run_backwards_when_the_rate_changes(repl: Repl, clock: RigClock) -> None:
    code = "import time\nlast = time.ticks_us()\nend = time.ticks_add(time.ticks_ms(), 3000)\n"
    code += "worst = 0\nwhile time.ticks_diff(end, time.ticks_ms()) > 0:\n now = time.ticks_us()\n"
    code += " worst = min(worst, time.ticks_diff(now, last)); last = now\nprint(worst)"
    repl.start(code)
    for rate in (50, 1, 7, 1):
        clock.warp(rate)
    assert repl.finish() == ("0\n", "")


LONG = """
import asyncio, machine, time
a = machine.ADC(36)
async def main():
    begin, t, us, backwards = time.time(), time.ticks_us(), 0, 0
    while time.time() - begin < 1300:
        await asyncio.sleep(20)
        a.read()
        now = time.ticks_us()
        step = time.ticks_diff(now, t)
        us, backwards, t = us + step, backwards + (step < 0), now
    return backwards, abs(us // 1000000 - (time.time() - begin))
print(asyncio.run(main()))
"""


def test_time_holds_over_a_wrap_of_the_chip_s_ticks(
    repl: Repl, clock: RigClock, ramp: Ramp
) -> None:
    """1300 s are more than 2^30 us, the period of ticks_us on the chip and on a 32-bit VM."""
    clock.warp(1000)
    backwards, apart = eval(repl.run(LONG))
    assert backwards == 0
    assert apart <= 1
    assert abs(ramp.times[-1] - clock.now()) < 100, "the converter has the wrong turn of the ticks"


def test_the_watchdog_runs_in_node_time(node: VirtualNode, repl: Repl, clock: RigClock) -> None:
    repl.run("import machine; w = machine.WDT(timeout=20000)")
    clock.warp(100)
    wait_for(lambda: node.reset_cause == "wdt", 5)


@pytest.mark.parametrize("rate", [1, 60])
def test_conversions_are_equidistant_at_the_chip_s_pace(
    repl: Repl, clock: RigClock, ramp: Ramp, rate: int
) -> None:
    clock.warp(rate)
    code = "import machine, time\na = machine.ADC(36); b = machine.ADC(39)\n"
    code += "t = time.ticks_us(); r = [(a, b)[i & 1].read() for i in range(3000)]\n"
    code += "t = time.ticks_diff(time.ticks_us(), t)\n"
    code += "print(t, set((r[i + 1] - r[i]) % 4096 for i in range(2999)))"
    begun = time.monotonic()
    took, steps = repl.run(code).split(" ", 1)
    real_s = time.monotonic() - begun
    assert eval(steps) <= {35, 36, 37}, "rounding to the microsecond only"
    assert 36 * 3000 - 40 <= int(took) <= 36 * 3000 + 1000
    if rate == 1:
        assert real_s > 0.09, "the lead over real time is slept off"
    assert abs(ramp.times[-1] - clock.now()) < 2 * rate


def test_channels_in_turns_and_out_of_turn_show_their_own_slot(repl: Repl, ramp: Ramp) -> None:
    """The bench converts only what is read once it knows the order of the channels."""
    code = "import machine\na = [machine.ADC(p) for p in (36, 39, 36)]\n"
    code += "steps = set(); n = 0; last = a[0].read()\n"
    code += "for turn, times in ((1, 0), 3000), ((0, 1), 300), ((0, 1, 1), 200), ((0,), 300):\n"
    code += " for i in range(times):\n"
    code += "  for k in turn: r = a[k].read(); steps.add((r - last) % 4096); last = r; n += 1\n"
    code += "print(steps, n)"
    before = len(ramp.times)
    steps, _, count = repl.run(code).rpartition(" ")
    assert eval(steps) <= {35, 36, 37}
    assert len(ramp.times) - before < 1.5 * int(count)


def test_time_catches_up_after_a_burst(repl: Repl, clock: RigClock) -> None:
    repl.run(f"import machine, time; machine.RTC().datetime({rtc(clock)}); a = machine.ADC(36)")
    clock.warp(60)
    repl.run("for i in range(5000): a.read()\ntime.sleep_ms(1)")
    assert abs(int(repl.run("print(time.time())")) + EPOCH_2000 - clock.now()) < 5


def test_waiting_for_time_within_a_burst_ends(repl: Repl) -> None:
    code = "import machine, time; a = machine.ADC(36); a.read(); t = time.ticks_ms()\n"
    code += "while time.ticks_diff(time.ticks_ms(), t) < 300: pass\nprint('over')"
    assert repl.run(code) == "over"


def rtc(clock: RigClock) -> tuple[int, ...]:
    date = time.gmtime(clock.now())
    return (*date[:3], 0, *date[3:6], 0)


CONNECT = """
import socket, ssl
def connect(port, ca):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.verify_mode = ssl.CERT_REQUIRED
    c.load_verify_locations(cadata=ca)
    s = socket.socket()
    try:
        s.connect(socket.getaddrinfo('127.0.0.1', port)[0][-1])
        c.wrap_socket(s, server_hostname='localhost').close()
        return 'accepted'
    except ValueError as err:
        return str(err)
    finally:
        s.close()
import network, time
n = network.LAN(); n.active(True)
while not n.isconnected(): time.sleep_ms(50)
"""


@pytest.fixture
def tls_port(authority: certs.Authority) -> Iterator[int]:
    """Serve TLS handshakes on the loopback."""
    identity = certs.issue_server(authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            with client:
                client.settimeout(5)
                try:
                    context.wrap_socket(client, server_side=True).close()
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    stop.set()
    thread.join()
    listener.close()


def test_the_certificate_check_sees_the_node_s_clock(
    node: VirtualNode, repl: Repl, clock: RigClock, authority: certs.Authority, tls_port: int
) -> None:
    if not vm.follows_clock(node.micropython):
        pytest.skip("the C library's time of this VM cannot be led")
    repl.run(CONNECT + f"ca = {authority.der.read_bytes()!r}")
    connect = f"print(connect({tls_port}, ca))"
    assert "future" in repl.run(connect)
    repl.run(f"import machine; machine.RTC().datetime({rtc(clock)})")
    assert repl.run(connect) == "accepted"
    repl.run("machine.RTC().datetime((2099, 1, 1, 0, 0, 0, 0, 0))")
    assert "expired" in repl.run(connect)


def test_a_stepped_clock_moves_by_what_the_node_does(stepped: tuple[Repl, SteppedClock], ramp: Ramp) -> None:
    repl, clock = stepped
    before, real = clock.now(), time.monotonic()
    code = "import time, asyncio, machine\n"
    code += "async def wait(): await asyncio.sleep(2000)\n"
    code += "t = time.ticks_ms(); s = time.time(); time.sleep(1000); asyncio.run(wait())\n"
    code += "a = machine.ADC(36); r = [a.read() for i in range(3000)]\n"
    code += "print(time.ticks_diff(time.ticks_ms(), t), time.time() - s)"
    ms, seconds = map(int, repl.run(code).split())
    assert time.monotonic() - real < 100  # of 3000 s
    assert 3_000_108 <= ms < 3_000_200
    assert seconds in (3000, 3001)
    assert clock.now() - before == pytest.approx(ms / 1000, abs=0.2)
    assert ramp.times[0] == pytest.approx(before + 3000, abs=0.2)
    stood = clock.now()
    time.sleep(0.2)
    assert clock.now() == stood, "a node that waits for the host lets time stand"


def test_a_wait_that_looks_at_the_clock_ends_on_a_stepped_one(stepped: tuple[Repl, SteppedClock]) -> None:
    repl, _ = stepped
    code = "import time\nt = time.ticks_us()\n"
    code += "while time.ticks_diff(time.ticks_us(), t) < 5000: pass\nprint('ok')"
    assert repl.run(code).strip() == "ok"
    with pytest.raises(ValueError, match="no rate"):
        stepped[1].warp(10)
