"""The wiring of a whole profile: one wiring function per driver, models by meter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gridnode_host.bench.chips import (
    ade7953,
    ads1115,
    atm90e32,
    bl0942,
    cse7766,
    ct_input,
    ds18b20,
    modbus_meter,
    pzem004t,
    sht3x,
)
from gridnode_host.bench.environment import Environment
from gridnode_host.bench.mains import Circuit, Clock
from gridnode_host.bench.site import Parts, Site, Spec, Wired
from gridnode_host.bench.tolerance import Tolerance
from gridnode_host.bench.wiring import Wiring


def _wire_mcu(_spec: Spec, _site: Site) -> Wired:
    """The processor's own sensor is part of the node: see `Wiring.temperature`."""
    return None, None


def _wire_contact(spec: Spec, site: Site) -> Wired:
    """A contact to ground at its place; one that is open, or has its wire cut, leaves the pin alone."""
    place = spec["id"]
    site.wiring.attach_pin(
        spec["contact"]["pin"], read=lambda: None if site.environment.cover_open(place) else 0
    )
    return None, None


WIRE: Mapping[str, Callable[[Spec, Site], Wired]] = {
    "ct": ct_input.wire,
    "atm90e32": atm90e32.wire,
    "ade7953": ade7953.wire,
    "bl0942": bl0942.wire,
    "cse7766": cse7766.wire,
    "pzem004t": pzem004t.wire,
    "modbus": modbus_meter.wire,
    "sht3x": sht3x.wire,
    "ds18b20": ds18b20.wire,
    "mcu": _wire_mcu,
    "contact": _wire_contact,
    "ads1115": ads1115.wire,
}
"""The wiring function of each driver that a profile can name."""


@dataclass(frozen=True)
class FrontEnd:
    """What `wire` has built: models by meter id, and the calibration.json exact for this unit."""

    chips: dict[str, Any]
    calibration: dict[str, Any]


def circuit(profile: Mapping[str, Any], clock: Clock | None = None, seed: int = 0) -> Circuit:
    """The mains that a resolved profile is for, at its nominal voltage and frequency.

    Where one voltage serves several currents they are branches of one phase: the voltages of the
    circuit's "phases" then have the same angle. Otherwise they are 120 degrees apart.
    """
    branches = False
    for spec in profile["meters"]:
        voltages = len(spec.get("voltage", ()))
        if voltages > 1 or spec["driver"] == "modbus":
            branches = False
            break
        branches |= voltages == 1 and len(spec.get("current", ())) > 1
    return Circuit(
        int(profile["phases"]),
        clock,
        seed,
        voltage=float(profile["nominal"]["voltage"]),
        frequency=float(profile["nominal"]["frequency"]),
        apart_deg=0.0 if branches else 120.0,
    )


def wire(
    profile: Mapping[str, Any],
    circuit: Circuit,
    wiring: Wiring,
    environment: Environment | None = None,
    seed: int = 0,
    ideal: bool = False,
    tolerance: Tolerance | None = None,
) -> FrontEnd:
    """Solder the front end of a resolved profile to a node's `wiring`.

    `ideal` takes parts at their design values, else they are spread by `seed` as far as the
    `tolerance` says (None: that of good parts). Raises ValueError for a driver or channel that
    the bench has no model of.
    """
    environment = environment or Environment()
    wiring.temperature = environment.temperature
    parts = Parts(profile, seed, ideal, tolerance, environment.temperature)
    site = Site(circuit, wiring, environment, parts, seed, ideal)
    chips: dict[str, Any] = {}
    meters: dict[str, Any] = {}
    for spec in profile["meters"]:
        channels = max(len(spec.get("voltage", ())), len(spec.get("current", ())))
        if channels > circuit.phases:
            raise ValueError(f"{channels} channels on a circuit of {circuit.phases} phases")
        function = WIRE.get(spec["driver"])
        if function is None:
            raise ValueError(f"no model of a {spec['driver']} front end")
        model, exact = function(spec, site)
        if model is not None:
            chips[spec["id"]] = model
        if exact is not None:
            meters[spec["id"]] = exact
    return FrontEnd(chips, {"version": 2, "meters": meters})
