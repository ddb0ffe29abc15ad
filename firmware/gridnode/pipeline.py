"""The way of one meter's readings: measure, correct, account, judge, average into rows and reports."""


class Pipeline:
    """One meter and everything its readings pass; setup.pipeline builds it.

    row, report: windows that may share their reading, since either is used up before the other is finished.
    """

    def __init__(self, meter, correction, ledger, judge, row, report):
        self.meter = meter
        self.correction = correction
        self.ledger = ledger
        self.judge = judge
        self.row = row
        self.report = report

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
