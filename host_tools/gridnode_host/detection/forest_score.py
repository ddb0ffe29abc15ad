"""What a forest's file is worth on streams that it has not learnt from, in the node's VM."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gridnode_host.detection import node_rows
from gridnode_host.detection.curves import stretches
from gridnode_host.detection.forest_file import NOTHING
from gridnode_host.detection.phase_truth import View, views
from gridnode_host.detection.stream_file import Flags, Stream, Texts

__all__ = ["Score", "score"]

_DAY_S = 86400.0


@dataclass
class Score:
    """Counts over streams; a row counts once for each of its phases."""

    pairs: dict[str, Counter[tuple[str, str]]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    """Per view: (what is true, what was said) -> rows."""
    events: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)  # events whose name was said most often
    false: int = 0  # stretches of rows with a name that touch no fault
    days: float = 0.0

    def table(self, view: str = "whole") -> list[dict[str, Any]]:
        """Recall and precision per class, in the order of names, the ordinary rows first."""
        pairs = self.pairs[view]
        kinds = sorted({kind for pair in pairs for kind in pair} - {NOTHING})
        rows = []
        for kind in [NOTHING, *kinds]:
            right = pairs[kind, kind]
            happened = sum(n for (true, _), n in pairs.items() if true == kind)
            told = sum(n for (_, said), n in pairs.items() if said == kind)
            row = {
                "kind": kind,
                "rows": happened,
                "recall": _share(right, happened),
                "precision": _share(right, told),
            }
            if view == "whole":
                events = self.events[kind]
                row["events"] = events if kind != NOTHING else None
                row["named"] = _share(self.named[kind], events)
            rows.append(row)
        return rows

    def summary(self) -> dict[str, Any]:
        """Means over the faults per view, and false names."""
        figures: dict[str, Any] = {}
        for view, pairs in self.pairs.items():
            faults = [row for row in self.table(view) if row["kind"] != NOTHING and row["rows"]]
            ordinary = sum(n for (true, _), n in pairs.items() if true == NOTHING)
            wrong = ordinary - pairs[NOTHING, NOTHING]
            figures[view] = {
                "recall": _mean(row["recall"] for row in faults),
                "precision": _mean(row["precision"] for row in faults),
                "false_share": round(wrong / ordinary, 6) if ordinary else None,
            }
        figures["events"] = sum(self.events.values())
        figures["events_named"] = _share(sum(self.named.values()), figures["events"])
        figures["false_a_day"] = _share(self.false, self.days)
        figures["days"] = round(self.days, 1)
        return figures


def score(
    forest: bytes,
    streams: Sequence[Stream],
    leave_out: Sequence[str],
    progress: Callable[[int, int], None],
    vm: str | None = None,
) -> Score:
    """Classify all rows of all views of the streams."""
    found = Score()
    for number, stream in enumerate(streams):
        progress(number, len(streams))
        for view in views(stream, leave_out):
            told = node_rows.classify(forest, view.values, view.limits, vm)
            names: Texts = np.array(told.classes, dtype=object)[told.found]
            truth = np.where(view.fault == "", NOTHING, view.fault)
            pairs = zip(truth[view.scored], names[view.scored], strict=True)
            found.pairs[view.kind].update(pairs)
            if view.kind == "whole":
                # the row's name is that of the phase about which it is surest
                loud = np.where(told.found > 0, told.certainty, -1).argmax(axis=1)
                _events(found, view, np.take_along_axis(names, loud[:, None], axis=1)[:, 0])
    return found


def _events(found: Score, view: View, names: Texts) -> None:
    stream = view.stream
    true = view.fault.max(axis=1)  # at most one fault at a time; "" sorts first
    said = names != NOTHING
    for kind in sorted(set(true) - {""}):
        for first, last in stretches(true == kind):
            counted = Counter(name for name in names[first : last + 1] if name != NOTHING)
            found.events[kind] += 1
            found.named[kind] += bool(counted) and counted.most_common(1)[0][0] == kind
    quiet: Flags = ~(stream.label | stream.unscored)
    found.false += sum(bool(quiet[a : b + 1].all()) for a, b in stretches(said))
    found.days += len(stream.t) * float(stream.limits["interval_s"]) / _DAY_S


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _mean(shares: Any) -> float | None:
    told = [share for share in shares if share is not None and not math.isnan(share)]
    return round(sum(told) / len(told), 4) if told else None
