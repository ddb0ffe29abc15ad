"""A node's meters by their ids, their faults, and the mains that a profile is for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from gridnode_host import resources
from gridnode_host.bench import frontend
from gridnode_host.bench.chips.atm90e32 import Atm90e32
from gridnode_host.bench.chips.ds18b20 import Ds18b20
from gridnode_host.bench.chips.modbus_meter import ModbusMeter
from gridnode_host.bench.chips.sht3x import Sht3x
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.rig_node import RigNode
from gridnode_host.bench.wiring import Wiring


@contextmanager
def unplugged(profile_name: str, folder: Path) -> Iterator[RigNode]:
    """A node that is built and never started."""
    profile, clock = resources.profile(profile_name), RigClock()
    circuit = frontend.circuit(profile, clock)
    node = RigNode("node", folder, profile, circuit, clock=clock, image=None, micropython="none")
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture(autouse=True)
def no_vm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridnode_host.bench.vm.follows_clock", lambda micropython: False)


@pytest.mark.parametrize("name", resources.profile_names())
def test_every_profile_is_wired(name: str) -> None:
    profile = resources.profile(name)
    circuit = frontend.circuit(profile)
    built = frontend.wire(profile, circuit, Wiring(), seed=3)
    with_models = {spec["id"] for spec in profile["meters"] if spec["driver"] not in ("mcu", "contact")}
    assert set(built.chips) == with_models
    truth = circuit.truth()
    assert truth["voltage"] == pytest.approx(profile["nominal"]["voltage"])
    assert truth["frequency"] == profile["nominal"]["frequency"]
    for spec in profile["meters"]:
        exact = built.calibration["meters"].get(spec["id"])
        if "voltage" in spec:
            assert len(exact["voltage"]) == len(spec["voltage"])
            assert len(exact["current"]) == len(spec["current"])


@pytest.mark.parametrize(
    ("name", "degrees"), [("plug-ade7953", 0), ("home-2ct", 0), ("home-3ph-ct", 120), ("rish-3430", 120)]
)
def test_currents_of_one_voltage_are_branches_of_one_phase(name: str, degrees: float) -> None:
    circuit = frontend.circuit(resources.profile(name))
    v, _ = circuit.waveform(circuit.now() + np.arange(200) * 1e-4)
    angle = np.degrees(np.arccos(np.dot(v[0], v[1]) / np.dot(v[0], v[0])))
    assert angle == pytest.approx(degrees, abs=0.01)


def test_models_by_meter(tmp_path: Path) -> None:
    with unplugged("mv-sensor-24kv", tmp_path) as node:
        assert [type(chip) for chip in node.chips.values()] == [Atm90e32, Sht3x, Ds18b20]
        assert node.chip() is node.chip("main")
        with pytest.raises(ValueError, match="cellar"):
            node.chip("cellar")


def test_faults_go_to_the_meter_that_is_named_or_to_all_that_can_have_them(tmp_path: Path) -> None:
    with unplugged("mv-sensor-24kv", tmp_path) as node:
        main, air, terminal = node.chips.values()
        node.fault("bus_absent", meter="air")
        assert (main._has("absent"), air._has("absent"), terminal._has("absent")) == (False, True, False)
        node.clear("bus_absent", meter="air")
        node.fault("chip_frozen")
        assert all(chip._has("frozen") for chip in node.chips.values())
        node.clear("chip_frozen")
        assert not any(chip._has("frozen") for chip in node.chips.values())
        node.fault("chip_wrong_id")
        assert terminal._has("wrong_id")
        node.fault("bus_bit_error", meter="main", rate=0.25)
        assert main._rates == {"bit_error": 0.25}
        main.registers[0x33] = 1
        node.fault("chip_reset", meter="main")
        assert main.registers.get(0x33) != 1
        for name, meter in (("frame_noise", None), ("frame_noise", "air"), ("gremlins", None)):
            with pytest.raises(ValueError, match=name):
                node.fault(name, meter=meter)


def test_meters_on_one_line_break_apart(tmp_path: Path) -> None:
    with unplugged("panel-rs485", tmp_path) as node:
        main, feeder = node.chip("main"), node.chip("feeder")
        assert isinstance(main, ModbusMeter) and isinstance(feeder, ModbusMeter)
        (line,) = node.wiring.uart[2]
        assert line.slaves == [main, feeder]  # type: ignore[attr-defined]
        node.fault("frame_noise", meter="feeder", rate=0.1)
        assert not main._has("noise") and feeder._has("noise")
        for name in ("bus_silent", "frame_garbage", "frame_crc", "bus_stuck_low"):
            node.fault(name)
            node.clear(name)
        assert not main._rates


def test_clamps_on_the_converter_have_no_bus(tmp_path: Path) -> None:
    with unplugged("home-60a-ct", tmp_path) as node:
        for name in ("bus_absent", "chip_reset", "chip_frozen"):
            with pytest.raises(ValueError, match=name):
                node.fault(name)


def test_surroundings_reach_the_sensors(tmp_path: Path) -> None:
    with unplugged("mv-sensor-24kv", tmp_path) as node:
        node.environment.set(temperature=90.0, at="terminal")
        assert node.chip("terminal")._temperature() == 90.0
        assert node.chip("air")._temperature() == 25.0
