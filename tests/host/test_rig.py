"""The virtual rig: what a test asks of it, and that it leaves nothing behind."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest
from gridnode_host import certs, resources
from gridnode_host.bench import Rig
from gridnode_host.bench.rig import CAPABILITIES, RigNode
from gridnode_host.bench.tolerance import Tolerance
from gridnode_host.errors import Exit, GridnodeError


@pytest.fixture(scope="module")
def rig():
    profiles = [resources.profile(name) | {"row_s": 1} for name in ("home-60a-ct", "feeder-200a")]
    with Rig.virtual(nodes=2, profile=profiles, seed=1, interval_s=1) as rig:
        yield rig


# -- building and closing --------------------------------------------------------------------


def test_bench_of_unprovisioned_nodes_leaves_nothing_behind():
    before = set(threading.enumerate())
    with Rig.virtual(provision=False) as rig:
        node = rig.nodes[0]
        assert isinstance(node, RigNode)
        assert rig.source is node.circuit
        assert os.path.exists(node.port)
        assert node.alive
        assert rig.shadow(node.thing) is None
        node.wait_event("boot")
        folder, port = rig.folder, rig.broker.port
        socket.create_connection(("127.0.0.1", port), 2).close()
    rig.close()  # twice is fine
    assert not folder.exists()
    assert not os.path.exists(node.port)
    assert not node.alive
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 2)
    deadline = time.monotonic() + 20
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(threading.enumerate()) - before == set()


def test_instruments_are_at_the_node_that_is_named_and_end_with_the_bench():
    before = set(threading.enumerate())
    with Rig.virtual(nodes=2, provision=False, seed=3, tolerance=Tolerance.WIDE) as rig:
        left, right = (rig.instruments(which) for which in (0, "node-2"))
        assert left.resource != right.resource
        with right:
            port = int(right.resource.split("::")[2])
            with socket.create_connection(("127.0.0.1", port), 2) as line:
                line.sendall(b"SOUR:CURR 33;*OPC?\n")
                assert line.recv(10) == b"1\n"
        assert [rig.truth(k)["current"] for k in (0, 1)] == pytest.approx([10.0, 33.0])
        # the tolerance has reached the parts of both nodes, and their parts differ
        idle = [node.calibration["meters"]["main"]["power"][0]["offset_w"] for node in rig.nodes]
        assert idle[0] and idle[1] and idle[0] != idle[1]
    port = int(left.resource.split("::")[2])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 2)
    deadline = time.monotonic() + 20
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(threading.enumerate()) - before == set()


def test_broker_is_chosen_by_argument_or_environment(monkeypatch):
    monkeypatch.setenv("BROKER", "pigeon")
    with pytest.raises(GridnodeError, match="pigeon") as refused:
        Rig.virtual(nodes=0)
    assert refused.value.exit == Exit.USAGE
    with Rig.virtual(nodes=0, broker="embedded") as rig:
        assert rig.broker.running
        assert not rig.broker.refused


def test_vm_is_chosen_by_environment(monkeypatch):
    monkeypatch.setenv("MICROPYTHON", "/no/such/vm")
    with pytest.raises(GridnodeError, match="MICROPYTHON"):
        Rig.virtual()


def test_failed_provisioning_closes_the_bench(tmp_path, monkeypatch):
    other = certs.ensure_ca(tmp_path / "other")
    before = set(threading.enumerate())
    rig = Rig.virtual(provision=False)
    with pytest.raises(GridnodeError, match="CA") as failed:
        rig.provision(ca_file=other.der, timeout_s=20.0)
    assert failed.value.exit == Exit.CLOUD
    rig.close()
    assert set(threading.enumerate()) - before == set()


# -- what a test does ------------------------------------------------------------------------


def test_capabilities_are_all_there(rig):
    assert rig.capabilities == CAPABILITIES


@pytest.mark.parametrize("index", [0, 1])
def test_reports_agree_with_the_truth(rig, index):
    node = rig.nodes[index]
    load = {"current": 0.4 * node.rating, "phase_deg": 25.0, "harmonics": {}}
    node.circuit.set(voltage=231.0, **load)
    true = rig.truth(node)
    reported = rig.wait_reported(
        node.thing, lambda r: abs(r["current"] / true["current"] - 1) < 0.003
    )
    assert reported["voltage"] == pytest.approx(231.0, rel=0.003)
    assert reported["power"] == pytest.approx(true["power"], rel=0.01)
    assert reported["reactive_power"] == pytest.approx(true["reactive_power"], rel=0.02)
    assert reported["frequency"] == pytest.approx(50.0, abs=0.02)
    assert ("l3" in reported) == (node.profile["phases"] == 3)


def test_open_clamp_reads_nothing_while_the_load_goes_on(rig):
    rig.source.set(current=20.0)
    thing = rig.nodes[0].thing
    rig.wait_reported(thing, lambda r: r["current"] > 19)
    rig.fault("ct_open")
    rig.wait_reported(thing, lambda r: r["current"] < 0.5)
    assert rig.truth()["current"] == pytest.approx(20.0)
    rig.clear("ct_open")
    rig.wait_reported(thing, lambda r: r["current"] > 19)


def test_silent_chip_is_a_bus_fault_and_recovers(rig):
    node = rig.nodes[1]
    rig.wait_reported(node.thing, lambda r: r["voltage"] > 200)
    rig.fault("bus_stuck_low", node=node)
    reported = rig.wait_reported(node.thing, lambda r: "bus_fault" in r["quality"].values())
    assert reported.get("voltage") is None
    rig.clear("bus_stuck_low", node=node)
    rig.wait_reported(node.thing, lambda r: r["voltage"] > 200)


def test_desired_state_reaches_the_node(rig):
    thing = rig.nodes[1].thing
    rig.desired(thing, {"config": {"report": {"interval_s": 2}}})
    rig.wait_reported(thing, lambda r: r["config"]["report"]["interval_s"] == 2)
    document = rig.wait_shadow(thing, lambda d: "delta" not in d["state"])
    assert document["state"]["desired"]["config"]["report"]["interval_s"] == 2


def test_node_survives_its_broker_and_its_supply(rig):
    node = rig.nodes[0]
    heard = len(node.events)
    rig.broker.stop()
    node.wait_event("disconnected", since=heard)
    rig.broker.start()
    node.wait_event("connected", since=heard, timeout=40)
    before = rig.reported(node.thing)
    heard = len(node.events)
    node.power_cycle()
    assert node.wait_event("boot", since=heard)["cause"] == "power_on"
    node.wait_event("connected", since=heard, timeout=40)
    after = rig.wait_reported(node.thing, lambda r: r["node"]["reset_cause"] == "power_on")
    assert after["seq"] > before["seq"]
    assert 0 < after["energy_import_wh"] < before["energy_import_wh"] + 100


def test_waiting_ends_and_says_what_was_there(rig):
    thing = rig.nodes[0].thing
    with pytest.raises(TimeoutError, match=f"{thing}.*voltage"):
        rig.wait_reported(thing, lambda r: r["voltage"] > 1e6, timeout=0.2)
    with pytest.raises(TimeoutError, match="no such_event"):
        rig.nodes[0].wait_event("such_event", timeout=0.1)


def test_refuses_faults_that_do_not_apply(rig):
    for name, node in (("gremlins", 0), ("bus_absent", 0), ("ct_swapped", 0)):
        with pytest.raises(ValueError):
            rig.fault(name, node=node)
    with pytest.raises(ValueError, match="nobody"):
        rig.fault("ct_open", node="nobody")
