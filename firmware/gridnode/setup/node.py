"""Furnishes a node from what lies on its flash, in stages: the rooms of one go before those of the next come.

What is unusable is said and left out: the node measures without a link, and links without a meter.
"""

import gc

from gridnode import rooms
from gridnode.reading import PHASE

_BASE_BYTES = 1280  # of a report: the node, its configuration, verdict and reasons, the last calibration
_HARMONIC_BYTES = 14  # per order of both spectra


def furnish(app):
    """Give the application its pipelines, its configuration and its connection."""
    from gridnode.setup import papers

    known = papers.read(app)
    papers = None
    rooms.forget()
    if known["node"]:
        from gridnode.setup import link

        known["context"] = link.context(app)
        link = None
        rooms.forget()
    for name in known["rooms"]:  # side by side, before anything else lies there
        try:
            __import__("gridnode." + name)
        except ImportError:
            continue  # told when it is wired
    gc.collect()
    if known["profile"]:
        from gridnode.setup import wiring

        wiring.wire(app, known)
        wiring = None
        rooms.forget()
    _allot(app, known["thing"])
    if known["node"]:
        from gridnode.setup import link

        link.furnish(app, known)


def _allot(app, thing):
    """Make the shadow, its buffer large enough for the report of all meters."""
    from gridnode import shadow

    size = _BASE_BYTES
    for p in app.pipelines:
        entries = len(p.meter.reading.at)
        size += (80 + _HARMONIC_BYTES * getattr(p.meter, "orders", 0)) * entries  # 80: the energies
        for name in p.row.names:
            size += (len(name) + 12) * (entries if name in PHASE else 1)
    app.shadow = shadow.Shadow(thing, {"config": app.desired, "calibrate": app.calibrate}, size)
