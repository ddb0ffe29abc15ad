"""Accuracy against truth: real nodes on the bench physics, jobs side by side in processes.

Each job is a bench of its own with one node, on warped time. A process each, since sampling the
physics for one node keeps a core busy.
"""

from __future__ import annotations

import copyreg
import json
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from gridnode_host import resources
from gridnode_host.bench.figures.points import LOADS, READINGS, Json, Point, Result, points, room
from gridnode_host.bench.figures.tables import Table
from gridnode_host.bench.rig import Rig, RigNode
from gridnode_host.errors import GridnodeError

PROFILES = ("home-60a-ct", "feeder-200a")

_RATE = {"ct": 12, "atm90e32": 16}
_COVERAGE = 0.6  # a row that has seen less does not count, and time is slowed down
_PATIENCE = 5  # rows between two looks at the rate
_SETTLE_S = 1.0  # rig seconds from a change of load to the first row that counts
_SILENCE_S = 60.0  # real seconds


@dataclass(frozen=True)
class Job:
    """Points that one node measures with rows and reports of `row_s` seconds."""

    profile: str
    row_s: int
    rate: int
    points: tuple[Point, ...]


def jobs(readings: int = READINGS) -> list[Job]:
    """The whole campaign, the longest job first."""
    found = []
    for name in PROFILES:
        profile = resources.profile(name)
        driver = profile["meters"][0]["driver"]
        groups: dict[tuple[int, str], list[Point]] = {}
        for point in points(profile, readings):
            row_s = _row_s(driver, point)
            group = point.load.name if row_s > 1 else ""  # long ones share the work
            groups.setdefault((row_s, group), []).append(point)
        found += [
            Job(name, row_s, _RATE[driver], tuple(chosen)) for (row_s, _), chosen in groups.items()
        ]
    return sorted(found, key=lambda j: -j.row_s * len(j.points) / j.rate)


def _row_s(driver: str, point: Point) -> int:
    """Length of a reading in s: long where the converter's noise asks for the average.

    At 5 % of 60 A a block of 200 ms has a spread of 0.3 % from 5 mV of noise on 33 mV.
    """
    if driver != "ct" or point.load.harmonics or point.share > 10:
        return 1
    return 10 if point.share <= 5 else 2


def measure(job: Job, step: Callable[[], None], **rig: Any) -> list[Result]:
    """Run a job on a bench of its own; `step` is called once per reading and may raise.

    `rig` overrides settings of the bench. Raises TimeoutError when the node falls silent.
    """
    profile = {**resources.profile(job.profile), "row_s": job.row_s, "limits": {}}
    settings: Json = {"ideal": True, "interval_s": job.row_s, **rig}
    with Rig.virtual(nodes=1, profile=profile, **settings) as bench:
        node = bench.nodes[0]
        reports: queue.SimpleQueue[Json] = queue.SimpleQueue()
        node.on_line(lambda line: _collect(line, reports))
        pace = _Pace(bench, job.rate)
        try:
            return [
                _at(point, bench, node, job.row_s, pace, reports, step) for point in job.points
            ]
        finally:
            bench.clock.warp(1)


def _collect(line: str, reports: queue.SimpleQueue[Json]) -> None:
    if '"event":"report"' in line:
        try:
            reports.put(json.loads(line)["reported"])
        except (ValueError, KeyError):
            pass  # a line that a restart has cut


class _Pace:
    """The rate of rig time: as fast as this machine keeps up with."""

    def __init__(self, bench: Rig, rate: int) -> None:
        self._clock = bench.clock
        self._rate = rate
        self._rows = 0
        self._clock.warp(rate)

    def judge(self, coverage: float) -> bool:
        """Whether a row with this coverage counts; slows down when rows have missed too much."""
        self._rows += 1
        if coverage >= _COVERAGE or self._rate == 1:
            return True
        if self._rows >= _PATIENCE:
            self._rows = 0
            self._rate = max(1, self._rate * 3 // 4)
            self._clock.warp(self._rate)
        return False


def _at(
    point: Point,
    bench: Rig,
    node: RigNode,
    row_s: int,
    pace: _Pace,
    reports: queue.SimpleQueue[Json],
    step: Callable[[], None],
) -> Result:
    point.apply(node.circuit, node.rating)
    since = bench.clock.now() + _SETTLE_S
    truth = node.circuit.truth()
    result = Result(point)
    while result.readings < point.readings:
        try:
            reported = reports.get(timeout=_SILENCE_S)
        except queue.Empty:
            raise TimeoutError(f"{node.profile_name} has not reported for a minute") from None
        if reported["timestamp"] - row_s < since:
            continue
        if pace.judge(reported.get("coverage") or 0.0):
            result.add(reported, truth)
            step()
    return result


# -- side by side ------------------------------------------------------------------------------

_shared: dict[str, Any] = {}

# an error with fields of its own crosses from a worker with all of them
copyreg.pickle(GridnodeError, lambda e: (GridnodeError, (e.step, e.cause, e.action, e.exit)))


def _adopt(done: Any, stop: Any) -> None:
    """Initialise a worker; the parent passes a Ctrl-C on, so that benches are cleared away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _shared.update(done=done, stop=stop, parent=os.getppid())


def _work(job: Job) -> list[Result]:
    def orphan() -> bool:
        return bool(os.getppid() != _shared["parent"])

    def step() -> None:
        if _shared["stop"].is_set() or orphan():
            raise InterruptedError("stopped")
        _shared["done"].put(1)

    try:
        return measure(job, step)
    except InterruptedError:
        if orphan():
            os._exit(1)  # the bench is cleared away, and nobody waits for an answer
        raise


def campaign(
    progress: Callable[[int, int], None], work: Sequence[Job] | None = None
) -> list[tuple[Job, Result]]:
    """Run all jobs, as many at a time as there are processors; results in the order of points."""
    work = jobs() if work is None else work
    total = sum(point.readings for job in work for point in job.points)
    context = multiprocessing.get_context("spawn")
    done, stop = context.Queue(), context.Event()
    workers = min(len(work), os.cpu_count() or 1)
    count = told = 0
    with ProcessPoolExecutor(workers, context, _adopt, (done, stop)) as pool:
        running = [pool.submit(_work, job) for job in work]
        try:
            while not all(one.done() for one in running):
                if any(one.done() and one.exception() for one in running):
                    break
                time.sleep(0.2)
                while not done.empty():
                    count += done.get()
                if 100 * count // total > told:
                    told = 100 * count // total
                    progress(count, total)
        finally:
            stop.set()
            for one in running:
                one.cancel()
        failed = [one.exception() for one in running if not one.cancelled()]
        for error in failed:
            if error is not None and not isinstance(error, InterruptedError):
                raise error
        results = [one.result() for one in running]
    pairs = [(job, r) for job, found in zip(work, results, strict=True) for r in found]
    return sorted(pairs, key=lambda pair: _place(*pair))


def _place(job: Job, result: Result) -> tuple[float, ...]:
    """Place in the table: front end, frequency apart, share, load."""
    point = result.point
    front_end = PROFILES.index(job.profile)
    return front_end, point.frequency != 50.0, point.share, LOADS.index(point.load)


def table(results: Sequence[tuple[Job, Result]]) -> Table:
    """The table of a campaign."""
    rows = []
    for job, result in results:
        rating = float(resources.profile(job.profile)["rating"]["current"])
        rows.append(result.row(job.profile, rating, job.row_s))
    rooms = ", ".join(f"{name} {room(resources.profile(name)):.0f} A" for name in PROFILES)
    return Table(
        "accuracy",
        "Accuracy against truth: worst of the readings (limits V/I/P/f)",
        [
            "Real firmware in the VM on the bench physics, parts at their design values, exact "
            "calibration, converter noise 5 mV rms; alarms off.",
            "A reading is one report over one row: 10 s (the default) for the clamp with a sine at "
            "5 %, 2 s at 10 %, else 1 s, harder than the default. Three phases: the worst of the "
            "phases and the totals.",
            "cover: smallest share of the mains cycles that a reading has seen, under warp. One that has "
            f"seen less than {_COVERAGE} does not count, whatever it reads, and time is slowed down.",
            f"Pulses: capacitor-input supply scaled to THD 100 %, odd harmonics to the 21st. Peaks "
            f"that fit: {rooms}; where pulses do not, the point is saturated and the shape "
            f"with the lowest peak (fundamental + equal 3rd) stands in.",
        ],
        rows,
    )
