"""The score of the Numenta benchmark for one file (Lavin and Ahmad, 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gridnode_host.detection.stream_file import Flags

_FALSE, _MISSED = 0.11, 1.0  # weights of the standard profile


def probation(rows: int) -> int:
    """Rows at the start of a file that nobody judges."""
    return min(math.floor(0.15 * rows), 750)


def nab(onset: Flags, windows: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Raw score and the one from 0 (silent) to 100 (perfect); NaN where no window counts.

    `onset` marks the rows in which an alarm begins; `windows` are first and last rows, ascending.
    """
    start = probation(len(onset))
    told = np.flatnonzero(onset)
    told = told[told >= start]
    counted = [window for window in windows if window[1] >= start]
    raw = sum(_window(told, *window) for window in counted)
    for row in told.tolist():
        if not any(first <= row <= last for first, last in windows):
            raw += _FALSE * _stray(row, windows)
    silent, perfect = -_MISSED * len(counted), float(len(counted))
    if not counted:
        return raw, math.nan
    return raw, 100 * (raw - silent) / (perfect - silent)


def _window(told: np.ndarray, first: int, last: int) -> float:
    """What the first alarm inside a window is worth: 1 at its start."""
    inside = told[(told >= first) & (told <= last)]
    if not len(inside):
        return -_MISSED
    return _worth(-(last - int(inside[0]) + 1) / (last - first + 1)) / _worth(-1.0)


def _stray(row: int, windows: Sequence[tuple[int, int]]) -> float:
    """What an alarm outside every window costs: little just after one."""
    past = [(first, last) for first, last in windows if last < row]
    if not past:
        return -1.0
    first, last = past[-1]
    return _worth((row - last) / max(last - first, 1))


def _worth(place: float) -> float:
    """Scaled sigmoid over the place relative to a window: -1 its start, 0 its end."""
    return -1.0 if place > 3 else 2 / (1 + math.exp(5 * place)) - 1
