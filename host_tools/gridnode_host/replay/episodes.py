"""Alarms as people count them: from the row that raises one to the last before it is cleared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from gridnode_host.detection.curves import stretches
from gridnode_host.detection.stream_file import Texts
from gridnode_host.replay.judge import Judgement

__all__ = ["Episode", "episodes", "readable"]


@dataclass(frozen=True)
class Episode:
    """One alarm; `start` and `end` are timestamps as recorded, of its first and last row."""

    first: int
    last: int
    start: str
    end: str
    kind: str
    diagnosis: str  # of its most urgent rows
    priority: int  # theirs, 0: none
    signals: list[str]  # the guilty ones, the worst first
    sentence: str

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


def episodes(judgement: Judgement, timestamps: list[str]) -> list[Episode]:
    """Every alarm of a run, in order."""
    found = []
    for first, last in stretches(judgement.alarm):
        rows = slice(first, last + 1)
        told = judgement.priority[rows]
        priority = int(told[told > 0].min()) if told.any() else 0
        guilty = np.logical_or.reduce(judgement.alarms[rows], axis=0)
        worst = np.argsort(-judgement.grades[rows].max(axis=0), kind="stable")
        found.append(
            Episode(
                first,
                last,
                timestamps[first],
                timestamps[last],
                _usual(judgement.kind[rows]),
                _usual(judgement.diagnosis[rows][told == priority]),
                priority,
                [judgement.names[k] for k in worst if guilty[k]],
                judgement.sentences.get(first, ""),
            )
        )
    return found


def _usual(texts: Texts) -> str:
    """The most frequent one that is not empty."""
    told = Counter(text for text in texts if text).most_common(1)
    return told[0][0] if told else ""
