"""Plots of the figures, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

from gridnode_host.bench.figures.event_matching import (
    DEPTH_LIMIT,
    DURATION_LIMIT_MS,
    KINDS,
    Match,
)
from gridnode_host.bench.figures.event_runs import Run
from gridnode_host.bench.figures.judge import Result
from gridnode_host.bench.figures.loads import LOADS
from gridnode_host.bench.figures.points import SHARES

# quantity -> (title, what stands for nothing on a logarithmic axis)
_ACCURACY = {
    "voltage": ("V, %", 1e-3),
    "current": ("I, %", 1e-3),
    "power": ("P, %", 1e-3),
    "frequency": ("f, mHz", 0.1),
    "harmonics_current": ("harmonics of I, % of fundamental", 1e-3),
}


def accuracy(results: Sequence[tuple[Any, Result]], folder: Path) -> list[Path]:
    """Draw the worst errors over the load, one file per front end; returns their paths."""
    found: dict[str, list[Result]] = {}
    for _, result in results:
        found.setdefault(result.front_end.profile, []).append(result)
    return [_front_end(name, chosen, folder) for name, chosen in found.items()]


def events(results: Sequence[tuple[Any, Run]], folder: Path) -> list[Path]:
    """Draw depth and duration of the events found against the true ones, a file per front end."""
    found: dict[str, list[Match]] = {}
    for _, run in results:
        found.setdefault(run.profile, []).extend(
            m for m in run.matches if m.depth_error is not None
        )
    return [_found(name, matches, folder) for name, matches in found.items() if matches]


def _found(name: str, matches: list[Match], folder: Path) -> Path:
    figure, axis = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    for kind in KINDS:
        chosen = [m for m in matches if m.injected.kind == kind]
        x = [m.duration_error_ms or 0.0 for m in chosen]
        y = [m.depth_error or 0.0 for m in chosen]
        axis.scatter(x, y, s=10, alpha=0.5, label=f"{kind.name} ({len(chosen)} found)")
    for sign in (-1, 1):
        axis.axvline(sign * DURATION_LIMIT_MS, linestyle=":", linewidth=0.8)
        axis.axhline(sign * DEPTH_LIMIT, linestyle=":", linewidth=0.8)
    axis.set(xscale="symlog", title=f"{name}: events found, limits dotted")
    axis.set(xlabel="error of the duration, ms", ylabel="error of the depth, % of nominal")
    axis.grid(visible=True, linewidth=0.3)
    axis.legend(fontsize=8)
    path = folder / f"{name}.svg"
    figure.savefig(path)
    pyplot.close(figure)
    return path


def _front_end(name: str, results: list[Result], folder: Path) -> Path:
    offers = [one for one in _ACCURACY if one in results[0].front_end.offers]
    figure, axes = pyplot.subplots(
        1,
        len(offers),
        figsize=(max(4.2 * len(offers), 8.0), 4.6),
        squeeze=False,
        layout="constrained",
    )
    for axis, quantity in zip(axes[0], offers, strict=True):
        title, floor = _ACCURACY[quantity]
        for load in LOADS:
            shown = [
                (r.point.share, max(r.worst[quantity], floor), r.bounds[quantity])
                for r in results
                if r.point.load == load and r.point.frequency == 50.0 and quantity in r.worst
            ]
            if not shown:
                continue
            shares, worst, bounds = zip(*sorted(shown), strict=True)
            (line,) = axis.plot(shares, worst, marker="o", markersize=3, label=load.name)
            axis.plot(shares, bounds, color=line.get_color(), linestyle=":", linewidth=0.8)
        axis.set(xscale="log", yscale="log", title=title, xlabel="% of rated current")
        axis.set_xticks(SHARES[:-1], [str(share) for share in SHARES[:-1]])
        axis.minorticks_off()
        axis.grid(visible=True, linewidth=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(f"{name} ({results[0].front_end.title}): worst errors, limits dotted")
    path = folder / f"{name}.svg"
    figure.savefig(path)
    pyplot.close(figure)
    return path
