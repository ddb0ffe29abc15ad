"""The training of a device: its learners, side by side, through the stages of `learning`."""

from micropython import const

from gridnode.anomaly import learning
from gridnode.anomaly import statistics as st
from gridnode.anomaly.causes import Lessons
from gridnode.anomaly.learning import (
    CHOOSE_LONG,
    CHOOSE_SHORT,
    FIT,
    PARTS,
    REFIT,
    SETTLED,
    Learner,
)

_LONG_S = const(259200)  # training from which profiles are chosen earlier
_PROFILE_S = const(108000)  # a bin has then been seen twice
_COMPARE = const(12)  # % of the training before the choice
_WEIGH = const(85)  # %: the ensemble's limit is learnt from here on


class Training:
    """Teaches the signals of a device; `rows` is its length."""

    def __init__(self, signals, causes, ensemble, rows):
        self.signals = signals
        self.ensemble = ensemble
        self.lessons = Lessons(causes)
        self.rows = rows
        self.taken = 0
        self.broken = 0  # rows in which a rule was broken
        self.learners = [Learner(g.series, learning.WEATHER if g.outdoors else 1) for g in signals]
        interval_s = signals[0].interval_s
        self._choose = CHOOSE_LONG if rows * interval_s >= _LONG_S else CHOOSE_SHORT
        self._profiled = rows * interval_s * self._choose // 100 >= _PROFILE_S
        self._stage = 0
        self._part = 0
        self._end = False
        self._at = 0
        self.done = 0

    def resume(self):
        """Go on from what is known: causes and forms stay, level, profile and limits learn on."""
        self.taken = self.rows * SETTLED // 100
        self.lessons = None
        self._stage = 2
        for k in range(len(self.learners)):
            rules = self.signals[k].certain
            self.learners[k].resume(self.taken, rules and rules.run_limit)

    def begin(self, ys, present, at):
        """A row that is learnt from; `at` is its bin of the day."""
        self._at = at
        self.taken += 1
        self.done = self.taken * 100 // self.rows
        part = self.taken * PARTS // self.rows
        self._end = part != self._part
        self._part = part
        if self.done >= FIT and self._stage == 0:
            self._stage = 1
            self._solve(False)
        if self.done >= self._choose and self._stage == 1:
            self._stage = 2
            for learner in self.learners:
                learner.choose(self._profiled)
        if self.done >= REFIT and self.lessons:
            self._solve(True)
            self.lessons = None
        if self.lessons:
            self.lessons.take(ys, present)

    def _solve(self, late):
        for k in range(len(self.learners)):
            if self.lessons.solve(k):
                self.learners[k].restart()
                self.learners[k].late = late

    def before(self, k, y):
        """Signal `k` has a value of `y` steps, freed from its causes; before the statistics take it."""
        learner = self.learners[k]
        certain = self.signals[k].certain
        learner.run(certain.run)
        if self.signals[k].y == 0:
            certain.zeros = True
        if self._stage < 2 or learner.late:
            learner.change(y, learner.series.last())
        y -= learner.series.state[st.SHIFT] >> 8
        learner.level(y, self._judged(learner))
        if self._stage == 1 and self.done >= self._choose - _COMPARE:
            learner.compare(y, self._at)

    def after(self, k, y):
        """The same, after they took it."""
        learner = self.learners[k]
        learner.limit(self._end, self._judged(learner))
        learner.profile(y - (learner.series.state[st.SHIFT] >> 8), self._at)

    def _judged(self, learner):
        return self._stage == 2 and (not learner.late or self.done >= SETTLED)

    def row(self, zs, good):
        """The ensemble's turn."""
        if self._stage < 2:
            return
        if self.done < _WEIGH:
            self.ensemble.learn(zs, good)
            return
        if not self.ensemble.weighed:
            self.ensemble.weigh()
        self.ensemble.peak = max(self.ensemble.peak, self.ensemble.cost(zs, good))

    def freeze(self):
        """Set all limits. Returns the names of the signals whose training holds what looks like faults."""
        if self._stage < 2:
            for learner in self.learners:
                learner.choose(False)
        foul = []
        for k in range(len(self.learners)):
            signal = self.signals[k]
            if self.learners[k].freeze():
                foul.append(signal.name)
            if signal.certain is not None and self.learners[k].rows:
                signal.certain.run_limit = self.learners[k].longest_run()
        self.ensemble.freeze()
        return foul
