"""The way of one meter's readings: measure, correct, account, judge, average into rows and reports."""

from gridnode import anomaly, energy, reading


class Pipeline:
    """One meter and everything its readings pass; raises ValueError for a profile that cannot be wired."""

    def __init__(self, spec, profile, stored, machine, time, retained, record, primary):
        from gridnode.setup import calibration

        self.meter = load_meter(spec, profile, machine, time)
        self.correction = calibration.correction(spec, stored)
        # What the wires can carry, with room for a swell: more is no energy but a fault.
        limit_w = profile["nominal"]["voltage"] * profile["rating"]["current"] * 1.5 * self.meter.phases
        path = energy.PATH if primary else "/data/energy-%s.bin" % spec["id"]
        self.ledger = energy.Ledger(len(self.meter.reading.at), limit_w, retained, record, path)
        self.ledger.load()
        self.judge = anomaly.Judge(profile.get("limits", {}) if primary else {}, self.meter.phases)
        extremes = profile.get("report", {}).get("extremes", ()) if primary else ()
        self.row = reading.Window(spec["id"], self.meter.phases, extremes)
        self.report = reading.Window(spec["id"], self.meter.phases, extremes)

    def start(self):
        """Hand the correction to the meter."""
        self.correction.applied = self.meter.start(self.correction)

    def block(self):
        """Take one block all the way to the row; returns the alarms that changed."""
        block = self.correction.correct(self.meter.block())
        self.ledger.account(block)
        changes = self.judge.block(block)
        self.row.add(block)
        return changes

    def close_row(self, timestamp):
        """End the row and add it to the report."""
        if self.row.ms:
            self.report.add(self.row.finish(timestamp))
        self.row.restart()

    def latest(self):
        """Window for a report out of turn: the row that is under way, or the report's rows so far."""
        return self.row if self.row.count else self.report


def load_meter(spec, profile, machine, time):
    """The meter of one profile entry; its driver is the module of that name in gridnode.meters."""
    name = "gridnode.meters." + spec["driver"]
    try:
        module = __import__(name, None, None, ("Meter",))
    except ImportError:
        raise ValueError("no driver %r" % spec["driver"])
    return module.Meter(spec, profile, machine, time)
