"""The way of one meter's readings: measure, correct, account, judge, average into rows and reports."""


class Pipeline:
    """One meter and everything its readings pass; setup.pipeline builds it.

    ledger: None for a further meter of no energy. row, report: windows that may share their reading, since either is
    used up before the other is finished. flat: of the meter's names, those that stand flat in the report; None for a
    meter that is reported under its own name.
    """

    def __init__(self, meter, correction, ledger, judge, row, report, flat=None):
        self.meter = meter
        self.correction = correction
        self.ledger = ledger
        self.judge = judge
        self.row = row
        self.report = report
        self.flat = flat
        self.flags = ()  # of the last block

    def start(self):
        """Hand the correction to the meter."""
        self.correction.applied = self.meter.start(self.correction)

    async def block(self):
        """Take one block all the way to the row; returns it and the alarms that changed."""
        block = self.correction.correct(await self.meter.block())
        if self.ledger:
            self.ledger.account(block)
        changes = self.judge.block(block)
        self.row.add(block)
        return block, changes

    def turned(self, flags):
        """Flags that came up or went down since the last call: [(name, whether it is up)]."""
        last, self.flags = self.flags, flags
        return [(f, True) for f in flags if f not in last] + [(f, False) for f in last if f not in flags]

    def close_row(self, timestamp):
        """End the row and add it to the report."""
        if self.row.ms:
            self.report.add(self.row.finish(timestamp))
        self.row.restart()

    def latest(self):
        """Window for a report out of turn: the row that is under way, or the report's rows so far."""
        return self.row if self.row.count else self.report
