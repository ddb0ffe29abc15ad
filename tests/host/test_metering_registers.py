"""Calibrations that metering chips apply by their registers, end to end against the independent models."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from gridnode_host import provision, resources
from gridnode_host.bench.solo import Solo

Json = dict[str, Any]

_AT_V = 230.0
_SECONDS = 12


@contextmanager
def reports(profile: Json, entry: Json, load: Json, fault: str = "") -> Iterator[Iterator[Json]]:
    """Reports of a node with this calibration of its meter, one a second, from the first good one."""
    with Solo(profile | {"row_s": 1}, interval_s=1, seed=1) as solo:
        solo.circuit.set(voltage=_AT_V, **load)
        if fault:
            solo.circuit.fault(fault, 1)
        document = {"version": 2, "meters": {"main": entry}}
        code = f"f = open({provision.CALIBRATION_JSON!r}, 'w'); f.write({json.dumps(document)!r}); f.close()"
        solo.run(code)
        solo.start()
        told = solo.reports(math.inf)
        good = itertools.dropwhile(lambda report: report.get("power") is None, told)
        next(good)  # a row that began with the unit
        yield good


def powers(amps: float, lag_deg: float) -> tuple[float, float]:
    """P and Q of a load."""
    angle = math.radians(lag_deg)
    return _AT_V * amps * math.cos(angle), _AT_V * amps * math.sin(angle)


def remaining(amps: float, lag_deg: float, p: float, q: float) -> float:
    """The current that is left of a load without what draws this P and Q."""
    own = powers(amps, lag_deg)
    return math.hypot(own[0] - p, own[1] - q) / _AT_V


def judge(
    told: Iterator[Json], wanted: dict[str, tuple[float, float, float]], within: float
) -> tuple[Json, Json]:
    """Compare P, Q and I of the phases over some seconds, and the energies with P; first and last report."""
    first = next(told)
    last = first
    for last in itertools.islice(told, _SECONDS):
        assert not last.get("quality")
        for name, (p, q, amps) in wanted.items():
            assert last[name]["power"] == pytest.approx(p, abs=within)
            assert last[name]["reactive_power"] == pytest.approx(q, abs=within)
            assert last[name]["current"] == pytest.approx(amps, rel=2e-3)
    seconds = last["timestamp"] - first["timestamp"]
    for name, (p, _, _) in wanted.items():
        used = last[name]["energy_import_wh"] - first[name]["energy_import_wh"]
        assert used == pytest.approx(p * seconds / 3600, abs=abs(p) / 3600)
    return first, last


@pytest.mark.parametrize("reach", ["registers", "software"])
def test_power_of_an_atm90e32(reach: str) -> None:
    """Offsets within its registers (42 W of this unit) and beyond them come to the same, but for who counts."""
    w = 36.0 if reach == "registers" else 48.0
    power = [
        {"offset_w": w, "offset_var": -20.0, "at_v": _AT_V},
        {"gain": 1.05},
        {"gain": 0.95, "offset_w": -w, "offset_var": 12.0, "at_v": _AT_V},
    ]
    amperes, lags = (0.5, 2.0, 3.0), (0.0, 40.0, -60.0)
    load: Json = {"current": amperes, "phase_deg": lags}
    p, q = zip(*map(powers, amperes, lags), strict=True)
    third = 0.95 * p[2] + w, 0.95 * q[2] - 12.0
    wanted = {
        "l1": (p[0] - w, q[0] + 20.0, remaining(0.5, 0.0, w, -20.0)),
        "l2": (1.05 * p[1], 1.05 * q[1], 2.0),
        "l3": (*third, _current(3.0, third, (-w, 12.0))),
    }
    with reports(resources.profile("feeder-200a"), {"power": power}, load) as told:
        first, last = judge(told, wanted, 0.3)
        for name in wanted:
            assert last[name]["harmonic_power"] == pytest.approx(0, abs=0.3)
        steps = {
            (report[name]["energy_import_wh"] * 1000) % 12.5  # mWh of one count, cut to whole mWh
            for report in (first, last)
            for name in ("l1", "l2")
        }
        assert (steps <= {0.0, 12.0}) == (reach == "registers")


def _current(amps: float, left: tuple[float, float], picked: tuple[float, float]) -> float:
    """Current without what is picked up, by the law of cosines: the gain of power is none of the current's."""
    cross = left[0] * picked[0] + left[1] * picked[1]
    square = amps**2 - (2 * cross + picked[0] ** 2 + picked[1] ** 2) / _AT_V**2
    return math.sqrt(square)


@pytest.mark.parametrize("reach", ["registers", "software"])
def test_power_and_noise_of_an_ade7953(reach: str) -> None:
    """Offsets within its registers (26 W of this unit) and beyond them."""
    w = 6.0 if reach == "registers" else 30.0
    noise = 0.1 if reach == "registers" else 0.5
    entry = {
        "current": [{}, {"noise_a": noise}],
        "power": [{"offset_w": w, "offset_var": -4.0, "at_v": _AT_V}, {"gain": 1.05}],
    }
    load = {"current": [0.4, 2.0], "phase_deg": [20.0, -40.0]}
    p, q = powers(0.4, 20.0)
    other = powers(2.0, -40.0)
    wanted = {
        "l1": (p - w, q + 4.0, remaining(0.4, 20.0, w, -4.0)),
        "l2": (1.05 * other[0], 1.05 * other[1], math.sqrt(4 - noise**2)),
    }
    with reports(resources.profile("plug-ade7953"), entry, load) as told:
        judge(told, wanted, 0.1)


def test_inputs_of_an_atm90e32_change_places() -> None:
    """Two clamps on each other's phase: the chip's map of channels puts each on its own."""
    amperes = (20.0, 40.0, 60.0)
    load: Json = {"current": amperes, "phase_deg": 30.0}
    with reports(resources.profile("feeder-200a"), {}, load, "ct_swapped") as told:
        assert next(told)["l1"]["current"] == pytest.approx(40.0, rel=2e-3)
    with reports(
        resources.profile("feeder-200a"), {"order": [2, 1, 3]}, load, "ct_swapped"
    ) as told:
        wanted = {f"l{k}": (*powers(amps, 30.0), amps) for k, amps in enumerate(amperes, 1)}
        judge(told, wanted, 10.0)
