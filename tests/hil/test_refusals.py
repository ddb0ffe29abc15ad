"""What a node and a technician meet when something is wrong: one clear line, and whatever can run goes on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from gridnode_host import certs, provision
from gridnode_host.bench.rig import Rig
from gridnode_host.device import Node
from gridnode_host.errors import Exit, GridnodeError

pytestmark = pytest.mark.timeout(120)


def refused(rig: Rig, **change: Any) -> GridnodeError:
    with pytest.raises(GridnodeError) as caught:
        # the first try fails after 5 s; what can pass by itself is waited for to the end, several tries long
        rig.provision(**({"timeout_s": 15.0} | change))
    assert caught.value.step and caught.value.cause and caught.value.action
    return caught.value


def fault(rig: Rig, code: str) -> dict[str, Any]:
    """The node's own line; it must not repeat it without a pause."""
    node = rig.nodes[0]
    event = node.wait_event("fault", 25, lambda e: e["code"] == code)
    assert event["message"] and event["action"], event
    return event


def config(rig: Rig, **change: Any) -> dict[str, Any]:
    """The good configuration of the bench with some entries replaced."""
    return rig.node_config(rig.nodes[0]) | change


def test_wrong_ca(bare: Rig, tmp_path: Path) -> None:
    foreign = certs.ensure_ca(tmp_path / "foreign")
    error = refused(bare, ca_file=foreign.pem)
    assert error.exit == Exit.CLOUD and "CA" in error.cause, error
    fault(bare, "tls_ca")


def test_wrong_host_name(bare: Rig) -> None:
    # Another way to write 127.0.0.1, which the certificate does not name.
    error = refused(bare, config=config(bare, mqtt={"host": "127.1", "port": bare.broker.port}))
    assert error.exit == Exit.CLOUD, error
    fault(bare, "tls_hostname")


def test_unset_clock(bare: Rig) -> None:
    bare.sntp.stop()
    error = refused(bare)
    assert error.exit == Exit.CLOUD and "time" in error.cause, error
    fault(bare, "sntp_timeout")
    assert not [e for e in bare.nodes[0].events if e["event"] == "connected"]


def test_unreachable_broker_does_not_stop_the_measurement(bare: Rig) -> None:
    bare.broker.stop()
    error = refused(bare)
    assert error.exit == Exit.CLOUD, error
    fault(bare, "tcp")
    bare.nodes[0].wait_event("report", 25)


def test_foreign_client_certificate(bare: Rig, tmp_path: Path) -> None:
    foreign = certs.ensure_ca(tmp_path / "foreign")
    authority = certs.ensure_ca(bare.certs)
    error = refused(bare, certs_dir=tmp_path / "foreign", ca_file=authority.pem)
    assert error.exit == Exit.CLOUD, error
    fault(bare, "tls_refused")
    assert foreign.pem.exists() and bare.broker.refused, "the broker tells the reason that the node cannot know"


def test_expired_client_certificate(bare: Rig) -> None:
    authority = certs.ensure_ca(bare.certs)
    past = datetime.now(UTC) - timedelta(days=30)
    certs.issue_node(authority, "node-1", not_before=past, not_after=past + timedelta(days=10))
    error = refused(bare)
    assert error.exit == Exit.CLOUD, error
    fault(bare, "tls_refused")


def test_bad_documents_are_refused_and_change_nothing(bare: Rig) -> None:
    rig = bare
    rig.provision()
    node = rig.nodes[0]
    rig.wait_reported(node.thing, lambda r: r["seq"] > 0)
    for path, text, part in (
        (provision.NODE_JSON, b'{"version": 1', "JSON"),
        (provision.NODE_JSON, json.dumps(config(rig, version=9)).encode(), "version 9"),
        (provision.NODE_JSON, json.dumps(config(rig, network={"kind": "smoke"})).encode(), "network.kind"),
        (provision.PROFILE_JSON, b'{"version": 1}', "lacks"),
    ):
        with Node(node.port) as service:
            service.stop()
            before = service.call("hashes", [path])["hashes"]
            service.stage(path, text, lambda done, total: None)
            import hashlib

            with pytest.raises(GridnodeError) as caught:
                service.call("install", {path: hashlib.sha256(text).hexdigest()})
            assert caught.value.exit == Exit.REFUSED and part in caught.value.cause, caught.value.cause
            assert service.call("hashes", [path])["hashes"] == before
            service.call("discard", [path])
    seq = rig.reported(node.thing)["seq"]
    rig.clock.warp(5)  # only the row is waited for
    rig.wait_reported(node.thing, lambda r: r["seq"] > seq, 30)


def test_damaged_files_on_the_node(bare: Rig) -> None:
    """A node whose files went bad behind our back still measures, says what is missing and does not loop."""
    rig = bare
    rig.provision()
    node = rig.nodes[0]
    for path, text, code in (
        ("/certs/key.der", "rubbish", "key_invalid"),
        ("/certs/key.der", None, "cert_missing"),
        ("/config/node.json", '{"version": 7}', "node"),
    ):
        with Node(node.port) as service:
            service.stop()
            if text is None:
                service._transport.fs_rmfile(path)
            else:
                service._transport.fs_writefile(path, text.encode())
        seen = len(node.events)
        node.reset()
        event = node.wait_event("fault", 20, lambda e, code=code: e["code"] == code, since=seen)
        assert event["message"] and event["action"], event
        rig.clock.warp(5)  # only the row is waited for
        node.wait_event("report", 25, since=seen)
        rig.clock.warp(1)
        assert len([e for e in node.events[seen:] if e["event"] == "fault"]) <= 3
    assert b"Traceback" not in bytes(node.console), bytes(node.console)[-2000:]
