"""Builds the pipeline of a meter."""

from gridnode import anomaly, energy, reading
from gridnode.pipeline import Pipeline
from gridnode.setup import calibration


def build(spec, profile, stored, machine, time, retained, record, primary):
    """The pipeline of one entry of the profile's meters.

    stored: the calibration file or None; record: number of the meter's record in `retained`; primary: the limits
    and the report's settings are its. Raises ValueError for what cannot be wired.
    """
    meter = _load_meter(spec, profile, machine, time)
    phases = meter.phases
    # What the wires can carry, with room for a swell: more is no energy but a fault.
    limit_w = profile["nominal"]["voltage"] * profile["rating"]["current"] * 1.5 * phases
    path = energy.PATH if primary else "/data/energy-%s.bin" % spec["id"]
    ledger = energy.Ledger(len(meter.reading.at), limit_w, retained, record, path)
    ledger.load()
    judge = anomaly.Judge(profile.get("limits", {}) if primary else {}, phases)
    extremes = profile.get("report", {}).get("extremes", ()) if primary else ()
    row = reading.Window(spec["id"], phases, extremes)
    report = reading.Window(spec["id"], phases, extremes)
    report.reading = row.reading
    return Pipeline(meter, calibration.correction(spec, stored), ledger, judge, row, report)


def _load_meter(spec, profile, machine, time):
    """The meter of one profile entry; its driver is the module of that name in gridnode.meters."""
    name = "gridnode.meters." + spec["driver"]
    try:
        module = __import__(name, None, None, ("Meter",))
    except ImportError:
        raise ValueError("no driver %r" % spec["driver"])
    return module.Meter(spec, profile, machine, time)
