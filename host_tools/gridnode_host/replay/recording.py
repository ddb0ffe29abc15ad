"""Reading a recorded stream and its limits: what is wrong is told with its line."""

from __future__ import annotations

import csv
import io
import json
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from gridnode_host.detection.stream_file import Flags, Floats, Stream, flag, number, seconds
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.files import unread

__all__ = ["Recording", "read", "read_limits"]

_TIME, _TRAIN, _IGNORED, _LABEL = "timestamp", "train", ("label", "class"), "label_"
_TIME_RANGE = float(1 << 62)  # s; what the detector makes of a strange time is its own affair
# what a timestamp is in whose seconds would be later than the year 5000
_FINER = ((1e17, "nanoseconds"), (1e14, "microseconds"), (1e11, "milliseconds"))
_STEP = "read the stream"
_FORM = "The file has a column timestamp, one per signal, and a comma between cells."


@dataclass(frozen=True)
class Recording:
    """A stream as it was recorded."""

    stream: Stream
    timestamps: list[str]  # [n], as they stand in the file
    lines: array[int]  # [n], line of each row in the file
    train: Flags | None  # [n], None: the file does not tell
    infinite: Mapping[str, int]  # how many values of a signal are, which count as missing

    @property
    def interval_s(self) -> float:
        """The usual time from row to row, s; 0 where no row is later than the one before."""
        steps = np.diff(self.stream.t)
        return float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0


def read(path: Path, limits: dict[str, Any]) -> Recording:
    """Read a stream file; raises GridnodeError (USAGE) with the line that is wrong."""
    lines = _lines(path)
    try:
        first, head = next(lines)
    except StopIteration:
        _refuse(path, None, "it is empty")
    head = [_column(name) for name in head]
    _check_head(path, first, head)
    signals = [
        k
        for k, name in enumerate(head)
        if name not in (_TIME, _TRAIN, *_IGNORED) and not name.startswith(_LABEL)
    ]
    if not signals:
        _refuse(path, first, "there is no column of a signal")
    at_time, at_train = head.index(_TIME), head.index(_TRAIN) if _TRAIN in head else None
    timestamps: list[str] = []
    t, values, train, places = array("d"), array("d"), array("b"), array("q")
    for place, line in lines:
        if len(line) != len(head):
            told = f"it has {len(line)} cells, the first line has {len(head)}"
            _refuse(path, place, told)
        timestamps.append(line[at_time])
        t.append(_time(path, place, line[at_time]))
        for k in signals:
            try:
                values.append(number(line[k]))
            except ValueError:
                _refuse(path, place, f"{head[k]} is {line[k]!r} and not a number")
        if at_train is not None:
            try:
                train.append(flag(line[at_train]))
            except ValueError:
                told = f"train is {line[at_train]!r} and neither 0 nor 1, true nor false, yes nor no"
                _refuse(path, place, told)
        places.append(place)
    if not timestamps:
        _refuse(path, None, "it has no row")
    _check_unit(path, places, timestamps, np.array(t))
    columns = np.array(values).reshape(-1, len(signals))
    with np.errstate(over="ignore"):
        infinite = np.isinf(columns.astype(np.float32))  # which is what a node has
    columns[infinite] = math.nan
    counts = infinite.sum(axis=0).tolist()
    rows = len(timestamps)
    learn = np.array(train) > 0 if at_train is not None else None
    stream = Stream(
        name=path.stem,
        t=np.array(t),
        values={head[k]: columns[:, j] for j, k in enumerate(signals)},
        label=np.zeros(rows, dtype=bool),
        unscored=np.ones(rows, dtype=bool),
        by_signal={},
        fault=np.array([""] * rows, dtype=object),
        train=np.zeros(rows, dtype=bool) if learn is None else learn,
        limits=limits,
    )
    found = {head[k]: count for k, count in zip(signals, counts, strict=True) if count}
    return Recording(stream, timestamps, places, learn, found)


def read_limits(path: Path) -> dict[str, Any]:
    """Read the limits of a node, null being absent; raises GridnodeError (USAGE) with what is wrong."""

    def refuse(cause: str) -> NoReturn:
        raise GridnodeError(
            "read the limits",
            f"{path}{cause}",
            "It is a JSON object with interval_s, train_rows, rating_a, v_nominal and nominal, "
            "none of which it must have.",
            Exit.USAGE,
        )

    def no_number(text: str) -> NoReturn:
        raise ValueError(f"{text} is no number of JSON")

    try:
        limits = json.loads(path.read_text("utf-8-sig"), parse_constant=no_number)
    except OSError as err:
        raise unread("read the limits", path, err) from err
    except json.JSONDecodeError as err:
        refuse(f", line {err.lineno}, column {err.colno}: {err.msg}")
    except (ValueError, RecursionError) as err:
        refuse(f" is not JSON: {err}")
    if not isinstance(limits, dict):
        refuse(" is not a JSON object")
    limits = {name: value for name, value in limits.items() if value is not None}
    for name in ("interval_s", "rating_a", "v_nominal"):
        if name in limits and not (_is_number(limits[name]) and limits[name] > 0):
            refuse(f": {name} is {limits[name]!r} and not a number above 0")
    rows = limits.get("train_rows", 0)
    if not (_is_number(rows) and rows >= 0 and rows == int(rows)):
        refuse(f": train_rows is {rows!r} and not a whole number from 0 on")
    if rows:
        limits["train_rows"] = int(rows)
    nominal = limits.get("nominal", {})
    if not isinstance(nominal, dict):
        refuse(f": nominal is {nominal!r} and not an object")
    for name, pair in nominal.items():
        if not (
            isinstance(pair, list)
            and len(pair) == 2
            and all(map(_is_number, pair))
            and pair[0] <= pair[1]
        ):
            refuse(f": nominal.{name} is {pair!r} and not [lowest, highest]")
    return limits


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every line that has any."""
    try:
        data = path.read_bytes()
    except OSError as err:
        raise unread(_STEP, path, err) from err
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        _refuse(path, line, f"it is not text in UTF-8 ({err.reason})")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield reader.line_num, cells
    except csv.Error as err:
        _refuse(path, reader.line_num, str(err))


def _column(name: str) -> str:
    """The name of a column; timestamp and train are known in any case."""
    name = name.strip()
    return name.lower() if name.lower() in (_TIME, _TRAIN) else name


def _check_head(path: Path, number: int, head: list[str]) -> None:
    for k, name in enumerate(head):
        if not name:
            _refuse(path, number, f"column {k + 1} has no name")
        if name in head[:k]:
            _refuse(path, number, f"there are two columns {name!r}")
    if _TIME not in head:
        _refuse(path, number, f"there is no column {_TIME!r}, only {', '.join(head)[:200]!r}")


def _time(path: Path, number: int, cell: str) -> float:
    try:
        told = seconds(cell)
    except ValueError:
        told = math.nan
    if not abs(told) < _TIME_RANGE:
        cause = f"the timestamp {cell!r} is neither epoch seconds nor ISO 8601"
        _refuse(path, number, cause)
    return told


def _check_unit(path: Path, lines: array[int], timestamps: list[str], t: Floats) -> None:
    """Refuse timestamps most of which are in a finer unit than seconds."""
    for least, unit in _FINER:
        if np.median(t) > least:
            row = int((t > least).argmax())
            told = f"the timestamp {timestamps[row]!r} looks like {unit}, it must be in seconds"
            _refuse(path, lines[row], told)


def _refuse(path: Path, line: int | None, cause: str) -> NoReturn:
    place = str(path) if line is None else f"{path}, line {line}"
    raise GridnodeError(
        _STEP,
        f"{place}: {cause}",
        f"Correct the file. {_FORM}",
        Exit.USAGE,
        {} if line is None else {"line": line},
    )
