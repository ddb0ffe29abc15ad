"""The way of one meter's readings: measure, correct, account, judge, average into rows and reports."""

from micropython import const

_FLAG_MS = const(10000)  # a chip compares samples: at its threshold a flag flickers


class Pipeline:
    """One meter and everything its readings pass; setup.pipeline builds it.

    ledger: None for a further meter of no energy. row, report: windows that may share their reading, since either is
    used up before the other is finished. flat: of the meter's names, those that stand flat in the report; None for a
    meter that is reported under its own name.

    calibrating: name of the calibration step that is under way, or None; alarms are held for so long. observer: what
    each corrected reading is shown to meanwhile, or None, unless it is in alarm. flagged: the row before was.
    """

    def __init__(self, meter, correction, ledger, judge, row, report, flat=None):
        self.meter = meter
        self.correction = correction
        self.ledger = ledger
        self.judge = judge
        self.row = row
        self.report = report
        self.flat = flat
        self.window = None  # chosen for the report
        self.calibrating = None
        self.observer = None
        self.flagged = False
        self.row_ms = 0  # length of the row that ended last
        self._flags = {}  # name -> ms since the meter last had it up

    async def block(self):
        """Take one block all the way to the row; returns it and the alarms that changed."""
        block = self.correction.correct(await self.meter.block())
        if self.ledger:
            self.ledger.account(block)
        changes = () if self.calibrating else self.judge.block(block)
        self.row.add(block)
        if self.observer and not (self.flagged or self.judge.outside):
            self.observer.add(block)
        return block, changes

    def turned(self, block):
        """Flags that came up with this block, or have been down for ten seconds: [(name, whether it is up)]."""
        changes = []
        for flag in block.flags:
            if flag not in self._flags:
                changes.append((flag, True))
            self._flags[flag] = 0
        for flag in list(self._flags):
            if flag not in block.flags:
                self._flags[flag] += block.ms
                if self._flags[flag] >= _FLAG_MS:
                    del self._flags[flag]
                    changes.append((flag, False))
        return changes

    def close_row(self, timestamp):
        """End the row and add it to the report."""
        self.row_ms = self.row.ms
        if self.row.ms:
            self.report.add(self.row.finish(timestamp))
        self.row.restart()

    def choose(self, early):
        """Set `window` to what is reported: the rows so far, or early, the row that is under way.

        A meter slower than the reports has its newest reading told once more. False for one that has not measured yet.
        """
        self.window = self.row if early and self.row.count else self.report
        if not self.window.count:
            self.window.add(self.meter.reading)
        return self.meter.reading.ms > 0
