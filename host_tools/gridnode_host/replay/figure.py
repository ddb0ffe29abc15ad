"""The figure of a replay: a panel per signal, the grade below, alarms as spans of one colour per priority."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gridnode_host.detection.curves import stretches
from gridnode_host.detection.stream_file import Floats
from gridnode_host.replay.judge import Judgement

__all__ = ["PRIORITIES", "draw"]

PRIORITIES = {1: "#c62f2f", 2: "#e8802a", 3: "#e0b400", 4: "#4f8fc7", 0: "#8a8f98"}
"""Colour of an alarm; 0: it has no priority."""

_LINE, _AREA, _LIMIT = "#1b3a57", "#9aa1ab", "#6b7480"
_SPAN_ALPHA = 0.38
_AREA_HEIGHT = 0.22  # of a panel, below the signal
_NONE = 99
_HALF, _UNIT = 0.5, 1000.0
_DAY = 86400.0
_DATES = (-719_000.0, 2_932_000.0)  # days that a calendar has
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.edgecolor": "#9aa1ab",
    "axes.linewidth": 0.6,
    "axes.titlesize": 8,
    "xtick.color": "#3c434d",
    "ytick.color": "#3c434d",
    "grid.color": "#e1e4e9",
    "grid.linewidth": 0.5,
    "svg.fonttype": "path",  # no font of the reader's machine is needed
    "svg.hashsalt": "replay",
}
# up to so many signals: columns of panels, width of the figure and height of a panel in inches,
# steps along the time that are drawn
_LAYOUTS = ((8, 1, 10.0, 1.2, 900), (16, 2, 12.0, 1.1, 500), (1 << 30, 3, 14.0, 1.0, 350))


@dataclass(frozen=True)
class _Time:
    """The time axis in steps: groups of rows that are drawn as one."""

    starts: np.ndarray  # first row of each
    left: Floats
    right: Floats
    broken: np.ndarray  # before these groups rows are missing
    dates: bool


def draw(
    judgement: Judgement, t: Floats, values: dict[str, Floats], foot: Sequence[str]
) -> Figure:
    """Draw a run; `t` in epoch seconds, `foot` are lines of text below the panels."""
    names = judgement.names
    _, columns, width, height, steps = next(one for one in _LAYOUTS if len(names) <= one[0])
    rows = -(-len(names) // columns)
    time = _time(t, steps)
    level = np.where(judgement.alarm, np.minimum(judgement.priority, max(PRIORITIES)), _NONE)
    with matplotlib.rc_context(_STYLE):
        text_height = 0.3 + 0.16 * len(foot) if foot else 0.0
        figure = Figure(
            figsize=(width, 0.6 + (rows + 1) * height + text_height), layout="constrained"
        )
        ratios = [1.0] * (rows + 1) + ([text_height / height] if foot else [])
        grid = figure.add_gridspec(len(ratios), columns, height_ratios=ratios)
        shared: Axes | None = None
        for column in range(columns):
            for row, k in enumerate(range(column * rows, min((column + 1) * rows, len(names)))):
                shared = axis = figure.add_subplot(grid[row, column], sharex=shared)
                guilty = np.where(judgement.alarms[:, k], level, _NONE)
                _signal(axis, time, values[names[k]], judgement.grades[:, k], guilty)
                axis.set_title(names[k], loc="left", pad=2)
            if column * rows < len(names):
                axis = figure.add_subplot(grid[rows, column], sharex=shared)
                _grade(axis, time, judgement.grade, level)
                _scale(axis, time)
        if foot:
            axis = figure.add_subplot(grid[rows + 1, :])
            axis.set_axis_off()
            axis.text(0, 1, "\n".join(foot), va="top", family="monospace", size=7.5)
        _legend(figure, set(level.tolist()) - {_NONE})
    return figure


def _time(t: Floats, steps: int) -> _Time:
    """Put rows into groups of the same stretch of time, or of numbers where the clock steps."""
    days = t / _DAY
    gaps = np.diff(days)
    dates = bool((gaps > 0).all() and days[0] > _DATES[0] and days[-1] < _DATES[1])
    x = days if dates else np.arange(len(t), dtype=float)
    usual = float(np.median(np.diff(x))) if len(x) > 1 else 1.0 / _DAY
    if len(x) > 2 * steps:
        group = np.minimum(((x - x[0]) / (x[-1] - x[0]) * steps).astype(int), steps - 1)
        starts = np.flatnonzero(np.diff(group, prepend=-1))
    else:
        starts = np.arange(len(x))
    last = np.append(starts[1:], len(x)) - 1
    right = x[last] + 1.5 * usual
    right[:-1] = np.minimum(right[:-1], x[starts[1:]])
    missing = np.append(False, x[starts[1:]] - x[last[:-1]] > 3 * usual)
    return _Time(starts, x[starts], right, missing, dates)


def _signal(axis: Axes, time: _Time, values: Floats, grade: np.ndarray, level: np.ndarray) -> None:
    low = np.fmin.reduceat(values, time.starts)
    high = np.fmax.reduceat(values, time.starts)
    middle = (time.left + time.right) / 2
    x = np.column_stack((time.left, time.left, middle)).ravel()
    y = np.column_stack((np.where(time.broken, np.nan, low), low, high)).ravel()
    axis.plot(x, y, color=_LINE, linewidth=0.7, solid_joinstyle="bevel")
    there = y[~np.isnan(y)]
    if len(there):
        least, most = float(there.min()), float(there.max())
        reach = (most - least) or abs(most) or 1.0
        axis.set_ylim(least - (_AREA_HEIGHT + 0.12) * reach, most + 0.08 * reach)
    _steps(
        axis, time, np.maximum.reduceat(grade, time.starts) / _UNIT * _AREA_HEIGHT, on_axes=True
    )
    _spans(axis, time, level)
    axis.grid(visible=True)
    axis.tick_params(labelbottom=False)


def _grade(axis: Axes, time: _Time, grade: np.ndarray, level: np.ndarray) -> None:
    _steps(axis, time, np.maximum.reduceat(grade, time.starts) / _UNIT, on_axes=False)
    axis.axhline(_HALF, color=_LIMIT, linewidth=0.8, linestyle=(0, (4, 2)))
    _spans(axis, time, level)
    axis.set_title("grade of the node", loc="left", pad=2)
    axis.set_ylim(0, 1.02)
    axis.grid(visible=True)


def _steps(axis: Axes, time: _Time, height: Floats, *, on_axes: bool) -> None:
    """An area from 0 up; in parts of the axes' height, or in the unit of its axis."""
    x = np.column_stack((time.left, time.right)).ravel()
    y = np.repeat(height, 2)
    more: dict[str, Any] = {"transform": axis.get_xaxis_transform()} if on_axes else {}
    axis.fill_between(x, 0, y, color=_AREA, linewidth=0, alpha=0.75, **more)


def _spans(axis: Axes, time: _Time, level: np.ndarray) -> None:
    told = np.minimum.reduceat(np.where(level == 0, _NONE - 1, level), time.starts)
    for priority, color in PRIORITIES.items():
        found = stretches(told == (priority or _NONE - 1))
        if found:
            axis.broken_barh(
                [(time.left[a], time.right[b] - time.left[a]) for a, b in found],
                (0, 1),
                transform=axis.get_xaxis_transform(),
                facecolors=color,
                alpha=_SPAN_ALPHA,
                linewidth=0,
            )


def _scale(axis: Axes, time: _Time) -> None:
    if time.dates:
        locator = AutoDateLocator(maxticks=9)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axis.set_xlabel("UTC")
    else:
        axis.set_xlabel("row (the times are not those of a calendar, or not ascending)")
    axis.set_xlim(time.left[0], time.right[-1])


def _legend(figure: Figure, levels: set[int]) -> None:
    handles = [Patch(color=_AREA, alpha=0.75, label="grade (of a signal: below it)")]
    for priority in sorted(levels, key=lambda one: one or _NONE):
        name = f"alarm, priority {priority}" if priority else "alarm"
        handles.append(Patch(color=PRIORITIES[priority], alpha=_SPAN_ALPHA, label=name))
    figure.legend(handles=handles, loc="outside upper right", ncols=6, frameon=False)
