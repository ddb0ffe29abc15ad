"""Line sensors as virtual nodes: the bench's mains and air follow the simulator, rows of 10 s.

What a front end or a sensor cannot follow (100 kV, 300 degC) it shows as the part would: at its
end, or not at all. Air takes no more than 100 % of humidity.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gridnode_host.bench.demo import terminable
from gridnode_host.bench.node import CHIP_KB
from gridnode_host.bench.rig import Rig
from gridnode_host.bench.rig_node import RigNode
from gridnode_host.detection import grid_sensor
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

PROFILE = "mv-sensor-24kv"

_POLL_S = 0.1
_UNITS = {"voltage": "V", "current": "A", "temperature": "degC", "humidity": "%"}
_KEPT_ROWS = 12  # for reports that come late


@dataclass
class _Sensor:
    """One node and what its surroundings were made to be."""

    node: RigNode
    rng: np.random.Generator
    rows: dict[int, tuple[dict[str, float], str]] = field(default_factory=dict)  # by their end
    told: int = 0  # end of the newest row that a report in turn has told
    seq: int = 0
    reports: int = 0
    alarms: int = 0


def run(out: Output, nodes: int, seed: int, anomalies: bool, duration: float | None = None) -> int:
    """Run until Ctrl-C or for `duration` s; return the exit code.

    Raises `GridnodeError` with `Exit.CLOUD` when the shadow of any node did not arrive.
    """
    sensors: list[_Sensor] = []
    with terminable():
        try:
            with out.step(f"start the bench with {nodes} line sensors and provision them"):
                rig = Rig.virtual(
                    nodes, PROFILE, seed=seed, interval_s=grid_sensor.STEP_S, heap_kb=CHIP_KB
                )
            with rig:
                sensors = [
                    _Sensor(node, np.random.default_rng([seed, k]))
                    for k, node in enumerate(rig.nodes)
                ]
                _play(rig, sensors, out, anomalies, duration)
        except KeyboardInterrupt:
            pass  # the way to end it
    missing = [one.node.thing for one in sensors if not one.reports]
    if missing:
        raise GridnodeError(
            "wait for the shadows of the nodes",
            f"the shadow of {', '.join(missing)} did not arrive",
            "Run it for longer: a first report takes some 15 s.",
            Exit.CLOUD,
        )
    out.done(
        "\n".join(
            f"{one.node.thing}: {one.reports} reports, {one.alarms} of them with an alarm"
            for one in sensors
        ),
        nodes={one.node.thing: {"reports": one.reports, "alarms": one.alarms} for one in sensors},
    )
    return int(Exit.DONE)


def _play(
    rig: Rig, sensors: list[_Sensor], out: Output, anomalies: bool, duration: float | None
) -> None:
    deadline = None if duration is None else time.monotonic() + duration
    begun = 0  # end of the row that has begun, rig time
    while deadline is None or time.monotonic() < deadline:
        end = int(rig.clock.now() // grid_sensor.STEP_S + 1) * grid_sensor.STEP_S
        if end != begun:
            for one in sensors:
                _begin(one, end, anomalies)
            begun = end
        for one in sensors:
            _report(rig, one, out)
        time.sleep(_POLL_S)


def _begin(one: _Sensor, end: int, anomalies: bool) -> None:
    """Begin the row that ends at `end`: its air now, and the next row's mains when it is due."""
    if end not in one.rows:
        _draw(one, end, anomalies, None)
    _draw(one, end + grid_sensor.STEP_S, anomalies, float(end))
    air, _ = one.rows[end]
    one.node.environment.set(temperature=air["temperature"], humidity=min(air["humidity"], 100.0))
    for old in sorted(one.rows)[:-_KEPT_ROWS]:
        del one.rows[old]


def _draw(one: _Sensor, end: int, anomalies: bool, at: float | None) -> None:
    """Draw a row, and let the mains have its values at a rig time (None: now)."""
    values, fault = grid_sensor.readings(one.rng, np.array([anomalies]))
    drawn = {name: float(column[0]) for name, column in values.items()}
    one.rows[end] = drawn, str(fault[0])
    one.node.circuit.set(voltage=drawn["voltage"], current=drawn["current"], at=at)


def _report(rig: Rig, one: _Sensor, out: Output) -> None:
    """Tell a report that is new; one in turn, of a whole row, with what was drawn for the row."""
    reported = rig.reported(one.node.thing)
    if not reported or reported["seq"] == one.seq:
        return
    one.seq = reported["seq"]
    stamp = reported["timestamp"]
    # one out of turn may come within the first second of a row
    whole = one.reports > 0 and stamp in one.rows and stamp != one.told
    drawn, fault = one.rows[stamp] if whole else ({}, "")
    one.told = stamp if whole else one.told
    one.reports += 1
    kinds = {name: kind for name, kind in _kinds(reported).items() if kind}
    one.alarms += bool(kinds)
    measured = {name: reported.get(name) for name in _UNITS}
    text = ", ".join(f"{_number(measured[name])} {unit}" for name, unit in _UNITS.items())
    told = "".join(f"  ALARM {name} {kind}" for name, kind in kinds.items())
    out.event(
        "report",
        f"{one.node.thing}: {text}" + (f"  [{fault}]" if fault else "") + told,
        thing=one.node.thing,
        seq=one.seq,
        timestamp=stamp,
        measured=measured,
        drawn=drawn,
        fault=fault,
        anomaly=reported.get("anomaly"),
    )


def _kinds(reported: Mapping[str, Any]) -> Mapping[str, Any]:
    return (reported.get("anomaly") or {}).get("kinds") or {}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
