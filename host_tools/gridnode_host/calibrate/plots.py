"""Error plots of a certificate, as SVG that stands inside an HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from gridnode_host import svg
from gridnode_host.calibrate.page import NEAR_ONE

_QUANTITIES = {"voltage": "Voltage", "current": "Current", "power": "Active power"}
_FOUND, _LEFT, _STEP, _BAND = "#b4552d", "#1b5e8c", "#8a8f98", "#e3efe4"
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.edgecolor": "#9aa1ab",
    "axes.linewidth": 0.7,
    "axes.titlesize": 8.5,
    "xtick.color": "#3c434d",
    "ytick.color": "#3c434d",
    "grid.color": "#d5d9df",
    "grid.linewidth": 0.5,
    "svg.fonttype": "path",  # no font of the reader's machine is needed
}
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)

Row = Mapping[str, Any]


def errors(meter: Row, rows: Sequence[Row], limits: Mapping[str, float]) -> str | None:
    """Return the plot of one meter, phases below each other; None where there is nothing."""
    chosen = [
        row
        for row in rows
        if row["meter"] == meter["id"]
        and row["quantity"] in _QUANTITIES
        and row["load_percent"] is not None
    ]
    names = [name for name in _QUANTITIES if any(row["quantity"] == name for row in chosen)]
    phases = sorted({row["phase"] for row in chosen})
    if not names:
        return None
    style: Any = {**_STYLE, "svg.hashsalt": meter["id"]}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7.3, 0.55 + 1.75 * len(phases)), layout="constrained")
        FigureCanvasSVG(figure)
        grid = figure.subplots(len(phases), len(names), squeeze=False, sharex=True)
        for axes, phase in zip(grid, phases, strict=True):
            for axis, name in zip(axes, names, strict=True):
                mine = [r for r in chosen if r["phase"] == phase and r["quantity"] == name]
                _draw(axis, mine, limits.get(name))
                title = _QUANTITIES[name] + (f", L{phase}" if phase else "")
                axis.set_title(f"{title}: error in %", loc="left")
        for axis in grid[-1]:
            axis.set_xlabel("load current in % of the rating")
        _legend(figure)
        return svg.inline(figure)


def _draw(axis: Axes, rows: Sequence[Row], limit: float | None) -> None:
    if limit:
        axis.axhspan(-limit, limit, color=_BAND, linewidth=0, zorder=0)
        for sign in (-1, 1):
            axis.axhline(sign * limit, color="#4f8a57", linewidth=0.8, linestyle=(0, (4, 2)))
    axis.axhline(0, color="#9aa1ab", linewidth=0.6)
    own = sorted((row["load_percent"], row["error"]) for row in rows if row["kind"] == "step")
    if own:
        axis.plot(*zip(*own, strict=True), linestyle="", marker=".", color=_STEP, markersize=4.5)
    for kind, color, marker in (("as_found", _FOUND, "o"), ("as_left", _LEFT, "D")):
        face = "white" if kind == "as_found" else color
        for inclined, shape, line in ((False, marker, "-"), (True, "v", "")):
            mine = sorted(
                (row["load_percent"], row["error"], row.get("u") or 0.0)
                for row in rows
                if row["kind"] == kind and _inclined(row) == inclined
            )
            if mine:
                x, y, u = zip(*mine, strict=True)
                axis.errorbar(
                    x, y, yerr=u, color=color, marker=shape, markersize=3.6, linestyle=line,
                    linewidth=1.0, elinewidth=0.8, capsize=2, markerfacecolor=face, zorder=3,
                )  # fmt: skip
    _scale(axis, rows, limit or 0.5)


def _inclined(row: Row) -> bool:
    """Whether the load was far from power factor 1."""
    factor = row.get("power_factor")
    return factor is not None and abs(factor) < NEAR_ONE


def _scale(axis: Axes, rows: Sequence[Row], limit: float) -> None:
    """Show the class in a linear middle, and what lies far beyond it all the same."""
    reach = max([abs(row["error"]) + (row.get("u") or 0.0) for row in rows] + [1.4 * limit])
    top = 1.15 * reach
    if reach > 3 * limit:
        axis.set_yscale("symlog", linthresh=2 * limit, linscale=1.2)
        top = 1.5 * reach
    axis.set_ylim(-top, top)
    beyond = [step for step in _STEPS if 3 * limit < step <= top]
    ticks = [limit, *beyond[:: max(1, math.ceil(len(beyond) / 2))]]
    axis.yaxis.set_major_locator(FixedLocator([-t for t in reversed(ticks)] + [0.0, *ticks]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:+g}" if y else "0"))
    most = max([row["load_percent"] for row in rows] + [100.0])
    axis.set_xlim(-3, 1.05 * most)
    axis.grid(visible=True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure.legend(
        handles=[
            Line2D([], [], color=_FOUND, marker="o", markerfacecolor="white", label="as found"),
            Line2D([], [], color=_LEFT, marker="D", label="as left"),
            Line2D([], [], color="#3c434d", marker="v", linestyle="", label="PF below 0.98"),
            Line2D([], [], color=_STEP, marker=".", linestyle="", label="after a step"),
            Patch(facecolor=_BAND, edgecolor="#4f8a57", linestyle="--", label="class"),
        ],
        loc="outside upper right",
        ncols=5,
        frameon=False,
        handlelength=2.2,
    )
