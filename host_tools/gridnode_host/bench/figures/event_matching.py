"""Supply events as they are put on the mains, and how what a node tells is paired with them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gridnode_host.bench.mains import Circuit

FREQUENCY = 50.0
DEPTH_LIMIT = 2.0  # % of the nominal voltage
DURATION_LIMIT_MS = 1000.0 / FREQUENCY


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


def plan(
    count: int, phases: int, seed: int, begin: float, pause: tuple[float, float]
) -> list[Injected]:
    """Events at random moments, `pause` from start to start: interruptions of all phases, others of one or all."""
    rng = random.Random(seed)
    found, start = [], begin
    for _ in range(count):
        kind = rng.choice(KINDS)
        phase = rng.choice((None, *range(1, phases + 1))) if phases > 1 else None
        found.append(Injected(kind, start, None if kind.name == "interruption" else phase))
        start += rng.uniform(*pause)
    return found


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
