"""Figures as SVG that stands inside an HTML page."""

from __future__ import annotations

import io
import re

from matplotlib.figure import Figure

_PLACES = re.compile(r'<path (?:id="m[0-9a-f]+" )?d="M[^"]*"')  # no glyphs: they are scaled
_LONG = re.compile(r"(\.\d\d)\d+")


def inline(figure: Figure) -> str:
    """Return a figure as an <svg> element without prolog, metadata and addresses.

    Places are told to 1/100 of a point.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    return _PLACES.sub(lambda path: _LONG.sub(r"\1", path[0]), svg)
