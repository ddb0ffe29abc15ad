"""The detector in the VM: the way in and out, modes and models, a detector that fails, what it costs."""





import re
import struct
from pathlib import Path

import numpy as np
import pytest
from gridnode_host import build, replay, resources
from gridnode_host.bench.figures import detection_runs
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.replay import operations, vm
from replays import VMS, gridnode, place_of, stream, table

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
