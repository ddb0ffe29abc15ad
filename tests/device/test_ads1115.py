"""ADS1115 codec and driver. Values: ADS1115 datasheet; what the filter takes: TI SBAS563."""

import asyncio
import math

from gridnode.meters import ads1115
from gridnode.setup import calibration

I2C = {"id": 0, "scl": 22, "sda": 21, "freq": 400000, "address": 0x48}
SLOW = {
    "id": "aux",
    "i2c": I2C,
    "inputs": [
        {"channel": 2, "name": "aux1", "gain_v": 4.096, "scale": 5, "offset": -2.5},
        {"channel": "0-1", "name": "temperature", "gain_v": 0.256, "scale": 1000},
    ],
}
CLAMP = {
    "id": "main",
    "i2c": I2C,
    "current": [{"channel": "0-1", "gain_v": 1.024, "ratio": 2000, "burden_ohm": 22}],
}
MV_PER_A = 11
HZ = 50


class Converter:
    """The chip with its clock and filter, its bus, the machine, the time and asyncio's sleep."""

    def __init__(self, signal):
        self.signal = signal  # volts of (multiplexer, s)
        self.us = 1000
        self.rate = {4: 128, 7: 860}
        self.bus_us = 150
        self.present = True
        self.answer = None  # what every read shows
        self.pauses = {}  # number of a transfer -> us that something else takes before it
        self.transfers = 0
        self.power_on()

    def power_on(self):
        self.config = 0x8583
        self.result = 0
        self.ready = 0

    def I2C(self, number, scl, sda, freq, timeout):
        assert (number, scl, sda, freq) == (0, 22, 21, 400000)
        return self

    def Pin(self, number):
        return number

    def _transfer(self, address):
        assert address == 0x48
        self.transfers += 1
        self.us += self.bus_us + self.pauses.get(self.transfers, 0)
        if not self.present:
            raise OSError(19)
        if self.ready and self.us >= self.ready:
            self.ready = 0
            self.result = self.next

    def writeto(self, address, data):
        self.writeto_mem(address, data[0], data[1:])

    def writeto_mem(self, address, register, data):
        self._transfer(address)
        assert register == 1 and len(data) == 2
        word = data[0] << 8 | data[1]
        self.config = word & 0x7FFF
        if word & 0x8000 and not self.ready:
            span = 1 / self.rate[word >> 5 & 7]
            full = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256)[word >> 9 & 7]
            begin = self.us / 1e6
            mean = 0.0
            for k in range(8):
                mean += self.signal(word >> 12 & 7, begin + (k + 0.5) * span / 8) / 8
            self.next = max(-0x8000, min(0x7FFF, round(mean / full * 32768)))
            self.ready = self.us + int(span * 1e6)

    def readfrom_mem_into(self, address, register, data):
        self._transfer(address)
        value = (self.result, self.config | (0 if self.ready else 0x8000))[register]
        if self.answer is not None:
            value = self.answer
        data[0], data[1] = value >> 8 & 0xFF, value & 0xFF

    async def sleep_ms(self, ms):
        self.us += 1000 * ms

    def ticks_us(self):
        self.us += 3
        return self.us

    def ticks_ms(self):
        return self.us // 1000

    def ticks_diff(self, a, b):
        return a - b


def running(spec, signal, stored=None):
    chip = Converter(signal)
    ads1115.asyncio = chip
    meter = ads1115.Meter(spec, {}, chip, chip)
    assert meter.start(calibration.correction(spec, stored)) == ("gain",) and not chip.transfers
    return chip, meter


def block(meter):
    return asyncio.run(meter.block())


def wave(amperes, hertz=HZ, harmonics=(), bias=0.0):
    """Volts of a clamp on the pair 0-1."""

    def volts(mux, t):
        turn = 2 * math.pi * hertz * (t % 1000)
        value = math.sin(turn + 0.7)
        for order, share in harmonics:
            value += share * math.sin(order * turn + order)
        return bias + value * amperes * math.sqrt(2) * MV_PER_A / 1000

    return volts


def test_config_words():
    assert ads1115.config(0, 4.096) == 0xC383
    assert ads1115.config(3, 2.048) == 0xF583
    assert ads1115.config("0-1", 0.256, 0x00E0) == 0x8BE3
    assert ads1115.config("2-3", 6.144) == 0xB183 and ads1115.config("0-3", 1.024) == 0x9783


def test_counts():
    assert ads1115.signed(0x7F, 0xFF) == 32767 and ads1115.signed(0x80, 0) == -32768
    assert ads1115.signed(0xFF, 0xFF) == -1 and ads1115.signed(0x12, 0x34) == 0x1234
    assert ads1115.clipped(0x7FFF) and ads1115.clipped(-0x8000) and not ads1115.clipped(0x7FFE)


def test_slow_inputs():
    chip, meter = running(SLOW, lambda mux, t: {6: 2.0, 0: -0.0215}[mux])
    x = block(meter)
    assert meter.names == ("aux1", "temperature") and not meter.counts_energy
    assert not x.quality and abs(x.at[0]["aux1"] - 7.5) < 1e-3, (x.at, x.quality, meter.problem)
    assert abs(x.at[0]["temperature"] + 21.5) < 5e-3, x.at[0]


def test_a_clipped_input_is_saturated_the_other_stands():
    for volts in (5.0, -5.0):
        chip, meter = running(SLOW, lambda mux, t, volts=volts: volts if mux == 6 else 0.01)
        x = block(meter)
        assert x.quality == {"aux1": "saturated"} and x.at[0]["aux1"] is None
        assert abs(x.at[0]["temperature"] - 10) < 1e-2


def test_current_over_range_and_frequency():
    worst = 0
    for hertz in (45, 50, 55, 60, 65):
        for amperes in (1.5, 12, 36):
            chip, meter = running(CLAMP, wave(amperes, hertz))
            x = block(meter)
            assert not x.quality, (x.quality, meter.problem)
            worst = max(worst, abs(x.at[0]["current"] / amperes - 1))
    assert worst < 0.0015, worst


def test_bias_of_a_single_input_is_taken_off():
    spec = dict(CLAMP, current=[dict(CLAMP["current"][0], channel=0, gain_v=4.096)])
    chip, meter = running(spec, wave(3, bias=1.65))
    assert abs(block(meter).at[0]["current"] - 3) < 0.006


def test_gain_of_the_calibration():
    stored = {"version": 2, "meters": {"main": {"current": [{"gain": 1.02}]}}}
    chip, meter = running(CLAMP, wave(10), stored)
    assert abs(block(meter).at[0]["current"] - 10.2) < 0.01


def test_no_load_is_zero_and_too_much_is_saturated():
    chip, meter = running(CLAMP, wave(0.003))
    assert block(meter).at[0]["current"] == 0
    chip, meter = running(CLAMP, wave(70))
    x = block(meter)
    assert x.quality == {"current": "saturated"} and x.at[0]["current"] is None


def test_a_distorted_current_is_measured_or_refused():
    chip, meter = running(CLAMP, wave(10, harmonics=((3, 0.16), (5, 0.1), (7, 0.06))))
    true = 10 * math.sqrt(1 + 0.16**2 + 0.1**2 + 0.06**2)
    assert abs(block(meter).at[0]["current"] / true - 1) < 0.004
    rectifier = tuple([(n, (-1) ** (n // 2) * math.exp((1 - n) / 9)) for n in range(3, 22, 2)])
    chip, meter = running(CLAMP, wave(6, harmonics=rectifier))
    assert block(meter).quality == {"current": "implausible"}


def test_current_and_slow_inputs_on_one_chip():
    spec = dict(CLAMP, inputs=SLOW["inputs"][:1])
    slow = wave(5)
    chip, meter = running(spec, lambda mux, t: 2.0 if mux == 6 else slow(mux, t))
    x = block(meter)
    assert meter.names == ("aux1", "current") and abs(x.at[0]["aux1"] - 7.5) < 1e-3
    assert abs(x.at[0]["current"] - 5) < 0.01
    assert 200 < x.ms < 240, x.ms


def test_a_late_sample_costs_a_burst_not_the_value():
    chip, meter = running(CLAMP, wave(10))
    chip.pauses[100] = 5000
    x = block(meter)
    assert meter.errors == 1 and abs(x.at[0]["current"] - 10) < 0.01
    chip, meter = running(CLAMP, wave(10))
    chip.bus_us = 1200  # too slow a bus
    x = block(meter)
    assert x.quality == {"current": "stale"} and x.ms < 1000 and meter.problem, (x.quality, x.ms, meter.problem)


def test_unplugged_and_plugged_in_again():
    chip, meter = running(CLAMP, wave(10))
    block(meter)
    chip.present = False
    assert block(meter).quality == {"current": "bus_fault"}
    chip.present = True
    chip.power_on()
    assert not block(meter).quality


def test_ones_and_zeros_are_no_answer():
    for spec in (SLOW, CLAMP):
        for answer in (0xFFFF, 0):
            chip, meter = running(spec, wave(10))
            chip.answer = answer
            x = block(meter)
            assert set(x.quality.values()) == {"bus_fault"} and len(x.quality) == len(meter.names)
            assert "config" in meter.problem


def test_a_chip_that_restarts_in_a_burst_is_seen():
    chip, meter = running(CLAMP, wave(10))
    block(meter)
    write = chip.writeto

    def restart(address, data):
        if chip.transfers < 600:
            write(address, data)
        else:
            chip._transfer(address)
            chip.power_on()

    chip.writeto = restart
    x = None
    while chip.transfers < 600:
        x = block(meter)
    assert x.quality == {"current": "bus_fault"} and "config 8583" in meter.problem, (x.quality, meter.problem)


def test_a_conversion_that_never_ends_and_a_stuck_result():
    chip, meter = running(SLOW, wave(0))
    chip.rate = {4: 1, 7: 1}
    x = block(meter)
    assert x.quality["aux1"] == "bus_fault" and "never ready" in meter.problem and x.ms < 100
    chip, meter = running(CLAMP, lambda mux, t: 0.2)
    assert block(meter).quality == {"current": "bus_fault"} and "alike" in meter.problem
