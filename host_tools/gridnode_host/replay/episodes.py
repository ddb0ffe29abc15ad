"""Alarms as people count them: from the row that raises one to the last before it is cleared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from gridnode_host.detection.curves import stretches
from gridnode_host.replay.judge import Judgement
from gridnode_host.replay.recording import Recording

__all__ = ["Episode", "episodes", "readable", "summary"]

_NO_PRIORITY = 255  # behind every other


@dataclass(frozen=True)
class Episode:
    """One alarm; `start` and `end` are timestamps as recorded, of its first and last row.

    What it is called (`kind`, `diagnosis`, `priority`, `sentence`) is all of one row, `at`: the
    first of those with its most urgent priority.
    """

    first: int
    last: int
    start: str
    end: str
    duration_s: float  # from its first row to the end of its last
    at: str
    kind: str
    diagnosis: str
    priority: int  # 0: none
    sentence: str
    signals: list[str]  # the guilty ones of all its rows, the worst first

    @property
    def rows(self) -> int:
        """How many rows it lasts."""
        return self.last - self.first + 1


def readable(timestamp: str) -> str:
    """A recorded time as a person reads it: epoch seconds as a date, UTC."""
    try:
        told = datetime.fromtimestamp(float(timestamp), UTC)
    except (ValueError, OverflowError, OSError):
        return timestamp
    return told.replace(tzinfo=None).isoformat(" ", "seconds") + "Z"


def episodes(judgement: Judgement, recording: Recording) -> list[Episode]:
    """Every alarm of a run, in order."""
    urgency = np.where(judgement.priority > 0, judgement.priority, _NO_PRIORITY)
    t, stamps, interval_s = recording.stream.t, recording.timestamps, recording.interval_s
    found = []
    for first, last in stretches(judgement.alarm):
        rows = slice(first, last + 1)
        at = first + int(urgency[rows].argmin())
        guilty = np.logical_or.reduce(judgement.alarms[rows], axis=0)
        worst = np.argsort(-judgement.grades[rows].max(axis=0), kind="stable")
        found.append(
            Episode(
                first,
                last,
                stamps[first],
                stamps[last],
                round(max(0.0, float(t[last] - t[first])) + interval_s, 3),  # a clock may go back
                stamps[at],
                judgement.kind[at],
                judgement.diagnosis[at],
                int(judgement.priority[at]),
                judgement.sentences.get(at, ""),
                [judgement.names[k] for k in worst if guilty[k]],
            )
        )
    return found


def summary(alarms: Sequence[Episode]) -> list[dict[str, str]]:
    """A line per diagnosis and priority, the most urgent and then the longest first."""
    groups: dict[tuple[int, str], list[Episode]] = {}
    for one in alarms:
        name = one.diagnosis or one.kind or "alarm"
        groups.setdefault((one.priority or _NO_PRIORITY, name), []).append(one)
    lasting = {key: sum(one.duration_s for one in group) for key, group in groups.items()}
    return [
        {
            "priority": str(group[0].priority or ""),
            "diagnosis": key[1],
            "alarms": str(len(group)),
            "in alarm": _lasting(lasting[key]),
            "first": readable(group[0].start),
        }
        for key, group in sorted(groups.items(), key=lambda item: (item[0][0], -lasting[item[0]]))
    ]


def _lasting(seconds: float) -> str:
    """A time as a person reads it, to three digits or so: 40 s, 12 min, 3.5 h, 2.1 d."""
    for size, unit, most in ((1, "s", 120), (60, "min", 120), (3600, "h", 48)):
        if seconds < most * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:.1f} d"
