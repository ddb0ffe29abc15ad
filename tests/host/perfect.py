"""A perfect algorithm: what the counts of a clamp front end are, with its calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gridnode_host.bench.wiring import Wiring

START = 1_800_000_000.0


def measure(
    wiring: Wiring,
    calibration: Mapping[str, Any],
    profile: Mapping[str, Any],
    seconds: float = 2.0,
    celsius: float = 25.0,
) -> tuple[float, float, float, float]:
    """V, A, W and var of the first phase from START on, on a circuit of 50 Hz."""
    meter, spec = calibration["meters"]["main"], profile["meters"][0]
    t = START + np.arange(0, seconds, 36e-6)
    wave = np.exp(-2j * np.pi * 50 * (t - START))
    rms, first, table = {}, {}, np.array(meter["adc_table"]) / 1000
    for quantity in ("voltage", "current"):
        channel, exact = spec[quantity][0], meter[quantity][0]
        counts = wiring.adc[channel["adc"]].sample(t, 3)
        mv = np.interp(counts, np.arange(129) * 32, table)
        per_unit = channel.get("mv_per_v") or 1000 * channel["burden_ohm"] / channel["ratio"]
        signal = (mv - mv.mean()) / per_unit * exact["gain"]
        noise = meter["adc_noise_mv"] / per_unit * exact["gain"]
        rms[quantity] = math.sqrt(max(0.0, np.mean(signal**2) - noise**2))
        first[quantity] = np.mean(signal * wave) * math.sqrt(2)
        first[quantity] *= np.exp(-1j * np.radians(exact["phase_deg"]))
    # Without load first, then the clamp's curve, then the temperature of both.
    apparent = first["voltage"] * np.conj(first["current"])
    own = meter.get("power", [{"offset_w": 0.0, "offset_var": 0.0, "at_v": 1.0}])[0]
    idle = complex(own["offset_w"], own["offset_var"]) * (rms["voltage"] / own["at_v"]) ** 2
    square = rms["current"] ** 2 - abs(first["current"]) ** 2
    apparent -= idle
    amperes = math.hypot(math.sqrt(max(square, 0.0)), abs(apparent) / abs(first["voltage"]))
    current = spec["current"][0]
    model = current.get("phase_points", ())
    curve = [(at, 1.0, deg - current["phase_deg"]) for at, deg in model]
    curve = meter["current"][0].get("curve", curve)
    gain, lead = curve_at(curve, amperes)
    apparent *= gain * np.exp(1j * np.radians(lead))
    warmer = celsius - meter.get("temperature", celsius)
    warm = [1 + 1e-6 * meter[q][0].get("ppm_per_k", 0.0) * warmer for q in ("voltage", "current")]
    apparent *= warm[0] * warm[1]
    return rms["voltage"] * warm[0], amperes * gain * warm[1], apparent.real, apparent.imag


def curve_at(curve: Sequence[Sequence[float]] | None, amperes: float) -> tuple[float, float]:
    """Gain and lead on top of a channel's own, at a current; of no curve, none."""
    if not curve:
        return 1.0, 0.0
    at, gains, leads = zip(*curve, strict=True)
    return float(np.interp(amperes, at, gains)), float(np.interp(amperes, at, leads))
