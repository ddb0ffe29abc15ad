"""A node that is left alone: its watchdog, its safe mode, its reminder. All in warped time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gridnode_host.bench.rig import Rig
from gridnode_host.device import Node, parse_event

pytestmark = pytest.mark.timeout(120)

RATE = 100
HANGING = b"""\
import time
from gridnode import app

def _tick(self):
    print('{"event": "hangs"}')
    while True:
        time.sleep(1)

app.App._tick = _tick
"""


class Log:
    """Console events with the rig time at which they came."""

    def __init__(self, rig: Rig) -> None:
        self.entries: list[tuple[float, dict[str, Any]]] = []
        self._clock = rig.clock
        rig.nodes[0].on_line(self._hear)

    def _hear(self, line: str) -> None:
        event = parse_event(line)
        if event:
            self.entries.append((self._clock.now(), event))

    def of(self, name: str, after: float = 0.0) -> list[tuple[float, dict[str, Any]]]:
        return [(at, event) for at, event in list(self.entries) if event["event"] == name and at > after]

    def wait(self, what: Callable[[], list[Any]], timeout_s: float) -> Any:
        """Wait (real seconds) for the first of `what()`."""
        deadline = time.monotonic() + timeout_s
        while not (found := what()):
            assert time.monotonic() < deadline, [event for _, event in self.entries[-8:]]
            time.sleep(0.01)
        return found[0]


@pytest.fixture
def log(bare: Rig) -> Iterator[Log]:
    yield Log(bare)
    bare.clock.warp(1)


def test_a_node_that_waits_for_its_provisioning_reminds_and_is_not_reset(bare: Rig, log: Log) -> None:
    bare.nodes[0].wait_event("boot", 10)
    started = bare.clock.now()
    bare.clock.warp(RATE)
    at, event = log.wait(lambda: [e for e in log.of("fault") if e[1]["code"] == "incomplete"], 20)
    assert at - started > 500, "ten minutes, less what passed before the test"
    assert event["room"] == "config" and event["message"] and event["action"]
    bare.clock.sleep(100)  # more than the watchdog's minute
    assert len([e for _, e in log.of("fault") if e["code"] == "incomplete"]) == 1
    causes = [event["cause"] for event in bare.nodes[0].events if event["event"] == "boot"]
    assert causes == ["power_on"], "the watchdog is fed"


def test_a_node_that_hangs_is_reset_and_ends_in_safe_mode(bare: Rig, log: Log) -> None:
    node = bare.nodes[0]
    with Node(node.port) as service:
        service.stop()
        service._transport.fs_writefile("/boot.py", HANGING)
        since = bare.clock.now()
    log.wait(lambda: log.of("hangs", since), 10)
    bare.clock.warp(RATE)
    safe, event = log.wait(lambda: log.of("safe_mode"), 20)
    causes = [e["cause"] for _, e in log.of("boot", since)]
    assert causes == ["soft", "wdt", "wdt", "wdt"], causes
    assert event["unhealthy_boots"] == 3 and event["action"]
    bare.clock.sleep(max(0.0, safe + 280 - bare.clock.now()))
    said = [e for at, e in log.entries if at > safe]
    assert not said, "the application must not start in safe mode"
    bare.clock.warp(RATE // 10)
    again, _ = log.wait(lambda: log.of("hangs", safe), 15)
    assert 295 < again - safe < 360, again - safe
