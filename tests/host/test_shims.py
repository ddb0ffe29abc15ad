"""The modules that the chip has and the VM lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gridnode_host.bench import vm
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.node import VirtualNode
from gridnode_host.bench.wiring import Wiring
from numpy.typing import NDArray
from repl import Repl


class Level:
    """An ADC input with a constant level and a calibrated reading of its own."""

    def __init__(self, counts: int) -> None:
        self.counts = counts
        self.attens: set[int] = set()

    def sample(self, t: NDArray[np.float64], atten: int) -> NDArray[np.uint16]:
        self.attens.add(atten)
        return np.full(len(t), self.counts, np.uint16)

    def millivolts(self, counts: NDArray[np.uint16], atten: int) -> NDArray[np.float64]:
        return counts / 2 + 100


class Plain:
    """An ADC input without a calibrated reading."""

    def sample(self, t: NDArray[np.float64], atten: int) -> NDArray[np.uint16]:
        return np.full(len(t), 4095, np.uint16)


@pytest.fixture(scope="module")
def clock() -> RigClock:
    return RigClock()


@pytest.fixture(scope="module")
def wiring() -> Wiring:
    wiring = Wiring()
    wiring.adc = {36: Level(1000), 39: Level(3001), 34: Plain()}
    wiring.wlan = {"cabin": "secret", "open": ""}
    return wiring


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, clock: RigClock, wiring: Wiring
) -> Iterator[VirtualNode]:
    folder: Path = tmp_path_factory.mktemp("node")
    with VirtualNode("node", folder, None, wiring, clock) as node:
        yield node


@pytest.fixture
def repl(node: VirtualNode, clock: RigClock) -> Iterator[Repl]:
    node.power_cycle()
    with Repl(node.port) as repl:
        repl.raw()
        yield repl
    clock.warp(1)


def test_adc(repl: Repl, wiring: Wiring) -> None:
    repl.run("from machine import ADC, Pin; a = ADC(Pin(36), atten=ADC.ATTN_11DB); b = ADC(39)")
    assert repl.run("print([x.read() for x in (a, b, a, b)])") == "[1000, 3001, 1000, 3001]"
    assert repl.run("print(a.read_u16(), b.read_u16())") == f"{1000 * 65535 // 4095} {0xBB9B}"
    assert repl.run("print(a.read_uv(), a.read(), b.read_uv())") == "600000 1000 1600000"
    assert repl.run("b.width(ADC.WIDTH_10BIT); print(b.read())") == str(3001 >> 2)
    repl.run("b.atten(ADC.ATTN_6DB); b.read(); c = ADC(34, atten=ADC.ATTN_11DB)")
    assert wiring.adc[39].attens == {0, 2}  # type: ignore[attr-defined]
    assert repl.run("print(c.read_uv(), ADC(35).read())") == "2450000 0", "straight line, unwired"
    repl.start("ADC(21)")
    assert "ValueError" in repl.finish()[1]


def test_a_conversion_allocates_nothing(repl: Repl) -> None:
    repl.run("import micropython, time; from machine import ADC; a = ADC(36); r = a.read")
    code = "def f():\n micropython.heap_lock()\n try:\n  for i in range(3000): r()\n"
    code += "  for i in range(100): time.ticks_us(); time.ticks_ms()\n"
    code += " finally: micropython.heap_unlock()\nf(); print('good')"
    assert repl.run("a.read()\n" + code) == "good"


def test_chip_functions(node: VirtualNode, repl: Repl, wiring: Wiring) -> None:
    assert repl.run("import machine; print(machine.unique_id().hex())") == node.board.mac.hex()
    assert repl.run("machine.freq(240000000); print(machine.freq())") == "240000000"
    repl.start("machine.freq(1)")
    assert "ValueError" in repl.finish()[1]
    wiring.temperature = lambda: -7.3
    assert repl.run("import esp32; print(esp32.mcu_temperature())") == "-8"
    wiring.temperature = lambda: 51.9
    assert repl.run("print(esp32.mcu_temperature(), esp32.raw_temperature())") == "51 125"
    code = "import time; t = time.ticks_ms(); machine.lightsleep(40); machine.idle()\n"
    assert int(repl.run(code + "print(time.ticks_diff(time.ticks_ms(), t))")) in range(40, 400)
    code = "from machine import RTC; RTC().memory(b'x' * 2048)\n"
    assert repl.run(code + "print(len(RTC().memory()))") == "2048"
    repl.start("RTC().memory(b'x' * 2049)")
    assert "ValueError" in repl.finish()[1]


def test_nvs(repl: Repl) -> None:
    repl.run("import esp32; n = esp32.NVS('space'); b = bytearray(8); n.set_blob('k', b'a\\0b')")
    repl.run("n.set_i32('k', -2); n.set_i32('max', 0x7fffffff); n.commit()")
    assert repl.run("print(n.get_blob('k', b), bytes(b[:3]))") == r"3 b'a\x00b'"
    assert repl.run("print(n.get_i32('k'), n.get_i32('max'))") == "-2 2147483647"
    repl.run("n.erase_key('k')")
    for code in ("n.get_i32('k')", "n.erase_key('k')", "esp32.NVS('other').get_i32('max')"):
        repl.start(code)
        assert "NOT_FOUND" in repl.finish()[1]


def test_the_partition_is_the_flash(node: VirtualNode, repl: Repl) -> None:
    repl.run("import esp32; p = esp32.Partition.find(esp32.Partition.TYPE_DATA, label='vfs')[0]")
    blocks = node.flash.size // 4096
    assert repl.run("print(p.info()[3], p.ioctl(4, 0), p.ioctl(5, 0))") == (
        f"{node.flash.size} {blocks} 4096"
    )
    code = "b = bytearray(b'data' * 1024); n = p.ioctl(4, 0) - 1; p.writeblocks(n, b)\n"
    code += "c = bytearray(4096); p.readblocks(n, c); print(b == c)"
    assert repl.run(code) == "True"
    assert node.flash.read(node.flash.size - 4096, 4) == b"data"


CONNECT = """
import network, time
w = network.WLAN(network.STA_IF)
def connect(ssid, key, wait):
    w.active(True)
    w.connect(ssid, key)
    seen = []
    end = time.ticks_add(time.ticks_ms(), wait)
    while time.ticks_diff(end, time.ticks_ms()) > 0:
        if w.status() not in seen[-1:]:
            seen.append(w.status())
        if w.isconnected():
            break
        time.sleep_ms(20)
    if w.status() not in seen[-1:]:
        seen.append(w.status())
    return seen, w.isconnected()
"""


def test_wlan(repl: Repl, clock: RigClock, wiring: Wiring) -> None:
    repl.run(CONNECT)
    assert repl.run("print(w.active(), w.isconnected(), w.status())") == "False False 1000"
    repl.start("w.connect('cabin', 'secret')")
    assert "OSError" in repl.finish()[1], "not active"
    clock.warp(10)
    assert repl.run("print(connect('cabin', 'secret', 9000))") == "([1001, 1010], True)"
    assert repl.run("print(w.status('rssi'), w.ifconfig()[0])") == "-61 127.0.0.1"
    assert repl.run("w.disconnect(); print(w.isconnected(), w.status())") == "False 1000"
    assert repl.run("print(connect('cabin', 'wrong', 4000))") == "([1001, 202], False)"
    assert repl.run("print(connect('nowhere', 'x', 4000))") == "([1001, 201], False)"
    assert repl.run("print(connect('open', '', 9000))") == "([1001, 1010], True)"
    wiring.wlan_up = False
    try:
        assert repl.run("time.sleep(4); print(w.isconnected(), w.status() in (200, 201))") == (
            "False True"
        )
        repl.start("import socket; socket.getaddrinfo('127.0.0.1', 1)")
        assert "-202" in repl.finish()[1], "no network, no name service"
    finally:
        wiring.wlan_up = True
    assert repl.run("time.sleep(5); print(w.isconnected())") == "True", "it connects again"
    assert repl.run("print(len(socket.getaddrinfo('127.0.0.1', 1)) > 0)") == "True"


def test_lan(repl: Repl, wiring: Wiring) -> None:
    repl.run(
        "import network, time; n = network.LAN(mdc=23, mdio=18, phy_type=network.PHY_LAN8720)"
    )
    assert repl.run("print(n.isconnected()); n.active(True); print(n.isconnected())") == (
        "False\nFalse"
    )
    assert repl.run("time.sleep(1); print(n.isconnected(), n.status() == 5)") == "True True"
    wiring.lan_up = False
    try:
        assert repl.run("print(n.isconnected())") == "False"
    finally:
        wiring.lan_up = True
    assert repl.run("time.sleep(1); print(n.isconnected())") == "True"
    assert repl.run("network.hostname('n7'); print(network.hostname())") == "n7"


def test_poll_reports_what_is_ready_and_waits_no_longer(repl: Repl) -> None:
    code = "import select, socket, time, network\nn = network.LAN(); n.active(True)\n"
    code += "time.sleep(1); a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    code += "a.bind(socket.getaddrinfo('127.0.0.1', 0)[0][-1]); p = select.poll()\n"
    code += "p.register(a, select.POLLIN | select.POLLOUT)\n"
    code += "print([e for s, e in p.poll(1000)] == [select.POLLOUT])\n"
    code += "p.modify(a, select.POLLIN); t = time.ticks_ms()\n"
    code += "print(p.poll(70), list(p.ipoll(0)), time.ticks_diff(time.ticks_ms(), t) >= 70)"
    assert repl.run(code) == "True\n[] [] True"


def test_the_application_has_the_heap_that_was_asked_for(node: VirtualNode, repl: Repl) -> None:
    code = "import gc, sys; gc.collect()\n"
    code += "print((gc.mem_free() + gc.mem_alloc()) >> (10 + (sys.maxsize >> 32 > 0)))"
    total = int(repl.run(code))
    shims = vm.shim_heap_kb(node.micropython)
    assert 10 < shims < 40
    assert node.heap_kb + shims - 6 <= total <= node.heap_kb + shims
    free = "print(gc.mem_free() >> (10 + (sys.maxsize >> 32 > 0)))"
    assert int(repl.run(free)) >= node.heap_kb - 8
