"""Training a forest that fits a node: `gridnode train`.

The features are computed by the node's own code in its VM. The shape of the forest and the
smallest share of the votes are chosen on every fourth stream to learn from, with a forest that
has not seen it; the forest that is written learns from all. The scores are those of the written
file, in the node's VM, on streams that had no part in any of this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from gridnode_host.detection import node_rows
from gridnode_host.detection.forest_file import MOST_LEAVES, NOTHING, WEIGHT, Forest, Node
from gridnode_host.detection.phase_truth import View, views
from gridnode_host.detection.stream_file import Stream
from gridnode_host.errors import Exit, GridnodeError

__all__ = ["Material", "Settings", "Shape", "collect", "counts", "train"]

_TREES = (3, 4, 6, 8, 12)
_LEAST = range(0, 601, 50)  # 1/1000
_PRICE = 0.002  # of the F1, that a larger share may cost
_GAIN = 0.001  # of the F1, that more trees must bring
_EVERY = 4  # streams, one of which is for choosing
_ORDINARY = 2.0  # rows without a fault for each with one
_SPREAD = 1.3  # leaves over what fits, since equal ones grow together
_SHRINK = 0.98  # of what would fit
_STEP = "train a forest"

Progress = Callable[[int, int], None]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """What the forest is to be."""

    name: str
    room: int  # bytes
    seed: int
    leave_out: Sequence[str] = ()  # faults that count as rows without one
    without: Sequence[str] = ()  # features that are not looked at
    share: float = 0.7  # of the features that each question chooses from


@dataclass(frozen=True)
class Shape:
    """Size of a forest before equal leaves grow together, and from which share on it speaks."""

    trees: int
    leaves: int
    least: int
    f1: float  # mean over the faults, on the streams to choose with


@dataclass
class Material:
    """Rows of one view of a stream, phase after phase."""

    view: View
    rows: NDArray[np.int16]  # [n, features]
    fault: NDArray[np.object_]  # [n]
    names: list[str]
    version: int


def collect(streams: Sequence[Stream], settings: Settings, progress: Progress) -> list[Material]:
    """Features and truth of all views of the streams; rows that nobody can judge are left out."""
    found = []
    for number, stream in enumerate(streams):
        progress(number, len(streams))
        for view in views(stream, settings.leave_out):
            told = node_rows.features(view.values, view.limits)
            rows, fault = told.values[view.scored], view.fault[view.scored]
            found.append(Material(view, rows, fault, told.names, told.version))
    return found


def train(
    material: Sequence[Material], settings: Settings, progress: Progress
) -> tuple[Forest, Shape]:
    """Choose a shape, learn, and return the forest as it is written.

    Raises GridnodeError if there is nothing to learn, or if no forest fits the room.
    """
    kinds = sorted(_kinds(material))
    if not kinds:
        raise GridnodeError(
            _STEP,
            "no row to learn from has a fault",
            "Give labelled streams, such as those of gridnode simulate faults.",
            Exit.USAGE,
        )
    names, version = material[0].names, material[0].version
    unknown = sorted(set(settings.without) - set(names))
    if unknown:
        raise GridnodeError(
            _STEP,
            f"there is no feature {unknown[0]}",
            f"Choose from: {', '.join(names)}.",
            Exit.USAGE,
        )
    learner = _Learner(settings, [NOTHING, *kinds], names, version)
    streams = {id(one.view.stream): None for one in material}
    choosing = set(list(streams)[_EVERY - 1 :: _EVERY])
    known = [one for one in material if id(one.view.stream) not in choosing]
    fresh = [one for one in material if id(one.view.stream) in choosing]
    if not fresh or not _kinds(fresh) <= _kinds(known):
        known = fresh = list(material)  # too few streams to choose with others
    best = _choose(learner, known, fresh, progress)
    forest = learner.fit(learner.sample(material), best.trees, best.leaves, best.least)
    while len(forest.packed) > settings.room:  # all streams together may need more nodes
        best = replace(best, leaves=best.leaves - 1)
        forest = learner.fit(learner.sample(material), best.trees, best.leaves, best.least)
    return forest, best


def _kinds(material: Sequence[Material]) -> set[str]:
    """Faults that occur."""
    return {str(kind) for one in material for kind in set(one.fault)} - {""}


def _choose(
    learner: _Learner, known: Sequence[Material], fresh: Sequence[Material], progress: Progress
) -> Shape:
    sample = learner.sample(known)
    rows = np.concatenate([one.rows for one in fresh])
    truth = np.concatenate([learner.numbers(one.fault) for one in fresh])
    best: Shape | None = None
    for number, trees in enumerate(_TREES):
        progress(number, len(_TREES) + 1)
        found = learner.largest(sample, trees)
        if found is None:
            continue
        forest, leaves = found
        votes, _ = forest.votes(rows[:, [fresh[0].names.index(name) for name in forest.features]])
        shapes = []
        for least in _LEAST:
            answers, _ = replace(forest, least=least).answers(votes)
            f1 = _mean_f1(truth, answers, len(learner.classes))
            shapes.append(Shape(trees, leaves, least, f1))
        most = max(shape.f1 for shape in shapes)
        careful = [shape for shape in shapes if shape.f1 >= most - _PRICE][-1]
        if best is None or careful.f1 > best.f1 + _GAIN:
            best = careful
    if best is None:
        raise GridnodeError(
            _STEP,
            f"not even the smallest forest fits {learner.settings.room} bytes",
            "Give more --room, or leave faults out.",
            Exit.USAGE,
        )
    progress(len(_TREES), len(_TREES) + 1)
    return best


class _Learner:
    """Turns rows into forests of given size."""

    def __init__(
        self, settings: Settings, classes: list[str], names: list[str], version: int
    ) -> None:
        self.settings = settings
        self.classes = classes
        self.features = [name for name in names if name not in settings.without]
        self.columns = [names.index(name) for name in self.features]
        self._version = version

    def numbers(self, fault: NDArray[np.object_]) -> Int:
        """Indices of classes."""
        place = {name: k for k, name in enumerate(self.classes)} | {"": 0}
        return np.array([place[kind] for kind in fault], dtype=np.int64)

    def sample(self, material: Sequence[Material]) -> tuple[NDArray[np.int16], Int]:
        """Rows to learn from: all with a fault, and some without one."""
        rng = np.random.default_rng(self.settings.seed)
        rows, truth = [], []
        for one in material:
            faulty = one.fault != ""
            wanted = max(_ORDINARY * faulty.sum(), len(faulty) / 10)
            chance = wanted / max(int((~faulty).sum()), 1)
            pick = faulty | (rng.random(len(faulty)) < chance)
            rows.append(one.rows[pick][:, self.columns])
            truth.append(self.numbers(one.fault[pick]))
        return np.concatenate(rows), np.concatenate(truth)

    def largest(
        self, sample: tuple[NDArray[np.int16], Int], trees: int
    ) -> tuple[Forest, int] | None:
        """The largest forest of so many trees that fits, and its leaves; None if none does."""
        empty = len(Forest("", self.classes, self.features, 0, ()).packed)
        leaves = int(_SPREAD * (self.settings.room - empty) / 6 / trees)
        leaves = min(max(leaves, 2), MOST_LEAVES)
        while leaves >= 2:
            forest = self.fit(sample, trees, leaves, 0)
            size = len(forest.packed)
            if size <= self.settings.room:
                return forest, leaves
            leaves = int(leaves * _SHRINK * self.settings.room / size)
        return None

    def fit(
        self, sample: tuple[NDArray[np.int16], Int], trees: int, leaves: int, least: int
    ) -> Forest:
        """A forest of so many trees and leaves; only what it asks about is named in it."""
        rows, truth = sample
        count = np.bincount(truth, minlength=len(self.classes))
        weight = 1.0 / np.maximum(count, 1)
        weight[0] = 2.0 * (len(self.classes) - 1) / max(int(count[0]), 1)  # two rows in three
        model = RandomForestClassifier(
            trees,
            max_leaf_nodes=max(leaves, 2),
            max_features=self.settings.share,
            random_state=self.settings.seed,
        )
        model.fit(rows, truth, sample_weight=weight[truth] * len(truth) / len(self.classes))
        grown = [_grow(one.tree_, 0, model.classes_) for one in model.estimators_]
        asked = sorted({which for tree in grown for which in tree.asked()})
        place = {which: k for k, which in enumerate(asked)}
        return Forest(
            self.settings.name,
            self.classes,
            [self.features[k] for k in asked],
            self._version,
            [list(tree.nodes(place)) for tree in grown],
            least,
        )


@dataclass
class _Branch:
    """Part of a tree: a leaf, or a question with two branches."""

    which: int  # feature, or class
    value: int  # threshold, or weight
    weight: float  # of the rows
    pair: tuple[_Branch, _Branch] | None = None

    def asked(self) -> Iterator[int]:
        if self.pair:
            yield self.which
            for branch in self.pair:
                yield from branch.asked()

    def nodes(self, place: dict[int, int]) -> Iterator[Node]:
        if not self.pair:
            yield Node(self.which, self.value)
            return
        left, right = (list(branch.nodes(place)) for branch in self.pair)
        yield Node(place[self.which], self.value, len(left) + 1)
        yield from left
        yield from right


def _grow(tree: Any, node: int, classes: NDArray[Any]) -> _Branch:
    """A branch of a tree of scikit-learn; leaves of the same class grow together."""
    weight = float(tree.weighted_n_node_samples[node])
    if tree.children_left[node] < 0:
        share = tree.value[node][0]
        best = int(share.argmax())
        part = float(share[best] / share.sum())
        return _Branch(int(classes[best]), round(WEIGHT * part), weight)
    left = _grow(tree, tree.children_left[node], classes)
    right = _grow(tree, tree.children_right[node], classes)
    if not left.pair and not right.pair and left.which == right.which:
        mean = (left.value * left.weight + right.value * right.weight) / weight
        return _Branch(left.which, round(mean), weight)
    threshold = int(np.floor(tree.threshold[node]))
    return _Branch(int(tree.feature[node]), threshold, weight, (left, right))


def _mean_f1(truth: Int, answers: Int, classes: int) -> float:
    """Mean over the faults that occur."""
    pairs = np.bincount(truth * classes + answers, minlength=classes * classes)
    table = pairs.reshape(classes, classes)
    happened, told = table.sum(axis=1), table.sum(axis=0)
    right = np.diag(table)
    found = [2 * right[k] / (happened[k] + told[k]) for k in range(1, classes) if happened[k]]
    return float(np.mean(found)) if found else 0.0


def counts(material: Sequence[Material]) -> list[dict[str, Any]]:
    """How many rows and phases there are of each fault in the streams as they are."""
    found: Counter[str] = Counter()
    for one in material:
        if one.view.kind == "whole":
            found.update(str(kind) or NOTHING for kind in one.fault)
    return [{"kind": kind, "rows": found[kind]} for kind in sorted(found)]
