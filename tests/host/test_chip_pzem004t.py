"""PZEM-004T v3: frames and values against the user manual of the module (facts B.5)."""

from __future__ import annotations

import pytest
from gridnode_host.bench.chips.modbus_rtu import sealed
from gridnode_host.bench.chips.pzem004t import Pzem004t
from gridnode_host.bench.mains import Circuit
from rig_time import HandClock

READ_ALL = bytes.fromhex("01 04 00 00 00 0A 70 0D")


class Bench:
    def __init__(self, **how: float) -> None:
        self.clock = HandClock()
        self.circuit = Circuit(1, self.clock)
        self.circuit.set(**how)  # type: ignore[arg-type]
        self.module = Pzem004t(self.circuit)
        self.clock.pass_(2)

    def ask(self, frame: str) -> bytes | None:
        return self.raw(sealed(bytes.fromhex(frame)))

    def raw(self, frame: bytes) -> bytes | None:
        answer = self.module.respond(frame, self.clock.now())
        if answer is None:
            return None
        assert 0 < answer[0] <= 0.2
        return answer[1]

    def registers(self) -> list[int]:
        answer = self.raw(READ_ALL)
        assert answer is not None
        assert answer[:3] == b"\x01\x04\x14"
        assert answer == sealed(answer[:-2])
        return [int.from_bytes(answer[k : k + 2], "big") for k in range(3, 23, 2)]

    def value(self, low: int) -> int:
        registers = self.registers()
        return registers[low] | registers[low + 1] << 16


def test_answer_byte_by_byte() -> None:
    bench = Bench(voltage=230.04, current=10.0004, phase_deg=60.0)
    bench.module.energy_wh = 70_000.9
    bench.module._counted = bench.clock.now()
    expected = "01 04 14 08FC 2710 0000 2CEE 0000 1170 0001 01F4 0032 0000"
    assert bench.raw(READ_ALL) == sealed(bytes.fromhex(expected))


def test_resolutions_and_the_low_word_first() -> None:
    bench = Bench(voltage=229.96, current=99.9996, frequency=50.04)
    volts, *_, hertz, factor, alarm = bench.registers()
    assert (volts, hertz, factor, alarm) == (2300, 500, 100, 0)
    assert bench.registers()[1:3] == [100_000 & 0xFFFF, 100_000 >> 16]
    assert bench.value(3) == round(229.96 * 99.9996 * 10)


def test_current_below_the_start_current_is_none_and_is_not_counted() -> None:
    bench = Bench(current=0.0199)
    bench.clock.pass_(36_000)
    assert bench.registers()[1:7] == [0] * 6
    assert bench.registers()[8] == 0
    bench.circuit.set(current=0.0201)
    bench.clock.pass_(36_000)
    assert bench.value(1) == 20
    assert bench.value(5) == int(230 * 0.0201 * 10)


def test_power_has_no_sign_and_export_counts_too() -> None:
    bench = Bench(current=10.0, phase_deg=180.0)
    bench.clock.pass_(3600)
    assert bench.value(3) == 23_000
    assert bench.value(5) == 2301
    assert bench.registers()[8] == 100


def test_current_ends_at_the_range() -> None:
    bench = Bench(current=130.0)
    assert bench.value(1) == 100_000
    assert bench.value(3) == 230_000


def test_values_are_those_of_the_last_whole_second() -> None:
    bench = Bench(current=10.0)
    bench.circuit.set(current=20.0)
    bench.clock.pass_(0.4)
    assert bench.value(1) == 10_000
    bench.clock.pass_(0.7)
    assert bench.value(1) == 20_000
    bench.circuit.set(current=10.0)
    bench.clock.pass_(0.5)
    bench.circuit.set(current=20.0)
    bench.clock.pass_(0.5)
    assert 10_000 < bench.value(1) < 20_000


def test_without_mains_it_is_dead_and_its_energy_is_kept() -> None:
    bench = Bench(current=10.0)
    bench.clock.pass_(3600)
    counted = bench.value(5)
    bench.circuit.set(voltage=0.0)
    bench.clock.pass_(3600)
    assert bench.raw(READ_ALL) is None
    bench.circuit.set(voltage=230.0, current=0.0)
    bench.clock.pass_(2)
    assert bench.value(5) == counted
    bench.module.brown_out()
    assert bench.raw(READ_ALL) is None
    bench.clock.pass_(3)
    assert bench.value(5) == counted


def test_energy_is_32_bits_and_is_reset_by_its_command() -> None:
    bench = Bench(current=10.0)
    bench.module.energy_wh = 2**32 - 1.9  # and 1.3 Wh since the start
    assert bench.value(5) == 0xFFFFFFFF
    bench.clock.pass_(3.2)
    assert bench.value(5) in (0, 1, 2)
    bench.clock.pass_(3600)
    assert bench.raw(bytes.fromhex("01 42 80 11")) == bytes.fromhex("01 42 80 11")
    assert bench.value(5) == 0


def test_alarm_threshold() -> None:
    bench = Bench(current=10.0)
    assert bench.ask("01 06 0001 08FB") == sealed(bytes.fromhex("01 06 0001 08FB"))
    assert bench.registers()[9] == 0xFFFF
    assert bench.ask("01 03 0001 0001") == sealed(bytes.fromhex("01 03 02 08FB"))
    bench.ask("01 06 0001 08FC")
    assert bench.registers()[9] == 0
    bench.module.brown_out()
    bench.clock.pass_(3)
    assert bench.ask("01 03 0001 0002") == sealed(bytes.fromhex("01 03 04 08FC 0001"))


def test_address_is_changed_and_f8_reaches_whatever_is_there() -> None:
    bench = Bench()
    assert bench.ask("01 06 0002 0005") == sealed(bytes.fromhex("01 06 0002 0005"))
    assert bench.raw(READ_ALL) is None
    assert bench.ask("05 03 0002 0001") == sealed(bytes.fromhex("05 03 02 0005"))
    assert bench.ask("F8 03 0002 0001") == sealed(bytes.fromhex("F8 03 02 0005"))
    assert bench.ask("F8 06 0002 00F8") == sealed(bytes.fromhex("F8 86 03"))
    bench.module.brown_out()
    bench.clock.pass_(3)
    assert bench.ask("05 03 0002 0001") is not None
    assert bench.ask("F8 41 37 21") == sealed(bytes.fromhex("F8 41 37 21"))


@pytest.mark.parametrize(
    ("request_", "exception"),
    [
        ("01 04 000A 0001", "01 84 02"),
        ("01 04 0000 000B", "01 84 02"),
        ("01 04 0000 0000", "01 84 03"),
        ("01 03 0000 0001", "01 83 02"),
        ("01 06 0003 0001", "01 86 02"),
        ("01 06 0002 0000", "01 86 03"),
        ("01 10 0001 0001", "01 90 01"),
        ("01 41 00 00", "01 C1 01"),
    ],
)
def test_exceptions(request_: str, exception: str) -> None:
    assert Bench().ask(request_) == sealed(bytes.fromhex(exception))


def test_frozen_module_tells_the_same_for_ever() -> None:
    bench = Bench(current=10.0)
    before = bench.registers()
    bench.module.fault("frozen")
    bench.circuit.set(current=20.0)
    bench.clock.pass_(3600)
    assert bench.registers() == before
    bench.module.clear("frozen")
    assert bench.value(1) == 20_000
