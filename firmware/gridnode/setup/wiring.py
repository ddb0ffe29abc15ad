"""Wires the meters of a profile: first the meters with their corrections, then the way of their readings.

What is unusable is said and left out. Either stage has rooms of its own, which go before the next one comes.
"""

import time

from gridnode import rooms


def wire(app, known, allot):
    """Give the application its pipelines; known: see papers.read.

    allot: makes the buffer for the reports of the meters, while the heap is not yet cut to pieces by their windows.
    """
    profile, stored = _load(known["profile"]), _load(known["calibration"])
    rooms.forget()
    started = _meters(app, profile, stored)
    stored = None
    rooms.forget()
    allot([meter for meter, _ in started if meter])
    _pipelines(app, profile, started)


def _load(path):
    from gridnode import documents

    return documents.load(path)[0] if path else None


def _meters(app, profile, stored):
    """[(meter, its correction)], (None, None) where there is none."""
    from gridnode.setup import calibration, drivers

    try:
        calibration.install(profile, stored)
    except ValueError as e:
        app.fault("calibration", "refused", str(e), "measure with design values")
        stored = None
    meters = []
    for spec in profile["meters"]:
        try:
            meters.append(drivers.load_meter(spec, profile, app.machine, time))
        except (ValueError, KeyError, OSError) as e:
            _refused(app, spec, e)
            meters.append(None)
    started = []
    for k, spec in enumerate(profile["meters"]):
        correction = None
        for calibrated in (stored, None):
            if meters[k] and not correction:
                try:
                    correction = calibration.put(meters[k], spec, calibrated, calibration.thermometer(meters, k))
                except (ValueError, KeyError, OSError) as e:
                    _refused(app, spec, e, calibrated)
        started.append((meters[k], correction) if correction else (None, None))
    return started


def _pipelines(app, profile, started):
    from gridnode.setup import pipeline

    flat = pipeline.flat_names(profile, [meter for meter, _ in started])
    for k, spec in enumerate(profile["meters"]):
        meter, correction = started[k]
        if meter:
            way = pipeline.build(meter, correction, spec, profile, app.retained, k + 1, flat[k])
            app.pipelines.append(way)
            app.ledger = app.ledger or way.ledger
            for sentence in getattr(meter, "warnings", ()):
                app.fault("meter " + meter.id, "threshold", sentence, "measure without that flag")


def _refused(app, spec, error, calibrated=None):
    room = "calibration" if calibrated else "meter"
    action = "measure with design values" if calibrated else "the other meters go on"
    app.fault(room, "refused", "meter %s: %s" % (spec["id"], error), action)
