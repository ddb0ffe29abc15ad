"""The demo: virtual nodes on a virtual bench, and what their shadows say beside what the physics says."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gridnode_host.bench.rig import Rig
from gridnode_host.bench.rig_node import RigNode
from gridnode_host.bench.routing import Message
from gridnode_host.errors import Exit
from gridnode_host.output import Output

PROFILES = ("home-60a-ct", "feeder-200a")
REFRESH_S = 0.25
ROW_S = 10.0  # of both profiles

# Shown value: title, name in the report, name in the truth, decimals.
COLUMNS = (
    ("V", "voltage", 1),
    ("A", "current", 2),
    ("W", "power", 0),
    ("PF", "power_factor", 3),
    ("Hz", "frequency", 2),
)


@dataclass
class Seen:
    """What the demo knows of one node."""

    node: RigNode
    arrived: float  # rig time at which the newest update came
    first_s: float | None = None  # bench start to first accepted shadow
    reports: int = 0
    alarms: list[str] = field(default_factory=list)
    reported: dict[str, Any] = field(default_factory=dict)
    truth: dict[str, Any] = field(default_factory=dict)
    start: tuple[float, float] | None = None  # kWh of report and truth at the first report
    energy: tuple[float, float] = (0.0, 0.0)
    seq: int = 0


def run(out: Output, nodes: int = 3, duration: float | None = None) -> int:
    """Run the demo until Ctrl-C or for ``duration`` seconds; return the exit code.

    `Exit.CLOUD` when the shadow of any node did not arrive.
    """
    began = time.monotonic()
    seen: list[Seen] = []
    with _terminable():
        try:
            with out.step(f"start the bench with {nodes} virtual nodes and provision them"):
                profile = [PROFILES[0 if k % 3 < 2 else 1] for k in range(nodes)]
                rig = Rig.virtual(nodes=nodes, profile=profile)
            with rig:
                seen = [Seen(node, rig.clock.now()) for node in rig.nodes]
                _listen(rig, seen)
                _watch(rig, seen, out, began, duration)
        except KeyboardInterrupt:
            pass  # the way to end it
    return _summary(out, seen, nodes)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a termination end the demo as Ctrl-C does."""

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _listen(rig: Rig, seen: list[Seen]) -> None:
    """Note when updates arrive: a report's own timestamp has whole seconds."""

    def note(message: Message) -> None:
        for one in seen:
            if f"/{one.node.thing}/" in message.topic:
                one.arrived = rig.clock.now()

    rig.broker.subscribe("$aws/things/+/shadow/update", note)


def _watch(rig: Rig, seen: list[Seen], out: Output, began: float, duration: float | None) -> None:
    scene = _scene(rig.nodes)
    start = time.monotonic()
    live = None
    if not out.as_json and out.console.is_terminal:
        live = Live(console=out.console, refresh_per_second=4, transient=False)
        live.start()
    try:
        while duration is None or time.monotonic() - start < duration:
            next(scene)(time.monotonic() - start)
            for one in seen:
                _update(rig, one, out, began, quiet=live is not None)
            if live:
                live.update(_view(rig, seen, time.monotonic() - start))
            time.sleep(REFRESH_S)
    finally:
        if live:
            live.stop()


def _update(rig: Rig, one: Seen, out: Output, began: float, quiet: bool) -> None:
    reported = rig.reported(one.node.thing)
    if not reported or reported["seq"] == one.seq:
        return
    one.seq = reported["seq"]
    one.reported = reported
    one.reports += 1
    # A report at the end of a row covers the row; one out of turn the part of it that is over.
    begin = (reported["timestamp"] - 1) // ROW_S * ROW_S
    in_turn = reported["timestamp"] == begin + ROW_S
    at = begin + ROW_S if in_turn else one.arrived
    over = min(at - begin, reported["node"]["uptime"] or 0.5)
    one.truth = one.node.circuit.truth(at=at, over=over)
    kwh = reported["energy_import_wh"] / 1000, one.truth["energy_import_wh"] / 1000
    one.start = one.start or kwh
    one.energy = kwh[0] - one.start[0], kwh[1] - one.start[1]
    if one.first_s is None:
        one.first_s = time.monotonic() - began
    kinds = _kinds(one)
    one.alarms += [alarm for alarm in kinds if alarm not in one.alarms]
    if quiet:
        return
    values = {name: reported.get(name) for _, name, _ in COLUMNS}
    text = ", ".join(f"{_number(values[name], digits)} {title}" for title, name, digits in COLUMNS)
    out.event(
        "report",
        f"{one.node.thing}: {text}" + "".join(f"  ALARM {alarm}" for alarm in kinds),
        thing=one.node.thing,
        seq=one.seq,
        measured=values,
        truth={name: one.truth.get(name) for name in values},
        anomaly=reported["anomaly"],
    )


def _kinds(one: Seen) -> list[str]:
    """Alarms of the newest report, as `signal kind`."""
    kinds = one.reported.get("anomaly", {}).get("kinds") or {}
    return [f"{name} {kind}" for name, kind in kinds.items() if kind]


def _scene(nodes: list[RigNode]) -> Iterator[Callable[[float], None]]:
    """Steps of the play: loads that come and go, one fault after ten seconds that lasts for twelve."""
    loads = ((6.0, 5.0, 0.0), (18.0, 8.0, 0.0), (11.0, 37.0, 0.4), (24.0, 25.0, 0.1))

    def load(step: int) -> None:
        for k, node in enumerate(nodes):
            amperes, lag, third = loads[(step + k) % len(loads)]
            factor = node.rating / 60.0
            node.circuit.set(current=amperes * factor, phase_deg=lag, harmonics={3: third})

    def fault(on: bool) -> None:
        nodes[0].circuit.set(voltage=264.0 if on else 230.0)

    script: list[tuple[float, Callable[[], None]]] = [
        (10.0, partial(fault, True)),
        (22.0, partial(fault, False)),
        *((6.0 * k, partial(load, k)) for k in range(600)),
    ]
    script.sort(key=lambda entry: entry[0])

    def play(elapsed: float) -> None:
        while script and script[0][0] <= elapsed:
            script.pop(0)[1]()

    while True:
        yield play


def _view(rig: Rig, seen: list[Seen], elapsed: float) -> Group:
    table = Table(title=f"Gridnode demo, {elapsed:.0f} s: measured, and the physics' truth below it")
    for title in ("node", "link", "age", *(title for title, _, _ in COLUMNS), "kWh", "alarm"):
        table.add_column(title, justify="left" if title in ("node", "link", "alarm") else "right")
    for one in seen:
        measured, truth = [], []
        for _, name, digits in COLUMNS:
            measured.append(_number(one.reported.get(name), digits))
            truth.append(_number(one.truth.get(name), digits))
        age = f"{max(0.0, rig.clock.now() - one.reported['timestamp']):.0f} s" if one.reported else ""
        alarm = Text(", ".join(_kinds(one)), style="bold red")
        link = Text("up", style="green") if one.node.link == "online" else Text(one.node.link)
        table.add_row(one.node.thing, link, age, *measured, f"{one.energy[0]:.4f}", alarm)
        table.add_row(
            Text(one.node.profile_name, style="dim"),
            "",
            "",
            *(Text(value, style="dim") for value in truth),
            Text(f"{one.energy[1]:.4f}", style="dim"),
            "",
            end_section=True,
        )
    return Group(table, Text("Ctrl-C ends it", style="dim"))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _summary(out: Output, seen: list[Seen], nodes: int) -> int:
    missing = nodes - sum(1 for one in seen if one.first_s is not None)
    rows = []
    for one in seen:
        v, true_v = one.reported.get("voltage"), one.truth.get("voltage")
        rows.append(
            {
                "node": one.node.thing,
                "profile": one.node.profile_name,
                "first shadow": None if one.first_s is None else f"{one.first_s:.1f} s",
                "reports": one.reports,
                "V off": f"{100 * (v / true_v - 1):+.2f} %" if v and true_v else None,
                "kWh": f"{one.energy[0]:.4f} (truth {one.energy[1]:.4f})",
                "alarms": ", ".join(one.alarms),
            }
        )
    out.table("summary", rows, "No node has started.")
    if missing:
        out.event("missing", f"The shadow of {missing} node(s) did not arrive.", count=missing)
        return int(Exit.CLOUD)
    out.done("Every node's shadow has arrived.")
    return int(Exit.DONE)
