"""Detectors side by side on the same streams: the node's own one, and those to compare with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gridnode_host import replay
from gridnode_host.bench.figures import workers
from gridnode_host.detection import baselines, nab, stream_file
from gridnode_host.detection.baselines import BASELINES, FORESTS
from gridnode_host.detection.score import score
from gridnode_host.detection.stream_file import Scores, Stream
from gridnode_host.errors import Exit, GridnodeError

NODE = "node"
DETECTORS = (NODE, *BASELINES)

SEED = ("seed", "seed_contaminated", "seed_fleet")
HARD = (
    "s_spike",
    "s_level_shift",
    "s_persistent",
    "s_drift",
    "s_period",
    "s_stuck",
    "s_ct_saturation",
    "s_disconnected",
    "s_noise_burst",
    "s_joint",
    "sku_200",
    "t_faults",
)
"""Streams whose means are judged."""
CLEAN = ("s_clean", "s_benign", "t_clean", "sku_500")
"""Streams of four days in which every alarm is false."""

_FIRST_SEED = 500
_WINDOWS = "windows.json"
_ROW_COST_S = {NODE: 1e-3, "hst_frozen": 1e-4, "hst_cont": 1e-4}  # roughly, of this order
_TREE_COST_S = 2e-4

Figures = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is drawn: streams of each kind, and trees of a random cut forest."""

    seeds: int
    hard: int
    clean: int
    trees: int


FULL = Effort(seeds=21, hard=3, clean=20, trees=40)
BRIEF = Effort(seeds=3, hard=1, clean=3, trees=4)


@dataclass(frozen=True)
class Job:
    """A detector on one stream; `file` is a Numenta one, else the stream is drawn."""

    kind: str
    seed: int
    detector: str
    trees: int
    file: Path | None = None

    def stream(self) -> Stream:
        """The stream, always the same."""
        if self.file is None:
            from gridnode_host.detection import streams

            return streams.make(self.kind, self.seed)
        windows = json.loads(self.file.with_name(_WINDOWS).read_text())
        with self.file.open() as file:
            rows = sum(1 for line in file if line.strip()) - 1
        return stream_file.read_nab(self.file, windows, nab.probation(rows))


@dataclass
class Results:
    """Figures per kind of stream and detector, one entry per draw."""

    found: dict[tuple[str, str], list[Figures]] = field(default_factory=dict)

    def add(self, job: Job, figures: Figures) -> None:
        self.found.setdefault((job.kind, job.detector), []).append(figures)

    def draws(self, kind: str, detector: str) -> list[Figures]:
        return self.found.get((kind, detector), [])

    def mean(self, kind: str, detector: str, figure: str) -> float:
        """Mean over the draws that have the figure; NaN if none has."""
        values = [draw.get(figure, math.nan) for draw in self.draws(kind, detector)]
        values = [value for value in values if not math.isnan(value)]
        return sum(values) / len(values) if values else math.nan

    def total(self, kind: str, detector: str, figure: str) -> float:
        """Sum over the draws; NaN if a draw lacks the figure or there is none."""
        values = [draw.get(figure, math.nan) for draw in self.draws(kind, detector)]
        return sum(values) if values else math.nan

    @property
    def detectors(self) -> list[str]:
        """Those that were run, in the order of the tables."""
        run = {detector for _, detector in self.found}
        return [name for name in DETECTORS if name in run]

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(kind for kind, _ in self.found))


def jobs(
    effort: Effort, folder: Path | None = None, detectors: Sequence[str] = DETECTORS
) -> list[Job]:
    """Everything to do; a random cut forest sees one draw of each kind."""
    for detector in detectors:
        if detector not in DETECTORS:
            raise GridnodeError(
                "compare detectors",
                f"there is no {detector!r}",
                "Take one of " + ", ".join(DETECTORS) + ".",
                Exit.USAGE,
            )
    draws = dict.fromkeys(SEED, effort.seeds) | {"seed_fleet": effort.hard}
    draws |= dict.fromkeys(HARD, effort.hard) | dict.fromkeys(CLEAN, effort.clean)
    found = [
        Job(kind, _FIRST_SEED + k, detector, effort.trees)
        for kind, count in draws.items()
        for detector in dict.fromkeys(detectors)
        for k in range(1 if detector in FORESTS else count)
    ]
    return found + [
        Job(file.stem, 0, detector, effort.trees, file)
        for file in _nab_files(folder)
        for detector in detectors
    ]


def _nab_files(folder: Path | None) -> list[Path]:
    """The files of the folder that have an entry in its windows."""
    if folder is None:
        return []
    try:
        names = {Path(key).name for key in json.loads((folder / _WINDOWS).read_text())}
    except (OSError, ValueError) as err:
        raise GridnodeError(
            "read the Numenta files",
            f"{folder / _WINDOWS}: {err}",
            'The folder holds *.csv and windows.json: {"file.csv": [[start, end], ..]}.',
            Exit.USAGE,
        ) from err
    return sorted(path for path in folder.glob("*.csv") if path.name in names)


def judged(detector: str, stream: Stream, trees: int) -> Scores:
    """What a detector says about a stream."""
    if detector != NODE:
        return baselines.run(detector, stream, trees)
    return replay.scores(stream)


def measure(job: Job, step: Callable[[], None] = lambda: None) -> Figures:
    """Let a detector judge a stream, and score it."""
    stream = job.stream()
    figures = score(stream, judged(job.detector, stream, job.trees))
    step()
    return figures


def campaign(progress: Callable[[int, int], None], work: Sequence[Job]) -> Results:
    """Do all jobs side by side, those that take longest first; results in the order of `work`."""
    queue = sorted(work, key=_cost, reverse=True)
    told = dict(zip(queue, workers.run(measure, queue, len(queue), progress), strict=True))
    results = Results()
    for job in work:
        results.add(job, told[job])
    return results


def _cost(job: Job) -> float:
    """Roughly what a row takes, s."""
    if job.detector in FORESTS:
        return job.trees * _TREE_COST_S
    return _ROW_COST_S.get(job.detector, 0.0)
