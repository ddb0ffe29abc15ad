"""One node alone: its mains, its front end, its console, and a clock that it steps itself.

Without certificates the firmware measures without a link and prints its reports on the console.
A run takes no longer than the machine needs, and is the same every time.
"""

from __future__ import annotations

import json
import queue
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gridnode_host import build, provision, resources
from gridnode_host.bench.clock import SteppedClock
from gridnode_host.bench.frontend import circuit
from gridnode_host.bench.node import HEAP_KB
from gridnode_host.bench.rig_node import RigNode
from gridnode_host.bench.tolerance import Tolerance
from gridnode_host.device import Node
from gridnode_host.output import Output

if TYPE_CHECKING:
    from gridnode_host.bench.instruments import Instruments

Json = dict[str, Any]

_THING = "node-1"
_SILENCE_S = 60.0  # real seconds
_LATE_S = 600.0  # rig seconds: the node may be ahead of who listens


class Solo:
    """A provisioned node whose application is stopped; a context manager.

    `profile` is a resolved one, reports come every `interval_s`. Time stands until `start`, so
    that everything can be laid out before. `ideal`, `seed` and `tolerance` choose the parts of
    the unit: at their design values, or (not `ideal`) spread. `calibrated` gives it the
    calibration that is exact for them. `heap_kb` is its heap in K words.
    """

    def __init__(
        self,
        profile: Mapping[str, Any],
        *,
        interval_s: int,
        ideal: bool = True,
        seed: int = 0,
        tolerance: Tolerance | None = None,
        calibrated: bool = True,
        micropython: str | None = None,
        heap_kb: int = HEAP_KB,
    ) -> None:
        self.profile = profile
        self.clock = SteppedClock()
        self.circuit = circuit(profile, self.clock, seed)
        self._heap_kb = heap_kb
        self._events: queue.SimpleQueue[Json] = queue.SimpleQueue()
        self._stack = ExitStack()
        try:
            self._build(micropython, ideal=ideal, seed=seed, tolerance=tolerance)
            self._furnish(interval_s, calibrated)
        except BaseException:
            self.close()
            raise

    def _build(
        self, micropython: str | None, *, ideal: bool, seed: int, tolerance: Tolerance | None
    ) -> None:
        vm = micropython or build.micropython()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="gridnode-solo-"))
        self.node = RigNode(
            _THING,
            Path(folder),
            self.profile,
            self.circuit,
            clock=self.clock,
            image=resources.image_dir(build.vm_arch(vm)),
            micropython=vm,
            seed=seed,
            ideal=ideal,
            tolerance=tolerance,
        )
        self.node.heap_kb = self._heap_kb
        self._stack.enter_context(self.node)

    def _furnish(self, interval_s: int, calibrated: bool) -> None:
        config = provision.node_config(_THING, "localhost", "none", interval_s=interval_s)
        files = {provision.NODE_JSON: config, provision.PROFILE_JSON: self.profile}
        if calibrated:
            files[provision.CALIBRATION_JSON] = self.node.calibration
        self.link = self._stack.enter_context(Node(self.node.port))
        content = {path: json.dumps(document).encode() for path, document in files.items()}
        provision.install(self.link, content, _Silent())
        self.node.board.set_clock()

    def start(self) -> None:
        """Let the application run; what it prints comes from `events`."""
        self.node.on_line(self._hear)
        self.link.restart()

    def run(self, code: str) -> str:
        """Run a program in place of the application and return what it prints."""
        return self.link.run(code, _SILENCE_S)

    def instruments(self, seed: int = 0) -> Instruments:
        """Open reference meter, source and climate chamber; see `Instruments`."""
        instruments = self.node.instruments(seed)
        self._stack.callback(instruments.close)
        return instruments

    def events(self) -> Iterator[Json]:
        """Yield what the application prints. Raises TimeoutError when it falls silent."""
        while True:
            try:
                yield self._events.get(timeout=_SILENCE_S)
            except queue.Empty:
                sku = self.profile["sku"]
                raise TimeoutError(f"{sku} has printed nothing for a minute") from None

    def reports(self, until: float) -> Iterator[Json]:
        """Yield the content of each report up to that of the rig time `until`.

        Raises TimeoutError when the node does not report.
        """
        for event in self.events():
            if self.clock.now() > until + _LATE_S:
                raise TimeoutError(f"{self.profile['sku']} does not report: {event}")
            if event["event"] == "report":
                reported: Json = event["reported"]
                yield reported
                if reported["timestamp"] >= until:
                    return

    def _hear(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return  # a line that a restart has cut
        if isinstance(event, dict) and "event" in event:
            self._events.put(event)

    def close(self) -> None:
        """End the node and remove its files."""
        self._stack.close()

    def __enter__(self) -> Solo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Silent(Output):
    def event(self, event: str, text: str | None = None, **fields: Any) -> None:
        pass
