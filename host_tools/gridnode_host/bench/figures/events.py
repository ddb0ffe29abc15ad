"""Supply events: what is put on the mains, and what the node tells of it.

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
from gridnode_host.bench.figures.front_ends import CLAMPS
from gridnode_host.bench.figures.tables import Table
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.rig import Rig
from gridnode_host.bench.solo import Solo

Json = dict[str, Any]

NOMINAL = 230.0
FREQUENCY = 50.0
FLAGGING = ("feeder-200a", "plug-ade7953")
EVENTS = 1000
FLAGS = 150
CLEAN_S = 1000
VARIATION = 0.08
FLAG_AT = {"dip": 78, "swell": 115}  # thresholds of the chips, % of the nominal voltage

DEPTH_LIMIT = 2.0  # % of the nominal voltage
DURATION_LIMIT_MS = 1000.0 / FREQUENCY
_SHARE_SLACK = 0.02  # that chance may leave between share and coverage

_RATE = 3  # rig seconds per second, of a bench with a network
_PAUSE_S = (1.6, 2.6)  # between the starts of two events
_FLAG_PAUSE_S = (12.0, 14.0)  # a flag that comes again within ten seconds is not told anew
_KICK_S = (8.0, 20.0)  # between two losses of the connection
_AHEAD_S = 20.0  # events are put on the mains so long before
_WAIT_S = 60.0  # real seconds
_POLL_S = 0.05
_PHASE = re.compile(r"_[vi][1-3]$")  # at the end of a flag's name
_CHUNK = 250  # events of one run


@dataclass(frozen=True)
class Kind:
    """An event: share of the voltage that is left, and how long."""

    name: str
    residual: float
    duration: float


KINDS = (
    Kind("dip", 0.4, 2 / FREQUENCY),
    Kind("swell", 1.2, 5 / FREQUENCY),
    Kind("interruption", 0.0, 0.3),
)
_NAMES = tuple(kind.name for kind in KINDS)


@dataclass(frozen=True)
class Injected:
    """An event on the mains; `phase` None means all."""

    kind: Kind
    start: float
    phase: int | None

    @property
    def end(self) -> float:
        return self.start + self.kind.duration

    def apply(self, circuit: Circuit) -> None:
        """Put it on the mains."""
        kind = self.kind
        circuit.event(
            kind.name, kind.residual, start=self.start, duration=kind.duration, phase=self.phase
        )


@dataclass(frozen=True)
class Told:
    """What a node told: it began between `since` and `until`. Flags have neither extreme nor length."""

    name: str
    since: float
    until: float
    percent: float | None = None
    duration_ms: float | None = None
    uncertainty_ms: float = 0.0


@dataclass(frozen=True)
class Match:
    """An injected event, what was told of it, and whether the node was connecting at that time."""

    injected: Injected
    told: Told | None
    connecting: bool = False

    @property
    def depth_error(self) -> float | None:
        """% of the nominal voltage."""
        if self.told is None or self.told.percent is None:
            return None
        return self.told.percent - 100.0 * self.injected.kind.residual

    @property
    def duration_error_ms(self) -> float | None:
        if self.told is None or self.told.duration_ms is None:
            return None
        return self.told.duration_ms - 1000.0 * self.injected.kind.duration

    @property
    def within(self) -> bool:
        """Whether depth and duration are as right as asked for, or as the node itself says."""
        if self.told is None:
            return False
        limit = DURATION_LIMIT_MS + self.told.uncertainty_ms
        depth, duration = self.depth_error or 0.0, self.duration_error_ms or 0.0
        return abs(depth) <= DEPTH_LIMIT and abs(duration) <= limit


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
    """A run of `count` events (0: a clean supply of `CLEAN_S` rig seconds)."""

    profile: str
    count: int
    seed: int
    clean_s: int = 0

    @property
    def steps(self) -> int:
        return self.count or self.clean_s


def jobs(events: int = EVENTS, flags: int = FLAGS, clean_s: int = CLEAN_S) -> list[Job]:
    """The whole campaign, the longest first."""
    found = []
    for profile in CLAMPS:
        sizes = [min(_CHUNK, events - done) for done in range(0, events, _CHUNK)]
        found += [Job(profile, size, seed) for seed, size in enumerate(sizes)]
    found += [Job(profile, 0, 0, clean_s) for profile in (*CLAMPS, *FLAGGING)]
    found += [Job(profile, flags, 0) for profile in FLAGGING]
    return found


def plan(
    count: int, phases: int, seed: int, begin: float, pause: tuple[float, float] = _PAUSE_S
) -> list[Injected]:
    """Events at random moments: interruptions of all phases, others of one or all."""
    rng = random.Random(seed)
    found, start = [], begin
    for _ in range(count):
        kind = rng.choice(KINDS)
        phase = rng.choice((None, *range(1, phases + 1))) if phases > 1 else None
        found.append(Injected(kind, start, None if kind.name == "interruption" else phase))
        start += rng.uniform(*pause)
    return found


def _phases(profile: Json) -> int:
    """How many voltages there are: currents may share one."""
    return len(profile["meters"][0]["voltage"])


def match(
    injected: Sequence[Injected],
    told: Iterable[Told],
    named: Callable[[Kind], Sequence[str]] = lambda kind: (kind.name,),
    connecting: Sequence[tuple[float, float]] = (),
) -> tuple[list[Match], list[Told]]:
    """Pair what was told with the first event at that time that bears one of its names."""
    open_ = list(injected)
    pairs: dict[int, Told] = {}
    false = []
    for one in told:
        for event in open_:
            if one.since <= event.start <= one.until and one.name in named(event.kind):
                pairs[id(event)] = one
                open_.remove(event)
                break
        else:
            false.append(one)
    matches = [
        Match(e, pairs.get(id(e)), any(a < e.end and e.start < b for a, b in connecting))
        for e in injected
    ]
    return matches, false


# -- runs --------------------------------------------------------------------------------------


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
        rig.clock.warp(_RATE)
        begin = rig.clock.now()
        events = plan(job.count, _phases(profile), job.seed, begin + 5.0)
        ahead, passed = list(events), 0
        kick = begin + rng.uniform(*_KICK_S)
        while (now := rig.clock.now()) < events[-1].end + 3.0:
            while ahead and ahead[0].start < now + _AHEAD_S:
                ahead.pop(0).apply(node.circuit)
            if now > kick and node.link == "online":
                rig.broker.kick(node.thing)
                kick = now + rng.uniform(*_KICK_S)
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
        for second in range(0, job.clean_s, 4):
            share = VARIATION * math.sin(2 * math.pi * second / 100.0)
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
                told.append(Told(_PHASE.sub("", heard["flag"]), now - 1.5, now + 1.0))
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


# -- the campaign ------------------------------------------------------------------------------


def campaign(
    progress: Callable[[int, int], None], work: Sequence[Job] | None = None
) -> list[tuple[Job, Run]]:
    """Run all jobs side by side."""
    work = jobs() if work is None else work
    steps = sum(job.steps for job in work)
    return list(zip(work, workers.run(run, work, steps, progress), strict=True))


def table(results: Sequence[tuple[Job, Run]]) -> Table:
    """The table of a campaign."""
    rows: list[Json] = []
    for profile in (*CLAMPS, *FLAGGING):
        runs = [run for job, run in results if job.profile == profile and job.count]
        rows += _told_rows(profile, runs) if runs else []
        clean = [run for job, run in results if job.profile == profile and not job.count]
        rows += [_clean_row(run) for run in clean]
    return Table(
        "events",
        "Supply events: what the node tells of what was put on the mains",
        [
            "Dips to 40 % for 2 cycles, swells to 120 % for 5 cycles, interruptions of 300 ms, at "
            "random phases and moments, on one or all phases (interruptions: all).",
            f"Clamps: the full bench with TLS at {_RATE} times real time, a report every second, "
            f"the broker drops the connection after {_KICK_S[0]:g} to {_KICK_S[1]:g} s. connecting: of "
            "them, those from opening TCP and TLS to the first answer of the shadow.",
            "The share found has to reach the coverage that the node reports (less "
            f"{_SHARE_SLACK:.0%} for chance); those found have to be within {DEPTH_LIMIT:g} % of the "
            f"nominal voltage and {DURATION_LIMIT_MS:g} ms; what the node says it cannot know (a "
            "duration's uncertainty, a depth left open) does not count against it.",
            f"Chips that only raise a flag (at {FLAG_AT['dip']} and {FLAG_AT['swell']} %): events "
            "for which `sag` or `phase_loss` (dips, interruptions) or `over_voltage` (swells) was told.",
            f"Clean: {CLEAN_S} s of supply that wanders by ±{VARIATION:.0%}; nothing may be told.",
        ],
        rows,
    )


def _told_rows(profile: str, runs: Sequence[Run]) -> list[Json]:
    coverage = [value for one in runs for value in one.coverage]
    mean = sum(coverage) / len(coverage)
    flags = profile in FLAGGING
    rows = []
    for kind in KINDS:
        matches = [m for one in runs for m in one.matches if m.injected.kind == kind]
        rows.append(_row(profile, kind.name, matches, mean, flags))
        if during := [m for m in matches if m.connecting]:
            row = _row(profile, f"{kind.name}, connecting", during, mean, flags)
            rows.append(
                {**row, "coverage": None, "ok": None if row["within"] in (None, 1.0) else False}
            )
    seconds = round(sum(one.seconds for one in runs))
    false = [told for one in runs for told in one.false]
    return [*rows, _false_row(profile, f"told of nothing in {seconds} s", false)]


def _row(profile: str, case: str, matches: Sequence[Match], coverage: float, flags: bool) -> Json:
    found = [m for m in matches if m.told]
    share = len(found) / len(matches) if matches else 0.0
    row: Json = {
        "front end": profile,
        "case": case,
        "events": len(matches),
        "found": len(found),
        "share": round(share, 3),
        "coverage": round(coverage, 3),
    }
    kept = True
    if not flags:
        depths = [abs(m.depth_error or 0.0) for m in found]
        lengths = [abs(m.duration_error_ms or 0.0) for m in found]
        within = [m.within for m in found]
        row["depth not known"] = sum(m.depth_error is None for m in found)
        row["depth error %"] = round(max(depths, default=0.0), 2)
        row["duration error ms"] = round(max(lengths, default=0.0), 1)
        row["within"] = round(sum(within) / len(within), 3) if within else None
        kept = all(within)
    row["ok"] = kept and share >= coverage - _SHARE_SLACK
    return row


def _clean_row(run: Run) -> Json:
    row = _false_row(run.profile, f"clean supply, {run.seconds:g} s", run.false)
    return {**row, "coverage": round(sum(run.coverage) / max(1, len(run.coverage)), 3)}


def _false_row(profile: str, case: str, false: Sequence[Told]) -> Json:
    """What was told without an event."""
    names = ", ".join(sorted({told.name for told in false}))
    told = {"front end": profile, "case": case, "found": len(false), "ok": not false}
    return {**told, "remark": names or None}
