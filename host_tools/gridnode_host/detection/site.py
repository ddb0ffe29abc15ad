"""A place with one phase and four signals: voltage, current, temperature of a joint, humidity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from gridnode_host.detection import surroundings
from gridnode_host.detection.draft import Draft
from gridnode_host.detection.loads import load, starts
from gridnode_host.detection.random_series import DAY_S
from gridnode_host.detection.stream_file import Flags, Floats, limits_of
from gridnode_host.detection.surroundings import Air, Heat, Instrument

__all__ = ["DAY", "SIGNALS", "STEP_S", "TRAIN_ROWS", "Site", "lost", "times"]

STEP_S = 60
DAY = int(DAY_S / STEP_S)  # rows
TRAIN_ROWS = TEST_ROWS = 4 * DAY
SIGNALS = ("voltage", "current", "temperature", "humidity")

_RATINGS = (32.0, 63.0, 100.0, 160.0, 200.0, 250.0, 400.0, 630.0)
_NOMINAL = {
    "voltage": (207, 253),
    "i_of_rating": (0, 1.0),
    "temperature": (-20, 90),
    "humidity": (0, 95),
}
_DROP_V = 7.0  # most that the supply's resistance costs at the rating
_EPOCH = 1_760_000_040  # any full minute
_YEAR_D = 365


def times(rng: Generator) -> tuple[Floats, float]:
    """Times of the rows, epoch s, and the local time's offset, h."""
    first = _EPOCH + int(rng.integers(0, _YEAR_D * DAY)) * STEP_S
    return first + STEP_S * np.arange(TRAIN_ROWS + TEST_ROWS, dtype=float), float(
        rng.integers(-8, 12)
    )


def lost(rng: Generator, rows: int) -> Flags:
    """Cells that never arrive, in some places and then rarely."""
    rate = 1e-4 if rng.random() < 0.3 else 0.0
    return rng.random(rows) < rate


@dataclass
class Site:
    """What the place is; readings follow from it, with the same noise each time."""

    t: Floats  # epoch s
    rating_a: float
    share: Floats  # of the rating, what the consumers draw
    open_v: Floats  # V, without load
    ohm: float  # of the supply
    air: Air
    heat: Heat
    instruments: dict[str, Instrument]
    noise: dict[str, Floats]  # per signal, in its unit
    missing: dict[str, Flags]  # per signal: cells that never arrive

    @staticmethod
    def draw(rng: Generator, shape: str | None = None, rating_a: float | None = None) -> Site:
        """Any place; `shape` and `rating_a` can be given."""
        t, zone_h = times(rng)
        rating = rating_a or float(rng.choice(_RATINGS))
        share = load(rng, t, zone_h, shape)
        if rng.random() < 0.4:
            share = starts(rng, share, rng.uniform(0.001, 0.01), rng.uniform(0.05, 0.3))
        instruments = {
            "voltage": Instrument(float(rng.choice([0.01, 0.1, 0.1, 0.5, 1.0])), 0.05),
            "current": Instrument(_ampere_step(rng, rating), 4e-4 * rating),
            "temperature": Instrument(*_thermometer(rng)),
            "humidity": Instrument(float(rng.choice([0.01, 0.1, 0.1, 1.0])), 0.1),
        }
        return Site(
            t=t,
            rating_a=rating,
            share=share,
            open_v=surroundings.supply(rng, t, zone_h),
            ohm=min(rng.uniform(0.02, 0.3), _DROP_V / rating),
            air=surroundings.air(rng, t, zone_h),
            heat=Heat.draw(rng),
            instruments=instruments,
            noise={name: rng.normal(0, one.noise, len(t)) for name, one in instruments.items()},
            missing={name: lost(rng, len(t)) for name in SIGNALS},
        )

    def readings(
        self, share: Floats | None = None, aged: Floats | None = None
    ) -> dict[str, Floats]:
        """What is read of another load, or of a joint of another resistance.

        `share` is of the rating, `aged` a factor per row.
        """
        drawn = self.share if share is None else share
        amperes = drawn * self.rating_a
        squared = drawn**2 * (1.0 if aged is None else aged)
        true = {
            "voltage": self.open_v - self.ohm * amperes,
            "current": amperes,
            "temperature": self.air.temperature + self.heat.above(squared),
            "humidity": surroundings.humidity(self.air),
        }
        return {
            name: surroundings.quantised(values + self.noise[name], self.instruments[name].step)
            for name, values in true.items()
        }

    def draft(self) -> Draft:
        """A stream of the place without a fault."""
        visible = {
            "voltage": 1.0,
            "current": 0.015 * self.rating_a,
            "temperature": 1.0,
            "humidity": 2.0,
        }
        return Draft(self.t, self.readings(), visible)

    @property
    def limits(self) -> dict[str, Any]:
        """The META.json."""
        return limits_of(STEP_S, TRAIN_ROWS, self.rating_a, 230, _NOMINAL)


def _ampere_step(rng: Generator, rating: float) -> float:
    """0.01 to 0.1 A where the rating is small, never above a thousandth of it."""
    return min(float(rng.choice([0.01, 0.05, 0.1])), rating / 1000.0)


def _thermometer(rng: Generator) -> tuple[float, float]:
    """Step and noise of a DS18B20 or an SHT3x, degC."""
    return (0.0625, 0.03) if rng.random() < 0.5 else (float(rng.choice([0.01, 0.1])), 0.04)
