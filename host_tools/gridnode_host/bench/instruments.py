"""The instruments of a bench around one node: reference meter, source and climate chamber.

On SCPI over loopback TCP, n being a phase from 1 to 3, without which all are meant:

* `SOURce:VOLTage[n] V`, `SOURce:CURRent[n] A`, `SOURce:PHASe[n] degrees` that the current lags,
  `SOURce:FREQuency Hz`: the mains.
* `SOURce:TEMPerature degC`: the air around the node, at once.
* `SOURce:DC pin,mV` and `SOURce:DC pin,OFF`: a direct voltage at a pin of the ESP32's converter
  in place of its sensor.
* `MEASure:VOLTage[n]?`, `CURRent`, `POWer`, `REACtive`, `MEASure:FREQuency?`: means of the last
  second of rig time; of all phases the mean of V and A, the sum of W and var.
* `MEASure:TEMPerature?`: the air, degC.
* `SYSTem:ERRor?`, `*IDN?`, `*CLS`, `*OPC?`, and `*RST`: everything as it was at first.

What is set is told by the same header with a `?`. A setting begins a new second, so that where
time stands still between the calls of a node the answer is that of the moment.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np

from gridnode_host.bench.chips.ct_input import AdcInput
from gridnode_host.bench.environment import Environment
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.reference import Reference
from gridnode_host.bench.scpi import Command, Commands, ScpiError, ScpiServer, none, number
from gridnode_host.bench.wiring import Wiring

_IDENTITY = "Gridnode,Virtual bench,{},1.0"
_CHAMBER_C = (-40.0, 100.0)
_PIN_MV = (0.0, 3300.0)
_THERMOMETER_K = 0.05


class Instruments:
    """Both servers; a context manager, started when it is made.

    `resource` is the PyVISA name of the SCPI instrument; `modbus_url` is where a Modbus TCP
    reference meter is, `modbus_map` the map in boards/maps that fits it. `seed` chooses the
    errors of both.
    """

    def __init__(
        self, circuit: Circuit, environment: Environment, wiring: Wiring, seed: int = 0
    ) -> None:
        from gridnode_host.bench.reference_meter import ReferenceMeter

        references = [Reference(circuit, 2 * seed + k) for k in range(2)]
        self._bench = _Bench(circuit, environment, wiring, references, seed)
        self._meter = ReferenceMeter(references[1], circuit.phases)
        try:
            self._scpi = ScpiServer(Commands(self._bench.commands()))
        except BaseException:
            self._meter.close()
            raise
        self.resource = self._scpi.resource
        self.modbus_url = self._meter.url
        self.modbus_map = self._meter.kind

    def close(self) -> None:
        """Close both ports; what was set stays, but for levels at pins. Twice is fine."""
        self._scpi.close()
        self._meter.close()
        self._bench.release()

    def __enter__(self) -> Instruments:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Bench:
    """What the commands act on. The first of the references is this instrument's own meter."""

    def __init__(
        self,
        circuit: Circuit,
        environment: Environment,
        wiring: Wiring,
        references: Sequence[Reference],
        seed: int,
    ) -> None:
        self._circuit = circuit
        self._environment = environment
        self._wiring = wiring
        self._references = references
        self._seed = seed
        self._lock = threading.RLock()
        self._first = circuit.supply(), environment.temperature()
        rng = np.random.default_rng([seed, 0x7E4])
        self._thermometer_k = float(rng.uniform(-_THERMOMETER_K, _THERMOMETER_K))

    def commands(self) -> dict[str, Command]:
        """Every command by its header."""
        found: dict[str, Command] = {
            "*IDN?": lambda _, parameters: self._identity(parameters),
            "*RST": lambda _, parameters: self._reset(parameters),
            "*OPC?": lambda _, parameters: _told("1", parameters),
            "SOURce:FREQuency": lambda _, parameters: self._set_frequency(parameters),
            "SOURce:FREQuency?": lambda _, parameters: _told(
                _form(self._circuit.supply().frequency), parameters
            ),
            "SOURce:TEMPerature": lambda _, parameters: self._set_temperature(parameters),
            "SOURce:TEMPerature?": lambda _, parameters: _told(
                _form(self._environment.temperature()), parameters
            ),
            "SOURce:DC": lambda _, parameters: self._set_level(parameters),
            "SOURce:DC?": lambda _, parameters: self._level(parameters),
            "MEASure:FREQuency?": lambda _, parameters: _told(
                _form(self._references[0].read().get("f")), parameters
            ),
            "MEASure:TEMPerature?": lambda _, parameters: _told(
                _form(self._environment.temperature() + self._thermometer_k), parameters
            ),
        }
        for word, name in (
            ("VOLTage", "voltage"),
            ("CURRent", "current"),
            ("PHASe", "phase_deg"),
        ):
            found[f"SOURce:{word}#"] = partial(self._set, name)
            found[f"SOURce:{word}#?"] = partial(self._setting, name)
        for word, kind, form in (
            ("VOLTage", "v", "mean"),
            ("CURRent", "i", "mean"),
            ("POWer", "p", "sum"),
            ("REACtive", "q", "sum"),
        ):
            found[f"MEASure:{word}#?"] = partial(self._measure, kind, form)
        return found

    def release(self) -> None:
        """Give every pin back to its sensor."""
        for source in self._wiring.adc.values():
            if isinstance(source, AdcInput):
                source.level_mv = None

    # -- commands --------------------------------------------------------------------------

    def _identity(self, parameters: list[str]) -> str:
        return _told(_IDENTITY.format(self._seed), parameters)

    def _reset(self, parameters: list[str]) -> None:
        none(parameters)
        supply, celsius = self._first
        with self._lock:
            self.release()
            self._environment.set(temperature=celsius)
            self._change(
                voltage=supply.voltage,
                current=supply.current,
                phase_deg=supply.phase_deg,
                frequency=supply.frequency,
            )

    def _set(self, name: str, phase: int | None, parameters: list[str]) -> None:
        value = number(parameters)
        with self._lock:
            values = list(getattr(self._circuit.supply(), name))
            for k in self._phases(phase):
                values[k] = value
            self._change(**{name: values})

    def _setting(self, name: str, phase: int | None, parameters: list[str]) -> str:
        none(parameters)
        values = getattr(self._circuit.supply(), name)
        return ",".join(_form(values[k]) for k in self._phases(phase))

    def _measure(self, kind: str, form: str, phase: int | None, parameters: list[str]) -> str:
        none(parameters)
        self._phases(phase)
        name = f"{kind}_{form}" if phase is None else f"{kind}{phase}"
        return _form(self._references[0].read().get(name))

    def _set_frequency(self, parameters: list[str]) -> None:
        self._change(frequency=number(parameters))

    def _set_temperature(self, parameters: list[str]) -> None:
        self._environment.set(temperature=_within(number(parameters), _CHAMBER_C))

    def _set_level(self, parameters: list[str]) -> None:
        if len(parameters) < 2:
            raise ScpiError(-109)
        source = self._pin(parameters[0])
        if [part.upper() for part in parameters[1:]] == ["OFF"]:
            source.level_mv = None
        else:
            source.level_mv = _within(number(parameters[1:]), _PIN_MV)

    def _level(self, parameters: list[str]) -> str:
        if not parameters:
            raise ScpiError(-109)
        level = self._pin(parameters[0]).level_mv
        return "OFF" if level is None else _form(level)

    # -- arguments -------------------------------------------------------------------------

    def _change(self, **new: Any) -> None:
        self._circuit.set(**new)
        for reference in self._references:
            reference.restart()

    def _phases(self, phase: int | None) -> range:
        if phase is None:
            return range(self._circuit.phases)
        if not 1 <= phase <= self._circuit.phases:
            raise ScpiError(-114)
        return range(phase - 1, phase)

    def _pin(self, text: str) -> AdcInput:
        source = self._wiring.adc.get(int(text)) if text.isdecimal() else None
        if not isinstance(source, AdcInput):
            pins = ", ".join(map(str, sorted(self._wiring.adc)))
            raise ScpiError(-222, f"pin {text[:10]} has no sensor; there are {pins or 'none'}")
        return source


def _told(answer: str, parameters: list[str]) -> str:
    none(parameters)
    return answer


def _form(value: float) -> str:
    """Seven digits."""
    return f"{value:.6E}"


def _within(value: float, limits: tuple[float, float]) -> float:
    if not limits[0] <= value <= limits[1]:
        raise ScpiError(-222, f"{limits[0]:g} to {limits[1]:g}")
    return value
