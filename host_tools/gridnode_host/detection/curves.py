"""Scores that need no threshold: areas under curves of precision over recall."""

from __future__ import annotations

import math

import numpy as np

from gridnode_host.detection.stream_file import Flags, Floats

CUTS = 250
"""Thresholds at which the volume looks, at equal numbers of rows."""


def stretches(flags: Flags) -> list[tuple[int, int]]:
    """First and last row of every stretch in which the flag is set without a gap."""
    padded = np.zeros(len(flags) + 2, dtype=bool)
    padded[1:-1] = flags
    turns = np.flatnonzero(padded[1:] != padded[:-1]).tolist()
    return [(first, end - 1) for first, end in zip(turns[::2], turns[1::2], strict=True)]


def auc_pr(label: Flags, grade: Floats) -> float:
    """Average precision; rows of equal grade are taken together. NaN without a labelled row."""
    if not label.any():
        return math.nan
    _, level = np.unique(-grade, return_inverse=True)  # the loudest level is 0
    taken = np.cumsum(np.bincount(level))
    right = np.bincount(level, weights=label)
    return float(np.sum(right / label.sum() * np.cumsum(right) / taken))


def vus_pr(label: Flags, grade: Floats, longest: int) -> float:
    """Volume under the PR surface over buffers of 0 to `longest` rows (Paparrizos et al., 2022).

    A buffer of w rows softens the ends of an event: rows up to w // 2 away count as anomalous by
    sqrt(1 - distance / w). NaN without an event.
    """
    events = stretches(label)
    if not events:
        return math.nan
    surface = _Surface(label, grade, events)
    return float(np.mean([surface.area(buffer) for buffer in range(longest + 1)]))


class _Surface:
    """The rows in order of their grade, and the thresholds at which precision is looked at."""

    def __init__(self, label: Flags, grade: Floats, events: list[tuple[int, int]]) -> None:
        n = len(label)
        self.label, self.grade = label, grade
        self.firsts, self.lasts = np.array(events).T
        self.order = np.argsort(-grade, kind="stable")
        ranked = grade[self.order]
        cuts = ranked[np.linspace(0, n - 1, min(CUTS, n)).astype(int)]
        self.taken = np.searchsorted(-ranked, -cuts, side="right")  # rows at or above each cut
        self.cuts = cuts
        self.hits = self._counted(label.astype(float))

    def area(self, buffer: int) -> float:
        soft = self._softened(buffer)
        near = self._counted(soft)
        right = self.hits + near
        recall = np.minimum(right / (self.label.sum() + near / 2), 1.0) * self._seen(buffer // 2)
        return float(np.sum(np.diff(recall, prepend=0.0) * right / self.taken))

    def _counted(self, weight: Floats) -> Floats:
        """Sum of the weights of the rows at or above each cut."""
        total: Floats = np.cumsum(weight[self.order])[self.taken - 1]
        return total

    def _softened(self, buffer: int) -> Floats:
        """Weight of the rows beside the events, by rows; 0 inside."""
        n, reach = len(self.label), buffer // 2
        padded = np.zeros(n + 2 * reach)
        for distance in range(1, reach + 1):
            weight = math.sqrt(1 - distance / buffer)
            padded[self.firsts + reach - distance] += weight
            padded[self.lasts + reach + distance] += weight
        padded = np.minimum(padded[reach : reach + n], 1.0)
        padded[self.label] = 0.0
        return padded

    def _seen(self, reach: int) -> Floats:
        """Share of the widened events, joined where they overlap, that each cut finds."""
        first = np.maximum(self.firsts - reach, 0)
        last = np.minimum(self.lasts + reach, len(self.label) - 1)
        apart = first[1:] > last[:-1]
        first, last = first[np.append(True, apart)], last[np.append(apart, True)]
        loudest = [self.grade[a : b + 1].max() for a, b in zip(first, last, strict=True)]
        below = np.searchsorted(np.sort(loudest), self.cuts, side="left")
        seen: Floats = 1.0 - below / len(loudest)
        return seen
