"""A Modbus meter as the reference: its registers by a map of boards/maps, over TCP or RTU.

The values of one sample come in as few requests as the map allows, so that they belong together.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gridnode_host import resources
from gridnode_host.calibrate.plan import ModbusReference
from gridnode_host.calibrate.quantities import LARGEST, Value
from gridnode_host.errors import Exit, GridnodeError

_LETTERS = "ABCD"
_FLOAT32_STEP = 2.0**-23  # of the value
_NAMES = {"phase_angle": "phase_deg"}  # of the map -> of a calibration


@dataclass(frozen=True)
class Row:
    """One value: ``letter`` is its type as in `struct`, ``factor`` brings it to V, A, W, var."""

    quantity: str
    phase: int
    address: int
    letter: str
    factor: float

    @property
    def width(self) -> int:
        """Registers of the value."""
        return struct.calcsize(self.letter) // 2


class Meter:
    """The meter, open. ``phases`` is how many it measures, ``quantities`` what."""

    def __init__(self, spec: ModbusReference) -> None:
        chart = resources.modbus_map(spec.map, spec.folder)
        self.phases = int(chart["phases"])
        rows = [row for row in map(_row, chart["rows"].splitlines()) if self._useful(row)]
        self._rows = {(row.quantity, row.phase): row for row in rows}
        self.quantities = frozenset(row.quantity for row in rows)
        self._function = chart.get("function", 4)
        order = spec.word_order or chart.get("word_order", _LETTERS)
        self._places = [order.index(letter) for letter in _LETTERS]
        self._gap, self._most = chart["max_gap"], chart["max_registers"]
        self._spec = spec
        self._client = _client(spec)
        try:
            if not self._client.connect():
                raise self._silent("cannot be opened")
            self._check_settings(chart["settings"])
        except GridnodeError:
            self.close()
            raise

    def _useful(self, row: Row) -> bool:
        # with several phases the rows of phase 0 are totals
        return (row.phase > 0) == (self.phases > 1)

    def read(
        self, quantities: Iterable[str], phases: Sequence[int]
    ) -> dict[str, dict[int, Value]]:
        """Return one sample, quantity -> phase -> value.

        A meter of a single phase is connected to the one that is asked for.
        """
        wanted = {
            (name, phase): self._rows[name, phase if self.phases > 1 else 0]
            for name in quantities
            for phase in phases
        }
        cells: dict[int, int] = {}
        for first, count in _spans(wanted.values(), self._gap, self._most):
            registers = self._request(first, count, self._function)
            cells.update(enumerate(registers, first))
        found: dict[str, dict[int, Value]] = {}
        for (name, phase), row in wanted.items():
            found.setdefault(name, {})[phase] = self._value(row, cells)
        return found

    def close(self) -> None:
        """Let the meter go."""
        self._client.close()

    def _value(self, row: Row, cells: dict[int, int]) -> Value:
        raw = self._number(row.letter, [cells[row.address + k] for k in range(row.width)])
        value = raw * row.factor
        if not math.isfinite(value) or abs(value) > LARGEST:
            raise self._fault(row, f"{value}")
        step = abs(value) * _FLOAT32_STEP if row.letter == "f" else abs(row.factor)
        return Value(value, step)

    def _number(self, letter: str, registers: Sequence[int]) -> float:
        data = struct.pack(f">{len(registers)}H", *registers)
        places = self._places if len(data) == 4 else [place & 1 for place in self._places[:2]]
        raw = struct.unpack(f">{letter}", bytes(data[place] for place in places))[0]
        unsigned = letter in "IH"
        return math.nan if unsigned and raw == (1 << 8 * len(data)) - 1 else float(raw)

    def _request(self, first: int, count: int, function: int) -> list[int]:
        from pymodbus.exceptions import ModbusException

        read = (
            self._client.read_input_registers
            if function == 4
            else self._client.read_holding_registers
        )
        try:
            answer = read(first, count=count, device_id=self._spec.address)
        except (ModbusException, OSError) as err:
            raise self._silent(f"does not answer ({type(err).__name__})") from err
        if answer.isError():
            raise self._silent(f"does not give registers {first}..{first + count - 1}: {answer}")
        registers = list(answer.registers)
        if len(registers) != count:
            raise self._silent(f"gives {len(registers)} registers of {count}")
        if all(register == 0xFFFF for register in registers):
            raise self._fault(None, "all ones")
        return registers

    def _check_settings(self, settings: Sequence[dict[str, Any]]) -> None:
        """Refuse a meter that is set up so that its map does not hold."""
        for setting in settings:
            if "want" not in setting:
                continue
            letter = setting["type"]
            count = struct.calcsize(letter) // 2
            cells = self._request(setting["address"], count, setting.get("function", 3))
            found = self._number(letter, cells)
            if found != setting["want"]:
                raise GridnodeError(
                    "open the reference meter",
                    f"its {setting['name']} is set to {found:g}, the map needs {setting['text']}",
                    "Set the meter as the map needs it.",
                    Exit.REFUSED,
                )

    def _fault(self, row: Row | None, text: str) -> GridnodeError:
        what = f"{row.quantity} as {text}" if row else text
        return GridnodeError(
            "read the reference",
            f"the meter on {self._spec.url} gives {what}, which is no value",
            "Check the meter and its connections.",
            Exit.REFUSED,
            {"condition": "reference_value", "measured": text, "limit": None},
        )

    def _silent(self, cause: str) -> GridnodeError:
        return GridnodeError(
            "ask the reference meter",
            f"the meter on {self._spec.url} {cause}"[:240],
            "Check cable, address, baud rate and parity of the meter.",
            Exit.NO_NODE,
        )


def _row(line: str) -> Row:
    name, phase, address, letter, factor = line.split(" ")
    return Row(_NAMES.get(name, name), int(phase), int(address), letter, float(factor.lstrip("*")))


def _spans(rows: Iterable[Row], gap: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield (first register, count) of requests that cover all rows."""
    first = end = None
    for row in sorted(rows, key=lambda row: row.address):
        last = row.address + row.width
        if first is None or end is None:
            first, end = row.address, last
        elif row.address - end <= gap and last - first <= most:
            end = max(end, last)
        else:
            yield first, end - first
            first, end = row.address, last
    if first is not None and end is not None:
        yield first, end - first


def _client(spec: ModbusReference) -> Any:
    from pymodbus.client import ModbusSerialClient, ModbusTcpClient

    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # failures are told by errors
    common: dict[str, Any] = {"timeout": spec.timeout_s, "retries": 1}
    if "://" not in spec.url:
        parity = spec.parity[0].upper()
        return ModbusSerialClient(spec.url, baudrate=spec.baud, parity=parity, **common)
    try:
        url = urlsplit(spec.url)
        host, port = url.hostname, url.port or 502
    except ValueError:
        host, port = None, 0
    if not host or url.scheme != "tcp":
        raise GridnodeError(
            "open the reference meter",
            f"{spec.url!r} is not tcp://HOST:PORT",
            "Example: tcp://192.0.2.7:502, or a serial port such as /dev/ttyUSB1.",
            Exit.USAGE,
        )
    return ModbusTcpClient(host, port=port, **common)
