"""gridnode train: what it learns from, the file that it writes, and the forest that comes with us."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import events, gridnode
from gridnode_host import detection, resources
from gridnode_host.bench.figures import probe
from gridnode_host.detection import (
    forest_score,
    node_rows,
    phase_truth,
    sources,
    stream_file,
    streams,
    train,
)
from gridnode_host.detection.forest_file import NOTHING, Forest, Node
from gridnode_host.errors import Exit, GridnodeError

SHIPPED = "feeder-faults"
FEEDER = "v1 v2 v3 i1 i2 i3 i_n p1 p2 p3 t_joint t_ambient humidity"
LEFT_OUT = ("sensor_stuck", "ct_saturation", "overheating_joint")


def no_progress(done: int, total: int) -> None:
    pass


def part(stream: stream_file.Stream, first: int, last: int) -> stream_file.Stream:
    """Some rows of a stream."""
    rows = slice(first, last)
    return replace(
        stream,
        t=stream.t[rows],
        values={name: values[rows] for name, values in stream.values.items()},
        by_signal={name: truth[rows] for name, truth in stream.by_signal.items()},
        label=stream.label[rows],
        unscored=stream.unscored[rows],
        fault=stream.fault[rows],
        train=stream.train[rows],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eventful halves of some streams, as files."""
    folder = tmp_path_factory.mktemp("streams")
    for seed in (1, 2, 3):
        stream = streams.make("t_faults", seed)
        streams.save(part(stream, 5400, len(stream.t)), folder / f"{stream.name}.csv")
    return folder


# ------------------------------------------------------------------ a short form of the whole


def test_trains_on_files_and_scores_the_third(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "made" / "short.gnf"
    options = ["--leave-out", "sensor_stuck", "--without", "v_step", "--room", "2000", "--json"]
    code, out, err = gridnode("train", str(folder), *options, "--out", str(target))
    assert code == 0, out + err
    told = events(out)
    assert {"step", "progress", "class", "done"} == {event["event"] for event in told}
    kinds = {event["kind"]: event for event in told if event["event"] == "class"}
    assert set(kinds) > {NOTHING, "overload", "phase_loss", "ct_reversed"}
    assert "sensor_stuck" not in kinds
    assert kinds[NOTHING]["recall"] > 0.98
    done = told[-1]
    assert done["bytes"] == target.stat().st_size <= 2000
    assert done["summary"]["events_named"] > 0.85
    record = json.loads(target.with_suffix(".json").read_text())
    assert record["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert record["learnt_from"] == ["t_faults_1", "t_faults_2"]
    assert record["held_out"] == ["t_faults_3"]
    assert "v_step" not in record["features"]
    assert record["command"].endswith("--room 2000 --out short.gnf")


def test_the_same_seed_gives_the_same_bytes_and_the_node_counts_alike(folder: Path) -> None:
    settings = train.Settings("twice", 900, 3)
    stream = sources.gather([str(folder / "t_faults_1.csv")], no_progress)[0]
    material = train.collect([stream], settings, no_progress)
    learner = train._Learner(
        settings, [NOTHING, *sorted(train._kinds(material))], material[0].names, 1
    )
    made = [learner.fit(learner.sample(material), 5, 12, 300) for _ in range(2)]
    assert made[0].packed == made[1].packed
    whole = material[0].view
    told = node_rows.features(whole.values, whole.limits)
    rows = told.values.reshape(-1, len(told.names))
    columns = [told.names.index(name) for name in made[0].features]
    votes, asked = made[0].votes(rows[:, columns])
    found, certainty = made[0].answers(votes)
    assert asked.max() <= made[0].most_asked
    node = node_rows.classify(made[0].packed, whole.values, whole.limits)
    assert (node.found.reshape(-1) == found).all()
    assert (node.certainty.reshape(-1) == certainty).all()
    assert node.model == "twice" and node.classes == list(made[0].classes)


# ------------------------------------------------------------------ the forest that comes along


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    root = resources.checkout()
    assert root
    text = (root / "boards" / "models" / f"{SHIPPED}.json").read_text()
    document: dict[str, Any] = json.loads(text)
    return document


def test_the_file_is_the_one_that_was_scored(record: dict[str, Any]) -> None:
    assert SHIPPED in resources.forest_names()
    data = resources.forest(SHIPPED)
    assert hashlib.sha256(data).hexdigest() == record["sha256"]
    assert len(data) == record["bytes"] <= 4096
    assert not set(record["learnt_from"]) & set(record["held_out"])
    assert not set(record["classes"]) & set(LEFT_OUT)


def test_it_has_its_score_on_streams_that_it_does_not_know(record: dict[str, Any]) -> None:
    data = resources.forest(SHIPPED)
    names = [
        next(name for name in record["held_out"] if name.startswith(kind))
        for kind in ("t_faults", "t_more")
    ]
    fresh = [streams.make(name[:-4], int(name[-3:])) for name in names]
    score = forest_score.score(data, fresh, LEFT_OUT, no_progress)
    told, stated = score.summary(), record["summary"]
    assert told["events_named"] > stated["events_named"] - 0.03
    for view in ("whole", "other loads", "one phase", "four signals", "electric"):
        for figure in ("recall", "precision"):
            assert told[view][figure] > stated[view][figure] - 0.08, (view, figure)
        assert told[view]["false_share"] < stated[view]["false_share"] + 0.005


USUAL = [230.0, 231.0, 229.0, 80.0, 70.0, 90.0, 20.0, 17100.0, 15000.0, 19200.0, 34.0, 20.0, 50.0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [NOTHING] * 3),
        ({"i1 i2 i3 i_n p1 p2 p3": 0.0}, [NOTHING] * 3),  # nobody draws anything
        ({"v1 v2 v3": 69.0}, ["voltage_sag"] * 3),
        ({"v1 v2 v3": 262.0}, ["voltage_swell"] * 3),
        ({"v1 v2 v3": 1.0, "i1 i2 i3 i_n p1 p2 p3": 0.0}, ["interruption"] * 3),
        ({"v1": 20.0, "i1 p1": 0.0}, ["phase_loss", NOTHING, NOTHING]),
        ({"p2": -15000.0}, [NOTHING, "ct_reversed", NOTHING]),
        ({"i3 p3": 0.0}, [NOTHING, NOTHING, "ct_disconnected"]),
        ({"i2": 300.0, "p2": 64000.0, "i_n": 210.0}, [NOTHING, "overload", NOTHING]),
        ({"v1": 100.0, "i1": 1200.0, "i_n": 1100.0}, ["short_circuit", NOTHING, NOTHING]),
        ({"humidity": 96.0}, ["condensation"] * 3),
    ],
)
def test_what_it_says_of_plain_rows(change: dict[str, float], expected: list[str]) -> None:
    """Rows made by hand: they owe nothing to the streams that it has learnt from."""
    row = dict(zip(FEEDER.split(), USUAL, strict=True))
    for names, value in change.items():
        row.update(dict.fromkeys(names.split(), value))
    values = {name: np.array([value]) for name, value in row.items()}
    limits = {"v_nominal": 230, "rating_a": 200, "interval_s": 10}
    told = node_rows.classify(resources.forest(SHIPPED), values, limits)
    assert [told.classes[k] for k in told.found[0]] == expected


def test_it_says_the_same_on_a_32_bit_machine() -> None:
    machines = probe.machines()
    if len(machines) < 2:
        pytest.skip("MICROPYTHON names no other VM")
    data = resources.forest(SHIPPED)
    stream = streams.make("t_faults", 102)
    told = [
        (
            node_rows.features(stream.values, stream.limits, vm),
            node_rows.classify(data, stream.values, stream.limits, vm),
        )
        for vm in machines.values()
    ]
    (rows, answers), (other_rows, other_answers) = told
    assert (rows.values == other_rows.values).all()
    assert (answers.found == other_answers.found).all()
    assert (answers.certainty == other_answers.certainty).all()


def test_a_forest_that_is_not_there() -> None:
    with pytest.raises(GridnodeError, match="cannot be read"):
        resources.forest("nowhere.gnf")


# ------------------------------------------------------------------ whose fault it is


def stream(fault: str, guilty: dict[str, list[float]], names: str) -> stream_file.Stream:
    """Three rows, of which the middle one has the fault."""
    signals = names.split()
    label = np.array([False, True, False])
    return stream_file.Stream(
        name="x",
        t=np.arange(3.0),
        values={name: np.full(3, 1.0) for name in signals},
        label=label,
        unscored=np.zeros(3, dtype=bool),
        by_signal={name: np.array(guilty.get(name, [0.0] * 3)) for name in signals},
        fault=np.array(["", fault, ""], dtype=object),
        train=np.zeros(3, dtype=bool),
        limits={"interval_s": 60, "rating_a": 1, "v_nominal": 1},
    )


def test_a_fault_of_a_phase_is_no_fault_of_the_others() -> None:
    dragged = [math.nan] * 3
    one = stream(
        "overload", {"i2": [0, 1, 0], "v3": dragged, "i3": dragged, "p3": dragged}, FEEDER
    )
    whole = next(iter(phase_truth.views(one)))
    assert whole.fault.tolist() == [["", "", ""], ["", "overload", ""], ["", "", ""]]
    assert whole.scored.tolist() == [[True] * 3, [True, True, False], [True] * 3]
    left_out = next(iter(phase_truth.views(one, ["overload"])))
    assert set(left_out.fault.flat) == {""} and left_out.scored.all()


def test_a_fault_around_the_phases_is_seen_where_its_signal_is() -> None:
    one = stream("condensation", {"humidity": [0, 1, 0]}, FEEDER)
    seen = {view.kind: view for view in phase_truth.views(one)}
    assert set(seen) == {"whole", "other loads", "one phase", "four signals", "electric"}
    assert set(seen["whole"].fault[1]) == {"condensation"}
    assert set(seen["four signals"].values) == {"voltage", "current", "temperature", "humidity"}
    assert set(seen["four signals"].fault[1]) == {"condensation"}
    assert set(seen["electric"].values) == set(FEEDER.split()[:6] + FEEDER.split()[7:10])
    assert set(seen["electric"].fault[1]) == {""} and seen["electric"].scored.all()


def test_other_loads_on_the_rows_without_a_fault() -> None:
    one = streams.make("t_faults", 1)
    seen = {view.kind: view for view in phase_truth.views(one)}
    whole, loads = seen["whole"], seen["other loads"]
    assert not (loads.scored & (whole.fault != "")).any()
    share = np.stack([loads.values[name] for name in ("i1", "i2", "i3")], axis=1)
    share /= one.limits["rating_a"]
    over = (loads.fault == "overload") & loads.scored
    assert set(loads.fault[loads.scored]) == {"", "overload"}
    assert share[over].min() > 1.02 and share[loads.scored & ~over].max() <= 1.0
    assert (share.max(axis=1) == 0).mean() > 0.1
    assert (loads.values["v1"] == one.values["v1"]).sum() == (~np.isnan(one.values["v1"])).sum()


def test_what_cannot_be_told_from_a_part_is_not_scored() -> None:
    hot = stream("overheating_load", {"t_joint": [0, 1, 0], "i1": [0, 1, 0]}, FEEDER)
    seen = {view.kind: view for view in phase_truth.views(hot)}
    assert set(seen["whole"].fault[1]) == {"overheating_load"}
    assert seen["electric"].scored.tolist() == [[True] * 3, [False, True, True], [True] * 3]
    lost = stream("neutral_loss", {"i_n": [0, 1, 0]}, FEEDER)
    seen = {view.kind: view for view in phase_truth.views(lost)}
    assert set(seen["whole"].fault[1]) == {"neutral_loss"}
    assert seen["one phase"].scored.tolist() == [[True], [False], [True]]


def test_a_place_of_one_phase_is_seen_as_it_is() -> None:
    one = stream("overload", {"current": [0, 1, 0]}, "voltage current")
    whole, loads = phase_truth.views(one)
    assert loads.kind == "other loads" and not loads.scored[1]
    assert whole.fault.tolist() == [[""], ["overload"], [""]]


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["t_nothing:1"], "no kind 't_nothing'"),
        (["absent.csv"], "absent.csv"),
        (["."], "holds no .csv"),
        (["t_clean:1"], "no stream is left for the scores"),
        (["t_clean:1", "--test", "t_clean:2"], "no row to learn from has a fault"),
        (["t_clean:1", "--test", "t_clean:2", "--name", "a\nb"], "one line"),
    ],
)
def test_refusals_are_usage_with_a_cause(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = gridnode("train", *arguments, "--out", "x.gnf")
    assert code == Exit.USAGE, err
    assert words in err
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_streams(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("timestamp,v1\n1,two\n")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(GridnodeError, match="is no stream"):
        sources.gather([str(tmp_path)], no_progress)
    (tmp_path / "x.csv").write_text("timestamp,v1\n1,2\n")
    with pytest.raises(GridnodeError, match="lack interval_s"):
        sources.gather([str(tmp_path)], no_progress)


def test_wrong_features_and_too_little_room(folder: Path) -> None:
    one = sources.gather([str(folder / "t_faults_1.csv")], no_progress)
    for settings, words in (
        (train.Settings("x", 4096, 0, without=["colour"]), "no feature colour"),
        (train.Settings("x", 150, 0), "not even the smallest forest fits 150 bytes"),
    ):
        short = [
            replace(m, rows=m.rows[:9000], fault=m.fault[:9000])
            for m in train.collect(one, settings, no_progress)[:1]
        ]
        with pytest.raises(GridnodeError, match=words):
            train.train(short, settings, no_progress)


def test_a_dry_run_shows_the_classes_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.gnf"
    code, out, err = gridnode("train", str(folder), "--dry-run", "--out", str(target), "--json")
    assert code == 0, err
    kinds = {event["kind"]: event["rows"] for event in events(out) if event["event"] == "class"}
    assert kinds[NOTHING] > 10 * kinds["overload"] > 0
    assert not target.exists()


def test_without_scikit_learn_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("train", "train_run"):
        monkeypatch.delitem(sys.modules, f"gridnode_host.detection.{name}", raising=False)
        monkeypatch.delattr(detection, name, raising=False)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    code, _, err = gridnode("train", "t_clean:1", "--out", str(tmp_path / "x.gnf"))
    assert code == Exit.USAGE
    assert "the Python module sklearn" in err and "gridnode[train]" in err


def test_the_node_refuses_a_forest_with_its_reason() -> None:
    stranger = Forest("x", [NOTHING, "fault"], ["colour"], 1, [[Node(0, 250)]])
    one = streams.make("t_clean", 1)
    with pytest.raises(GridnodeError, match="there is no feature colour") as caught:
        node_rows.classify(stranger.packed, one.values, one.limits)
    assert caught.value.exit == Exit.REFUSED
