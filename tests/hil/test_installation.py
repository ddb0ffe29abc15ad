"""Files on a node change all together or not at all, whatever the line and the supply do."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest
from gridnode_host import provision
from gridnode_host.bench.rig import Rig
from gridnode_host.device import Node
from gridnode_host.errors import Exit, GridnodeError

pytestmark = pytest.mark.timeout(120)

CERTS = ("/certs/ca.der", "/certs/cert.der", "/certs/key.der")
CUTS = (1, 12, 18)  # flash operations of an installation that are done when the power fails


def generation(rig: Rig, number: int) -> dict[str, bytes]:
    """Five files that tell which generation they are of."""
    node = rig.nodes[0]
    files = {path: b"%s %d " % (path.encode(), number) * 20 for path in CERTS}
    config = rig.node_config(node) | {"thing": f"thing-{number}"}
    files[provision.NODE_JSON] = json.dumps(config).encode()
    files[provision.PROFILE_JSON] = json.dumps(dict(node.profile)).encode() + b" " * number
    return files


def digests(files: dict[str, bytes]) -> dict[str, Any]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}


def stopped(rig: Rig) -> Node:
    """The node with its application stopped, once that has come up."""
    node = rig.nodes[0]
    node.wait_event("boot", 10)
    service = Node(node.port)
    service.stop()
    return service


def stage(service: Node, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        service.stage(path, data, lambda done, total: None)


def hashes(service: Node, paths: Any) -> dict[str, Any]:
    answer: dict[str, Any] = service.call("hashes", list(paths))["hashes"]
    return answer


def test_one_wrong_hash_changes_nothing(bare: Rig) -> None:
    old, new = generation(bare, 1), generation(bare, 2)
    with stopped(bare) as service:
        stage(service, old)
        assert service.call("install", digests(old))["hashes"] == digests(old)
        for wrong in (provision.NODE_JSON, CERTS[-1]):
            damaged = new | {wrong: new[wrong][:-1] + b"#"}
            stage(service, damaged)
            with pytest.raises(GridnodeError) as caught:
                service.call("install", digests(new))
            assert caught.value.exit == Exit.VERIFY and wrong in caught.value.cause, caught.value
            assert hashes(service, old) == digests(old)
            staged = [f"{path}.new" for path in new]
            assert None not in hashes(service, staged).values(), "what was staged is not used up"
            service.call("discard", list(new))
            assert set(hashes(service, staged).values()) == {None}
            # Nothing is staged: there is no hash to be right.
            with pytest.raises(GridnodeError):
                service.call("install", digests(new))
            assert hashes(service, old) == digests(old)
        stage(service, new)
        assert service.call("install", digests(new))["hashes"] == digests(new)
        service.restart()
    assert bare.nodes[0].wait_event("boot", 10, lambda e: e["reason"] == "service")["cause"] == "reset"


def test_a_power_cut_during_an_installation_leaves_no_mixture(bare: Rig) -> None:
    """Some moments on the node itself; tests/device/test_storage.py has all of them."""
    node = bare.nodes[0]
    old = generation(bare, 1)
    outcomes = []
    service = stopped(bare)
    try:
        stage(service, old)
        service.call("install", digests(old))
        for number, operations in enumerate(CUTS, 2):
            new = generation(bare, number)
            stage(service, new)
            node.flash.cut(after_ops=operations)
            with pytest.raises(GridnodeError):
                service.call("install", digests(new), timeout_s=0.5)
            service.close()
            deadline = time.monotonic() + 20
            while node.powered and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not node.powered, f"the installation takes no {operations} operations"
            seen = len(node.events)
            node.power_on()
            # When it says that the certificates are none, the application has finished what there was to finish.
            node.wait_event("fault", 10, lambda e: e["room"] == "link", since=seen)
            service = stopped(bare)
            found = hashes(service, new)
            assert found in (digests(old), digests(new)), (operations, found)
            assert service.call("info")["problem"] is None
            service.call("discard", list(new))
            outcomes.append(found == digests(new))
            old = new if outcomes[-1] else old
    finally:
        service.close()
    assert outcomes == [False, True, True], outcomes
    assert node.flash.violations == 0
