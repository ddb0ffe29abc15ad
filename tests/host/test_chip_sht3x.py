"""SHT3x: commands, timing and checksums of the data sheet (facts B.6)."""

from __future__ import annotations

import pytest
from gridnode_host.bench.chips.sht3x import Sht3x, crc8
from gridnode_host.bench.environment import Environment
from gridnode_host.bench.wiring import Nack, Stretch
from rig_time import HandClock


class Bench:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.air = Environment(25.0, 50.0)
        self.sensor = Sht3x(self.clock.now, self.air.temperature, self.air.humidity)
        self.clock.pass_(0.01)

    def command(self, code: int) -> None:
        self.sensor.write(code.to_bytes(2, "big"))

    def status(self) -> int:
        self.command(0xF32D)
        data = self.sensor.read(3)
        assert data[2] == crc8(data[:2])
        return int.from_bytes(data[:2], "big")

    def measure(self, code: int = 0x2400, wait: float = 0.016) -> tuple[float, float]:
        self.command(code)
        self.clock.pass_(wait)
        data = self.sensor.read(6)
        assert data[2] == crc8(data[:2]) and data[5] == crc8(data[3:5])
        t, h = int.from_bytes(data[:2], "big"), int.from_bytes(data[3:5], "big")
        return -45 + 175 * t / 65535, 100 * h / 65535


def test_crc_of_the_data_sheet() -> None:
    assert crc8(bytes.fromhex("BEEF")) == 0x92


def test_answer_byte_by_byte() -> None:
    bench = Bench()
    bench.command(0x2400)
    bench.clock.pass_(0.016)
    assert bench.sensor.read(6) == bytes.fromhex("6666 93 8000 A2")


@pytest.mark.parametrize(
    ("degrees", "percent"), [(-40.0, 0.0), (25.0, 50.0), (99.98, 80.0), (125.0, 100.0)]
)
def test_values(degrees: float, percent: float) -> None:
    bench = Bench()
    bench.air.set(temperature=degrees, humidity=percent)
    assert bench.measure() == (pytest.approx(degrees, abs=0.0015), pytest.approx(percent, abs=0.001))


@pytest.mark.parametrize(("code", "seconds"), [(0x2400, 0.0155), (0x240B, 0.0065), (0x2416, 0.0045)])
def test_without_stretching_it_refuses_until_it_is_done(code: int, seconds: float) -> None:
    bench = Bench()
    bench.command(code)
    bench.clock.pass_(seconds - 0.0005)
    for access in (lambda: bench.sensor.read(6), lambda: bench.command(0xF32D)):
        with pytest.raises(Nack):
            access()
    bench.clock.pass_(0.001)
    bench.sensor.read(6)
    with pytest.raises(Nack):
        bench.sensor.read(6)  # a result is told once


def test_with_stretching_it_holds_the_clock() -> None:
    bench = Bench()
    bench.command(0x2C06)
    with pytest.raises(Stretch) as held:
        bench.sensor.read(6)
    assert held.value.seconds == pytest.approx(0.0155, abs=1e-6)
    bench.clock.pass_(held.value.seconds)
    assert len(bench.sensor.read(6)) == 6


def test_status() -> None:
    bench = Bench()
    assert bench.status() == 0x8010, "a reset, and an alert for it"
    bench.command(0x3041)
    assert bench.status() == 0
    bench.command(0x306D)
    assert bench.status() == 0x2000
    warmer, drier = bench.measure()
    assert warmer > 27 and drier < 48
    bench.command(0x3066)
    assert bench.status() == 0
    with pytest.raises(Nack):
        bench.command(0x1234)
    assert bench.status() == 0x0002
    assert bench.status() == 0x0002
    bench.measure()
    assert bench.status() == 0
    bench.sensor.brown_out()
    with pytest.raises(Nack):
        bench.status()  # not awake yet
    bench.clock.pass_(0.002)
    assert bench.status() == 0x8010
    bench.command(0x3041)
    bench.command(0x30A2)
    bench.clock.pass_(0.002)
    assert bench.status() == 0x8010


def test_fetch_finds_nothing_and_the_serial_number_is_told() -> None:
    bench = Bench()
    bench.command(0xE000)
    with pytest.raises(Nack):
        bench.sensor.read(6)
    bench.command(0x3780)
    data = bench.sensor.read(6)
    assert data[:2] + data[3:5] == bench.sensor.serial.to_bytes(4, "big")


def test_faults() -> None:
    bench = Bench()
    for name in ("absent", "stuck_high"):
        bench.sensor.fault(name)
        with pytest.raises(Nack):
            bench.command(0x2400)
        assert not bench.sensor.present
        bench.sensor.clear(name)
    bench.sensor.fault("stuck_low")
    assert bench.sensor.stuck
    bench.sensor.clear("stuck_low")
    bench.measure()
    bench.sensor.fault("frozen")
    bench.air.set(temperature=80.0)
    assert bench.measure()[0] == pytest.approx(25, abs=0.01)
    bench.sensor.clear("frozen")
    assert bench.measure()[0] == pytest.approx(80, abs=0.01)
    for name in ("crc", "bit_error"):
        bench.sensor.fault(name)
        bench.command(0x2400)
        bench.clock.pass_(0.016)
        data = bench.sensor.read(6)
        assert (crc8(data[:2]), crc8(data[3:5])) != (data[2], data[5])
        bench.sensor.clear(name)
