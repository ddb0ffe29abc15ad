"""Faults of a three-phase feeder, of which several signals tell: four of each kind a stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.random import Generator

from gridnode_host.detection.draft import Calendar, Draft
from gridnode_host.detection.feeder import AMPERES, PHASES, VOLTS, WATTS, Feeder
from gridnode_host.detection.feeder_sensor_faults import (
    Plan,
    condensation,
    ct_disconnected,
    ct_reversed,
    ct_saturation,
    neutral_removed,
    overheating_joint,
    overheating_load,
    sensor_disconnected,
    sensor_stuck,
)
from gridnode_host.detection.site import TRAIN_ROWS
from gridnode_host.detection.stream_file import Floats

__all__ = ["MORE", "USUAL", "more", "usual"]

_EACH = 4  # events of each kind
_MARGIN = 10  # rows between learning and the first event


def _short_circuit(plan: Plan) -> None:
    """A phase to neutral, until a fuse clears it: volts fall at what is left of the supply."""
    rng, state, k = plan.rng, plan.state, plan.phase()
    rows = plan.take(1, 3)
    times, left = rng.uniform(3.0, 8.0), rng.uniform(0.2, 0.76)
    state.share[k, rows] = times / left
    state.ohm[k, rows] = 230.0 * (1 - left) / (times * plan.feeder.rating_a)
    state.aged[rows] = 0.02  # seconds of the row
    plan.draft.mark(rows, "short_circuit", [VOLTS[k], AMPERES[k]])


def _phase_loss(plan: Plan) -> None:
    """A fuse of the supply is gone; motors give a little voltage back and draw more elsewhere."""
    rng, state, k = plan.rng, plan.state, plan.phase()
    rows = plan.take(5, 45)
    state.open_v[k, rows] = 230.0 * rng.uniform(0.0, 0.4)
    state.share[:, rows] = np.minimum(state.share[:, rows] * rng.uniform(1.0, 1.2), 0.95)
    state.share[k, rows] = 0.0
    plan.draft.mark(rows, "phase_loss", [VOLTS[k], AMPERES[k], WATTS[k]])


def _neutral_loss(plan: Plan) -> None:
    """The star point floats to where the unequal loads pull it."""
    rng, state, k = plan.rng, plan.state, plan.phase()
    rows = plan.take(5, 45)
    light = (k + int(rng.integers(1, 3))) % 3
    state.neutral[rows] = 0.0
    share = state.share[:, rows]
    while _worst_shift(share) < rng.uniform(0.15, 0.35) and share[light].mean() > 0.005:
        share[light] *= 0.8
        share[k] = np.minimum(share[k] * 1.15, 0.9)
    plan.draft.mark(rows, "neutral_loss", ["i_n"])

    def blame() -> None:
        for name in VOLTS:
            values = plan.draft.values[name]
            far = np.zeros(len(values), dtype=bool)
            far[rows] = np.abs(values[rows] / 230.0 - 1) > 0.05
            plan.draft.mark(far, "neutral_loss", [name])

    plan.after.append(blame)


def _worst_shift(share: Floats) -> float:
    """How far the star point moves, over the phase voltage."""
    mean = share.mean(axis=1)
    turned = np.exp(-2j * np.pi / 3 * np.arange(3))
    return float(abs((mean * turned).sum()) / mean.sum())


def _overload(plan: Plan) -> None:
    """One phase or all beyond the rating."""
    rng, state = plan.rng, plan.state
    rows = plan.take(8, 45, tail=plan.cooling // 2)
    phases = list(PHASES) if rng.random() < 0.5 else [plan.phase()]
    for k in phases:
        level = rng.uniform(1.14, 1.6)
        state.share[k, rows] = level * rng.normal(1.0, 0.01, rows.stop - rows.start)
    plan.draft.mark(rows, "overload", [AMPERES[k] for k in phases])


def _level(low: float, high: float, name: str, plan: Plan) -> None:
    """All phases at a share of the nominal voltage."""
    rows = plan.take(1, 15)
    usual = np.mean([plan.draft.clean[v][rows].mean() for v in VOLTS])
    plan.state.open_v[:, rows] *= plan.rng.uniform(low, high) * 230.0 / usual
    plan.draft.mark(rows, name, VOLTS)


def _unbalance(plan: Plan) -> None:
    """One phase is off by more than the others."""
    rng, k = plan.rng, plan.phase()
    rows = plan.take(15, 60)
    plan.state.open_v[k, rows] *= 1 + rng.uniform(0.09, 0.15) * (-1 if rng.random() < 0.8 else 1)
    plan.draft.mark(rows, "unbalance", [VOLTS[k]])
    plan.draft.spare(rows, VOLTS)


Fault = Callable[[Plan], None]

USUAL: dict[str, Fault] = {
    "overheating_joint": overheating_joint,
    "sensor_stuck": sensor_stuck,
    "condensation": condensation,
    "ct_reversed": ct_reversed,
    "ct_disconnected": ct_disconnected,
    "neutral_loss": _neutral_loss,
    "phase_loss": _phase_loss,
    "overload": _overload,
    "voltage_sag": partial(_level, 0.5, 0.875, "voltage_sag"),
    "voltage_swell": partial(_level, 1.125, 1.25, "voltage_swell"),
    "short_circuit": _short_circuit,
}
"""Longest first: the long ones need the room."""

MORE: dict[str, Fault] = {
    "ct_saturation": ct_saturation,
    "overheating_load": overheating_load,
    "sensor_disconnected": sensor_disconnected,
    "neutral_removed": neutral_removed,
    "unbalance": _unbalance,
    "interruption": partial(_level, 0.0, 0.04, "interruption"),
}


def usual(rng: Generator, feeder: Feeder, draft: Draft) -> None:
    """44 events of 11 kinds."""
    _put(USUAL, rng, feeder, draft)


def more(rng: Generator, feeder: Feeder, draft: Draft) -> None:
    """24 events of 6 further kinds."""
    _put(MORE, rng, feeder, draft)


def _put(faults: dict[str, Fault], rng: Generator, feeder: Feeder, draft: Draft) -> None:
    calendar = Calendar(rng, len(feeder.t), TRAIN_ROWS + _MARGIN)
    plan = Plan(rng, feeder, draft, feeder.state.copy(), calendar)
    for fault in faults.values():
        for _ in range(_EACH):
            fault(plan)
    draft.values = feeder.readings(plan.state)
    for change in plan.after:
        change()
