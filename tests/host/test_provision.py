"""Provisioning: what is refused before a node is touched, and how each failure is told."""

import json
import stat
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fake_node import FakeNode
from gridnode_host import certs, faults, provision, resources
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

CONNECTED = '{"event": "connected"}'


def config(**changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"thing": "meter-1", "broker": "broker.example", "network": "none"}
    settings.update(changes)
    return provision.node_config(**settings)


def plan(port: str, folder: Path, **changes: Any) -> provision.Plan:
    settings: dict[str, Any] = {
        "port": port,
        "thing": "meter-1",
        "config": config(),
        "profile": resources.profile("home-60a-ct"),
        "certs_dir": folder,
        "timeout_s": 5.0,
    }
    settings.update(changes)
    return provision.Plan(**settings)


def run(fake: FakeNode, folder: Path, **changes: Any) -> None:
    provision.run(plan(fake.port, folder, **changes), Output(as_json=True))


def test_a_node_gets_all_files_and_the_laptop_keeps_no_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeNode([CONNECTED]) as fake:
        run(fake, tmp_path)
    files = fake.files
    assert set(files) == {
        "/config/node.json",
        "/config/profile.json",
        "/config/faults.jsonl",
        "/certs/ca.der",
        "/certs/cert.der",
        "/certs/key.der",
    }
    assert [json.loads(line) for line in files["/config/faults.jsonl"].splitlines()] == resources.faults()
    assert json.loads(files["/config/node.json"])["thing"] == "meter-1"
    assert isinstance(json.loads(files["/config/profile.json"])["board"], dict)
    assert (tmp_path / "nodes" / "meter-1" / "cert.der").read_bytes() == files["/certs/cert.der"]
    assert not list(tmp_path.rglob("key.der"))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(event["v"] == 1 for event in events)
    assert events[-1]["event"] == "done"


def test_keys_are_kept_on_demand_and_used_again(tmp_path: Path) -> None:
    with FakeNode([CONNECTED]) as first:
        run(first, tmp_path, keep_keys=True)
    key = tmp_path / "nodes" / "meter-1" / "key.der"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with FakeNode([CONNECTED]) as second:
        run(second, tmp_path)
    assert second.files["/certs/key.der"] == first.files["/certs/key.der"]
    assert not key.exists()


def test_another_ca_can_be_given(tmp_path: Path) -> None:
    other = certs.ensure_ca(tmp_path / "other")
    with FakeNode([CONNECTED]) as fake:
        run(fake, tmp_path / "own", ca_file=other.pem)
    assert fake.files["/certs/ca.der"] == other.der.read_bytes()


def test_a_profiles_own_rules_of_faults_replace_those_of_the_same_fault(tmp_path: Path) -> None:
    own = {"fault": "overload", "priority": 3, "each": "device", "all": [["i_most", 900, 950]], "guilty": ["i"]}
    profile = {**resources.profile("home-60a-ct"), "detector": {"mode": "guarded", "faults": [own]}}
    with FakeNode([CONNECTED]) as fake:
        run(fake, tmp_path, profile=profile)
    rules = [json.loads(line) for line in fake.files["/config/faults.jsonl"].splitlines()]
    assert [rule for rule in rules if rule["fault"] == "overload"] == [own] and len(rules) > 10
    assert json.loads(fake.files["/config/profile.json"])["detector"] == {"mode": "guarded"}
    profile["detector"]["faults"] = [{**own, "priority": 9}]
    with pytest.raises(GridnodeError, match="priority"):
        run(fake, tmp_path, profile=profile)


def test_a_refusal_is_passed_on_and_the_staged_files_are_removed(tmp_path: Path) -> None:
    with FakeNode() as fake:
        fake.refusal = {"code": "invalid", "message": "thing is missing"}
        with pytest.raises(GridnodeError, match="thing is missing") as failure:
            run(fake, tmp_path)
    assert failure.value.exit == Exit.REFUSED
    assert fake.files == {}


def test_files_that_arrived_damaged_fail_the_verification(tmp_path: Path) -> None:
    with FakeNode() as fake:
        fake.refusal = {"code": "hash", "message": "/certs/ca.der.new is not what was sent"}
        with pytest.raises(GridnodeError) as failure:
            run(fake, tmp_path)
    assert failure.value.exit == Exit.VERIFY


def test_a_wrong_hash_read_back_keeps_the_key_off_the_disk(tmp_path: Path) -> None:
    with FakeNode() as fake:
        fake.torn = "/config/profile.json"
        with pytest.raises(GridnodeError, match=r"profile\.json") as failure:
            run(fake, tmp_path)
    assert failure.value.exit == Exit.VERIFY
    assert not list(tmp_path.rglob("key.der"))


def fault(code: str, room: str = "link") -> str:
    return json.dumps({"event": "fault", "room": room, "code": code, "message": "m"})


@pytest.mark.parametrize(
    ("line", "step", "exit_code"),
    [
        (fault("tls_ca"), "secure the connection", Exit.CLOUD),
        (fault("tls_hostname"), "secure the connection", Exit.CLOUD),
        (fault("config", room="config"), "start with the configuration", Exit.REFUSED),
    ],
)
def test_a_lasting_fault_ends_the_wait(
    tmp_path: Path, line: str, step: str, exit_code: Exit
) -> None:
    with FakeNode([line]) as fake, pytest.raises(GridnodeError) as failure:
        run(fake, tmp_path, timeout_s=8.0)
    assert (failure.value.step, failure.value.exit) == (step, exit_code)
    assert failure.value.action


def test_a_fault_that_heals_is_waited_out(tmp_path: Path) -> None:
    with FakeNode([fault("tcp"), "noise", CONNECTED]) as fake:
        run(fake, tmp_path)


@pytest.mark.parametrize(
    ("console", "cause"), [([fault("tcp")], r"m \(tcp\)"), ([], "said nothing")]
)
def test_without_a_connection_the_last_fault_is_the_cause(
    tmp_path: Path, console: list[str], cause: str
) -> None:
    with FakeNode(console) as fake, pytest.raises(GridnodeError, match=cause) as failure:
        run(fake, tmp_path, timeout_s=0.3)
    assert failure.value.exit == Exit.CLOUD


def test_every_known_fault_has_a_next_action() -> None:
    for code in faults._ADVICE:
        error = faults.to_error({"event": "fault", "room": "link", "code": code, "message": "m"})
        assert error.action.endswith(".")


def test_the_configuration_follows_the_schema() -> None:
    document = config(
        network="wlan", ssid="Plant", key="secret", sntp="[2001:db8::1]:1123", interval_s=20
    )
    jsonschema.validate(document, resources.schema("config"))
    assert document["network"] == {"kind": "wlan", "ssid": "Plant", "key": "secret"}
    assert document["clock"] == {"server": "2001:db8::1", "port": 1123}
    assert document["mqtt"] == {"host": "broker.example", "port": 8883}


@pytest.mark.parametrize(
    "changes",
    [
        {"broker": ""},
        {"broker": "host:"},
        {"broker": "host:0"},
        {"broker": "host:65536"},
        {"broker": "host:mqtt"},
        {"sntp": ":123"},
        {"network": "wlan"},
        {"network": "token-ring"},
        {"thing": ""},
        {"interval_s": 0},
    ],
)
def test_unusable_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(GridnodeError) as failure:
        config(**changes)
    assert failure.value.exit == Exit.USAGE
    assert failure.value.action


def test_a_refused_wifi_key_is_not_shown() -> None:
    with pytest.raises(GridnodeError) as failure:
        config(network="wlan", ssid="Plant", key="x" * 65)
    assert "xxx" not in failure.value.cause


def test_a_bad_profile_is_refused_before_the_port_is_opened(tmp_path: Path) -> None:
    profile = resources.profile("home-60a-ct")
    profile["phases"] = 4
    with pytest.raises(GridnodeError, match="phases") as failure:
        provision.run(plan("/no/port", tmp_path, profile=profile), Output())
    assert failure.value.exit == Exit.USAGE


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    provision.run(plan("/no/port", tmp_path / "certs"), Output(as_json=True), dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_the_wifi_key_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("from a file\n")
    monkeypatch.setenv(provision.WIFI_KEY_VARIABLE, "from outside")
    assert provision.wifi_key(tmp_path / "key", ask=False) == "from a file"
    assert provision.wifi_key(None, ask=False) == "from outside"
    with pytest.raises(GridnodeError):
        provision.wifi_key(tmp_path / "missing", ask=False)


def test_an_interval_that_does_not_go_with_the_rows_is_refused(tmp_path: Path) -> None:
    wrong = plan("no port is opened", tmp_path, config=config(interval_s=15))
    with pytest.raises(GridnodeError) as caught:
        provision.run(wrong, Output(as_json=True))
    assert caught.value.exit == Exit.USAGE
    assert "multiple of 10" in caught.value.action
