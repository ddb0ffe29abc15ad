"""The detector on a node: it learns, freezes, survives a power cut, names a fault, obeys, and forgets another SKU."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from command_line import child
from gridnode_host import resources
from gridnode_host.bench.node import CHIP_KB
from gridnode_host.bench.rig import Rig
from gridnode_host.device import Node

pytestmark = pytest.mark.timeout(180)

ROWS = 54
AMPERES = 20.0


def profile(**more: Any) -> dict[str, Any]:
    return {**resources.profile("home-60a-ct"), "detector": {"train_days": ROWS * 10 / 86400}, **more}


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A node that reports every minute, with all the heap of an ESP32 on a stock image."""
    with Rig.virtual(profile=profile(), ideal=True, heap_kb=CHIP_KB, interval_s=60) as bench:
        bench.source.set(current=AMPERES, phase_deg=10.0)
        yield bench


@pytest.fixture(autouse=True)
def load(rig: Rig) -> Iterator[None]:
    """A load that moves as loads do."""
    ended = threading.Event()

    def play() -> None:
        for k in itertools.count():
            if ended.wait(0.2):
                return
            rig.source.set(current=AMPERES * (0.9 + 0.2 * (k * 0.618 % 1)))

    player = threading.Thread(target=play)
    player.start()
    yield
    ended.set()
    player.join()


@pytest.fixture(scope="module")
def told(rig: Rig) -> list[dict[str, Any]]:
    """Events that have reached the broker."""
    events: list[dict[str, Any]] = []
    rig.broker.subscribe(f"dt/gridnode/{rig.nodes[0].thing}/event", lambda m: events.append(json.loads(m.payload)))
    return events


def alarms(told: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    found = [e for e in told if e["event"] == "alarm"]
    return [e for e in found if all(e.get(key) == value for key, value in wanted.items())]


def test_it_begins_to_learn_and_a_restart_costs_nothing(rig: Rig) -> None:
    node = rig.nodes[0]
    first = rig.wait_reported(node.thing, lambda r: r["detector"]["state"] == "learning", 60)
    assert first["anomaly"]["model"] == "learning"
    rig.clock.warp(20)
    start = rig.clock.now()
    while rig.clock.now() < start + 250:
        time.sleep(0.2)
    rig.clock.warp(1)
    with Node(node.port) as service:
        service.stop()
        status = service.call("detector")
    assert status["state"] == "learning" and 15 < status["rows"] < 30, status
    reported = rig.wait_reported(node.thing, lambda r: r["detector"]["rows"] == status["rows"], 40)
    assert reported["detector"]["state"] == "learning"


def test_it_freezes_when_it_has_learnt(rig: Rig, told: list[dict[str, Any]]) -> None:
    node = rig.nodes[0]
    rig.clock.warp(20)
    reported = rig.wait_reported(node.thing, lambda r: r["anomaly"]["model"] == "frozen", 60)
    rig.clock.warp(1)
    assert reported["detector"]["rows"] == ROWS
    assert abs(reported["detector"]["frozen_at"] - rig.clock.now()) < 120
    jsonschema.Draft202012Validator(resources.schema("report")).validate(reported)
    assert not alarms(told)


def test_the_model_survives_a_power_cut(rig: Rig) -> None:
    node = rig.nodes[0]
    before = rig.reported(node.thing)["detector"]
    rig.clock.warp(5)
    rig.clock.sleep(11)  # the row after which it is saved
    rig.clock.warp(1)
    node.power_cycle()
    after = rig.wait_reported(
        node.thing, lambda r: r["node"]["uptime"] < 20 and r["anomaly"]["model"] == "frozen", 40
    )["detector"]
    assert (after["rows"], after["frozen_at"]) == (before["rows"], before["frozen_at"])


def test_a_fault_is_named_at_once_and_goes(rig: Rig, told: list[dict[str, Any]]) -> None:
    node = rig.nodes[0]
    rig.fault("ct_reversed")
    began = rig.clock.now()
    reported = rig.wait_reported(node.thing, lambda r: r["anomaly"]["faults"]["ct_reversed"] > 0.5, 40)
    assert rig.clock.now() - began < 30, "it does not wait for the report of the minute"
    anomaly = reported["anomaly"]
    assert anomaly["alarm"] and anomaly["priority"] == 2 and anomaly["grade"] >= 0.5
    assert anomaly["kinds"]["power"] and anomaly["signals"]["power"] >= 0.5
    assert len(json.dumps(reported)) < 4096
    jsonschema.Draft202012Validator(resources.schema("report")).validate(reported)
    rig.clear("ct_reversed")
    rig.clock.warp(5)
    cleared = rig.wait_reported(node.thing, lambda r: not r["anomaly"]["alarm"], 90)
    rig.clock.warp(1)
    assert not cleared["anomaly"].get("faults") and not (cleared["anomaly"].get("kinds") or {}).get("power")
    [raised] = alarms(told, raised=True, fault="ct_reversed")[:1]
    assert raised["signal"] == "power" and raised["text"].startswith("CT reversed: Power -")
    assert alarms(told, raised=False, signal="power")


def test_commands_from_the_cloud_are_done_once(rig: Rig) -> None:
    thing = rig.nodes[0].thing

    def ask(**request: Any) -> dict[str, Any]:
        rig.desired(thing, {"detector": request})
        reported = rig.wait_reported(thing, lambda r: r["detector"]["id"] == request["id"], 20)
        answer: dict[str, Any] = reported["detector"]
        return answer

    answer = ask(id="a", action="guarded")
    assert answer["state"] == "guarded" and answer["result"] == "done" and answer["budget"] == 0
    assert ask(id="b", action="freeze")["state"] == "frozen"
    rig.wait_shadow(thing, lambda d: "detector" not in d["state"].get("desired", {}), 20)
    rig.desired(thing, {"detector": {"id": "b", "action": "guarded"}})
    rig.wait_shadow(thing, lambda d: "detector" not in d["state"].get("desired", {}), 20)
    assert rig.reported(thing)["detector"]["state"] == "frozen"
    assert ask(id="c", action="accept", signal="power")["result"] == "done"
    assert "no signal" in ask(id="d", action="accept", signal="v7")["result"]
    assert "not one of" in ask(id="e", action="sing")["result"]
    rig.desired(thing, {"detector": {"action": "reset"}})  # no id: not a new command
    rig.desired(thing, {"detector": {"id": 5, "action": "reset"}})
    assert "id" in rig.wait_reported(thing, lambda r: r["detector_error"], 20)["detector_error"]
    assert rig.reported(thing)["detector"]["state"] == "frozen"


def test_a_technician_asks_over_serial(rig: Rig) -> None:
    node = rig.nodes[0]
    code, events, _ = child("detector", "--port", node.port)
    assert code == 0, events
    [status] = [e for e in events if e["event"] == "detector"]
    assert status["state"] == "frozen" and status["rows"] == ROWS
    assert status["signals"] == ["voltage", "current", "power"]
    code, events, _ = child("detector", "--port", node.port, "guarded")
    assert code == 0 and [e["state"] for e in events if e["event"] == "detector"] == ["guarded"]
    rig.wait_reported(node.thing, lambda r: r["node"]["uptime"] < 30 and r["anomaly"]["model"] == "guarded", 40)
    code, events, _ = child("detector", "--port", node.port, "accept", "v7")
    assert code == 7 and "no signal v7" in events[-1]["cause"]
    code, events, _ = child("detector", "--port", node.port, "accept")
    assert code == 2


def test_the_model_of_another_sku_is_discarded(rig: Rig) -> None:
    node = rig.nodes[0]
    heard = len(node.events)
    rig.provision(profile=profile(sku="home-60a-other"), calibration=None)
    fault = node.wait_event("fault", 40, lambda e: e["room"] == "detector", since=heard)
    assert fault["code"] == "model" and "another SKU" in fault["message"]
    reported = rig.wait_reported(node.thing, lambda r: r["anomaly"]["model"] == "learning", 40)
    assert reported["detector"]["rows"] == 0 and "another SKU" in reported["detector"]["result"]


def test_a_stock_image_says_that_it_has_no_room() -> None:
    with Rig.virtual(ideal=True) as bench:
        thing = bench.nodes[0].thing
        reported = bench.wait_reported(thing, lambda r: r["detector"]["state"] == "off", 40)
        assert reported["anomaly"]["model"] == "off" and "KB" in reported["detector"]["reason"]
        bench.desired(thing, {"detector": {"id": "x", "action": "reset"}})
        assert "no detector" in bench.wait_reported(thing, lambda r: r["detector_error"], 30)["detector_error"]
