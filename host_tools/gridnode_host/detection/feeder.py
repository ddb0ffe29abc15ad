"""A three-phase feeder with 13 signals: per phase V, A, W; neutral, joint, air, humidity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from gridnode_host.detection import surroundings
from gridnode_host.detection.draft import Draft
from gridnode_host.detection.loads import load, starts
from gridnode_host.detection.random_series import ar
from gridnode_host.detection.site import STEP_S, TRAIN_ROWS, lost, times
from gridnode_host.detection.stream_file import Flags, Floats, limits_of
from gridnode_host.detection.surroundings import Air, Heat, Instrument, quantised

__all__ = ["AMPERES", "PHASES", "SIGNALS", "VOLTS", "WATTS", "Feeder", "State"]

PHASES = (0, 1, 2)
VOLTS, AMPERES, WATTS = ("v1", "v2", "v3"), ("i1", "i2", "i3"), ("p1", "p2", "p3")
SIGNALS = (*VOLTS, *AMPERES, "i_n", *WATTS, "t_joint", "t_ambient", "humidity")

_RATINGS = (63.0, 100.0, 160.0, 200.0, 250.0, 400.0, 500.0)
_NOMINAL = {
    "v": (207, 253),
    "i_of_rating": (0, 1.0),
    "t_joint": (-20, 90),
    "t_ambient": (-25, 60),
    "humidity": (0, 95),
}
_DROP_V = 6.0  # most that the supply's resistance costs at the rating
_TURN = np.exp(-2j * math.pi / 3 * np.arange(3))[:, None]  # of the phases

Matrix = Floats
"""[3, rows]"""


@dataclass
class State:
    """What is physically there in every row; faults change it before it is read."""

    open_v: Matrix  # V, without load
    share: Matrix  # of the rating, drawn at nominal voltage
    aged: Floats  # resistance of the joint over a sound one
    dew_point: Floats  # degC
    neutral: Floats  # 1 sound, 0 open
    ohm: Matrix  # of the supply

    def copy(self) -> State:
        return State(**{name: part.copy() for name, part in vars(self).items()})


@dataclass
class Feeder:
    """What the feeder is; readings follow from a state, with the same noise each time."""

    t: Floats  # epoch s
    rating_a: float
    state: State
    air: Air
    heat: Heat
    weight: Floats  # [3], how much each phase warms the joint
    factor: Matrix  # power factor
    third: Matrix  # third harmonic over the fundamental of each current
    instruments: dict[str, Instrument]
    noise: dict[str, Floats]  # per signal, in its unit
    missing: dict[str, Flags]  # per signal: cells that never arrive

    @staticmethod
    def draw(rng: Generator) -> Feeder:
        """Any feeder."""
        t, zone_h = times(rng)
        rows, rating = len(t), float(rng.choice(_RATINGS))
        common, supply = load(rng, t, zone_h), surroundings.supply(rng, t, zone_h)
        shares, volts, factors, thirds = [], [], [], []
        mix = rng.uniform(0.1, 0.45)
        for _ in PHASES:
            own = rng.uniform(0.75, 1.0) * ((1 - mix) * common + mix * load(rng, t, zone_h))
            if rng.random() < 0.3:
                own = starts(rng, own, rng.uniform(0.0005, 0.004), rng.uniform(0.05, 0.3))
            shares.append(own)
            volts.append(supply + rng.uniform(-1.2, 1.2) + ar(rng, rows, 0.25, 60))
            factors.append(np.clip(rng.uniform(0.86, 0.98) + ar(rng, rows, 0.01, 90), 0.8, 1.0))
            thirds.append(np.clip(rng.uniform(0.02, 0.18) + ar(rng, rows, 0.008, 120), 0.0, 0.3))
        air = surroundings.air(rng, t, zone_h)
        ohm = min(rng.uniform(0.02, 0.2), _DROP_V / rating)
        state = State(
            open_v=np.array(volts),
            share=np.array(shares),
            aged=np.ones(rows),
            dew_point=air.dew_point,
            neutral=np.ones(rows),
            ohm=np.full((3, rows), ohm),
        )
        instruments = _instruments(rng, rating)
        return Feeder(
            t=t,
            rating_a=rating,
            state=state,
            air=air,
            heat=Heat.draw(rng),
            weight=rng.dirichlet([8.0, 8.0, 8.0]),
            factor=np.array(factors),
            third=np.array(thirds),
            instruments=instruments,
            noise={name: rng.normal(0, one.noise, rows) for name, one in instruments.items()},
            missing={name: lost(rng, rows) for name in SIGNALS},
        )

    def readings(self, state: State) -> dict[str, Floats]:
        """What is read in a state."""
        volts, amperes, neutral = self._electric(state)
        squared = self.weight @ (amperes / self.rating_a) ** 2
        air = Air(self.air.temperature, state.dew_point)
        true: dict[str, Floats] = {}
        for k in PHASES:
            true[VOLTS[k]], true[AMPERES[k]] = volts[k], amperes[k]
        true["i_n"] = neutral
        for k in PHASES:
            true[WATTS[k]] = volts[k] * amperes[k] * self.factor[k]
        true["t_joint"] = air.temperature + self.heat.above(squared * state.aged)
        true["t_ambient"] = air.temperature
        true["humidity"] = surroundings.humidity(air)
        return {name: self.shown(name, values) for name, values in true.items()}

    def shown(self, name: str, true: Floats, rows: slice | None = None) -> Floats:
        """What the instrument shows of a true series, or of some rows of it."""
        noise = self.noise[name] if rows is None else self.noise[name][rows]
        values = true + noise
        if name[0] in "iv":
            values = np.maximum(values, 0.0)
        return quantised(values, self.instruments[name].step)

    def _electric(self, state: State) -> tuple[Matrix, Matrix, Floats]:
        """Volts, amperes, amperes of the neutral: loads of constant impedance at a star point."""
        turned = state.open_v * _TURN
        angle = np.arccos(self.factor)
        admittance = state.share * self.rating_a / 230.0 * np.exp(-1j * angle)
        behind = admittance / (1 + admittance * state.ohm)  # with the supply's resistance
        total = behind.sum(axis=0)
        star = np.where(
            np.abs(total) > 0, (behind * turned).sum(axis=0) / np.where(total == 0, 1, total), 0
        )
        star = star * (1 - state.neutral)
        current = behind * (turned - star)
        volts = np.abs(turned - star - current * state.ohm)
        amperes = np.abs(current)
        triple = (self.third * amperes).sum(axis=0)
        neutral = np.hypot(np.abs(current.sum(axis=0)), triple) * state.neutral
        return volts, amperes, neutral

    def draft(self) -> Draft:
        """A stream of the feeder without a fault."""
        rating = self.rating_a
        visible = dict.fromkeys(VOLTS, 1.0) | dict.fromkeys((*AMPERES, "i_n"), 0.015 * rating)
        visible |= dict.fromkeys(WATTS, 0.015 * rating * 230.0)
        visible |= {"t_joint": 1.5, "t_ambient": 1.0, "humidity": 3.0}
        return Draft(self.t, self.readings(self.state), visible)

    @property
    def limits(self) -> dict[str, Any]:
        """The META.json."""
        return limits_of(STEP_S, TRAIN_ROWS, self.rating_a, 230, _NOMINAL)


def _instruments(rng: Generator, rating: float) -> dict[str, Instrument]:
    volt = Instrument(float(rng.choice([0.01, 0.1, 0.1, 0.5])), 0.05)
    ampere = Instrument(min(float(rng.choice([0.01, 0.05, 0.1])), rating / 1000), 3e-4 * rating)
    watt = Instrument(float(rng.choice([0.1, 1.0, 10.0])), 3e-4 * rating * 230)
    joint = (0.0625, 0.03) if rng.random() < 0.6 else (0.1, 0.04)
    moist = Instrument(float(rng.choice([0.01, 0.1, 1.0])), 0.1)
    groups: Sequence[tuple[Sequence[str], Instrument]] = (
        (VOLTS, volt),
        ((*AMPERES, "i_n"), ampere),
        (WATTS, watt),
        (("t_joint",), Instrument(*joint)),
        (("t_ambient",), Instrument(float(rng.choice([0.01, 0.1])), 0.04)),
        (("humidity",), moist),
    )
    return {name: one for names, one in groups for name in names}
