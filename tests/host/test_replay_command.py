"""gridnode replay: from file to file, models, plots, what it refuses before the work."""


import errno
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import events
from gridnode_host import replay
from gridnode_host.detection.stream_file import place
from gridnode_host.errors import Exit
from gridnode_host.replay import command, vm
from gridnode_host.replay.recording import read
from replays import PNG, gridnode, stream, table


def test_help_tells_files_and_modes() -> None:
    code, out, _ = gridnode("--help")
    assert code == 0
    assert "Example: gridnode replay STREAM.csv --limits META.json --out SCORES.csv" in out
    for word in ("frozen|guarded|learning", "--plot", "--model", "--dry-run", "i_of_rating", "2 usage"):
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
    assert [rows[240][name] for name in rows[0] if name != "grade_current"][1:] == [
        *("1.000", "1", "1.000", "1", "0"),
        *("range", "2", "range"),
    ]
    quiet = list(rows[242].values())[1:]
    assert quiet[1:3] == ["0", "0.000"] and quiet[4:] == ["0", "0", "", "", ""]
    stripped = read(recorded, {}).stream
    placed = place({name: [row[name] for row in rows] for name in rows[0]}, stripped)
    assert placed.missing == 0 and placed.alarm.sum() == 3
    for words in (
        "voltage: 1 of 300 rows have no value",
        "300 of 2 signals",
        "2, in 3 rows (1.0 %)",
        "frozen, 200 rows learnt",
        "first     2026-01-02T00:40:00Z  range, priority 2, voltage: Voltage 300 V, above 253 V",
        "last      2026-01-02T00:45:00Z  range, priority 2, voltage: Voltage 150 V, below 207 V",
        "size      model 1",
        f"wrote {scores}",
    ):
        assert words in out


def test_events_of_a_run(recorded: Path, tmp_path: Path) -> None:
    limits = ["--limits", tmp_path / "in.json"]
    code, out, _ = gridnode(recorded, *limits, "--json", "--mode", "guarded")
    assert code == 0
    told = events(out)
    assert all(event["v"] == 1 for event in told)
    progress = [event for event in told if event["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] == 300
    first, last = (event for event in told if event["event"] == "alarm")
    assert first["start"] == "2026-01-02T00:40:00Z" and first["rows"] == 2
    assert (last["kind"], last["priority"], last["signals"]) == ("range", 2, ["voltage"])
    assert last["sentence"] == "Voltage 150 V, below 207 V"
    done = told[-1]
    assert done["event"] == "done"
    assert (done["rows"], done["alarms"], done["alarm_rows"]) == (300, 2, 3)
    assert (done["state"], done["learnt"], done["model_refused"]) == ("guarded", 200, "")
    assert 0 < done["size"] < done["model_bytes"] and "operations" not in done


def test_a_model_is_written_once_and_then_loaded(recorded: Path, tmp_path: Path) -> None:
    model, first, second = (tmp_path / name for name in ("model", "1.csv", "2.csv"))
    assert gridnode(recorded, "--model", model, "--out", first)[0] == 0
    before = model.read_bytes()
    code, out, _ = gridnode(recorded, "--model", model, "--out", second)
    assert code == 0 and f"taken     {model}" in out
    assert model.read_bytes() == before
    assert table(first)[240]["kind"] == table(second)[240]["kind"] != ""


def _newer(model: bytes) -> bytes:
    return model[:4] + struct.pack("<H", 99) + model[6:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: model[:-1], "the model is cut short"),
        (lambda model: model[:-1] + b"?", "the model is damaged: its CRC does not match"),
        (lambda _model: b"", "not a model"),
        (_newer, "the model is of version 99, this firmware reads 3"),
        (None, "the model is of another SKU: its names differ"),
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
        other = stream(200, x=np.arange(300) % 7.0)
        model.write_bytes(replay.judge(other, train=other.train).model)
    before = model.read_bytes()
    code, out, _ = gridnode(recorded, "--model", model, "--out", tmp_path / "out.csv")
    assert code == 0
    assert f"not taken {model}: {reason}; learnt from this stream instead" in out
    assert len(table(tmp_path / "out.csv")) == 300
    assert model.read_bytes() == before
    told = events(gridnode(recorded, "--model", model, "--json")[1])
    assert told[-1]["model_refused"] == reason


@pytest.mark.parametrize("suffix", ["html", "png"])
def test_a_plot(suffix: str, recorded: Path, tmp_path: Path) -> None:
    plot = tmp_path / f"plot.{suffix}"
    assert gridnode(recorded, "--limits", tmp_path / "in.json", "--plot", plot)[0] == 0
    content = plot.read_bytes()
    if suffix == "png":
        assert content.startswith(PNG) and len(content) < 1_000_000
        return
    text = content.decode()
    assert text.count("<svg") == 1 and "http" not in text and "<script" not in text
    assert "Voltage 150 V, below 207 V" in text and "2026-01-02T00:45:00Z" in text
    assert "Voltage 300 V, above 253 V" in text
    assert "voltage: 1 of 300 rows have no value" in text


@pytest.mark.usefixtures("stand_in")
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "no/where.csv"], "cannot be written: No such file"),
        (["--out", "no/where.csv"], "next    Make the folder first"),
        (["--out", "in.json/where.csv"], "next    Name a file in a folder: a part of the path is a file"),
        (["--out", "/proc/x.csv"], "x.csv cannot be written: No such file"),
        (["--out", "/proc/x.csv"], "next    Name another place"),
        (["--out", "."], "it is a folder"),
        (["--out", "pipe"], "it is no ordinary file"),
        (["--out", "in.csv"], "it is what is read"),
        (["--out", "x", "--plot", "x"], "it is to hold two things"),
        (["--plot", "x.pdf"], "its name ends in none of .html, .htm, .png"),
        (["--limits", "gone.json"], "gone.json cannot be read"),
        (["--limits", "gone.json"], "next    Check its path"),
        (["--model", "large"], "no model of a node is that large"),
        (["--model", "folder"], "Is a directory"),
        (["--model", "folder"], "next    Name a file in that folder"),
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
    os.mkfifo(tmp_path / "pipe")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    code, _, err = gridnode(recorded.name, *options)
    assert code == Exit.USAGE
    assert words in err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_stream_that_is_not_there(tmp_path: Path) -> None:
    code, _, err = gridnode(tmp_path / "gone.csv")
    assert code == Exit.USAGE
    assert "gone.csv cannot be read: No such file" in err and "next    Check its path" in err


@pytest.mark.parametrize(
    ("number", "words", "exit_code"),
    [
        (errno.ENOSPC, "next    Free some room", Exit.INTERNAL),
        (errno.EACCES, "next    Name a file in a folder that you may write to", Exit.USAGE),
        (errno.EIO, "next    Name another place", Exit.USAGE),
    ],
)
def test_a_result_that_cannot_be_written(
    number: int,
    words: str,
    exit_code: Exit,
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_path: Path, _content: bytes) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(command, "write_atomic", fail)
    code, _, err = gridnode(recorded, "--out", tmp_path / "out.csv")
    assert code == exit_code
    assert f"out.csv cannot be written: {os.strerror(number)}" in err and words in err
