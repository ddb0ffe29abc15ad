"""Detectors to compare with: limits, exponential averages, half-space trees, random cut forests.

Each sees what a node sees and nothing else. `_cont` learns every row for good, after it has judged
it; `_frozen` only the training rows. A grade of 0.5 is the threshold, which is known beforehand
or comes from the training rows alone; grades below 1 still differ. While a detector has only
training rows it gives no alarm. Missing values are nothing to any of them: averages skip them,
forests take the value before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridnode_host.detection.stream_file import Flags, Floats, Scores, Stream

__all__ = ["BASELINES", "FORESTS", "TREES", "run"]

TREES = 40
"""Trees of a random cut forest: a row costs each some 0.2 ms, learnt or only judged."""
SAMPLE = 256
"""Points of a tree: the latest (`_cont`), or drawn from all training rows (`_frozen`)."""

_SDS = 4.0  # deviations at which an average alarms
_MEMORY_S = 86400.0  # of an average: one cycle of a site
_QUANTILE = 0.999  # of the training scores, at which a forest alarms
_SEED = 1


@dataclass(frozen=True)
class _Seen:
    """What a detector may see of n rows."""

    values: dict[str, Floats]  # [n] per signal, NaN: missing
    train: Flags  # [n]
    limits: dict[str, Any]
    interval_s: float
    trees: int

    @property
    def table(self) -> Floats:
        """[n, signals]"""
        return np.array(list(self.values.values())).T

    @property
    def filled(self) -> Floats:
        """[n, signals], a missing value replaced by the one before it (at first: 0)."""
        table = self.table
        rows = np.where(np.isnan(table), 0, np.arange(len(table))[:, None])
        last = np.take_along_axis(table, np.maximum.accumulate(rows, axis=0), axis=0)
        return np.nan_to_num(last)


def run(name: str, stream: Stream, trees: int = TREES) -> Scores:
    """Let a baseline judge a stream; `trees` is the size of a random cut forest.

    A stream without training rows has its first `train_rows` for that; ValueError if it has none.
    """
    train = stream.train
    if not train.any():
        train = np.arange(len(train)) < int(stream.limits.get("train_rows", 0))
    if not train.any():
        raise ValueError(f"{stream.name}: no row to learn from")
    interval_s = float(stream.limits.get("interval_s", 0)) or float(np.median(np.diff(stream.t)))
    told = BASELINES[name](_Seen(stream.values, train, stream.limits, interval_s, trees))
    told.alarm &= ~train
    told.alarms = {name: alarm & ~train for name, alarm in told.alarms.items()}
    return told


# ------------------------------------------------------------------ limits


def _range(seen: _Seen) -> Scores:
    """The limits of the SKU, nothing learnt; beyond them the grade grows with the distance."""
    grades = {}
    for name, values in seen.values.items():
        low, high = _limits(seen.limits, name)
        width = high - low if math.isfinite(high - low) else max(abs(low), abs(high), 1.0)
        beyond = np.nan_to_num(np.maximum(low - values, values - high), nan=-1.0)
        beyond = np.maximum(beyond, 0.0) / (width if math.isfinite(width) else 1.0)
        grades[name] = np.where(beyond > 0, 0.5 + 0.5 * beyond / (1 + beyond), 0.0)
    return _per_signal(grades, 0.5)


def _limits(limits: dict[str, Any], signal: str) -> tuple[float, float]:
    """Lowest and highest ordinary value: of the signal, of its family, of the rating."""
    nominal = limits.get("nominal", {})
    family = re.split(r"_|\d", signal)[0]
    for key in (signal, family):
        if key in nominal:
            low, high = nominal[key]
            return float(low), float(high)
    if re.fullmatch(r"current|i\d|i_n", signal) and "i_of_rating" in nominal:
        low, high = nominal["i_of_rating"]
        return float(low) * limits["rating_a"], float(high) * limits["rating_a"]
    return -math.inf, math.inf


def _per_signal(grades: dict[str, Floats], above: float) -> Scores:
    """The device is as loud as its loudest signal."""
    grade = np.max(list(grades.values()), axis=0)
    alarms = {name: one > above for name, one in grades.items()}
    return Scores(grade, grade > above, grades, alarms)


# ------------------------------------------------------------------ averages


def _ewma(frozen: bool) -> Callable[[_Seen], Scores]:
    def judge(seen: _Seen) -> Scores:
        """Mean and deviation with a memory of one day, a plain mean until then."""
        table = seen.table
        n, signals = table.shape
        weight = seen.interval_s / _MEMORY_S
        mean, variance, count = np.zeros(signals), np.zeros(signals), np.zeros(signals)
        grades = np.zeros((n, signals))
        for row, learns in enumerate(seen.train.tolist()):
            known = ~np.isnan(table[row]) & (count > 0)
            apart = np.where(known, table[row] - mean, 0.0)
            limit = _SDS * np.maximum(np.sqrt(variance), 1e-9 * np.maximum(np.abs(mean), 1.0))
            grades[row] = np.abs(apart) / (np.abs(apart) + limit)
            if learns or not frozen:
                present = ~np.isnan(table[row])
                mean = np.where(present & (count == 0), table[row], mean)
                count += present
                share = np.where(present, np.maximum(weight, 1 / np.maximum(count, 1)), 0.0)
                mean = mean + share * apart
                variance = (1 - share) * (variance + share * apart**2)
        return _per_signal(dict(zip(seen.values, grades.T, strict=True)), 0.5)

    return judge


# ------------------------------------------------------------------ forests


def _forest(seen: _Seen, scores: Floats) -> Scores:
    """One grade for the device, against a quantile of the training scores."""
    known = scores[seen.train & (scores > 0)]
    limit = float(np.quantile(known, _QUANTILE)) if len(known) else math.inf
    grade = scores / (scores + limit) if math.isfinite(limit) else np.zeros(len(scores))
    return Scores(grade, scores > limit)


def _half_space(frozen: bool) -> Callable[[_Seen], Scores]:
    def judge(seen: _Seen) -> Scores:
        """River's half-space trees, its defaults; limits one training range wider on each side."""
        from river.anomaly import HalfSpaceTrees

        table = seen.filled
        learnt = table[seen.train]
        low, high = learnt.min(axis=0), learnt.max(axis=0)
        width = np.where(high > low, high - low, 1.0)
        spans = np.stack([low - width, high + width], axis=1).tolist()
        limits: dict[Hashable, tuple[float, float]] = {k: (a, b) for k, (a, b) in enumerate(spans)}
        forest = HalfSpaceTrees(limits=limits, seed=_SEED)
        rows = [dict(enumerate(row)) for row in table.tolist()]
        scores = np.zeros(len(rows))
        if frozen:
            for k in np.flatnonzero(seen.train).tolist():
                forest.learn_one(rows[k])
            return _forest(seen, np.array([forest.score_one(row) for row in rows]))
        for k, row in enumerate(rows):
            scores[k] = forest.score_one(row)
            forest.learn_one(row)
        return _forest(seen, scores)

    return judge


def _scaled(seen: _Seen) -> Floats:
    """[n, signals] in deviations of the training rows: rrcf leaves the scaling to its user."""
    table = seen.filled
    learnt = table[seen.train]
    spread = learnt.std(axis=0)
    scaled: Floats = (table - learnt.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return scaled


def _cut_trees(seen: _Seen) -> Iterator[Any]:
    """Empty trees, each drawing for itself."""
    from rrcf import RCTree

    return (RCTree(random_state=_SEED + k) for k in range(seen.trees))


def _rrcf_cont(seen: _Seen) -> Scores:
    """Collusive displacement of every row in trees of the latest rows."""
    table = _scaled(seen)
    scores = np.zeros(len(table))
    for tree in _cut_trees(seen):
        for row, point in enumerate(table):
            if row >= SAMPLE:
                tree.forget_point(row - SAMPLE)
            tree.insert_point(point, index=row)
            scores[row] += tree.codisp(row)
    scores[:SAMPLE] = 0.0  # trees that fill do not judge
    return _forest(seen, scores / seen.trees)


def _rrcf_frozen(seen: _Seen) -> Scores:
    """The same in trees of training rows, each row inserted and forgotten at once.

    A tree does not judge the rows that it holds.
    """
    table = _scaled(seen)
    rows = np.flatnonzero(seen.train)
    rng = np.random.default_rng(_SEED)
    total, judges = np.zeros(len(table)), np.zeros(len(table))
    for tree in _cut_trees(seen):
        held = set(rng.choice(rows, size=min(SAMPLE, len(rows) // 2), replace=False).tolist())
        for row in held:
            tree.insert_point(table[row], index=row)
        for row, point in enumerate(table):
            if row not in held:
                tree.insert_point(point, index=row)
                total[row] += tree.codisp(row)
                judges[row] += 1
                tree.forget_point(row)
    return _forest(seen, total / np.maximum(judges, 1))


BASELINES: dict[str, Callable[[_Seen], Scores]] = {
    "range": _range,
    "ewma_frozen": _ewma(frozen=True),
    "ewma_cont": _ewma(frozen=False),
    "hst_frozen": _half_space(frozen=True),
    "hst_cont": _half_space(frozen=False),
    "rrcf_frozen": _rrcf_frozen,
    "rrcf_cont": _rrcf_cont,
}
FORESTS = ("rrcf_frozen", "rrcf_cont")
"""Those that take minutes for ten thousand rows."""
