"""Values of a circuit under the names and units of the report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gridnode_host.bench.segment import Floats, Segment, Values


def averaged(parts: list[tuple[Segment, float, float]], sensed: bool = False) -> Values:
    """Means over `(segment, from, to)` stretches: rms as the root of the mean of squares.

    Of what is on the wires, or (`sensed`) of what reaches the sensors.
    """
    stretches = [(seg.sensed if sensed else seg.values, to - since) for seg, since, to in parts]
    total = sum(weight for _, weight in stretches)

    def mean(name: str, power: int = 1) -> Any:
        return sum(getattr(one, name) ** power * weight for one, weight in stretches) / total

    return Values(
        frequency=float(mean("frequency")),
        v2=mean("v2"),
        i2=mean("i2"),
        v1=np.sqrt(mean("v1", 2)),
        i1=np.sqrt(mean("i1", 2)),
        vh2=mean("vh2"),
        ih2=mean("ih2"),
        p=mean("p"),
        p1=mean("p1"),
        q=mean("q"),
        s=mean("s"),
        u2=mean("u2"),
        n2=float(mean("n2")),
    )


def report(values: Values, imported: Floats, exported: Floats) -> dict[str, Any]:
    """The report's names: flat for one phase, with `l1`.. and totals for more.

    `imported` and `exported` are Wh per phase and then of their total. Voltage, current and
    THD of several phases are means, powers are sums (apparent power the arithmetic one).
    """
    lines = [
        _phase(values, p, float(imported[p]), float(exported[p])) for p in range(len(values.p))
    ]
    if len(lines) == 1:
        return lines[0]
    total: dict[str, Any] = {}
    for name in ("voltage", "current", "thd_voltage", "thd_current"):
        present = [line[name] for line in lines if line[name] is not None]
        total[name] = sum(present) / len(present) if present else None
    for name in ("power", "reactive_power", "apparent_power"):
        total[name] = sum(line[name] for line in lines)
    total["power_factor"] = _ratio(total["power"], total["apparent_power"])
    total["frequency"] = values.frequency
    total["energy_import_wh"] = float(imported[-1])
    total["energy_export_wh"] = float(exported[-1])
    for number, line in enumerate(lines, 1):
        del line["frequency"]
        total[f"l{number}"] = line
    return total


def _phase(values: Values, p: int, imported: float, exported: float) -> dict[str, Any]:
    distortion_v = _ratio(math.sqrt(values.vh2[p]), float(values.v1[p]))
    distortion_i = _ratio(math.sqrt(values.ih2[p]), float(values.i1[p]))
    return {
        "voltage": math.sqrt(values.v2[p]),
        "current": math.sqrt(values.i2[p]),
        "power": float(values.p[p]),
        "reactive_power": float(values.q[p]),
        "apparent_power": float(values.s[p]),
        "power_factor": _ratio(float(values.p[p]), float(values.s[p])),
        "frequency": values.frequency,
        "thd_voltage": None if distortion_v is None else 100.0 * distortion_v,
        "thd_current": None if distortion_i is None else 100.0 * distortion_i,
        "energy_import_wh": imported,
        "energy_export_wh": exported,
    }


def _ratio(over: float, under: float) -> float | None:
    return over / under if under > 1e-9 else None
