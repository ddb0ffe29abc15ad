"""Recordings and limits: refusals with their line, what stands for what, notes about strange data."""





import re
from pathlib import Path

import numpy as np
import pytest
from command_line import events
from gridnode_host.detection.stream_file import read_stream
from gridnode_host.errors import Exit
from gridnode_host.replay import recording
from gridnode_host.replay.notes import notes
from gridnode_host.replay.recording import read
from replays import gridnode, table


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"timestamp,x\n", "it has no row"),
        (b"time,x\n1,2\n", "line 1: there is no column 'timestamp', only 'time, x'"),
        (b"timestamp;x\n1;2\n", "line 1: there is no column 'timestamp'"),
        (b"timestamp,label,train\n1,2,0\n", "line 1: there is no column of a signal"),
        (b"timestamp,x,x\n1,2,3\n", "line 1: there are two columns 'x'"),
        (b"timestamp,x,\n1,2,3\n", "line 1: column 3 has no name"),
        (b"timestamp,x\n1,2\n\n2\n", "line 4: it has 1 cells, the first line has 2"),
        (b"timestamp,x\n1,2\n2,230,5\n", "line 3: it has 3 cells"),
        (b"timestamp,x\n1,2\n2,on\n", "line 3: x is 'on' and not a number"),
        (b"timestamp,x\n1,2\n2,--\n", "line 3: x is '--' and not a number"),
        (b"timestamp,x\n1,2\n,2\n", "line 3: the timestamp '' is neither"),
        (b"Timestamp,x,timestamp\n1,2,3\n", "line 1: there are two columns 'timestamp'"),
        (b"timestamp,x\n1,0\n1760000400000,2\n1760000410000,2\n", "line 3: the timestamp '1760000400000' looks"),
        (b"timestamp,x\n1760000400000,2\n", "line 2: the timestamp '1760000400000' looks like milliseconds, it"),
        (b"timestamp,x\n1760000400000000,2\n", "line 2: the timestamp '1760000400000000' looks like micro"),
        (b"timestamp,x\n1760000400000000000,2\n", "line 2: the timestamp '1760000400000000000' looks like nano"),
        (b"timestamp,x\nnan,2\n", "line 2: the timestamp 'nan' is neither"),
        (b"timestamp,x\n1e300,2\n", "line 2: the timestamp '1e300' is neither"),
        (b"timestamp,x\n2026-13-01,2\n", "line 2: the timestamp '2026-13-01' is neither"),
        (b"timestamp,x,train\n1,2,2\n", "line 2: train is '2' and neither 0 nor 1, true nor false, yes"),
        (b"timestamp,x,train\n1,2,maybe\n", "line 2: train is 'maybe' and neither"),
        (b"timestamp,x,train\n1,2,nan\n", "line 2: train is 'nan' and neither"),
        (b'timestamp,x\n1,"2\n2,3\n', "line 3: unexpected end of data"),
        (b"timestamp,x\n1,2\n2,\xff\n", "line 3: it is not text in UTF-8"),
        (b"timestamp,x\n1,2\n2,\x00\n", "line 3: "),
    ],
)
def test_a_malformed_stream_is_refused_with_its_line(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    out = tmp_path / "out.csv"
    code, _, err = gridnode(path, "--out", out, "--model", tmp_path / "m")
    assert code == Exit.USAGE
    assert "failed  read the stream" in err and "next    Correct the file" in err
    assert words in err
    assert sorted(tmp_path.iterdir()) == [path]
    last = events(gridnode(path, "--out", out, "--json")[1])[-1]
    assert (last["event"], last["exit"]) == ("error", 2)
    line = re.search(r"line (\d+)", words)
    assert last.get("line") == (int(line[1]) if line else None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1, column 1"),
        ('{"a": 1,\n "b": }', "line 2, column 7"),
        ("[]", "is not a JSON object"),
        ('{"rating_a": NaN}', "NaN is no number of JSON"),
        ('{"interval_s": 0}', "interval_s is 0 and not a number above 0"),
        ('{"rating_a": "200"}', "rating_a is '200'"),
        ('{"train_rows": 10.5}', "train_rows is 10.5"),
        ('{"train_rows": -1}', "train_rows is -1"),
        ('{"train_rows": true}', "train_rows is True"),
        ('{"train_rows": "10"}', "train_rows is '10'"),
        ('{"nominal": [1, 2]}', "nominal is [1, 2] and not an object"),
        ('{"nominal": {"v": [253, 207]}}', "nominal.v is [253, 207] and not [lowest, highest]"),
        ('{"nominal": {"v": null}}', "nominal.v is None"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_malformed_limits_are_refused(
    content: str, words: str, recorded: Path, tmp_path: Path
) -> None:
    path = tmp_path / "limits.json"
    path.write_text(content)
    code, _, err = gridnode(recorded, "--limits", path)
    assert code == Exit.USAGE
    assert "failed  read the limits" in err
    assert words in err


def test_strange_data_is_noted_and_passed_on(tmp_path: Path) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_text(
        "\ufefftimestamp, voltage,late,never,same\r\n"
        "2026-01-01 00:00:00,230,,,5\r\n"
        "2026-01-01T00:00:10,NaN,,None,5\r\n"
        "2026-01-01T00:00:20Z,231,1,nan,5\r\n"
        "2026-01-01T00:00:05Z,230,,,5\r\n"
        '"2026-01-01T01:00:25+01:00",230,2,,5\r\n'
        "2026-01-01T00:02:00Z,230,2,,5\r\n"
        "2026-01-01T00:02:00Z,230,2,,5\r\n"
    )
    limits = tmp_path / "l.json"
    limits.write_text('{"interval_s": 60, "nominal": {"v": [1, 2], "i_of_rating": [0, 1]}}')
    code, told, _ = gridnode(path, "--limits", limits, "--out", out)
    assert code == 0
    assert [line[6:] for line in told.splitlines() if line.startswith("note")] == [
        "voltage: 1 of 7 rows have no value",
        "late: the first value comes in line 4",
        "late: 1 of 5 rows have no value",
        "never: no row has a value",
        "same: always 5",
        "the limits have i_of_rating and no rating_a: no current is limited",
        "1 of 7 rows have the timestamp of the one before, first in line 8",
        "line 5: the clock goes back by 15 s",
        "rows are 15 s apart, interval_s of the limits is 60 s: "
        "rows so far from it are judged by rules alone",
        "1 of 6 rows do not follow the one before by 15 s, first in line 7: 95 s",
    ]
    assert "reason    the stream ends before learning does" in told
    stamps = [row["timestamp"] for row in table(out)]
    assert stamps[0] == "2026-01-01 00:00:00" and stamps[4] == "2026-01-01T01:00:25+01:00"
    assert read(path, {}).stream.t[4] == read(path, {}).stream.t[2] + 5


def test_rows_may_be_marked_to_learn_from_in_any_words(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    told = ["0", "1", "true", "False", "YES", "no", "", " 1.0", "TRUE", "No"]
    path.write_text("timestamp,x,Train\n" + "".join(f"{k},1,{one}\n" for k, one in enumerate(told)))
    wanted = [False, True, True, False, True, False, False, True, True, False]
    assert list(read(path, {}).stream.train) == wanted
    path.write_text(path.read_text().replace("Train", "train"))
    assert list(read_stream(path).train) == wanted, "gridnode train reads the same"


def test_what_stands_for_a_missing_value(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    cells = ["NA", "n/a", "-", " N/A ", "None", "null", "NaN", "", " "]
    path.write_text("timestamp,x\n" + "".join(f"{k},{one}\n" for k, one in enumerate(cells)))
    assert np.isnan(read(path, {}).stream.values["x"]).all()
    assert np.isnan(read_stream(path).values["x"]).all()


def test_an_infinite_value_is_missing_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("timestamp,x,y\n1,inf,1\n2,2,-Infinity\n3,-inf,2\n4,1e39,-1\n5,3,2\n")
    told = read(path, {})
    assert np.isnan(told.stream.values["x"]).tolist() == [True, False, True, True, False]
    assert [note for note in notes(told) if "infinite" in note] == [
        "x: 3 infinite values taken as missing",
        "y: 1 infinite value taken as missing",
    ]


def test_a_name_of_another_case_is_kept_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("TimeStamp,Voltage,V1,I_N,T_joint,Cover,Label,X,V\n1,1,2,3,4,0,0,5,6\n")
    told = read(path, {})
    assert list(told.stream.values) == ["Voltage", "V1", "I_N", "T_joint", "Cover", "Label", "X", "V"]
    assert told.timestamps == ["1"]
    assert notes(told)[0] == "Voltage is judged as a plain signal; did you mean voltage?"
    meant = [line.split()[-1] for line in notes(told)]
    assert meant == ["voltage?", "v1?", "i_n?", "t_joint?", "cover?", "label?"]


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (60, "rows are 300 s apart, interval_s of the limits is 60 s: rows so far from it"),
        (1000, "rows are 300 s apart, interval_s of the limits is 1000 s: rows so far from it"),
        (400, "rows are 300 s apart, interval_s of the limits is 400 s: times are off by as much"),
        (340, ""),
        (300, ""),
        (None, ""),
    ],
)
def test_another_interval_than_the_limits_say_is_noted(
    interval: int | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "in.csv"
    path.write_text("timestamp,x\n" + "".join(f"{300 * k},{k}\n" for k in range(9)))
    told = notes(read(path, {"interval_s": interval} if interval else {}))
    assert "".join(told).startswith(words) and bool(told) == bool(words)


def test_a_timestamp_that_comes_again_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("timestamp,x\n1,1\n2,2\n2,3\n\n2,4\n3,5\n3,6\n4,7\n")
    told = read(path, {})
    assert told.stream.t.tolist() == [1, 2, 2, 2, 3, 3, 4], "every row is kept"
    assert notes(told) == ["3 of 7 rows have the timestamp of the one before, first in line 4"]


def test_null_in_the_limits_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text('{"rating_a": null, "nominal": null, "train_rows": 300.0, "v_nominal": 230}')
    assert recording.read_limits(path) == {"train_rows": 300, "v_nominal": 230}
    path.write_text('{"interval_s": null, "train_rows": null}')
    assert recording.read_limits(path) == {}


def test_a_family_of_the_limits_that_no_signal_has_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("timestamp,voltage,i_n,t_joint,p2,vx\n1,230,0,30,0,7\n")
    nominal = {name: [0, 1] for name in ("v", "i", "t", "p", "h", "v1", "current", "vx")}
    told = notes(read(path, {"nominal": nominal}))
    unknown = [line.split()[3].strip(",") for line in told if line.startswith("the limits name")]
    assert unknown == ["h", "v1", "current"]


def test_with_more_signals_than_the_rules_of_faults_take_the_others_judge(tmp_path: Path) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    rows = [f"{1_700_000_000 + 10 * k}," + ",".join(["230"] * 31) for k in range(60)]
    rows[50] = rows[50].replace(",230", ",999", 1)
    names = [f"v{k}" for k in range(31)]
    path.write_text("\n".join(["timestamp," + ",".join(names), *rows]) + "\n")
    limits = tmp_path / "l.json"
    limits.write_text('{"train_rows": 40, "v_nominal": 230, "nominal": {"v": [207, 253]}}')
    code, told, err = gridnode(path, "--limits", limits, "--out", out)
    assert code == 0, err
    assert "note  with more than 30 signals no fault is named" in told
    [alarm] = [row for row in table(out) if row["alarm"] == "1"]
    assert (alarm["alarm_v0"], alarm["kind"], alarm["alarm_v1"]) == ("1", "range", "0")
