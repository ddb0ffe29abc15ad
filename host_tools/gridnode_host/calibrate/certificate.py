"""The certificate of a calibration: one HTML page, and the same content as JSON beside it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from gridnode_host import pages
from gridnode_host.calibrate import page
from gridnode_host.calibrate.document import Document, build, digest
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.files import unwritten, write_atomic

__all__ = ["Checked", "build", "check_place", "render", "verify", "write"]

_TEMPLATE = "certificate.html.j2"
_PAGES = (".html", ".htm")


@dataclass(frozen=True)
class Checked:
    """What comes of verifying a certificate: the hash it states and the one it has.

    ``page`` says whether the HTML file beside it states the same; None: there is none.
    """

    stated: str
    found: str
    number: str
    page: bool | None

    @property
    def matches(self) -> bool:
        """Whether the file is as it was written."""
        return self.stated == self.found and self.page is not False


def check_place(path: Path) -> None:
    """Raise `GridnodeError` (USAGE) where no certificate can be written."""
    if path.suffix.lower() not in _PAGES:
        raise _unwritable(path, "its name does not end in .html")
    folder = path.parent
    if not folder.is_dir():
        raise _unwritable(path, f"there is no folder {folder}")
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise _unwritable(path, "it cannot be written there")


def write(document: Document, path: Path) -> Path:
    """Write the page and the JSON beside it; returns the path of the JSON."""
    beside = path.with_suffix(".json")
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    html = render(document)
    try:
        write_atomic(beside, text.encode() + b"\n")
        write_atomic(path, html.encode())
    except OSError as err:
        failure = unwritten("write the certificate", path, err)
        failure.action = f"The calibration itself is done. {failure.action}"
        raise failure from err
    return beside


def render(document: Document) -> str:
    """Return the page of a certificate: whole, without anything from elsewhere."""
    from markupsafe import Markup

    from gridnode_host.calibrate import plots

    figures = []
    for meter in document["meters"]:
        svg = plots.errors(meter, document["points"], document["class_percent"])
        if svg:
            figures.append((meter, Markup(svg)))  # drawn here, from numbers
    template = pages.template(
        "gridnode_host.calibrate", _TEMPLATE, number=page.number, in_order=page.in_order
    )
    return template.render(
        c=document,
        figures=figures,
        columns=page.in_order(document["class_percent"]),
        verified=page.verified(document),
        budget=page.budget(document),
        steps=page.steps(document),
        notes=page.notes(document),
    )


def verify(path: Path) -> Checked:
    """Compute the hash of a certificate again; ``path`` is its page or its JSON.

    Raises `GridnodeError` (USAGE).
    """
    pages = [path.with_suffix(end) for end in _PAGES]
    if path.suffix.lower() in _PAGES:
        path = path.with_suffix(".json")
    try:
        document = json.loads(path.read_text("utf-8"))
        stated, found = str(document["sha256"]), digest(document)
        number = str(document["number"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        reason = err.strerror if isinstance(err, OSError) else "it is no certificate in JSON"
        raise GridnodeError(
            "read the certificate", f"{path}: {reason}", "Give its .html or .json file.", Exit.USAGE
        ) from err
    found_pages = [page.read_text("utf-8", "replace") for page in pages if page.is_file()]
    states = all(stated in text for text in found_pages) if found_pages else None
    return Checked(stated, found, number, states)


def _unwritable(path: Path, cause: str) -> GridnodeError:
    return GridnodeError(
        "find the place of the certificate", f"{path}: {cause}", "Name another file.", Exit.USAGE
    )
