"""The figures of the detection: what is drawn, what is judged, and how."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from gridnode_host.bench.figures import detection_plots, detection_runs, detection_tables
from gridnode_host.bench.figures.detection_runs import (
    BRIEF,
    CLEAN,
    DETECTORS,
    FULL,
    HARD,
    NODE,
    SEED,
    Job,
    Results,
)
from gridnode_host.bench.figures.detection_tables import poisson_upper
from gridnode_host.detection.baselines import FORESTS
from gridnode_host.errors import GridnodeError

GOOD = {
    "recall": 1.0,
    "precision": 1.0,
    "recall_first_tenth": 1.0,
    "recall_last_tenth": 1.0,
    "recall_by_tenth": [1.0] * 10,
    "signal_auc_pr_mean": 1.0,
    "attribution": 1.0,
    "event_recall": 1.0,
    "events": 12,
    "f1": 1.0,
    "vus_pr": 1.0,
    "diagnosis_accuracy": 1.0,
    "false_positive_rate": 0.0,
}
QUIET = {
    "days": 4.0,
    "events": 0,
    "event_recall": math.nan,
    "false_alarms": 0,
    "urgent_false_alarms": 0,
    "false_alarms_per_day": 0.0,
    "alarm_share": 0.0,
}
COSTS = {4: {"model_bytes": 1200, "operations": 240}, 13: {}}


def results(detector: str = NODE) -> Results:
    found = Results()
    for kind in (*SEED, *HARD):
        found.add(Job(kind, 1, detector, 1), dict(GOOD))
    for kind in CLEAN:
        for seed in range(2):
            found.add(Job(kind, seed, detector, 1), dict(QUIET))
    return found


def missed(found: Results, costs: dict[int, Any] = COSTS) -> list[str]:
    return [
        r["measure"] for r in detection_tables.targets(found, costs).rows if r.get("ok") is False
    ]


def test_what_is_good_passes() -> None:
    table = detection_tables.targets(results(), COSTS)
    assert table.ok
    assert [row["measure"] for row in table.rows if row.get("ok")][
        -1
    ] == "model of 4 signals, bytes"
    assert len(table.rows) == 20 + 2  # no Numenta file, nothing told about 13 signals


@pytest.mark.parametrize(
    ("kind", "figure", "value", "expected"),
    [
        ("seed", "recall_last_tenth", 0.9, "seed: recall, last tenth"),
        ("s_stuck", "event_recall", 0.59, "hard streams: event recall, lowest"),
        ("t_faults", "false_positive_rate", 0.031, "t_faults: row FPR"),
        ("s_benign", "false_alarms_per_day", 1.01, "clean streams: false alarms a day, worst"),
        ("t_clean", "urgent_false_alarms", 2, "clean streams: priority 1 and 2 a month"),
    ],
)
def test_one_bad_figure_fails(kind: str, figure: str, value: float, expected: str) -> None:
    found = results()
    found.draws(kind, NODE)[0][figure] = value
    assert missed(found) == [expected]


def test_a_model_that_is_too_large_fails() -> None:
    assert missed(results(), {13: {"model_bytes": 8193, "operations": 1}}) == [
        "model of 13 signals, bytes"
    ]


def test_others_are_shown_and_not_judged() -> None:
    found = results("ewma_cont")
    for draws in found.found.values():
        for draw in draws:
            draw.update(recall=0.0, event_recall=0.0)
    table = detection_tables.targets(found, {})
    assert table.ok
    assert table.rows[0]["ewma_cont"] == 0.0 and table.rows[0]["ok"] is None


def test_false_alarms_over_all_draws() -> None:
    found = results()
    found.draws("s_clean", NODE)[1].update(false_alarms=3, false_alarms_per_day=0.75)
    row = detection_tables.false_alarms(found).rows[0]
    assert (row["draws"], row["days"], row["false alarms"], row["a day"]) == (2, 8, 3, 0.375)
    assert row["at most a day"] == pytest.approx(7.7537 / 8, abs=1e-3)


@pytest.mark.parametrize(
    ("count", "bound"), [(0, 2.9957), (1, 4.7439), (10, 16.9622), (200, 224.8744)]
)
def test_the_bound_is_exact(count: int, bound: float) -> None:
    assert poisson_upper(count) == pytest.approx(bound, abs=1e-4)


def test_streams_one_by_one() -> None:
    table = detection_tables.by_stream(results())
    assert [row["stream"] for row in table.rows] == [*SEED, *HARD]
    assert table.rows[0][NODE] == "1.00 1.00 1.00"


def test_numenta_files(tmp_path: Path) -> None:
    for name in ("some", "quiet", "other"):
        (tmp_path / f"{name}.csv").write_text("timestamp,value\n1,2\n2,2\n")
    windows = {"a/some.csv": [["1970-01-01 00:00:01", "1970-01-01 00:00:01"]], "quiet.csv": []}
    (tmp_path / "windows.json").write_text(json.dumps(windows))
    jobs = [job for job in detection_runs.jobs(BRIEF, tmp_path, ["range"]) if job.file]
    assert [job.kind for job in jobs] == ["quiet", "some"]
    assert [job.stream().windows for job in jobs] == [[], [(0, 0)]]
    assert detection_tables.numenta(results()) is None
    found = Results()
    found.add(jobs[1], {"nab": 91.24, "nab_raw": 0.8, "events": 1, "false_alarms": 5})
    found.add(jobs[0], {"nab": math.nan, "nab_raw": -0.3, "events": 0, "false_alarms": 5})
    table = detection_tables.numenta(found)
    assert table and [row["range"] for row in table.rows] == [91.2, 5]
    (tmp_path / "windows.json").write_text("{")
    with pytest.raises(GridnodeError, match=r"windows\.json"):
        detection_runs.jobs(BRIEF, tmp_path)


def test_jobs() -> None:
    jobs = detection_runs.jobs(FULL)
    assert len(set(jobs)) == len(jobs)
    assert {job.detector for job in jobs} == set(DETECTORS)
    clean = [job for job in jobs if job.kind == "s_clean" and job.detector == NODE]
    assert len({job.seed for job in clean}) == 20
    assert all(
        sum(j.kind == k and j.detector == f for j in jobs) == 1 for k in HARD for f in FORESTS
    )


def test_plots(tmp_path: Path) -> None:
    for path in detection_plots.draw(results(), tmp_path):
        assert path.stat().st_size > 1000
