"""Furnishes a node from what lies on its flash, in stages: the rooms of one go before those of the next come.

What is unusable is said and left out: the node measures without a link, and links without a meter.
"""

import gc
from micropython import const

from gridnode import rooms
from gridnode.reading import DERIVED, PHASE

_BASE_BYTES = const(1392)  # of a report: the node, configuration, verdict, reasons, last calibration, detector
_PHASE_BYTES = const(512)  # that most meters need: kept while the heap is whole, later no piece of it is that large
_HARMONIC_BYTES = const(14)  # per order of both spectra


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
    known["place"] = bytearray(_BASE_BYTES + _PHASE_BYTES * known["phases"])
    _load(known["rooms"])
    if known["profile"]:
        from gridnode.setup import wiring

        wiring.wire(app, known, lambda meters: _allot(app, known, meters))
        wiring = None
        rooms.forget()
    else:
        _allot(app, known, ())
    _load(known["link"])
    if known["node"]:
        from gridnode.setup import link

        link.furnish(app, known)
        link = None
        rooms.forget()
    if known["watch"]:
        from gridnode.setup import detection

        detection.furnish(app, known["watch"])


def _load(names):
    """Import permanent rooms side by side."""
    for name in names:
        try:
            __import__("gridnode." + name)
        except ImportError:
            continue  # told when it is wired
    gc.collect()


def _allot(app, known, meters):
    """Make the shadow, its buffer large enough for the report of all meters, where a place was kept for it."""
    from gridnode import shadow

    size = _BASE_BYTES
    for meter in meters:
        entries = len(meter.reading.at)
        size += (80 + _HARMONIC_BYTES * getattr(meter, "orders", 0)) * entries  # 80: the energies
        for name in set(meter.names + DERIVED):
            size += (len(name) + 12) * (entries if name in PHASE else 1)
    place = known.pop("place")
    if size > len(place):
        place = None
        gc.collect()
        place = bytearray(size)
    app.shadow = shadow.Shadow(known["thing"], _handlers(app), place)


def _handlers(app):
    return {"config": app.desired, "calibrate": app.calibrate, "detector": app.detector}
