"""gridnode simulate: files that replay takes, this computer's shadow over mutual TLS, refusals."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from gridnode_host import certs, cli
from gridnode_host.bench.endpoint import Endpoint
from gridnode_host.bench.shadow import ShadowService
from gridnode_host.detection import grid_sensor
from gridnode_host.detection.stream_file import read_stream
from gridnode_host.errors import Exit
from gridnode_host.simulate import live, sysmon
from typer.testing import CliRunner


def simulate(*arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; returns exit code, stdout and stderr."""
    result = CliRunner().invoke(cli.app, ["simulate", *arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# ------------------------------------------------------------------ files


def test_21_sensors_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "sensors"
    options = ["--hours", "2", "--train-hours", "1", "--anomalies", "--seed", "5"]
    code, out, _ = simulate("grid-sensor", "--out", str(folder), *options, "--json")
    assert code == 0
    told = events(out)
    assert [event["event"] for event in told].count("file") == 21
    assert told[-1]["event"] == "done"
    files = sorted(folder.glob("sensor-*.csv"))
    assert len(files) == 21
    streams = [read_stream(path, folder / "META.json") for path in files]
    for stream in streams:
        assert len(stream.t) == 720
        assert set(np.diff(stream.t)) == {10.0}
        assert stream.train.sum() == stream.limits["train_rows"] == 360
        assert not stream.label[stream.train].any()
        assert abs(stream.label[~stream.train].mean() - 0.6) < 0.15
        for name, (low, high) in grid_sensor.RANGES.items():
            ordinary = stream.values[name][~stream.label]
            assert low <= ordinary.min() <= ordinary.max() <= high
    assert len({tuple(stream.values["voltage"]) for stream in streams}) == 21
    again = tmp_path / "again"
    assert simulate("grid-sensor", "--out", str(again), *options)[0] == 0
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in files)


def test_sensors_without_anomalies(tmp_path: Path) -> None:
    assert simulate("grid-sensor", "--out", str(tmp_path), "--hours", "0.1")[0] == 0
    stream = read_stream(tmp_path / "sensor-21.csv", tmp_path / "META.json")
    assert len(stream.t) == 36
    assert stream.train.sum() == stream.limits["train_rows"] == 12, "a third, where 6 h are more"
    assert not stream.label.any()


def test_one_stream_with_faults(tmp_path: Path) -> None:
    path = tmp_path / "X.csv"
    code, out, _ = simulate("faults", "--kind", "s_stuck", "--seed", "3", "--out", str(path))
    assert code == 0
    assert "sensor_stuck" in out
    stream = read_stream(path, tmp_path / "X.json")
    assert stream.limits["train_rows"] == 5760
    assert set(stream.fault) == {"", "sensor_stuck"}


def test_the_kinds_are_listed() -> None:
    code, out, _ = simulate("faults", "--list", "--json")
    assert code == 0
    assert {"kind": "t_faults", "v": 1, "event": "kind"} in events(out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["grid-sensor"], "nothing is asked for"),
        (["grid-sensor", "--live", "--out", "x"], "both --out and --live"),
        (["grid-sensor", "--out", "x", "--hours", "1", "--train-hours", "3"], "no row to judge"),
        (["grid-sensor", "--out", "x", "--hours", "3", "--train-hours", "3"], "no row to judge"),
        (["grid-sensor", "--out", "/dev/null/x"], "/dev/null/x"),
        (["faults", "--kind", "t_nothing", "--out", "x.csv"], "no kind 't_nothing'"),
        (["faults"], "no --out"),
        (["faults", "--kind", "seed", "--out", "/dev/null/x.csv"], "/dev/null/x.csv"),
        (["faults", "--kind", "seed", "--out", "/dev/null/x.csv"], "next    Name a file in a folder"),
        (["sysmon", "--broker", "host:port"], "not HOST or HOST:PORT"),
        (["sysmon", "--broker", "host", "--thing", "nobody"], "none for nobody"),
        (["sysmon", "--thing", "a/b", "--count", "1"], "a/b"),
    ],
)
def test_refusals_are_usage_with_a_cause(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = simulate(*arguments)
    assert code == Exit.USAGE
    assert words in err
    assert not list(tmp_path.iterdir())
    code, out, _ = simulate(*arguments, "--json")
    assert code == events(out)[-1]["exit"] == Exit.USAGE


# ------------------------------------------------------------------ this computer


@pytest.fixture
def authority(tmp_path: Path) -> certs.Authority:
    return certs.ensure_ca(tmp_path / "certs")


@pytest.fixture
def endpoint(authority: certs.Authority) -> Iterator[Endpoint]:
    server = certs.issue_server(authority)
    with Endpoint(authority.pem, server.cert, server.key) as running:
        yield running


def at(endpoint: Endpoint, authority: certs.Authority, *more: str) -> list[str]:
    place = f"localhost:{endpoint.port}"
    return ["sysmon", "--broker", place, "--certs-dir", str(authority.folder), *more]


def test_metrics_reach_a_shadow_over_mutual_tls(
    endpoint: Endpoint, authority: certs.Authority
) -> None:
    certs.issue_node(authority, "laptop")
    shadows = ShadowService(endpoint)
    options = ["--thing", "laptop", "--interval", "0.1", "--count", "3", "--json"]
    code, out, err = simulate(*at(endpoint, authority, *options))
    assert (code, err) == (0, "")
    told = [event for event in events(out) if event["event"] == "metrics"]
    assert [event["version"] for event in told] == [1, 2, 3]
    document = shadows.get("laptop")
    assert document is not None
    assert document["state"]["reported"] == told[-1]["reported"]
    shadows.close()
    for event in told:
        assert 0 <= event["reported"]["cpu"] <= 100
        assert 0 < event["reported"]["memory"] < 100


def test_without_a_broker_an_endpoint_starts_for_the_run() -> None:
    code, out, _ = simulate("sysmon", "--interval", "0.1", "--count", "2")
    assert code == 0
    assert "version 2" in out


def test_a_stranger_is_refused(endpoint: Endpoint, tmp_path: Path) -> None:
    foreign = certs.ensure_ca(tmp_path / "foreign")
    certs.issue_node(foreign, "laptop")
    code, _, err = simulate(*at(endpoint, foreign, "--thing", "laptop", "--count", "1"))
    assert code == Exit.CLOUD
    assert "certificate verify failed" in err


def test_nobody_answers(
    endpoint: Endpoint, authority: certs.Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certs.issue_node(authority, "laptop")
    monkeypatch.setattr(sysmon, "_ANSWER_S", 0.3)
    code, _, err = simulate(*at(endpoint, authority, "--thing", "laptop", "--count", "1"))
    assert code == Exit.CLOUD
    assert "no answer within 0.3 s" in err


def test_a_rejected_update_says_why(
    endpoint: Endpoint, authority: certs.Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certs.issue_node(authority, "laptop")
    shadows = ShadowService(endpoint)
    monkeypatch.setattr(sysmon, "measure", lambda: {"cpu": "x" * 9000})
    code, _, err = simulate(*at(endpoint, authority, "--thing", "laptop", "--count", "1"))
    shadows.close()
    assert code == Exit.CLOUD
    assert "rejected with 413" in err


def test_the_private_key_on_disk_is_for_the_owner_only(authority: certs.Authority) -> None:
    certs.issue_node(authority, "laptop")
    before = set(authority.folder.rglob("*"))
    target = sysmon.broker_target("broker.example", "laptop", authority.folder, None)
    assert (target.host, target.port) == ("broker.example", 8883)
    assert target.tls.verify_mode == ssl.CERT_REQUIRED
    assert set(authority.folder.rglob("*")) == before  # nothing is left that others could find
    keys = [path for path in before if path.name in ("key.der", "ca.key")]
    assert len(keys) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in keys)


def test_without_its_ca_nothing_is_made(authority: certs.Authority) -> None:
    certs.issue_node(authority, "laptop")
    for path in authority.folder.glob("ca.*"):
        path.unlink()
    options = ["--thing", "laptop", "--certs-dir", str(authority.folder), "--count", "1"]
    code, _, err = simulate("sysmon", "--broker", "broker.example", *options)
    assert code == Exit.USAGE
    assert "ca.pem" in err
    assert not list(authority.folder.glob("ca.*"))


def test_the_hottest_thermometer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {"cpu": [SimpleNamespace(current=41.04)], "disk": [SimpleNamespace(current=30.0)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: groups, raising=False)
    assert sysmon.measure()["temperature"] == 41.0
    monkeypatch.setattr(psutil, "sensors_temperatures", dict)
    assert "temperature" not in sysmon.measure()


# ------------------------------------------------------------------ live


class _Bench:
    """Nodes whose reports never come, on a clock that goes on by itself."""

    def __init__(self, nodes: int, *_profile: str, **_more: Any) -> None:
        self.time = 1003.0
        self.clock = SimpleNamespace(now=self.now)
        self.nodes = [SimpleNamespace(thing=f"node-{k}", **self._around()) for k in range(nodes)]

    def _around(self) -> dict[str, Any]:
        self.mains: list[dict[str, Any]] = []
        self.air: list[dict[str, Any]] = []
        return {
            "circuit": SimpleNamespace(set=lambda **new: self.mains.append(new)),
            "environment": SimpleNamespace(set=lambda **new: self.air.append(new)),
        }

    def now(self) -> float:
        self.time += 1.0
        return self.time

    def reported(self, _thing: str) -> dict[str, Any]:
        return {}

    def __enter__(self) -> "_Bench":
        return self

    def __exit__(self, *_exc: object) -> None:
        pass


def test_mains_change_at_the_ends_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[_Bench] = []

    def build(*given: Any, **more: Any) -> _Bench:
        built.append(_Bench(*given, **more))
        return built[-1]

    monkeypatch.setattr(live.Rig, "virtual", build)
    monkeypatch.setattr(live, "_POLL_S", 0.01)
    code, _, err = simulate("grid-sensor", "--live", "--duration", "1", "--anomalies")
    assert code == Exit.CLOUD
    assert "shadow of node-0 did not arrive" in err
    (bench,) = built
    due = [new["at"] for new in bench.mains]
    assert due[:4] == [None, 1010.0, 1020.0, 1030.0]
    assert len(bench.air) == len(due) - 1
    assert all(new["humidity"] <= 100 for new in bench.air)
