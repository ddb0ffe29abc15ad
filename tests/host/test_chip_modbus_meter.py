"""Rish Master 3430, SDM120, SDM630: addresses, numbers and refusals as their manuals tell."""

from __future__ import annotations

import math
import struct

import pytest
from gridnode_host.bench.chips.modbus_meter import KINDS, ModbusMeter
from gridnode_host.bench.chips.modbus_rtu import sealed
from gridnode_host.bench.mains import Circuit
from rig_time import HandClock


class Bench:
    def __init__(self, kind: str, phases: int = 3, **how: object) -> None:
        self.clock = HandClock()
        self.circuit = Circuit(phases, self.clock)
        self.circuit.set(**how)  # type: ignore[arg-type]
        self.meter = ModbusMeter(kind, self.circuit)
        self.clock.pass_(2)

    def raw(self, frame: bytes) -> bytes | None:
        answer = self.meter.respond(frame, self.clock.now())
        if answer is None:
            return None
        assert 0 < answer[0] <= 0.2, "the latency of the manual"
        return answer[1]

    def ask(self, frame: str) -> bytes | None:
        return self.raw(sealed(bytes.fromhex(frame)))

    def refusal(self, frame: str) -> int | None:
        """Code of the exception, None for an answer."""
        answer = self.ask(frame)
        assert answer is not None
        return answer[2] if answer[1] & 0x80 else None

    def read(self, address: int, count: int = 1, function: int = 4) -> list[float]:
        request = bytes((self.meter.address, function)) + struct.pack(">HH", address, 2 * count)
        answer = self.raw(sealed(request))
        assert answer is not None
        assert answer[:3] == bytes((self.meter.address, function, 4 * count))
        assert answer == sealed(answer[:-2])
        return list(struct.unpack(f">{count}f", answer[3:-2]))

    def write(self, address: int, value: float) -> bytes | None:
        head = bytes((self.meter.address, 0x10)) + struct.pack(">HHB", address, 2, 4)
        return self.raw(sealed(head + struct.pack(">f", value)))


UNEQUAL = {"voltage": (230.0, 231.0, 229.0), "current": (10.0, 20.0, 5.0), "phase_deg": (60.0, 0.0, -30.0)}


def f32(*values: float) -> list[object]:
    return [pytest.approx(value, rel=1e-6, abs=1e-4) for value in values]


# -- numbers on the wire ---------------------------------------------------------------------


def test_frame_of_the_manual() -> None:
    """219.25467 V in register 30005 of the Rish (manual, p. 43)."""
    volts = struct.unpack(">f", bytes.fromhex("435B4121"))[0]
    bench = Bench("rish-3430", voltage=(230.0, 230.0, volts))
    assert bench.raw(bytes.fromhex("010400040002300A")) == bytes.fromhex("010404435B41216F9B")


@pytest.mark.parametrize("kind", ["rish-3430", "sdm630"])
def test_rows_of_a_three_phase_meter(kind: str) -> None:
    bench = Bench(kind, **UNEQUAL)  # type: ignore[arg-type]
    p = [2300 * math.cos(math.radians(60)), 231 * 20, 229 * 5 * math.cos(math.radians(30))]
    q = [2300 * math.sin(math.radians(60)), 0, -229 * 5 * math.sin(math.radians(30))]
    s = [2300, 4620, 1145]
    assert bench.read(0x00, 6) == f32(230, 231, 229, 10, 20, 5)
    assert bench.read(0x0C, 9) == f32(*p, *s, *q)
    assert bench.read(0x1E, 6) == f32(0.5, 1, math.cos(math.radians(30)), 60, 0, -30)
    assert bench.read(0x2A, 4) == f32(230, 690, 35 / 3, 35)
    assert bench.read(0x34) == f32(sum(p))
    assert bench.read(0x38) == f32(sum(s))
    assert bench.read(0x3C, 2) == f32(sum(q), sum(p) / sum(s))
    assert bench.read(0x42) == f32(math.degrees(math.atan2(sum(q), sum(p))))
    assert bench.read(0x46) == f32(50)
    between = [math.sqrt(a * a + b * b + a * b) for a, b in ((230, 231), (231, 229), (229, 230))]
    assert bench.read(0xC8, 3) == f32(*between)
    turned = [(10, 60), (20, 120), (5, 210)]
    neutral = sum(a * complex(math.cos(math.radians(d)), -math.sin(math.radians(d))) for a, d in turned)
    assert bench.read(0xE0) == f32(abs(neutral))
    assert bench.read(0x40) == f32(0.5 + 1 + math.cos(math.radians(30))) or kind == "sdm630"


@pytest.mark.parametrize(("kind", "volts", "amperes"), [("rish-3430", 0xCE, 0xD4), ("sdm630", 0xEA, 0xF0)])
def test_distortion(kind: str, volts: int, amperes: int) -> None:
    bench = Bench(kind, harmonics={3: 0.3, 5: 0.4}, voltage_harmonics={5: 0.03})
    assert bench.read(volts, 3) == f32(3, 3, 3)
    assert bench.read(amperes, 3) == f32(50, 50, 50)
    if kind == "rish-3430":
        assert bench.read(0xDA, 2) == f32(3, 50)


def test_single_phase_meter() -> None:
    bench = Bench("sdm120", 1, voltage=230.0, current=10.0, phase_deg=-60.0)
    want = {0x00: 230, 0x06: 10, 0x0C: 1150, 0x12: 2300, 0x1E: 0.5, 0x24: -60, 0x46: 50, 0x02: 0}
    for address, value in want.items():
        assert bench.read(address) == f32(value)
    assert bench.read(0x18) == f32(-2300 * math.sin(math.radians(60)))


def test_export_is_negative_power_and_counts_apart() -> None:
    bench = Bench("sdm630", current=(10.0, 10.0, 10.0), phase_deg=180.0)
    bench.clock.pass_(3600)
    assert bench.read(0x34) == f32(-6900)
    assert bench.read(0x48, 2) == f32(0, 6.9)
    assert bench.read(0x15A, 9) == f32(0, 0, 0, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3)
    assert bench.read(0x156) == f32(6.9)


def test_total_goes_by_the_sign_of_the_total() -> None:
    bench = Bench("sdm630", current=(10.0, 10.0, 10.0), phase_deg=(0.0, 0.0, 180.0))
    bench.clock.pass_(3600)
    assert bench.read(0x48, 2) == f32(2.3, 0)
    assert bench.read(0x15A, 6) == f32(2.3, 2.3, 0, 0, 0, 2.3)


@pytest.mark.parametrize(("kind", "wh"), [("sdm120", 1.0), ("sdm630", 10.0)])
def test_energies_in_kwh_with_the_resolution_of_the_meter(kind: str, wh: float) -> None:
    bench = Bench(kind, phases=1, current=10.0, phase_deg=30.0)
    bench.clock.pass_(3600)
    active, reactive = 2300 * 3602 / 3600 * math.cos(math.radians(30)), 1150 * 3602 / 3600
    assert bench.read(0x48, 4) == f32(
        active // wh * wh / 1e3, 0, reactive // wh * wh / 1e3, 0
    )
    assert bench.read(0x156, 2) == f32(active // wh * wh / 1e3, reactive // wh * wh / 1e3)


def test_energy_unit_of_the_rish_is_a_setting() -> None:
    bench = Bench("rish-3430", voltage=230.0, current=10.0)
    bench.meter.energies.e_import[3] = 1_234_567.0
    bench.clock.pass_(0.5)
    assert bench.read(0x04, 1, function=3) == [1.0]
    assert bench.read(0x48) == f32(1_234_570)
    assert bench.write(0x04, 2.0) == sealed(bytes.fromhex("01 10 0004 0002"))
    assert bench.read(0x48) == f32(1234.570)
    bench.write(0x04, 3.0)
    assert bench.read(0x48) == f32(1.234570)
    assert bench.refusal("01 10 0004 0002 04 40800000") == 3, "4.0 is no unit"


def test_demand_is_the_mean_of_its_period() -> None:
    bench = Bench("rish-3430", current=10.0)
    bench.clock.pass_(237)
    assert bench.read(0x54) == f32(3 * 2300 * 240 / 480)
    bench.clock.pass_(480)
    assert bench.read(0x54) == f32(6900)


def test_energies_survive_the_supply() -> None:
    bench = Bench("sdm120", phases=1, current=10.0)
    bench.clock.pass_(7200)
    before = bench.read(0x48)
    bench.circuit.set(current=0.0)
    bench.meter.brown_out()
    assert bench.ask("01 04 0048 0002") is None
    bench.clock.pass_(1.5)
    assert bench.read(0x00) == f32(230.0)
    assert bench.read(0x48) == before


def test_values_are_refreshed_every_second() -> None:
    bench = Bench("sdm120", phases=1, current=10.0)
    bench.circuit.set(current=20.0)
    bench.clock.pass_(0.9)
    assert bench.read(0x06) == f32(10)
    bench.clock.pass_(0.2)
    assert bench.read(0x06) == f32(20)


def test_clamp_faults_reach_the_meter_and_frozen_ones_stand_still() -> None:
    bench = Bench("sdm630", current=10.0)
    bench.circuit.fault("ct_reversed", 2)
    bench.clock.pass_(2)
    assert bench.read(0x0C, 3) == f32(2300, -2300, 2300)
    bench.meter.fault("frozen")
    bench.circuit.clear("ct_reversed", 2)
    bench.clock.pass_(100)
    assert bench.read(0x0C, 3) == f32(2300, -2300, 2300)


def test_least_significant_word_first() -> None:
    bench = Bench("rish-3430")
    bench.meter.least_first = True
    assert bench.ask("01 04 0000 0002") == sealed(bytes.fromhex("01 04 04 0000 4366"))


def test_three_wire_system_tells_line_voltages() -> None:
    bench = Bench("rish-3430")
    assert bench.read(0x0A, 1, function=3) == [3.0]
    bench.meter.settings[0x0A] = 2.0
    assert bench.read(0x00, 3) == f32(*[230 * math.sqrt(3)] * 3)


def test_assigned_rows_of_the_rish() -> None:
    bench = Bench("rish-3430")
    assert bench.read(0x200, 20) == [0.0] * 20
    bench.meter.user_rows = ["f", "v2"]
    assert bench.read(0x200, 3) == f32(50, 230, 0)


# -- requests that are refused ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "request_", "code"),
    [
        ("rish-3430", "01 04 0000 0028", None),
        ("rish-3430", "01 04 0000 002A", 3),
        ("rish-3430", "01 04 0001 0002", 2),
        ("rish-3430", "01 04 00E2 0002", 2),
        ("rish-3430", "01 04 0226 0002", None),
        ("rish-3430", "01 04 0228 0002", 2),
        ("rish-3430", "01 06 0004 0002", 1),
        ("rish-3430", "01 10 000A 0002 04 40000000", 2),  # the type of system is protected
        ("sdm120", "01 04 0000 0050", None),
        ("sdm120", "01 04 0000 0052", 3),
        ("sdm120", "01 04 0000 0000", 3),
        ("sdm120", "01 04 0000 0003", 3),
        ("sdm120", "01 04 0158 0002", None),
        ("sdm120", "01 04 015A 0002", 2),
        ("sdm630", "01 04 017C 0002", None),
        ("sdm630", "01 04 017E 0002", 2),
        ("sdm630", "01 03 001E 0002", 2),
        ("sdm630", "01 05 0000 FF00", 1),
        ("sdm630", "01 10 0014 0002 04 43780000", 3),  # address 248
        ("sdm630", "01 10 0014 0002 02 4378", 3),
    ],
)
def test_refusals(kind: str, request_: str, code: int | None) -> None:
    assert Bench(kind).refusal(request_) == code


# -- settings of the line --------------------------------------------------------------------


def test_eastron_line_settings() -> None:
    bench = Bench("sdm630")
    assert bench.read(0x14, 1, function=3) == [1.0]
    assert bench.read(0x1C, 1, function=3) == [2.0]
    assert bench.write(0x14, 7.0) == sealed(bytes.fromhex("01 10 0014 0002"))
    assert bench.ask("01 03 0014 0002") is None
    assert bench.read(0x14, 1, function=3) == [7.0]
    bench.write(0x1C, 3.0)
    bench.write(0x12, 1.0)
    assert (bench.meter.baudrate, bench.meter.parity) == (19200, "even")
    assert bench.ask("07 03 FC00 0002") == sealed(bytes.fromhex("07 03 04 01210000"))


def test_every_row_of_every_kind_is_a_number() -> None:
    for name, kind in KINDS.items():
        bench = Bench(name, phases=1 if name == "sdm120" else 3, voltage=0.0, current=0.0)
        for address in kind.rows:
            assert math.isfinite(bench.read(address)[0])
