"""The training of a device, row by row: what its learners gather. `learning` makes limits of it."""

from array import array
from micropython import const

from gridnode.anomaly import statistics as st

SETTLED = const(80)  # %: a signal whose causes came late is judged again
_PARTS = const(24)  # of the training
_SIZE = const(4)  # of a test: the largest maximum of this part, then the three largest of all
_WARM_ROWS = const(20)
_EARLY = const(100)  # rows after which a usual change is known
_LATE = const(500)  # and hardly moves
_COMPARE = const(12)  # % of the training before the choice
_WEIGH = const(85)  # %: the ensemble's limit is learnt from here on

_ROWS = const(0)
_LOW = const(1)  # sum of the values in two words
_HIGH = const(2)
_SPREAD = const(3)  # sum of |distance| from the level
_CHANGES = const(4)
_LONGEST = const(5)  # run of equal readings
_LEVEL_ERROR = const(6)
_PROFILE_ERROR = const(7)
_COMPARED = const(8)
_AT = const(9)  # bin that is visited, its sum, distances and rows
_AT_SUM = const(10)
_AT_SPREAD = const(11)
_AT_ROWS = const(12)
_STATE = const(13)


class Learner:
    """Gathers what one series teaches."""

    def __init__(self, series):
        self.series = series
        self.state = array("i", [0] * _STATE)
        self.state[_AT] = -1
        self.peaks = array("h", [0] * (st.TESTS * _SIZE))
        self.late = False  # the signal was put right: it is compared no more
        self.rows = 0

    def run(self, rows):
        """Take the length of a run of equal readings."""
        self.state[_LONGEST] = max(self.state[_LONGEST], rows)

    def level(self, y, judged):
        """Take a value into level and usual distance; once rows are judged by it, the distance stays."""
        n, s = self.state, self.series.state
        n[_ROWS] += 1
        total = n[_LOW] + y
        n[_HIGH] += total >> 24
        n[_LOW] = total & 0xFFFFFF
        s[st.MEAN] = ((n[_HIGH] << 24) + n[_LOW]) // n[_ROWS]
        if not judged:
            n[_SPREAD] += min(abs(y - s[st.MEAN]), 16383)
            s[st.DEV] = n[_SPREAD] * 16 // n[_ROWS]

    def change(self, y, last):
        """Move the usual change towards the size that three changes in four do not reach."""
        if last == st.MISSING:
            return
        n, s = self.state, self.series.state
        n[_CHANGES] += 1
        usual = s[st.DELTA]
        step = max(1, usual >> (4 if n[_CHANGES] < _EARLY else 6 if n[_CHANGES] < _LATE else 8))
        s[st.DELTA] = max(1, usual + (3 * step if abs(y - last) << 4 > usual else -step))

    def compare(self, y, at):
        """Sum what level and profile leave unexplained."""
        n, series = self.state, self.series
        off = abs(y - series.state[st.MEAN])
        n[_COMPARED] += 1
        n[_LEVEL_ERROR] += off
        if series.visits[at]:
            off = abs(st.off_profile(series.bins, series.visits, y, at))
        n[_PROFILE_ERROR] += off

    def profile(self, y, at):
        """Take a value into its bin of the day; a visit counts once it is over."""
        n = self.state
        if at != n[_AT]:
            self._fold()
            n[_AT] = at
            n[_AT_SUM] = n[_AT_SPREAD] = n[_AT_ROWS] = 0
        n[_AT_SUM] += y
        n[_AT_ROWS] += 1
        mean = self.series.bins[at] if self.series.visits[at] else n[_AT_SUM] // n[_AT_ROWS]
        n[_AT_SPREAD] += min(abs(y - mean), 4095)

    def _fold(self):
        n, bins, visits = self.state, self.series.bins, self.series.visits
        at, rows = n[_AT], n[_AT_ROWS]
        if at < 0 or not rows:
            return
        mean = n[_AT_SUM] // rows
        spread = min(n[_AT_SPREAD] * 16 // rows, 32000)
        seen = visits[at]
        if seen:
            mean = bins[at] + (mean - bins[at]) // (seen + 1)
            spread = bins[st.BINS + at] + (spread - bins[st.BINS + at]) // (seen + 1)
        bins[at] = mean
        bins[st.BINS + at] = spread
        visits[at] = min(seen + 1, 15)

    def limit(self, end, judged):
        """Take the tests of a row; `end`: with it a part of the training ends.

        Tests in steps count from the start, how busy it is once a usual change is known, all others when `judged`.
        """
        self.rows += 1
        if self.rows <= _WARM_ROWS:
            return
        tests, p = self.series.tests, self.peaks
        last = st.TESTS if judged else st.WANDER if self.state[_CHANGES] >= _EARLY else st.BUSY
        for k in range(0 if judged else st.JUMP, last):
            a = k * _SIZE
            p[a] = max(p[a], tests[k])
            if end:
                top = p[a]
                for j in range(a + 1, a + _SIZE):
                    if top > p[j]:
                        p[j], top = top, p[j]
                p[a] = 0


class Training:
    """Teaches the signals of a detector."""

    def __init__(self, detector):
        from gridnode.anomaly import learning

        self.signals = detector.signals
        self.ensemble = detector.ensemble
        self.rows = detector.train_rows
        self.taken = 0
        self.broken = 0  # rows in which a rule was broken
        self.done = 0  # %
        self.stage = 0
        self.part = 0
        self._end = False
        self._at = 0
        self._ys = None  # of this row
        self.learners, self.choice, self.profiled, self.lessons = learning.start(self, detector)
        self.due = learning.due(self)  # %: the next stage begins

    def begin(self, ys, present, at):
        """A row that is learnt from; `at` is its bin of the day."""
        self._ys = ys
        self._at = at
        self.taken += 1
        self.done = self.taken * 100 // self.rows
        part = self.taken * _PARTS // self.rows
        self._end = part != self.part
        self.part = part
        if self.done >= self.due:
            from gridnode.anomaly import learning

            learning.turn(self)
        if self.lessons:
            self.lessons.take(ys, present)

    def before(self, k, y):
        """Signal `k` has a value of `y` steps, freed from its causes; before the statistics take it."""
        learner = self.learners[k]
        certain = self.signals[k].certain
        learner.run(certain.run)
        if self._ys[k] == 0:
            certain.zeros = True
        if self.stage < 2 or learner.late:
            learner.change(y, learner.series.last())
        y -= learner.series.state[st.SHIFT] >> 8
        learner.level(y, self._judged(learner))
        if self.stage == 1 and self.done >= self.choice - _COMPARE:
            learner.compare(y, self._at)

    def after(self, k, y):
        """The same, after they took it."""
        learner = self.learners[k]
        learner.limit(self._end, self._judged(learner))
        learner.profile(y - (learner.series.state[st.SHIFT] >> 8), self._at)

    def _judged(self, learner):
        return self.stage == 2 and (not learner.late or self.done >= SETTLED)

    def row(self, zs, good):
        """The ensemble's turn."""
        ensemble = self.ensemble
        if self.stage < 2:
            return
        if self.done < _WEIGH:
            if not ensemble.weighed:
                learn(ensemble, zs, good)
            return
        if not ensemble.weighed:
            from gridnode.anomaly import learning

            learning.weigh(ensemble)
        ensemble.peak = max(ensemble.peak, ensemble.cost(zs, good))


def learn(ensemble, zs, good):
    """Count a row in the histograms of an ensemble."""
    counts = ensemble.counts
    for k in range(len(ensemble.first)):
        place = ensemble.place(k, zs, good)
        if place >= 0 and counts[place] < 65535:
            counts[place] += 1
