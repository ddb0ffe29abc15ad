"""Plots of the calibration's figures, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

from gridnode_host.bench.figures.calibration_judge import LIMITS
from gridnode_host.bench.figures.calibration_nodes import HELD_OUT, Result, named
from gridnode_host.bench.figures.calibration_units import Unit

_FLOOR = 1e-3  # %, what stands for nothing on a logarithmic axis
_SHOWN = {
    "voltage": ("voltage", 1.0),
    "current": ("current", 1.0),
    "power at PF 1": ("power", 1.0),
    "power at PF 0.5": ("power", 0.5),
}


def units(found: Sequence[Unit], folder: Path) -> Path:
    """Draw the worst error of every unit before and after, sorted, one panel per quantity."""
    figure, axes = pyplot.subplots(
        1, len(LIMITS), figsize=(3.6 * len(LIMITS), 4.2), layout="constrained", sharey=True
    )
    for axis, (name, limit) in zip(axes, LIMITS.items(), strict=True):
        for label, errors in (
            ("before", [unit.before[name] for unit in found]),
            ("after", [unit.after[name] for unit in found]),
        ):
            shares = [100 * (k + 1) / len(errors) for k in range(len(errors))]
            axis.plot(sorted(max(e, _FLOOR) for e in errors), shares, label=label)
        axis.axvline(limit, linestyle=":", linewidth=0.8, color="black", label="limit")
        axis.set(xscale="log", title=name, xlabel="worst error of a unit, %")
        axis.grid(visible=True, linewidth=0.3)
    axes[0].set(ylabel="% of the units with at most this")
    axes[0].legend(fontsize=8)
    figure.suptitle(f"Calibration, rules alone: {len(found)} front ends")
    path = folder / "units.svg"
    figure.savefig(path)
    pyplot.close(figure)
    return path


def nodes(found: Sequence[Result], folder: Path) -> list[Path]:
    """Draw the errors of the nodes over the load, a file per profile."""
    by_profile: dict[str, list[Result]] = {}
    for result in found:
        by_profile.setdefault(result.job.profile, []).append(result)
    return [_profile(name, results, folder) for name, results in by_profile.items()]


def _profile(name: str, results: Sequence[Result], folder: Path) -> Path:
    factors = {load.factor for load in results[0].loads}
    shown = {title: at for title, at in _SHOWN.items() if at[1] in factors}
    figure, axes = pyplot.subplots(
        1,
        len(shown),
        figsize=(max(3.8 * len(shown), 8.0), 4.4),
        squeeze=False,
        layout="constrained",
    )
    for axis, (title, (quantity, factor)) in zip(axes[0], shown.items(), strict=True):
        for k, result in enumerate(results):
            for errors, line in ((result.before, "--"), (result.after, "-")):
                points = [
                    (load.share, max(worst.get(named(quantity, load), 0.0), _FLOOR))
                    for load, worst in sorted(errors.items(), key=lambda item: item[0].share)
                    if load.factor == factor
                ]
                if points:
                    label = f"unit {result.job.seed}" if line == "-" else None
                    axis.plot(
                        *zip(*points, strict=True),
                        line,
                        color=f"C{k}",
                        marker="o",
                        markersize=3,
                        linewidth=1.0 if line == "-" else 0.7,
                        label=label,
                    )
        axis.axhline(LIMITS[title], linestyle=":", linewidth=0.8, color="black")
        axis.set(xscale="log", yscale="log", title=f"{title}, %", xlabel="% of rated current")
        axis.set_xticks(HELD_OUT, [str(share) for share in HELD_OUT])
        axis.minorticks_off()
        axis.grid(visible=True, linewidth=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(f"{name}: errors as found (dashed) and as left, limits dotted")
    path = folder / f"{name}.svg"
    figure.savefig(path)
    pyplot.close(figure)
    return path
