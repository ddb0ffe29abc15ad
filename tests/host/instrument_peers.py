"""Instruments on the other end of a wire: an SCPI instrument on TCP, and Modbus meters."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import socket
import threading
import tty
from collections.abc import Callable

from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

IDN = "Bench,Reference 3,1234,1.0"


class ScpiPeer:
    """A line-based instrument; ``answers`` gives the answer to a query, None for silence."""

    def __init__(self, answers: dict[str, str | Callable[[], str] | None] | None = None) -> None:
        self.answers: dict[str, str | Callable[[], str] | None] = {
            "*IDN?": IDN,
            "SYST:ERR?": '0,"No error"',
            **(answers or {}),
        }
        self.received: list[str] = []
        self.connections = 0
        self.ending = b"\n"
        self.hang_up_at: str | None = None
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.resource = f"TCPIP0::127.0.0.1::{self.port}::SOCKET"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> ScpiPeer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._server, *self._open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(line)
            self._threads.append(threading.Thread(target=self._serve, args=(line,)))
            self._threads[-1].start()

    def _serve(self, line: socket.socket) -> None:
        pending = b""
        while True:
            try:
                data = line.recv(4096)
            except OSError:
                return
            if not data:
                return
            *whole, pending = (pending + data).split(self.ending)
            for one in whole:
                answer = self.answer(one.decode())
                if self.hang_up_at == one.decode():
                    line.shutdown(socket.SHUT_RDWR)
                    return
                if answer is not None:
                    line.sendall(answer.encode() + self.ending)

    def answer(self, text: str) -> str | None:
        """Take a command; returns the answer to a query."""
        self.received.append(text)
        if text not in self.answers:
            return "-113,undefined header" if text.endswith("?") else None
        found = self.answers[text]
        return found() if callable(found) else found


class ScpiOnPty:
    """The same instrument on a serial port."""

    def __init__(self, peer: ScpiPeer) -> None:
        self._peer = peer
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.resource = f"ASRL{os.ttyname(self._slave)}::INSTR"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> ScpiOnPty:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        os.close(self._master)
        os.close(self._slave)

    def _serve(self) -> None:
        pending = b""
        while not self._stop.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            *whole, pending = (pending + os.read(self._master, 4096)).split(b"\n")
            for one in whole:
                answer = self._peer.answer(one.decode())
                if answer is not None:
                    os.write(self._master, answer.encode() + b"\n")


class ModbusPeer:
    """A meter with input registers (float32, by address) and holding registers (raw words)."""

    def __init__(
        self,
        floats: dict[int, float],
        *,
        raw: dict[int, list[int]] | None = None,
        holding: dict[int, list[int]] | None = None,
        address: int = 1,
        serial: bool = False,
    ) -> None:
        self._floats, self._raw, self._holding = floats, raw or {}, holding or {}
        self._address, self._serial = address, serial
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self.url = ""

    def __enter__(self) -> ModbusPeer:
        if self._serial:
            self._bridge = _Bridge()
            self.url = self._bridge.client
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        if self._serial:
            self._bridge.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._loop.run_forever()

    async def _start(self) -> None:
        inputs = [
            SimData(address, values=[value], datatype=DataType.FLOAT32)
            for address, value in self._floats.items()
        ]
        inputs += [
            SimData(address, values=list(words), datatype=DataType.REGISTERS)
            for address, words in self._raw.items()
        ]
        holding = [
            SimData(address, values=list(words), datatype=DataType.REGISTERS)
            for address, words in self._holding.items()
        ] or [SimData(0, values=[0], datatype=DataType.REGISTERS)]
        blank = [SimData(0, values=[0], datatype=DataType.REGISTERS)]
        bits = [SimData(0, values=[False], datatype=DataType.BITS)]
        inputs.sort(key=lambda data: data.address)
        device = SimDevice(self._address, simdata=(bits, bits, holding, inputs or blank))
        if self._serial:
            self._server = ModbusSerialServer(device, port=self._bridge.server, baudrate=9600)
        else:
            self._server = ModbusTcpServer(device, address=("127.0.0.1", 0))
        await self._server.serve_forever(background=True)
        if not self._serial:
            port = self._server.transport.sockets[0].getsockname()[1]
            self.url = f"tcp://127.0.0.1:{port}"
        self._ready.set()


class _Bridge:
    """Two serial ports that are joined by a cable."""

    def __init__(self) -> None:
        self._ends = [pty.openpty(), pty.openpty()]
        for _, slave in self._ends:
            tty.setraw(slave)
        self.server, self.client = (os.ttyname(slave) for _, slave in self._ends)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        a, b = (master for master, _ in self._ends)
        while not self._stop.is_set():
            for ready in select.select([a, b], [], [], 0.05)[0]:
                os.write(b if ready == a else a, os.read(ready, 4096))

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        for pair in self._ends:
            for descriptor in pair:
                os.close(descriptor)
