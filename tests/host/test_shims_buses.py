"""UART, I2C and 1-Wire in the VM: time on the wire, settings, and what goes wrong on a bus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gridnode_host.bench.chips.ds18b20 import Ds18b20, rom_of
from gridnode_host.bench.chips.modbus_meter import ModbusMeter
from gridnode_host.bench.chips.modbus_rtu import sealed
from gridnode_host.bench.chips.sht3x import Sht3x
from gridnode_host.bench.clock import SteppedClock
from gridnode_host.bench.environment import Environment
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.node import VirtualNode
from gridnode_host.bench.rtu_bus import RtuBus
from gridnode_host.bench.wiring import Wiring
from repl import Repl


class Talker:
    """Hears everything, and has sent what is put into `to_send`."""

    def __init__(self) -> None:
        self.heard = b""
        self.to_send = b""
        self.settings: list[tuple[int, str]] = []

    def setup(self, baudrate: int, parity: str) -> None:
        self.settings.append((baudrate, parity))

    def receive(self, data: bytes) -> None:
        self.heard += data

    def pending(self, now: float) -> bytes:
        data, self.to_send = self.to_send, b""
        return data


class Bench:
    """A node on a clock of its own, so that every time is exact."""

    def __init__(self, folder: Path) -> None:
        self.clock = SteppedClock()
        self.circuit = Circuit(3, self.clock)
        self.surroundings = Environment(25.0, 50.0)
        self.meter = ModbusMeter("sdm630", self.circuit)
        self.line = RtuBus(self.clock.now)
        self.line.slaves.append(self.meter)
        self.line.use_direction_pin()
        self.talker = Talker()
        self.air = Sht3x(
            self.clock.now, self.surroundings.temperature, self.surroundings.humidity
        )
        self.other = Sht3x(
            self.clock.now, self.surroundings.temperature, self.surroundings.humidity
        )
        self.wiring = wiring = Wiring()
        wiring.attach_uart(2, self.line, tx=17, rx=16)
        wiring.attach_pin(4, on_write=self.line.direction)
        wiring.attach_uart(1, self.talker)
        wiring.attach_i2c(0, 0x44, self.air, scl=22, sda=21)
        wiring.attach_i2c(0, 0x45, self.other)
        self.thermometers = [
            Ds18b20(self.clock.now, rom_of(serial), self.surroundings.temperature)
            for serial in (1, 2, 3)
        ]
        for sensor in self.thermometers:
            wiring.attach_onewire(27, sensor)
        self.node = VirtualNode("node", folder, None, wiring, self.clock)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("node"))
    with bench.node:
        yield bench


@pytest.fixture
def repl(bench: Bench) -> Iterator[Repl]:
    bench.node.power_cycle()
    with Repl(bench.node.port) as repl:
        repl.raw()
        repl.run(START)
        yield repl


START = """
from machine import *
import errno, time; time.sleep_ms(5)
def us(what, *args):
    t = time.ticks_us()
    what(*args)
    return time.ticks_diff(time.ticks_us(), t)
def fails(what, *args, **how):
    try:
        what(*args, **how)
    except Exception as err:
        return errno.errorcode.get(err.errno, err.errno) if isinstance(err, OSError) else type(err).__name__
"""


# -- UART ------------------------------------------------------------------------------------


def test_flush_takes_the_time_on_the_wire(repl: Repl) -> None:
    repl.run("u = UART(1, 1200)")
    assert repl.run("print(us(u.write, bytes(12)) < 1000, u.txdone())") == "True False"
    assert int(repl.run("print(us(u.flush))")) in range(98_000, 101_000), "12 bytes of 10 bits"
    assert repl.run("print(u.txdone())") == "True"
    repl.run("u.init(1200, parity=0, stop=2); u.write(bytes(12))")
    assert int(repl.run("print(us(u.flush))")) in range(118_000, 121_000), "12 bytes of 12 bits"
    repl.run("u.init(9600, parity=None, stop=1)")
    whole = 600 * 10 / 9600 * 1e6
    room = (128 + 256) * 10 / 9600 * 1e6
    took = int(repl.run("print(us(u.write, bytes(600)))"))
    assert took == pytest.approx(whole - room, abs=2000), "the rest has to leave first"


def test_settings_reach_the_device_and_wrong_ones_are_refused(bench: Bench, repl: Repl) -> None:
    bench.talker.settings.clear()
    repl.run("u = UART(1, 4800, bits=8, parity=0, stop=1, tx=Pin(18), rx=19); u.init(baudrate=2400)")
    repl.run("u.init(parity=1); u.init(parity=None)")
    assert bench.talker.settings == [(4800, "even"), (2400, "even"), (2400, "odd"), (2400, "none")]
    for wrong in ("bits=9", "stop=3"):
        assert repl.run(f"print(fails(UART, 1, 9600, {wrong}))") == "ValueError"
    for wrong in ("rxbuf=128", "txbuf=64", "tx=34"):
        assert repl.run(f"print(fails(UART, 1, 9600, {wrong}))") == "-1"
    assert repl.run("print(fails(UART, 3))") == "ValueError"


def test_an_overrun_keeps_the_oldest_bytes(bench: Bench, repl: Repl) -> None:
    bench.talker.to_send = b"before"
    repl.run("u = UART(1, 9600, rxbuf=200)")
    bench.talker.to_send = bytes(range(250))
    assert repl.run("d = u.read(); print(len(d), d[0], d[-1], u.any())") == "200 0 199 0"


DIALOGUE = """
u = UART(2, 9600, tx=17, rx=16); de = Pin(4, Pin.OUT, value=0)
def ask(early=0):
    u.read()
    de(1); u.write(bytes.fromhex('01040000000271CB'))
    u.flush() if not early else time.sleep_us(8333 - early)
    de(0); time.sleep_ms(250)
    return u.read()
"""


def test_a_meter_behind_an_rs485_driver(bench: Bench, repl: Repl) -> None:
    repl.run(DIALOGUE)
    assert repl.run("print(ask().hex())") == sealed(bytes.fromhex("0104 04 43660000")).hex()
    assert repl.run("print(ask(early=600))") == "None", "the last byte is cut off"
    bench.meter.fault("silent")
    assert repl.run("print(ask())") == "None"
    bench.meter.clear("silent")


def test_who_uses_other_pins_reaches_nobody(repl: Repl) -> None:
    repl.run(DIALOGUE.replace("tx=17, rx=16", "tx=16, rx=17"))
    assert repl.run("print(ask())") == "None"
    repl.run("u.init(tx=17, rx=16)")
    assert repl.run("print(len(ask()))") == "9"


# -- I2C -------------------------------------------------------------------------------------


def test_i2c_takes_its_time_and_refusals_are_told(bench: Bench, repl: Repl) -> None:
    repl.run("i = I2C(0, scl=Pin(22), sda=Pin(21), freq=10000)")
    took = int(repl.run("print(us(i.writeto, 0x44, b'\\xf3\\x2d'))"))
    assert took in range(2900, 3200), "29 clocks"
    assert repl.run("print(i.scan(), i.readfrom(0x44, 3)[:2])") == r"[68, 69] b'\x80\x10'"
    assert repl.run("print(fails(i.readfrom, 0x44, 6), fails(i.writeto, 0x46, b''))") == "ENODEV ENODEV"
    bench.air.fault("absent")
    assert repl.run("print(i.scan(), fails(i.writeto, 0x44, b'\\x24\\x00'))") == "[69] ENODEV"
    bench.air.clear("absent")


def test_a_device_may_stretch_the_clock_but_not_for_ever(repl: Repl) -> None:
    repl.run("i = I2C(0, scl=22, sda=21); i.writeto(0x44, b'\\x2c\\x06')")
    assert int(repl.run("print(us(i.readfrom, 0x44, 6))")) in range(15_000, 17_500)
    repl.run("i = I2C(0, scl=22, sda=21, timeout=10000); i.writeto(0x44, b'\\x2c\\x06')")
    assert repl.run("print(fails(i.readfrom, 0x44, 6))") == "ETIMEDOUT"
    repl.run("time.sleep_ms(20); b = bytearray(6); i.readfrom_into(0x44, b)")
    assert repl.run("print(bytes(b).hex())") == "66669380" + "00a2"


def test_one_that_holds_the_data_line_stops_all(bench: Bench, repl: Repl) -> None:
    repl.run("i = I2C(0, scl=22, sda=21)")
    bench.other.fault("stuck_low")
    assert repl.run("print(i.scan(), fails(i.writeto, 0x44, b'\\xf3\\x2d'))") == "[] ETIMEDOUT"
    bench.other.clear("stuck_low")
    assert repl.run("print(i.scan(), i.writeto(0x44, b'\\xf3\\x2d'))") == "[68, 69] 2"
    repl.run("i = I2C(0)")  # its pins are 18 and 19
    assert repl.run("print(i.scan(), fails(i.writeto, 0x44, b''))") == "[] ENODEV"


# -- 1-Wire ----------------------------------------------------------------------------------

ONEWIRE = "import onewire; w = onewire.OneWire(Pin(27))"


def test_onewire_finds_and_reads_all(bench: Bench, repl: Repl) -> None:
    repl.run(ONEWIRE)
    found = repl.run("print(sorted(bytes(rom).hex() for rom in w.scan()))")
    assert found == str(sorted(sensor.rom.hex() for sensor in bench.thermometers))
    code = "for rom in sorted(w.scan()):\n w.select_rom(rom); w.writebyte(0x44)\n"
    repl.run(code + "time.sleep_ms(760)")
    code = "d = bytearray(9)\nfor rom in w.scan():\n w.select_rom(rom); w.write(b'\\xbe'); w.readinto(d)\n"
    code += " print(bytes(d[:2]).hex(), w.crc8(d), w.crc8(d[:8]) == d[8])"
    assert repl.run(code).split("\n") == ["9001 0 True"] * 3
    assert repl.run("print(w.reset(True), w.SKIP_ROM, w.MATCH_ROM, w.SEARCH_ROM)") == "True 204 85 240"
    repl.run("w.reset(); w.writebyte(0xCC); w.writebyte(0xBE)")
    assert repl.run("print(w.readbit(), w.readbit(), w.readbit(), w.readbit(), w.readbit())") == "0 0 0 0 1"


def test_onewire_takes_its_time(repl: Repl) -> None:
    repl.run(ONEWIRE)
    assert int(repl.run("print(us(w.reset))")) in range(960, 1200)
    assert int(repl.run("print(us(w.write, b'\\xcc\\xbe'))")) in range(1120, 1400)
    assert int(repl.run("print(us(w.readinto, bytearray(9)))")) in range(5040, 6500)


def test_onewire_without_devices(bench: Bench, repl: Repl) -> None:
    repl.run(ONEWIRE)
    for sensor in bench.thermometers:
        sensor.fault("absent")
    try:
        assert repl.run("print(w.reset(), w.scan(), w.readbyte())") == "False [] 255"
        assert repl.run("print(fails(w.reset, True))") == "OneWireError"
    finally:
        for sensor in bench.thermometers:
            sensor.clear("absent")
    assert repl.run("print(len(w.scan()))") == "3"


# -- supply ----------------------------------------------------------------------------------


def test_the_nodes_supply_feeds_its_sensors_and_not_the_meter(bench: Bench, repl: Repl) -> None:
    repl.run("i = I2C(0, scl=22, sda=21); i.writeto(0x44, b'\\x30\\x41'); i.writeto(0x44, b'\\xf3\\x2d')")
    assert repl.run("print(i.readfrom(0x44, 2).hex())") == "0000"
    bench.clock.step(10_000_000)
    energy = bench.meter.energies.e_import[3]
    bench.node.reset()
    bench.air.write(bytes.fromhex("F32D"))
    assert bench.air.read(2) == b"\0\0", "the pin EN resets the chip alone"
    bench.node.power_cycle()
    bench.clock.step(10_000)
    bench.air.write(bytes.fromhex("F32D"))
    assert bench.air.read(2) == bytes.fromhex("8010")
    assert bench.meter.energies.e_import[3] >= energy
