"""The detectors to compare with: what they find, forget and bear."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gridnode_host.detection.baselines import BASELINES, FORESTS, run
from gridnode_host.detection.score import score
from gridnode_host.detection.stream_file import Stream

LEARNT, ROWS = 1440, 2880  # of a minute
TREES = 2
LEARNERS = [name for name in BASELINES if name != "range"]


def stream(*, level: float = 0.0, learn: bool = True) -> Stream:
    """Two days of a feeder; on the second one the current is `level` A higher from row 2000 on."""
    rng = np.random.default_rng(7)
    t = 1.7e9 + 60.0 * np.arange(ROWS)
    cycle = np.sin(2 * np.pi * t / 86400)
    label = np.arange(ROWS) >= 2000
    values = {
        "v1": 230 + rng.normal(size=ROWS),
        "i1": 60 + 30 * cycle + rng.normal(size=ROWS) + level * label,
    }
    return Stream(
        name="feeder",
        t=t,
        values=values,
        label=label,
        unscored=np.zeros(ROWS, dtype=bool),
        by_signal={"v1": np.zeros(ROWS), "i1": label.astype(float)},
        fault=np.where(label, "overload", "").astype(object),
        train=(np.arange(ROWS) < LEARNT) & learn,
        limits={
            "interval_s": 60,
            "train_rows": LEARNT,
            "rating_a": 200,
            "nominal": {"v": [207, 253], "i_of_rating": [0, 1]},
        },
    )


@pytest.mark.parametrize("name", ["range", "ewma_frozen", "hst_frozen", "rrcf_frozen"])
def test_what_is_frozen_stays_alarmed(name: str) -> None:
    found = score(stream(level=200), run(name, stream(level=200), TREES))
    assert found["recall_first_tenth"] > 0.9
    assert found["recall_last_tenth"] > 0.9
    assert found["false_positive_rate"] < 0.03


@pytest.mark.parametrize("name", ["ewma_cont", "rrcf_cont"])
def test_what_keeps_learning_gets_used_to_it(name: str) -> None:
    found = score(stream(level=200), run(name, stream(level=200), TREES))
    assert found["event_recall"] == 1.0
    assert found["recall_last_tenth"] < 0.2


def test_limits() -> None:
    case = stream(level=200)
    case.values["v1"][2500], case.values["v1"][2501] = 206.0, math.nan
    told = run("range", case)
    assert np.flatnonzero(told.alarms["v1"]).tolist() == [2500]
    assert told.grades["v1"][2500] < told.grades["i1"][2500]
    case.limits["nominal"] = {"i1": [0, 1000], "v": [0, 1000]}
    assert not run("range", case).alarm.any()
    case.limits = {}
    case.train[:9] = True
    assert not run("range", case).alarm.any()


@pytest.mark.parametrize("name", BASELINES)
def test_rows_to_learn_come_from_the_limits_too(name: str) -> None:
    told, same = run(name, stream(learn=False), TREES), run(name, stream(), TREES)
    np.testing.assert_array_equal(told.grade, same.grade)
    assert not told.alarm[:LEARNT].any()


@pytest.mark.parametrize("name", BASELINES)
def test_constants_and_gaps(name: str) -> None:
    case = stream()
    case.values["v1"][:] = 230.0
    case.values["i1"][100:130] = math.nan
    case.values["absent"] = np.full(ROWS, math.nan)
    told = run(name, case, TREES)
    assert np.isfinite(told.grade).all()
    assert ((told.grade >= 0) & (told.grade <= 1)).all()
    np.testing.assert_array_equal(told.alarm, (told.grade > 0.5) & ~case.train)


@pytest.mark.parametrize("name", LEARNERS)
def test_equal_rows_only(name: str) -> None:
    case = stream()
    for values in case.values.values():
        values[:] = 1.0
    told = run(name, case, TREES)
    assert not told.alarm.any()


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_to_learn_from(name: str) -> None:
    case = stream(learn=False)
    case.limits = {}
    with pytest.raises(ValueError, match="no row to learn from"):
        run(name, case)


def test_forests_are_named() -> None:
    assert set(FORESTS) < set(BASELINES)
