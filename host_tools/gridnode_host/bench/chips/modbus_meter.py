"""Meters on RS-485: Rish Master 3430, Eastron SDM120 and SDM630, by their register tables.

Facts B.8 and B.9 and the manuals they name. Input registers (function 04) and holding registers
(03 read, 16 write) hold IEEE-754 singles, two registers each, the most significant first unless
the meter is set otherwise. Addresses between rows read 0, as on the meters; outside the table
they are refused with exception 2, and so is a start in the middle of a number; too many registers
with exception 3.

Values are means over the last second. Energies are kept when the supply fails; import and export
of the total follow the sign of the total power. Taken for these models, since no source tells
them: the resolution of the energies, and that refusal of a protected register is exception 2.

Not modelled: password and set-up menus, maximum and minimum rows, pulse outputs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gridnode_host.bench import rtu_bus
from gridnode_host.bench.chips.meter_values import Energies, MeterValues
from gridnode_host.bench.chips.modbus_rtu import (
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    READ_HOLDING,
    READ_INPUT,
    WRITE_MANY,
    ModbusSlave,
    Refused,
    span,
)
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.site import Site, Spec, Wired

_REFRESH_S = 1.0

# Rish: type of system
WIRES_1P2, WIRES_3P3, WIRES_3P4 = 1.0, 2.0, 3.0


@dataclass(frozen=True)
class Setting:
    """A holding register pair: its value from the factory and what may be written (None: nothing)."""

    factory: float
    allows: Callable[[float], bool] | None = None


@dataclass(frozen=True)
class Kind:
    """One type of meter as data. Rows map a start address to a name of `MeterValues.get`."""

    rows: Mapping[int, str]
    settings: Mapping[int, Setting]
    spans: tuple[tuple[int, int], ...]
    """Addresses that are answered: first, and behind the last."""
    limit: int
    """Registers of one request."""
    energy_wh: float
    """Wh of an energy row's unit, where no setting tells."""
    step_wh: float
    """Resolution of the energy counters."""
    serial: int | None = None
    """Address of the serial number (a 32-bit integer), if it has one."""
    baud: Mapping[float, int] = field(default_factory=dict)
    """Baud rate by the code of register 001C."""


def _phases(first: int, name: str, step: int = 2) -> dict[int, str]:
    return {first + step * k: f"{name}{k + 1}" for k in range(3)}


def _one_of(*values: float) -> Callable[[float], bool]:
    return lambda value: value in values


# 0000 to 0047, common to the family
_FAMILY = {
    **_phases(0x00, "v"),
    **_phases(0x06, "i"),
    **_phases(0x0C, "p"),
    **_phases(0x12, "s"),
    **_phases(0x18, "q"),
    **_phases(0x1E, "pf"),
    **_phases(0x24, "angle"),
    0x2A: "v_mean",
    0x2C: "v_sum",
    0x2E: "i_mean",
    0x30: "i_sum",
    0x32: "p_mean",
    0x34: "p_sum",
    0x36: "s_mean",
    0x38: "s_sum",
    0x3A: "q_mean",
    0x3C: "q_sum",
    0x3E: "pf",
    0x40: "pf_sum",
    0x42: "angle",
    0x44: "angle_sum",
    0x46: "f",
    0x48: "e_import",
    0x4A: "e_export",
    0x4C: "eq_import",
    0x4E: "eq_export",
    0x50: "es",
    0x52: "ah",
    0x54: "demand",
    0xC8: "v12",
    0xCA: "v23",
    0xCC: "v31",
    0xE0: "i_n",
}

_DEMAND_MIN = 0x02  # of every kind
RISH_ENERGY_UNIT, RISH_SYSTEM = 0x04, 0x0A
EASTRON_LINE, EASTRON_ADDRESS, EASTRON_BAUD = 0x12, 0x14, 0x1C
_ENERGY_UNITS = {1.0: 1.0, 2.0: 1e3, 3.0: 1e6}  # Wh by the Rish's energy setting
_BAUD = {0.0: 2400, 1.0: 4800, 2.0: 9600, 3.0: 19200, 4.0: 38400}
_PARITY = {0.0: "none", 1.0: "even", 2.0: "odd", 3.0: "none"}  # the last with two stop bits

_EASTRON_SETTINGS = {
    _DEMAND_MIN: Setting(60.0, _one_of(0, 5, 8, 10, 15, 20, 30, 60)),
    0x0C: Setting(100.0, _one_of(60, 100, 200)),  # pulse width, ms
    EASTRON_LINE: Setting(0.0, _one_of(*_PARITY)),
    EASTRON_ADDRESS: Setting(1.0, lambda value: 1 <= value <= 247 and value == int(value)),
    EASTRON_BAUD: Setting(2.0),
}

KINDS = {
    "rish-3430": Kind(
        rows={
            **_FAMILY,
            **_phases(0xCE, "thd_v"),
            **_phases(0xD4, "thd_i"),
            0xDA: "thd_v",
            0xDC: "thd_i",
        },
        settings={
            _DEMAND_MIN: Setting(8.0, _one_of(8, 15, 20, 30)),
            RISH_ENERGY_UNIT: Setting(1.0, _one_of(*_ENERGY_UNITS)),
            0x06: Setting(415.0, lambda value: 100 <= value <= 500),  # system voltage
            0x08: Setting(5.0, lambda value: 1 <= value <= 9999),  # system current
            RISH_SYSTEM: Setting(WIRES_3P4),
            0x0C: Setting(60.0, _one_of(60, 100, 200)),  # pulse width, ms
        },
        spans=((0x00, 0xE2), (0x200, 0x228)),
        limit=40,
        energy_wh=1.0,
        step_wh=1.0,
    ),
    "sdm120": Kind(
        rows={
            0x00: "v1",
            0x06: "i1",
            0x0C: "p1",
            0x12: "s1",
            0x18: "q1",
            0x1E: "pf1",
            0x24: "angle1",
            **{a: _FAMILY[a] for a in (0x46, 0x48, 0x4A, 0x4C, 0x4E, 0x54)},
            0x156: "e_total",
            0x158: "eq_total",
        },
        settings=_EASTRON_SETTINGS,
        spans=((0x00, 0x15A),),
        limit=80,
        energy_wh=1e3,
        step_wh=1.0,
        serial=0xFC00,
        baud={**_BAUD, 5.0: 1200},
    ),
    "sdm630": Kind(
        rows={
            **_FAMILY,
            **_phases(0xEA, "thd_v"),
            **_phases(0xF0, "thd_i"),
            0x156: "e_total",
            0x158: "eq_total",
            **_phases(0x15A, "e_import"),
            **_phases(0x160, "e_export"),
            **_phases(0x166, "e_total"),
            **_phases(0x16C, "eq_import"),
            **_phases(0x172, "eq_export"),
            **_phases(0x178, "eq_total"),
        },
        settings=_EASTRON_SETTINGS,
        spans=((0x00, 0x17E),),
        limit=80,
        energy_wh=1e3,
        step_wh=10.0,
        serial=0xFC00,
        baud=_BAUD,
    ),
}
"""Meters by the name that a profile's map has."""


class ModbusMeter(ModbusSlave):
    """One meter of a kind on a circuit.

    `settings` are its holding registers by address; `least_first` swaps the two registers of a
    number; `user_rows` are what a technician has assigned to the Rish's rows from 0200 on.
    """

    def __init__(
        self,
        kind: str,
        circuit: Circuit,
        address: int = 1,
        *,
        baudrate: int = 9600,
        parity: str = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(circuit.now, address, baudrate=baudrate, parity=parity, seed=seed, kind=0x5D)
        self.kind = KINDS[kind]
        self.settings = {at: one.factory for at, one in self.kind.settings.items()}
        self.least_first = False
        self.user_rows: list[str] = []
        self.serial = 0x0121_0000 + seed
        self.energies = Energies(circuit, circuit.now())
        """Counters; set them to what an old meter has counted before."""
        self._circuit = circuit
        if RISH_SYSTEM in self.settings and circuit.phases == 1:
            self.settings[RISH_SYSTEM] = WIRES_1P2
        if EASTRON_ADDRESS in self.settings:
            codes = {rate: code for code, rate in self.kind.baud.items()}
            parities = {name: code for code, name in reversed(_PARITY.items())}
            self.settings[EASTRON_ADDRESS] = float(address)
            self.settings[EASTRON_BAUD] = codes.get(baudrate, 2.0)
            self.settings[EASTRON_LINE] = parities[parity]
        self._reset()
        self._began -= _REFRESH_S  # it was on before the bench began

    # -- functions -------------------------------------------------------------------------

    def _serve(self, function: int, data: bytes, at: float) -> bytes:
        if function == READ_INPUT:
            address, count = span(data)
            self._check(address, count, self.kind.spans)
            return self._block(self._values(at).get, self._rows(), address, count)
        if function == READ_HOLDING:
            address, count = span(data)
            if address == self.kind.serial and count == 2:
                return b"\4" + self.serial.to_bytes(4, "big")
            self._check(address, count, self._setting_spans())
            names = {a: str(a) for a in self.settings}
            return self._block(lambda name: self.settings[int(name)], names, address, count)
        if function == WRITE_MANY:
            return self._write(data)
        raise Refused(ILLEGAL_FUNCTION)

    def _check(self, address: int, count: int, spans: tuple[tuple[int, int], ...]) -> None:
        if not 1 <= count <= self.kind.limit or count % 2:
            raise Refused(ILLEGAL_VALUE)
        if address % 2 or not any(low <= address and address + count <= end for low, end in spans):
            raise Refused(ILLEGAL_ADDRESS)

    def _setting_spans(self) -> tuple[tuple[int, int], ...]:
        return ((min(self.settings), max(self.settings) + 2),)

    def _rows(self) -> Mapping[int, str]:
        return {**self.kind.rows, **{0x200 + 2 * k: name for k, name in enumerate(self.user_rows)}}

    def _block(
        self, get: Callable[[str], float], names: Mapping[int, str], address: int, count: int
    ) -> bytes:
        out = bytearray((2 * count,))
        for at in range(address, address + count, 2):
            pair = struct.pack(">f", get(names[at]) if at in names else 0.0)
            out += pair[2:] + pair[:2] if self.least_first else pair
        return bytes(out)

    def _write(self, data: bytes) -> bytes:
        address, count = span(data[:4])
        values = data[5:]
        if len(data) < 5 or data[4] != 2 * count or len(values) != data[4]:
            raise Refused(ILLEGAL_VALUE)
        self._check(address, count, self._setting_spans())
        new: dict[int, float] = {}
        for k in range(0, count, 2):
            pair = values[2 * k : 2 * k + 4]
            if self.least_first:
                pair = pair[2:] + pair[:2]
            new[address + k] = struct.unpack(">f", pair)[0]
        for at, value in new.items():
            setting = self.kind.settings.get(at)
            allows = setting and (setting.allows or (_one_of(*self.kind.baud) if at == EASTRON_BAUD else None))
            if not allows:
                raise Refused(ILLEGAL_ADDRESS)
            if not (math.isfinite(value) and allows(value)):
                raise Refused(ILLEGAL_VALUE)
        self.settings.update(new)
        self._apply()
        return data[:4]

    def _apply(self) -> None:
        """Take over what the settings say of the line; the answer still goes out as before."""
        if EASTRON_ADDRESS in self.settings:
            self.address = int(self.settings[EASTRON_ADDRESS])
            self.baudrate = self.kind.baud[self.settings[EASTRON_BAUD]]
            self.parity = _PARITY[self.settings[EASTRON_LINE]]

    # -- measuring -------------------------------------------------------------------------

    def _reset(self) -> None:
        self._began = self._clock()

    def _values(self, at: float) -> MeterValues:
        now = self._now(at)
        seconds = (now - self._began) // _REFRESH_S * _REFRESH_S
        until = self._began + seconds
        self.energies.count(until)
        unit = _ENERGY_UNITS.get(self.settings.get(RISH_ENERGY_UNIT, 0.0), self.kind.energy_wh)
        return MeterValues(
            self._circuit,
            until - _REFRESH_S if seconds > 0 else until,
            until,
            energies=self.energies,
            unit_wh=unit,
            step_wh=self.kind.step_wh,
            demand_s=60.0 * max(self.settings[_DEMAND_MIN], 1.0),
            on_since=self._began,
            lines_only=self.settings.get(RISH_SYSTEM) == WIRES_3P3,
        )


def wire(spec: Spec, site: Site) -> Wired:
    """Put a meter on the line of the profile's entry."""
    modbus, uart = spec["modbus"], spec["uart"]
    name = modbus["map"] if isinstance(modbus["map"], str) else modbus["map"]["name"]
    if name not in KINDS:
        raise ValueError(f"no model of a {name}; there are {', '.join(KINDS)}")
    meter = ModbusMeter(
        name,
        site.circuit,
        modbus["address"],
        baudrate=uart.get("baud", 9600),
        parity=uart.get("parity", "none"),
        seed=site.seed,
    )
    rtu_bus.line(spec, site).slaves.append(meter)
    return meter, None
