"""The campaign of supply events: what is put on the mains, and what the nodes tell of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gridnode_host.bench.figures import event_runs, workers
from gridnode_host.bench.figures.event_matching import (
    DEPTH_LIMIT,
    DURATION_LIMIT_MS,
    KINDS,
    Match,
    Told,
)
from gridnode_host.bench.figures.event_runs import (
    FLAG_AT,
    FLAGGING,
    KICK_S,
    RATE,
    VARIATION,
    Job,
    Run,
)
from gridnode_host.bench.figures.front_ends import CLAMPS
from gridnode_host.bench.figures.tables import Table

Json = dict[str, Any]

EVENTS = 1000  # of each front end that sees the waveform
FLAGS = 150  # events of each chip that flags
CLEAN_S = 1000

_CHUNK = 250  # events of one run
_SHARE_SLACK = 0.02  # that chance may leave between share and coverage


def jobs(events: int = EVENTS, flags: int = FLAGS, clean_s: int = CLEAN_S) -> list[Job]:
    """The whole campaign, the longest first."""
    found = []
    for profile in CLAMPS:
        sizes = [min(_CHUNK, events - done) for done in range(0, events, _CHUNK)]
        found += [Job(profile, size, seed) for seed, size in enumerate(sizes)]
    found += [Job(profile, 0, 0, clean_s) for profile in (*CLAMPS, *FLAGGING)]
    found += [Job(profile, flags, 0) for profile in FLAGGING]
    return found


def campaign(
    progress: Callable[[int, int], None], work: Sequence[Job] | None = None
) -> list[tuple[Job, Run]]:
    """Run all jobs side by side."""
    work = jobs() if work is None else work
    steps = sum(job.steps for job in work)
    return list(zip(work, workers.run(event_runs.run, work, steps, progress), strict=True))


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
            f"Clamps: the full bench with TLS at {RATE} times real time, a report every second, "
            f"the broker drops the connection after {KICK_S[0]:g} to {KICK_S[1]:g} s. connecting: of "
            "them, those from opening TCP and TLS to the first answer of the shadow.",
            "The share found has to reach the coverage that the node reports (less "
            f"{_SHARE_SLACK:.0%} for chance); those found have to be within {DEPTH_LIMIT:g} % of the "
            f"nominal voltage and {DURATION_LIMIT_MS:g} ms; what the node says it cannot know, since it "
            "saw a part only (depth open; uncertain: told with an uncertainty of the duration, which is "
            "added to the limit), does not count against it.",
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
        sure = [m for m in found if m.told and not m.told.uncertainty_ms]
        lengths = [abs(m.duration_error_ms or 0.0) for m in sure]
        within = [m.within for m in found]
        row["depth open"] = sum(m.depth_error is None for m in found)
        row["depth error %"] = round(max(depths, default=0.0), 2)
        row["uncertain"] = len(found) - len(sure)
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
