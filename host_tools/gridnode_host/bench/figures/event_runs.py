"""Runs of nodes with supply events on their mains.

Front ends that see the waveform run on the full bench, with a broker that throws them out again
and again, so that events fall into publishing and into TLS handshakes. Chips that only raise a
flag, and the clean supply on which nothing may be told, run on a clock of the node's own.
"""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gridnode_host import resources
from gridnode_host.bench.figures import workers
from gridnode_host.bench.figures.event_matching import (
    KINDS,
    Injected,
    Kind,
    Match,
    Told,
    match,
    plan,
)
from gridnode_host.bench.figures.front_ends import CLAMPS
from gridnode_host.bench.rig import Rig
from gridnode_host.bench.solo import Solo

Json = dict[str, Any]

NOMINAL = 230.0
FLAGGING = ("feeder-200a", "plug-ade7953")
FLAG_AT = {"dip": 78, "swell": 115}  # thresholds of the chips, % of the nominal voltage
VARIATION = 0.08  # of a clean supply
RATE = 3  # rig seconds per second, of a bench with a network
KICK_S = (8.0, 20.0)  # between two losses of the connection

_PAUSE_S = (1.6, 2.6)  # between the starts of two events
_FLAG_PAUSE_S = (12.0, 14.0)  # a flag that comes again within ten seconds is not told anew
_AHEAD_S = 20.0  # events are put on the mains so long before
_WAIT_S = 60.0  # real seconds
_POLL_S = 0.05
_WANDER_S, _WANDER_STEP_S = 100.0, 4  # period of the variation, and of its steps
_NAMES = tuple(kind.name for kind in KINDS)
_PHASE = re.compile(r"_[vi][1-3]$")  # at the end of a flag's name


@dataclass
class Run:
    """The outcome of one run; `false` is what was told of nothing."""

    profile: str
    matches: list[Match] = field(default_factory=list)
    false: list[Told] = field(default_factory=list)
    coverage: list[float] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Job:
    """A run of `count` events; none: a clean supply of `clean_s` rig seconds."""

    profile: str
    count: int
    seed: int
    clean_s: int = 0

    @property
    def steps(self) -> int:
        return self.count or self.clean_s


def run(job: Job, step: workers.Step = lambda: None) -> Run:
    """Do one job; `step` is called once per event, or per second of a clean supply."""
    profile = {**resources.profile(job.profile), "row_s": 1, "limits": {}}
    if job.profile in FLAGGING:
        profile["events"] = FLAG_AT
    if not job.count:
        return _clean(job, profile, step)
    return (_waveform if job.profile in CLAMPS else _flags)(job, profile, step)


def _waveform(job: Job, profile: Json, step: workers.Step) -> Run:
    """Events on the full bench, told over MQTT."""
    rng = random.Random(job.seed + 1)
    with Rig.virtual(1, profile, ideal=True, interval_s=1, seed=job.seed) as rig:
        node = rig.nodes[0]
        node.wait_event("accepted", _WAIT_S)
        console = _Console(rig.clock.now)
        node.on_line(console.hear)
        rig.clock.warp(RATE)
        begin = rig.clock.now()
        events = plan(job.count, _phases(profile), job.seed, begin + 5.0, _PAUSE_S)
        ahead, passed = list(events), 0
        kick = begin + rng.uniform(*KICK_S)
        while (now := rig.clock.now()) < events[-1].end + 3.0:
            while ahead and ahead[0].start < now + _AHEAD_S:
                ahead.pop(0).apply(node.circuit)
            if now > kick and node.link == "online":
                rig.broker.kick(node.thing)
                kick = now + rng.uniform(*KICK_S)
            while passed < len(events) and events[passed].end < now:
                passed += 1
                step()
            time.sleep(_POLL_S)
        rig.clock.warp(1)
        matches, false = match(events, console.told, connecting=console.connecting)
        return Run(job.profile, matches, false, console.coverage, events[-1].end - begin)


class _Console:
    """What a node on the bench prints, by rig time: events, times of connecting, coverage."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since: float | None = None
        self.told: list[Told] = []
        self.connecting: list[tuple[float, float]] = []
        self.coverage: list[float] = []

    def hear(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return  # a line that a restart has cut
        name, now = event.get("event"), self._now()
        if name in _NAMES:
            self.told.append(_supply_event(event, now))
        elif name == "report":
            self.coverage.append(event["reported"].get("coverage") or 0.0)
        elif name == "link" and event["state"] == "tls":
            self._since = now
        elif name == "connected" and self._since is not None:
            self.connecting.append((self._since, now))
            self._since = None


def _supply_event(event: Json, now: float) -> Told:
    """A supply event that was told just now, when the block in which it ended was over."""
    percent = event["maximum_percent" if event["event"] == "swell" else "residual_percent"]
    duration, uncertainty = event["duration_ms"], event["uncertainty_ms"]
    end = now - duration / 1000.0
    return Told(event["event"], end - 1.2, end + 0.2, percent, duration, uncertainty)


def _clean(job: Job, profile: Json, step: workers.Step) -> Run:
    """A supply that wanders slowly by ±8 %."""
    with Solo(profile, interval_s=1) as solo:
        begin = solo.clock.now() + 5.0
        for second in range(0, job.clean_s, _WANDER_STEP_S):
            share = VARIATION * math.sin(2 * math.pi * second / _WANDER_S)
            solo.circuit.set(voltage=NOMINAL * (1 + share), at=begin + second)
        solo.start()
        found = Run(job.profile, seconds=job.clean_s)
        for event, now in _timed(solo, begin + job.clean_s):
            if event["event"] == "report":
                found.coverage.append(event["reported"].get("coverage") or 0.0)
                step()
            elif event["event"] in (*_NAMES, "flag") and now > begin:
                found.false.append(Told(str(event.get("flag", event["event"])), now, now))
        return found


def _flags(job: Job, profile: Json, step: workers.Step) -> Run:
    """Events before a chip that only raises a flag: told on the console between two reports."""
    with Solo(profile, interval_s=1, seed=job.seed) as solo:
        first = solo.clock.now() + 8.0
        events = plan(job.count, _phases(profile), job.seed, first, _FLAG_PAUSE_S)
        for event in events:
            event.apply(solo.circuit)
        solo.start()
        told, coverage = [], []
        for heard, now in _timed(solo, math.ceil(events[-1].end + 3.0)):
            if heard["event"] == "report":
                coverage.append(heard["reported"].get("coverage") or 0.0)
                step()
            elif heard["event"] == "flag" and heard["raised"]:
                told.append(Told(_PHASE.sub("", heard["flag"]), now - 3.0, now + 2.0))
    matches, false = match(events, told, _flag_names)
    extra = [one for one in false if not _explained(one, events)]
    return Run(job.profile, matches, extra, coverage, events[-1].end - events[0].start)


def _timed(solo: Solo, until: float) -> Iterable[tuple[Json, float]]:
    """Console events with the time of the report before them."""
    now = 0.0
    for event in solo.events():
        if event["event"] == "report":
            now = event["reported"]["timestamp"]
        yield event, now
        if now >= until:
            return


def _flag_names(kind: Kind) -> tuple[str, ...]:
    """Flags that stand for an event; a chip names a condition, not an event."""
    return ("over_voltage",) if kind.name == "swell" else ("sag", "phase_loss")


def _explained(told: Told, events: Sequence[Injected]) -> bool:
    """Whether a flag is a further one of an event: of another phase, or of what it does besides."""
    names = ("sequence", "phase_loss", "over_current", "no_load")
    near = [event for event in events if told.since - 1.0 <= event.start <= told.until]
    return any(told.name in (*_flag_names(event.kind), *names) for event in near)


def _phases(profile: Json) -> int:
    """How many voltages there are: currents may share one."""
    return len(profile["meters"][0]["voltage"])
