"""Random series of one value per row: slow and fast noise, lags, days that differ."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
from numpy.random import Generator

from gridnode_host.detection.stream_file import Floats

__all__ = ["DAY_S", "ar", "by_day", "cycle", "hour", "lag"]

DAY_S = 86400.0


def ar(rng: Generator, rows: int, sd: float, tau: float) -> Floats:
    """Noise of the standard deviation `sd` that forgets itself within `tau` rows."""
    keep = math.exp(-1.0 / tau)
    drive = rng.normal(0.0, sd * math.sqrt(1.0 - keep * keep), rows)
    drive[0] = rng.normal(0.0, sd)
    return np.array(list(accumulate(drive, lambda level, new: keep * level + new)))


def lag(values: Floats, tau: float) -> Floats:
    """First-order lag of `tau` rows, settled at the first value."""
    keep = math.exp(-1.0 / tau)
    return np.array(list(accumulate(values, lambda level, new: keep * level + (1 - keep) * new)))


def hour(t: Floats, zone_h: float) -> Floats:
    """Local hour of the day, 0 to 24; `zone_h` is the distance from UTC."""
    return (t / 3600.0 + zone_h) % 24.0


def by_day(rng: Generator, t: Floats, mean: float, sd: float) -> Floats:
    """A level that differs from day to day and glides in between."""
    first = math.floor(t[0] / DAY_S)
    days = first + np.arange(math.ceil((t[-1] - t[0]) / DAY_S) + 3)
    return np.interp(t / DAY_S, days, mean + rng.normal(0.0, sd, len(days)))


def cycle(rng: Generator, hours: Floats, peak: float, sharpness: float = 0.3) -> Floats:
    """A smooth daily cycle of range -1 to 1, highest at about the hour `peak`."""
    angle = 2 * math.pi * (hours - peak) / 24.0
    second = rng.uniform(-sharpness, sharpness)
    third = rng.uniform(-sharpness / 2, sharpness / 2)
    wave: Floats = np.cos(angle) + second * np.cos(2 * angle) + third * np.sin(3 * angle)
    scaled: Floats = (wave - wave.min()) / (wave.max() - wave.min()) * 2 - 1
    return scaled
