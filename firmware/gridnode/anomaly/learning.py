"""The stages of a training: what is decided now and then. What is gathered row by row is in `training`.

Up to `FIT` of the training levels, changes and causes are gathered; until it is chosen whether a profile explains a
signal, errors are compared; from then on rows are judged as later on, and a limit is what the worst of the 24 parts of
the training reached, times a margin.
"""

from array import array
from micropython import const

from gridnode.anomaly import ensemble as en
from gridnode.anomaly import scale
from gridnode.anomaly import statistics as st
from gridnode.anomaly.training import SETTLED, Learner

FIT = const(40)  # %: the causes are known
REFIT = const(70)  # %: and may be put right once
CHOOSE_LONG = const(55)  # %: level or profile
CHOOSE_SHORT = const(72)  # the same for a training of less than three days

_SHORT = const(1000)  # rows of a training that shows little of what is ordinary
_YOUNG = const(18)  # its margins, 1/16
# From there on, in 1/16 of the limit that the others make, parts stand out: by distances, by jumps and steps. Of 470
# signals that were learnt without a fault the most was 22 and 21.
_APART = const(32)
_STEPPED = const(24)
_RUN = const(10)  # rows that any signal may stand still
_LONG_S = const(259200)  # training from which profiles are chosen earlier
_PROFILE_S = const(108000)  # a bin has then been seen twice
_NEVER = const(1000)  # %
_FOUL_PARTS = const(2)

# By test: margin over the largest maximum, 1/16; least limit, 1/16 of the usual size, of jump and step in steps.
_MARGIN = (28, 28, 28, 28, 36, 36, 28, 28, 28, 28, 26, 48, 48)
_FLOOR = (128, 128, 112, 112, 96, 96, 16, 16, 4, 4, 16, 96, 400)
# Weather moves humidity, and a few days do not show how far: three times the margin.
_WEATHER = const(3)
# Material changes that a season may move air, its humidity, and what is as warm where no sensor tells that of the air:
# 8 K, and the 24 % of humidity that they cost.
_SEASON = const(4)
_FREE = const(28)  # 1/16: so much wider are least limits of what consumers may do: large loads, many changes
_WARMING = const(21)  # margin of a jump from a base that follows within 90 min: little weather is left in it
_RARE = const(40)  # margin of the ensemble over the worst of the training, 1/16
_LEAST = const(112)  # its limit: 1/16 of a power of two, mean over the projections

# in the state of a `Learner`, and its peaks
_ROWS = const(0)
_LOW = const(1)
_HIGH = const(2)
_LONGEST = const(5)
_LEVEL_ERROR = const(6)
_PROFILE_ERROR = const(7)
_COMPARED = const(8)
_AT = const(9)
_SIZE = const(4)


def start(training, detector):
    """Learners, percent at which profiles are chosen, whether there may be any, lessons: of a training that begins."""
    learners = [Learner(signal.series) for signal in detector.signals]
    seconds = training.rows * detector.interval_s
    choice = CHOOSE_LONG if seconds >= _LONG_S else CHOOSE_SHORT
    lessons = None
    if any(detector.causes.of):
        from gridnode.anomaly.lessons import Lessons

        lessons = Lessons(detector.causes)
    return learners, choice, seconds * choice // 100 >= _PROFILE_S, lessons


def due(training):
    """The percent of the training at which its next stage begins."""
    if training.stage == 0:
        return FIT
    last = REFIT if training.lessons else _NEVER
    return min(training.choice, last) if training.stage == 1 else last


def turn(training):
    """Begin the stages that are due."""
    if training.done >= FIT and training.stage == 0:
        training.stage = 1
        _solve(training, False)
    if training.done >= training.choice and training.stage == 1:
        training.stage = 2
        count(training.ensemble)
        for learner in training.learners:
            choose(learner, training.profiled)
    if training.done >= REFIT and training.lessons:
        _solve(training, True)
        training.lessons = None
    training.due = due(training)


def count(ensemble):
    """Make room for the rows that an ensemble is to count, unless it knows them."""
    if ensemble.counts is None and not ensemble.weighed:
        ensemble.counts = array("H", [0] * len(ensemble.costs))


def restored(training):
    """Go on with a training whose facts were put back."""
    training.due = due(training)
    if training.stage == 2:
        count(training.ensemble)


def _solve(training, late):
    if training.lessons is None:
        return
    from gridnode.anomaly import relation

    for k in range(len(training.learners)):
        if relation.learn(training.lessons, k):
            restart(training.learners[k])
            training.learners[k].late = late


def go_on(training, detector):
    """Learn from what is known: causes and forms stay, level, profile and limits learn on."""
    training.taken = training.rows * SETTLED // 100
    training.lessons = None
    training.stage = 2
    training.due = _NEVER
    count(training.ensemble)
    for k in range(len(training.learners)):
        rules = training.signals[k].certain
        resume(training.learners[k], training.taken, rules and rules.run_limit, _weather(detector, k))


def finish(training, detector):
    """Set all limits of a detector. Returns the names of the signals whose training holds what looks like faults."""
    if training.stage < 2:
        for learner in training.learners:
            choose(learner, False)
    foul = []
    for k in range(len(training.learners)):
        signal = training.signals[k]
        learner = training.learners[k]
        cause = detector.causes.of[k]
        weather = _weather(detector, k)
        unseen = _SEASON if weather > 1 or (cause and cause.thermal and detector.causes.air < 0) else 1
        rated = signal.kind in (scale.CURRENT, scale.POWER) and detector.limits.get("rating_a")
        if freeze(learner, weather, unseen, not rated):
            foul.append(detector.names[k])
        if signal.certain is not None and learner.rows:
            signal.certain.run_limit = longest_run(learner)
    limit(training.ensemble)
    return foul


def _weather(detector, k):
    """Times the margin of a signal that weather alone explains, 1 for others."""
    return _WEATHER if detector.signals[k].kind == scale.HUMIDITY or k == detector.causes.air else 1


def _by_distance(test):
    """Whether a test looks at distances from what a value should be, not at changes."""
    return test < st.JUMP or test == st.WANDER


def resume(learner, rows, run_limit, weather=1):
    """Go on as after so many rows; the worst of the past is where the limits say."""
    n, s = learner.state, learner.series.state
    learner.rows = n[_ROWS] = rows
    total = s[st.MEAN] * rows
    n[_HIGH] = total >> 24
    n[_LOW] = total & 0xFFFFFF
    if run_limit is not None:
        n[_LONGEST] = (run_limit - _RUN) // 2 if run_limit else rows
    for k in range(st.TESTS):
        peak = (learner.series.limits[k] << 8) // (_margin(learner.series, k) * _young(learner))
        for j in range(1, _SIZE):
            learner.peaks[k * _SIZE + j] = peak // weather if _by_distance(k) else peak


def restart(learner):
    """The signal is corrected by its causes from here on."""
    longest = learner.state[_LONGEST]
    for k in range(len(learner.state)):
        learner.state[k] = 0
    learner.state[_LONGEST] = longest
    learner.state[_AT] = -1
    for k in range(len(learner.peaks)):
        learner.peaks[k] = 0
    learner.series.restart()
    learner.series.state[st.DELTA] = learner.series.state[st.DEV] = 0
    learner.series.state[st.FORM] = st.LEVEL


def choose(learner, profiled):
    """Take the profile where it explains 15 % more than the level does, and there are days enough."""
    n, s = learner.state, learner.series.state
    if not n[_COMPARED]:
        return
    good = profiled and n[_PROFILE_ERROR] * 100 < n[_LEVEL_ERROR] * 85
    s[st.FORM] = st.PROFILE if good else st.LEVEL
    s[st.DEV] = max((n[_PROFILE_ERROR] if good else n[_LEVEL_ERROR]) * 16 // n[_COMPARED], 1)


def freeze(learner, weather=1, unseen=1, wary=True):
    """Set the limits; returns whether a part or two of the training stand out as faults do, and do not count then.

    weather: margin of what only weather explains; unseen: how many material changes of the level a few days do not
    show; wary: parts that stand out are not believed, and least limits are narrow. Not so where consumers may do as
    they like.
    """
    foul = _foul(learner, weather, unseen) if wary else 0
    for k in range(st.TESTS):
        limit = _limit(learner, k, 0, weather, unseen, wary)
        if foul and k < st.BUSY:
            others = _limit(learner, k, foul, weather, unseen, wary)
            if _peak(learner, k, 0) > others:
                limit = others
        learner.series.limits[k] = limit
    return foul > 0


def _foul(learner, weather, unseen):
    """How many parts of the training, one in two days at most, go far beyond the limits that the others make.

    What comes more often may come daily.
    """
    for parts in range(min(learner.rows // (8 * learner.series.base_rows), _FOUL_PARTS), 0, -1):
        for k in range(st.BUSY):
            limit = _limit(learner, k, parts, weather, unseen, True)
            if limit and _peak(learner, k, parts - 1) * 16 > limit * (_APART if k < st.JUMP else _STEPPED):
                return parts
    return 0


def _peak(learner, k, n):
    """The largest maximum of a test but `n`."""
    a = k * _SIZE
    top = learner.peaks[a + 1 + n]
    return max(learner.peaks[a], top) if n == 0 else top


def _limit(learner, k, foul, weather, unseen, wary):
    """Limit of a test where so many parts do not count; 0: too few parts were judged."""
    s, p = learner.series.state, learner.peaks
    floor = _FLOOR[k]
    if (not wary and k < st.LONG) or (k == st.BUSY and (not wary or learner.rows < _SHORT)):
        floor = floor * _FREE >> 4
    first, third = _peak(learner, k, foul), p[k * _SIZE + 3]
    if _by_distance(k):
        floor = max(floor, s[st.LEAST] * st.ONE // max(s[st.DEV], s[st.LEAST]) * unseen)
        first *= weather
        third *= weather
    elif k < st.BUSY:
        floor = max(floor, s[st.LEAST], s[st.DEV] >> 4)
    elif k == st.BUSY:
        floor = min(floor * learner.series.usual_change(s[st.DEV]) >> 6, st.MOST)
    if not p[k * _SIZE + 2] and not (k < st.BUSY and p[(k ^ 1) * _SIZE + 2]):  # in one direction at least
        return 0
    limit = (first * _margin(learner.series, k) * _young(learner) >> 8) + first - third
    return min(max(floor, limit), st.MOST)


def _margin(series, test):
    """Margin of a test, 1/16."""
    brief = series.jump_rows < series.base_rows
    return _WARMING if brief and st.JUMP <= test < st.STEP else _MARGIN[test]


def _young(learner):
    """Margin of all margins, 1/16."""
    return _YOUNG if learner.rows < _SHORT else 16


def longest_run(learner):
    """Rows that the signal may stand still, 0 where it did so for a quarter of the training."""
    longest = learner.state[_LONGEST]
    return 0 if longest * 4 > learner.rows else 2 * longest + _RUN


def weigh(ensemble):
    """From here on rows can be judged: rare bins cost what they carry of information."""
    ensemble.weighed = True
    for k in range(en.PROJECTIONS):
        total = en.BINS
        for j in range(k * en.BINS, (k + 1) * en.BINS):
            total += ensemble.counts[j]
        for j in range(k * en.BINS, (k + 1) * en.BINS):
            ensemble.costs[j] = min(log2(total) - log2(ensemble.counts[j] + 1), 255)
    ensemble.counts = None


def limit(ensemble):
    """Set the limit of an ensemble from the worst row since `weigh`."""
    ensemble.limit = max(ensemble.peak * _RARE >> 4, _LEAST) if ensemble.peak else 0


def log2(n):
    """16 times the binary logarithm of a positive integer, straight between powers of two."""
    k = 0
    while n >> (k + 1):
        k += 1
    return (k << 4) + ((n << 4 >> k) - 16)
