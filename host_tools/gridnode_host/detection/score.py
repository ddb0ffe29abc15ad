"""What a detector's alarms and grades are worth on a labelled stream.

Nothing is adjusted: a row is found only if its own alarm is set. Rows in which the detector may
still learn, and those that nobody labelled, do not count. A share of nothing is NaN.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridnode_host.detection.curves import auc_pr, stretches, vus_pr
from gridnode_host.detection.nab import nab
from gridnode_host.detection.stream_file import Flags, Floats, Scores, Stream, Texts

__all__ = ["GRACE", "URGENT", "score"]

GRACE = 1
"""Rows after the end of an event in which an alarm still finds it."""
URGENT = 2
"""Largest number of a priority that somebody is woken for."""

_DAY_S = 86400.0
_TENTHS = 10
_LONGEST = 100  # rows of the widest buffer of the volume

Figures = dict[str, Any]


@dataclass(frozen=True)
class _Event:
    """A stretch of anomalous rows; `end` is behind the last one that still counts."""

    first: int
    last: int
    end: int
    wait: int | None  # rows until the first alarm; None: missed


def score(stream: Stream, told: Scores, longest: int | None = None) -> Figures:
    """All figures of a stream, by name; `longest` is the widest buffer of the volume in rows.

    Raises ValueError if no row counts.
    """
    keep = ~(stream.train | stream.unscored)
    if not keep.any():
        raise ValueError(f"{stream.name}: no row to score")
    t, label = stream.t[keep], stream.label[keep]
    grade, alarm = told.grade[keep], told.alarm[keep]
    step = float(np.median(np.diff(t))) if len(t) > 1 else math.nan
    days = len(t) * step / _DAY_S
    events = _events(label, alarm)
    figures: Figures = {
        "stream": stream.name,
        "rows": len(t),
        "days": days,
        "missing_rows": told.missing,
        "anomalous_share": float(label.mean()),
        "alarm_share": float(alarm.mean()),
        **_rows(label, alarm),
        "false_positive_rate": _share(alarm, ~label),
        "auc_pr": auc_pr(label, grade),
        **_found(events, step),
        **_episodes(events, alarm, days, None if told.priority is None else told.priority[keep]),
        **_tenths(label, alarm, grade),
    }
    if longest is None:
        lengths = [event.last - event.first + 1 for event in events]
        longest = int(min(_LONGEST, 2 * np.median(lengths))) if events else 0
    figures.update(vus_window=longest, vus_pr=vus_pr(label, grade, longest))
    figures.update(_signals(stream, told, keep))
    diagnosis = None if told.diagnosis is None else told.diagnosis[keep]
    figures.update(_faults(stream.fault[keep], alarm, diagnosis, events))
    if stream.windows is not None:
        onset = told.alarm.copy()
        onset[1:] &= ~told.alarm[:-1]
        figures["nab_raw"], figures["nab"] = nab(onset, stream.windows)
    return figures


def _part(count: float, whole: float) -> float:
    return float(count / whole) if whole else math.nan


def _share(flags: Flags, of: Flags) -> float:
    """Share of the rows `of` in which the flag is set."""
    return _part(int((flags & of).sum()), int(of.sum()))


def _rows(label: Flags, alarm: Flags) -> Figures:
    right = int((label & alarm).sum())
    return {
        "recall": _share(alarm, label),
        "precision": _share(label, alarm),
        "f1": _part(2 * right, int(label.sum()) + int(alarm.sum())),
    }


def _events(label: Flags, alarm: Flags) -> list[_Event]:
    events = []
    for first, last in stretches(label):
        end = min(last + GRACE + 1, len(label))
        hits = np.flatnonzero(alarm[first:end])
        events.append(_Event(first, last, end, int(hits[0]) if len(hits) else None))
    return events


def _found(events: Sequence[_Event], step: float) -> Figures:
    """How many events were found, and after how many seconds."""
    waits = [event.wait for event in events if event.wait is not None]
    return {
        "events": len(events),
        "event_recall": _part(len(waits), len(events)),
        "delay_median_s": float(np.median(waits)) * step if waits else math.nan,
        "delay_p90_s": float(np.percentile(waits, 90)) * step if waits else math.nan,
    }


def _episodes(
    events: Sequence[_Event], alarm: Flags, days: float, priority: Floats | None
) -> Figures:
    """Alarms as people meet them: one from its onset to its end; false if it touches no event."""
    near = np.zeros(len(alarm), dtype=bool)
    for event in events:
        near[event.first : event.end] = True
    episodes = stretches(alarm)
    false = [(a, b) for a, b in episodes if not near[a : b + 1].any()]
    precision = _part(len(episodes) - len(false), len(episodes))
    recall = _part(sum(event.wait is not None for event in events), len(events))
    f1 = math.nan
    if events:
        f1 = 2 * precision * recall / (precision + recall) if recall and precision > 0 else 0.0
    figures: Figures = {
        "event_precision": precision,
        "event_f1": f1,
        "false_alarms": len(false),
        "false_alarms_per_day": _part(len(false), days),
    }
    if priority is not None:
        urgent = priority <= URGENT
        figures["urgent_false_alarms"] = sum(bool(urgent[a : b + 1].any()) for a, b in false)
    return figures


def _tenths(label: Flags, alarm: Flags, grade: Floats) -> Figures:
    """Whether the detector gets used to it: recall and grade over the anomalous rows."""
    rows = np.flatnonzero(label)
    if len(rows) < 2 * _TENTHS:
        return {}
    parts = np.array_split(rows, _TENTHS)
    recall = [float(alarm[part].mean()) for part in parts]
    return {
        "recall_by_tenth": recall,
        "grade_by_tenth": [float(grade[part].mean()) for part in parts],
        "recall_first_tenth": recall[0],
        "recall_last_tenth": recall[-1],
        "retention": _part(recall[-1], recall[0]),
    }


def _signals(stream: Stream, told: Scores, keep: Flags) -> Figures:
    """Figures per signal, and how often the loudest one is guilty."""
    names = [name for name in stream.by_signal if name in told.grades]
    if not names:
        return {}
    truth = np.array([stream.by_signal[name][keep] for name in names])
    grades = np.array([told.grades[name][keep] for name in names])
    each: dict[str, Figures] = {}
    for name, known, grade in zip(names, truth, grades, strict=True):
        scored = ~np.isnan(known)
        label, alarm = known[scored] > 0.5, told.alarms[name][keep][scored]
        each[name] = {
            "recall": _share(alarm, label),
            "precision": _share(label, alarm),
            "auc_pr": auc_pr(label, grade[scored]),
        }
    areas = [one["auc_pr"] for one in each.values() if not math.isnan(one["auc_pr"])]
    guilty = truth > 0.5
    rows = stream.label[keep] & told.alarm[keep] & guilty.any(axis=0)
    loudest = grades.argmax(axis=0)[None]
    forgiven = np.take_along_axis(guilty | np.isnan(truth), loudest, axis=0)[0]
    return {
        "signals": each,
        "signal_auc_pr_mean": float(np.mean(areas)) if areas else math.nan,
        "attribution": _share(forgiven, rows),
    }


def _faults(
    fault: Texts, alarm: Flags, diagnosis: Texts | None, events: Sequence[_Event]
) -> Figures:
    """Figures per kind of fault; the diagnosis of an event is what it was called most often."""
    kinds = sorted({kind for kind in fault if kind})
    if not kinds:
        return {}
    happened = Counter(fault[event.first] for event in events)
    found = Counter(fault[event.first] for event in events if event.wait is not None)
    figures: Figures = {
        "event_recall_by_class": {kind: _part(found[kind], happened[kind]) for kind in kinds},
        "recall_by_class": {kind: float(alarm[fault == kind].mean()) for kind in kinds},
    }
    if diagnosis is not None:
        pairs: Counter[tuple[str, str]] = Counter()
        for event in events:
            named = Counter(name for name in diagnosis[event.first : event.end] if name)
            top = named.most_common(1)[0][0] if named else "(none)"
            pairs[fault[event.first], top] += 1
        right = sum(count for (kind, top), count in pairs.items() if kind == top)
        figures["diagnosis_accuracy"] = _part(right, len(events))
        figures["diagnosis_table"] = {f"{kind} -> {top}": n for (kind, top), n in pairs.items()}
    return figures
