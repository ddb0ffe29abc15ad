"""The scorer: cases reckoned by hand, files, and its agreement with an outside one (EVALUATE=)."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gridnode_host.detection import stream_file
from gridnode_host.detection.curves import auc_pr, stretches, vus_pr
from gridnode_host.detection.nab import nab, probation
from gridnode_host.detection.score import score
from gridnode_host.detection.stream_file import Scores, Stream

FIXED = {
    # of case(): rows 2, 3, 4 and 9 of 12 are anomalous, the alarm is set in 3, 5, 7 and 8
    "rows": 10,
    "recall": 0.25,
    "precision": 0.25,
    "f1": 0.25,
    "false_positive_rate": 0.5,
    "events": 2,
    "event_recall": 0.5,
    "event_precision": 2 / 3,
    "event_f1": 2 * (2 / 3 * 0.5) / (2 / 3 + 0.5),
    "false_alarms": 1,
    "false_alarms_per_day": 144.0,
    "delay_median_s": 60.0,
    "urgent_false_alarms": 1,
    "event_recall_by_class": {"sag": 1.0, "stuck": 0.0},
    "diagnosis_accuracy": 0.5,
    "diagnosis_table": {"sag -> sag": 1, "stuck -> (none)": 1},
    "attribution": 1.0,
    "missing_rows": 0,
}


def flags(n: int, *rows: int) -> np.ndarray:
    """n flags, those of the rows set."""
    found = np.zeros(n, dtype=bool)
    found[list(rows)] = True
    return found


def case() -> tuple[Stream, Scores]:
    """Twelve minutes, two to learn; two events, of which one is found."""
    n = 12
    label = flags(n, 2, 3, 4, 9)
    fault = np.array([""] * n, dtype=object)
    fault[2:5], fault[9] = "sag", "stuck"
    alarm = flags(n, 3, 5, 7, 8)
    diagnosis = np.array([""] * n, dtype=object)
    diagnosis[[3, 5]] = "sag"
    stream = Stream(
        name="case",
        t=1.7e9 + 60.0 * np.arange(n),
        values={"v1": np.full(n, 230.0), "i1": np.arange(n) / 8},
        label=label,
        unscored=np.zeros(n, dtype=bool),
        by_signal={"v1": label.astype(float), "i1": np.zeros(n)},
        fault=fault,
        train=flags(n, 0, 1),
    )
    told = Scores(
        grade=np.where(alarm, 0.75, 0.25),
        alarm=alarm,
        grades={"v1": np.where(alarm, 0.75, 0.0), "i1": np.zeros(n)},
        alarms={"v1": alarm, "i1": np.zeros(n, dtype=bool)},
        diagnosis=diagnosis,
        priority=np.where(alarm, [3] * 8 + [2] * 4, math.nan),
    )
    return stream, told


def test_figures_of_a_small_stream() -> None:
    assert_same(score(*case()), FIXED)


def test_rows_that_do_not_count() -> None:
    stream, told = case()
    stream.unscored = flags(12, 2, 7, 8)
    found = score(stream, told)
    assert (found["rows"], found["recall"], found["false_alarms"]) == (7, pytest.approx(1 / 3), 0)
    stream.unscored[:] = True
    with pytest.raises(ValueError, match="no row"):
        score(stream, told)


def test_nothing_anomalous() -> None:
    stream, told = case()
    stream.label[:] = False
    stream.fault[:] = ""
    found = score(stream, told)
    for name in ("recall", "event_recall", "event_f1", "auc_pr", "vus_pr", "delay_median_s"):
        assert math.isnan(found[name]), name
    assert (found["events"], found["false_alarms"], found["false_positive_rate"]) == (0, 3, 0.4)


def test_tenths_show_a_detector_that_gets_used_to_it() -> None:
    n, none = 40, np.array([""] * 40, dtype=object)
    label, alarm = flags(n, *range(20, 40)), flags(n, *range(20, 25))
    stream = Stream("used", 60.0 * np.arange(n), {}, label, flags(n), {}, none, flags(n))
    found = score(stream, Scores(alarm.astype(float), alarm))
    assert found["recall_by_tenth"] == [1, 1, 0.5, 0, 0, 0, 0, 0, 0, 0]
    assert (found["recall_first_tenth"], found["recall_last_tenth"]) == (1, 0)


def test_stretches() -> None:
    assert stretches(flags(5, 0, 1, 3, 4)) == [(0, 1), (3, 4)]
    assert stretches(flags(3)) == []
    assert stretches(flags(0)) == []


def test_area_takes_equal_grades_together() -> None:
    label = flags(4, 0, 3)
    assert auc_pr(label, np.array([0.9, 0.5, 0.1, 0.5])) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert auc_pr(label, np.zeros(4)) == pytest.approx(0.5)


def test_volume() -> None:
    label = flags(9, 4)
    assert vus_pr(label, label.astype(float), 0) == 1.0
    # a buffer of 2 gives rows 3 and 5 a weight of sqrt(1/2); the event is all that is loud
    soft = 2 * math.sqrt(0.5)
    share = 1 / (1 + 0)
    last = [share, (1 + soft) / (1 + soft / 2)]
    area = share * 1.0 + (min(last[1], 1.0) - share) * (1 + soft) / 9
    assert vus_pr(label, label.astype(float), 2) == pytest.approx((1.0 + 1.0 + area) / 3)


def test_nab() -> None:
    n, windows = 100, [(40, 49)]
    assert probation(n) == 15
    assert nab(flags(n), windows) == (-1.0, 0.0)
    assert nab(flags(n, 40), windows)[1] == pytest.approx(100.0)
    assert nab(flags(n, 5, 40, 44), windows)[1] == pytest.approx(100.0)  # once, and not too early
    raw = 1.0 - 0.11 - 0.11  # one before every window, one long after the last
    assert nab(flags(n, 20, 40, 90), windows) == pytest.approx((raw, 100 * (raw + 1) / 2))
    assert math.isnan(nab(flags(n, 60), [])[1])


def test_files_come_back(tmp_path: Path) -> None:
    stream, told = case()
    stream.values["v1"][3] = math.nan
    stream.by_signal["i1"][5] = math.nan
    stream.unscored[6] = True
    path, out = tmp_path / "case.csv", tmp_path / "case.node.csv"
    stream_file.write_stream(stream, path)
    stream_file.write_scores(told, stream, out)
    back = stream_file.read_stream(path)
    for name in ("t", "label", "unscored", "fault", "train"):
        np.testing.assert_array_equal(getattr(back, name), getattr(stream, name), name)
    for name, values in stream.values.items():
        np.testing.assert_array_equal(back.values[name], values)
        np.testing.assert_array_equal(back.by_signal[name], stream.by_signal[name])
    again = stream_file.read_scores(out, back)
    np.testing.assert_array_equal(again.priority, told.priority)
    assert_same(score(back, again), score(stream, told))
    stream_file.write_values(stream, path)
    assert path.read_text().partition("\n")[0].split(",") == ["timestamp", "v1", "i1", "train"]


def test_scores_with_missing_rows_and_other_times(tmp_path: Path) -> None:
    stream, _ = case()
    stream.t = stream_file.seconds("2026-01-02T03:00:00Z") + 60.0 * np.arange(12)
    path = tmp_path / "told.csv"
    path.write_text(
        "timestamp,grade,alarm,grade_v1\n2026-01-02 03:03:00,0.5,1,0.5\n\n1767322920,,,\n"
    )
    told = stream_file.read_scores(path, stream)
    assert told.missing == 10
    assert told.alarm.tolist() == flags(12, 3).tolist() == told.alarms["v1"].tolist()
    assert told.grade.sum() == 0.5 and told.diagnosis is None and told.priority is None


def test_a_nab_file(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    rows = [f"2014-04-01 00:{5 * k:02d}:00,{k}" for k in range(12)]
    path.write_text("\n".join(["timestamp,value", *rows]))
    span = [["2014-04-01 00:20:00.000000", "2014-04-01 00:30:00.000000"]]
    stream = stream_file.read_nab(path, {"folder/some.csv": span}, 3)
    assert stream.windows == [(4, 6)]
    assert np.flatnonzero(stream.label).tolist() == [4, 5, 6]
    assert stream.train.sum() == 3
    assert stream.limits == {"interval_s": 300.0, "train_rows": 3}
    with pytest.raises(KeyError):
        stream_file.read_nab(path, {}, 3)


# ------------------------------------------------------------------ against another scorer


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Every figure that both have is equal to 1e-9, NaN being equal to NaN."""
    if isinstance(theirs, dict):
        for name in theirs.keys() & ours.keys():
            assert_same(ours[name], theirs[name], f"{where}.{name}")
        assert theirs.keys() <= ours.keys(), where
    elif isinstance(theirs, str):
        assert ours == theirs, where
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=where)


def drawn(seed: int) -> tuple[Stream, Scores]:
    """Any stream and any scores: events that touch the ends, ties, gaps, rows not scored."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([1, 2, 3, 30, 200, 700, 2000]))
    kinds = ["sag", "stuck", "drift"]
    label, fault = np.zeros(n, dtype=bool), np.array([""] * n, dtype=object)
    for _ in range(int(rng.integers(0, 12))):
        first = int(rng.integers(0, n))
        rows = slice(first, first + int(rng.choice([1, 2, 5, 40, 300])))
        label[rows], fault[rows] = True, kinds[int(rng.integers(0, 3))]
    by_signal, grades, alarms = {}, {}, {}
    for name in ("v1", "i1", "t_oil")[: int(rng.integers(0, 4))]:
        truth = (label & (rng.random(n) < 0.7)).astype(float)
        truth[rng.random(n) < 0.1] = math.nan
        by_signal[name] = truth
        grades[name] = np.round(rng.random(n) * np.where(label, 1.5, 1), int(rng.integers(1, 9)))
        alarms[name] = grades[name] > rng.random()
    grade = rng.random(n) + label * rng.random() * (rng.random(n) < 0.5)
    grade = np.round(grade / 2, int(rng.choice([0, 1, 2, 9])))
    alarm = grade > rng.choice([0.3, 0.5, 0.9, 2.0])
    unscored = rng.random(n) < rng.choice([0.0, 0.05])
    train = np.arange(n) < rng.choice([0, n // 3])
    if (unscored | train).all():
        unscored[:], train[:] = False, False
    diagnosis = None
    if rng.random() < 0.7:  # one name for an event, so that no two are named equally often
        diagnosis = np.array([""] * n, dtype=object)
        for first, last in stretches(label):
            diagnosis[first : last + 2] = ["", *kinds][int(rng.integers(0, 4))]
        diagnosis[~alarm] = ""
    windows = None
    if rng.random() < 0.5 and n >= 200:
        ends = np.sort(rng.choice(n, size=2 * int(rng.integers(0, 4)), replace=False)).tolist()
        windows = list(zip(ends[::2], ends[1::2], strict=True))
    t = 1.7e9 + float(rng.choice([10, 60, 900])) * np.arange(n)
    values = dict.fromkeys(("v1", "i1", "t_oil"), rng.normal(size=n))
    stream = Stream(
        f"drawn_{seed}", t, values, label, unscored, by_signal, fault, train, {}, windows
    )
    return stream, Scores(grade, alarm, grades, alarms, diagnosis)


@pytest.fixture(scope="module")
def other() -> Any:
    path = os.environ.get("EVALUATE")
    if not path:
        pytest.skip("EVALUATE= names no other scorer")
    spec = importlib.util.spec_from_file_location("other_scorer", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_another_scorer(seed: int, other: Any, tmp_path: Path) -> None:
    stream, told = drawn(seed)
    path, out = tmp_path / f"{stream.name}.csv", tmp_path / "told.csv"
    stream_file.write_stream(stream, path)
    stream_file.write_scores(told, stream, out)
    if seed % 3 == 0:  # a device that slept
        lines = out.read_text().splitlines()
        rest = [line for k, line in enumerate(lines[1:]) if k % 7 or not k]
        out.write_text("\n".join([lines[0], *rest]) + "\n")
    back = stream_file.read_stream(path)
    back.windows = stream.windows
    theirs = other.read_stream(path)
    expected = other.evaluate(theirs, other.read_scores(out, theirs), windows=stream.windows)
    assert_same(score(back, stream_file.read_scores(out, back)), json.loads(json.dumps(expected)))
