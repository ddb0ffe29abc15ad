"""gridnode replay: the way into the VM and out of it, refusals with their line, files for people."""

import csv
import errno
import json
import os
import re
import struct
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
from command_line import events
from gridnode_host import build, replay, resources
from gridnode_host.bench.figures import detection_runs, probe
from gridnode_host.detection import grid_sensor
from gridnode_host.detection.stream_file import Stream, place, read_stream, write_values
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.replay import command, operations, recording, vm
from gridnode_host.replay.episodes import episodes, readable, summary
from gridnode_host.replay.notes import notes
from gridnode_host.replay.recording import read

STAND_IN = Path(__file__).parent / "stand_in"
PNG = b"\x89PNG"
VMS = pytest.mark.parametrize("micropython", probe.machines().values(), ids=probe.machines())


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that tells what it is given, and can be made to fail, where the node's is found."""
    monkeypatch.setattr(resources, "image_dir", lambda _arch: STAND_IN)


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


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A recording of two signals of which the last rows of one are anomalous, and its limits."""
    lines = ["timestamp,voltage,label,current,label_current,class,train"]
    for k in range(300):
        anomalous = k in (240, 241, 242, 270)
        voltage = {240: 300, 241: 301, 242: "", 270: 150}.get(k, 230 + k * 7 % 5 / 4)
        stamp = f"2026-01-02T00:{k // 6:02}:{k % 6}0Z"
        current = 10 + k * 11 % 7 / 8
        lines.append(f"{stamp},{voltage},{anomalous:d},{current},no number,c,{int(k < 200)}")
    path = tmp_path / "in.csv"
    path.write_text("\n".join(lines) + "\n")
    limits = {"interval_s": 10, "train_rows": 200, "nominal": {"voltage": [207, 253]}}
    (tmp_path / "in.json").write_text(json.dumps(limits))
    return path


# ------------------------------------------------------------------ into the VM and out of it


@pytest.mark.usefixtures("stand_in")
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
    given = place_of(voltage={250: 300, 251: 300}, current={280: np.nan})
    seen: list[tuple[int, int]] = []
    told = replay.judge(given, train=given.train, progress=lambda *at: seen.append(at))
    assert np.flatnonzero(told.alarm).tolist() == [250, 251]
    assert told.grade[250] == 1000 and told.grades[250, 0] == 1000 > 500 > told.grades[250, 1]
    assert told.alarms[250].tolist() == [True, False]
    assert list(told.kind[249:253]) == ["", "range", "range", ""]
    # named by the product's rules of faults
    assert list(told.diagnosis[249:253]) == ["", "voltage_swell", "voltage_swell", ""]
    assert told.priority[249:253].tolist() == [0, 2, 2, 0]
    assert told.sentences == {250: "Voltage swell: Voltage 300 V, above 253 V"}
    assert (told.state, told.reason, told.learnt, told.load) == ("frozen", "", 200, "")
    assert 0 < told.size < len(told.model)
    assert seen[-1] == (300, 300)
    scores = replay.scores(given)
    assert scores.grade[250] == 1.0 and not scores.alarms["current"].any()
    assert scores.priority is not None and np.isnan(scores.priority[249])


def test_an_open_cover_is_named_as_long_as_it_is_open() -> None:
    given = place_of()
    cover = np.zeros(300)
    cover[250:260] = 1.0
    cover[270] = 0.1
    given.values["cover"] = cover
    told = replay.judge(given, train=given.train)
    assert np.flatnonzero(told.diagnosis == "tamper").tolist() == [*range(250, 260), 270]
    assert (told.priority[told.diagnosis == "tamper"] == 2).all()
    assert told.sentences == {250: "Tamper: Cover is open", 270: "Tamper: Cover was open"}
    assert not told.alarms[:, :2].any()


@VMS
def test_every_vm_says_the_same(micropython: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = place_of(voltage={250: 300, 251: 238}, current={240: 30, 280: np.nan, 281: np.nan})
    here = replay.judge(given, train=given.train)
    monkeypatch.setattr(build, "micropython", lambda: micropython)
    there = replay.judge(given, train=given.train)
    assert (here.grades == there.grades).all() and (here.alarms == there.alarms).all()
    assert (here.kind == there.kind).all() and here.sentences == there.sentences
    assert (here.model, here.size) == (there.model, there.size)


@VMS
def test_a_model_fits_every_vm(micropython: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one with steps of a size that a float32 does not print."""
    given = place_of(voltage={250: 300, 251: 238}, current={240: 30})
    given.values["x"] = given.values["current"] * 1e-6
    given.values["y"] = given.values["current"] * 1e9
    model = replay.judge(given, train=given.train).model
    here = replay.judge(given, model=model)
    monkeypatch.setattr(build, "micropython", lambda: micropython)
    there = replay.judge(given, model=model)
    assert (here.load, there.load) == ("", "") and here.alarm.any()
    assert (here.grades == there.grades).all() and here.sentences == there.sentences


@pytest.mark.usefixtures("stand_in")
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
        (200, None, "frozen", 200),  # the column
        (None, None, "frozen", 200),  # train_rows
        (220, "frozen", "frozen", 220),
        (300, None, "frozen", 300),  # to the last row
        (None, "guarded", "guarded", 200),
        (210, "guarded", "guarded", 210),
        (200, "learning", "learning", 300),
    ],
)
def test_modes(train: int | None, mode: str | None, state: str, learnt: int) -> None:
    given = place_of(train=train)
    told = replay.judge(given, mode, train=given.train if train else None)
    assert (told.state, told.learnt) == (state, learnt)


def test_without_a_row_to_learn_nothing_is_frozen() -> None:
    given = place_of(train=None)
    told = replay.judge(given, train=given.train)
    assert (told.state, told.learnt, told.refused) == ("learning", 0, [])


def test_a_suspect_training_is_told() -> None:
    given = place_of(voltage=dict.fromkeys(range(50, 60), 300.0))
    told = replay.judge(given, "guarded", train=given.train)
    assert told.state == "suspect"
    assert told.reason == "5.0 % of the rows learnt broke a rule"
    assert told.refused == [f"freeze: {told.reason}"]


@pytest.mark.usefixtures("stand_in")
def test_a_refusal_to_freeze_is_told() -> None:
    given = stream(2, x=[1, 2, 3, 1, 2])
    told = replay.judge(given, train=given.train)
    assert told.state == "learning"
    assert told.reason == "only 2 rows learnt"
    assert told.refused == ["freeze: only 2 rows learnt"]


def test_a_model_goes_on_where_it_was() -> None:
    given = place_of(voltage={250: 300})
    model = replay.judge(given, train=given.train).model
    told = replay.judge(given, model=model, train=given.train)
    assert (told.load, told.state, told.learnt) == ("", "frozen", 200)
    assert told.alarm[250] and told.priority[250] == 2
    guarded = replay.judge(given, "guarded", model)
    assert guarded.state == "guarded"
    assert replay.judge(given, model=guarded.model).state == "frozen"
    assert replay.judge(given, "learning", model).learnt == 500


@pytest.mark.usefixtures("stand_in")
def test_modes_are_about_what_comes_after_learning() -> None:
    given = stream(None, bits=[1, 2, 3, 4, 5, 6])
    for mode, after in (("frozen", "0"), ("guarded", "None"), ("learning", "1")):
        told = replay.judge(given, mode)
        assert [text.split()[-1] for text in told.kind] == ["None"] * 4 + [after] * 2
    told = replay.judge(given, train=np.array([True, False, True, True, False, False]))
    assert [text.split()[-1] for text in told.kind] == ["1", "0", "1", "1", "0", "0"]


# ------------------------------------------------------------------ a detector that fails


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("train", [1, None])
def test_an_exception_is_told_with_row_and_traceback(train: int | None) -> None:
    with pytest.raises(GridnodeError) as failure:
        replay.scores(stream(train, crash=[1, 2, 13, 3, 1]))
    cause = failure.value.cause
    assert "ended after 2 of 5 rows" in cause
    assert "RuntimeError: thirteen at 1700000020" in cause
    assert failure.value.exit == Exit.INTERNAL


@pytest.mark.usefixtures("stand_in")
def test_a_vm_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "_SILENCE_S", 1.0)
    with pytest.raises(GridnodeError) as failure:
        replay.scores(stream(1, hang=[1, 2, 13] + [1] * 300_000))
    assert "row 2: nothing has come from the VM for 1 s" in failure.value.cause
    assert "KeyboardInterrupt" in failure.value.cause


@pytest.mark.usefixtures("stand_in")
def test_a_vm_that_does_not_tell_where_it_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "_SILENCE_S", 1.0)
    monkeypatch.setattr(vm, "_GRACE_S", 0.5)
    with pytest.raises(GridnodeError) as failure:
        replay.scores(stream(1, deaf=[1, 13, 2]))
    assert "for 1 s, nor a traceback for 0.5 s more" in failure.value.cause


@pytest.mark.usefixtures("stand_in")
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


# ------------------------------------------------------------------ for the figures


@pytest.mark.parametrize("signals", [1, 4, 13, 15])
def test_what_a_detector_costs(signals: int) -> None:
    told = replay.cost(signals)
    assert 200 * signals < told["operations"] < 1000 * signals
    assert 400 * signals < told["model_bytes"] <= 8192


def test_operations_are_counted_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "firmware" / "gridnode" / "anomaly"
    folder.mkdir(parents=True)
    (folder / "detector.py").write_text(
        "import uctypes\n"
        "from micropython import const\n"
        "_TWO = const(2)\n"
        "class Detector:\n"
        "    state, reason = 'frozen', ''\n"
        "    def __init__(self, names, limits):\n"
        "        self.k = 0\n"
        "    def row(self, values, t):\n"
        "        self.k = -t + _TWO  # two\n"
        "        if not values[0] < 5:  # compares; the jump takes the not\n"
        "            self.add(values)\n"
        "    def add(self, values):\n"
        "        for _ in range(3):\n"
        "            self.k ^= 1\n"
    )
    monkeypatch.setattr(resources, "checkout", lambda: tmp_path)
    t = np.arange(4.0)
    for values, wanted in (([1, 2, 3, 4], 3), ([1, 2, 3, 9], 6)):
        assert operations.most(["x"], {}, t, np.array(values)) == wanted
    folder.joinpath("detector.py").write_text("class Detector:\n    pass\n")
    with pytest.raises(GridnodeError, match="TypeError"):
        operations.most(["x"], {}, t, np.zeros(4))
    monkeypatch.setattr(resources, "checkout", lambda: None)
    assert np.isnan(operations.most(["x"], {}, t, np.zeros(4)))


def test_the_figures_ask_the_same_detector() -> None:
    given = place_of(voltage={250: 300})
    told = detection_runs.judged(detection_runs.NODE, given, 1)
    assert np.flatnonzero(told.alarm).tolist() == [250]


def test_what_the_limits_leave_open_the_stream_tells(recorded: Path, tmp_path: Path) -> None:
    """A detector that waits for a row a minute would judge none of these."""
    code, out, _ = gridnode(recorded, "--out", tmp_path / "out.csv")
    assert code == 0 and "of the rows to learn" not in out
    rows = table(tmp_path / "out.csv")
    assert [rows[k]["alarm_voltage"] for k in (239, 240, 241, 270)] == ["0", "1", "1", "1"]


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
