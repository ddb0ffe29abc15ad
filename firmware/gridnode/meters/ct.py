"""CT clamps and voltage transformers on the ESP32 ADC: V, I, P, Q1, THD, harmonics, frequency and supply events.

The codec takes the sums of the sampling kernel and gives physical values; `Meter` owns the converter. All channels
are read in one scan of whole mains cycles; a single voltage serves all currents.
"""

import asyncio
import math
import sys
from array import array
from micropython import const

from gridnode import reading as r

try:
    from gridnode.meters import waveform as w
except (ImportError, ValueError):  # no native loader, or code for another core
    from gridnode.meters import waveform_plain as w

# Orders and bits of the number of bins per channel, for two channels and for three to six. More channels mean fewer
# sets per cycle. The kernel tells what an order suffers; the time of a set does not depend on it.
_SHARES = const(((15, 7), (7, 6)))

# Words of a channel's sums in the kernel's results.
_SQUARE = const(1)
_FIRST = const(3)
_SECOND = const(5)
_SATURATED = const(7)

_RECORD = const(2)  # words of a half cycle before its squares

_DEADBAND = const(4.0)  # standard deviations of the noise of a mean square below which a current is no load
_DISTORTION = const(400.0)  # of them in a fundamental that may have a THD: below, noise alone would show as 5 %
_SLOWLY = const(8)  # blocks in which the bias is followed: a cut cycle has a mean of its own
_TURN_MS = const(2)
_TICKS = const(0x3FFFFFFF)  # the kernel's, whatever the period of the platform's
_WEAK = const(400.0)  # of the mean square of noise: a signal that it matters to
_ROUGH = const(7)  # orders that are strong enough to look like noise
_STALL_US = const(200)  # a set that comes so much later spoils its cycle
_SQUARES = const(512.0)  # of a peak in 1/256 mV, in the mean square in (1/16 mV)^2


def covariance(low, high, a, b, n):
    """Mean of n products whose sum is given in two parts, less the product of the means of the sums a and b."""
    return (high * 16384.0 + low - a / n * b) / n


def quiet(records, end, limits):
    """Whether all half cycles up to `end` lie within the limits, the least and the largest square of each voltage."""
    phases = len(limits) // 2
    for j in range(phases):
        low, high = limits[2 * j], limits[2 * j + 1]
        for k in range(_RECORD + j, end, _RECORD + phases):
            if not low <= records[k] <= high:
                return False
    return True


def noise_square(s, at, n, squares, angle):
    """Mean square of the converter's noise in (1/16 mV)^2, from the first voltage, whose sums lie at `at`.

    The mains is smooth from set to set and white noise is not: with the autocovariance R at 0, 1 and 2 sets the
    noise is R(0) - (4 R(1) - R(2)) / 3, less what that leaves of the known harmonics. The mean cancels out.
    squares: mean squares of the orders 1, 2, ..; angle: advance of the fundamental per set, radians.
    """
    high = 3 * s[at + _SQUARE + 1] - 4 * s[at + _FIRST + 1] + s[at + _SECOND + 1]
    low = 3 * s[at + _SQUARE] - 4 * s[at + _FIRST] + s[at + _SECOND]
    noise = (high * 16384.0 + low) / (3 * n)
    for k in range(min(_ROUGH, len(squares))):
        x = ((k + 1) * angle) ** 2
        noise -= squares[k] * x * x * (6 - x) / 36  # of 1 - (4 cos h - cos 2h) / 3
    return max(0.0, noise)


def response(corner, slower):
    """What a transformer makes of a mean square, 1 at nominal frequency; slower: nominal over actual frequency.

    Its magnetising current is a first-order high-pass; corner: square of its corner frequency over the nominal one.
    """
    return (1 + corner) / (1 + corner * slower * slower)


class Channel:
    """One input of the converter, and what the last block has found there in V or A, noise taken off."""

    def __init__(self, place, scale, lead, orders, bins):
        self.place = place  # in the scan
        self.words = w.CHANNEL + place * w.CHANNEL_WORDS  # of the kernel's parameters, the offset first
        self.at = w.SUMS + place * w.SUM_WORDS  # of its results
        self.scale = scale  # V or A per 1/16 mV
        self.peak = scale * math.sqrt(8) * (1 + (math.pi / bins) ** 2 / 3)  # of the kernel's first, per set
        self.lead = lead  # radians, of the sensed over the true signal
        self.corner = math.tan(max(0.0, lead)) ** 2
        self.higher = response(self.corner, 1 / 3)  # of the higher orders: none is far from the third
        self.first = 1.0  # of the fundamental
        self.squares = array("f", bytes(4 * orders))  # mean squares of the orders 1, 2, ..
        self.square = 0.0  # mean square
        self.harmonic = None  # of it, what is not the fundamental
        self.re = self.im = 0.0  # phasor of the fundamental, rms, as sensed
        self.saturated = False
        self.noise = None  # (1/16 mV)^2, what the orders leave of a weak signal

    def thd(self, spread):
        """Total harmonic distortion in % (IEEE 1459); spread: of a mean square of noise in (1/16 mV)^2."""
        if self.harmonic is None or self.squares[0] <= _DISTORTION * spread * self.scale * self.scale:
            return None
        return 100 * math.sqrt(self.harmonic / self.squares[0])


class Meter:
    """CT front end of one profile entry. `machine` and `time` are passed in; nothing is read before `start`.

    orders: how many harmonics it measures, the fundamental included. Flag: `sequence` when the second of several
    voltages leads the first, as it does with two phases exchanged; not where they are alike, opposite or lost.
    """

    names = ("voltage", "current", "power", "reactive_power", "thd_voltage", "thd_current", "frequency")
    counts_energy = True
    period_ms = 0  # a block lasts as long as its cycles
    deadband = _DEADBAND  # 0: what is picked up without load shows
    problem = ""
    errors = 0

    def __init__(self, spec, profile, machine, time):
        self.id = spec["id"]
        self.phases = max(len(spec["voltage"]), len(spec["current"]))
        channels = len(spec["voltage"]) + len(spec["current"])
        self.orders, bits = _SHARES[channels > 2]
        self._bins = array("i", range(channels << bits))  # of all buffers the largest, while the heap is whole
        self.reading = r.Reading(self.id, self.phases)
        self._design = spec, profile, machine
        self._time = time
        self._noise = 0.0  # (1/16 mV)^2

    def start(self, correction):
        """Set up the converter, learn bias and rate; returns what of `correction` is applied here."""
        from gridnode.setup import ct

        spec, profile, machine = self._design
        self._design = None
        bins = len(self._bins) // (len(spec["voltage"]) + len(spec["current"]))
        self._volts, self._amperes, reads = ct.channels(machine, spec, correction, self.orders, bins)
        self._calls = tuple([self._time.ticks_us] + reads)
        adc = profile["board"]["adc"]
        self._table = ct.table(correction.adc_table or ct.fused(machine, spec, adc["mv_per_count"]), adc)
        correction.adc_table = None  # applied
        self._sine, self._weights = ct.sine(bins), ct.weights(bins, self.orders)
        self._parameters = ct.parameters(spec, profile, bins, self._table, self._volts, self._amperes)
        self._halves, self._results = ct.buffers(self._parameters, len(self._volts))
        self._phasor = array("i", (0, 0))
        self._thresholds, self._quiet = ct.thresholds(self._volts, profile)
        self._events = None
        self._calm = None  # the last half cycle of a quiet block
        self._spectrum = ct.spectrum(self._volts, self._amperes)
        self._hertz = profile["nominal"]["frequency"]
        self._live = (0.5 * profile["nominal"]["voltage"]) ** 2
        self._noise_sets = 0
        self._observe(1)
        self._noise_sets = 0  # what is noise shows when the harmonics are known
        self._last = self._time.ticks_ms()
        return ("adc", "gain", "phase")

    async def block(self):
        """Observe one block and return the meter's reading: interval and covered time are those of its samples."""
        # Leave the processor to the other tasks: the rest of the cycle in which a pause falls is lost anyway.
        time, reading, pause = self._time, self.reading, 750000 // self._hertz
        for _ in range(pause // (1000 * _TURN_MS)):
            await asyncio.sleep_ms(_TURN_MS)
            if time.ticks_us() - self._ended_us & _TICKS >= pause:
                break
        reading.clear()
        halves = self._observe(_SLOWLY)
        reading.events = self._watch(halves)
        now = time.ticks_ms()
        reading.ms = time.ticks_diff(now, self._last)
        self._last = now
        return reading

    def _observe(self, blocks):
        """Sample and evaluate one block, tracking the bias within so many; returns how many half cycles it recorded."""
        s, p, reading = self._results, self._parameters, self.reading
        w.sample(self._calls, p, self._table, self._bins, self._halves, s)
        n, good, free, spoilt, span_us, sets_us, free_us, binned, halves, self._ended_us = s[: w.SUMS]
        reading.covered_ms = (span_us + free_us) / 1000
        if not n:
            reading.clear(self.names, r.STALE)
            return halves
        slower = self._hertz * span_us / (1e6 * good) if good else 1.0
        reading.at[0]["frequency"] = self._hertz / slower if good else None
        angle = surplus = 0.0
        if free or not good:  # the phase is not known throughout
            binned = 0
        if binned:
            surplus = (sets_us - span_us) / span_us
            angle = 2 * math.pi * good * (1 + surplus) / n
            if not spoilt:
                reading.spectrum = self._spectrum
        self._listen(n, angle)
        for channels in (self._volts, self._amperes):
            for c in channels:
                self._measure(c, n, binned, surplus, slower)
                p[c.words] += 256 * s[c.at] // (n * blocks)
        # Deviation of a mean square of noise, and of the estimate of the noise itself.
        spread = self._noise * math.sqrt(2 / n + 4.5 / self._noise_sets)
        for k in range(self.phases):
            at = k + 1 if self.phases > 1 else 0
            v = self._volts[min(k, len(self._volts) - 1)]
            i = self._amperes[k] if k < len(self._amperes) else None
            self._fill(at, v, i, n, spread, angle, surplus, slower)
        if binned and len(self._volts) > 1:
            a, b = self._volts[0], self._volts[1]
            if a.im * b.re - a.re * b.im < -self._live:
                reading.flags = ("sequence",)  # the second leads by some 15 to 165 degrees
        if good and not free:
            p[w.STEP] = round((good << 24) / n * (sets_us / span_us))
            p[w.GAP_US] = sets_us // n + _STALL_US
        else:
            for v in self._volts:
                if v.square > self._live:
                    p[w.REFERENCE] = v.words
                    break
        return halves

    def _watch(self, count):
        """Supply events. The room that follows them is loaded with the first half cycle that is not quiet, and kept.

        Without the memory for it metering goes on, and the next block that is not quiet asks again.
        """
        records, limits = self._halves, self._quiet
        words = _RECORD + len(self._volts)
        if quiet(records, count * words, limits) and not (self._events and self._events.active()):
            if not count:
                return ()
            records, count = records[(count - 1) * words : count * words], 1
            if not self._events:
                self._calm = records
                return ()
        noise, now = int(self._noise) >> 10, self._time.ticks_us()
        if not self._events:
            try:
                from gridnode.meters.supply_events import SupplyEvents
            except MemoryError:
                sys.modules.pop("gridnode.meters.supply_events", None)
                return ()
            self._events = SupplyEvents(*self._thresholds)
            if self._calm:
                self._events.feed(self._calm, 1, noise, now)
        return self._events.feed(records, count, noise, now)

    def _listen(self, n, angle):
        """Follow the converter's noise; harmonics are those of the last block."""
        v = self._volts[0]
        # With two channels they leave nothing.
        known = [x / (v.scale * v.scale) for x in v.squares] if angle and len(self._calls) > 3 else ()
        self._noise_sets = min(self._noise_sets + n, 16 * n)
        noise = noise_square(self._results, v.at, n, known, angle)
        self._noise += (noise - self._noise) * n / self._noise_sets

    def _measure(self, c, n, binned, surplus, slower):
        """Find a channel's mean squares, without noise and without its transformer's response; binned: sets in bins."""
        s, at, noise, unit = self._results, c.at, self._noise, c.scale * c.scale
        square = covariance(s[at + _SQUARE], s[at + _SQUARE + 1], s[at], s[at], n)
        weak = square < _WEAK * noise
        if weak and c.noise is not None:
            noise = min(noise, c.noise)  # the mains may be noisier than the converter
        c.square = max(0.0, square - noise) * unit
        c.saturated = s[at + _SATURATED] > n // 1000
        c.harmonic = None
        if not binned:
            return
        squares, out = c.squares, self._phasor
        share = int(1024 * noise / binned)  # of noise in the square of a peak
        factor = unit / (_SQUARES * c.higher)
        whole = 0
        for k in range(len(squares) - 1, -1, -1):
            w.phasor(self._bins, c.place, k + 1, self._sine, out)
            part = binned * self._weights[k] >> 14
            re, im = (out[0] << 5) // part, (out[1] << 5) // part
            power = re * re + im * im  # of most orders a small integer, which costs no heap
            squares[k] = (power - share) * factor
            if weak:
                whole += power
        if weak:
            rest = max(0.0, square - whole / _SQUARES)
            c.noise = rest if c.noise is None else c.noise + (rest - c.noise) / 8
        peak = c.peak / binned
        c.re = re = out[0] * peak / (1 + surplus)
        c.im = im = out[1] * peak / (1 - surplus)
        c.first = response(c.corner, slower)
        first = re * re + im * im - 2 * noise / binned * unit
        c.harmonic = max(0.0, c.square + surplus * (c.square - 2 * re * re) - first) / c.higher
        squares[0] = first / c.first
        c.square = first / c.first + c.harmonic

    def _power(self, v, i, n, angle, surplus, slower):
        """P and Q1 of two channels in W and var; Q1 is None where the bins hold nothing.

        The mean product is weighed between the voltages before and after the current. What that makes of the
        fundamental is known: its phasors put it right, and the leads of the transformers with it.
        """
        s, at, channels, later = self._results, i.at, len(self._calls) - 1, i.place - v.place
        low = (channels - later) * s[at + _FIRST] + later * s[at + _SECOND]
        high = (channels - later) * s[at + _FIRST + 1] + later * s[at + _SECOND + 1]
        p = covariance(low, high, channels * s[v.at], s[at], n) * v.scale * i.scale / channels
        if i.harmonic is None:
            return p, None
        active = v.re * i.re
        p += surplus * (p - 2 * active)
        p1, q1 = active + v.im * i.im, v.im * i.re - v.re * i.im
        skew = later / channels  # in sets
        turn = skew * angle + (i.lead - v.lead) * slower
        c, d = math.cos(turn), math.sin(turn)
        p += (c - 1 + skew - skew * math.cos(angle)) * p1 - (d - skew * math.sin(angle)) * q1
        gain = math.sqrt(v.first * i.first)
        return p / gain, (q1 * c + p1 * d) / gain

    def _fill(self, at, v, i, n, spread, angle, surplus, slower):
        """Values of one phase."""
        reading = self.reading
        values = reading.at[at]
        floor = self.deadband * spread
        values["voltage"] = math.sqrt(v.square) if v.square > floor * v.scale * v.scale else 0.0
        values["thd_voltage"] = v.thd(spread)
        spoilt = ("voltage", "thd_voltage") if v.saturated else ()
        if i:
            if i.square > floor * i.scale * i.scale or not self.deadband:
                values["current"] = math.sqrt(max(0.0, i.square))
                values["power"], values["reactive_power"] = self._power(v, i, n, angle, surplus, slower)
            else:
                values["current"] = values["power"] = values["reactive_power"] = 0.0
            values["thd_current"] = i.thd(spread)
            if i.saturated:
                spoilt += ("current", "thd_current")
            if spoilt:
                spoilt += ("power", "reactive_power")
                reading.spectrum = None
        for name in spoilt:
            reading.spoil(at, name, r.SATURATED)
