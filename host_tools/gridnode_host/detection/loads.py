"""What consumers draw: shares of the rating, one value per minute or row.

Every shape comes in many variants by the random generator: hours, levels, days that differ.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from gridnode_host.detection.random_series import ar, by_day, hour, lag
from gridnode_host.detection.stream_file import Floats

__all__ = ["CYCLIC", "SHAPES", "load", "starts"]

_PEAK = (0.5, 0.82)  # highest share of the rating that a shape is scaled to
_CEILING = 0.95  # no ordinary load exceeds it
_FLOOR = (0.025, 0.07)  # what is always on


def load(rng: Generator, t: Floats, zone_h: float, shape: str | None = None) -> Floats:
    """Draw a load; `shape` is one of SHAPES (None: any), `zone_h` the local time's offset."""
    chosen = shape or str(rng.choice(sorted(SHAPES)))
    share = SHAPES[chosen](rng, t, hour(t, zone_h))
    share *= rng.uniform(*_PEAK) / np.quantile(share, 0.995)
    share += rng.uniform(*_FLOOR)
    above = share > _PEAK[1]
    share[above] = _PEAK[1] + (_CEILING - _PEAK[1]) * np.tanh(
        (share[above] - _PEAK[1]) / (_CEILING - _PEAK[1])
    )
    return share


def starts(rng: Generator, share: Floats, rate: float, peak: float) -> Floats:
    """Add inrush of motors: single rows, `rate` per row, of up to `peak` of the rating."""
    hits = rng.random(len(share)) < rate
    added = np.where(hits, rng.uniform(0.2, 1.0, len(share)) * peak, 0.0)
    return np.minimum(share + added, _CEILING)


# ------------------------------------------------------------------ shapes


def _household(rng: Generator, t: Floats, hours: Floats) -> Floats:
    """A refrigerator that cycles, and appliances that people switch, mostly in their hours."""
    rows = len(t)
    share = np.full(rows, 0.02)
    period, duty = rng.uniform(40, 90), rng.uniform(0.25, 0.5)
    phase = np.cumsum(1.0 / (period * (1 + ar(rng, rows, 0.1, 300))))
    share += np.where(phase % 1.0 < duty, rng.uniform(0.01, 0.03), 0.0)
    activity = 0.15 + _bump(hours, rng.uniform(6.5, 8.5), 1.2) + _bump(hours, 19.5, 2.5) * 1.4
    activity += 0.5 * _bump(hours, 13.0, 2.0)
    for _ in range(rng.integers(6, 12)):
        size, mean = rng.uniform(0.02, 0.3), rng.uniform(4, 70)
        begins = np.flatnonzero(rng.random(rows) < activity * rng.uniform(1.0, 5.0) / 1440)
        for first in begins:
            length = int(rng.gamma(3.0, mean / 3.0)) + 1
            share[first : first + length] += size * rng.uniform(0.9, 1.1)
    return np.maximum(share * (1 + ar(rng, rows, 0.015, 4)), 0.0)


def _office(rng: Generator, t: Floats, hours: Floats) -> Floats:
    """Working hours with lifts and cooling; weekends are quiet in some of them."""
    rows = len(t)
    opens, closes = rng.uniform(6.5, 8.5), rng.uniform(16.5, 19.5)
    ramp = rng.uniform(0.3, 0.8)
    busy = _edge(hours, opens, ramp) * (1 - _edge(hours, closes, ramp * 1.5))
    busy *= 1 - rng.uniform(0.0, 0.25) * _bump(hours, 12.5, 0.6)
    if rng.random() < 0.5:
        day = np.round((t / 3600 - hours - (t[0] / 3600 - hours[0])) / 24)
        quiet = (day - rng.integers(0, 3)) % 7 < 2  # the first days hold a weekend
        busy *= np.where(quiet, rng.uniform(0.2, 0.5), 1.0)
    share = rng.uniform(0.1, 0.25) + busy * by_day(rng, t, 1.0, 0.05)
    cooling = (np.cumsum(1.0 / rng.uniform(15, 45) + ar(rng, rows, 0.002, 200)) % 1.0) < 0.4
    share += cooling * busy * rng.uniform(0.02, 0.12)
    return np.maximum(share * (1 + ar(rng, rows, rng.uniform(0.02, 0.05), 12)), 0.0)


def _industry(rng: Generator, t: Floats, hours: Floats) -> Floats:
    """One to three shifts of machines that work in cycles."""
    rows = len(t)
    first = rng.uniform(5.0, 7.0)
    shifts = int(rng.integers(1, 4))
    share = np.full(rows, rng.uniform(0.08, 0.2))
    for number in range(shifts):
        since = (hours - first - 8 * number) % 24
        on = _edge(since, 0.3, 0.15) * (1 - _edge(since, 7.7, 0.15))
        on *= 1 - 0.5 * _bump(since, 4.0, 0.25)
        share += on * rng.uniform(0.5, 1.0) * by_day(rng, t, 1.0, 0.04)
    period, depth = rng.uniform(7, 25), rng.uniform(0.03, 0.12)
    machine = np.where(np.cumsum((1 + ar(rng, rows, 0.08, 60)) / period) % 1.0 < 0.6, 0.5, -0.5)
    share *= 1 + depth * lag(machine, 1.5)
    return np.maximum(share * (1 + ar(rng, rows, rng.uniform(0.015, 0.04), 8)), 0.0)


def _charging(rng: Generator, t: Floats, hours: Floats) -> Floats:
    """Cars that charge in the evening, on top of a small feeder."""
    rows = len(t)
    share = 0.35 * _feeder(rng, t, hours)
    posts, power = int(rng.integers(2, 7)), rng.uniform(0.1, 0.3)
    for _ in range(posts):
        for midnight in range(-int(hours[0] * 60), rows, 1440):
            if rng.random() < 0.75:
                begin = midnight + int(60 * np.clip(rng.normal(18.5, 1.3), 15, 23))
                full, tail = int(60 * rng.uniform(1.0, 5.0)), int(rng.uniform(10, 40))
                profile = np.r_[np.ones(full), np.linspace(1, 0.1, tail)]
                on = np.arange(max(begin, 0), min(begin + len(profile), rows))
                share[on] += power * profile[on - begin]
    return share


def _feeder(rng: Generator, t: Floats, hours: Floats) -> Floats:
    """Many consumers at once: two smooth humps."""
    morning, evening = rng.uniform(7, 10), rng.uniform(17.5, 20.5)
    share = 0.3 + rng.uniform(0.3, 0.6) * _bump(hours, morning, rng.uniform(1.5, 3.0))
    share += rng.uniform(0.5, 0.8) * _bump(hours, evening, rng.uniform(1.8, 3.5))
    share += rng.uniform(0.05, 0.3) * _bump(hours, 13.0, 3.0)
    share *= by_day(rng, t, 1.0, 0.03) * (1 + ar(rng, len(t), rng.uniform(0.01, 0.03), 90))
    return np.maximum(share * (1 + ar(rng, len(t), rng.uniform(0.005, 0.02), 3)), 0.0)


def _bump(hours: Floats, at: float, width: float) -> Floats:
    """1 at the hour `at`, falling within `width` hours to both sides, over midnight as well."""
    off = (hours - at + 12) % 24 - 12
    bump: Floats = np.exp(-0.5 * (off / width) ** 2)
    return bump


def _edge(hours: Floats, at: float, width: float) -> Floats:
    """0 before and 1 after `at`, within about `width` hours."""
    edge: Floats = 1 / (1 + np.exp(-np.clip((hours - at) / (width / 3), -50, 50)))
    return edge


SHAPES: dict[str, Callable[[Generator, Floats, Floats], Floats]] = {
    "household": _household,
    "office": _office,
    "industry": _industry,
    "charging": _charging,
    "feeder": _feeder,
}
CYCLIC = ("feeder", "industry")
"""Shapes whose days all look alike."""
