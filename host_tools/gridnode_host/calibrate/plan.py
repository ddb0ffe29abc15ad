"""The plan of a calibration: a TOML file as checked, typed data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from gridnode_host.calibrate import plan_check, steps
from gridnode_host.calibrate.quantities import Value, written
from gridnode_host.files import unread

MAX_SPREAD_PERCENT = 0.5
_LARGEST_FILE = 1_000_000

PerPhase = tuple[Value, ...]
"""One value for every phase, or one per phase."""


@dataclass(frozen=True)
class ScpiLink:
    """How an SCPI instrument is reached; times in s."""

    resource: str
    timeout_s: float = 3.0
    read_termination: str = "\n"
    write_termination: str = "\n"
    baud: int | None = None
    error_query: str = "SYST:ERR?"


@dataclass(frozen=True)
class ScpiReference:
    """A reference instrument that is asked by SCPI; uncertainties are expanded (k=2), in %."""

    link: ScpiLink
    queries: Mapping[str, str]
    name: str | None = None
    serial: str | None = None
    uncertainty_percent: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModbusReference:
    """A reference meter on Modbus TCP (``tcp://host:port``) or on a serial port (RTU)."""

    url: str
    map: str
    folder: Path
    address: int = 1
    baud: int = 9600
    parity: str = "none"
    word_order: str | None = None
    timeout_s: float = 2.0
    name: str | None = None
    serial: str | None = None
    uncertainty_percent: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """What sets the load; ``end`` is sent at the end, whatever has happened."""

    link: ScpiLink
    commands: Mapping[str, str]
    settle_s: float = 1.0
    end: tuple[str, ...] = ()
    sweep_end: tuple[str, ...] = ()
    """What gives the converter's pin back after a sweep."""


@dataclass(frozen=True)
class Sweep:
    """Levels at the converter's pin, evenly from ``low`` to ``high``, in mV."""

    low: float = 200.0
    high: float = 2400.0
    levels: int = 23

    @property
    def each(self) -> tuple[float, ...]:
        """The levels in their order."""
        step = (self.high - self.low) / (self.levels - 1)
        return tuple(self.low + step * k for k in range(self.levels))


@dataclass(frozen=True)
class Step:
    """One step of a plan; ``place`` says where it stands."""

    place: str
    step: str
    meter: str | None = None
    phase: int | None = None
    label: str | None = None
    source: Mapping[str, PerPhase] = field(default_factory=dict)
    reference: Mapping[str, PerPhase] = field(default_factory=dict)
    uncertainty_percent: Mapping[str, float] = field(default_factory=dict)
    instrument: str | None = None
    quantities: tuple[str, ...] = ()
    settle_s: float | None = None
    max_spread_percent: float = MAX_SPREAD_PERCENT
    optional: bool = False
    sweep: Sweep | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs besides the node."""

    steps: tuple[Step, ...]
    operator: str | None = None
    factory: bool = False
    certificate: Path | None = None
    reference: ScpiReference | ModbusReference | None = None
    source: Source | None = None


def load(path: Path, *, need_steps: bool = True) -> Plan:
    """Return the plan of a TOML file.

    Raises `GridnodeError` (USAGE) that names the place and says what to write. Without
    ``need_steps`` the file may hold only the instruments of a guided session.
    """
    try:
        data = path.read_bytes()
    except OSError as err:
        raise unread("read the plan", path, err) from err
    return parse(data, path.parent, need_steps=need_steps)


def parse(data: bytes, folder: Path, *, need_steps: bool = True) -> Plan:
    """Return the plan that TOML text holds; ``folder`` is that of the files it names."""
    document = _toml(data)
    plan_check.check(document, need_steps=need_steps)
    plan = _plan(document, folder)
    for step in plan.steps:
        _check_step(plan, step)
    return plan


def _toml(data: bytes) -> dict[str, Any]:
    if len(data) > _LARGEST_FILE:
        raise plan_check.wrong("the file", "too large for a plan", "Give a plan in TOML.")
    try:
        # the digits as they are written tell the resolution of a value
        return tomllib.loads(data.decode("utf-8"), parse_float=Decimal)
    except UnicodeDecodeError as err:
        raise plan_check.wrong("the file", "not UTF-8 text", "Save it as UTF-8.") from err
    except (tomllib.TOMLDecodeError, RecursionError, ValueError, ArithmeticError) as err:
        cause = str(err)[:200] or "nested too deeply"
        raise plan_check.wrong("the file", f"not TOML: {cause}", "Correct that line.") from err


def _plan(document: Mapping[str, Any], folder: Path) -> Plan:
    certificate = document.get("certificate")
    limit = float(document.get("max_spread_percent", MAX_SPREAD_PERCENT))
    return Plan(
        steps=tuple(_step(document, k, limit) for k in range(len(document.get("step", ())))),
        operator=document.get("operator"),
        factory=document.get("factory", False),
        certificate=folder / certificate if certificate else None,
        reference=_reference(document["reference"], folder) if "reference" in document else None,
        source=_source(document["source"]) if "source" in document else None,
    )


def _reference(table: Mapping[str, Any], folder: Path) -> ScpiReference | ModbusReference:
    common: dict[str, Any] = {key: table[key] for key in ("name", "serial") if key in table}
    common["uncertainty_percent"] = _floats(table.get("uncertainty_percent", {}))
    if table["kind"] == "scpi":
        return ScpiReference(_link(table), dict(table["queries"]), **common)
    for key in ("address", "baud", "parity", "word_order"):
        if key in table:
            common[key] = table[key]
    if "timeout_s" in table:
        common["timeout_s"] = float(table["timeout_s"])
    return ModbusReference(table["url"], table["map"], folder, **common)


def _link(table: Mapping[str, Any]) -> ScpiLink:
    names = ("resource", "read_termination", "write_termination", "baud", "error_query")
    chosen: dict[str, Any] = {key: table[key] for key in names if key in table}
    if "timeout_s" in table:
        chosen["timeout_s"] = float(table["timeout_s"])
    return ScpiLink(**chosen)


def _source(table: Mapping[str, Any]) -> Source:
    return Source(
        _link(table),
        dict(table["commands"]),
        float(table.get("settle_s", 1.0)),
        tuple(table.get("end", ())),
        tuple(table.get("sweep_end", ())),
    )


def _step(document: Mapping[str, Any], number: int, limit: float) -> Step:
    table = document["step"][number]
    names = ("step", "meter", "phase", "label", "instrument", "optional")
    chosen: dict[str, Any] = {key: table[key] for key in names if key in table}
    settle = table.get("settle_s")
    sweep = table.get("sweep")
    if sweep:
        chosen["sweep"] = Sweep(float(sweep["low"]), float(sweep["high"]), sweep["levels"])
    return Step(
        place=plan_check.place(document, ("step", number)),
        source=_values(table.get("source", {})),
        reference=_values(table.get("reference", {})),
        uncertainty_percent=_floats(table.get("uncertainty_percent", {})),
        quantities=tuple(table.get("quantities", ())),
        settle_s=None if settle is None else float(settle),
        max_spread_percent=float(table.get("max_spread_percent", limit)),
        **chosen,
    )


def _values(table: Mapping[str, Any]) -> dict[str, PerPhase]:
    return {
        key: tuple(written(one, key) for one in (value if isinstance(value, list) else [value]))
        for key, value in table.items()
    }


def _floats(table: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in table.items()}


def _check_step(plan: Plan, step: Step) -> None:
    """Check what a schema cannot say."""
    if step.sweep:
        _check_sweep(plan, step, step.sweep)
    needs = steps.STEPS[step.step].quantities
    if step.source and plan.source is None:
        raise plan_check.wrong(
            f"{step.place}: source", "the plan has no [source]", "Add a [source] table."
        )
    for name in step.source:
        if plan.source and name not in plan.source.commands:
            raise plan_check.wrong(
                f"{step.place}: source.{name}",
                "the [source] has no command for it",
                f"Add {name} to the commands of [source].",
            )
    if needs and not step.reference and plan.reference is None:
        raise plan_check.wrong(
            f"{step.place}: reference",
            "missing, and the plan has no [reference]",
            f"Write reference = {{{needs[0]} = 12.5}}, or add a [reference] table.",
        )
    if step.phase and any(
        len(values) > 1 for values in (*step.source.values(), *step.reference.values())
    ):
        raise plan_check.wrong(
            f"{step.place}: phase",
            "a list of values goes with all phases at once",
            "Leave phase out, or write one number.",
        )


def _check_sweep(plan: Plan, step: Step, sweep: Sweep) -> None:
    place = f"{step.place}: sweep"
    if step.step != "linearity":
        raise plan_check.wrong(place, "only linearity is swept", "Leave it out.")
    if not sweep.low < sweep.high:
        raise plan_check.wrong(place, "low is not below high", "Write low = 200, high = 2400.")
    if plan.source is None or "level_mv" not in plan.source.commands:
        raise plan_check.wrong(
            place,
            "the [source] has no command for level_mv",
            'Add level_mv = "SOUR:DC 36,{value}" to the commands of [source].',
        )
