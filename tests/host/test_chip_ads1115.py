"""ADS1115: registers, conversion times and codes of TI's data sheet (facts B.7)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gridnode_host.bench.chips.ads1115 import Ads1115, Pin
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.segment import Floats
from gridnode_host.bench.wiring import Nack
from rig_time import HandClock

AIN0_4V_128 = 0xC383
AIN0_4V_860 = 0xC3E3


class Bench:
    def __init__(self, *pins: Pin | float | None, noise: float = 0.0) -> None:
        self.clock = HandClock()
        given = [*pins, *[None] * (4 - len(pins))]
        sources = [level(pin) if isinstance(pin, int | float) else pin for pin in given]
        self.chip = Ads1115(self.clock.now, sources, noise_lsb=noise)

    def write(self, register: int, value: int) -> None:
        self.chip.write(bytes((register,)) + value.to_bytes(2, "big"))

    def read(self, register: int) -> int:
        self.chip.write(bytes((register,)))
        return int.from_bytes(self.chip.read(2), "big")

    def convert(self, config: int, wait: float = 0.2) -> int:
        self.write(1, config)
        self.clock.pass_(wait)
        return self.read(0)


def level(volts: float) -> Pin:
    def source(t: Floats) -> Floats:
        return np.full(len(t), volts)

    return source


def test_registers() -> None:
    bench = Bench()
    assert [bench.read(k) for k in range(4)] == [0, 0x8583, 0x8000, 0x7FFF]
    bench.write(2, 0x1234)
    bench.write(0, 0x5555)
    assert (bench.read(2), bench.read(0)) == (0x1234, 0)
    assert bench.chip.read(2) == b"\0\0", "the pointer stays"


@pytest.mark.parametrize(
    ("config", "seconds"), [(AIN0_4V_128, 1 / 128), (AIN0_4V_860, 1 / 860), (0xC303, 1 / 8)]
)
def test_single_shot_takes_its_time(config: int, seconds: float) -> None:
    bench = Bench(1.0)
    bench.write(1, config)
    assert bench.read(1) == config & 0x7FFF, "busy"
    bench.clock.pass_(seconds - 1e-5)
    assert (bench.read(1) >> 15, bench.read(0)) == (0, 0)
    bench.clock.pass_(1e-4)
    assert bench.read(1) == config
    assert bench.read(0) == 8000


@pytest.mark.parametrize(
    ("gain", "full_scale"),
    [*enumerate((6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256))],
)
def test_full_scales_and_clipping(gain: int, full_scale: float) -> None:
    bench = Bench(0.2, 0.1, 3.3, 0.0)
    assert bench.convert(0x8103 | 4 << 12 | gain << 9 | 7 << 5) == round(0.2 / full_scale * 32768)
    top = bench.convert(0x8103 | 6 << 12 | gain << 9 | 7 << 5)
    assert top == min(round(3.3 / full_scale * 32768), 0x7FFF)
    low = bench.convert(0x8103 | 2 << 12 | gain << 9 | 7 << 5)  # AIN1 - AIN3
    assert low == round(0.1 / full_scale * 32768)


def test_pairs_are_signed_and_end_at_8000() -> None:
    bench = Bench(0.5, 2.0, 1.0, 3.0)
    expected = {0: -1.5, 1: -2.5, 2: -1.0, 3: -2.0, 4: 0.5, 5: 2.0, 6: 1.0, 7: 3.0}
    for mux, volts in expected.items():
        assert bench.convert(0x8103 | mux << 12 | 1 << 9 | 7 << 5) == round(volts * 8000) & 0xFFFF
    assert bench.convert(0x8103 | 0 << 12 | 3 << 9 | 7 << 5) == 0x8000


def test_pins_end_at_the_supply() -> None:
    bench = Bench(5.0, -2.0)
    assert bench.convert(0x8103 | 4 << 12 | 0 << 9) == round(3.6 / 6.144 * 32768)
    assert bench.convert(0x8103 | 5 << 12 | 0 << 9) == round(-0.3 / 6.144 * 32768) & 0xFFFF


def test_a_result_is_the_mean_over_its_conversion() -> None:
    clock = HandClock()
    circuit = Circuit(1, clock)
    circuit.set(current=1.0)

    def sine(t: Floats) -> Floats:
        return circuit.signal("current", 0, t)

    bench = Bench(level(1.65), level(1.65))
    bench.clock = clock
    bench.chip = Ads1115(clock.now, [lambda t: 1.65 + sine(t), level(1.65), None, None], noise_lsb=0.0)
    values = []
    for _ in range(8600):
        raw = bench.convert(0x8103 | 0 << 12 | 2 << 9 | 7 << 5, 1.7e-3)
        values.append((raw - (raw >> 15 << 16)) / 16000)
    x = math.pi * 50 / 860
    assert np.std(values) == pytest.approx(math.sin(x) / x, rel=1e-3)


def test_continuous_mode_tells_the_newest_result() -> None:
    volts = [1.0]
    bench = Bench(lambda t: np.full(len(t), volts[0]))
    bench.write(1, 0x4283)  # AIN0, 4.096 V, 128/s
    bench.clock.pass_(0.0079)
    assert bench.read(0) == 8000
    volts[0] = 2.0
    bench.clock.pass_(0.0078)
    assert bench.read(0) == 16000
    bench.clock.pass_(100.0)
    assert bench.read(0) == 16000
    assert bench.read(1) == 0x4283


def test_settings_written_during_a_conversion_hold_for_the_next() -> None:
    bench = Bench(1.0, 2.0)
    bench.write(1, AIN0_4V_128)
    bench.write(1, 0xD383)
    bench.clock.pass_(0.01)
    assert bench.read(0) == 8000
    assert bench.convert(0xD383) == 16000


def test_noise_is_that_of_the_last_place() -> None:
    bench = Bench(1.0, noise=0.6)
    values = [bench.convert(0xC3E3, 0.002) for _ in range(500)]
    assert np.mean(values) == pytest.approx(8000, abs=0.2)
    assert 0.4 < np.std(values) < 1.0


def test_faults() -> None:
    bench = Bench(1.0)
    bench.convert(AIN0_4V_128)
    for name in ("absent", "stuck_high"):
        bench.chip.fault(name)
        with pytest.raises(Nack):
            bench.read(0)
        bench.chip.clear(name)
    bench.chip.fault("bit_error")
    assert bench.read(0) != 8000
    bench.chip.clear("bit_error")
    bench.write(2, 0x1234)
    bench.chip.brown_out()
    assert [bench.read(k) for k in range(4)] == [0, 0x8583, 0x8000, 0x7FFF]
