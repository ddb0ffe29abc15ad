"""Faults of a feeder's clamps, joint, air and sensors, and the plan that all faults work on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from gridnode_host.detection.curves import stretches
from gridnode_host.detection.draft import Calendar, Draft
from gridnode_host.detection.feeder import AMPERES, PHASES, VOLTS, WATTS, Feeder, State
from gridnode_host.detection.placing import ahead, longest_rest
from gridnode_host.detection.site import TRAIN_ROWS
from gridnode_host.detection.stream_file import Flags, Floats

__all__ = [
    "Plan",
    "condensation",
    "ct_disconnected",
    "ct_reversed",
    "ct_saturation",
    "neutral_removed",
    "overheating_joint",
    "overheating_load",
    "sensor_disconnected",
    "sensor_stuck",
]

_GAP = 15  # rows between events
_COOLING = 2.2  # time constants before the next event, where heat has to go
_DAMP = 90.0  # %, from which on water may condense
_HOT_K = 8.0  # above what is usual


@dataclass
class Plan:
    """What is under way: the state that faults change, and changes to what is read of it."""

    rng: Generator
    feeder: Feeder
    draft: Draft
    state: State
    calendar: Calendar
    after: list[Callable[[], None]] = field(default_factory=list)

    def take(self, least: int, most: int, where: Flags | None = None, tail: int = 0) -> slice:
        """Free rows, `least` to `most`; see `Calendar.take`."""
        return self.calendar.take(int(self.rng.integers(least, most + 1)), _GAP, where, tail)

    def phase(self) -> int:
        return int(self.rng.integers(3))

    @property
    def cooling(self) -> int:
        """Rows in which a joint cools."""
        return int(_COOLING * self.feeder.heat.slow)

    def above(self) -> Floats:
        """K of the sound joint above the air."""
        return self.draft.clean["t_joint"] - self.draft.clean["t_ambient"]


def overheating_joint(plan: Plan) -> None:
    """A loose joint: more resistance, more heat from the same current."""
    rise = plan.above()
    rows = plan.take(100, 150, ahead(rise, 60, 0.4), plan.cooling)
    plan.state.aged[rows] = 1 + plan.rng.uniform(20, 45) / max(float(rise[rows].max()), 1.5)
    plan.draft.mark(rows, "overheating_joint", ["t_joint"], growing=True)


def overheating_load(plan: Plan) -> None:
    """The joint is too hot because the load is at the rating for long."""
    rng, state = plan.rng, plan.state
    rows = plan.take(150, 220, tail=plan.cooling)
    for k in PHASES:
        state.share[k, rows] = rng.uniform(0.98, 1.0) * rng.normal(
            1, 0.003, rows.stop - rows.start
        )
    state.aged[rows] = rng.uniform(75, 95) / plan.feeder.heat.rise_k

    def blame() -> None:
        off = plan.draft.values["t_joint"] - plan.draft.clean["t_joint"]
        hot = np.zeros(len(off), dtype=bool)
        hot[rows] = off[rows] > _HOT_K
        plan.draft.mark(hot, "overheating_load", ["t_joint", *AMPERES])

    plan.after.append(blame)


def condensation(plan: Plan) -> None:
    """Moist air comes in, and goes again."""
    rng, state = plan.rng, plan.state
    rows = plan.take(50, 110, tail=60)
    t_air = plan.feeder.air.temperature
    until = min(rows.stop + 240, len(t_air))
    level = np.zeros(until - rows.start)
    inside = rows.stop - rows.start
    level[:inside] = 1 - np.exp(-np.arange(inside) / rng.uniform(3, 12))
    level[inside:] = level[inside - 1] * np.exp(-np.arange(until - rows.stop) / rng.uniform(5, 15))
    wet = t_air[rows.start : until] - rng.uniform(0.05, 0.6)
    dew = state.dew_point[rows.start : until]
    dew += level * (wet - dew)

    def blame() -> None:
        damp = np.zeros(len(t_air), dtype=bool)
        damp[rows.start : until] = plan.draft.values["humidity"][rows.start : until] >= _DAMP
        plan.draft.mark(damp, "condensation", ["humidity"])

    plan.after.append(blame)


def ct_reversed(plan: Plan) -> None:
    """A clamp sits the wrong way round."""
    k = plan.phase()
    rows = plan.take(25, 90, ahead(plan.state.share[k], 60, 0.15))

    def turn() -> None:
        plan.draft.values[WATTS[k]][rows] *= -1

    plan.after.append(turn)
    plan.draft.mark(rows, "ct_reversed", [WATTS[k]])


def ct_disconnected(plan: Plan) -> None:
    """A clamp is off, its phase is not."""
    k = plan.phase()
    rows = plan.take(15, 75, ahead(plan.state.share.min(axis=0), 45, 0.2))

    def open_clamp() -> None:
        nothing = np.zeros(rows.stop - rows.start)
        for name in (AMPERES[k], WATTS[k]):
            plan.draft.values[name][rows] = plan.feeder.shown(name, nothing, rows)

    plan.after.append(open_clamp)
    plan.draft.mark(rows, "ct_disconnected", [AMPERES[k], WATTS[k]])


def ct_saturation(plan: Plan) -> None:
    """A clamp cannot follow the load while it stays high."""
    rng, share = plan.rng, plan.state.share
    for k in rng.permutation(3):
        high = rng.uniform(0.55, 0.72) * share[k, :TRAIN_ROWS].max()
        runs = [run for run in stretches(share[k] > high * 1.03) if run[1] - run[0] >= 15]
        for first, last in rng.permutation(np.array(runs).reshape(-1, 2)):
            rows = slice(int(first), min(int(last) + 1, int(first) + 120))
            if rows.start > TRAIN_ROWS + _GAP and plan.calendar.claim(rows, _GAP):
                _clip(plan, int(k), rows, high)
                return


def _clip(plan: Plan, k: int, rows: slice, high: float) -> None:
    bend = plan.rng.uniform(0.0, 0.05)
    limit = high * plan.feeder.rating_a

    def saturate() -> None:
        values = plan.draft.values[AMPERES[k]]
        clipped = np.minimum(values[rows], limit + bend * (values[rows] - limit))
        ratio = clipped / np.maximum(values[rows], 1e-9)
        noise = plan.feeder.noise[AMPERES[k]][rows]
        values[rows] = plan.feeder.shown(AMPERES[k], clipped - noise, rows)
        plan.draft.values[WATTS[k]][rows] = np.round(plan.draft.values[WATTS[k]][rows] * ratio, 1)

    plan.after.append(saturate)
    plan.draft.mark(rows, "ct_saturation", [AMPERES[k]], growing=True)


def neutral_removed(plan: Plan) -> None:
    """Someone took the meter's neutral away: currents without voltage."""
    rows = plan.take(15, 90)

    def remove() -> None:
        left = plan.rng.uniform(0.0, 0.02)
        for k in PHASES:
            for name in (VOLTS[k], WATTS[k]):
                true = plan.draft.values[name][rows] * left
                plan.draft.values[name][rows] = plan.feeder.shown(name, true, rows)

    plan.after.append(remove)
    plan.draft.mark(rows, "neutral_removed", VOLTS)


def sensor_stuck(plan: Plan) -> None:
    """A signal that usually moves stands still."""
    names = (*VOLTS, *AMPERES, "t_joint", "t_ambient", "humidity")
    rests = {name: longest_rest(plan.draft.clean[name][:TRAIN_ROWS]) for name in names}
    name = str(plan.rng.choice([name for name in names if rests[name] <= 25]))
    rows = plan.take(max(60, int(2.5 * rests[name]) + 12), 150)

    def hold() -> None:
        plan.draft.values[name][rows] = plan.draft.values[name][rows.start]

    plan.after.append(hold)
    plan.draft.mark(rows, "sensor_stuck", [name])


def sensor_disconnected(plan: Plan) -> None:
    """A sensor reads nothing, or what its bus gives without it."""
    ways = [("t_joint", -127.0), ("t_joint", 85.0), ("t_joint", math.nan)]
    ways += [("t_ambient", math.nan), ("humidity", math.nan), ("humidity", 0.0)]
    name, value = ways[int(plan.rng.integers(len(ways)))]
    rows = plan.take(10, 90)

    def lose() -> None:
        plan.draft.values[name][rows] = value

    plan.after.append(lose)
    plan.draft.mark(rows, "sensor_disconnected", [name])
