"""Learning what is usual for one signal, and the limits of its tests.

Up to `FIT` of the training levels, changes and causes are gathered; until it is chosen whether a profile explains a
signal, errors are compared; from then on rows are judged as later on, and a limit is what the worst of the 24 parts of
the training reached, times a margin.
"""

from array import array
from micropython import const

from gridnode.anomaly import statistics as st

FIT = const(40)  # %: the causes are known
REFIT = const(70)  # %: and may be put right once
CHOOSE_LONG = const(55)  # %: level or profile
CHOOSE_SHORT = const(72)  # the same for a training of less than three days
SETTLED = const(80)  # %: such a signal is judged again
PARTS = const(24)  # of the training

_KEPT = const(3)  # largest maxima of the parts
_SIZE = const(4)  # with that of this part
_WARM_ROWS = const(20)
_SHORT = const(1000)  # rows of a training that shows little of what is ordinary
_YOUNG = const(18)  # its margins, 1/16
_FOUL = const(4)  # times the second worst part
_RUN = const(10)  # rows that any signal may stand still
_LATE = const(500)  # rows after which a usual change hardly moves

# By test: margin over the largest maximum, 1/16; least limit, 1/16 of the usual size, of a step in steps.
_MARGIN = (28, 28, 28, 28, 36, 36, 28, 28, 28, 28, 48, 26, 48)
_FLOOR = (128, 128, 112, 112, 96, 96, 16, 16, 4, 4, 96, 40, 400)
# Weather moves humidity, and a few days do not show how far: three times the margin.
WEATHER = const(3)

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
    """Teaches one series; `weather`: margin of what only weather explains."""

    def __init__(self, series, weather=1):
        self.series = series
        self.weather = weather
        self.state = array("i", [0] * _STATE)
        self.state[_AT] = -1
        self.peaks = array("h", [0] * (st.TESTS * _SIZE))
        self.late = False  # the signal was put right: it is compared no more
        self.rows = 0

    def run(self, rows):
        """Take the length of a run of equal readings."""
        self.state[_LONGEST] = max(self.state[_LONGEST], rows)

    def resume(self, rows, run_limit):
        """Go on as after so many rows; the worst of the past is where the limits say."""
        n, s = self.state, self.series.state
        self.rows = n[_ROWS] = rows
        total = s[st.MEAN] * rows
        n[_HIGH] = total >> 24
        n[_LOW] = total & 0xFFFFFF
        if run_limit is not None:
            n[_LONGEST] = (run_limit - _RUN) // 2 if run_limit else rows
        for k in range(st.TESTS):
            for j in range(1, _SIZE):
                self.peaks[k * _SIZE + j] = (self.series.limits[k] << 4) // _MARGIN[k]

    def restart(self):
        """The signal is corrected by its causes from here on."""
        longest = self.state[_LONGEST]
        for k in range(_STATE):
            self.state[k] = 0
        self.state[_LONGEST] = longest
        self.state[_AT] = -1
        for k in range(len(self.peaks)):
            self.peaks[k] = 0
        self.series.restart()
        self.series.state[st.DELTA] = self.series.state[st.DEV] = 0
        self.series.state[st.FORM] = st.LEVEL

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
        step = max(1, usual >> (4 if n[_CHANGES] < 100 else 6 if n[_CHANGES] < _LATE else 8))
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

    def choose(self, profiled):
        """Take the profile where it explains 15 % more than the level does, and there are days enough."""
        n, s = self.state, self.series.state
        if not n[_COMPARED]:
            return
        good = profiled and n[_PROFILE_ERROR] * 100 < n[_LEVEL_ERROR] * 85
        s[st.FORM] = st.PROFILE if good else st.LEVEL
        s[st.DEV] = max((n[_PROFILE_ERROR] if good else n[_LEVEL_ERROR]) * 16 // n[_COMPARED], 1)

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
        """Take the tests of a row; `end`: with it a part of the training ends. Steps count from the start."""
        self.rows += 1
        if self.rows <= _WARM_ROWS:
            return
        tests, p = self.series.tests, self.peaks
        for k in range(st.TESTS) if judged else (st.STEP, st.STEP + 1):
            a = k * _SIZE
            p[a] = max(p[a], tests[k])
            if end:
                top = p[a]
                for j in range(a + 1, a + _SIZE):
                    if top > p[j]:
                        p[j], top = top, p[j]
                p[a] = 0

    def freeze(self):
        """Set the limits; returns whether one part of the training stands out as faults do."""
        s, limits, p = self.series.state, self.series.limits, self.peaks
        least = s[st.LEAST] * st.ONE // max(s[st.DEV], s[st.LEAST])
        foul = False
        for k in range(st.TESTS):
            a = k * _SIZE
            first, second, third = max(p[a], p[a + 1]), p[a + 2], p[a + 3]
            floor = _FLOOR[k]
            if k < st.STEP or k == st.WANDER:
                floor = max(floor, least)
            elif k < st.WANDER:
                floor = max(floor, s[st.LEAST], s[st.DEV] >> 4)
            if k < st.JUMP and first > _FOUL * max(second, floor):
                first = second
                foul = True
            if k < st.JUMP or k == st.WANDER:
                first *= self.weather
                third *= self.weather
            limit = (first * _MARGIN[k] * (_YOUNG if self.rows < _SHORT else 16) >> 8) + first - third
            limits[k] = min(max(floor, limit), 32000) if second else 0  # 0: too few parts were judged
        return foul

    def longest_run(self):
        """Rows that the signal may stand still, 0 where it did so for a quarter of the training."""
        longest = self.state[_LONGEST]
        return 0 if longest * 4 > self.rows else 2 * longest + _RUN
