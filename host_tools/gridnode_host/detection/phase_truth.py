"""Which fault each phase of a stream has, row by row, and what other places would see of it.

A fault is a phase's own if a signal of the phase is guilty, and every phase's if a signal is that
belongs to none (neutral, joint, air). Where nobody labelled the signals it is every phase's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from gridnode_host.detection.stream_file import Flags, Floats, Stream, Texts

__all__ = ["View", "phases", "views"]

_FLAT = ("voltage", "current", "power")
_SHORT = ("v", "i", "p")
_BLOCK = 20  # rows of one load
_OVER = 1.02  # of the rating, from which on it is an overload in any case
_NEUTRAL = ("i_n", "neutral_current")
# nobody can tell them from ordinary or other rows without the other phases
_NEEDS_OTHERS = ("phase_loss", "neutral_loss", "unbalance", "ct_disconnected")


@dataclass
class View:
    """A stream as a place with these signals sees it."""

    stream: Stream
    kind: str  # whole, other loads, one phase, four signals, electric
    values: dict[str, Floats]
    fault: Texts  # [rows, phases], "" without one
    scored: Flags  # [rows, phases], it is known whether there is one

    @property
    def limits(self) -> dict[str, Any]:
        return self.stream.limits


def phases(names: Collection[str]) -> list[tuple[str, ...]]:
    """The signals of each phase, as the node groups them."""
    lines = [k for k in "123" if f"v{k}" in names or f"i{k}" in names]
    found = [tuple(letter + k for letter in _SHORT) for k in lines]
    if "voltage" in names:  # one transformer for several clamps
        found = [("voltage" if one[0] not in names else one[0], *one[1:]) for one in found]
    return found or [_FLAT]


def views(stream: Stream, leave_out: Collection[str] = ()) -> Iterator[View]:
    """The stream as it is, and as places see it that have fewer phases or signals.

    Faults to leave out count as rows without one.
    """
    groups = phases(stream.values)
    fault, scored = _truth(stream, groups, leave_out)
    yield View(stream, "whole", stream.values, fault, scored)
    if "rating_a" in stream.limits:
        yield _reloaded(
            stream, groups, fault, scored, "overload" in set(stream.fault) - set(leave_out)
        )
    own = {name for group in groups for name in group}
    shared = [name for name in stream.values if name not in own]
    if len(groups) > 1:
        k = crc32(stream.name.encode()) % len(groups)
        around = [name for name in shared if name not in _NEUTRAL]
        told = scored & ~np.isin(fault, _NEEDS_OTHERS).any(axis=1, keepdims=True)
        given = fault[:, [k]], told[:, [k]]
        flat = dict(zip(groups[k], _FLAT, strict=True))
        yield _part(stream, "one phase", [groups[k]], around, given, flat)
        flat["t_joint"] = "temperature"
        few = [name for name in around if name in ("t_joint", "temperature", "humidity")]
        yield _part(stream, "four signals", [groups[k][:2]], few, given, flat)
    if shared:
        yield _part(stream, "electric", groups, [], (fault, scored), {})


def _part(
    stream: Stream,
    kind: str,
    groups: Sequence[tuple[str, ...]],
    around: Sequence[str],
    given: tuple[Texts, Flags],
    renamed: dict[str, str],
) -> View:
    """What is left with the signals of these phases and of what is around them.

    A fault of which no guilty signal is left is none, and one of which a guilty signal that
    belongs to no phase is missing beside others cannot be judged.
    """
    fault, scored = given[0].copy(), given[1].copy()
    own = {name for group in phases(stream.values) for name in group}
    lost = _guilty(stream, set(stream.by_signal) - own - set(around))
    near = _guilty(stream, set(around))
    if stream.by_signal:
        for k, group in enumerate(groups):
            seen = near | _guilty(stream, set(group))
            fault[~seen, k] = ""
            scored[:, k] &= ~(seen & lost)
    names = [name for group in groups for name in group] + list(around)
    values = {
        renamed.get(name, name): stream.values[name] for name in names if name in stream.values
    }
    return View(stream, kind, values, fault, scored)


def _reloaded(
    stream: Stream, groups: list[tuple[str, ...]], fault: Texts, scored: Flags, overload: bool
) -> View:
    """The place with any load, none included, in the rows that have no fault.

    Beyond the rating it is an overload, if the stream has any; what is hot stays as it is.
    """
    rng = np.random.default_rng(crc32(stream.name.encode()))
    amperes = [group[1] for group in groups if group[1] in stream.values]
    rating = float(stream.limits["rating_a"])
    share = np.array([stream.values[name] for name in amperes]) / rating
    largest = np.nan_to_num(share).max(axis=0, initial=0.0)
    factor = np.ones(len(largest))
    for first in range(0, len(factor), _BLOCK):
        rows = slice(first, first + _BLOCK)
        part = rng.random()
        level = 0.0 if part < 0.25 else 10 ** rng.uniform(-2.7, -0.3)
        if part > 0.6:
            level = rng.uniform(0.5, 1.15)
        if (usual := float(largest[rows].mean())) > 0.005:
            factor[rows] = level / usual
    moved = {name for group in groups for name in group[1:]} | set(_NEUTRAL)
    values = {
        name: column * factor if name in moved else column
        for name, column in stream.values.items()
    }
    ordinary = scored & (fault == "")
    kinds: Texts = np.full(fault.shape, "", dtype=object)
    for k, group in enumerate(groups):
        if group[1] in values:
            over = values[group[1]] / rating
            ordinary[:, k] &= ~(over > 1.0) | ((over > _OVER) & overload)
            kinds[over > _OVER, k] = "overload"
    return View(stream, "other loads", values, kinds, ordinary)


def _truth(
    stream: Stream, groups: list[tuple[str, ...]], leave_out: Collection[str]
) -> tuple[Texts, Flags]:
    named = np.where(np.isin(stream.fault, list(leave_out)), "", stream.fault)
    shape = (len(stream.t), len(groups))
    fault: Texts = np.full(shape, "", dtype=object)
    scored = np.repeat(~stream.unscored[:, None], len(groups), axis=1)
    if not stream.by_signal:
        return np.repeat(named[:, None], len(groups), axis=1), scored
    everyone = _guilty(stream, set(stream.by_signal) - {n for group in groups for n in group})
    for k, group in enumerate(groups):
        has = everyone | _guilty(stream, set(group))
        fault[has, k] = named[has]
        known = [stream.by_signal[name] for name in group if name in stream.by_signal]
        doubtful = np.all(np.isnan(known), axis=0) if known else np.zeros(len(has), dtype=bool)
        scored[:, k] &= has | ~(doubtful & (named != ""))
    return fault, scored


def _guilty(stream: Stream, names: Collection[str]) -> Flags:
    flags = np.zeros(len(stream.t), dtype=bool)
    for name in names:
        if name in stream.by_signal:
            flags |= stream.by_signal[name] == 1
    return flags & stream.label
