"""How steady the load is, judged live as the node will judge it in a step."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gridnode_host.calibrate.quantities import UNITS
from gridnode_host.calibrate.session import Meter

_WINDOWS = 3  # of 2 s each
_SHARE = 0.5  # % of the value that windows may differ
_NOISE = 0.02  # % of the rated value on top, for currents and powers


@dataclass(frozen=True)
class State:
    """One value: how much it moves between windows and what is allowed, both in % of it."""

    value: float
    spread: float | None
    limit: float

    @property
    def steady(self) -> bool:
        """Whether a step would accept it; False until enough windows are there."""
        return self.spread is not None and self.spread <= self.limit


class Steadiness:
    """The last windows of a meter."""

    def __init__(self, meter: Meter, quantities: Sequence[str], phases: Sequence[int]) -> None:
        self._meter = meter
        self._names = [name for name in quantities if name in meter.names]
        self._phases = phases
        self._windows: deque[Sequence[Mapping[str, Any]]] = deque(maxlen=_WINDOWS)
        self._quality: Mapping[str, str] = {}
        self._celsius: float | None = None

    def add(self, observed: Mapping[str, Any]) -> None:
        """Take one window of the node."""
        self._windows.append(observed["values"])
        self._quality = observed.get("quality") or {}
        self._celsius = observed.get("temperature")

    def state(self, phase: int, name: str) -> State | None:
        """Return how steady a value is; None if the node does not measure it now."""
        row = self._meter.row(phase)
        values = [window[row].get(name) for window in self._windows if row < len(window)]
        numbers = [float(value) for value in values if value is not None]
        if not numbers or values[-1] is None:
            return None
        value = numbers[-1]
        floor = 0.0 if name == "voltage" else _NOISE * self._meter.nominal[name]
        scale = max(abs(value), 1e-9)
        spread = 100 * (max(numbers) - min(numbers)) / scale if len(numbers) > 1 else None
        if len(self._windows) < _WINDOWS:
            spread = None
        return State(value, spread, _SHARE + floor / scale)

    @property
    def steady(self) -> bool:
        """Whether every value is."""
        states = [self.state(phase, name) for phase in self._phases for name in self._names]
        return bool(states) and all(state is not None and state.steady for state in states)

    def view(self) -> Group:
        """Return what a person sees: a row per phase, and what can be typed."""
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for name in self._names:
            table.add_column(f"{name.replace('_', ' ')}, {UNITS[name]}", justify="right")
            table.add_column("moves, %", justify="right")
        for phase in self._phases:
            cells: list[Text | str] = [f"L{phase}" if self._meter.phases > 1 else ""]
            for name in self._names:
                cells += self._cells(phase, name)
            table.add_row(*cells)
        if self._celsius is not None:
            table.add_row(Text(f"{self._celsius:.1f} degC", style="dim"))
        for name, reason in self._quality.items():
            table.add_row(Text(f"{name}: {reason}", style="red"))
        word, style = ("steady", "bold green") if self.steady else ("not steady yet", "yellow")
        keys = f"{word}; Enter = go on, s = skip, u = undo the last step, q = quit"
        return Group(table, Text(keys, style))

    def _cells(self, phase: int, name: str) -> list[Text | str]:
        state = self.state(phase, name)
        if state is None:
            return [Text("none", style="red"), ""]
        if state.spread is None:
            return [f"{state.value:.6g}", Text("...", style="dim")]
        style = "green" if state.steady else "red"
        moves = Text(f"{state.spread:.2f} of {state.limit:.2g}", style=style)
        return [f"{state.value:.6g}", moves]
