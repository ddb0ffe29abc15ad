"""Labelled streams and a detector's scores: in memory, and as CSV files.

A stream file has the columns `timestamp` (epoch seconds or ISO 8601), one per signal, and, where
it is labelled, `label`, `label_<signal>`, `class` and `train`. A scores file has `timestamp`,
`grade`, `alarm` and, where the detector tells them, `grade_<signal>`, `alarm_<signal>`, `kind`,
`priority` and `diagnosis`. An empty cell is a missing value, in a label one that nobody scores;
so are NA, N/A, NaN, None, null and -, in any case. `train` is 0 or 1, true or false, yes or no.

Arrays have one entry per row of the stream; n is the number of rows.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Scores",
    "Stream",
    "flag",
    "limits_of",
    "number",
    "place",
    "read_nab",
    "read_scores",
    "read_stream",
    "seconds",
    "write_limits",
    "write_scores",
    "write_stream",
    "write_values",
]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Texts = NDArray[np.object_]

_MISSING = ("", "na", "n/a", "none", "null", "-")  # besides what float() takes for NaN
_FLAGS = {"": False, "false": False, "no": False, "true": True, "yes": True}
_NOT_SIGNALS = ("timestamp", "label", "class", "train")
_LABEL, _GRADE, _ALARM = "label_", "grade_", "alarm_"


@dataclass
class Stream:
    """What a node sees (`t`, `values`, `train`, `limits`), and what is true about it.

    `by_signal` names the signals whose guilt is known; `windows` are first and last rows of the
    stretches of a NAB file.
    """

    name: str
    t: Floats  # [n], epoch seconds, ascending
    values: dict[str, Floats]  # [n] per signal, in its unit; NaN: missing
    label: Flags  # [n], the device is anomalous
    unscored: Flags  # [n], no score counts the row
    by_signal: dict[str, Floats]  # [n] per signal: 1 guilty, 0 not, NaN not scored
    fault: Texts  # [n], name of the fault, or ""
    train: Flags  # [n], the detector may learn
    limits: dict[str, Any] = field(default_factory=dict)  # the META.json
    windows: list[tuple[int, int]] | None = None


@dataclass
class Scores:
    """What a detector said about every row of a stream; a missing row: grade 0, no alarm."""

    grade: Floats  # [n], 0..1
    alarm: Flags  # [n]
    grades: dict[str, Floats] = field(default_factory=dict)  # [n] per signal
    alarms: dict[str, Flags] = field(default_factory=dict)  # [n] per signal of `grades`
    diagnosis: Texts | None = None  # [n], name of a fault, or ""
    kind: Texts | None = None  # [n]
    priority: Floats | None = None  # [n], 1 the most urgent; NaN: none
    missing: int = 0  # rows that the detector left out


def limits_of(
    interval_s: int,
    train_rows: int,
    rating_a: float,
    v_nominal: int,
    nominal: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    """The META.json of a device: the row's length, s, the rows to learn from, A, V.

    `nominal` has the lowest and the highest ordinary value, in its unit, per signal or family of
    signals (`v`: v1 to v3); `i_of_rating` those of every current as a share of the rating.
    """
    return {
        "interval_s": interval_s,
        "train_rows": train_rows,
        "rating_a": rating_a,
        "v_nominal": v_nominal,
        "nominal": {name: list(span) for name, span in nominal.items()},
    }


def seconds(text: str) -> float:
    """A timestamp as epoch seconds; ISO 8601 without a zone is UTC."""
    try:
        return float(text)
    except ValueError:
        told = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()


def number(cell: str) -> float:
    """A value, NaN if it is missing; raises ValueError for other text."""
    if not cell:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        if cell.strip().lower() in _MISSING:
            return math.nan
        raise


def flag(cell: str) -> bool:
    """A yes or no, empty is no; raises ValueError for other text and numbers."""
    text = cell.strip().lower()
    found = _FLAGS[text] if text in _FLAGS else float(text)
    if found not in (0, 1):
        raise ValueError(cell)
    return found > 0


def read_stream(path: Path, limits: Path | None = None) -> Stream:
    """Read a stream file, and its limits where they are given."""
    cells = _read(path)
    t = np.array([seconds(text) for text in cells["timestamp"]], dtype=float)
    signals = [name for name in cells if name not in _NOT_SIGNALS and not name.startswith(_LABEL)]
    label = _numbers(cells["label"]) if "label" in cells else np.zeros(len(t))
    told = {name: cells.get(_LABEL + name) for name in signals}
    return Stream(
        name=path.stem,
        t=t,
        values={name: _numbers(cells[name]) for name in signals},
        label=label > 0.5,
        unscored=np.isnan(label),
        by_signal={name: _numbers(column) for name, column in told.items() if column is not None},
        fault=np.array(cells.get("class", [""] * len(t)), dtype=object),
        train=np.array([flag(text) for text in cells.get("train", [""] * len(t))], dtype=bool),
        limits=json.loads(limits.read_text()) if limits else {},
    )


def read_nab(path: Path, windows: Mapping[str, Any], train_rows: int) -> Stream:
    """Read a file of the Numenta benchmark; `windows` are spans of time per path of a file.

    The first `train_rows` are for learning. Raises KeyError if the file has no entry.
    """
    stream = read_stream(path)
    spans = next((s for key, s in windows.items() if Path(key).name == path.name), None)
    if spans is None:
        raise KeyError(path.name)
    at = [[int(np.searchsorted(stream.t, seconds(end[:19]))) for end in span] for span in spans]
    stream.windows = [(first, last) for first, last in at]
    for first, last in stream.windows:
        stream.label[first : last + 1] = True
    stream.train[:train_rows] = True
    step = float(np.median(np.diff(stream.t)))
    stream.limits = {"interval_s": step, "train_rows": train_rows}
    return stream


def write_stream(stream: Stream, path: Path) -> None:
    """Write everything but limits and windows."""
    label = np.where(stream.unscored, math.nan, stream.label)
    columns = {"timestamp": _written(stream.t)}
    columns.update((name, _written(values)) for name, values in stream.values.items())
    columns["label"] = _written(label)
    columns.update((_LABEL + name, _written(truth)) for name, truth in stream.by_signal.items())
    columns["class"] = list(stream.fault)
    columns["train"] = _written(stream.train)
    _write(columns, path)


def write_limits(limits: Mapping[str, Any], path: Path) -> None:
    """Write a META.json."""
    path.write_text(json.dumps(limits, indent=1) + "\n")


def write_values(stream: Stream, path: Path) -> None:
    """Write only what a node may see: values, and when it may learn."""
    columns = {"timestamp": _written(stream.t)}
    columns.update((name, _written(values)) for name, values in stream.values.items())
    columns["train"] = _written(stream.train)
    _write(columns, path)


def read_scores(path: Path, stream: Stream) -> Scores:
    """Read a scores file and put its rows on those of the stream, by timestamp."""
    return place(_read(path), stream)


def place(cells: Mapping[str, list[str]], stream: Stream) -> Scores:
    """Put the columns of a scores file on the rows of the stream, by timestamp."""
    rows = {round(seconds(text), 3): k for k, text in enumerate(cells["timestamp"])}
    # a row that is missing reads the entry behind the last one
    pick = np.array([rows.get(round(float(t), 3), -1) for t in stream.t], dtype=int)

    def numbers(name: str, otherwise: float = 0.0) -> Floats:
        found = np.append(_numbers(cells[name]), math.nan)[pick]
        return np.where(np.isnan(found), otherwise, found)

    def texts(name: str) -> Texts | None:
        if name not in cells:
            return None
        found: Texts = np.array([*cells[name], ""], dtype=object)[pick]
        return found

    grades = {name: numbers(_GRADE + name) for name in stream.values if _GRADE + name in cells}
    alarms = {
        name: numbers(_ALARM + name) > 0.5 if _ALARM + name in cells else grade >= 0.5
        for name, grade in grades.items()
    }
    return Scores(
        grade=numbers("grade"),
        alarm=numbers("alarm") > 0.5,
        grades=grades,
        alarms=alarms,
        diagnosis=texts("diagnosis"),
        kind=texts("kind"),
        priority=numbers("priority", math.nan) if "priority" in cells else None,
        missing=int((pick < 0).sum()),
    )


def write_scores(scores: Scores, stream: Stream, path: Path) -> None:
    """Write what a detector said."""
    columns = {
        "timestamp": _written(stream.t),
        "grade": _written(scores.grade),
        "alarm": _written(scores.alarm),
    }
    columns.update((_GRADE + name, _written(grade)) for name, grade in scores.grades.items())
    columns.update((_ALARM + name, _written(alarm)) for name, alarm in scores.alarms.items())
    if scores.kind is not None:
        columns["kind"] = list(scores.kind)
    if scores.priority is not None:
        columns["priority"] = _written(scores.priority)
    if scores.diagnosis is not None:
        columns["diagnosis"] = list(scores.diagnosis)
    _write(columns, path)


def _read(path: Path) -> dict[str, list[str]]:
    """The cells of a CSV file per column; a line without cells does not count."""
    with path.open(newline="") as file:
        head, *lines = [line for line in csv.reader(file) if line]
    return {name: [line[k] for line in lines] for k, name in enumerate(head)}


def _write(columns: Mapping[str, list[str]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _numbers(cells: list[str]) -> Floats:
    return np.array([number(text) for text in cells], dtype=float)


def _written(values: Floats | Flags) -> list[str]:
    """Cells that read back as the same numbers."""
    cells = map(float, values.tolist())
    return ["" if math.isnan(v) else repr(int(v) if v.is_integer() else v) for v in cells]
