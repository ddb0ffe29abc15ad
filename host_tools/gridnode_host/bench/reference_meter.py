"""A reference meter on Modbus TCP: the registers of an SDM630 or SDM120, of the truth on the wires.

Function 04 and floats of two registers, the most significant first, as the meters have them on
their serial line (`chips.modbus_meter`); there are no settings, so that other functions are
refused. It answers to every address. The server is pymodbus's own.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import threading
from concurrent.futures import Future

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gridnode_host.bench.chips.modbus_meter import KINDS
from gridnode_host.bench.reference import Reference

_READ_INPUT = 4
_START_S = 10.0


class ReferenceMeter:
    """The server of one meter, on a port of the loopback interface; started when it is made.

    `url` is where it is, `kind` the name of its registers, as a map of boards/maps has it.
    """

    def __init__(self, reference: Reference, phases: int) -> None:
        self.kind = "sdm120" if phases == 1 else "sdm630"
        self._chart = KINDS[self.kind]
        self._reference = reference
        self._ready: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="reference-meter", daemon=True)
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # clients may send what they like
        self._thread.start()
        self.url = f"tcp://127.0.0.1:{self._ready.result(_START_S)}"

    def close(self) -> None:
        """Close the port and every connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(_START_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as err:
                if self._ready.done():
                    raise
                self._ready.set_exception(err)

    async def _serve(self) -> None:
        end = max(behind for _, behind in self._chart.spans)
        registers = SimData(0, count=end, datatype=DataType.REGISTERS)
        device = SimDevice(0, simdata=[registers], action=self._answer)
        server = ModbusTcpServer(device, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        transport = server.transport
        assert isinstance(transport, asyncio.Server)  # what listens
        self._ready.set_result(transport.sockets[0].getsockname()[1])
        await self._end.wait()
        await server.shutdown()

    async def _answer(
        self,
        function: int,
        first: int,
        address: int,
        count: int,
        registers: list[int],
        new: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Put the present values where the server takes its answer from."""
        if function != _READ_INPUT or new is not None:
            return ExcCodes.ILLEGAL_FUNCTION
        if not 1 <= count <= self._chart.limit or count % 2:
            return ExcCodes.ILLEGAL_VALUE
        spans = self._chart.spans
        if address % 2 or not any(a <= address and address + count <= end for a, end in spans):
            return ExcCodes.ILLEGAL_ADDRESS
        reading = self._reference.read(self._chart.energy_wh)
        for at in range(address, address + count, 2):
            name = self._chart.rows.get(at)
            pair = struct.pack(">f", 0.0 if name is None else reading.get(name))
            registers[at - first : at - first + 2] = struct.unpack(">HH", pair)
        return None
