"""Generated streams: the same by seed, physically possible, labelled as what was put in."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gridnode_host.detection import grid_sensor, streams, surroundings
from gridnode_host.detection.curves import stretches
from gridnode_host.detection.draft import Calendar, Draft, crowded
from gridnode_host.detection.random_series import ar, lag
from gridnode_host.detection.stream_file import Stream, read_stream
from gridnode_host.detection.surroundings import Air, Heat

CLEAN = ("s_clean", "s_benign", "sku_500", "t_clean")
EVENTS = {
    "s_spike": {"spike": 40},
    "s_level_shift": {"level_shift": 8},
    "s_persistent": {"persistent": 1},
    "s_drift": {"drift": 3},
    "s_period": {"period": 2},
    "s_stuck": {"sensor_stuck": 12},
    "s_disconnected": {"sensor_disconnected": 12},
    "s_noise_burst": {"noise": 12},
    "sku_200": {"overload": 10},
}
FAULTS = [
    "short_circuit",
    "phase_loss",
    "neutral_loss",
    "overload",
    "voltage_sag",
    "voltage_swell",
    "ct_reversed",
    "ct_disconnected",
    "overheating_joint",
    "condensation",
    "sensor_stuck",
]
MORE = [
    "interruption",
    "unbalance",
    "ct_saturation",
    "neutral_removed",
    "overheating_load",
    "sensor_disconnected",
]


def guilty(stream: Stream, row: int) -> list[str]:
    return [name for name, truth in stream.by_signal.items() if truth[row] == 1]


def same(one: Stream, other: Stream) -> bool:
    return (
        all(np.array_equal(one.values[name], other.values[name], True) for name in one.values)
        and np.array_equal(one.label, other.label)
        and np.array_equal(one.t, other.t)
    )


@pytest.mark.parametrize("kind", streams.KINDS)
def test_a_stream_is_drawn_by_its_seed_alone(kind: str) -> None:
    first = streams.make(kind, 3)
    assert same(first, streams.make(kind, 3))
    assert not same(first, streams.make(kind, 4))


@pytest.mark.parametrize("kind", streams.KINDS)
def test_labels_agree_with_each_other(kind: str) -> None:
    stream = streams.make(kind, 1)
    rows = len(stream.t)
    assert all(len(part) == rows for part in (*stream.values.values(), stream.label, stream.train))
    assert np.all(np.diff(stream.t) == stream.limits["interval_s"])
    assert stream.train.sum() == stream.limits["train_rows"]
    assert not (stream.label & stream.unscored).any()
    assert np.array_equal(stream.label, stream.fault != "")
    assert stream.label.any() != (kind in CLEAN)
    assert (stream.label & stream.train).any() == (kind == "seed_contaminated")
    for truth in stream.by_signal.values():
        assert not (truth == 1)[~stream.label].any()
        assert np.isnan(truth[stream.unscored]).all()
    if stream.by_signal:
        assert all(guilty(stream, row) for row in np.flatnonzero(stream.label))


@pytest.mark.parametrize("kind", CLEAN)
@pytest.mark.parametrize("seed", range(8))
def test_without_a_fault_nothing_leaves_the_limits(kind: str, seed: int) -> None:
    stream = streams.make(kind, seed)
    nominal, rating = stream.limits["nominal"], stream.limits["rating_a"]
    for name, values in stream.values.items():
        low, high = nominal.get(name) or nominal.get(name[0], (0, np.inf))
        if name[0] == "i" or name == "current":
            low, high = 0, nominal["i_of_rating"][1] * rating
        assert np.nanmin(values) >= low
        assert np.nanmax(values) <= high
        assert np.isnan(values).mean() < 0.001


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("seed", [0, 7])
def test_as_many_events_as_promised(kind: str, seed: int) -> None:
    stream = streams.make(kind, seed)
    begun = Counter(stream.fault[first] for first, _ in stretches(stream.label))
    assert begun == EVENTS[kind]


@pytest.mark.parametrize("kind", ["s_level_shift", "s_spike", "s_noise_burst", "s_ct_saturation"])
def test_these_faults_stay_within_the_limits(kind: str) -> None:
    for seed in range(4):
        stream = streams.make(kind, seed)
        for name, (low, high) in stream.limits["nominal"].items():
            values = stream.values["current" if name == "i_of_rating" else name]
            scale = stream.limits["rating_a"] if name == "i_of_rating" else 1.0
            assert np.nanmin(values) >= low * scale
            assert np.nanmax(values) <= high * scale


def test_300_a_are_a_fault_only_where_the_rating_says_so() -> None:
    small, large = streams.make("sku_200", 2), streams.make("sku_500", 2)
    assert (small.limits["rating_a"], large.limits["rating_a"]) == (200.0, 500.0)
    assert np.all(small.values["current"][small.label] > 270)
    for rows in (large.train, ~large.train):
        often = len(stretches((large.values["current"] > 280) & rows))
        assert 3 <= often <= 7


def test_a_loose_joint_breaks_only_the_relation() -> None:
    for seed in range(3):
        stream = streams.make("s_joint", seed)
        assert {tuple(guilty(stream, row)) for row in np.flatnonzero(stream.label)} == {
            ("temperature",)
        }
        assert set(stream.fault) <= {"", "overheating_joint", "relation"}
        current = stream.values["current"]
        assert current[stream.label].max() <= stream.limits["rating_a"]
        # what cools afterwards is no longer the fault, and nobody scores it
        ends = [last for _, last in stretches(stream.label)]
        assert sum(stream.unscored[end + 1] for end in ends) > len(ends) / 2


def test_a_season_is_no_fault() -> None:
    stream = streams.make("s_benign", 5)
    days = stream.values["temperature"].reshape(8, -1).mean(axis=1)
    assert days[6:].mean() > days[3:5].mean()


# ------------------------------------------------------------------ feeders


@pytest.mark.parametrize(("kind", "names"), [("t_faults", FAULTS), ("t_more", MORE)])
def test_every_fault_of_a_feeder_happens(kind: str, names: list[str]) -> None:
    for seed in range(3):
        stream = streams.make(kind, seed)
        assert len(stream.values) == 13
        assert set(stream.fault) - {""} == set(names)
        for name in names:
            events = len(stretches(stream.fault == name))
            assert events >= 4 if name in ("ct_saturation", "condensation") else events == 4
    assert not crowded(streams.make(kind, 9))


CHECKS: dict[str, Callable[[dict[str, float], list[str]], bool]] = {
    "short_circuit": lambda x, who: x[who[1]] > 2.5 and x[who[0]] < 0.85,
    "phase_loss": lambda x, who: x[who[0]] < 0.6 and x[who[1]] < 0.01 and x[who[2]] < 0.01,
    "neutral_loss": lambda x, who: x["i_n"] < 0.01 and who[-1] == "i_n",
    "overload": lambda x, who: all(x[name] > 1.05 for name in who),
    "voltage_sag": lambda x, who: all(x[name] < 0.92 for name in who) and len(who) == 3,
    "voltage_swell": lambda x, who: all(x[name] > 1.09 for name in who) and len(who) == 3,
    "ct_reversed": lambda x, who: x[who[0]] < -0.01,
    "ct_disconnected": lambda x, who: x[who[0]] < 0.01 < x[f"v{who[0][1]}"],
    "overheating_joint": lambda x, who: who == ["t_joint"],
    "condensation": lambda x, who: x["humidity"] >= 90,
    "sensor_stuck": lambda x, who: len(who) == 1,
    "interruption": lambda x, who: all(x[name] < 0.05 for name in ("v1", "v2", "v3")),
    "unbalance": lambda x, who: abs(x[who[0]] - 1) > 0.05 and len(who) == 1,
    "ct_saturation": lambda x, who: 0.2 < x[who[0]] < 1,
    "neutral_removed": lambda x, who: max(x["v1"], x["v2"], x["v3"]) < 0.05 < x["i1"] + x["i2"],
    "overheating_load": lambda x, who: min(x["i1"], x["i2"], x["i3"]) > 0.9 and "t_joint" in who,
    "sensor_disconnected": lambda x, who: not 0 < x[who[0]] < 85,
}


@pytest.mark.parametrize("kind", ["t_faults", "t_more"])
@pytest.mark.parametrize("seed", [0, 6])
def test_what_is_read_is_what_the_fault_does(kind: str, seed: int) -> None:
    stream = streams.make(kind, seed)
    rating = stream.limits["rating_a"]
    unit = {"v": 230.0, "i": rating, "p": rating * 230.0}
    for row in np.flatnonzero(stream.label):
        values = {
            name: float(column[row]) / unit.get(name[0], 1.0)
            for name, column in stream.values.items()
        }
        name = stream.fault[row]
        assert CHECKS[name](values, guilty(stream, row)), (name, row, values)
    for first, last in stretches(stream.fault == "sensor_stuck"):
        (name,) = guilty(stream, first)
        assert len(set(stream.values[name][first : last + 1])) == 1
        assert last - first >= 59


def test_a_sound_feeder_obeys_its_laws() -> None:
    for seed in range(4):
        stream = streams.make("t_clean", seed)
        values, rating = stream.values, stream.limits["rating_a"]
        for k in "123":
            factor = values[f"p{k}"] / (values[f"v{k}"] * values[f"i{k}"])
            busy = values[f"i{k}"] > 0.1 * rating
            assert np.nanmin(factor[busy]) > 0.78
            assert np.nanmax(factor[busy]) < 1.02
        amperes = sum(values[f"i{k}"] for k in "123")
        assert np.nanmax(values["i_n"] / amperes) < 1.0
        # the joint is warmer than the air by what the currents of the last hours explain
        squares = sum(np.nan_to_num(values[f"i{k}"]) ** 2 for k in "123") / rating**2
        lags = [lag(squares, tau) for tau in (8.0, 30.0, 110.0)]
        columns = np.array([np.ones(len(squares)), *lags]).T[200:]
        rise = np.nan_to_num(values["t_joint"] - values["t_ambient"])[200:]
        weights, *_ = np.linalg.lstsq(columns, rise, rcond=None)
        assert np.std(rise - columns @ weights) < 0.25 * np.std(rise)


# ------------------------------------------------------------------ line sensors


def test_the_line_sensors_six_classes_come_at_their_rates() -> None:
    stream = streams.make("seed", 0)
    assert (len(stream.t), stream.limits["train_rows"]) == (18 * 360, 6 * 360)
    test = stream.fault[~stream.train]
    for name in grid_sensor.CLASSES:
        assert abs((test == name).mean() - 0.1) < 0.02
    assert abs((test == "").mean() - 0.4) < 0.04
    for name, (low, high) in grid_sensor.RANGES.items():
        ordinary = stream.values[name][~stream.label]
        assert low <= ordinary.min() < low + 0.01 * (high - low)
        assert high >= ordinary.max() > high - 0.01 * (high - low)
        only = stream.fault == f"{name}_high"
        assert np.all(stream.values[name][only] == grid_sensor.HIGH[name])


def test_contaminated_training_has_its_share_of_anomalies() -> None:
    stream = streams.make("seed_contaminated", 0)
    assert abs(stream.label[stream.train].mean() - 0.05) < 0.015
    assert abs(stream.label[~stream.train].mean() - 0.6) < 0.03


def test_the_fleets_mean_is_calmer_than_a_sensor() -> None:
    stream = streams.make("seed_fleet", 0)
    assert (len(stream.t), stream.limits["interval_s"]) == (18 * 60, 60)
    assert np.std(stream.values["voltage"][stream.train]) < 2000 / 12**0.5 / 100**0.5
    assert np.all(stream.values["voltage"][~stream.train] > 25_000)


# ------------------------------------------------------------------ parts


def test_heat_comes_with_the_time_constant() -> None:
    step = np.r_[np.zeros(1), np.ones(600)]
    above = Heat(rise_k=20.0, fast_share=1.0, fast=30.0, slow=99.0).above(step)
    assert above[30] == pytest.approx(20 * (1 - np.exp(-1)), rel=0.02)
    assert above[-1] == pytest.approx(20.0, rel=0.001)


def test_humidity_is_that_of_the_dew_point() -> None:
    air = Air(np.array([20.0, 20.0, 30.0]), np.array([20.0, 10.0, 10.0]))
    # Sonntag's tables: 100, 52.5, 28.9 %
    assert surroundings.humidity(air) == pytest.approx([100.0, 52.5, 28.9], abs=0.3)


def test_noise_has_its_deviation_and_its_memory() -> None:
    noise = ar(np.random.default_rng(1), 200_000, 2.0, 20.0)
    assert np.std(noise) == pytest.approx(2.0, rel=0.05)
    assert np.corrcoef(noise[:-20], noise[20:])[0, 1] == pytest.approx(np.exp(-1), abs=0.03)


def test_a_calendar_hands_out_no_row_twice() -> None:
    calendar = Calendar(np.random.default_rng(2), 1000, 100)
    taken = [calendar.take(30, 10) for _ in range(15)]
    rows = np.concatenate([np.arange(part.start, part.stop) for part in taken])
    assert len(set(rows)) == len(rows) == 450
    assert rows.min() >= 100
    assert not calendar.claim(taken[0], 0)
    with pytest.raises(ValueError, match="no room"):
        calendar.take(900, 10)


def test_a_growing_fault_counts_from_where_it_is_seen() -> None:
    draft = Draft(np.arange(10.0), {"x": np.zeros(10), "y": np.zeros(10)}, {"x": 1.0, "y": 1.0})
    draft.values["x"][2:8] = [0.5, 2.0, 3.0, 4.0, 2.0, 0.5]
    draft.values["y"][4] = 5.0
    draft.mark(slice(2, 6), "drift", ["x"], growing=True)
    stream = draft.finish("one", {"train_rows": 1}, {})
    assert stream.label.tolist() == [False, False, False, True, True, True, *[False] * 4]
    assert np.flatnonzero(stream.unscored).tolist() == [2, 6]  # not seen yet, and recovering
    assert stream.by_signal["x"][3] == 1
    assert np.isnan(stream.by_signal["y"][4])
    assert stream.by_signal["y"][5] == 0


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("kind", ["seed", "s_disconnected", "t_faults"])
def test_a_file_reads_back_as_what_was_drawn(kind: str, tmp_path: Path) -> None:
    stream = streams.make(kind, 2)
    path = tmp_path / "deep" / "stream.csv"
    meta = streams.save(stream, path)
    back = read_stream(path, meta)
    assert same(stream, back)
    assert back.limits == json.loads(json.dumps(stream.limits))
    assert np.array_equal(back.unscored, stream.unscored)
    assert np.array_equal(back.train, stream.train)
    assert list(back.fault) == list(stream.fault)
    for name, truth in stream.by_signal.items():
        assert np.array_equal(back.by_signal[name], truth, True)


def test_the_module_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["streams", "s_clean", "4", str(tmp_path / "clean.csv")])
    streams.main()
    back = read_stream(tmp_path / "clean.csv", tmp_path / "clean.json")
    assert same(back, streams.make("s_clean", 4))
