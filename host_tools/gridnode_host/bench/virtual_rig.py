"""The virtual bench: nodes in MicroPython VMs on their own mains, an endpoint and its shadows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridnode_host import build, certs, provision, resources
from gridnode_host.bench import frontend
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.endpoint import Endpoint
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.mosquitto import Mosquitto
from gridnode_host.bench.rig import CAPABILITIES, Json, Rig
from gridnode_host.bench.rig_node import RigNode
from gridnode_host.bench.shadow import ShadowService
from gridnode_host.bench.sntp import SntpServer
from gridnode_host.bench.tolerance import Tolerance
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

if TYPE_CHECKING:
    from gridnode_host.bench.instruments import Instruments

BROKERS = ("embedded", "mosquitto")
_SSID, _WLAN_KEY = "bench", "bench-wlan-key"
_SERVICE = "bench-service"

Profile = str | Mapping[str, Any]


class VirtualRig(Rig):
    """A bench on this machine; started when it is made.

    `profile` is one for all nodes, or several that take turns: each a name, the path of a file,
    or a resolved profile itself. `broker` is
    "embedded" or "mosquitto" (None: the environment's BROKER, else embedded); `micropython` is
    the VM's program (None: the environment's MICROPYTHON, else the one from the registry).
    `provision` False leaves the nodes as they come from the factory. `ideal` takes parts at
    their design values, else each unit is spread by `seed` as far as `tolerance` says;
    `calibrated` gives each node the calibration that is exact for its unit. `interval_s` is that
    of the reports. `heap_kb` is the nodes' heap (None: `node.HEAP_KB`, the budget without a
    detector; `node.CHIP_KB`: all that an ESP32 has, with one). `on_event` hears the
    steps of provisioning: `(thing, event)`.
    """

    capabilities = CAPABILITIES

    def __init__(
        self,
        nodes: int = 1,
        profile: Profile | Sequence[Profile] = "home-60a-ct",
        *,
        broker: str | None = None,
        micropython: str | None = None,
        provision: bool = True,
        seed: int = 0,
        ideal: bool = False,
        tolerance: Tolerance | None = None,
        calibrated: bool = True,
        interval_s: int | None = None,
        network: str = "wlan",
        heap_kb: int | None = None,
        on_event: Callable[[str, Json], None] | None = None,
    ) -> None:
        self.nodes: list[RigNode] = []
        self.clock = RigClock()
        self._calibrated = calibrated
        self._interval_s = interval_s
        self._network = network
        self._on_event = on_event
        self._stack = ExitStack()
        try:
            self._start(
                nodes,
                profile,
                broker,
                micropython,
                seed=seed,
                ideal=ideal,
                tolerance=tolerance,
                heap_kb=heap_kb,
            )
            if provision:
                self.provision()
        except BaseException:
            self.close()
            raise

    def _start(
        self,
        nodes: int,
        profile: Profile | Sequence[Profile],
        broker: str | None,
        micropython: str | None,
        *,
        seed: int,
        ideal: bool,
        tolerance: Tolerance | None,
        heap_kb: int | None,
    ) -> None:
        given = [profile] if isinstance(profile, str | Mapping) else list(profile)
        profiles = [_resolved(given[k % len(given)]) for k in range(nodes)]
        vm = micropython or build.micropython()
        image = resources.image_dir(build.vm_arch(vm))
        folder = tempfile.TemporaryDirectory(prefix="gridnode-bench-")
        self.folder = Path(self._stack.enter_context(folder))
        self.certs = self.folder / "certs"
        authority = certs.ensure_ca(self.certs)
        self.broker = self._stack.enter_context(_broker(broker, authority, self.clock))
        self.shadows = ShadowService(self.broker, clock=self.clock.now)
        self._stack.callback(self.shadows.close)
        self.sntp = SntpServer(self.clock)
        self.sntp.start()
        self._stack.callback(self.sntp.stop)
        # Closed after the nodes: a provisioning under way ends when its port does.
        self._pool = ThreadPoolExecutor(max(1, nodes), "provision")
        self._stack.callback(self._pool.shutdown, cancel_futures=True)
        for k in range(nodes):
            node = RigNode(
                f"node-{k + 1}",
                self.folder / f"node-{k + 1}",
                profiles[k],
                frontend.circuit(profiles[k], self.clock, seed + k),
                clock=self.clock,
                image=image,
                micropython=vm,
                seed=seed + k,
                ideal=ideal,
                tolerance=tolerance,
                heap_kb=heap_kb,
            )
            node.wiring.wlan[_SSID] = _WLAN_KEY
            node.wiring.modem_up = self._network == "none"
            self.nodes.append(node)
            self._stack.callback(node.stop)
            node.start()

    def provision(self, nodes: Sequence[RigNode] | None = None, **change: Any) -> None:
        """Provision nodes (all) over their serial ports, at the same time, as `gridnode` does.

        `change` replaces entries of the plan, to provision wrongly on purpose. Raises the
        `GridnodeError` of the first node that fails.
        """
        chosen = self.nodes if nodes is None else nodes
        certs.ensure_ca(self.certs)
        running = [self._pool.submit(self._provision, node, change) for node in chosen]
        for done in wait(running, return_when=FIRST_EXCEPTION).done:
            done.result()

    def _provision(self, node: RigNode, change: Mapping[str, Any]) -> None:
        settings: dict[str, Any] = {
            "port": node.port,
            "thing": node.thing,
            "config": self.node_config(node),
            "profile": node.profile,
            "calibration": node.calibration if self._calibrated else None,
            "certs_dir": self.certs,
        }
        provision.run(provision.Plan(**{**settings, **change}), _Steps(node.thing, self._on_event))

    def node_config(self, node: RigNode) -> Json:
        """Return the node.json that takes a node to this bench's broker."""
        wlan = self._network == "wlan"
        return provision.node_config(
            node.thing,
            f"localhost:{self.broker.port}",
            self._network,
            ssid=_SSID if wlan else None,
            key=_WLAN_KEY if wlan else None,
            sntp=f"127.0.0.1:{self.sntp.port}",
            interval_s=self._interval_s,
        )

    # -- what a test does ------------------------------------------------------------------

    @property
    def source(self) -> Circuit:
        """The mains of the first node."""
        return self.nodes[0].circuit

    def node(self, which: RigNode | int | str = 0) -> RigNode:
        """A node itself, by number, or by thing name."""
        if isinstance(which, RigNode):
            return which
        if isinstance(which, int):
            return self.nodes[which]
        for node in self.nodes:
            if node.thing == which:
                return node
        raise ValueError(f"no node is called {which}")

    def fault(
        self, name: str, *, node: RigNode | int | str = 0, phase: int | None = None, **how: Any
    ) -> None:
        """Break something at a node: see `RigNode.fault` for the names."""
        self.node(node).fault(name, phase=phase, **how)

    def clear(
        self,
        name: str,
        *,
        node: RigNode | int | str = 0,
        phase: int | None = None,
        meter: str | None = None,
    ) -> None:
        """Repair what `fault` broke."""
        self.node(node).clear(name, phase=phase, meter=meter)

    def truth(self, node: RigNode | int | str = 0, over: float = 0.0) -> Json:
        """What a perfect meter on a node's mains reads; see `Circuit.truth`."""
        return self.node(node).circuit.truth(over=over)

    def instruments(self, node: RigNode | int | str = 0, seed: int = 0) -> Instruments:
        """Open reference meter, source and climate chamber of a node; see `Instruments`.

        They are closed with the bench at the latest.
        """
        instruments = self.node(node).instruments(seed)
        self._stack.callback(instruments.close)
        return instruments

    def shadow(self, thing: str) -> Json | None:
        """The shadow's document as the cloud side holds it."""
        return self.shadows.get(thing)

    def desired(self, thing: str, patch: Json) -> Json:
        """Set `state.desired` as an application does; raises ShadowError."""
        return self.shadows.update(thing, {"desired": patch})

    def close(self) -> None:
        """End nodes, broker and time server and remove every file of the bench."""
        self._stack.close()


def _resolved(profile: Profile) -> Mapping[str, Any]:
    return resources.profile(profile) if isinstance(profile, str) else profile


class _Steps(Output):
    """Passes what provisioning tells to a callback; several run at the same time."""

    def __init__(self, thing: str, hear: Callable[[str, Json], None] | None) -> None:
        super().__init__(as_json=True)
        self._thing = thing
        self._hear = hear

    def event(self, event: str, text: str | None = None, **fields: Any) -> None:
        if self._hear is not None:
            self._hear(self._thing, {"event": event, **fields})


def _broker(name: str | None, authority: certs.Authority, clock: RigClock) -> Endpoint | Mosquitto:
    chosen = name or os.environ.get("BROKER") or BROKERS[0]
    if chosen not in BROKERS:
        raise GridnodeError(
            "choose the broker",
            f"there is no broker {chosen!r}",
            f"Set BROKER to one of: {', '.join(BROKERS)}.",
            Exit.USAGE,
        )
    server = certs.issue_server(authority)
    if chosen == "embedded":
        return Endpoint(authority.pem, server.cert, server.key, clock=clock.now)
    service = certs.issue_node(authority, _SERVICE, pem=True)
    identity = (_SERVICE, service.cert, service.key)
    return Mosquitto(authority.pem, server.cert, server.key, service=identity)
