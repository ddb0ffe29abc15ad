"""CT clamps and voltage transformers on the ESP32 ADC: V, I, P, Q1, THD, harmonics, frequency and supply events.

The codec takes the sums of the sampling kernel and gives physical values; `Meter` owns the converter. All channels
are read in one scan of whole mains cycles; a single voltage serves all currents.
"""

import asyncio
import math
from array import array
from micropython import const

from gridnode import reading as r

try:
    from gridnode.meters import waveform as w
except (ImportError, ValueError):  # no native loader, or code for another core
    from gridnode.meters import waveform_plain as w

# Orders and bits of the number of bins per channel, for two channels and for three to six. More channels mean more
# bins (2 KB for two, 3 KB for six) and fewer sets per cycle. The kernel tells what an order suffers in 256 and in 128
# bins; the time of a set does not depend on it.
_SHARES = ((15, 8), (7, 7))

_DEADBAND = 4.0  # standard deviations of the noise of a mean square below which a current is no load
_DISTORTION = 400.0  # of them in a fundamental that may have a THD: below, noise alone would show as 5 %
_LEARNING = const(5)  # cycles for bias and rate
_SLOWLY = const(8)  # blocks in which the bias is followed: a cut cycle has a mean of its own
_TURN_MS = const(2)
_TICKS = const(0x3FFFFFFF)  # the kernel's, whatever the period of the platform's
_WEAK = 400.0  # of the mean square of noise: a signal that it matters to
_ROUGH = const(7)  # orders that are strong enough to look like noise
_STALL_US = const(200)  # a set that comes so much later spoils its cycle


def covariance(s, at, a, b):
    """Mean of the products summed at `at`, less the product of the means of the sums a and b.

    Exact in integers: only the quotient is a float of 24 bits.
    """
    n = s[w.SETS]
    return ((s[at] + (s[at + 1] << 14)) * n - a * b) / (n * n)


def noise_square(s, squares, factor, angle):
    """Mean square of the converter's noise in (1/16 mV)^2, from the first voltage.

    The mains is smooth from set to set and white noise is not: with the autocovariance R at 0, 1 and 2 sets the
    noise is R(0) - (4 R(1) - R(2)) / 3, less what that leaves of the known harmonics.
    squares: mean squares of the orders 1, 2, .., a factor apart; angle: advance of the fundamental per set, radians.
    """
    at = w.SUMS
    total = s[at]
    smooth = 4 * covariance(s, at + w.FIRST, total, total) - covariance(s, at + w.SECOND, total, total)
    noise = covariance(s, at + w.SQUARE, total, total) - smooth / 3
    for k in range(min(_ROUGH, len(squares))):
        x = ((k + 1) * angle) ** 2
        noise -= squares[k] * factor * x * x * (6 - x) / 36  # of 1 - (4 cos h - cos 2h) / 3
    return max(0.0, noise)


def response(lead_deg, slower):
    """What a transformer makes of the mean square of the fundamental, and of higher orders; 1 at nominal frequency.

    Its magnetising current is a first-order high-pass, whose corner the lead tells; slower: nominal over measured
    frequency. The higher orders get the value of the third, from which none is far.
    """
    if lead_deg <= 0:
        return 1.0, 1.0
    t = math.tan(math.radians(lead_deg)) ** 2
    x = t * slower * slower
    return (1 + t) / (1 + x), (1 + t) / (1 + x / 9)


class Channel:
    """One input of the converter, and what the last block has found there in V or A, noise taken off."""

    def __init__(self, place, adc, unit_per_mv, lead_deg, orders):
        self.place = place  # in the scan
        self.at = w.SUMS + place * w.SUM_WORDS
        self.read = adc.read
        self.scale = unit_per_mv / 16
        self.lead_deg = lead_deg  # of the sensed over the true signal
        self.squares = array("f", bytes(4 * orders))  # mean squares of the orders 1, 2, ..
        self.square = 0.0  # mean square
        self.harmonic = None  # of it, what is not the fundamental
        self.re = self.im = 0.0  # phasor of the fundamental, rms, as sensed
        self.saturated = False
        self.noise = None  # (1/16 mV)^2, what the orders leave of a weak signal

    def transform(self, bins, shift, sine, out):
        """Take the orders out of the bins; their squares are the kernel's for now."""
        squares = self.squares
        for k in range(len(squares) - 1, -1, -1):
            w.phasor(bins, self.place, shift, k + 1, sine, out)
            re, im = out[0], out[1]
            squares[k] = re * re + im * im  # of most orders a small integer, which costs no heap
        self.re, self.im = re, im

    def finish(self, s, noise, sets, weights, surplus, slower):
        """Mean squares without noise and without the transformer's own response; sets: those in the bins."""
        total = s[self.at]
        square = covariance(s, self.at + w.SQUARE, total, total)
        squares, unit = self.squares, self.scale * self.scale
        weak = square < _WEAK * noise
        if weak and self.noise is not None:
            noise = min(noise, self.noise)  # the mains may be noisier than the converter
        self.square = max(0.0, square - noise) * unit
        self.saturated = s[self.at + w.SATURATED] > s[w.SETS] // 1000
        self.harmonic = None
        if sets:
            weight = math.sqrt(weights[0]) * self.scale / sets
            self.re *= weight / (1 + surplus)
            self.im *= weight / (1 - surplus)
            self.square += surplus * (self.square - 2 * self.re * self.re)
            first, higher = response(self.lead_deg, slower)
            share = 2 * noise * sets  # of noise in a phasor
            factor = unit / (higher * sets * sets)
            for k in range(len(squares)):
                square -= squares[k] * weights[k] / (sets * sets) if weak else 0
                squares[k] = (squares[k] * weights[k] - share) * factor
            if weak:
                rest = max(0.0, square)
                self.noise = rest if self.noise is None else self.noise + (rest - self.noise) / 8
            squares[0] = (self.re * self.re + self.im * self.im - 2 * noise / sets * unit) / first
            self.harmonic = max(0.0, self.square - squares[0] * first) / higher
            self.square = squares[0] + self.harmonic

    def thd(self, spread):
        """Total harmonic distortion in % (IEEE 1459); spread: of a mean square of noise in (1/16 mV)^2."""
        if self.harmonic is None or self.squares[0] <= _DISTORTION * spread * self.scale * self.scale:
            return None
        return 100 * math.sqrt(self.harmonic / self.squares[0])


def power(s, v, i, skew, angle, surplus, slower):
    """P and Q1 of two channels in W and var; Q1 is None where the bins hold nothing.

    skew: sets by which the current is read after the voltage; angle: advance of the fundamental per set in radians.
    The mean product is weighed between the voltages before and after the current. What that makes of the fundamental
    is known: its phasors put it right, and the leads of the transformers with it.
    """
    a, b = s[v.at], s[i.at]
    p = (1 - skew) * covariance(s, i.at + w.FIRST, a, b) + skew * covariance(s, i.at + w.SECOND, a, b)
    p *= v.scale * i.scale
    if i.harmonic is None:
        return p, None
    p += surplus * (p - 2 * v.re * i.re)
    p1, q1 = v.re * i.re + v.im * i.im, v.im * i.re - v.re * i.im
    p -= (1 - skew + skew * math.cos(angle)) * p1 - skew * math.sin(angle) * q1
    turn = skew * angle + math.radians((i.lead_deg - v.lead_deg) * slower)
    c, d = math.cos(turn), math.sin(turn)
    gain = math.sqrt(response(v.lead_deg, slower)[0] * response(i.lead_deg, slower)[0])
    return (p + p1 * c - q1 * d) / gain, (q1 * c + p1 * d) / gain


class Meter:
    """CT front end of one profile entry. `machine` and `time` are passed in; nothing is read before `start`.

    orders: how many harmonics it measures, the fundamental included.
    """

    names = ("voltage", "current", "power", "reactive_power", "thd_voltage", "thd_current", "frequency")
    counts_energy = True
    period_ms = 0  # a block lasts as long as its cycles
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
        self._noise_sets = 0

    def start(self, correction):
        """Set up the converter, learn bias and rate; returns what of `correction` is applied here."""
        from gridnode.setup import ct

        spec, profile, machine = self._design
        self._design = None
        self._volts, self._amperes = ct.channels(machine, spec, correction, self.orders)
        self._channels = sorted(self._volts + self._amperes, key=lambda c: c.place)
        self._calls = (self._time.ticks_us,) + tuple([c.read for c in self._channels])
        self._table = ct.table(correction.adc_table, profile["board"]["adc"])
        correction.adc_table = None  # applied
        self._sine = ct.sine()
        bins = len(self._bins) // len(self._channels)
        self._parameters = p = ct.parameters(spec, profile, bins, self._table, self._volts, self._amperes)
        self._weights = ct.weights(bins, self.orders)
        self._halves, self._results = ct.buffers(p, len(self._volts))
        self._phasor = array("i", (0, 0))
        self._events = ct.events(self._volts, profile)
        self._spectrum = ct.spectrum(self._volts, self._amperes)
        self._hertz = profile["nominal"]["frequency"]
        self._live = (0.5 * profile["nominal"]["voltage"]) ** 2
        self._refer(self._volts[0])
        cycles, p[w.CYCLES] = p[w.CYCLES], _LEARNING
        self._sample()
        p[w.CYCLES] = cycles
        if self._results[w.SETS]:
            self._follow(1)
        self._last = self._time.ticks_ms()
        return ("adc", "gain", "phase")

    def _refer(self, voltage):
        """Part the cycles where this voltage crosses zero."""
        p = self._parameters
        p[w.REFERENCE] = w.CHANNEL + voltage.place * w.CHANNEL_WORDS + w.LAST
        p[w.HYSTERESIS] = int(0.23 * math.sqrt(self._live) / voltage.scale)  # 8 % of the nominal amplitude

    def _sample(self):
        w.sample(self._calls, self._parameters, self._table, self._bins, self._halves, self._results)

    def _follow(self, blocks):
        """Track bias, within so many blocks, rate and reference for the next block."""
        s, p = self._results, self._parameters
        n = s[w.SETS]
        for c in self._channels:
            p[w.CHANNEL + c.place * w.CHANNEL_WORDS + w.OFFSET] += 256 * s[c.at] // (n * blocks)
        if s[w.GOOD] and not s[w.FREE]:
            p[w.STEP] = round((s[w.GOOD] << 24) / n * (s[w.SETS_US] / s[w.SPAN_US]))
            p[w.GAP_US] = s[w.SETS_US] // n + _STALL_US
        else:
            for v in self._volts:
                if v.square > self._live:
                    self._refer(v)
                    break

    async def _rest(self):
        """Leave the processor to the other tasks: the rest of the cycle in which a pause falls is lost anyway."""
        time, pause = self._time, 750000 // self._hertz
        for _ in range(pause // (1000 * _TURN_MS)):
            await asyncio.sleep_ms(_TURN_MS)
            if time.ticks_us() - self._results[w.ENDED_US] & _TICKS >= pause:
                break

    async def block(self):
        """Observe one block and return the meter's reading: interval and covered time are those of its samples."""
        await self._rest()
        reading, s, time = self.reading, self._results, self._time
        reading.clear()
        self._sample()
        if s[w.SETS]:
            self._evaluate(reading)
            self._follow(_SLOWLY)
        else:
            reading.clear(self.names, r.STALE)
        noise = int(self._noise) >> 10
        reading.events = self._events.feed(self._halves, s[w.HALVES], noise, time.ticks_us())
        now = time.ticks_ms()
        reading.ms = time.ticks_diff(now, self._last)
        reading.covered_ms = (s[w.SPAN_US] + s[w.FREE_US]) / 1000
        self._last = now
        return reading

    def _evaluate(self, reading):
        s, p = self._results, self._parameters
        n, good = s[w.SETS], s[w.GOOD]
        steady = good and not s[w.FREE]  # the phase is known throughout
        binned = s[w.BINNED] if steady else 0
        angle, surplus, slower = 0.0, 0.0, 1.0
        if good:
            slower = self._hertz * s[w.SPAN_US] / (1e6 * good)
        reading.at[0]["frequency"] = self._hertz / slower if good else None
        if binned:
            surplus = (s[w.SETS_US] - s[w.SPAN_US]) / s[w.SPAN_US]
            angle = 2 * math.pi * good * (1 + surplus) / n
            for c in self._channels:
                c.transform(self._bins, p[w.SHIFT], self._sine, self._phasor)
        self._noise_sets = min(self._noise_sets + n, 16 * n)
        known = self._volts[0].squares if binned and len(self._channels) > 2 else ()  # of two they leave nothing
        noise = noise_square(s, known, self._weights[0] / (binned * binned or 1), angle)
        self._noise += (noise - self._noise) * n / self._noise_sets
        # Deviation of a mean square of noise, and of the estimate of the noise itself.
        spread = self._noise * math.sqrt(2 / n + 4.5 / self._noise_sets)
        for c in self._channels:
            c.finish(s, self._noise, binned, self._weights, surplus, slower)
        if binned and not s[w.SPOILT]:
            reading.spectrum = self._spectrum
        for k in range(self.phases):
            at = k + 1 if self.phases > 1 else 0
            v = self._volts[min(k, len(self._volts) - 1)]
            i = self._amperes[k] if k < len(self._amperes) else None
            self._fill(reading, at, v, i, spread, angle, surplus, slower)

    def _fill(self, reading, at, v, i, spread, *circumstances):
        """Values of one phase."""
        values = reading.at[at]
        floor = _DEADBAND * spread
        values["voltage"] = math.sqrt(v.square) if v.square > floor * v.scale * v.scale else 0.0
        values["thd_voltage"] = v.thd(spread)
        if v.saturated:
            reading.spoil(at, "voltage", r.SATURATED)
            reading.spoil(at, "thd_voltage", r.SATURATED)
        if i is None:
            return
        if i.square > floor * i.scale * i.scale:
            values["current"] = math.sqrt(i.square)
            skew = (i.place - v.place) / len(self._channels)
            values["power"], values["reactive_power"] = power(self._results, v, i, skew, *circumstances)
        else:
            values["current"] = values["power"] = values["reactive_power"] = 0.0
        values["thd_current"] = i.thd(spread)
        if i.saturated:
            reading.spoil(at, "current", r.SATURATED)
            reading.spoil(at, "thd_current", r.SATURATED)
        if v.saturated or i.saturated:
            reading.spoil(at, "power", r.SATURATED)
            reading.spoil(at, "reactive_power", r.SATURATED)
            reading.spectrum = None
