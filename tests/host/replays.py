"""What the tests of gridnode replay share: streams made here, recordings, the command."""

import csv
from array import array
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
from gridnode_host.bench.figures import probe
from gridnode_host.detection.stream_file import Stream
from gridnode_host.replay import recording

STAND_IN = Path(__file__).parent / "stand_in"


PNG = b"\x89PNG"


VMS = pytest.mark.parametrize("micropython", probe.machines().values(), ids=probe.machines())


def gridnode(*arguments: str | Path) -> tuple[int, str, str]:
    return command_line.gridnode("replay", *arguments)


def stream(train: int | None = 4, **values: Any) -> Stream:
    """A stream with a row every 10 s."""
    rows = len(next(iter(values.values())))
    flags = np.zeros(rows, dtype=bool)
    return Stream(
        name="made",
        t=1.7e9 + 10.0 * np.arange(rows),
        values={name: np.array(column, dtype=float) for name, column in values.items()},
        label=flags,
        unscored=flags,
        by_signal={},
        fault=np.array([""] * rows, dtype=object),
        train=np.arange(rows) < (train or 0),
        limits={"interval_s": 10, "train_rows": 4},
    )


def place_of(rows: int = 300, train: int | None = 200, **faults: dict[int, float]) -> Stream:
    """A place with one phase, and values that are not its own."""
    rng = np.random.default_rng(3)
    values = {
        "voltage": np.round(rng.normal(230, 0.5, rows), 2),
        "current": np.round(rng.normal(20, 0.4, rows), 2),
    }
    for name, found in faults.items():
        for row, value in found.items():
            values[name][row] = value
    given = stream(train, **values)
    given.limits = {
        "interval_s": 10,
        "train_rows": 200,
        "rating_a": 50,
        "v_nominal": 230,
        "nominal": {"v": [207, 253]},
    }
    return given


def recorded_as(given: Stream) -> recording.Recording:
    """The stream with the number of each row as its timestamp."""
    rows = range(len(given.t))
    return recording.Recording(given, [str(k) for k in rows], array("q", rows), None, {})


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
