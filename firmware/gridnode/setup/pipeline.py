"""Builds the parts of a pipeline for one meter of the profile."""

from gridnode import anomaly, energy, reading
from gridnode.setup import calibration


def furnish(pipeline, spec, profile, stored, machine, time, retained, record, primary):
    """Give `pipeline` its meter and all that its readings pass. Raises ValueError for what cannot be wired."""
    meter = pipeline.meter = _load_meter(spec, profile, machine, time)
    phases = meter.phases
    pipeline.correction = calibration.correction(spec, stored)
    # What the wires can carry, with room for a swell: more is no energy but a fault.
    limit_w = profile["nominal"]["voltage"] * profile["rating"]["current"] * 1.5 * phases
    path = energy.PATH if primary else "/data/energy-%s.bin" % spec["id"]
    pipeline.ledger = energy.Ledger(len(meter.reading.at), limit_w, retained, record, path)
    pipeline.ledger.load()
    pipeline.judge = anomaly.Judge(profile.get("limits", {}) if primary else {}, phases)
    extremes = profile.get("report", {}).get("extremes", ()) if primary else ()
    pipeline.row = reading.Window(spec["id"], phases, extremes)
    pipeline.report = reading.Window(spec["id"], phases, extremes)
    pipeline.report.reading = pipeline.row.reading  # either is used up before the other is finished


def _load_meter(spec, profile, machine, time):
    """The meter of one profile entry; its driver is the module of that name in gridnode.meters."""
    name = "gridnode.meters." + spec["driver"]
    try:
        module = __import__(name, None, None, ("Meter",))
    except ImportError:
        raise ValueError("no driver %r" % spec["driver"])
    return module.Meter(spec, profile, machine, time)
