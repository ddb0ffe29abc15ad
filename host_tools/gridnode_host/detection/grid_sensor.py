"""A medium-voltage line sensor as a uniform random simulator has it, and its six anomalies.

Every reading is drawn by itself: 23 to 25 kV, 0 to 600 A, 30 to 100 degC, 20 to 80 %. While
anomalies are on, each of the six classes takes one reading in ten.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from gridnode_host.detection.stream_file import Flags, Floats, Stream, Texts, limits_of

__all__ = [
    "CLASSES",
    "HIGH",
    "RANGES",
    "SENSORS",
    "STEP_S",
    "contaminated",
    "fleet",
    "labelled",
    "limits",
    "readings",
    "sensor",
]

SENSORS = 21
STEP_S = 10
RANGES = {
    "current": (0.0, 600.0),
    "voltage": (23_000.0, 25_000.0),
    "temperature": (30.0, 100.0),
    "humidity": (20.0, 80.0),
}
"""A, V, degC, %"""
HIGH = {"current": 1000.0, "voltage": 100_000.0, "temperature": 300.0, "humidity": 150.0}
"""What an anomalous signal reads if it is not 0."""
CLASSES = ("all_zero", "all_high", *(f"{name}_high" for name in RANGES))

_RATE = 0.1  # of readings, per class
_FIRST = 1_760_000_400.0  # epoch s
_TRAIN_ROWS = 6 * 3600 // STEP_S
_ROWS = _TRAIN_ROWS + 12 * 3600 // STEP_S
_MINUTE = 60 // STEP_S  # rows
_SHARE = 0.05  # of the rows of a contaminated training


def readings(rng: Generator, anomalous: Flags) -> tuple[dict[str, Floats], Texts]:
    """Values per signal, and the class of each row ("" where nothing is wrong).

    `anomalous` has an entry per row: whether a class may be drawn in it.
    """
    rows = len(anomalous)
    values = {name: rng.uniform(low, high, rows) for name, (low, high) in RANGES.items()}
    draw = rng.integers(0, round(1 / _RATE), rows)
    draw = np.where(anomalous, draw, len(CLASSES))
    fault = np.array([*CLASSES, *[""] * round(1 / _RATE)], dtype=object)[draw]
    for name, column in values.items():
        column[fault == "all_zero"] = 0.0
        column[(fault == "all_high") | (fault == f"{name}_high")] = HIGH[name]
        np.round(column, 3, out=column)
    return values, fault


def limits(train_rows: int, step_s: int = STEP_S) -> dict[str, Any]:
    """The META.json of such a sensor."""
    low, high = RANGES["current"]
    nominal = {"voltage": RANGES["voltage"], "i_of_rating": (low, 1.0)}
    nominal |= {name: RANGES[name] for name in ("temperature", "humidity")}
    return limits_of(step_s, train_rows, high, 24_000, nominal)


def labelled(name: str, values: dict[str, Floats], fault: Texts, train_rows: int) -> Stream:
    """One sensor's stream; that 0 A is wrong, a reading cannot tell: it is not scored."""
    rows = len(fault)
    by_signal = {
        signal: np.isin(fault, ["all_zero", "all_high", f"{signal}_high"]).astype(float)
        for signal in values
    }
    by_signal["current"][fault == "all_zero"] = np.nan
    return Stream(
        name=name,
        t=_FIRST + STEP_S * np.arange(rows, dtype=float),
        values=values,
        label=fault != "",
        unscored=np.zeros(rows, dtype=bool),
        by_signal=by_signal,
        fault=fault,
        train=np.arange(rows) < train_rows,
        limits=limits(train_rows),
    )


def sensor(name: str, rng: Generator) -> Stream:
    """6 h to learn, then 12 h with anomalies."""
    anomalous = np.arange(_ROWS) >= _TRAIN_ROWS
    return labelled(name, *readings(rng, anomalous), _TRAIN_ROWS)


def contaminated(name: str, rng: Generator) -> Stream:
    """The same, with one training row in twenty anomalous."""
    anomalous = rng.random(_ROWS) < _SHARE / (_RATE * len(CLASSES))
    anomalous[_TRAIN_ROWS:] = True
    return labelled(name, *readings(rng, anomalous), _TRAIN_ROWS)


def fleet(name: str, rng: Generator) -> Stream:
    """The mean of all sensors, one row a minute."""
    drawn = [sensor(name, rng) for _ in range(SENSORS)]
    first = drawn[0]
    rows = len(first.t) // _MINUTE

    def minutes(values: Floats) -> Floats:
        means: Floats = values.reshape(rows, _MINUTE).mean(axis=1)
        return means

    train = int(first.train.sum()) // _MINUTE
    label = np.any([one.label for one in drawn], axis=0).reshape(rows, _MINUTE).any(axis=1)
    return Stream(
        name=name,
        t=first.t[::_MINUTE],
        values={
            signal: np.round(minutes(np.mean([one.values[signal] for one in drawn], axis=0)), 3)
            for signal in RANGES
        },
        label=label,
        unscored=np.zeros(rows, dtype=bool),
        by_signal={},
        fault=np.where(label, "anomalous", "").astype(object),
        train=np.arange(rows) < train,
        limits=limits(train, 60),
    )
