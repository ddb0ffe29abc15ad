"""Alarms of a replay: one row tells each of them, and a table sums them up."""



import json
from pathlib import Path

import numpy as np
import pytest
from command_line import events
from gridnode_host import replay
from gridnode_host.detection import grid_sensor
from gridnode_host.detection.stream_file import write_values
from gridnode_host.replay.episodes import episodes, readable, summary
from replays import gridnode, recorded_as, stream, table


def test_alarms_are_summed_up_by_diagnosis(recorded: Path, tmp_path: Path) -> None:
    code, out, _ = gridnode(recorded, "--limits", tmp_path / "in.json")
    assert code == 0
    head, line = (row.split() for row in out.splitlines()[-2:])
    assert " ".join(head) == "priority diagnosis alarms in alarm first"
    assert line == ["2", "range", "2", "30", "s", "2026-01-02T00:40:00Z"]


@pytest.mark.usefixtures("stand_in")
def test_the_most_urgent_and_then_the_longest_alarms_are_summed_up_first() -> None:
    quiet, a, b, c = [2, 2, 2], [9, 2, 2], [2, 9, 2], [2, 2, 9]
    rows = [[1, 1, 1], quiet, [3, 3, 3], c, quiet, b, quiet, b, quiet, a, a, quiet, c, c, quiet]
    given = stream(3, **dict(zip("abc", np.transpose(rows), strict=True)))
    told = replay.judge(given, train=given.train)
    told.priority[12:14], told.diagnosis[12:14] = 2, "other"
    told.priority[3] = 0
    given.t[7:] += 86400
    lines = summary(episodes(told, recorded_as(given)))
    assert [tuple(line.values()) for line in lines] == [
        ("1", "a_fault", "1", "20 s", "1970-01-01 00:00:09Z"),
        ("2", "b_fault", "2", "20 s", "1970-01-01 00:00:05Z"),
        ("2", "other", "1", "20 s", "1970-01-01 00:00:12Z"),
        ("", "c_fault", "1", "10 s", "1970-01-01 00:00:03Z"),
    ]
    given.t[10] += 500_000
    assert summary(episodes(told, recorded_as(given)))[0]["in alarm"] == "5.8 d"
    assert summary([]) == []


@pytest.mark.usefixtures("stand_in")
def test_alarms_are_counted_from_raise_to_clear() -> None:
    given = stream(3, a=[1, 2, 3, 9, 9, 2, 9], b=[1, 2, 3, 2, 99, 2, 2])
    told = replay.judge(given, train=given.train)
    first, last = episodes(told, recorded_as(given))
    assert (first.start, first.end, first.rows, first.priority) == ("3", "4", 2, 1)
    assert (first.duration_s, last.duration_s) == (20, 10), "to the end of the last row"
    assert (first.signals, last.signals) == (["b", "a"], ["a"])
    assert readable("1767312200") == "2026-01-02 00:03:20Z"
    assert readable("1e99") == "1e99"


@pytest.mark.usefixtures("stand_in")
def test_an_alarm_is_told_by_one_row() -> None:
    """The first of its most urgent ones, and each that is more urgent than before has its sentence."""
    a = [1, 2, 3, 2, 9, 8, 2, 7, 2, 2, 6]
    b = [1, 2, 3, 9, 9, 2, 8, 2, 2, 9, 9]  # `a` is the more urgent, `b` is told where both are
    given = stream(3, a=a, b=b)
    told = replay.judge(given, train=given.train)
    one, other = episodes(told, recorded_as(given))
    assert (one.start, one.end, one.at) == ("3", "7", "5")
    assert (one.kind, one.diagnosis, one.priority) == ("range_high", "a_fault", 1)
    assert one.sentence == "a is 8 at 1700000050" and one.signals == ["a", "b"]
    assert (other.at, other.diagnosis, other.priority) == ("9", "b_fault", 2), "the first of equals"
    assert other.sentence == "b is 9 at 1700000090"
    assert sorted(told.sentences) == [3, 5, 9], "not one of every change: there may be one a row"
    told.priority[3:8] = [0, 3, 0, 3, 4]
    assert episodes(told, recorded_as(given))[0].at == "4", "no priority is the least urgent"


def test_what_an_alarm_is_called_stands_in_one_row_of_the_scores(tmp_path: Path) -> None:
    """Alarms of a line sensor that change from row to row."""
    out = tmp_path / "out.csv"
    sensors = grid_sensor.readings(np.random.default_rng(2), np.arange(700) >= 400)
    source = tmp_path / "in.csv"
    write_values(grid_sensor.labelled("in", *sensors, 400), source)
    (tmp_path / "in.json").write_text(json.dumps(grid_sensor.limits(400)))
    options = ["--limits", tmp_path / "in.json", "--out", out, "--json"]
    alarms = [one for one in events(gridnode(source, *options)[1]) if one["event"] == "alarm"]
    rows = {row["timestamp"]: row for row in table(out)}
    changing = 0
    for alarm in alarms:
        row, start = rows[alarm["at"]], rows[alarm["start"]]
        assert (row["kind"], row["diagnosis"]) == (alarm["kind"], alarm["diagnosis"])
        assert row["priority"] == str(alarm["priority"])
        if alarm["diagnosis"] != alarm["kind"]:
            name = alarm["diagnosis"].replace("_", " ").capitalize()
            assert alarm["sentence"].startswith(name + ":")
        assert alarm["duration_s"] == 10 * alarm["rows"]
        changing += start["diagnosis"] != row["diagnosis"]
    assert len(alarms) > 20 and changing > 5
