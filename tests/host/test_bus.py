"""The bus: its frames, what the devices on it may do, and a Ctrl-C in the middle of it."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gridnode_host.bench.bus import RESYNC_REPLY, RESYNC_REQUEST, BusServer, Op
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.node import VirtualNode
from gridnode_host.bench.wiring import Nack, Wiring
from repl import Repl, wait_for


class Server:
    """A bus server with two operations, and the VM's end of its socket."""

    def __init__(self) -> None:
        ours, self.vm = socket.socketpair()
        self.vm.settimeout(5)
        self.done: list[bytes] = []
        self.ended = threading.Event()
        handlers = {Op.SPI_TRANSFER: self.echo, Op.PIN_READ: self.fail}
        self.server = BusServer(ours, handlers, lambda op: 0, self.ended.set, "test")

    def echo(self, _a: int, _b: int, _c: int, data: bytes) -> bytes:
        self.done.append(data)
        return data

    def fail(self, *_: object) -> int:
        raise RuntimeError("a defect of a model")

    def read(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            part = self.vm.recv(n - len(data))
            assert part, "closed"
            data += part
        return data


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.vm.close()
    server.server.close()


def frame(op: int, data: bytes = b"") -> bytes:
    return struct.pack("=6i", op, 0, 0, 0, len(data), 0) + data


def test_a_request_and_its_reply(server: Server) -> None:
    server.vm.sendall(frame(Op.SPI_TRANSFER, b"data"))
    assert server.read(16) == struct.pack("=3i", 0, 4, 0) + b"data"


@pytest.mark.parametrize("size", [1, 3, 19])
def test_frames_may_come_in_pieces(server: Server, size: int) -> None:
    data = frame(Op.SPI_TRANSFER, bytes(range(60)))
    for start in range(0, len(data), size):
        server.vm.sendall(data[start : start + size])
        time.sleep(0.001)
    assert server.read(12 + 60)[12:] == bytes(range(60))


def test_unknown_operations_and_defects_are_errors_not_silence(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for op in (999, Op.PIN_READ):
        server.vm.sendall(frame(op))
        assert struct.unpack("=3i", server.read(12)) == (-5, 0, 0)
    assert "a defect of a model" in caplog.text


@pytest.mark.parametrize("cut", range(0, 60, 4))
def test_a_torn_request_is_forgotten(server: Server, cut: int) -> None:
    whole = frame(Op.SPI_TRANSFER, b"x" * 40)
    server.vm.sendall(whole[:cut] + RESYNC_REQUEST)
    assert server.read(12) == RESYNC_REPLY
    assert server.done == []
    server.vm.sendall(whole)
    assert server.read(52)[12:] == b"x" * 40


def test_an_unread_reply_is_followed_by_the_mark(server: Server) -> None:
    server.vm.sendall(frame(Op.SPI_TRANSFER, b"unread"))
    wait_for(lambda: server.done)
    server.vm.sendall(RESYNC_REQUEST)
    assert server.read(12 + 6 + 12).endswith(RESYNC_REPLY)


def test_the_end_of_the_vm_is_noticed(server: Server) -> None:
    server.vm.sendall(frame(Op.SPI_TRANSFER, b"data")[:10])
    server.vm.close()
    assert server.ended.wait(20)


class Eeprom:
    """An I2C memory with a one-byte address, and faults on demand."""

    def __init__(self) -> None:
        self.memory = bytearray(range(256))
        self.pointer = 0
        self.fault: Exception | None = None

    def write(self, data: bytes) -> None:
        if self.fault:
            raise self.fault
        self.pointer = data[0]
        self.memory[self.pointer : self.pointer + len(data) - 1] = data[1:]

    def read(self, n: int) -> bytes:
        return bytes(self.memory[self.pointer : self.pointer + n])


class Inverter:
    """An SPI device that answers with the complement of what it gets, while selected."""

    def __init__(self) -> None:
        self.levels: list[int] = []

    def cs(self, level: int) -> None:
        self.levels.append(level)

    def transfer(self, data: bytes) -> bytes:
        return bytes(byte ^ 0xFF for byte in data)


class Modem:
    """A UART device that answers each line, some time later."""

    def __init__(self, clock: RigClock) -> None:
        self.clock = clock
        self.got = b""
        self.answers: list[tuple[float, bytes]] = []

    def receive(self, data: bytes) -> None:
        self.got += data
        if data.endswith(b"\n"):
            self.answers.append((self.clock.now() + 0.1, b"+" + data))

    def pending(self, now: float) -> bytes:
        due = [data for at, data in self.answers if at <= now]
        self.answers = [answer for answer in self.answers if answer[0] > now]
        return b"".join(due)


class Bench:
    """A node with one device on each bus."""

    def __init__(self, folder: Path) -> None:
        self.clock = RigClock()
        self.eeprom, self.inverter, self.modem = Eeprom(), Inverter(), Modem(self.clock)
        self.levels: list[int] = []
        self.button = 1
        wiring = Wiring()
        wiring.attach_i2c(0, 0x50, self.eeprom)
        wiring.attach_spi(2, 5, self.inverter)
        wiring.attach_uart(2, self.modem)
        wiring.attach_pin(2, on_write=self.levels.append)
        wiring.attach_pin(34, read=lambda: self.button)
        self.node = VirtualNode("node", folder, None, wiring, self.clock)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    with bench.node:
        yield bench


@pytest.fixture
def repl(bench: Bench) -> Iterator[Repl]:
    with Repl(bench.node.port) as repl:
        repl.raw()
        repl.run("from machine import *")
        yield repl


def test_i2c(bench: Bench, repl: Repl) -> None:
    repl.run("i = I2C(0, scl=Pin(22), sda=Pin(21), freq=400000); b = bytearray(3)")
    assert repl.run("print(i.scan(), i.readfrom_mem(0x50, 7, 3))") == r"[80] b'\x07\x08\t'"
    repl.run("i.writeto_mem(0x50, 16, b'abc'); i.readfrom_mem_into(0x50, 16, b)")
    assert repl.run("print(bytes(b), i.writeto(0x50, b'\\x11'))") == "b'abc' 1"
    repl.run("i.readfrom_into(0x50, b)")
    assert repl.run("print(bytes(b), i.readfrom(0x50, 2))") == r"b'bc\x13' b'bc'"


@pytest.mark.parametrize(
    ("fault", "number"),
    [(Nack(), "ENODEV"), (TimeoutError(), "ETIMEDOUT"), (RuntimeError("defect"), "EIO")],
)
def test_i2c_faults(
    bench: Bench, repl: Repl, fault: Exception, number: str, caplog: pytest.LogCaptureFixture
) -> None:
    repl.run("import errno; i = I2C(0)")
    bench.eeprom.fault = fault
    code = "try:\n i.writeto(0x50, b'x')\nexcept OSError as e:\n print(errno.errorcode[e.errno])"
    assert repl.run(code) == number
    bench.eeprom.fault = None
    assert repl.run("print(i.writeto(0x50, b'x'))") == "1", "the bus works on"
    absent = code.replace("0x50", "0x51")
    assert repl.run(absent) == "ENODEV"


def test_spi_answers_only_the_selected(bench: Bench, repl: Repl) -> None:
    repl.run("s = SPI(2, baudrate=400000, polarity=1, phase=1, sck=Pin(18), mosi=Pin(23))")
    repl.run("cs = Pin(5, Pin.OUT, value=1); b = bytearray(2)")
    assert repl.run("print(s.read(2))") == r"b'\xff\xff'", "nobody drives the line"
    assert repl.run("cs(0); print(s.read(2, 0x0f))") == r"b'\xf0\xf0'"
    repl.run("s.write_readinto(b'\\x00\\x01', b); c = bytes(b); s.readinto(b, 0xff)")
    assert repl.run("print(c, bytes(b)); s.write(b'x'); cs(1)") == r"b'\xff\xfe' b'\x00\x00'"
    assert bench.inverter.levels == [1, 0, 1]


def test_uart_waits_as_long_as_it_is_told(bench: Bench, repl: Repl) -> None:
    repl.run("u = UART(2, 9600, tx=17, rx=16, timeout=2000, timeout_char=5); import time")
    assert repl.run("u.write('hello\\n'); print(u.any(), u.read(100))") == r"0 b'+hello\n'"
    assert bench.modem.got == b"hello\n"
    repl.run("u = UART(2, 9600, timeout=20); t = time.ticks_ms()")
    assert repl.run("print(u.read(5), time.ticks_diff(time.ticks_ms(), t) >= 20)") == "None True"
    repl.run("u.write('ab\\n'); time.sleep_ms(150); b = bytearray(8)")
    assert repl.run("print(u.any(), u.readinto(b), bytes(b[:4]))") == r"4 4 b'+ab\n'"
    code = "import asyncio\nasync def ask():\n s = asyncio.StreamReader(u)\n u.write('x\\n')\n"
    code += " return await asyncio.wait_for(s.readline(), 5)\nprint(asyncio.run(ask()))"
    assert repl.run(code) == r"b'+x\n'"


def test_pins(bench: Bench, repl: Repl) -> None:
    assert repl.run("led = Pin(2, Pin.OUT, value=0); led.on(); led(0); print(led())") == "0"
    assert bench.levels == [0, 1, 0]
    repl.run("b = Pin(34, Pin.IN)")
    assert repl.run("print(b.value())") == "1"
    bench.button = 0
    assert repl.run("print(b())") == "0"
    assert repl.run("print(Pin(4, Pin.IN, Pin.PULL_UP)(), Pin(15, Pin.IN)())") == "1 0"


def test_a_transaction_that_a_signal_tears_does_no_harm_to_the_next(
    bench: Bench, repl: Repl
) -> None:
    """The last resort against a deaf program is a signal, which may strike anywhere."""
    repl.run("i = I2C(0); b = bytearray(4)\ndef f():\n while True: i.readfrom_into(0x50, b)")
    run = bench.node._current
    assert run is not None
    for pause in range(20):
        repl.start("f()")
        time.sleep(0.01 + 0.0007 * pause)
        os.kill(run.vm.process.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in repl.finish()[1]
        assert repl.run("print(i.readfrom_mem(0x50, 7, 3))") == r"b'\x07\x08\t'"


def test_ctrl_c_in_a_storm_of_transactions_breaks_nothing(bench: Bench, repl: Repl) -> None:
    """Neither the bus nor the file system loses its step, wherever the Ctrl-C strikes."""
    repl.run("i = I2C(0)")
    loop = "while True:\n i.writeto_mem(0x50, 0, b'1234'); i.readfrom_mem(0x50, 0, 4)\n"
    loop += " f = open('/f', 'w'); f.write('5678'); f.close()\n"
    for pause in (0.0, 0.011, 0.023, 0.03):
        repl.start(loop)
        time.sleep(0.05 + pause)
        repl.serial.write(b"\x03")
        assert "KeyboardInterrupt" in repl.finish()[1]
        assert repl.run("print(i.readfrom_mem(0x50, 0, 4), open('/f').read())").startswith(
            "b'1234'"
        )
    assert bench.node.flash.violations == 0
