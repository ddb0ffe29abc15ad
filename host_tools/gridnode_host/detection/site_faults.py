"""Faults at a place with four signals, each within what is ordinary for a single value."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from gridnode_host.detection.curves import stretches
from gridnode_host.detection.draft import Calendar, Draft
from gridnode_host.detection.placing import ahead, longest_rest
from gridnode_host.detection.site import DAY, SIGNALS, TRAIN_ROWS, Site
from gridnode_host.detection.stream_file import Flags, Floats
from gridnode_host.detection.surroundings import quantised

__all__ = [
    "ct_saturation",
    "disconnected",
    "drift",
    "joint",
    "level_shift",
    "noise_burst",
    "over_rating",
    "period",
    "persistent",
    "spike",
    "stuck",
]

_LOWEST = {"voltage": 207.5, "current": 0.0, "temperature": -19.0, "humidity": 1.0}
_HIGHEST = {"voltage": 252.5, "temperature": 88.0, "humidity": 94.0}
_SHIFTS = {"voltage": (6.0, 12.0), "temperature": (8.0, 18.0), "humidity": (15.0, 35.0)}
_MARGIN = 10  # rows between learning and the first event
_TOGETHER = 20  # rows between peaks that belong to one event


def spike(rng: Generator, site: Site, draft: Draft) -> None:
    """40 single rows, far off for the signal but within the SKU's range."""
    calendar = _calendar(rng, site)
    least = {"voltage": 6.0, "current": 0.2, "temperature": 4.0, "humidity": 8.0}
    least["current"] *= site.rating_a
    for _ in range(40):
        row = calendar.take(1, 30)
        for name in rng.permutation(SIGNALS):
            size = rng.uniform(1.0, 2.0) * max(least[name], 5 * _steps(draft.clean[name], 0.99))
            if _add(rng, site, draft, str(name), row, size):
                draft.mark(row, "spike", [str(name)])
                break


def level_shift(rng: Generator, site: Site, draft: Draft) -> None:
    """8 shifts of 2 to 5 h within the range; a shifted load warms the joint."""
    calendar = _calendar(rng, site)
    share = site.share.copy()
    shifts: list[tuple[slice, list[str]]] = []
    for _ in range(8):
        rows = calendar.take(int(rng.uniform(120, 300)), 30, tail=120)
        order = [str(name) for name in rng.permutation(SIGNALS)]
        if order[0] == "current":
            room = 0.96 - share[rows].max()
            if room > 0.25:
                share[rows] += rng.uniform(0.25, min(0.5, room))
                draft.mark(rows, "level_shift", ["current"])
                continue
        shifts.append((rows, [name for name in order if name != "current"]))
    draft.values = site.readings(share)
    for rows, order in shifts:
        for name in order:
            if _add(rng, site, draft, name, rows, rng.uniform(*_SHIFTS[name])):
                draft.mark(rows, "level_shift", [name])
                break


def persistent(rng: Generator, site: Site, draft: Draft) -> None:
    """15 K warmer for 3.5 days to the end, at once or as when the ventilation stops."""
    rows = slice(TRAIN_ROWS + DAY // 2, len(site.t))
    since = np.arange(rows.stop - rows.start)
    rise = np.full(len(since), 15.0)
    if rng.random() < 0.5:
        rise *= 1 - np.exp(-since / rng.uniform(4, 20))
    _plus(site, draft, "temperature", rows, rise)
    draft.mark(rows, "persistent", ["temperature"], growing=True)


def drift(rng: Generator, site: Site, draft: Draft) -> None:
    """3 drifts of the thermometer by 14 to 22 K over 16 to 20 h."""
    calendar = _calendar(rng, site)
    for _ in range(3):
        rows = calendar.take(int(rng.uniform(16, 20) * 60), 180)
        ramp = np.linspace(0, rng.uniform(14, 22), rows.stop - rows.start)
        _plus(site, draft, "temperature", rows, ramp * rng.choice([1, 1, -1]))
        draft.mark(rows, "drift", ["temperature"], growing=True)


def period(rng: Generator, site: Site, draft: Draft) -> None:
    """2 days whose load comes 12 h late, or twice as often."""
    share = site.share.copy()
    days = [(0, 2), (0, 3), (1, 3)][int(rng.integers(3))]
    for day in days:
        first = TRAIN_ROWS + day * DAY
        rows = slice(first, first + DAY)
        at = np.arange(DAY)
        at = at + DAY // 2 if rng.random() < 0.5 else 2 * at
        share[rows] = site.share[first + at % DAY]
        draft.mark(rows, "period", ["current"])
    draft.values = site.readings(share)


def stuck(rng: Generator, site: Site, draft: Draft) -> None:
    """12 times a signal that usually moves stands still for 1 to 4 h."""
    calendar = _calendar(rng, site)
    rests = {name: longest_rest(draft.clean[name][:TRAIN_ROWS]) for name in SIGNALS}
    lively = [name for name in SIGNALS if rests[name] <= 40] or [min(rests, key=rests.__getitem__)]
    for _ in range(12):
        name = str(rng.choice(lively))
        rows = calendar.take(int(rng.uniform(max(60, 2.5 * rests[name] + 12), 240)), 20)
        draft.values[name][rows] = draft.values[name][rows.start]
        draft.mark(rows, "sensor_stuck", [name])


def ct_saturation(rng: Generator, site: Site, draft: Draft) -> None:
    """The clamp saturates wherever the load is high; the joint warms as before."""
    high = rng.uniform(0.6, 0.75) * np.quantile(site.share[:TRAIN_ROWS], 0.999)
    bend = rng.uniform(0.0, 0.06)
    above = np.maximum(site.share - high, 0.0)
    above[:TRAIN_ROWS] = 0.0
    _plus(site, draft, "current", slice(None), -(1 - bend) * above * site.rating_a)
    for first, last in stretches(_closed(above > 0, _TOGETHER)):
        rows = slice(first, last + 1)
        draft.skip(rows)
        if last - first >= _TOGETHER:
            clipped = above > 0
            clipped[:first] = clipped[last + 1 :] = False
            draft.mark(clipped, "ct_saturation", ["current"], growing=True)


def disconnected(rng: Generator, site: Site, draft: Draft) -> None:
    """12 times a sensor reads 0, -127 or nothing for 10 min to 2 h."""
    calendar = _calendar(rng, site)
    ways = [("temperature", -127.0), ("voltage", 0.0), ("current", 0.0), ("humidity", 0.0)]
    ways += [(name, math.nan) for name in SIGNALS]
    picks = [*rng.permutation(len(ways)), *rng.permutation(len(ways))][:12]
    for pick in picks:
        name, value = ways[pick]
        rows = calendar.take(int(rng.uniform(10, 120)), 20)
        draft.values[name][rows] = value
        draft.mark(rows, "sensor_disconnected", [name])


def noise_burst(rng: Generator, site: Site, draft: Draft) -> None:
    """12 times a signal is noisier than usual for 30 to 90 min."""
    calendar = _calendar(rng, site)
    for _ in range(12):
        rows = calendar.take(int(rng.uniform(30, 90)), 45)
        name = str(rng.choice(SIGNALS))
        usual = max(_steps(draft.clean[name], 0.84), 2 * site.instruments[name].step)
        if name == "current":
            usual = min(usual, 0.05 * site.rating_a)
        added = rng.normal(0.0, rng.uniform(3.0, 6.0) * usual, rows.stop - rows.start)
        _plus(site, draft, name, rows, added)
        draft.mark(rows, "noise", [name])


def joint(rng: Generator, site: Site, draft: Draft) -> None:
    """12 times a joint warms by 8 to 18 K more than its current explains, or not at all."""
    calendar = _calendar(rng, site)
    squared = site.share**2
    above = site.heat.above(squared)
    aged = np.ones(len(site.t))
    planned = []
    for _ in range(12):
        rows = calendar.take(int(rng.uniform(80, 150)), 20, ahead(above, 60, 0.5), 200)
        if above[rows].max() > 8.0 and rng.random() < 0.4:
            aged[rows] = rng.uniform(0.0, 0.15)
        else:
            alone = np.zeros(len(squared))
            alone[rows] = squared[rows]
            aged[rows] = 1 + rng.uniform(8.0, 18.0) / float(site.heat.above(alone).max())
        planned.append(rows)
    draft.values = site.readings(aged=aged)
    for rows in planned:
        name = "overheating_joint" if aged[rows.start] > 1 else "relation"
        draft.mark(rows, name, ["temperature"], growing=True)


def over_rating(rng: Generator, site: Site, draft: Draft) -> None:
    """10 events of about 300 A, whatever the rating is."""
    calendar = _calendar(rng, site)
    share = site.share.copy()
    for _ in range(10):
        rows = calendar.take(int(rng.uniform(8, 60)), 20, tail=220)
        share[rows] = 300.0 / site.rating_a * rng.normal(1.0, 0.01, rows.stop - rows.start)
        draft.mark(rows, "overload", ["current"])
    draft.values = site.readings(share)


# ------------------------------------------------------------------ parts


def _calendar(rng: Generator, site: Site) -> Calendar:
    """All rows but those to learn from."""
    return Calendar(rng, len(site.t), TRAIN_ROWS + _MARGIN)


def _plus(site: Site, draft: Draft, name: str, rows: slice, added: Floats | float) -> None:
    """Add to a reading, within what the signal can be, as the instrument displays it."""
    shifted = np.clip(draft.values[name][rows] + added, *_range(site, name))
    draft.values[name][rows] = quantised(shifted, site.instruments[name].step)


def _add(rng: Generator, site: Site, draft: Draft, name: str, rows: slice, size: float) -> bool:
    """Add or subtract `size`, whichever stays within the range; False if neither does."""
    values = draft.values[name][rows]
    low, high = _range(site, name)
    fits = [s for s in (size, -size) if low <= values.min() + s and values.max() + s <= high]
    if not fits:
        return False
    _plus(site, draft, name, rows, float(rng.choice(fits)))
    return True


def _range(site: Site, name: str) -> tuple[float, float]:
    """Lowest and highest reading that is nothing special for the signal, in its unit."""
    return _LOWEST[name], _HIGHEST.get(name, 0.99 * site.rating_a)


def _steps(values: Floats, quantile: float) -> float:
    """A quantile of the change from row to row while learning."""
    return float(np.quantile(np.abs(np.diff(values[:TRAIN_ROWS])), quantile))


def _closed(flags: Flags, rows: int) -> Flags:
    """Flags whose gaps of up to `rows` rows are filled."""
    closed = flags.copy()
    for first, last in stretches(~flags):
        if first > 0 and last - first < rows:
            closed[first : last + 1] = True
    return closed
