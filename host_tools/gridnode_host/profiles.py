"""Whether the parts of a profile fit together, beyond what its schema can say.

`problems` lists every misfit as one sentence that names the meter, the value, the limit and what
to change; `check` refuses a profile with them. Ranges and pins have modules of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gridnode_host import maps, profile_pins, profile_ranges
from gridnode_host.errors import Exit, GridnodeError

PHASE = {
    "voltage": "v",
    "current": "i",
    "power": "p",
    "reactive_power": "q",
    "apparent_power": "s",
    "power_factor": "pf",
    "phase_angle": "angle",
    "harmonic_power": "p_h",
    "thd_voltage": "thd_v",
    "thd_current": "thd_i",
    "voltage_ll": "u",
}
"""Values per phase, and how the signal of one phase begins (`v2`)."""

ONCE = (
    "frequency",
    "neutral_current",
    "power_demand",
    "temperature",
    "humidity",
    "cover",
    "reactive_energy_import_varh",
    "reactive_energy_export_varh",
    "apparent_energy_vah",
    "aux1",
    "aux2",
    "aux3",
    "aux4",
)
"""Values that there are once per meter."""

_POWERS = ("voltage", "current", "power", "reactive_power")
_MEASURED: dict[str, tuple[str, ...]] = {
    "ct": (*_POWERS, "thd_voltage", "thd_current", "frequency"),
    "atm90e32": (*_POWERS, "phase_angle", "harmonic_power", "frequency", "temperature"),
    "ade7953": (*_POWERS, "phase_angle", "frequency"),
    "bl0942": ("voltage", "current", "power", "frequency"),
    "cse7766": ("voltage", "current", "power"),
    "pzem004t": ("voltage", "current", "power", "power_factor", "frequency"),
    "sht3x": ("temperature", "humidity"),
    "ds18b20": ("temperature",),
    "mcu": ("temperature",),
    "contact": ("cover",),
}
_NOT_REPORTED = ("energy_import", "energy_export")  # of a map: they are counted
_DERIVED = {"apparent_power": ("voltage", "current"), "power_factor": ("power", "voltage", "current")}


def check(profile: Mapping[str, Any]) -> None:
    """Raise `GridnodeError` with every misfit of a resolved profile that keeps to its schema."""
    found = problems(profile)
    if found:
        raise GridnodeError(
            "check the profile", "\n  ".join(found), "Correct the profile.", Exit.USAGE
        )


def problems(profile: Mapping[str, Any]) -> list[str]:
    """Return every misfit of a resolved profile (`resources.profile`) that keeps to its schema."""
    return [
        *_ids(profile),
        *_rows(profile),
        *_phases(profile),
        *_signals(profile),
        *profile_ranges.problems(profile),
        *profile_pins.problems(profile),
    ]


def channels(meter: Mapping[str, Any]) -> int | None:
    """Return how many phases a meter reports; None for a driver that is not known here."""
    driver = meter["driver"]
    if driver in ("ct", "ade7953"):
        return len(meter["current"])
    if driver == "atm90e32":
        return min(len(meter["voltage"]), len(meter["current"]))
    if driver == "modbus":
        return int(meter["modbus"]["map"]["phases"])
    return 1 if driver in _MEASURED or driver == "ads1115" else None


def measured(meter: Mapping[str, Any]) -> set[str] | None:
    """Return the report names that a meter gives; None for a driver that is not known here."""
    driver = meter["driver"]
    if driver == "modbus":
        return maps.names(meter["modbus"]["map"]).difference(_NOT_REPORTED)
    if driver == "ads1115":
        return {entry["name"] for entry in meter.get("inputs", ())} | (
            {"current"} if "current" in meter else set()
        )
    if driver not in _MEASURED:
        return None
    names = set(_MEASURED[driver])
    if driver == "atm90e32" and channels(meter) == 3:
        names.add("neutral_current")
    return names


def _ids(profile: Mapping[str, Any]) -> Iterator[str]:
    seen = set()
    for meter in profile["meters"]:
        if meter["id"] in seen:
            yield f"two meters are named {meter['id']!r}: give one another id"
        seen.add(meter["id"])


def _rows(profile: Mapping[str, Any]) -> Iterator[str]:
    row = profile.get("row_s", 10)
    if 60 % row:
        yield f"row_s is {row}, which does not divide a minute: take 1, 2, 5, 10, 15, 20, 30 or 60"
    primary = profile["meters"][0]
    period = primary.get("period_ms", 0)
    if period > 1000 * row:
        yield (
            f"meter {primary['id']}: period_ms is {period}, longer than a row of {row} s, so rows "
            f"would come without a value: make it at most {1000 * row}"
        )


def _phases(profile: Mapping[str, Any]) -> Iterator[str]:
    primary, phases = profile["meters"][0], profile["phases"]
    found = channels(primary)
    if found is not None and found != phases:
        yield (
            f"meter {primary['id']}: it measures {found} of the profile's {phases} phases: change "
            "`phases` or the meter's channels"
        )


def _signals(profile: Mapping[str, Any]) -> Iterator[str]:
    known = [measured(meter) for meter in profile["meters"]]
    for meter, names in zip(profile["meters"], known, strict=True):
        inputs = [entry["name"] for entry in meter.get("inputs", ())]
        if len(inputs) != len(set(inputs)):
            yield f"meter {meter['id']}: two inputs have one name: name them aux1 to aux4"
        for name in sorted((names or set()) - {*PHASE, *ONCE}):
            yield f"meter {meter['id']}: no report has a value {name!r}"
    flat = [
        (meter["id"], names)
        for k, (meter, names) in enumerate(zip(profile["meters"], known, strict=True))
        if k == 0 or meter.get("flat")
    ]
    yield from _twice(flat[1:])
    if any(names is None for _, names in flat):
        return  # of a driver that is not known here: the node judges its limits itself
    there = set().union(*(names or set() for _, names in flat))
    there |= {name for name, needs in _DERIVED.items() if there.issuperset(needs)}
    for name in profile.get("report", {}).get("extremes", ()):
        if name not in there:
            yield f"report.extremes: no meter measures {name!r}: remove it or name a value that is"
    for key, limit in profile.get("limits", {}).items():
        meant = _named(key, profile["phases"])
        if meant is None:
            yield f"limits: there is no signal {key!r}: name a value of the report or v1, i2, p3"
        elif meant not in there:
            yield f"limits: no meter measures {meant!r}, which {key!r} means: remove the limit"
        low, high = limit.get("low"), limit.get("high")
        if low is None and high is None:
            yield f"limits: {key!r} has neither low nor high: give one"
        elif low is not None and high is not None and low + limit.get("hysteresis", 0) >= high:
            yield (
                f"limits: {key!r} is never good between low {low:g} and high {high:g} with a "
                f"hysteresis of {limit.get('hysteresis', 0):g}: widen the range"
            )


def _twice(flat: Sequence[tuple[str, set[str] | None]]) -> Iterator[str]:
    """A value of two flat sensors: only one can stand in the report."""
    for (a, names_a), (b, names_b) in itertools.combinations(flat, 2):
        for name in sorted((names_a or set()) & (names_b or set())):
            yield f"meters {a} and {b} are both flat and measure {name}: make one of them not flat"


def _named(key: str, phases: int) -> str | None:
    """Return the report name that a key of the limits means: `voltage`, `v` or `v2`."""
    if key in PHASE or key in ONCE:
        return key
    for name, short in PHASE.items():
        if key == short or (phases > 1 and key in [f"{short}{k + 1}" for k in range(phases)]):
            return name
    return None
