"""PZEM-004T v3 on Modbus RTU, from the user manual of the module (facts B.5).

Its meter side lives on the mains that it measures: below the range there is no answer. Values
are those of the last second, rounded to the resolution of their registers; current, power and
power factor are 0 below the start current, and nothing is counted. Power has no sign. Energy,
alarm threshold and address outlive its supply.

Not modelled: the factory calibration (41 37 21 is acknowledged and does nothing).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from gridnode_host.bench import rtu_bus, truth
from gridnode_host.bench.chips.modbus_rtu import (
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    READ_HOLDING,
    READ_INPUT,
    WRITE_ONE,
    ModbusSlave,
    Refused,
    span,
)
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.site import Site, Spec, Wired

RESET_ENERGY, CALIBRATE = 0x42, 0x41
ANY_ADDRESS = 0xF8

_ALARM_W, _ADDRESS = 1, 2  # holding registers
_CALIBRATION_KEY = b"\x37\x21"
_REFRESH_S = 1.0  # not in the manual; the values of real modules change about once a second
_RANGE_V = (80.0, 260.0)
_RANGE_HZ = (45.0, 65.0)
_START_A = 0.02
_FACTORY_ALARM_W = 23_000


class _Values(NamedTuple):
    volts: float
    amperes: float
    watts: float
    hertz: float
    factor: float


class Pzem004t(ModbusSlave):
    """A module on `phase` (from 0) of a circuit; `rated` is 100 A with a clamp, 10 A with a shunt."""

    latency_s = (0.02, 0.08)

    def __init__(
        self, circuit: Circuit, address: int = 1, *, phase: int = 0, rated: float = 100.0, seed: int = 0
    ) -> None:
        super().__init__(circuit.now, address, seed=seed, kind=0x004)
        self.alarm_w = _FACTORY_ALARM_W
        self.energy_wh = 0.0
        self._circuit = circuit
        self._phase = phase
        self._rated = rated
        self._reset()
        self._began -= _REFRESH_S  # it was on before the bench began

    # -- functions -------------------------------------------------------------------------

    def _serve(self, function: int, data: bytes, at: float) -> bytes:
        if function == READ_INPUT:
            return _words(self._input(at), 0, *span(data))
        if function == READ_HOLDING:
            return _words([self.alarm_w, self.address], _ALARM_W, *span(data))
        if function == WRITE_ONE:
            self._write(*span(data))
            return data
        if function == RESET_ENERGY:
            self._count(at)
            self.energy_wh = 0.0
            return b""
        if function == CALIBRATE and data == _CALIBRATION_KEY:
            return data
        raise Refused(ILLEGAL_FUNCTION)

    def _is_for_me(self, unit: int) -> bool:
        return unit in (self.address, ANY_ADDRESS)

    def _supplied(self, at: float) -> bool:
        volts = math.sqrt(self._circuit.segments(at, at)[0][0].values.v2[self._phase])
        return volts >= _RANGE_V[0]

    def _write(self, register: int, value: int) -> None:
        if register == _ALARM_W:
            self.alarm_w = value
        elif register == _ADDRESS:
            if not 1 <= value <= 0xF7:
                raise Refused(ILLEGAL_VALUE)
            self.address = value
        else:
            raise Refused(ILLEGAL_ADDRESS)

    # -- measuring -------------------------------------------------------------------------

    def _reset(self) -> None:
        self._began = self._counted = self._now()

    def _input(self, at: float) -> list[int]:
        """The ten input registers; 32-bit values come low word first."""
        now = self._now(at)
        self._count(now)
        seconds = (now - self._began) // _REFRESH_S * _REFRESH_S
        if seconds <= 0:  # nothing measured yet
            values = _Values(0.0, 0.0, 0.0, 0.0, 0.0)
        else:
            until = self._began + seconds
            values = self._over(until - _REFRESH_S, until)
        milliamperes, deciwatts = round(values.amperes * 1000), round(values.watts * 10)
        energy = int(self.energy_wh) & 0xFFFFFFFF
        return [
            round(values.volts * 10),
            milliamperes & 0xFFFF,
            milliamperes >> 16,
            deciwatts & 0xFFFF,
            deciwatts >> 16,
            energy & 0xFFFF,
            energy >> 16,
            round(values.hertz * 10),
            round(values.factor * 100),
            0xFFFF if values.watts > self.alarm_w else 0,
        ]

    def _over(self, since: float, until: float) -> _Values:
        means = truth.averaged(self._circuit.segments(since, until), sensed=True)
        k = self._phase
        volts, amperes = math.sqrt(means.v2[k]), math.sqrt(means.i2[k])
        hertz = min(max(means.frequency, _RANGE_HZ[0]), _RANGE_HZ[1])
        if amperes < _START_A:
            return _Values(volts, 0.0, 0.0, hertz, 0.0)
        left = min(1.0, self._rated / amperes)  # the converter ends at the rated current
        watts = abs(float(means.p[k])) * left
        apparent = volts * amperes * left
        factor = min(watts / apparent, 1.0) if apparent else 0.0
        return _Values(volts, amperes * left, watts, hertz, factor)

    def _count(self, until: float) -> None:
        """Count energy up to a rig time."""
        if until <= self._counted:
            return
        for segment, since, to in self._circuit.segments(self._counted, until):
            if math.sqrt(segment.values.v2[self._phase]) >= _RANGE_V[0]:
                self.energy_wh += self._over(since, to).watts * (to - since) / 3600.0
        self._counted = until


def _words(registers: list[int], first: int, address: int, count: int) -> bytes:
    """Answer to a read of some of the registers that begin at `first`. Raises `Refused`."""
    begin = address - first
    if not count:
        raise Refused(ILLEGAL_VALUE)
    if begin < 0 or begin + count > len(registers):
        raise Refused(ILLEGAL_ADDRESS)
    words = b"".join(word.to_bytes(2, "big") for word in registers[begin : begin + count])
    return bytes((len(words),)) + words


def wire(spec: Spec, site: Site) -> Wired:
    """Put a module on the UART of the profile's entry."""
    address = spec["modbus"]["address"]
    module = Pzem004t(site.circuit, 1 if address == ANY_ADDRESS else address, seed=site.seed)
    rtu_bus.line(spec, site).slaves.append(module)
    return module, None
