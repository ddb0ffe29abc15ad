"""Tables of the detectors: the targets, the streams one by one, false alarms, Numenta files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gridnode_host.bench.figures.detection_runs import CLEAN, HARD, NODE, Results
from gridnode_host.bench.figures.tables import Row, Table

_MONTH_DAYS = 30.0
_CONFIDENCE = 0.95
_DAILY = ("art_daily_jumpsup", "art_daily_jumpsdown", "art_daily_nojump", "art_daily_flatmiddle")

Figure = Callable[[Results, str], float]


@dataclass(frozen=True)
class Target:
    """A figure that the node is to reach; `at_least` or else at most `limit`."""

    measure: str
    figure: Figure
    limit: float
    at_least: bool = True

    def kept(self, value: float) -> bool | None:
        """Whether a value is good enough; None if there is none."""
        if math.isnan(value):
            return None
        return value >= self.limit if self.at_least else value <= self.limit


def _of(kind: str, figure: str) -> Figure:
    return lambda results, detector: results.mean(kind, detector, figure)


def _over(kinds: Sequence[str], figure: str, join: Callable[[list[float]], float]) -> Figure:
    """A figure of several kinds of streams in one; NaN if one of them has none."""

    def value(results: Results, detector: str) -> float:
        each = [results.mean(kind, detector, figure) for kind in kinds]
        return math.nan if any(map(math.isnan, each)) else join(each)

    return value


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _urgent_a_month(results: Results, detector: str) -> float:
    count = sum(results.total(kind, detector, "urgent_false_alarms") for kind in CLEAN)
    return count / sum(results.total(kind, detector, "days") for kind in CLEAN) * _MONTH_DAYS


TARGETS = (
    Target("seed: recall", _of("seed", "recall"), 0.999),
    Target("seed: precision", _of("seed", "precision"), 0.999),
    Target("seed: recall, first tenth", _of("seed", "recall_first_tenth"), 0.999),
    Target("seed: recall, last tenth", _of("seed", "recall_last_tenth"), 0.999),
    Target("seed: AUC-PR per signal", _of("seed", "signal_auc_pr_mean"), 0.99),
    Target("seed: attribution", _of("seed", "attribution"), 0.99),
    Target("seed, 5 % faults in training: recall", _of("seed_contaminated", "recall"), 0.99),
    Target("sku_200: event recall", _of("sku_200", "event_recall"), 1.0),
    Target("sku_500: false alarms a day", _of("sku_500", "false_alarms_per_day"), 0.25, False),
    Target("persistent: recall, last tenth", _of("s_persistent", "recall_last_tenth"), 0.99),
    Target("hard streams: event recall, mean", _over(HARD, "event_recall", _mean), 0.95),
    Target("hard streams: event recall, lowest", _over(HARD, "event_recall", min), 0.60),
    Target("hard streams: row F1, mean", _over(HARD, "f1", _mean), 0.85),
    Target("hard streams: VUS-PR, mean", _over(HARD, "vus_pr", _mean), 0.92),
    Target(
        "clean streams: false alarms a day, mean",
        _over(CLEAN, "false_alarms_per_day", _mean),
        0.20,
        False,
    ),
    Target(
        "clean streams: false alarms a day, worst",
        _over(CLEAN, "false_alarms_per_day", max),
        0.50,
        False,
    ),
    Target("clean streams: priority 1 and 2 a month", _urgent_a_month, 1.0, False),
    Target("t_faults: diagnosis accuracy", _of("t_faults", "diagnosis_accuracy"), 0.90),
    Target("t_faults: AUC-PR per signal", _of("t_faults", "signal_auc_pr_mean"), 0.90),
    Target("t_faults: row FPR", _of("t_faults", "false_positive_rate"), 0.03, False),
    Target("NAB, mean of the art_daily files", _over(_DAILY, "nab", _mean), 85.0),
    Target("NAB, machine", _of("machine_temperature_system_failure", "nab"), 60.0),
    Target("NAB, ambient", _of("ambient_temperature_system_failure", "nab"), 80.0),
)

RAM_LIMITS = {4: 4096, 13: 8192}
"""Bytes that a frozen model of so many signals may take."""


def targets(results: Results, costs: Mapping[int, Mapping[str, float]]) -> Table:
    """The node's figure beside that of each baseline, and its target.

    `costs` holds `model_bytes` and `operations` per number of signals.
    """
    rows: list[Row] = []
    for target in TARGETS:
        values = {name: target.figure(results, name) for name in results.detectors}
        if all(map(math.isnan, values.values())):
            continue
        sign = ">=" if target.at_least else "<="
        rows.append(
            {
                "measure": target.measure,
                **{name: shown(value) for name, value in values.items()},
                "target": f"{sign} {target.limit:g}",
                "ok": target.kept(values.get(NODE, math.nan)),
            }
        )
    for signals, cost in costs.items():
        taken, limit = cost.get("model_bytes"), RAM_LIMITS[signals]
        if taken is None:
            continue
        row = {"measure": f"model of {signals} signals, bytes", NODE: taken}
        rows.append({**row, "target": f"<= {limit}", "ok": taken <= limit})
        rows.append(
            {"measure": f"operations a row of {signals} signals", NODE: shown(cost["operations"])}
        )
    return Table(
        "detection_targets",
        "Anomaly detection: the node's detector, others, and what is to be reached",
        [
            "Means over the draws; a random cut forest (rrcf) sees one draw of each kind. Rows "
            "and events without point adjustment; thresholds from the training rows alone. "
            "Hard streams: " + ", ".join(HARD) + ". Clean streams: " + ", ".join(CLEAN) + ".",
            "_frozen learns the training rows only, _cont goes on. range: the limits of the SKU. "
            "ewma: 4 deviations, memory of one day. hst: River's half-space trees, limits one "
            "range wider. rrcf: 256 points a tree. Forests alarm above the 99.9 % quantile of "
            "their training scores, and give no grade per signal.",
        ],
        rows,
    )


def shown(value: float) -> float | None:
    """A figure as a table holds it."""
    return None if math.isnan(value) else float(f"{value:.5g}")


def by_stream(results: Results) -> Table:
    """Event recall, row F1 and VUS-PR of every detector on every kind of stream with faults."""
    rows = []
    for kind in results.kinds:
        if math.isnan(results.mean(kind, results.detectors[0], "event_recall")):
            continue
        row: Row = {"stream": kind, "events": _events(results, kind)}
        for detector in results.detectors:
            three = [results.mean(kind, detector, f) for f in ("event_recall", "f1", "vus_pr")]
            row[detector] = " ".join("-" if math.isnan(v) else f"{v:.2f}" for v in three)
        rows.append(row)
    return Table(
        "detection_streams",
        "Detection stream by stream: event recall, row F1, VUS-PR",
        ["Events of one draw; means over the draws."],
        rows,
    )


def _events(results: Results, kind: str) -> int:
    return int(results.draws(kind, results.detectors[0])[0]["events"])


def false_alarms(results: Results) -> Table:
    """Alarms on streams without a fault, with the bound that chance leaves open."""
    rows: list[Row] = []
    for kind in CLEAN:
        for detector in results.detectors:
            count, days = (results.total(kind, detector, f) for f in ("false_alarms", "days"))
            if math.isnan(count):
                continue
            urgent = results.total(kind, detector, "urgent_false_alarms")
            rows.append(
                {
                    "stream": kind,
                    "detector": detector,
                    "draws": len(results.draws(kind, detector)),
                    "days": round(days),
                    "false alarms": int(count),
                    "a day": round(count / days, 3),
                    "at most a day": round(poisson_upper(int(count)) / days, 3),
                    "time in alarm, %": round(
                        100 * results.mean(kind, detector, "alarm_share"), 2
                    ),
                    "urgent a month": shown(urgent / days * _MONTH_DAYS),
                }
            )
    return Table(
        "detection_false_alarms",
        "False alarms on streams without a fault",
        [
            "At most: upper 95 % bound of the rate (one-sided, exact for a Poisson count). "
            "Urgent: priority 1 or 2."
        ],
        rows,
    )


def poisson_upper(count: int, confidence: float = _CONFIDENCE) -> float:
    """The largest mean at which so few events still have a probability of 1 - confidence."""

    def few(mean: float) -> float:
        return sum(
            math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1)
        )

    low, high = 1e-9, 10.0 + 2.0 * count + 10.0 * math.sqrt(count)
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if few(middle) > 1 - confidence else (low, middle)
    return high


def numenta(results: Results) -> Table | None:
    """The Numenta score of every file, or the alarms where it has no window; None without files."""
    kinds = [k for k in results.kinds if "nab_raw" in results.draws(k, results.detectors[0])[0]]
    if not kinds:
        return None
    rows: list[Row] = []
    for kind in kinds:
        scored = not math.isnan(results.mean(kind, results.detectors[0], "nab"))
        figure = "nab" if scored else "false_alarms"
        row: Row = {"file": kind, "windows": _events(results, kind), "figure": figure}
        for detector in results.detectors:
            value = results.mean(kind, detector, figure)
            row[detector] = None if math.isnan(value) else round(value, 1)
        rows.append(row)
    return Table(
        "detection_nab",
        "Numenta files: 0 silent, 100 perfect",
        [
            "Standard profile, one report an alarm, the detector's own threshold. The first 15 % "
            "of a file, 750 rows at most, are for learning and not judged. Without a window: "
            "the number of alarms."
        ],
        rows,
    )
