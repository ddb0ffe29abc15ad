"""What a technician types, on a node that runs the real firmware."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import child
from gridnode_host.bench.rig import Rig

SSID, KEY = "Plant 7", "correct horse battery"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig.virtual(provision=False) as rig:
        rig.nodes[0].wiring.wlan[SSID] = KEY
        yield rig


def provision(rig: Rig, folder: Path, **changes: str) -> tuple[int, list[dict[str, Any]], str]:
    node = rig.nodes[0]
    (folder / "key").write_text(KEY)
    options = {
        "port": node.port,
        "thing": node.thing,
        "profile": "home-60a-ct",
        "broker": f"localhost:{rig.broker.port}",
        "sntp": f"127.0.0.1:{rig.sntp.port}",
        "wifi-ssid": SSID,
        "wifi-key-file": "key",
        "certs-dir": str(rig.certs),
        "timeout": "30",
        **changes,
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    return child("provision", *arguments, cwd=folder)


def test_a_refused_profile_leaves_the_node_alone(rig: Rig, tmp_path: Path) -> None:
    code, events, _ = provision(rig, tmp_path, profile="no-such-sku")
    assert code == 2
    assert "home-60a-ct" in events[-1]["action"]
    rig.nodes[0].wait_event("boot", 20)


def test_an_unreachable_broker_is_told(rig: Rig, tmp_path: Path) -> None:
    code, events, _ = provision(rig, tmp_path, broker="localhost:9", timeout="6")
    assert code == 8
    assert events[-1]["step"] == "reach the broker"
    assert "--broker" in events[-1]["action"]


def test_provision_connects_the_node_and_shows_no_secret(rig: Rig, tmp_path: Path) -> None:
    node = rig.nodes[0]
    code, events, text = provision(rig, tmp_path)
    assert code == 0, text
    assert events[-1]["event"] == "done"
    assert KEY not in text
    assert (rig.certs / "nodes" / node.thing / "cert.der").is_file()
    assert not list(Path(rig.certs).rglob("key.der"))
    assert not any(KEY in path.read_text() for path in tmp_path.iterdir() if path.name != "key")


def test_monitor_shows_reports_of_the_running_node(rig: Rig, tmp_path: Path) -> None:
    code, events, text = child(
        "monitor", "--port", rig.nodes[0].port, "--duration", "13", cwd=tmp_path
    )
    assert code == 0, text
    names = [event["node"]["event"] for event in events if event["event"] == "node"]
    assert "report" in names
    assert "stopped" not in names
    assert rig.shadow(rig.nodes[0].thing)


def test_meter_reads_and_resets_the_totals_for_the_record(rig: Rig, tmp_path: Path) -> None:
    node = rig.nodes[0]
    code, events, text = child("meter", "--port", node.port, cwd=tmp_path)
    assert code == 0, text
    [meter] = [event for event in events if event["event"] == "meter"]
    assert meter["meter"] == "main" and meter["driver"] == "ct" and not meter["quality"]
    last = [event["reported"] for event in node.events if event["event"] == "report"][-1]
    assert abs(meter["values"][0]["voltage"] - last["voltage"]) < 1
    assert meter["commands"] == ["reset_totals"]

    node.wait_event("report", 30, lambda e: e["reported"]["energy_import_wh"] > 0, len(node.events))
    code, events, text = child("meter", "--port", node.port, "main", "reset-totals", cwd=tmp_path)
    assert code == 0, text
    [reset] = [event for event in events if event["event"] == "command"]
    assert reset["resets"] == 1 and reset["import_mwh"][0] > 0 and reset["timestamp"]
    report = node.wait_event("report", 30, since=len(node.events))["reported"]
    assert report["energy_import_wh"] * 1000 < reset["import_mwh"][0] and report["energy_resets"] == 1

    code, events, _ = child("meter", "--port", node.port, "other", cwd=tmp_path)
    assert code == 7 and "there are main" in events[-1]["cause"]
    code, events, _ = child("meter", "--port", node.port, "main", "fly", cwd=tmp_path)
    assert code == 7 and "no command" in events[-1]["cause"]
