"""What the node's detector says about a stream."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridnode_host import resources
from gridnode_host.detection.stream_file import Flags, Scores, Stream, Texts
from gridnode_host.replay import operations, vm

__all__ = ["FROZEN", "GUARDED", "LEARNING", "MOST_NAMED", "Judgement", "cost", "judge", "scores"]

FROZEN, GUARDED, LEARNING = "frozen", "guarded", "learning"

MOST_NAMED = 30  # signals; with more the rules of faults have no say, as on a node

Grades = NDArray[np.int16]

_NOT, _LEARN, _DECIDES = 0, 1, 2
_UNIT = 1000  # of a grade
_COST_ROWS, _COST_TRAIN_ROWS = 1800, 1500


@dataclass(frozen=True)
class Judgement:
    """What the detector said, one entry per row, and what it is afterwards."""

    names: list[str]
    grade: Grades  # [n], 0..1000
    alarm: Flags  # [n]
    priority: NDArray[np.uint8]  # [n], 1 the most urgent, 0 none
    kind: Texts  # [n]
    diagnosis: Texts  # [n]
    grades: Grades  # [n, signals]
    alarms: Flags  # [n, signals]
    sentences: dict[int, str]  # of rows in which an alarm begins or becomes more urgent than it was
    state: str
    reason: str
    learnt: int
    """Rows."""
    size: int
    """Bytes of the detector's arrays."""
    model: bytes
    load: str
    """Why the model that was given was not taken, or ""."""
    refused: list[str]
    """Commands of the replay that the detector refused, and why."""

    def scores(self) -> Scores:
        """The same as every other detector tells it."""
        grades, priority = self.grades / _UNIT, self.priority.astype(float)
        return Scores(
            grade=self.grade / _UNIT,
            alarm=self.alarm,
            grades={name: grades[:, k] for k, name in enumerate(self.names)},
            alarms={name: self.alarms[:, k] for k, name in enumerate(self.names)},
            diagnosis=self.diagnosis,
            kind=self.kind,
            priority=np.where(priority > 0, priority, np.nan),
        )


def scores(stream: Stream, mode: str | None = None, model: bytes | None = None) -> Scores:
    """What the node's detector says about every row; see `judge`."""
    return judge(stream, mode, model, train=stream.train if stream.train.any() else None).scores()


def judge(
    stream: Stream,
    mode: str | None = None,
    model: bytes | None = None,
    *,
    train: Flags | None = None,
    forest: bytes | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Judgement:
    """Let the detector of the firmware see the stream row by row.

    `mode` is FROZEN (the default), GUARDED or LEARNING: what it does when it has learnt. `train`
    are the rows to learn from; without it the detector learns from the first ones, as the limits
    say. With a `model` that it takes it has learnt already. It names faults by the product's table.

    A `forest` from `gridnode train` names what the rules of faults leave unnamed.

    Raises GridnodeError when the detector fails or refuses the forest.
    """
    names = list(stream.values)
    rows, trained = _rows(stream, train)
    order = {
        "names": names,
        "limits": _limits(stream, train),
        "mode": mode or FROZEN,
        "model": None if model is None else base64.b64encode(model).decode(),
        "forest": None if forest is None else base64.b64encode(forest).decode(),
        "rows": len(rows),
        "trained": trained,
    }
    told = vm.run(order, rows.tobytes(), progress)
    assert told.end is not None
    end = told.end
    found = np.frombuffer(
        told.rows,
        dtype=[
            ("grade", "<i2"),
            ("alarm", "u1"),
            ("priority", "u1"),
            ("kind", "<u2"),
            ("diagnosis", "<u2"),
            ("grades", "<i2", (len(names),)),
            ("alarms", "u1", (len(names),)),
        ],
    )
    texts = np.array(told.texts, dtype=object)
    return Judgement(
        names=names,
        grade=found["grade"],
        alarm=found["alarm"] > 0,
        priority=found["priority"],
        kind=texts[found["kind"]],
        diagnosis=texts[found["diagnosis"]],
        grades=found["grades"],
        alarms=found["alarms"] > 0,
        sentences={row: text for row, text in told.sentences.items() if text},
        state=end["state"],
        reason=end["reason"],
        learnt=end["rows"],
        size=end["size"],
        model=base64.b64decode(end["model"]),
        load=end["load"],
        refused=end["refused"],
    )


def _rows(stream: Stream, train: Flags | None) -> tuple[np.ndarray, int | None]:
    """The rows as the VM reads them, and the row before which learning has ended."""
    signals = len(stream.values)
    rows = np.zeros(
        len(stream.t), dtype=[("t", "<i8"), ("learn", "u1"), ("values", "<f4", (signals,))]
    )
    rows["t"] = np.floor(stream.t)
    for k, column in enumerate(stream.values.values()):
        rows["values"][:, k] = column
    if train is None:
        rows["learn"] = _DECIDES
        return rows, None
    rows["learn"] = np.where(train, _LEARN, _NOT)
    return rows, int(np.flatnonzero(train)[-1]) + 1 if train.any() else None


def _limits(stream: Stream, train: Flags | None = None) -> dict[str, Any]:
    """What the detector is told; what the limits leave open about rows, the stream tells."""
    faults = resources.faults() if len(stream.values) <= MOST_NAMED else None
    limits: dict[str, Any] = {**stream.limits, "faults": faults}
    if not limits.get("interval_s") and len(stream.t) > 1:
        limits["interval_s"] = max(1, round(float(np.median(np.diff(stream.t)))))
    if not limits.get("train_rows") and train is not None and train.any():
        limits["train_rows"] = int(train.sum())
    return limits


def cost(signals: int) -> dict[str, float]:
    """What a detector of so many signals takes once it has learnt.

    `model_bytes`: of the arrays of a frozen model. `operations`: the most that a row took, see
    `operations.most`; NaN without the sources of the firmware.
    """
    stream = _short(signals)
    names, limits, (rows, _) = list(stream.values), _limits(stream), _rows(stream, None)
    return {
        "model_bytes": judge(stream).size,
        "operations": operations.most(names, limits, rows["t"], rows["values"]),
    }


def _short(signals: int) -> Stream:
    """A stream of a day with so many signals: of a place with one phase, or of a feeder."""
    from gridnode_host.detection import streams

    stream = streams.make("s_clean" if signals <= 4 else "t_clean", 1)
    drawn = list(stream.values)
    for k in range(len(drawn), signals):
        stream.values[f"x{k + 1}"] = stream.values[drawn[k % len(drawn)]][::-1]
    return Stream(
        name=f"{signals} signals",
        t=stream.t[:_COST_ROWS],
        values={name: stream.values[name][:_COST_ROWS] for name in list(stream.values)[:signals]},
        label=stream.label[:_COST_ROWS],
        unscored=stream.unscored[:_COST_ROWS],
        by_signal={},
        fault=stream.fault[:_COST_ROWS],
        train=np.zeros(_COST_ROWS, dtype=bool),
        limits={**stream.limits, "train_rows": _COST_TRAIN_ROWS},
    )
