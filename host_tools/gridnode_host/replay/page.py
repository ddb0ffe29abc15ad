"""A replay as one file for people: an HTML page with nothing from elsewhere, or a PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from gridnode_host import __version__, pages, svg
from gridnode_host.replay import figure
from gridnode_host.replay.episodes import Episode, readable
from gridnode_host.replay.judge import Judgement
from gridnode_host.replay.recording import Recording

__all__ = ["SUFFIXES", "render"]

SUFFIXES = (".html", ".htm", ".png")

_LISTED = 1000
_LISTED_PNG = 20
_DPI = 110


def render(
    suffix: str,
    recording: Recording,
    judgement: Judgement,
    episodes: Sequence[Episode],
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> bytes:
    """The file's content; `suffix` is one of SUFFIXES, `facts` are names and values."""
    if suffix == ".png":
        data = io.BytesIO()
        foot = [f"{name}: {value}" for name, value in facts] + ["", *_foot(episodes)]
        _drawn(recording, judgement, foot).savefig(data, format="png", dpi=_DPI)
        return data.getvalue()
    return _page(recording, judgement, episodes, facts, notes).encode()


def _drawn(recording: Recording, judgement: Judgement, foot: Sequence[str] = ()) -> Figure:
    stream = recording.stream
    return figure.draw(judgement, stream.t, stream.values, foot)


def _page(
    recording: Recording,
    judgement: Judgement,
    episodes: Sequence[Episode],
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> str:
    from markupsafe import Markup

    return pages.template("gridnode_host.replay", "replay.html.j2", readable=readable).render(
        name=recording.stream.name,
        facts=facts,
        notes=notes,
        svg=Markup(svg.inline(_drawn(recording, judgement))),  # drawn here
        episodes=episodes[:_LISTED],
        left_out=max(0, len(episodes) - _LISTED),
        colors=figure.PRIORITIES,
        software=f"gridnode {__version__}",
    )


def _foot(episodes: Sequence[Episode]) -> list[str]:
    """The first alarms as a table of text."""
    if not episodes:
        return ["No alarm."]
    rows = [("start", "end", "rows", "priority", "kind", "diagnosis", "signals")]
    rows += [
        (
            readable(one.start),
            readable(one.end),
            str(one.rows),
            str(one.priority or ""),
            one.kind,
            one.diagnosis,
            " ".join(one.signals),
        )
        for one in episodes[:_LISTED_PNG]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if len(episodes) > _LISTED_PNG:
        lines.append(f"and {len(episodes) - _LISTED_PNG} more")
    return lines
