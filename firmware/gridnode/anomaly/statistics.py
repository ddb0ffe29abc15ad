"""Statistics of one signal: how unusual is its newest value?

What a value should be is its level, or its profile over the time of day where that explains more. `z` is the distance
from it in 1/16 of its usual size. The tests look at z and at the change d from row to row; each has a limit, which
training has set:

* season: |z| of a row; slow: its mean over some 8 rows; long: over some 2 h; wander: mean of |z| over 2 h
* jump: distance from the last hours' base, so that weather does not count
* step: change away from the last rows, in steps as jump; quiet: mean of |d| over 16 rows, in usual changes; busy: the
  same, in 1/4 steps, of what d takes back of the change before, so that what goes one way is no noise

A mean counts only as far as newer rows agree with it, and a deviation that has halved counts as over, so that an alarm
ends with its cause. Numbers are integers of at most 31 bits: every machine finds the same grades.
"""

from array import array
from micropython import const

MISSING = const(-32768)
BINS = const(48)  # of a day

LEVEL = const(0)
PROFILE = const(1)

# Tests: upwards and downwards in pairs up to `STEP`; from `JUMP` up to `BUSY` in steps.
SEASON = const(0)
SLOW = const(2)
LONG = const(4)
JUMP = const(6)
STEP = const(8)
BUSY = const(10)
WANDER = const(11)
QUIET = const(12)
TESTS = const(13)

ONE = const(256)  # ratio of a test that reaches its limit
MOST = const(32000)  # a limit that nothing reaches

# State, all in steps where nothing else is said.
FORM = const(0)
MEAN = const(1)  # level
DEV = const(2)  # usual distance, 1/16
DELTA = const(3)  # usual change, 1/16
LEAST = const(4)  # smallest size that matters
SHIFT = const(5)  # by how much the level has been accepted to move, 1/256
_Y1 = const(6)  # newest values
_Y2 = const(7)
_Y3 = const(8)
_Z1 = const(9)  # newest distances
_Z2 = const(10)
_SLOW = const(11)  # means of z, 1/256
_LONG = const(12)
_WANDER = const(13)
_BUSY = const(14)  # means of what d takes back, 1/256 of a step
_BUSY_NOW = const(15)
_FAST = const(16)  # distance now, and over hours, 1/16
_BASE = const(17)
_BASED = const(18)
_PEAK = const(19)  # largest distance from the base in this alarm, 1/16
_SETTLE = const(20)  # rows in which the base follows at once
_TOP = const(21)  # largest |z| of this alarm
_OVER = const(22)  # the deviation has halved
_REF = const(23)  # distance before a step, 1/16
_HALF = const(24)  # half of that step, 0: none
_E1 = const(25)  # newest distance, 1/16
_ACCEPTED = const(26)  # part of SHIFT that was accepted by command
_LASTS = const(27)  # rows of this alarm
_MOVES = const(28)  # mean of |d|, 1/256
_UNDONE = const(29)  # newest change that took back the one before, 1/16
STATE = const(30)

_CLIP = const(512)  # of z in a mean
_CHANGE_CLIP = const(6)  # usual changes, in a mean
_FAR = const(16000)
_LATCH = const(384)  # ratio from which a step is held until it returns
_HELD = const(300)  # ratio of a held step
_NEAR = const(16)  # z that is as good as none

# Why a signal is held: nothing, any alarm, an alarm of the jump itself.
FREE = const(0)
ALARM = const(1)
JUMPED = const(2)


class Series:
    """One signal.

    long_shift: 2 h are 2**long_shift rows; base_rows: rows of 6 h; jump_rows: those in which the base of a jump
    follows; lags: the cause of a deviation acts on after its end (warm joints, moist air). `tests` holds the newest
    values, `limits` those of training, 0: none yet.
    """

    def __init__(self, long_shift, base_rows, lags=False):
        self.state = array("i", [0] * STATE)
        self.bins = array("h", [0] * (2 * BINS))  # mean in steps, usual distance in 1/16
        self.visits = bytearray(BINS)
        self.tests = array("h", [0] * TESTS)
        self.limits = array("h", [0] * TESTS)
        self.long_shift = long_shift
        self.base_rows = self.jump_rows = base_rows
        self.lags = lags
        self.why = 0
        self.state[LEAST] = 8
        self.forget()

    def forget(self):
        """What was before this row does not count: rows are missing."""
        s = self.state
        s[_Y1] = s[_Y2] = s[_Y3] = MISSING
        s[_Z1] = s[_Z2] = s[_SLOW] = s[_HALF] = 0
        s[_FAST] = s[_BASE]

    def rest(self):
        """Hours are missing: what was usual lately does not count either."""
        self.forget()
        s = self.state
        s[_LONG] = s[_WANDER] = s[_BASED] = s[_PEAK] = s[_SETTLE] = s[_TOP] = s[_OVER] = 0

    def restart(self):
        """The signal is corrected in another way from here on."""
        self.forget()
        for k in range(BINS):
            self.visits[k] = 0
        for k in range(_SLOW, STATE):
            self.state[k] = 0

    def take(self, y, at, part, hold):
        """Take a value: fills `tests`. `at` is the bin of the day, `part` 1/256 of it gone; `hold`: see FREE."""
        s = self.state
        usual = s[DEV]
        if s[FORM] == PROFILE and self.visits[at] > 1:
            usual = max(self.bins[BINS + at], (usual * 3) >> 2)
        y0 = y - (s[SHIFT] >> 8)
        z = _times(self._distance(y0, at), max(usual, s[LEAST]))
        recent = median(z, s[_Z1], s[_Z2])
        self._means(z, recent)
        e = self._apart(y0, at, part) << 4
        self._jump(e, hold)
        self._recovery(abs(recent), hold)
        back = s[_HALF] and (e - s[_REF]) * _sign(s[_HALF]) < abs(s[_HALF])
        if back:
            s[_SETTLE] = self.base_rows // 3
        if back or abs(recent) < _NEAR:
            s[_HALF] = 0
        step = self._change(y, self.usual_change(usual), back)
        away = abs(e - s[_BASE]) - abs(s[_E1] - s[_BASE])
        if not s[_HALF] and away > max(usual, s[LEAST]) and self._held(step):
            s[_REF] = s[_E1]
            s[_HALF] = (e - s[_E1]) // 2
        s[_E1] = e
        s[_Z2] = s[_Z1]
        s[_Z1] = z

    def _distance(self, y, at):
        """Distance from what a value should be; between the means of neighbouring bins there is none."""
        s = self.state
        if s[FORM] == PROFILE and self.visits[at]:
            return off_profile(self.bins, self.visits, y, at)
        return y - s[MEAN]

    def _apart(self, y, at, part):
        """Distance from the level or from the profile, drawn from middle to middle of the bins."""
        if self.state[FORM] != PROFILE:
            return y - self.state[MEAN]
        other = at - 1 if part < 128 else at + 1
        here = self.bins[at]
        return y - here - (((self.bins[other % BINS] - here) * abs(part - 128)) >> 8)

    def _means(self, z, recent):
        s, t = self.state, self.tests
        c = min(max(z, -_CLIP), _CLIP)
        s[_SLOW] += ((c << 8) - s[_SLOW]) >> 3
        s[_LONG] += ((c << 8) - s[_LONG]) >> self.long_shift
        s[_WANDER] += ((abs(c) << 8) - s[_WANDER]) >> self.long_shift
        slow = s[_SLOW] >> 8
        self._pair(SEASON, z)
        self._pair(SLOW, agree(slow, 2 * recent))
        self._pair(LONG, agree(s[_LONG] >> 8, 2 * slow))
        t[WANDER] = min(s[_WANDER] >> 8, 2 * abs(slow), 4 * abs(recent))

    def _jump(self, e, hold):
        """Distance from the base, which waits while an alarm lasts and follows at once when a jump has halved."""
        s = self.state
        if not s[_BASED]:
            s[_FAST] = s[_BASE] = e
            s[_BASED] = 1
        s[_FAST] += (e - s[_FAST]) >> 2
        off = s[_FAST] - s[_BASE]
        if s[_SETTLE]:
            s[_SETTLE] -= 1
            s[_BASE] += (e - s[_BASE]) >> 3
        elif hold == FREE:
            s[_BASE] += (e - s[_BASE]) // self.jump_rows
        if hold == FREE:
            if s[_PEAK]:
                s[_SETTLE] = self.base_rows // 3
            s[_PEAK] = 0
        elif hold == JUMPED and not s[_SETTLE]:
            if abs(off) > abs(s[_PEAK]) and (not s[_PEAK] or (off ^ s[_PEAK]) >= 0):
                s[_PEAK] = off
            if off * _sign(s[_PEAK]) * self._part() < abs(s[_PEAK]):
                s[_SETTLE] = self.base_rows // 3
        jump = agree(s[_FAST] - s[_BASE], 2 * (e - s[_BASE]))
        self._pair(JUMP, min(max(jump >> 4, -_FAR), _FAR))

    def _part(self):
        """Of its largest size a deviation must lose all but this part to be over; days bring weather of their own."""
        return 4 if self.state[_LASTS] >= self.base_rows else 2

    def _recovery(self, size, hold):
        s = self.state
        s[_LASTS] = min(s[_LASTS] + 1, self.base_rows) if hold else 0
        if hold:
            s[_TOP] = max(s[_TOP], size)
            if self._part() * size < s[_TOP]:
                s[_OVER] = 1
        elif not s[_OVER]:
            s[_TOP] = 0
        if s[_OVER] and 5 * size > 3 * s[_TOP]:
            s[_OVER] = 0

    def _change(self, y, usual, back):
        """Take the change from the last row; returns it where it leads away from the last three rows."""
        s, t = self.state, self.tests
        y1 = s[_Y1]
        step = 0
        if y1 != MISSING:
            if not back:
                step = agree(y - y1, y - median(y1, s[_Y2], s[_Y3]))
                step = min(max(step, -_FAR), _FAR)
            undone = agree(y - y1, s[_Y2] - y1)
            d = abs(undone) << 4
            last, s[_UNDONE] = s[_UNDONE], d
            d = min(d, max(_CHANGE_CLIP * usual, last)) << 4  # one spike is no noise
            s[_BUSY] += (d - s[_BUSY]) >> 4
            s[_BUSY_NOW] += (d - s[_BUSY_NOW]) >> 2
            t[BUSY] = min(min(s[_BUSY], s[_BUSY_NOW]) >> 6, MOST - 1)
            d = min(abs(y - y1) * ONE // usual, 16 * _CHANGE_CLIP) << 8
            s[_MOVES] += (d - s[_MOVES]) >> 4
            t[QUIET] = min((64 << 12) // max(s[_MOVES], 64), 4096)
            s[_Y3] = s[_Y2]
            s[_Y2] = y1
        else:
            s[_Y2] = s[_Y3] = y
            s[_UNDONE] = 0
        s[_Y1] = y
        self._pair(STEP, step)
        return step

    def _held(self, step):
        limit = self.limits[STEP if step > 0 else STEP + 1]
        return limit and (abs(step) << 8) // limit >= _LATCH

    def _pair(self, test, value):
        self.tests[test] = value
        self.tests[test + 1] = -value

    def usual_change(self, usual):
        """A change that matters, in 1/16 steps, where `usual` is the usual distance."""
        return max(self.state[DELTA], self.state[LEAST], usual >> 6)

    def last(self):
        """The newest value, MISSING before the first."""
        return self.state[_Y1]

    def off(self):
        """Steps between the newest value and what it should be."""
        return self.state[_E1] >> 4

    def distance(self):
        """Newest z."""
        return self.state[_Z1]

    def judge(self):
        """The largest ratio of a test to its limit, ONE at the limit; `why` is that test."""
        s, tests, limits = self.state, self.tests, self.limits
        worst = any_test = 0
        for k in range(TESTS):
            limit = limits[k]
            if limit and tests[k] > 0:
                r = (tests[k] << 8) // limit
                any_test = max(any_test, r)
                if r > worst and not (s[_OVER] and self._fades(k)):
                    worst = r
                    self.why = k
        if any_test < ONE:
            s[_OVER] = 0
        if s[_HALF] and worst < _HELD:
            worst = _HELD
            self.why = JUMP if s[_HALF] > 0 else JUMP + 1
        return worst

    def _fades(self, test):
        """Whether a test is silent while a deviation fades; one that comes and goes over the day does not fade."""
        if test == WANDER:
            return self.lags or self.state[FORM] != PROFILE
        return test < STEP

    def accept(self):
        """The present level is ordinary from now on."""
        s = self.state
        s[SHIFT] += s[_FAST] << 4
        s[_ACCEPTED] = s[SHIFT]
        s[_FAST] = s[_BASE] = s[_E1] = s[_SLOW] = s[_LONG] = s[_WANDER] = s[_HALF] = s[_TOP] = s[_OVER] = s[_PEAK] = 0
        s[_Z1] = s[_Z2] = 0

    def follow(self, rows_a_day):
        """Let the level follow slowly: by three usual distances a day, fifteen in all since it was accepted."""
        s = self.state
        move = max(s[DEV] * 48 // rows_a_day, 1)
        shift = s[SHIFT] + (move if s[_LONG] > 0 else -move)
        if abs(shift - s[_ACCEPTED]) <= self.budget():
            s[SHIFT] = shift

    def ease(self):
        """Let the base of a guarded signal follow in days, also in an alarm."""
        s = self.state
        s[_BASE] += (s[_FAST] - s[_BASE]) // (8 * self.base_rows)

    def followed(self):
        """By how much the level has followed, 1/256 of a step."""
        return abs(self.state[SHIFT] - self.state[_ACCEPTED])

    def budget(self):
        """The most that it may."""
        return self.state[DEV] * 240


def off_profile(bins, visits, y, at):
    """Distance of `y` from the means of the bin and of the middles towards its neighbours."""
    low = high = bins[at]
    for k in ((at - 1) % BINS, (at + 1) % BINS):
        if visits[k]:
            middle = (bins[k] + bins[at]) >> 1
            low = min(low, middle)
            high = max(high, middle)
    return y - high if y > high else y - low if y < low else 0


def _times(value, usual):
    """A value in 1/16 of the usual size, which is given in 1/16; towards zero, within 15 bits."""
    return _sign(value) * min(abs(value) * ONE // usual, _FAR)


def _sign(value):
    return 1 if value > 0 else -1


def agree(a, b):
    """The smaller of two numbers of one sign, else 0."""
    if a > 0 and b > 0:
        return min(a, b)
    if a < 0 and b < 0:
        return max(a, b)
    return 0


def median(a, b, c):
    """The middle one of three numbers."""
    return max(min(a, b), min(max(a, b), c))
