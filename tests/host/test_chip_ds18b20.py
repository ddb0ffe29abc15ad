"""DS18B20: ROM commands, scratchpad and times of Maxim's data sheet, over a bus of several."""

from __future__ import annotations

import pytest
from gridnode_host.bench.bus import Op
from gridnode_host.bench.chips.ds18b20 import Ds18b20, crc8, rom_of
from gridnode_host.bench.environment import Environment
from gridnode_host.bench.one_wire import OneWireBus
from gridnode_host.bench.wiring import Wiring
from rig_time import HandClock

PIN = 27


class Bench:
    """A master in a few lines, on the bus that the node's pin has."""

    def __init__(self, *serials: int) -> None:
        self.clock = HandClock()
        self.place = Environment(25.0625)
        wiring = Wiring()
        self.sensors = []
        for serial in serials:
            sensor = Ds18b20(self.clock.now, rom_of(serial), self.place.temperature)
            wiring.attach_onewire(PIN, sensor)
            self.sensors.append(sensor)
        self._do = OneWireBus(wiring).handlers()

    def reset(self) -> bool:
        return bool(self._do[Op.ONEWIRE_RESET](PIN, 0, 0, b""))

    def write(self, *data: int) -> None:
        self._do[Op.ONEWIRE_WRITE](PIN, 8 * len(data), 0, bytes(data))

    def bit(self) -> int:
        value = self._do[Op.ONEWIRE_READ](PIN, 1, 0, b"")
        assert isinstance(value, int)
        return value

    def read(self, n: int) -> bytes:
        return bytes(sum(self.bit() << k for k in range(8)) for _ in range(n))

    def scratchpad(self) -> bytes:
        assert self.reset()
        self.write(0xCC, 0xBE)
        return self.read(9)

    def convert(self, wait: float = 0.76) -> float:
        assert self.reset()
        self.write(0xCC, 0x44)
        self.clock.pass_(wait)
        data = self.scratchpad()
        assert crc8(data[:8]) == data[8]
        return int.from_bytes(data[:2], "little", signed=True) / 16

    def choose(self, bit: int) -> None:
        self._do[Op.ONEWIRE_WRITE](PIN, 1, 0, bytes((bit,)))


def test_crc_and_power_on_scratchpad_of_the_data_sheet() -> None:
    assert crc8(bytes.fromhex("02 1C B8 01 00 00 00")) == 0xA2  # Maxim application note 27
    bench = Bench(1)
    assert bench.scratchpad() == bytes.fromhex("50 05 4B 46 7F FF 0C 10 1C")


@pytest.mark.parametrize(
    ("degrees", "raw"),
    [
        (140.0, "D007"),
        (125.0, "D007"),
        (85.0, "5005"),
        (25.0625, "9101"),
        (0.5, "0800"),
        (-0.5, "F8FF"),
        (-55.0, "90FC"),
    ],
)
def test_temperatures_of_the_data_sheet(degrees: float, raw: str) -> None:
    bench = Bench(1)
    bench.place.set(temperature=degrees)
    bench.convert()
    assert bench.scratchpad()[:2] == bytes.fromhex(raw)


def test_conversion_takes_its_time_and_tells_when_it_is_over() -> None:
    bench = Bench(1)
    bench.reset()
    bench.write(0xCC, 0x44)
    bench.clock.pass_(0.74)
    assert bench.bit() == 0
    assert bench.scratchpad()[:2] == bytes.fromhex("5005"), "still 85 degrees"
    bench.clock.pass_(0.02)
    assert bench.scratchpad()[:2] == bytes.fromhex("9101")
    bench.reset()
    bench.write(0xCC, 0x44)
    bench.clock.pass_(0.76)
    assert bench.bit() == 1


@pytest.mark.parametrize(("config", "seconds"), [(0x1F, 0.094), (0x3F, 0.188), (0x5F, 0.376)])
def test_resolution(config: int, seconds: float) -> None:
    bench = Bench(1)
    bench.reset()
    bench.write(0xCC, 0x4E, 0x7F, 0x80, config)
    assert bench.scratchpad()[2:5] == bytes((0x7F, 0x80, config))
    assert bench.convert(seconds) == 25.0


def test_marks_are_lost_with_the_power_unless_they_are_copied() -> None:
    bench = Bench(1)
    bench.reset()
    bench.write(0xCC, 0x4E, 0x7F, 0x80, 0xFF)
    assert bench.scratchpad()[2:5] == bytes.fromhex("7F807F"), "fixed bits"
    bench.convert()
    bench.sensors[0].brown_out()
    assert bench.scratchpad() == bytes.fromhex("50 05 4B 46 7F FF 0C 10 1C")
    bench.reset()
    bench.write(0xCC, 0x4E, 0x11, 0x22, 0x7F)
    bench.reset()
    bench.write(0xCC, 0x48)
    assert bench.bit() == 0
    bench.clock.pass_(0.011)
    bench.sensors[0].power(False)
    assert not bench.reset()
    bench.sensors[0].power(True)
    assert bench.scratchpad()[2:4] == bytes((0x11, 0x22))


def test_rom_and_supply() -> None:
    bench = Bench(0x123456)
    bench.reset()
    bench.write(0x33)
    rom = bench.read(8)
    assert rom == bytes.fromhex("28 56 34 12 00 00 00") + bytes((crc8(rom[:7]),))
    bench.reset()
    bench.write(0x55, *rom, 0xB4)
    assert bench.bit() == 1, "not parasite"
    bench.reset()
    bench.write(0x55, *rom_of(7), 0xBE)
    assert bench.read(9) == b"\xff" * 9


def search(bench: Bench) -> set[bytes]:
    """All ROMs by walking both ways at every fork."""
    found = set()
    paths: list[list[int]] = [[]]
    while paths:
        path = paths.pop()
        bench.reset()
        bench.write(0xF0)
        bits: list[int] = []
        for k in range(64):
            pair = bench.bit(), bench.bit()
            if pair == (1, 1):
                break
            bit = path[k] if k < len(path) else pair[0]
            if pair == (0, 0) and k >= len(path):
                paths.append([*bits, 1])
            bench.choose(bit)
            bits.append(bit)
        else:
            found.add(sum(bit << k for k, bit in enumerate(bits)).to_bytes(8, "little"))
    return found


def test_search_finds_all_of_several_and_match_picks_one() -> None:
    serials = (1, 2, 3, 0x800000000001)
    bench = Bench(*serials)
    assert search(bench) == {rom_of(serial) for serial in serials}
    assert search(Bench()) == set()
    bench.reset()
    bench.write(0x55, *rom_of(3), 0x4E, 1, 2, 0x7F)
    marks = []
    for serial in serials:
        bench.reset()
        bench.write(0x55, *rom_of(serial), 0xBE)
        marks.append(bench.read(9)[2:4])
    assert marks == [b"KF", b"KF", b"\1\2", b"KF"]


def test_alarm_search() -> None:
    bench = Bench(1)
    bench.place.set(temperature=72.0)  # between the factory's marks of 75 and 70
    bench.convert()
    bench.reset()
    bench.write(0xEC)
    assert (bench.bit(), bench.bit()) == (1, 1)
    bench.place.set(temperature=80.0)
    bench.convert()
    bench.reset()
    bench.write(0xEC)
    assert (bench.bit(), bench.bit()) == (0, 1), "family code 28 begins with a 0"


def test_faults() -> None:
    bench = Bench(1)
    sensor = bench.sensors[0]
    for name in ("absent", "stuck_high"):
        sensor.fault(name)
        assert not bench.reset()
        assert bench.read(2) == b"\xff\xff"
        sensor.clear(name)
    sensor.fault("stuck_low")
    bench.reset()
    bench.write(0xCC, 0xBE)
    assert bench.read(9) == bytes(9)
    sensor.clear("stuck_low")
    for name in ("bit_error", "crc"):
        sensor.fault(name)
        data = bench.scratchpad()
        assert crc8(data[:8]) != data[8]
        sensor.clear(name)
    sensor.fault("wrong_id")
    bench.reset()
    bench.write(0x33)
    rom = bench.read(8)
    assert rom != sensor.rom and crc8(rom[:7]) == rom[7]
    sensor.clear("wrong_id")
    bench.convert()
    sensor.fault("frozen")
    bench.place.set(temperature=70.0)
    assert bench.convert() == 25.0625
