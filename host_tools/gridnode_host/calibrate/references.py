"""What says the true values: a reference instrument, sampled while the node measures.

The mean of the samples counts. A reference that has moved meanwhile is refused, since node and
reference have then not seen the same load.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gridnode_host.calibrate.modbus_meter import Meter
from gridnode_host.calibrate.plan import ModbusReference, Plan, ScpiLink, ScpiReference
from gridnode_host.calibrate.quantities import Value, told
from gridnode_host.calibrate.scpi import Instrument, Source
from gridnode_host.errors import Exit, GridnodeError

_INTERVAL_S = 0.25  # between two samples
_JOIN_S = 60.0  # the instruments' own time-outs end a sample far earlier
_FLOOR = {"voltage": 0.01, "current": 0.001, "power": 0.001, "reactive_power": 0.001}
"""Share of the nominal value below which movement is judged as if the value were so large."""

Sample = dict[str, dict[int, Value]]
"""quantity -> phase (1..3) -> value"""


class Reference(Protocol):
    """A reference instrument.

    ``name`` is what it is called, ``identity`` what it says itself, ``phases`` how many it
    measures at once.
    """

    name: str
    identity: str
    phases: int
    quantities: frozenset[str]
    uncertainty_percent: Mapping[str, float]

    def read(self, quantities: Iterable[str], phases: Sequence[int]) -> Sample:
        """Return one sample."""

    def close(self) -> None:
        """Let the instrument go."""


@dataclass(frozen=True)
class Mean:
    """A true value for one step: the mean of ``samples``, or a typed value (0 samples).

    ``spread_percent`` is the largest less the smallest sample, ``scatter_percent`` the expanded
    uncertainty (k=2) of the mean by its scatter, ``resolution`` the step of the last digit.
    """

    value: float
    resolution: float = 0.0
    spread_percent: float = 0.0
    scatter_percent: float = 0.0
    samples: int = 0


Means = dict[str, dict[int, Mean]]


class ScpiMeter:
    """A reference that is asked by SCPI; queries with ``{phase}`` make it one of three phases."""

    def __init__(self, instrument: Instrument, spec: ScpiReference) -> None:
        self._instrument = instrument
        self._queries = spec.queries
        self.identity = instrument.name
        self.name = _name(spec, self.identity)
        self.phases = 3 if any("{phase}" in query for query in spec.queries.values()) else 1
        self.quantities = frozenset(spec.queries)
        self.uncertainty_percent = spec.uncertainty_percent

    def read(self, quantities: Iterable[str], phases: Sequence[int]) -> Sample:
        """Return one sample."""
        ask = self._instrument.value
        return {
            name: {
                phase: ask(self._queries[name].replace("{phase}", str(phase))) for phase in phases
            }
            for name in quantities
        }

    def close(self) -> None:
        """Let the instrument go."""
        self._instrument.close()


class ModbusMeter:
    """A reference that is a Modbus meter."""

    def __init__(self, meter: Meter, spec: ModbusReference) -> None:
        self._meter = meter
        self.identity = f"{spec.map} on {spec.url}"
        self.name = _name(spec, self.identity)
        self.phases = meter.phases
        self.quantities = meter.quantities & {
            "voltage",
            "current",
            "power",
            "reactive_power",
            "phase_deg",
        }
        self.uncertainty_percent = spec.uncertainty_percent

    def read(self, quantities: Iterable[str], phases: Sequence[int]) -> Sample:
        """Return one sample."""
        return self._meter.read(quantities, phases)

    def close(self) -> None:
        """Let the meter go."""
        self._meter.close()


@dataclass(frozen=True)
class Instruments:
    """What a plan names, open."""

    reference: Reference | None = None
    source: Source | None = None


@contextlib.contextmanager
def instruments(plan: Plan) -> Iterator[Instruments]:
    """Open a plan's instruments; at the end the source gets its last commands.

    Reference and source may be one instrument: it is opened once.
    """
    with contextlib.ExitStack() as stack:
        opened: dict[str, Instrument] = {}

        def instrument(link: ScpiLink) -> Instrument:
            if link.resource not in opened:
                opened[link.resource] = found = Instrument(link)
                stack.callback(found.close)
            return opened[link.resource]

        source = None
        if plan.source:
            source = Source(
                instrument(plan.source.link), plan.source.commands, plan.source.sweep_end
            )
        reference: Reference | None = None
        if isinstance(plan.reference, ScpiReference):
            reference = ScpiMeter(instrument(plan.reference.link), plan.reference)
        elif isinstance(plan.reference, ModbusReference):
            reference = ModbusMeter(Meter(plan.reference), plan.reference)
            stack.callback(reference.close)
        if source and plan.source:
            stack.callback(_end, source, plan.source.end)
        yield Instruments(reference, source)


def _end(source: Source, commands: Sequence[str]) -> None:
    with contextlib.suppress(GridnodeError):  # what went wrong before is told, not this
        source.send(commands)


class Sampling:
    """Samples a reference before, while and after its context runs."""

    def __init__(
        self, reference: Reference, quantities: Sequence[str], phases: Sequence[int]
    ) -> None:
        self._reference = reference
        self._quantities = quantities
        self._phases = phases
        self._samples: list[Sample] = []
        self._failure: GridnodeError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reference", daemon=True)

    def __enter__(self) -> Sampling:
        self._take()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join(_JOIN_S)
        if kind is None:
            if self._failure:
                raise self._failure
            self._take()

    def _take(self) -> None:
        self._samples.append(self._reference.read(self._quantities, self._phases))

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            try:
                self._take()
            except GridnodeError as err:
                self._failure = err
                return

    def means(self, limit_percent: float, nominal: Mapping[str, float]) -> Means:
        """Return the means; raises `GridnodeError` (REFUSED) where the reference has moved.

        ``nominal`` are the node's nominal values: what lies far below them is not judged by its
        own size.
        """
        found: Means = {}
        for name in self._quantities:
            for phase in self._phases:
                scale = self._scale(name, phase, nominal)
                mean = self._mean(name, phase, scale)
                if mean.spread_percent > limit_percent and name != "phase_deg":
                    raise moved(name, phase, mean, limit_percent)
                found.setdefault(name, {})[phase] = mean
        return found

    def _scale(self, name: str, phase: int, nominal: Mapping[str, float]) -> float:
        """Return what a percentage of a quantity is of: itself, a power's apparent power."""
        own = self._middle(name, phase)
        if name in ("power", "reactive_power"):
            pair = [
                self._middle(one, phase)
                for one in ("power", "reactive_power")
                if one in self._quantities
            ]
            own = math.hypot(*pair)
        return max(abs(own), _FLOOR.get(name, 0.0) * nominal.get(name, 0.0), 1e-9)

    def _middle(self, name: str, phase: int) -> float:
        return statistics.fmean(sample[name][phase].value for sample in self._samples)

    def _mean(self, name: str, phase: int, scale: float) -> Mean:
        values = [sample[name][phase].value for sample in self._samples]
        scatter = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        return Mean(
            statistics.fmean(values),
            max(sample[name][phase].resolution for sample in self._samples),
            100 * (max(values) - min(values)) / scale,
            200 * scatter / scale,
            len(values),
        )


def moved(name: str, phase: int, mean: Mean, limit_percent: float) -> GridnodeError:
    """Return the refusal of a step whose load has not stayed what it was."""
    return GridnodeError(
        "compare with the reference",
        f"load moved during the step: {name.replace('_', ' ')} of phase {phase}, "
        f"{told(mean.value, name)}, by {mean.spread_percent:.2g} %; "
        f"allowed are {limit_percent:g} %",
        "Keep the load steady and repeat the step.",
        Exit.REFUSED,
        {
            "condition": "reference_steady",
            "measured": round(mean.spread_percent, 4),
            "limit": limit_percent,
        },
    )


def with_angle(means: Means) -> Means:
    """Return means with the angle by which the current lags, where P and Q tell it."""
    if "phase_deg" in means or not {"power", "reactive_power"} <= set(means):
        return means
    angles = {
        phase: Mean(
            math.degrees(math.atan2(means["reactive_power"][phase].value, mean.value)),
            samples=mean.samples,
        )
        for phase, mean in means["power"].items()
        if phase in means["reactive_power"]
    }
    return {**means, "phase_deg": angles}


def _name(spec: ScpiReference | ModbusReference, own: str) -> str:
    """Return how an instrument is called: by the plan, else as it calls itself."""
    if not spec.name:
        return own
    return f"{spec.name} s/n {spec.serial}" if spec.serial else spec.name
