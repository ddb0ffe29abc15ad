"""Accuracy against truth: the real firmware of a node on the bench physics, for each front end.

Each job is a node of its own on a clock that it steps itself; jobs run side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gridnode_host.bench.figures import front_ends, workers
from gridnode_host.bench.figures.front_ends import FRONT_ENDS, FrontEnd
from gridnode_host.bench.figures.judge import Result
from gridnode_host.bench.figures.loads import LOADS
from gridnode_host.bench.figures.points import READINGS, Point, points
from gridnode_host.bench.figures.tables import Table
from gridnode_host.bench.solo import Solo

_FIRST_S = 6.0  # from a node's start to the first point
_TAIL_S = 0.5  # the block in which a row ends belongs to it


@dataclass(frozen=True)
class Job:
    """Points that one node measures with rows and reports of `row_s` seconds."""

    profile: str
    row_s: int
    points: tuple[Point, ...]

    @property
    def length_s(self) -> float:
        """Node seconds that it takes."""
        return self.row_s * sum(point.readings for point in self.points)


def jobs(readings: int = READINGS, chosen: Sequence[FrontEnd] = FRONT_ENDS) -> list[Job]:
    """The whole campaign, the longest job first."""
    found = []
    for front_end in chosen:
        groups: dict[tuple[int, str], list[Point]] = {}
        for point in points(front_end, readings):
            row_s = _row_s(front_end, point)
            group = point.load.name if row_s > 2 else ""  # long ones share the work
            groups.setdefault((row_s, group), []).append(point)
        found += [Job(front_end.profile, row_s, tuple(g)) for (row_s, _), g in groups.items()]
    return sorted(found, key=lambda job: -job.length_s / front_ends.find(job.profile).speed)


def _row_s(front_end: FrontEnd, point: Point) -> int:
    """Length of a reading in s: long where the converter's noise asks for the average.

    At 5 % of 60 A a block of 200 ms has a spread of 0.3 % from 5 mV of noise on 33 mV.
    """
    if not front_end.clamps or point.share > 20:
        return front_end.period_s
    if point.share <= 5:
        return 10
    return front_end.clamps * (2 if point.share <= 10 else 1)


def measure(job: Job, step: Callable[[], None] = lambda: None, *, seed: int = 0) -> list[Result]:
    """Run a job on a node of its own; `step` is called once per reading and may raise.

    Everything is laid out in rig time before the node starts. Raises TimeoutError when the node
    falls silent.
    """
    front_end = front_ends.find(job.profile)
    profile = {**front_end.resolved(), "row_s": job.row_s, "limits": {}}
    rating, row_s = float(profile["rating"]["current"]), job.row_s
    with Solo(profile, interval_s=row_s, seed=seed) as solo:
        found: list[Result] = []
        results: dict[float, Result] = {}  # by the rig time at which a report ends
        begin = solo.clock.now() + _FIRST_S
        for point in job.points:
            point.apply(solo.circuit, rating, begin)
            first = row_s * math.ceil((begin + front_end.settle_s) / row_s)
            result = Result(front_end, point, solo.circuit.truth(first))
            ends = [first + row_s * (k + 1) for k in range(point.readings)]
            results.update((end, result) for end in ends)
            found.append(result)
            begin = ends[-1] + _TAIL_S
        solo.start()
        for reported in solo.reports(ends[-1]):
            end = reported["timestamp"]
            if end in results:  # a second one of that time comes out of turn
                results.pop(end).add(reported)
                step()
    return found


def campaign(
    progress: Callable[[int, int], None], work: Sequence[Job] | None = None
) -> list[tuple[Job, Result]]:
    """Run all jobs side by side; results in the order of the table."""
    work = jobs() if work is None else work
    total = sum(point.readings for job in work for point in job.points)
    found = workers.run(measure, work, total, progress)
    pairs = [(job, r) for job, results in zip(work, found, strict=True) for r in results]
    return sorted(pairs, key=lambda pair: _place(pair[1]))


def _place(result: Result) -> tuple[float, ...]:
    """Place in the table: front end, frequency apart, load, share."""
    point = result.point
    front_end = FRONT_ENDS.index(result.front_end)
    return front_end, point.frequency != 50.0, LOADS.index(point.load), point.share


def table(results: Sequence[tuple[Job, Result]]) -> Table:
    """The table of a campaign."""
    rows = []
    for job, result in results:
        rating = float(result.front_end.resolved()["rating"]["current"])
        rows.append(result.row(rating, job.row_s))
    sources = [f"{f.profile}: {f.source}." for f in FRONT_ENDS if f.source]
    return Table(
        "accuracy",
        "Accuracy against truth: worst error of the readings of each point, and its limit",
        [
            "Real firmware in the VM on the bench physics, parts at their design values, exact "
            "calibration, converter noise 5 mV rms; alarms off; 230 V.",
            "A reading is one report over one row. Clamps: 10 s (the default) up to 5 % of the "
            "rated current, at 10 % 2 s, at 20 % 1 s for each clamp, else 1 s. Three phases: the "
            "worst of the phases and the totals. Harmonics in % of the fundamental.",
            "Limits of I and P from 5 % of the rated current on. Where the resolution of a device "
            "is coarser, it is the limit. Sources: " + " ".join(sources),
        ],
        rows,
    )
