"""A reference meter on the wires of a circuit: the truth of the last second, but for its own error."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np

from gridnode_host.bench.chips.meter_values import Energies, MeterValues
from gridnode_host.bench.mains import Circuit

UNCERTAINTY_PERCENT = 0.02
"""Of V, A, W and var, k = 2; everything else is derived or better."""

_WINDOW_S = 1.0
_GAIN_SPREAD, _SCATTER = 8e-5, 1e-5  # standard deviations, cut at two of them
_FREQUENCY_SPREAD = 2e-6
_STEP_WH = 0.01
_PHASES = (1, 2, 3)


class Reference:
    """One meter with an error of its own, the same at every reading but for a little scatter."""

    def __init__(self, circuit: Circuit, seed: int = 0) -> None:
        self._circuit = circuit
        self._lock = threading.Lock()
        self._rng = np.random.default_rng([seed, 0x2EF])
        self._errors = {
            f"{kind}{phase}": self._draw(_GAIN_SPREAD) for kind in "vipq" for phase in _PHASES
        }
        self._errors["f"] = self._draw(_FREQUENCY_SPREAD)
        self._energies = Energies(circuit, circuit.now(), sensed=False)
        self._on_since = self._began = circuit.now() - _WINDOW_S

    def restart(self) -> None:
        """Forget what was before now: the source has been set anew."""
        self._began = self._circuit.now()

    def read(self, unit_wh: float = 1.0) -> Reading:
        """Everything as of now; energies in this unit."""
        with self._lock:
            now = self._circuit.now()
            since = max(now - _WINDOW_S, self._began)
            until = max(now, since + 1e-3)  # where time stands still, of the moment
            self._energies.count(now)
            values = MeterValues(
                self._circuit,
                since,
                until,
                energies=self._energies,
                unit_wh=unit_wh,
                step_wh=_STEP_WH,
                on_since=self._on_since,
            )
            scatter = {name: self._draw(_SCATTER) for name in self._errors}
            factors = {n: (1.0 + e) * (1.0 + scatter[n]) for n, e in self._errors.items()}
            return Reading(values, factors, self._circuit.phases)

    def _draw(self, sigma: float) -> float:
        return float(np.clip(self._rng.normal(0.0, sigma), -2 * sigma, 2 * sigma))


class Reading:
    """What a reference meter tells, by the names of `MeterValues.get`.

    Sums, means, apparent powers and power factors are those of the values that it tells.
    """

    def __init__(self, values: MeterValues, factors: dict[str, float], phases: int) -> None:
        self._values = values
        self._factors = factors
        self._phases = phases

    def get(self, name: str) -> float:
        """A value in V, A, W, var, VA, Hz, degrees, % or Wh."""
        kind, _, form = name.partition("_")
        if kind[:-1] in ("s", "pf") and kind[-1].isdigit():
            return self._derived(kind[:-1], kind[-1])
        if kind in ("v", "i", "p", "q", "s") and form in ("sum", "mean"):
            total = sum(map(partial(self._of, kind), range(1, self._phases + 1)))
            return total if form == "sum" else total / self._phases
        if name == "pf":
            return _ratio(self.get("p_sum"), self.get("s_sum"))
        return self._values.get(name) * self._factors.get(name, 1.0)

    def _of(self, kind: str, phase: int) -> float:
        return self.get(f"{kind}{phase}")

    def _derived(self, kind: str, phase: str) -> float:
        apparent = self.get(f"v{phase}") * self.get(f"i{phase}")
        if kind == "s":
            return apparent
        return _ratio(self.get(f"p{phase}"), apparent)


def _ratio(active: float, apparent: float) -> float:
    return min(max(active / apparent, -1.0), 1.0) if apparent else 0.0
