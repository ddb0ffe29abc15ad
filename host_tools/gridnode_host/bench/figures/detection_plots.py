"""Plots of the detectors' figures, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from gridnode_host.bench.figures.detection_runs import CLEAN, HARD, NODE, Results
from gridnode_host.bench.figures.detection_tables import poisson_upper

_USED_TO = ("seed", "s_persistent")


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw everything; returns the paths."""
    wide = 5.2 * len(_USED_TO)
    return [
        _file(folder / "used_to_it.svg", (wide, 4.4), len(_USED_TO), results, _used_to_it),
        _file(folder / "event_recall.svg", (8.0, 5.2), 1, results, _event_recall),
        _file(folder / "false_alarms.svg", (8.0, 4.4), 1, results, _false_alarms),
    ]


def _file(
    path: Path,
    size: tuple[float, float],
    panels: int,
    results: Results,
    fill: Callable[[list[Axes], Results], None],
) -> Path:
    figure, axes = pyplot.subplots(1, panels, figsize=size, layout="constrained", squeeze=False)
    fill(list(axes[0]), results)
    figure.savefig(path)
    pyplot.close(figure)
    return path


def _used_to_it(axes: list[Axes], results: Results) -> None:
    """Recall over the tenths of the anomalous rows."""
    for axis, kind in zip(axes, _USED_TO, strict=True):
        for detector in results.detectors:
            draws = results.draws(kind, detector)
            curves = [draw["recall_by_tenth"] for draw in draws if "recall_by_tenth" in draw]
            if curves:
                width = 2.4 if detector == NODE else 1.0
                axis.plot(range(1, 11), np.mean(curves, axis=0), label=detector, linewidth=width)
        axis.set(title=kind, xlabel="tenth of the anomalous rows", ylabel="recall")
        axis.set(ylim=(-0.03, 1.03))
        axis.grid(visible=True, linewidth=0.3)
    axes[0].legend(fontsize=8)


def _event_recall(axes: list[Axes], results: Results) -> None:
    """A field per stream and detector."""
    (axis,), detectors = axes, results.detectors
    share = np.array([[results.mean(k, d, "event_recall") for d in detectors] for k in HARD])
    axis.imshow(share, vmin=0, vmax=1, cmap="Greens", aspect="auto")
    for (row, column), value in np.ndenumerate(share):
        if not math.isnan(value):
            color = "white" if value > 0.6 else "black"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, size=8)
    axis.set_xticks(range(len(detectors)), detectors, rotation=30, ha="right")
    axis.set_yticks(range(len(HARD)), HARD)
    axis.set(title="share of the events found")


def _false_alarms(axes: list[Axes], results: Results) -> None:
    """A mark per clean stream and detector, up to the upper bound."""
    (axis,), detectors = axes, results.detectors
    for k, detector in enumerate(detectors):
        for j, kind in enumerate(CLEAN):
            count, days = (results.total(kind, detector, f) for f in ("false_alarms", "days"))
            if math.isnan(count):
                continue
            rate, place = count / days, k + (j - 1.5) / 6
            label = kind if k == 0 else None
            axis.plot([place, place], [rate, poisson_upper(int(count)) / days], color=f"C{j}")
            axis.plot([place], [rate], "o", markersize=4, color=f"C{j}", label=label)
    axis.set_xticks(range(len(detectors)), detectors, rotation=30, ha="right")
    axis.set_yscale("symlog", linthresh=0.1)
    axis.set(title="false alarms on clean streams, up to the 95 % bound", ylabel="a day")
    axis.set(ylim=(0, None))
    axis.grid(visible=True, axis="y", linewidth=0.3)
    axis.legend(fontsize=8)
