"""TI ADS1115: slow auxiliary inputs, and the RMS of one current. Registers: ADS1115 datasheet; filter: TI SBAS563.

The functions above `Meter` are the codec: bytes and numbers in and out.

A current is sampled in single shots for ten cycles at a pace of its own, 2.17 ms: at whole multiples of the mains
frequency harmonics would fold onto the mean square. Nothing else runs for these 0.2 s: samples between the steps of
other tasks would come 2 to 4 ms apart, which costs 2 %. A conversion is the mean of the input over its 1/860 s, which
takes 0.56 % of 50 Hz and more of harmonics: what is lost of a square is in good part the square of the slope times
1/12 of that time squared. It holds to 0.2 % below a THD of 20 % and to 2 % at 50 %; beyond that the value is refused.
"""

import asyncio
import math
from array import array
from micropython import const

from gridnode import reading as r
from gridnode.meters.polled import BusError, Polled, Unusable

_CONVERSION = const(0)
_CONFIG = const(1)
_IDLE = const(0x8000)
_SINGLE_SHOT = const(0x8103)  # start, single shot, comparator off
_RATE_128 = const(0x0080)
_RATE_860 = const(0x00E0)

_MUX = {"0-1": 0, "0-3": 1, "1-3": 2, "2-3": 3, 0: 4, 1: 5, 2: 6, 3: 7}
_GAINS = const((6.144, 4.096, 2.048, 1.024, 0.512, 0.256))

_SAMPLES = const(92)
_PACE_US = const(2170)
_READY_US = const(1310)  # a conversion when the chip's clock is 10 % slow, and its awakening
_LATE_US = const(1000)  # more between two samples than meant spoils the burst
_BURSTS = const(2)
_SLOPE = const(1.177e-7)  # s^2: 1/12 of the conversion's square, and 4 % since the slope is taken from differences
_HARMONIC = const(1.015)  # correction of a THD of 50 %
_FLOOR = const(4.0)  # counts squared: twice the converter's noise


def config(channel, gain_v, rate=_RATE_128):
    """Word that starts one conversion: 0xC383 for channel 0 at 4.096 V and 128 per second."""
    return _SINGLE_SHOT | _MUX[channel] << 12 | _GAINS.index(gain_v) << 9 | rate


def signed(high, low):
    """A result in counts, 32768 to the full scale."""
    value = high << 8 | low
    return value - 0x10000 if value & 0x8000 else value


def clipped(counts):
    """The input is beyond the converter's range."""
    return counts in (0x7FFF, -0x8000)


def rms(samples, times):
    """(RMS, RMS as the filter leaves it) in counts of array('h') at times in us from the first, by a Hann window."""
    n = len(samples)
    middle = sum(samples) // n  # the bias: squares of what is left keep their digits in a float of 24 bits
    turn = 2 * math.pi / times[n - 1]
    weight = mean = square = slope = 0.0
    before = time = 0
    for k in range(n):
        last, time = time, times[k]
        after = times[k + 1] if k + 1 < n else time
        w = (1 - math.cos(turn * time)) * (after - last)
        x = samples[k] - middle
        weight += w
        mean += w * x
        square += w * x * x
        if k:
            rate = (x - before) * 1e6 / (time - last)
            slope += w * rate * rate
        before = x
    left = max(0.0, square / weight - (mean / weight) ** 2)
    return math.sqrt(left + _SLOPE * slope / weight), math.sqrt(left)


class Meter(Polled):
    """ADS1115 of one profile entry. `machine` and `time` are passed in; nothing is touched before `start`."""

    counts_energy = False
    period_ms = 700  # a row of one second always has a reading

    def __init__(self, spec, profile, machine, time):
        super().__init__(spec, time)
        self._spec = spec
        self._machine = machine
        self._address = spec["i2c"].get("address", 0x48)
        self._inputs = [_input(entry) for entry in spec.get("inputs", ())]
        self._current = None
        self.names = tuple([x[0] for x in self._inputs])
        if "current" in spec:
            self.names += ("current",)

    def start(self, correction):
        """Take the bus and the memory for a burst; the current's gain is applied here."""
        from gridnode.setup import buses

        spec = self._spec
        self._bus = buses.i2c(self._machine, spec)
        self._spec = self._machine = None
        self._word = bytearray(2)
        if "current" in spec:
            self._current = _clamp(spec["current"][0], correction.current[0][0])
            self._samples = array("h", [0] * _SAMPLES)
            self._times = array("i", [0] * _SAMPLES)
        return ("gain",)

    async def measure(self, reading):
        """The burst of the current, which takes 0.2 s, then one conversion of each slow input."""
        if self._current:
            await self._amperes(reading, *self._current)
        values = reading.at[0]
        for name, word, scale, offset in self._inputs:
            self._write(word)
            await asyncio.sleep_ms(9)
            counts = await self._result(word)
            values[name] = counts * scale + offset
            if clipped(counts):
                reading.spoil(0, name, r.SATURATED)

    async def _amperes(self, reading, word, scale):
        for _ in range(_BURSTS):
            self._write(word)
            await asyncio.sleep_ms(2)
            await self._result(word)  # the chip is there, and set
            in_time = self._burst(word)
            await asyncio.sleep_ms(2)
            await self._result(word)  # and has been all the time
            if in_time:
                break
            self.errors += 1
        else:
            raise Unusable("samples came late", r.STALE)
        samples = self._samples
        high, low = max(samples), min(samples)
        if clipped(high) or clipped(low):
            reading.spoil(0, "current", r.SATURATED)
            return
        if high == low and high * high > _FLOOR:
            raise BusError("every sample alike")
        total, filtered = rms(samples, self._times)
        if total * total < _FLOOR:
            reading.at[0]["current"] = 0.0
        elif total > filtered * _HARMONIC:
            reading.spoil(0, "current", r.IMPLAUSIBLE)
        else:
            reading.at[0]["current"] = total * scale

    def _burst(self, word):
        """Take the samples; False when one came late."""
        ticks, since = self._time.ticks_us, self._time.ticks_diff
        read, write, address = self._bus.readfrom_mem_into, self._bus.writeto, self._address
        samples, times, result = self._samples, self._times, self._word
        start = bytes((_CONFIG, word >> 8, word & 0xFF))
        write(address, start)
        begun = wrote = ticks()
        longest = 0
        for k in range(_SAMPLES):
            times[k] = since(wrote, begun)
            due = (k + 1) * _PACE_US
            while since(ticks(), begun) < due or since(ticks(), wrote) < _READY_US:
                pass
            read(address, _CONVERSION, result)
            write(address, start)
            before, wrote = wrote, ticks()
            longest = max(longest, since(wrote, before))
            samples[k] = signed(result[0], result[1])
        return longest < _PACE_US + _LATE_US

    def _write(self, word):
        self._bus.writeto_mem(self._address, _CONFIG, bytes((word >> 8, word & 0xFF)))

    async def _result(self, word):
        """Counts of the conversion that was started with `word`; the chip must still be set so."""
        for _ in range(10):
            self._bus.readfrom_mem_into(self._address, _CONFIG, self._word)
            found = self._word[0] << 8 | self._word[1]
            if found & ~_IDLE != word & ~_IDLE:
                raise BusError("config %04X" % found)
            if found & _IDLE:
                self._bus.readfrom_mem_into(self._address, _CONVERSION, self._word)
                return signed(self._word[0], self._word[1])
            await asyncio.sleep_ms(2)
        raise BusError("never ready")


def _input(entry):
    """(name, configuration, unit per count, offset) of a slow input."""
    full = entry.get("gain_v", 4.096)
    return entry["name"], config(entry["channel"], full), full / 32768 * entry.get("scale", 1), entry.get("offset", 0)


def _clamp(entry, gain):
    """(configuration, A per count) of a current."""
    full = entry.get("gain_v", 1.024)
    mv_per_a = entry.get("shunt_mohm") or 1000 * entry["burden_ohm"] / entry["ratio"]
    return config(entry["channel"], full, _RATE_860), gain * 1000 * full / 32768 / mv_per_a
