"""Simulated line sensors as virtual nodes: what is drawn reaches the front end and the shadow."""

import json
from itertools import pairwise

import pytest
from gridnode_host import cli
from typer.testing import CliRunner

LATE = 0.15  # of a row of 10 s: a change shows in the metering chip, and in the air, a little late


def test_shadows_of_line_sensors_tell_what_was_drawn() -> None:
    arguments = ["simulate", "grid-sensor", "--live", "--nodes", "2", "--duration", "33", "--json"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.stderr
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert told[-1]["event"] == "done"
    assert all(counts["reports"] >= 3 for counts in told[-1]["nodes"].values())
    for thing in ("node-1", "node-2"):
        whole = [event for event in told if event.get("thing") == thing and event["drawn"]]
        assert len(whole) >= 2
        for before, event in pairwise(whole):
            assert event["fault"] == ""
            assert event["anomaly"]["model"] == "learning", "the detector has room on these nodes"
            assert set(event["drawn"]) == {"voltage", "current", "temperature", "humidity"}
            for name, drawn in event["drawn"].items():
                mixed = LATE * abs(before["drawn"][name] - drawn)
                near = pytest.approx(drawn, abs=mixed + 0.01 * drawn + 0.1)
                assert event["measured"][name] == near, (name, before, event)
