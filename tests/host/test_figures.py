"""The measuring code: workers, nodes that run, costs inside the VM, start, tables."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from gridnode_host import resources
from gridnode_host.bench.figures import (
    accuracy,
    cost,
    front_ends,
    memory,
    probe,
    running,
    startup,
    tables,
    workers,
)
from gridnode_host.bench.figures.loads import SINE
from gridnode_host.bench.figures.points import Point
from gridnode_host.bench.rig_node import RigNode
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output


def test_a_job_that_fails_ends_the_campaign():
    work = [accuracy.Job("no-such-profile", 1, (Point(SINE, 50),))]
    with pytest.raises(KeyError, match="no-such-profile"):
        accuracy.campaign(lambda done, total: None, work)


def _refuse(job: int, step: workers.Step) -> int:
    step()
    raise GridnodeError("measure", f"job {job}", exit=Exit.USAGE)


def test_an_error_crosses_from_a_worker_with_all_its_fields():
    with pytest.raises(GridnodeError, match="job 7") as failed:
        workers.run(_refuse, [7], 1, lambda done, total: None)
    assert failed.value.exit == Exit.USAGE


def test_coverage_and_budget_of_a_running_node():
    (node,) = running.observe(["home-60a-ct"], lambda done, total: None, reports=3)
    assert len(node.coverage) == 3
    assert 500 < node.budget["main"] <= node.budget["of"] < 2000
    assert running.table([replace(node, coverage=[0.95])]).ok
    assert not running.table([replace(node, coverage=[0.85])]).ok


def test_heap_of_a_running_node():
    (heap,) = memory.observe(["home-60a-ct"], lambda done, total: None, reports=12, settled=2)
    assert len(heap.free) == 12
    assert 0 < max(heap.free) < heap.size
    assert "gridnode.meters.ct" in heap.modules
    assert "gridnode.meters.atm90e32" not in heap.modules
    row = memory.heap([heap]).rows[0]
    assert 20 < row["on the chip KB"] <= row["used KB"] < 256
    sums = [row for row in memory.rooms([heap]).rows if row["room"] == "sum of home-60a-ct"]
    assert 20_000 < sums[0][".mpy"] < 100_000


@pytest.mark.parametrize(("signals", "learning", "frozen"), [(3, 37, 32), (11, 49, 41)])
def test_a_detector_leaves_room_for_a_node(signals: int, learning: int, frozen: int) -> None:
    """KB of a 32-bit heap, code included; of a 64-bit one half as much again."""
    names = memory.PLACE if signals == 3 else memory.FEEDER
    for kind, vm in probe.machines().items():
        word = 1.5 if kind.startswith("64") else 1
        found = memory.taken(vm, names, resources.faults())
        assert found["state"] == "frozen"
        assert found["learning"] < learning * 1024 * word, (kind, found)
        assert found["frozen"] < frozen * 1024 * word, (kind, found)


def test_a_leak_shows_up():
    steady = memory.Heap(
        "p", tuple(100_000 + 32 * (k % 3) for k in range(100)), 200_000, frozenset()
    )
    leaking = replace(steady, free=tuple(100_000 - 16 * k for k in range(100)))
    early = replace(steady, free=tuple(max(100_000 - 16 * k, 99_200) for k in range(100)))
    assert memory.heap([steady]).ok
    assert not memory.heap([leaking]).ok
    assert leaking.growth() == pytest.approx(16.0)
    assert memory.heap([early]).ok


def test_kernel_is_timed_and_allocates_nothing():
    table = cost.kernel()
    assert table.ok
    for row in table.rows:
        assert row["sets"] > 5500 // row["channels"]
        assert row["bytecode us"] > 0


def test_cost_of_a_reading_is_measured():
    chosen = [front_ends.find("home-60a-ct"), front_ends.find("plug-cse7766")]
    for row in cost.readings(chosen, lambda done, total: None).rows:
        assert 0 < row["meter bytes"] < row["whole way bytes"], row
        assert 0 < row["processor ms"] < 200, row
    drivers = cost.drivers()
    assert drivers.ok
    assert {row["driver"] for row in drivers.rows} >= {"ct", "atm90e32", "modbus", "bl0942"}


def test_a_probe_that_fails_says_why():
    vm = next(iter(probe.machines().values()))
    with pytest.raises(GridnodeError, match="ValueError"):
        probe.run(vm, "rooms", [])


def test_start_waits_for_the_accepted_shadow(monkeypatch):
    heard = []
    wait = RigNode.wait_event

    def listen(self: RigNode, name: str, *args: Any, **settings: Any) -> dict[str, Any]:
        heard.append(name)
        return wait(self, name, *args, **settings)

    monkeypatch.setattr(RigNode, "wait_event", listen)
    row = startup.start("home-60a-ct")
    assert heard == ["accepted"]
    assert row["s"] > 1
    assert startup.table([{**row, "ok": False}]).ok is False


def test_tables_are_printed_and_stored(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(resources, "checkout", lambda: tmp_path)
    table = tables.Table(
        "one", "Title", ["a note"], [{"x": 1, "ok": True}, {"y": 2, "ok": False}, {"x": 3}]
    )
    assert not table.ok
    table.show(Output())
    text = capsys.readouterr().out
    assert "Title" in text and "FAIL" in text and "pass" in text and "a note" in text
    table.show(Output(as_json=True))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["subject", "one", "one", "one"]
    path = tables.store([table], {"version": 1}, "figures")
    assert path == tmp_path / "build" / "figures" / "figures.json"
    assert "FAIL" in path.with_suffix(".txt").read_text()
    stored = json.loads(path.read_text())
    assert stored["subjects"]["one"]["rows"][1] == {"y": 2, "ok": False}
    assert stored["subjects"]["one"]["ok"] is False
