"""One uncalibrated node, its instruments, and `gridnode calibrate` as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gridnode_host import resources
from gridnode_host.bench.node import HEAP_KB
from gridnode_host.bench.solo import Solo
from gridnode_host.bench.tolerance import Tolerance

Json = dict[str, Any]

_HEAP_KW = {"home-3ph-ct": 200}  # K words; a 64-bit VM's words are twice as long as the chip's
_END_S = 120.0

_INSTRUMENTS = """
operator = "J. Doe"
certificate = "node.html"
[reference]
kind = "scpi"
resource = "{resource}"
uncertainty_percent = {{voltage = 0.02, current = 0.02, power = 0.02}}
[reference.queries]
voltage = "MEAS:VOLT{{phase}}?"
current = "MEAS:CURR{{phase}}?"
power = "MEAS:POW{{phase}}?"
reactive_power = "MEAS:REAC{{phase}}?"
[source]
kind = "scpi"
resource = "{resource}"
settle_s = 0  # time stands between the calls of the node
[source.commands]
voltage = "SOUR:VOLT{{phase}} {{value}}"
current = "SOUR:CURR{{phase}} {{value}}"
phase_deg = "SOUR:PHAS{{phase}} {{value}}"
"""


@dataclass(frozen=True)
class Run:
    """What a command has told: its JSON events, and how it ended."""

    code: int
    events: list[Json]

    @property
    def last(self) -> Json:
        """How it ended, in its own words."""
        return self.events[-1] if self.events else {}

    def each(self, name: str) -> list[Json]:
        """The events of a name."""
        return [event for event in self.events if event["event"] == name]


class Bench:
    """A node as the factory builds it, its parts anywhere in their widest spread.

    A context manager; `rating` is the SKU's rated current in A.
    """

    def __init__(self, profile: str, seed: int) -> None:
        self.profile = resources.profile(profile)
        self.rating = float(self.profile["rating"]["current"])
        self._stack = ExitStack()
        try:
            self._folder = Path(
                self._stack.enter_context(tempfile.TemporaryDirectory(prefix="gridnode-cal-"))
            )
            solo = Solo(
                self.profile,
                interval_s=10,
                ideal=False,
                seed=seed,
                tolerance=Tolerance.WIDE,
                calibrated=False,
                heap_kb=_HEAP_KW.get(profile, HEAP_KB),
            )
            self.solo = self._stack.enter_context(solo)
            self.solo.link.close()  # the port is the command's
            self._resource = self.solo.instruments(seed).resource
        except BaseException:
            self._stack.close()
            raise

    def plan(self, steps: Iterable[str] = ()) -> Path:
        """Write a plan with the bench's instruments."""
        path = self._folder / "plan.toml"
        path.write_text("\n".join([_INSTRUMENTS.format(resource=self._resource), *steps]))
        return path

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `gridnode calibrate --json` on the node."""
        words = [sys.executable, "-m", "gridnode_host", "calibrate", "--json"]
        return subprocess.Popen(
            [*words, "--port", self.solo.node.port, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def calibrate(
        self, *arguments: str, heard: Callable[[Json], None] = lambda event: None
    ) -> Run:
        """Run it to its end; `heard` is called with each event, and may raise."""
        with self.begin(*arguments) as process:
            try:
                events = []
                for event in told(process):
                    events.append(event)
                    heard(event)
                return Run(process.wait(_END_S), events)
            except BaseException:
                process.kill()
                raise

    def in_force(self) -> Json:
        """The calibration in force with its records, as the command shows it."""
        found = self.calibrate("show").each("calibration")
        if not found:
            raise RuntimeError("the node does not show its calibration")
        return found[-1]

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def told(process: subprocess.Popen[str]) -> Iterator[Json]:
    """Yield the events of a process until it ends."""
    assert process.stdout
    for line in process.stdout:
        try:
            event = json.loads(line)
        except ValueError:  # a traceback
            event = {"event": "text", "cause": line.rstrip()}
        yield event


def step(
    name: str,
    source: Mapping[str, float] | None = None,
    *,
    reference: Mapping[str, float] | None = None,
    label: str | None = None,
) -> str:
    """One step of a plan as TOML; `source` sets the load, `reference` is typed."""
    lines = ["[[step]]", f'step = "{name}"']
    if label:
        lines.append(f'label = "{label}"')
    for key, table in (("source", source), ("reference", reference)):
        if table:
            values = ", ".join(f"{quantity} = {value}" for quantity, value in table.items())
            lines.append(f"{key} = {{{values}}}")
    return "\n".join(lines)
