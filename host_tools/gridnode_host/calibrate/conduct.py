"""One step of a session: set the load, let the node measure beside the reference, apply."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gridnode_host.calibrate import references
from gridnode_host.calibrate.plan import MAX_SPREAD_PERCENT, PerPhase, Sweep
from gridnode_host.calibrate.quantities import Value
from gridnode_host.calibrate.references import Instruments, Mean, Means, Reference, Sampling
from gridnode_host.calibrate.scpi import Source
from gridnode_host.calibrate.session import Measured, Meter, Result, Session
from gridnode_host.calibrate.steps import STEPS
from gridnode_host.errors import Exit, GridnodeError

NO_LOAD = 0.002
"""Share of the nominal value below which a phase of the reference carries no load."""

TYPED = "typed values"


@dataclass(frozen=True)
class Task:
    """What is to be done in one step; ``place`` tells a person which it is.

    ``typed`` are true values that a person gives, one for all phases or one per phase, None for a
    phase that is not measured.
    """

    place: str
    step: str
    meter: Meter
    phase: int | None = None
    label: str | None = None
    source: Mapping[str, PerPhase] = field(default_factory=dict)
    typed: Mapping[str, tuple[Value | None, ...]] = field(default_factory=dict)
    uncertainty_percent: Mapping[str, float] = field(default_factory=dict)
    instrument: str | None = None
    quantities: tuple[str, ...] = ()
    settle_s: float = 0.0
    max_spread_percent: float = MAX_SPREAD_PERCENT
    sweep: Sweep | None = None

    @property
    def phases(self) -> tuple[int, ...]:
        """The phases that the step is about."""
        return (self.phase,) if self.phase else self.meter.each


@dataclass(frozen=True)
class Seen:
    """What node and reference have measured at the same time."""

    measured: Measured
    means: Means


def check(task: Task, reference: Reference | None) -> None:
    """Raise `GridnodeError` for a step that cannot succeed with this node and reference."""
    if task.step not in task.meter.steps:
        have = ", ".join(task.meter.steps)
        raise _wrong(task, f"meter {task.meter.id} has no step {task.step}; it has {have}")
    if task.phase and task.phase > task.meter.phases:
        raise _wrong(task, f"meter {task.meter.id} has no phase {task.phase}")
    for where, table in (("source", task.source), ("reference", task.typed)):
        for name, values in table.items():
            if len(values) not in (1, len(task.phases)):
                raise _wrong(
                    task,
                    f"{where}.{name} has {len(values)} values for {len(task.phases)} phases",
                )
    kind = STEPS[task.step]
    sampled = wanted(task, reference)
    known = {*sampled, *task.typed}
    if {"power", "reactive_power"} <= known:
        known.add("phase_deg")
    if kind.quantities and not known & set(kind.quantities):
        raise _wrong(task, f"the reference does not tell {' or '.join(kind.quantities)}")
    if sampled and reference and reference.phases < len(task.phases):
        raise _wrong(task, "the reference measures one phase at a time: name the phase")


def wanted(task: Task, reference: Reference | None) -> tuple[str, ...]:
    """Return the quantities to sample: what the step needs and nobody has typed."""
    if reference is None:
        return ()
    kind = STEPS[task.step]
    names = [name for name in (*kind.quantities, *kind.extra) if name not in task.typed]
    found = [name for name in names if name in reference.quantities]
    if "phase_deg" in names and "phase_deg" not in reference.quantities:
        pair = ("power", "reactive_power")
        if set(pair) <= reference.quantities:
            found += [name for name in pair if name not in found]
    if task.quantities:
        found = [name for name in found if name in task.quantities]
    return tuple(found)


def set_load(session: Session, task: Task, instruments: Instruments) -> None:
    """Set the load of a step and let node and load settle."""
    if not task.source or instruments.source is None:
        return
    instruments.source.set(task.source, task.phases)
    time.sleep(task.settle_s)
    session.observe(task.meter)  # thrown away: its filters still hold the former load


def sweep(session: Session, task: Task, levels: Sweep, source: Source) -> Result:
    """Put levels on the converter's pin, one by one; let the node take them and apply them."""
    try:
        for mv in levels.each:
            source.level(mv)
            time.sleep(task.settle_s)
            session.level(task.meter, mv)
    except BaseException:
        with contextlib.suppress(GridnodeError):  # what went wrong before is told, not this
            source.release()
        raise
    source.release()
    return apply_levels(session, task, levels.levels, task.instrument or source.name)


def apply_levels(session: Session, task: Task, count: int, instrument: str) -> Result:
    """Let the node make its table of the levels that it has taken."""
    measured = Measured([], [], count, 0, 0.0, None)
    return session.apply(
        task.step, task.meter, None, measured, {}, {}, instrument, label=task.label
    )


def measure(session: Session, task: Task, reference: Reference | None) -> Seen:
    """Let the node measure, the reference beside it; returns what both say."""
    quantities = wanted(task, reference)
    if reference is None or not quantities:
        return Seen(session.measure(task.step, task.meter, task.phase), {})
    with Sampling(reference, quantities, task.phases) as sampling:
        measured = session.measure(task.step, task.meter, task.phase)
    means = sampling.means(task.max_spread_percent, task.meter.nominal)
    return Seen(measured, _loaded(means, task.meter))


def complete(task: Task, seen: Seen) -> Seen:
    """Return what was seen with the values that a person has typed."""
    means = references.with_angle({**seen.means, **_typed(task)})
    return Seen(seen.measured, _used(task, means))


def apply(session: Session, task: Task, seen: Seen, reference: Reference | None) -> Result:
    """Let the node apply what was seen."""
    kind = STEPS[task.step]
    if kind.quantities and not any(seen.means.get(name) for name in kind.quantities):
        raise GridnodeError(
            task.place,
            f"there is no true {' or '.join(kind.quantities)}: the reference sees no load, "
            "or nothing was given",
            "Check the load and the connections of the reference.",
            Exit.REFUSED,
            {"condition": "reference_load", "measured": 0.0, "limit": NO_LOAD},
        )
    uncertainty = dict(reference.uncertainty_percent) if reference else {}
    return session.apply(
        task.step,
        task.meter,
        task.phase,
        seen.measured,
        seen.means,
        {**uncertainty, **task.uncertainty_percent},
        task.instrument or (reference.name if reference else TYPED),
        label=task.label,
        limit_percent=task.max_spread_percent,
    )


def _typed(task: Task) -> Means:
    found: Means = {}
    for name, values in task.typed.items():
        each = values * len(task.phases) if len(values) == 1 else values
        found[name] = {
            phase: Mean(value.value, value.resolution)
            for phase, value in zip(task.phases, each, strict=True)
            if value is not None
        }
    return found


def _loaded(means: Means, meter: Meter) -> Means:
    """Leave out what a phase without load or voltage cannot tell."""
    idle = set()
    for phase in meter.each:
        for names in (("current",), ("power", "reactive_power")):
            found = [means[name][phase].value for name in names if phase in means.get(name, {})]
            if found:
                if math.hypot(*found) < NO_LOAD * meter.nominal[names[0]]:
                    idle.add(phase)
                break
    return {
        name: {
            phase: mean
            for phase, mean in by_phase.items()
            if not _idle(name, phase, mean, idle, meter)
        }
        for name, by_phase in means.items()
    }


def _idle(name: str, phase: int, mean: Mean, idle: set[int], meter: Meter) -> bool:
    if name == "voltage":
        return abs(mean.value) < NO_LOAD * meter.nominal_v
    return phase in idle


def _used(task: Task, means: Means) -> Means:
    """Return the quantities that the step is about."""
    kind = STEPS[task.step]
    names: Sequence[str] = (*kind.quantities, *kind.extra, *task.typed)
    return {name: found for name, found in means.items() if name in names and found}


def _wrong(task: Task, cause: str) -> GridnodeError:
    return GridnodeError(
        "check the plan",
        f"{task.place}: {cause}",
        "Correct this step, or leave it out.",
        Exit.USAGE,
    )
