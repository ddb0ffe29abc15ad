"""Bad inputs end to end: each is tried on a calibrated node, and the calibration must stay."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gridnode_host import provision
from gridnode_host.bench.figures.calibration_bench import Bench, Run, step, told
from gridnode_host.bench.figures.tables import Row, Table
from gridnode_host.device import Node
from gridnode_host.errors import GridnodeError
from gridnode_host.output import Output

PROFILE, SEED = "home-60a-ct", 5
RATING, VOLTAGE = 60.0, 230.0

_HALF = {"voltage": VOLTAGE, "current": RATING / 2, "phase_deg": 0.0}
_FIRST = (step("offset", {"current": 0.0}), step("gain", _HALF), step("phase"))
_MARK_A = 31.0  # a load by which the bench knows that the step has begun
_INTO_S = 6.0  # from there into the 10 s that the step measures
_WAIT_S = 60.0

Try = Callable[[Bench], tuple[int, str]]
"""Tries a bad input; returns the exit code and the sentence."""


@dataclass(frozen=True)
class Attempt:
    """One bad input with its outcome; `kept`: the calibration shown is the one of before."""

    name: str
    code: int
    told: str
    kept: bool

    @property
    def ok(self) -> bool:
        """Whether it was refused in words and nothing changed."""
        return self.kept and self.code != 0 and bool(self.told)


def measure(ticked: Callable[[], None] = lambda: None) -> list[Attempt]:
    """Calibrate one node and try everything on it; `ticked` is called after each."""
    found = []
    with Bench(PROFILE, SEED) as bench:
        good = bench.calibrate("--plan", str(bench.plan(_FIRST)))
        if good.code:
            raise GridnodeError("calibrate a node to try bad inputs on", _sentence(good))
        before = bench.in_force()
        for name, attempt in TRIES.items():
            code, text = attempt(bench)
            kept = bench.in_force() == before
            found.append(Attempt(name, code, text, kept))
            ticked()
    return found


def table(attempts: list[Attempt]) -> Table:
    """A row per bad input."""
    rows: list[Row] = [
        {
            "bad input": attempt.name,
            "exit": attempt.code,
            "told": attempt.told,
            "calibration": "as before" if attempt.kept else "CHANGED",
            "ok": attempt.ok,
        }
        for attempt in attempts
    ]
    return Table(
        "calibration_faults",
        f"Calibration end to end: bad inputs tried on a calibrated {PROFILE}",
        [
            "Each by gridnode calibrate --plan (files: by provisioning) over the serial port. The "
            "calibration in force, with its records, is compared by gridnode calibrate show.",
        ],
        rows,
    )


# -- what is tried -----------------------------------------------------------------------------


def _planned(*steps: str) -> Try:
    def attempt(bench: Bench) -> tuple[int, str]:
        return _ended(bench.calibrate("--plan", str(bench.plan(steps))))

    return attempt


def _meanwhile(change: Callable[[Bench, float], None]) -> Try:
    """A gain step during which the mains change; `change` gets the rig time in its middle."""

    def attempt(bench: Bench) -> tuple[int, str]:
        plan = bench.plan([step("gain", {**_HALF, "current": _MARK_A})])
        circuit, clock = bench.solo.circuit, bench.solo.clock

        def wait() -> None:
            deadline = time.monotonic() + _WAIT_S
            while circuit.supply().current[0] != _MARK_A and time.monotonic() < deadline:
                time.sleep(0.0005)
            change(bench, clock.now() + _INTO_S)

        watcher = threading.Thread(target=wait)
        watcher.start()
        run = bench.calibrate("--plan", str(plan))
        watcher.join()
        circuit.set(voltage=VOLTAGE, current=RATING / 2, phase_deg=0.0)
        return _ended(run)

    return attempt


def _switched(bench: Bench, middle: float) -> None:
    bench.solo.circuit.set(current=0.2, at=middle)


def _moving(bench: Bench, middle: float) -> None:
    """The voltage wanders by 3 % within seconds."""
    for k in range(60):
        there = VOLTAGE * (1 + 0.03 * ((k % 18) / 18 - 0.5))
        bench.solo.circuit.set(voltage=there, at=middle - 4 + 0.5 * k)


def _flickering(bench: Bench, middle: float) -> None:
    """A load that is never the same."""
    for k in range(100):
        amperes = _MARK_A * (1 + 0.25 * ((k * 7 % 11) / 11 - 0.5))
        bench.solo.circuit.set(current=amperes, at=middle - 4 + 0.3 * k)


def _unplugged(bench: Bench) -> tuple[int, str]:
    plan = bench.plan([step("gain", _HALF)] * 20)
    node = bench.solo.node
    events = []
    with bench.begin("--plan", str(plan)) as process:
        for event in told(process):
            events.append(event)
            if event["event"] == "result":
                node.power_off()
        run = Run(process.wait(_WAIT_S), events)
    node.power_on()
    return _ended(run)


_FILL = """
import os
data = bytes(4096)
k = 0
try:
    os.mkdir("/fill")
except OSError:
    pass
while len(data) > 15:
    try:
        with open("/fill/%d" % k, "wb") as f:
            while True:
                f.write(data)
                f.flush()
    except OSError:
        data = data[:len(data) // 4]
    k += 1
print(k)
"""
_EMPTY = """
import os
for name in os.listdir("/fill"):
    os.remove("/fill/" + name)
os.rmdir("/fill")
"""


def _full(bench: Bench) -> tuple[int, str]:
    """The flash is full of other files; the step itself is a good one."""
    _run(bench, _FILL)
    try:
        return _ended(bench.calibrate("--plan", str(bench.plan([step("gain", _HALF)]))))
    finally:
        _run(bench, _EMPTY)


def _file(**other: Any) -> Try:
    """Install the calibration in force with something else about it."""

    def attempt(bench: Bench) -> tuple[int, str]:
        document = {**bench.in_force()["calibration"], **other}
        document.pop("steps", None)
        content = {provision.CALIBRATION_JSON: json.dumps(document).encode()}
        try:
            with Node(bench.solo.node.port) as link:
                provision.install(link, content, _Silent())
        except GridnodeError as err:
            return int(err.exit), err.cause
        return 0, "installed"

    return attempt


def _run(bench: Bench, code: str) -> None:
    with Node(bench.solo.node.port) as link:
        link.stop()
        link.run(code, _WAIT_S)


def _ended(run: Run) -> tuple[int, str]:
    return run.code, _sentence(run)


def _sentence(run: Run) -> str:
    return str(run.last.get("cause", run.last.get("event", "")))


class _Silent(Output):
    def event(self, event: str, text: str | None = None, **fields: Any) -> None:
        pass


TRIES: dict[str, Try] = {
    "reference typed ten times too low": _planned(
        step("gain", _HALF, reference={"voltage": VOLTAGE, "current": 3.0})
    ),
    "reference typed ten times too high": _planned(
        step("gain", _HALF, reference={"voltage": VOLTAGE, "current": 300.0})
    ),
    "load switched off during the step": _meanwhile(_switched),
    "supply moving": _meanwhile(_moving),
    "load flickering": _meanwhile(_flickering),
    "another phase clamped": _planned(
        step("phase", {**_HALF, "phase_deg": 120.0}, reference={"phase_deg": 0.0})
    ),
    "load not resistive, angle typed as 0": _planned(
        step("phase", {**_HALF, "phase_deg": 25.0}, reference={"phase_deg": 0.0})
    ),
    "node unplugged in the middle": _unplugged,
    "flash full": _full,
    "calibration file of another node": _file(node="0123456789ab"),
    "calibration file of another SKU": _file(sku="plug-bl0942"),
    "calibration file of a newer version": _file(version=3),
}
"""By what the table calls them."""
