"""A line sensor in its cabinet: an open cover is told at once and named with the row, a hot terminal is known."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
from gridnode_host import resources
from gridnode_host.bench.node import CHIP_KB
from gridnode_host.bench.rig import Rig


def test_an_open_cover_and_a_hot_terminal() -> None:
    with Rig.virtual(profile="mv-sensor-24kv", ideal=True, heap_kb=CHIP_KB) as rig:
        [node] = rig.nodes
        told: list[dict[str, Any]] = []
        rig.broker.subscribe(f"dt/gridnode/{node.thing}/event", lambda m: told.append(json.loads(m.payload)))
        node.environment.set(temperature=40.0)
        closed = rig.wait_reported(node.thing, lambda r: r["cover"] == 0 and not r["anomaly"]["alarm"], 30)
        assert closed["anomaly"]["model"] == "learning", "the detector has room"

        node.environment.set(cover_open=True, at="cabinet")
        opened = rig.clock.now()
        alarm = node.wait_event("alarm", 20, lambda e: e["signal"] == "cover")
        assert rig.clock.now() - opened < 8, "it does not wait for the row"
        assert (alarm["raised"], alarm["priority"], alarm["text"]) == (True, 2, "cover is open")

        rig.clock.warp(10)
        reported = rig.wait_reported(node.thing, lambda r: r["anomaly"]["faults"]["tamper"] > 0.5, 20)
        assert reported["anomaly"]["alarm"] and reported["anomaly"]["priority"] == 2
        jsonschema.Draft202012Validator(resources.schema("report")).validate(reported)

        node.environment.set(cover_open=False, at="cabinet")
        rig.wait_reported(node.thing, lambda r: r["cover"] == 0 and not r["anomaly"]["alarm"], 20)
        raised = [(e.get("fault"), e["text"]) for e in told if e.get("signal") == "cover" and e["raised"]]
        assert raised[0] == (None, "cover is open")
        assert raised[1][0] == "tamper" and raised[1][1].startswith("Tamper: Cover ")

        node.environment.set(temperature=115.0, at="terminal")
        rig.clock.warp(10)
        hot = node.wait_event("alarm", 20, lambda e: e.get("fault") == "overheating_joint")
        assert (hot["signal"], hot["priority"]) == ("t_terminal", 1), hot
        assert hot["text"].startswith("Overheating joint: Terminal temperature "), hot["text"]
