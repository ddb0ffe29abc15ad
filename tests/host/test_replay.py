"""gridnode replay: the way into the VM and out of it, refusals with their line, files for people."""

import csv
import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gridnode_host import build, cli, replay, resources
from gridnode_host.bench.figures import detection_runs, probe
from gridnode_host.detection.stream_file import Stream, place
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.replay import vm
from gridnode_host.replay.episodes import episodes, readable
from gridnode_host.replay.recording import read
from typer.testing import CliRunner

STAND_IN = Path(__file__).parent / "stand_in"
PNG = b"\x89PNG"
VMS = pytest.mark.parametrize("micropython", probe.machines().values(), ids=probe.machines())


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector of the tests stands where the firmware's is found."""
    monkeypatch.setattr(resources, "image_dir", lambda _arch: STAND_IN)


def gridnode(*arguments: str | Path) -> tuple[int, str, str]:
    """Run the command in this process; returns exit code, stdout and stderr."""
    settings = {"COLUMNS": "200", "NO_COLOR": "1"}
    result = CliRunner().invoke(cli.app, ["replay", *map(str, arguments)], env=settings)
    return result.exit_code, result.stdout, result.stderr


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def stream(train: int | None = 4, **values: list[float]) -> Stream:
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


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A recording of two signals whose last rows are anomalous, and its limits."""
    lines = ["timestamp,voltage,label,current,label_current,class,train"]
    for k in range(40):
        anomalous = k in (20, 21, 22, 30)
        current = {20: 50, 21: 51, 22: "", 30: -7}.get(k, 10 + k % 3)
        stamp = f"2026-01-02T00:{k // 6:02}:{k % 6}0Z"
        lines.append(f"{stamp},{230 + k % 2},{anomalous:d},{current},no number,c,{int(k < 10)}")
    path = tmp_path / "in.csv"
    path.write_text("\n".join(lines) + "\n")
    limits = {"interval_s": 10, "train_rows": 10, "nominal": {"voltage": [207, 253]}}
    (tmp_path / "in.json").write_text(json.dumps(limits))
    return path


# ------------------------------------------------------------------ into the VM and out of it


@VMS
def test_every_vm_sees_the_same_bits(micropython: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "micropython", lambda: micropython)
    values = [0.1, 1e-40, -3.5e38, 16777217.0, float("nan"), 230.04]
    with np.errstate(over="ignore"):
        given = stream(None, bits=values)
        given.limits = {"train_rows": 99}
        given.t = np.array([-1.5, 0.9, 2.0**31, 2.0**32 + 1, 2.0**40, 1760000400.25])
        told = replay.judge(given)
        wanted = [struct.pack(">f", value).hex() for value in np.float32(values)]
    floors = [-2, 0, 1 << 31, (1 << 32) + 1, 1 << 40, 1760000400]
    assert list(told.kind) == [f"{b} {t} None" for b, t in zip(wanted, floors, strict=True)]


def test_formats_have_a_size_and_an_order() -> None:
    program = Path(vm.__file__).with_name("on_vm.py").read_text()
    for found in re.findall(r'(?:calcsize|pack|pack_into|unpack)\(\s*"([^"]*)"', program):
        assert found.startswith("<")
    assert not re.search(r'struct\.[a-z_]+\(\s*"[^<]', program)
    assert vm.ROW_OUT.size == 8


def test_frames_may_come_in_any_pieces() -> None:
    row = bytes([vm.ROW]) + vm.ROW_OUT.pack(700, 1, 2, 1, 0) + struct.pack("<2h2B", 700, 3, 1, 0)
    text = "Spannung ±5".encode()
    data = struct.pack("<BI", vm.TEXT, len(text)) + text + row
    data += (
        struct.pack("<BI", vm.SENTENCE, 2) + b"ab" + row + struct.pack("<BI", vm.END, 2) + b"{}"
    )
    for size in (1, 2, 3, 7, len(data)):
        frames = vm.Frames(2)
        for at in range(0, len(data), size):
            frames.add(data[at : at + size])
        told = frames.told
        assert told.texts == ["", "Spannung ±5"]
        assert (told.count, told.sentences, told.end) == (2, {1: "ab"}, {})
        assert bytes(told.rows) == row[1:] * 2
    with pytest.raises(ValueError, match="print"):
        vm.Frames(2).add(b"printed")
    with pytest.raises(ValueError, match="R"):
        frames.add(b"R")


def test_what_the_detector_says_comes_back() -> None:
    given = stream(4, voltage=[230, 231, 232, 231, 231, 400, 401, 230], i=[1, 2, 3, 2, 2, 2, 9, 2])
    seen: list[tuple[int, int]] = []
    told = replay.judge(given, train=given.train, progress=lambda *at: seen.append(at))
    assert told.grade.tolist() == [0] * 4 + [100] + [900, 901, 100]
    assert told.alarm.tolist() == [False] * 5 + [True, True, False]
    assert told.grades[6].tolist() == [901, 509] and told.alarms[6].tolist() == [True, True]
    assert list(told.kind[4:]) == ["", "range_high", "range_high", ""]
    assert list(told.diagnosis[4:]) == ["", "voltage_fault", "i_fault", ""]
    assert told.priority.tolist() == [0] * 5 + [1, 2, 0]
    assert told.sentences == {5: "voltage is 400 at 1700000050"}
    assert (told.state, told.reason, told.learnt, told.load) == ("frozen", "", 4, "")
    assert told.operations == {"learning": 40, "judging": 14} and told.size == 16
    assert seen[-1] == (8, 8)
    scores = replay.scores(given)
    assert scores.grade[5] == 0.9 and scores.alarms["i"].tolist() == [False] * 6 + [True, False]
    assert scores.priority is not None and np.isnan(scores.priority[4])


def test_no_row_of_the_detectors_own_time_is_lost() -> None:
    """Both pipes are fuller than what the system keeps."""
    rows = 20_000
    given = stream(None, **{f"x{k}": list(np.arange(rows) % 7.0) for k in range(21)})
    told = replay.judge(given)
    assert len(told.grade) == rows and told.learnt == 4
    assert (told.alarm == (np.arange(rows) % 7 > 3) & (np.arange(rows) > 3)).all()


@pytest.mark.parametrize(
    ("train", "mode", "state", "learnt"),
    [
        (4, None, "frozen", 4),  # the column
        (None, None, "frozen", 4),  # train_rows
        (6, "frozen", "frozen", 6),
        (8, None, "frozen", 8),  # to the last row
        (None, "guarded", "guarded", 4),
        (5, "guarded", "guarded", 5),
        (4, "learning", "learning", 8),
    ],
)
def test_modes(train: int | None, mode: str | None, state: str, learnt: int) -> None:
    given = stream(train, x=[1, 2, 3, 1, 2, 3, 1, 2])
    told = replay.judge(given, mode, train=given.train if train else None)
    assert (told.state, told.learnt) == (state, learnt)


def test_without_a_row_to_learn_nothing_is_frozen() -> None:
    given = stream(None, x=[1, 2, 3, 1])
    told = replay.judge(given, train=given.train)
    assert (told.state, told.learnt, told.refused) == ("learning", 0, [])


def test_a_refusal_to_freeze_is_told() -> None:
    given = stream(2, x=[1, 2, 3, 1, 2])
    told = replay.judge(given, train=given.train)
    assert told.state == "learning"
    assert told.reason == "only 2 rows learnt"
    assert told.refused == ["freeze: only 2 rows learnt"]


def test_a_model_goes_on_where_it_was() -> None:
    given = stream(4, x=[1, 2, 3, 1, 2, 9, 1, 2])
    model = replay.judge(given, train=given.train).model
    told = replay.judge(given, model=model, train=given.train)
    assert (told.load, told.state, told.learnt) == ("", "frozen", 4)
    assert told.model == model
    guarded = replay.judge(given, "guarded", model)
    assert guarded.state == "guarded"
    assert replay.judge(given, model=guarded.model).state == "frozen"
    assert replay.judge(given, "learning", model).learnt == 12


def test_modes_are_about_what_comes_after_learning() -> None:
    given = stream(None, bits=[1, 2, 3, 4, 5, 6])
    for mode, after in (("frozen", "0"), ("guarded", "None"), ("learning", "1")):
        told = replay.judge(given, mode)
        assert [text.split()[-1] for text in told.kind] == ["None"] * 4 + [after] * 2
    told = replay.judge(given, train=np.array([True, False, True, True, False, False]))
    assert [text.split()[-1] for text in told.kind] == ["1", "0", "1", "1", "0", "0"]


# ------------------------------------------------------------------ a detector that fails


@pytest.mark.parametrize("train", [1, None])
def test_an_exception_is_told_with_row_and_traceback(train: int | None) -> None:
    with pytest.raises(GridnodeError) as failure:
        replay.scores(stream(train, crash=[1, 2, 13, 3, 1]))
    cause = failure.value.cause
    assert "ended after 2 of 5 rows" in cause
    assert "RuntimeError: thirteen at 1700000020" in cause
    assert failure.value.exit == Exit.INTERNAL


def test_a_vm_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "_SILENCE_S", 1.0)
    with pytest.raises(GridnodeError) as failure:
        replay.scores(stream(1, hang=[1, 2, 13] + [1] * 300_000))
    assert "row 2: nothing has come from the VM for 1 s" in failure.value.cause
    assert "KeyboardInterrupt" in failure.value.cause


def test_a_vm_that_is_none_and_a_detector_that_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GridnodeError, match="what a debugger left behind"):
        replay.scores(stream(1, babble=[1, 2]))
    monkeypatch.setattr(build, "micropython", lambda: "/bin/false")
    with pytest.raises(GridnodeError, match="no MicroPython VM"):
        replay.scores(stream(1, x=[1, 2]))


def test_without_a_detector_the_import_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resources, "image_dir", lambda _arch: tmp_path)
    with pytest.raises(GridnodeError, match="ImportError"):
        replay.scores(stream(1, x=[1, 2]))


# ------------------------------------------------------------------ the command


def test_help_tells_files_and_modes() -> None:
    code, out, _ = gridnode("--help")
    assert code == 0
    assert "Example: gridnode replay STREAM.csv --limits META.json --out SCORES.csv" in out
    for word in ("frozen|guarded|learning", "--plot", "--model", "--dry-run", "2 usage"):
        assert word in out


def test_a_run_from_file_to_file(recorded: Path, tmp_path: Path) -> None:
    scores = tmp_path / "out.csv"
    code, out, _ = gridnode(recorded, "--limits", tmp_path / "in.json", "--out", scores)
    assert code == 0
    rows = table(scores)
    assert list(rows[0]) == [
        "timestamp",
        "grade",
        "alarm",
        "grade_voltage",
        "grade_current",
        "alarm_voltage",
        "alarm_current",
        "kind",
        "priority",
        "diagnosis",
    ]
    assert [row["timestamp"] for row in rows] == [row["timestamp"] for row in table(recorded)]
    assert list(rows[20].values())[1:] == [
        *("0.550", "1", "0.100", "0.550", "0", "1"),
        *("range_high", "2", "current_fault"),
    ]
    assert list(rows[22].values())[1:] == ["0.100", "0", "0.100", "0.000", "0", "0", "", "", ""]
    stripped = read(recorded, {}).stream
    placed = place({name: [row[name] for row in rows] for name in rows[0]}, stripped)
    assert placed.missing == 0 and placed.alarm.sum() == 3
    for words in (
        "current: 1 of 40 rows have no value",
        "40 of 2 signals",
        "2, in 3 rows (7.5 %)",
        "frozen, 10 rows learnt",
        "first     2026-01-02T00:03:20Z  range_high, current_fault, priority 2, current: current",
        "last      2026-01-02T00:05:00Z  range_low",
        f"wrote {scores}",
    ):
        assert words in out


def test_events_of_a_run(recorded: Path, tmp_path: Path) -> None:
    code, out, _ = gridnode(recorded, "--out", tmp_path / "out.csv", "--json", "--mode", "guarded")
    assert code == 0
    told = events(out)
    assert all(event["v"] == 1 for event in told)
    progress = [event for event in told if event["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] == 40
    first, last = (event for event in told if event["event"] == "alarm")
    assert first["start"] == "2026-01-02T00:03:20Z" and first["rows"] == 2
    assert (last["kind"], last["priority"], last["signals"]) == ("range_low", 2, ["current"])
    done = told[-1]
    assert done["event"] == "done"
    assert (done["rows"], done["alarms"], done["alarm_rows"]) == (40, 2, 3)
    assert (done["state"], done["learnt"], done["model_refused"]) == ("guarded", 10, "")


def test_a_model_is_written_once_and_then_loaded(recorded: Path, tmp_path: Path) -> None:
    model, first, second = (tmp_path / name for name in ("model", "1.csv", "2.csv"))
    assert gridnode(recorded, "--model", model, "--out", first)[0] == 0
    before = model.read_bytes()
    code, out, _ = gridnode(recorded, "--model", model, "--out", second)
    assert code == 0 and f"taken     {model}" in out
    assert model.read_bytes() == before
    assert table(first)[10:] == table(second)[10:]


def _newer(model: bytes) -> bytes:
    body = b"[3" + model[6:]
    return struct.pack("<I", zlib.crc32(body)) + body


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: model[:-1], "it is damaged"),
        (lambda _model: b"", "it is damaged"),
        (_newer, "it is of version 3, this is 2"),
        (None, "it is of other signals"),
    ],
)
def test_a_model_that_is_not_taken_is_told_and_kept(
    change: Any, reason: str, recorded: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    if change:
        assert gridnode(recorded, "--model", model)[0] == 0
        model.write_bytes(change(model.read_bytes()))
    else:
        other = stream(4, x=[1, 2, 3, 1, 2])
        model.write_bytes(replay.judge(other, train=other.train).model)
    before = model.read_bytes()
    code, out, _ = gridnode(recorded, "--model", model, "--out", tmp_path / "out.csv")
    assert code == 0
    assert f"not taken {model}: {reason}; learnt from this stream instead" in out
    assert len(table(tmp_path / "out.csv")) == 40
    assert model.read_bytes() == before
    told = events(gridnode(recorded, "--model", model, "--json")[1])
    assert told[-1]["model_refused"] == reason


@pytest.mark.parametrize("suffix", ["html", "png"])
def test_a_plot(suffix: str, recorded: Path, tmp_path: Path) -> None:
    plot = tmp_path / f"plot.{suffix}"
    assert gridnode(recorded, "--plot", plot)[0] == 0
    content = plot.read_bytes()
    if suffix == "png":
        assert content.startswith(PNG) and len(content) < 1_000_000
        return
    text = content.decode()
    assert text.count("<svg") == 1 and "http" not in text and "<script" not in text
    assert "range_low" in text and "2026-01-02T00:05:00Z" in text
    assert "current is 50 at 1767312200" in text
    assert "current: 1 of 40 rows have no value" in text


@pytest.mark.parametrize("signals", [1, 9, 21])
def test_a_plot_of_many_rows_stays_small(signals: int, tmp_path: Path) -> None:
    rows = 30_000
    rng = np.random.default_rng(1)
    columns = np.round(rng.normal(100, 5, (rows, signals)), 2)
    lines = ["timestamp," + ",".join(f"<s{k}>" for k in range(signals))]
    lines += [f"{10 * k}," + ",".join(map(str, row)) for k, row in enumerate(columns)]
    path, plot = tmp_path / "in.csv", tmp_path / "out.html"
    path.write_text("\n".join(lines))
    (tmp_path / "in.json").write_text('{"train_rows": 5}')
    assert gridnode(path, "--limits", tmp_path / "in.json", "--plot", plot)[0] == 0
    text = plot.read_text()
    assert len(text) < 3_000_000
    assert "&lt;s0&gt;" in text and "<s0>" not in text
    assert signals > 1 or "more are not listed" in text


@pytest.mark.parametrize(
    "rows",
    [
        ["1,5"],
        ["1,", "2,", "3,"],
        ["5,1", "4,1", "4,2", "3,3"],
        ["-1e12,1", "0,2", "1e15,3"],
        ["1,5", "2,5", "3,5", "4,5", "5,5"],
        [f"{k if k < 3000 else k + 90000},{k % 9}" for k in range(6000)],
    ],
)
def test_a_plot_of_anything(rows: list[str], tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("\n".join(["timestamp,x", *rows]))
    for suffix in ("html", "png"):
        code, out, err = gridnode(path, "--plot", tmp_path / f"out.{suffix}")
        assert code == 0, out + err


def test_a_dry_run_writes_nothing(recorded: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    places = [tmp_path / name for name in ("o.csv", "m", "p.html")]
    options = ["--out", places[0], "--model", places[1], "--plot", places[2], "--dry-run"]
    code, out, _ = gridnode(recorded, *options)
    assert code == 0
    assert all(f"would write {path}" in out for path in places)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("missing", ["numpy"])
def test_without_what_it_needs_it_says_how_to_install_it(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from gridnode_host import cli; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "replay", "in.csv"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == Exit.USAGE
    assert missing in done.stderr and "pip install 'gridnode[bench]'" in done.stderr


# ------------------------------------------------------------------ what is no recording


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
        (b"timestamp,x\n1,2\n2,inf\n", "line 3: x is inf, which a node cannot measure"),
        (b"timestamp,x\n1,-1e39\n", "line 2: x is -1e+39, which"),
        (b"timestamp,x\n1,2\n,2\n", "line 3: the timestamp '' is neither"),
        (b"timestamp,x\nnan,2\n", "line 2: the timestamp 'nan' is neither"),
        (b"timestamp,x\n1e300,2\n", "line 2: the timestamp '1e300' is neither"),
        (b"timestamp,x\n2026-13-01,2\n", "line 2: the timestamp '2026-13-01' is neither"),
        (b"timestamp,x,train\n1,2,yes\n", "line 2: train is 'yes' and neither 0 nor 1"),
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "no/where.csv"], "there is no folder no"),
        (["--out", "."], "it is a folder"),
        (["--out", "in.csv"], "it is what is read"),
        (["--out", "x", "--plot", "x"], "it is to hold two things"),
        (["--plot", "x.pdf"], "its name ends in none of .html, .htm, .png"),
        (["--limits", "gone.json"], "gone.json cannot be read"),
        (["--model", "large"], "no model of a node is that large"),
        (["--model", "folder"], "Is a directory"),
        (["--mode", "fast"], "'fast'"),
    ],
)
def test_places_are_refused_before_the_work(
    options: list[str],
    words: str,
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vm, "run", lambda *_: pytest.fail("it has run"))
    (tmp_path / "large").write_bytes(bytes(100_000))
    (tmp_path / "folder").mkdir()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    code, _, err = gridnode(recorded.name, *options)
    assert code == Exit.USAGE
    assert words in err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_stream_that_is_not_there(tmp_path: Path) -> None:
    code, _, err = gridnode(tmp_path / "gone.csv")
    assert code == Exit.USAGE
    assert "No such file" in err


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
        "the limits name v, which is no signal of the stream",
        "line 5: the clock goes back by 15 s, and 1 times more",
        "rows are 15 s apart, interval_s is 60",
        "1 of 6 rows do not follow the one before by 15 s, first in line 7: 95 s",
    ]
    stamps = [row["timestamp"] for row in table(out)]
    assert stamps[0] == "2026-01-01 00:00:00" and stamps[4] == "2026-01-01T01:00:25+01:00"
    assert read(path, {}).stream.t[4] == read(path, {}).stream.t[2] + 5


# ------------------------------------------------------------------ for the figures


@pytest.mark.parametrize("signals", [1, 4, 13, 15])
def test_what_a_detector_costs(signals: int) -> None:
    told = replay.cost(signals)
    assert told["operations"] == 7 * signals
    assert told["model_bytes"] > 0


def test_the_figures_ask_the_same_detector() -> None:
    given = stream(4, x=[1, 2, 3, 1, 2, 9, 1, 2])
    told = detection_runs.judged(detection_runs.NODE, given, 1)
    assert told.alarm.tolist() == [False] * 5 + [True, False, False]


def test_alarms_are_counted_from_raise_to_clear() -> None:
    given = stream(3, a=[1, 2, 3, 9, 9, 2, 9], b=[1, 2, 3, 2, 99, 2, 2])
    told = replay.judge(given, train=given.train)
    first, last = episodes(told, [str(k) for k in range(7)])
    assert (first.start, first.end, first.rows, first.priority) == ("3", "4", 2, 1)
    assert (first.signals, last.signals) == (["b", "a"], ["a"])
    assert readable("1767312200") == "2026-01-02 00:03:20Z"
    assert readable("1e99") == "1e99"
