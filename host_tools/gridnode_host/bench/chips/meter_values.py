"""What a three-phase meter tells: means of a circuit by name, and counters of energy."""

from __future__ import annotations

import math

import numpy as np

from gridnode_host.bench import truth
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.segment import Floats, Segment, Values

_DECIMALS = 5  # of what a meter tells; finer is the arithmetic of the bench


class Energies:
    """Counters in Wh, varh, VAh and Ah: `[L1, L2, L3, total]` each, never falling.

    The total goes by the sign of the total power, so that it is not the sum of the phases where
    one exports while another imports. Reactive energy imported is the inductive one. What counts
    is what reaches the meter (`sensed`), or what is on the wires.
    """

    def __init__(self, circuit: Circuit, start: float, *, sensed: bool = True) -> None:
        self.e_import = np.zeros(4)
        self.e_export = np.zeros(4)
        self.eq_import = np.zeros(4)
        self.eq_export = np.zeros(4)
        self.es = np.zeros(4)
        self.ah = np.zeros(4)
        self._circuit = circuit
        self._sensed = sensed
        self._until = start

    def count(self, until: float) -> None:
        """Count up to a rig time."""
        if until <= self._until:
            return
        for segment, since, to in self._circuit.segments(self._until, until):
            means, hours = self.means(segment), (to - since) / 3600.0
            for imported, exported, power in (
                (self.e_import, self.e_export, means.p),
                (self.eq_import, self.eq_export, means.q),
            ):
                values = _with_total(power) * hours
                np.add(imported, np.maximum(values, 0.0), out=imported)
                np.add(exported, np.maximum(-values, 0.0), out=exported)
            self.es += _with_total(means.s) * hours
            self.ah += _with_total(np.sqrt(means.i2)) * hours
        self._until = until

    def means(self, segment: Segment) -> Values:
        """What counts of a stretch of the circuit."""
        return segment.sensed if self._sensed else segment.values

    def over(self, since: float, until: float) -> Values:
        """Means between two rig times."""
        parts = self._circuit.segments(since, until)
        return truth.averaged(parts, sensed=self._sensed)


class MeterValues:
    """Means between two rig times, by name: `get("v1")`, `get("p_sum")`.

    A name with a phase's number behind it is that phase's (0 for one that is not there), and
    without one the system's. Units: V, A, W, VA, var, degrees that the current lags, Hz, %, and
    energies in `unit_wh`, whole multiples of `step_wh`. `lines_only` is a three-wire system,
    where v1 to v3 are line to line. The meter is on since the rig time `on_since`.
    """

    def __init__(
        self,
        circuit: Circuit,
        since: float,
        until: float,
        *,
        energies: Energies,
        unit_wh: float = 1.0,
        step_wh: float = 1.0,
        demand_s: float = 3600.0,
        on_since: float = -math.inf,
        lines_only: bool = False,
    ) -> None:
        self._circuit = circuit
        self._until = until
        self._energies = energies
        self._unit_wh = unit_wh
        self._step_wh = step_wh
        self._demand_s = demand_s
        self._demand_since = max(until - demand_s, on_since)
        self._values = self._named(energies.over(since, until), lines_only) if until > since else {}

    def get(self, name: str) -> float:
        """A value; 0 before anything was measured."""
        kind, number = (name[:-1], int(name[-1]) - 1) if name[-1].isdigit() else (name, 3)
        if kind in ("e_total", "eq_total"):
            kind = kind.removesuffix("_total")
            return self._energy(f"{kind}_import", number) + self._energy(f"{kind}_export", number)
        if hasattr(self._energies, kind):
            return self._energy(kind, number)
        if name == "demand":
            return self._demand()
        return round(self._values.get(name, 0.0), _DECIMALS) + 0.0  # no negative zero

    def _energy(self, name: str, number: int) -> float:
        counted = float(getattr(self._energies, name)[number])
        return counted // self._step_wh * self._step_wh / self._unit_wh

    def _demand(self) -> float:
        """Mean imported power over the demand period that ends now, W; 0 before it was on."""
        parts = self._circuit.segments(self._demand_since, self._until)
        means = self._energies.means
        powers = [max(float(means(seg).p.sum()), 0.0) * (to - since) for seg, since, to in parts]
        return sum(powers) / self._demand_s

    def _named(self, m: Values, lines_only: bool) -> dict[str, float]:
        count = len(m.p)
        volts, amperes, between = np.sqrt(m.v2), np.sqrt(m.i2), np.sqrt(m.u2)
        out = {"f": m.frequency, "i_n": math.sqrt(m.n2)}
        if count == 3:
            out |= {"v12": float(between[0]), "v23": float(between[1]), "v31": float(between[2])}
        if lines_only:
            volts = between
        pf, angle = _ratios(m.p, m.s), np.degrees(np.arctan2(m.q, m.p1))
        for name, values in (
            ("v", volts),
            ("i", amperes),
            ("p", m.p),
            ("s", m.s),
            ("q", m.q),
            ("pf", pf),
            ("angle", angle),
            ("thd_v", 100.0 * _ratios(np.sqrt(m.vh2), m.v1)),
            ("thd_i", 100.0 * _ratios(np.sqrt(m.ih2), m.i1)),
        ):
            out |= {f"{name}{k + 1}": float(value) for k, value in enumerate(values)}
            out[f"{name}_sum"] = float(values.sum())
            out[f"{name}_mean"] = float(values.mean())
        out["pf"] = out["p_sum"] / out["s_sum"] if out["s_sum"] else 0.0
        out["angle"] = math.degrees(math.atan2(float(m.q.sum()), float(m.p1.sum())))
        out["thd_v"], out["thd_i"] = out["thd_v_mean"], out["thd_i_mean"]
        return out


def _ratios(over: Floats, under: Floats) -> Floats:
    return np.divide(over, under, out=np.zeros(len(over)), where=under > 1e-9)


def _with_total(values: Floats) -> Floats:
    """Of three phases (missing ones are 0) and of their sum."""
    out = np.zeros(4)
    out[: len(values)] = values
    out[3] = values.sum()
    return out
