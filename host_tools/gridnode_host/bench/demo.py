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

from rich import box
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gridnode_host import resources
from gridnode_host.bench.node import CHIP_KB
from gridnode_host.bench.rig import Rig
from gridnode_host.bench.rig_node import RigNode
from gridnode_host.bench.routing import Message
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

PROFILES = ("home-60a-ct", "feeder-200a")
REFRESH_S = 0.25
ROW_S = 10.0  # of both profiles, aligned to UTC
LAG_S = 1.0  # longer than a value of a metering chip or a block of samples reaches back

# Shown value: title, name in the report, name in the truth, decimals.
COLUMNS = (
    ("V", "voltage", 1),
    ("A", "current", 2),
    ("W", "power", 0),
    ("PF", "power_factor", 3),
    ("Hz", "frequency", 2),
)
JUDGED = ("voltage", "current", "power")  # whose worst difference the summary tells

# Amperes on a rating of 60 A, lag in degrees, share of the third harmonic.
LOADS = ((6.0, 5.0, 0.0), (18.0, 8.0, 0.0), (11.0, 37.0, 0.4), (24.0, 25.0, 0.1))
NORMAL_V, FAULT_V = 230.0, 264.0
OVERLOAD = 1.15  # of the rating
LEARN_ROWS = 48  # of the detectors, before the show begins
LEARN_RATE = 20  # rig seconds per second meanwhile
LEARN_S = 60.0  # real ones, at most
MODELS = {"learning": "learns", "frozen": "ready", "guarded": "guarded", "suspect": "suspect"}

LEGEND = (
    "V, A, W: worst difference from the truth over the reports of a whole row of steady mains.",
    "kWh: since the end of the first whole row; a metering chip tells it about 0.4 s late.",
)


@dataclass
class Seen:
    """What the demo knows of one node."""

    node: RigNode
    arrived: float  # rig time at which the newest update came
    first_s: float | None = None  # bench start to first accepted shadow
    reports: int = 0
    alarms: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # that its detector has named
    reported: dict[str, Any] = field(default_factory=dict)
    truth: dict[str, Any] = field(default_factory=dict)
    steady: bool = False  # nothing changed while the newest report was measured
    changed: float = float("-inf")  # rig time of the newest change of its mains
    row: int | None = None  # end of the newest row that a report in turn has told
    start: tuple[float, float] | None = None  # kWh of report and truth at the first such end
    energy: tuple[float, float] | None = None  # kWh since then
    worst: dict[str, float] = field(default_factory=dict)  # relative differences, steady rows
    seq: int = 0


def run(
    out: Output, nodes: int = 3, duration: float | None = None, learn: int = LEARN_ROWS
) -> int:
    """Run the demo until Ctrl-C or for ``duration`` seconds; return the exit code.

    ``learn``: rows from which the nodes' detectors learn before it, in fast motion; 0: none.
    Raises `GridnodeError` with `Exit.CLOUD` when the shadow of any node did not arrive.
    """
    began = time.monotonic()
    seen: list[Seen] = []
    with terminable():
        try:
            with out.step(f"start the bench with {nodes} virtual nodes and provision them"):
                profile = [_profile(PROFILES[0 if k % 3 < 2 else 1], learn) for k in range(nodes)]
                rig = Rig.virtual(nodes=nodes, profile=profile, heap_kb=CHIP_KB)
            with rig:
                seen = [Seen(node, rig.clock.now()) for node in rig.nodes]
                _listen(rig, seen)
                if learn:
                    _teach(rig, seen, out)
                _watch(rig, seen, out, began, duration)
        except KeyboardInterrupt:
            pass  # the way to end it
    if not seen:
        out.done("Ended before the nodes had started.")
        return int(Exit.DONE)
    return _summary(out, seen)


def _profile(name: str, learn: int) -> dict[str, Any]:
    """A profile whose detector learns from so few rows; 0: as it is."""
    profile = resources.profile(name)
    if learn:
        profile["detector"] = {"train_days": learn * ROW_S / 86400}
    return profile


def _teach(rig: Rig, seen: list[Seen], out: Output) -> None:
    """Let the detectors learn the loads in fast motion."""
    minutes = max(1, round(LEARN_ROWS * ROW_S / 60))
    with out.step(f"let the detectors learn {minutes} min of loads, in fast motion"):
        play = _scene(seen, rig.clock.now(), faults=False)
        rig.clock.warp(LEARN_RATE)
        try:
            deadline = time.monotonic() + LEARN_S
            while time.monotonic() < deadline and _learning(rig, seen):
                play(rig.clock.now())
                time.sleep(REFRESH_S)
        finally:
            rig.clock.warp(1)


def _learning(rig: Rig, seen: list[Seen]) -> bool:
    return any(_model(rig.reported(one.node.thing)) == "learning" for one in seen)


def _model(reported: dict[str, Any]) -> str:
    """State of a detector; one that has not reported yet is going to learn."""
    return str(reported.get("anomaly", {}).get("model", "off") if reported else "learning")


@contextmanager
def terminable() -> Iterator[None]:
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
    play = _scene(seen, rig.clock.now())
    start = time.monotonic()
    live = None
    if not out.as_json and out.console.is_terminal:
        live = Live(console=out.console, refresh_per_second=4, transient=False)
        live.start()
    try:
        while duration is None or time.monotonic() - start < duration:
            for one in seen:
                _update(rig, one, out, began, quiet=live is not None)
            play(rig.clock.now())
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
    one.reports += 1
    regular = _compare(one, reported)
    if one.first_s is None:
        one.first_s = time.monotonic() - began
    kinds = _kinds(one)
    one.faults += [fault for fault in _faults(one) if fault not in one.faults]
    one.alarms += [alarm for alarm in kinds if alarm not in one.alarms]
    if quiet:
        return
    values = {name: reported.get(name) for _, name, _ in COLUMNS}
    text = ", ".join(f"{_number(values[name], digits)} {title}" for title, name, digits in COLUMNS)
    out.event(
        "report",
        f"{one.node.thing}: {text}" + "".join(f"  ALARM {alarm}" for alarm in kinds)
        + "".join(f"  FAULT {fault}" for fault in _faults(one)),
        thing=one.node.thing,
        seq=one.seq,
        regular=regular,
        steady=one.steady,
        measured=values,
        truth={name: one.truth.get(name) for name in values},
        anomaly=reported["anomaly"],
    )


def _compare(one: Seen, reported: dict[str, Any]) -> bool:
    """Put the truth beside a new report; tell whether it is one in turn, of a whole row.

    A report in turn covers the row that ended at its timestamp, one out of turn (the first, an
    alarm) the part of its row that was over. What changed while it was measured may be counted a
    moment later than it happened; such a report is not `steady`, and has no truth beside it when
    it is out of turn.
    """
    stamp = reported["timestamp"]
    # one out of turn may come within the first second of a row
    regular = bool(one.reported) and stamp % ROW_S == 0 and stamp != one.row
    begin = (stamp - ROW_S) if regular else stamp // ROW_S * ROW_S
    at = float(stamp) if regular else one.arrived
    over = max(0.2, min(at - begin, reported["node"]["uptime"] or 0.5))
    one.reported = reported
    one.truth = one.node.circuit.truth(at=at, over=over)
    one.steady = one.changed < begin - LAG_S or one.changed > at
    if not (regular or one.steady):
        one.truth = {}  # too little of a row to compare
    if regular:
        one.row = stamp
        kwh = reported["energy_import_wh"] / 1000, one.truth["energy_import_wh"] / 1000
        one.start = one.start or kwh
        one.energy = kwh[0] - one.start[0], kwh[1] - one.start[1]
        if one.steady:
            _judge(one)
    return regular


def _judge(one: Seen) -> None:
    for name in JUDGED:
        value, true = one.reported.get(name), one.truth.get(name)
        if value is not None and true:
            off = value / true - 1
            one.worst[name] = max(one.worst.get(name, 0.0), off, key=abs)


def _kinds(one: Seen) -> list[str]:
    """Alarms of the newest report, as `signal kind`."""
    kinds = one.reported.get("anomaly", {}).get("kinds") or {}
    return [f"{name} {kind}" for name, kind in kinds.items() if kind]


def _faults(one: Seen) -> list[str]:
    """What the detector of a node names in its newest report."""
    faults = one.reported.get("anomaly", {}).get("faults") or {}
    return [name.replace("_", " ") for name, degree in faults.items() if degree]


def _scene(seen: list[Seen], start: float, *, faults: bool = True) -> Callable[[float], None]:
    """Return the play, to be called with the rig time: loads that come and go, and two faults.

    Each node's load changes at the beginning of every second row, so that the row after it is a
    steady one. The first node's voltage is too high from about ten seconds after the start on,
    away from the ends of rows, and stays so for a whole row. Then the last node is overloaded.
    """
    first = start // ROW_S * ROW_S + ROW_S

    overloaded: Seen | None = None

    def load(step: int) -> None:
        for k, one in enumerate(seen):
            if (step + k) % 2 == 0 and one is not overloaded:
                amperes, lag, third = LOADS[((step + k) // 2 + k) % len(LOADS)]
                one.changed = now()
                one.node.circuit.set(
                    current=amperes * one.node.rating / 60.0,
                    phase_deg=lag,
                    harmonics={3: third},
                )

    def overload(one: Seen | None) -> None:
        nonlocal overloaded
        overloaded = one
        if one:
            one.changed = now()
            one.node.circuit.set(current=OVERLOAD * one.node.rating, phase_deg=5.0, harmonics={})

    def voltage(volts: float) -> None:
        seen[0].changed = now()
        seen[0].node.circuit.set(voltage=volts)

    def now() -> float:
        return played

    played = start
    high = first + min(max(start % ROW_S, 1.5), 8.5)
    script: list[tuple[float, Callable[[], None]]] = [
        (high, partial(voltage, FAULT_V)),
        (first + 2 * ROW_S + 1.5, partial(voltage, NORMAL_V)),
        (first + 3 * ROW_S + 1.5, partial(overload, seen[-1])),
        (first + 6 * ROW_S + 0.2, partial(overload, None)),
    ]
    if not faults:
        script.clear()
    step = 0

    def play(rig_time: float) -> None:
        nonlocal played, step
        played = rig_time
        while script and script[0][0] <= rig_time:
            script.pop(0)[1]()
        while first + ROW_S * step + 0.5 <= rig_time:
            load(step)
            step += 1

    return play


def _state(one: Seen) -> Text:
    """What its link is at; on line: an alarm, or the state of its detector."""
    if one.node.link != "online":
        return Text(one.node.link)
    if one.reported.get("anomaly", {}).get("alarm"):
        return Text("alarm", style="bold red")
    model = _model(one.reported)
    return Text(MODELS.get(model, "up"), style="green")


def _view(rig: Rig, seen: list[Seen], elapsed: float) -> Group:
    """What is shown on a terminal, from 80 columns on."""
    title = Text(f"Gridnode demo, {elapsed:.0f} s", style="bold")
    alarms = Text("no alarm", style="dim")
    ringing = [f"ALARM {one.node.thing}: {kind}" for one in seen for kind in _kinds(one)]
    ringing += [f"FAULT {one.node.thing}: {fault}" for one in seen for fault in _faults(one)]
    if ringing:
        alarms = Text("\n".join(ringing), style="bold red")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("node", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in (*(name for name, _, _ in COLUMNS), "kWh"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in seen:
        energy = one.energy or (None, None)
        measured, truth = [], []
        for _, name, digits in COLUMNS:
            measured.append(_number(one.reported.get(name), digits))
            truth.append(_number(one.truth.get(name), digits))
        age = (
            f"{max(0.0, rig.clock.now() - one.reported['timestamp']):.0f} s"
            if one.reported
            else ""
        )
        table.add_row(one.node.thing, _state(one), *measured, _number(energy[0], 4))
        mark = "" if one.steady or not one.truth else "~"
        table.add_row(
            Text(one.node.profile_name, style="dim"),
            Text(age, style="dim"),
            *(Text(mark + value, style="dim") for value in truth),
            Text(_number(energy[1], 4), style="dim"),
            end_section=True,
        )
    hint = "Upper line: the detector, measured. Lower line: age of the report, and the physics' truth;\n"
    hint += "~ the mains changed while it was measured. Ctrl-C ends the demo."
    return Group(title, alarms, table, Text(hint, style="dim"))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _summary(out: Output, seen: list[Seen]) -> int:
    for one in seen if out.as_json else ():
        energy = one.energy or (None, None)
        out.event(
            "summary",
            node=one.node.thing,
            profile=one.node.profile_name,
            first_shadow_s=None if one.first_s is None else round(one.first_s, 2),
            reports=one.reports,
            worst_percent={name: round(100 * off, 3) for name, off in one.worst.items()},
            energy_kwh={"measured": energy[0], "truth": energy[1]},
            alarms=one.alarms,
            detector=_model(one.reported),
            faults=one.faults,
        )
    if not out.as_json:
        out.table("summary", [_row(one) for one in seen], "")
        for line in LEGEND:
            out.event("legend", line)
        for one in seen:
            for alarm in one.alarms:
                out.event("alarm", f"Alarm of {one.node.thing}: {alarm}")
            for fault in one.faults:
                out.event("fault", f"The detector of {one.node.thing} has named: {fault}")
    missing = [one.node.thing for one in seen if one.first_s is None]
    if missing:
        raise GridnodeError(
            "wait for the shadows of the nodes",
            f"the shadow of {', '.join(missing)} did not arrive",
            "Run it for longer; gridnode demo --json tells more.",
            Exit.CLOUD,
        )
    out.done("Every node's shadow has arrived.")
    return int(Exit.DONE)


def _row(one: Seen) -> dict[str, str]:
    off = {
        title: f"{100 * one.worst[name]:+.2f} %" if name in one.worst else "-"
        for title, name, _ in COLUMNS
        if name in JUDGED
    }
    energy = one.energy or (None, None)
    return {
        "node": one.node.thing,
        "profile": one.node.profile_name,
        "shadow": "-" if one.first_s is None else f"{one.first_s:.1f} s",
        "reports": str(one.reports),
        **off,
        "kWh": _number(energy[0], 4),
        "truth": _number(energy[1], 4),
    }
