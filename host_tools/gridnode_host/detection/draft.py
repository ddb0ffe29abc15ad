"""A stream while its faults are put in: what would have been read, what is read, who is guilty.

The labels follow from the difference. A signal that a fault only drags along is not scored while
it deviates, nor is a row in which something still recovers, nor one in which a fault that grows
is too small to be seen yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.random import Generator

from gridnode_host.detection.curves import stretches
from gridnode_host.detection.stream_file import Flags, Floats, Stream

__all__ = ["Calendar", "Draft", "crowded"]

_ONE_EVENT = 30  # rows in which a fault may be too small to be seen, and still be the same


class Calendar:
    """Hands out stretches of rows that keep a distance from each other."""

    def __init__(self, rng: Generator, rows: int, first: int) -> None:
        """Rows before `first` are never handed out."""
        self._rng = rng
        self._taken = np.zeros(rows, dtype=bool)
        self._taken[:first] = True

    def take(self, length: int, gap: int, where: Flags | None = None, tail: int = 0) -> slice:
        """Rows of a stretch that starts where `where` is true, with `gap` free rows around.

        The `tail` rows behind it, in which something recovers, are nobody's either. If nothing is
        left, first the wish, then tail and gap count less. Raises ValueError if all is full.
        """
        for wish, part in ((where, 1.0), (None, 1.0), (where, 0.5), (None, 0.5), (None, 0.0)):
            room, apart = length + int(part * tail), max(int(part * gap), 1)
            starts = self._starts(room, apart)
            if wish is not None:
                starts = starts[wish[starts]]
            if len(starts):
                first = int(self._rng.choice(starts))
                self._taken[first : first + room] = True
                return slice(first, first + length)
        raise ValueError(f"no room for {length} rows")

    def claim(self, rows: slice, gap: int) -> bool:
        """Take these very rows if they and `gap` rows around are free."""
        free = not self._taken[max(rows.start - gap, 0) : rows.stop + gap].any()
        if free:
            self._taken[rows] = True
        return free

    def _starts(self, length: int, gap: int) -> np.ndarray[Any, np.dtype[np.intp]]:
        before = np.concatenate([[0], np.cumsum(self._taken)])
        first = np.arange(len(self._taken) - length - gap)
        begin = np.maximum(first - gap, 0)
        return np.flatnonzero(before[first + length + gap] == before[begin])


class Draft:
    """Readings with and without faults, one entry per row, NaN for a missing value."""

    def __init__(self, t: Floats, readings: Mapping[str, Floats], visible: Mapping[str, float]):
        """`visible` is the deviation per signal from which on a fault can be seen."""
        rows = len(t)
        self.t = t
        self.clean = dict(readings)
        self.values = {name: values.copy() for name, values in readings.items()}
        self._visible = visible
        self._label = np.zeros(rows, dtype=bool)
        self._skipped = np.zeros(rows, dtype=bool)
        self._growing = np.zeros(rows, dtype=bool)
        self._fault = np.full(rows, "", dtype=object)
        self._guilty = {name: np.zeros(rows, dtype=bool) for name in readings}
        self._spared = {name: np.zeros(rows, dtype=bool) for name in readings}

    def mark(
        self, rows: slice | Flags, fault: str, guilty: Sequence[str], growing: bool = False
    ) -> None:
        """Say that rows have a fault, and which signals are guilty of it.

        A `growing` one counts only where a guilty signal deviates visibly.
        """
        self._label[rows] = True
        self._growing[rows] = growing
        self._fault[rows] = fault
        for name in guilty:
            self._guilty[name][rows] = True

    def skip(self, rows: slice) -> None:
        """Say that rows count only where they are guilty of a fault."""
        self._skipped[rows] = True

    def spare(self, rows: slice, signals: Sequence[str]) -> None:
        """Say that nobody can tell whether these signals are guilty."""
        for name in signals:
            self._spared[name][rows] = True

    def finish(self, name: str, limits: dict[str, Any], missing: Mapping[str, Flags]) -> Stream:
        """The stream with its labels; `missing` are cells that ordinary trouble leaves empty."""
        moved = {signal: self._moved(signal) for signal in self.values}
        seen = np.zeros(len(self.t), dtype=bool)
        for signal, guilty in self._guilty.items():
            seen |= guilty & moved[signal]
        label = self._label & (seen | ~self._growing)
        shifted = np.any(list(moved.values()), axis=0)
        unscored = ~label & (shifted | self._label | self._skipped)
        by_signal = {}
        for signal, guilty in self._guilty.items():
            truth = np.where(guilty & label, 1.0, 0.0)
            dragged = (moved[signal] | self._spared[signal]) & (truth == 0)
            truth[dragged | unscored] = math.nan
            by_signal[signal] = truth
        train = np.zeros(len(self.t), dtype=bool)
        train[: int(limits["train_rows"])] = True
        for signal, lost in missing.items():
            self.values[signal][lost & ~self._guilty[signal]] = math.nan
        return Stream(
            name=name,
            t=self.t,
            values=self.values,
            label=label,
            unscored=unscored,
            by_signal=by_signal,
            fault=np.where(label, self._fault, "").astype(object),
            train=train,
            limits=limits,
        )

    def _moved(self, signal: str) -> Flags:
        """Rows in which what is read differs from what would have been read."""
        values, clean = self.values[signal], self.clean[signal]
        off = np.abs(values - clean) > self._visible[signal]
        moved: Flags = off | (np.isnan(values) != np.isnan(clean))
        return moved


def crowded(stream: Stream) -> bool:
    """Tell whether two events would count as one, with nothing ordinary between them."""
    runs = stretches(stream.label)
    for (first, last), (start, _) in pairwise(runs):
        between = stream.unscored[last + 1 : start]
        apart = len(between) > _ONE_EVENT or stream.fault[first] != stream.fault[start]
        if apart and between.all():
            return True
    return False
