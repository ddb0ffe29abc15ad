"""Clamps and voltage transformers on the converter of the ESP32 itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gridnode_host.bench.chips.esp32_adc import NOISE_MV, Esp32Adc
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.segment import Floats
from gridnode_host.bench.sensors import Saturation, Sensor
from gridnode_host.bench.site import Site, Spec, Wired

_BIAS_SPREAD_MV = 8.0
_SATURATION = 1.4  # of the rated current, where the core of a clamp without a model gives way


class AdcInput:
    """One converter pin with its sensor: what `Wiring.adc` holds."""

    def __init__(
        self,
        circuit: Circuit,
        quantity: str,
        phase: int,
        *,
        sensor: Sensor,
        adc: Esp32Adc,
        bias_mv: float,
        seed: int = 0,
        shape: Callable[[Floats], Floats] | None = None,
    ) -> None:
        self.circuit = circuit
        self.quantity = quantity
        self.phase = phase
        self.sensor = sensor
        self.bias_mv = bias_mv
        self.level_mv: float | None = None
        """A direct voltage at the pin in place of the sensor, mV; None: the sensor."""
        self._adc = adc
        self._shape = shape
        self._rng = np.random.default_rng([seed, 0x1290])

    def sample(self, t: Floats, atten: int = 3) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
        """12-bit counts at the rig times `t`; `atten` is MicroPython's ATTN constant."""
        level = self.level_mv
        if level is not None:
            return self._adc.convert(np.full(len(t), level), self._rng, atten)
        sensor = self.sensor
        signal = self.circuit.signal(
            self.quantity, self.phase, t, transfer=sensor.transfer, pickup=sensor.pickup
        )
        if self._shape is not None:
            signal = self._shape(signal)
        return self._adc.convert(self.bias_mv + sensor.mv * signal, self._rng, atten)

    def millivolts(self, counts: Floats, atten: int = 3) -> Floats:
        """The chip's own calibrated reading of counts (`ADC.read_uv`), mV."""
        return self._adc.calibrated(counts, atten)


def wire(spec: Spec, site: Site) -> Wired:
    """Solder every channel of a `ct` meter to its pin; the model is the unit's converter."""
    parts = site.parts
    adc = Esp32Adc(site.seed, site.ideal, NOISE_MV * parts.noise)
    channels: dict[str, list[tuple[Sensor, dict[str, Any]]]] = {"voltage": [], "current": []}
    for quantity, pick in (("voltage", parts.voltage), ("current", parts.current)):
        for phase, channel in enumerate(spec[quantity]):
            sensor, exact = pick(channel)
            channels[quantity].append((sensor, exact))
            saturation = channel.get("saturation_a", _SATURATION * parts.rated(channel))
            core = Saturation(math.sqrt(2.0) * saturation)
            site.wiring.adc[channel["adc"]] = AdcInput(
                site.circuit,
                quantity,
                phase,
                sensor=sensor,
                adc=adc,
                bias_mv=channel.get("bias_mv", 1650.0) + parts.spread(_BIAS_SPREAD_MV),
                seed=site.seed * 64 + channel["adc"],
                shape=core if quantity == "current" else None,
            )
    return adc, {
        "adc_table": adc.table(),
        "adc_noise_mv": round(math.hypot(adc.noise_mv, adc.count_mv / math.sqrt(12.0)), 3),
        **parts.exact(channels["voltage"], channels["current"]),
    }
