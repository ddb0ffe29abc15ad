"""Metering chips end to end: the real firmware with its drivers against the independent models, through faults."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gridnode_host import resources
from gridnode_host.bench.solo import Solo

Json = dict[str, Any]

_LAG_DEG = 40.0
_LOAD = 0.6  # of the rated current


def feeder() -> Json:
    return resources.profile("feeder-200a")


def plug() -> Json:
    return resources.profile("plug-ade7953")


def plug_on_spi() -> Json:
    profile = plug()
    meter = {key: value for key, value in profile["meters"][0].items() if key != "i2c"}
    meter["spi"] = {"id": 2, "sck": 18, "mosi": 23, "miso": 19, "cs": 5, "baud": 2_000_000}
    return profile | {"meters": [meter]}


def line_sensor() -> Json:
    """The 24 kV sensor without the others on its board."""
    profile = resources.profile("mv-sensor-24kv")
    return profile | {"meters": profile["meters"][:1]}


class Bench:
    """A node that measures a constant load; `next` gives its reports, one a second."""

    def __init__(self, solo: Solo, reports: Iterator[Json]) -> None:
        self.solo = solo
        self.chip = solo.node.chip("main")
        self._reports = reports
        nominal = solo.profile["nominal"]
        self.volts = float(nominal["voltage"])
        self.amps = _LOAD * float(solo.profile["rating"]["current"])
        self.watts = self.volts * self.amps * math.cos(math.radians(_LAG_DEG))
        self.vars = self.volts * self.amps * math.sin(math.radians(_LAG_DEG))
        self.a_second_wh = self.watts / 3600
        self.last: Json = {}

    def next(self) -> Json:
        """Flat values, or those of phase 1, with `quality` and `timestamp` of the whole report."""
        report = next(self._reports)
        common = {key: report.get(key) for key in ("quality", "timestamp", "frequency")}
        self.last = report.get("l1", report) | common
        return self.last

    def until(self, wanted: Callable[[Json], bool], limit: int) -> Json:
        """The first of the next reports that is wanted."""
        for _ in range(limit):
            if wanted(self.next()):
                return self.last
        raise AssertionError(f"not in {limit} s: {self.last}")

    def good(self, report: Json) -> bool:
        """Whether the report has values; if so, they are right."""
        if report["quality"] or report.get("power") is None:
            return False
        assert report["power"] == pytest.approx(self.watts, rel=2e-3)
        assert report["voltage"] == pytest.approx(self.volts, rel=2e-3)
        return True

    def used_wh(self, since: Json) -> float:
        """What the load has used since that report."""
        return self.watts * (self.last["timestamp"] - since["timestamp"]) / 3600

    def counted_wh(self, since: Json) -> float:
        """What the node has counted since: up to the last reading before either report."""
        return float(self.last["energy_import_wh"] - since["energy_import_wh"])


@pytest.fixture(params=[feeder, plug, plug_on_spi, line_sensor])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    profile = request.param() | {"row_s": 1}
    with Solo(profile, interval_s=1, seed=1) as solo:
        nominal, rating = profile["nominal"], profile["rating"]
        solo.circuit.set(
            voltage=nominal["voltage"],
            current=_LOAD * rating["current"],
            phase_deg=_LAG_DEG,
            frequency=nominal["frequency"] + 0.5,
        )
        solo.start()
        node = Bench(solo, solo.reports(math.inf))
        node.until(node.good, 8)
        yield node


def test_values(bench: Bench) -> None:
    first = bench.last
    for _ in range(5):
        report = bench.next()
        assert bench.good(report)
        assert report["current"] == pytest.approx(bench.amps, rel=1e-3)
        assert report["reactive_power"] == pytest.approx(bench.vars, rel=2e-3)
        assert report["phase_angle"] == pytest.approx(_LAG_DEG, abs=0.15)
        assert report["frequency"] == pytest.approx(50.5, abs=0.012)
    assert bench.counted_wh(first) == pytest.approx(bench.used_wh(first), abs=bench.a_second_wh)
    assert report["energy_export_wh"] == 0


def test_no_energy_is_lost_to_faults_of_the_bus(bench: Bench) -> None:
    first = bench.last
    for fault in ("absent", "stuck_high", "stuck_low") * 2:
        bench.chip.fault(fault)
        bench.until(lambda report: "bus_fault" in (report["quality"] or {}).values(), 3)
        for _ in range(2):
            assert bench.next().get("power") is None
        bench.chip.clear(fault)
        bench.until(bench.good, 4)
    assert bench.counted_wh(first) == pytest.approx(bench.used_wh(first), abs=bench.a_second_wh)


def test_bit_errors_cost_nothing(bench: Bench) -> None:
    first = bench.last
    bench.chip.fault("bit_error", 0.005)
    for _ in range(15):
        assert bench.good(bench.next())
    assert bench.counted_wh(first) == pytest.approx(bench.used_wh(first), abs=bench.a_second_wh)


@pytest.mark.parametrize("what", ["brown_out", "unplug"])
def test_a_chip_that_lost_its_supply_is_set_up_again(bench: Bench, what: str) -> None:
    if what == "brown_out":
        bench.chip.brown_out()
    else:
        bench.chip.power(False)
        bench.until(lambda report: report.get("power") is None, 3)
        bench.chip.power(True)
    seen = []
    for _ in range(6):
        seen.append(bench.good(bench.next()))  # and nothing wrong is told meanwhile
    assert seen[-1]
    assert not all(seen)


def test_a_chip_that_measures_no_more_is_stale(bench: Bench) -> None:
    bench.chip.fault("frozen")
    bench.until(lambda report: "stale" in (report["quality"] or {}).values(), 5)
    bench.chip.clear("frozen")
    bench.until(lambda report: not report["quality"], 5)
