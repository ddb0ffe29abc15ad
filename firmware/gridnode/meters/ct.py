"""CT clamp and voltage transformer on the ESP32 ADC: V, I, P, Q1, frequency by whole mains cycles.

`pair` is the codec: sums of the sampling kernel in, physical values out. `Meter` owns the converter. With several
currents the pairs take turns; a single voltage serves all of them.
"""

import math
from array import array

from gridnode import reading as r

try:
    from gridnode.meters import waveform as w
except (ImportError, ValueError):  # no native loader, or code for another core
    from gridnode.meters import waveform_plain as w

_CYCLES = 10  # IEC 61000-4-30: 10 cycles at 50 Hz, 12 at 60 Hz, about 200 ms
_GAP_PAIRS = 4  # a step longer than this many pairs spoils the cycle
_DEADBAND = 4.0  # standard deviations of the noise of a mean square below which a current is no load


def _covariance(s, at, a, b, scale=1):
    # Exact in integers: only the quotient is a float of 24 bits.
    n = s[w.PAIRS]
    return ((s[at] + (s[at + 1] << 14)) * n - a * b * scale) / (scale * n * n)


def noise_square(s):
    """Mean square of the converter's noise in (0.1 mV)^2, from the voltage channel.

    The mains is smooth from pair to pair and white noise is not: with the autocovariance R at 0, 1 and 2 pairs the
    noise is R(0) - (4 R(1) - R(2)) / 3.
    """
    v = s[w.SUM_V]
    return max(
        0.0, _covariance(s, w.V0, v, v) - (4 * _covariance(s, w.V1, v, v) - _covariance(s, w.V2, v, v)) / 3
    )


def pair(s, v_per_mv, a_per_mv, lead_deg, noise, floor, values):
    """Values of one pair from the kernel's results `s`, which hold at least one complete cycle.

    v_per_mv, a_per_mv: scale of the channels; lead_deg: lead of the sensed current over the sensed voltage; noise:
    mean square in (0.1 mV)^2, taken off both channels, which share the converter; below `floor` there is no signal.
    """
    n = s[w.PAIRS]
    sum_v, sum_i = s[w.SUM_V], s[w.SUM_I]
    vv = _covariance(s, w.V0, sum_v, sum_v) - noise
    ii = _covariance(s, w.I0, sum_i, sum_i) - noise
    scale_v, scale_i = v_per_mv / 10, a_per_mv / 10
    values["voltage"] = math.sqrt(vv) * scale_v if vv > floor else 0.0
    good = s[w.GOOD]
    values["frequency"] = good * 1e6 / s[w.SPAN_US] if good else None
    if ii <= floor:
        values["current"] = values["power"] = values["reactive_power"] = 0.0
        return
    values["current"] = math.sqrt(ii) * scale_i
    power = _covariance(s, w.VI, sum_v, sum_i, 2)
    if not good or s[w.FREE]:
        values["power"] = power * scale_v * scale_i
        values["reactive_power"] = None
        return

    def phasor(cos, sin):
        return (
            (s[cos] + (s[cos + 1] << 14)) / (8192 * n),
            -(s[sin] + (s[sin + 1] << 14)) / (8192 * n),
        )

    vr, vx = phasor(w.V_COS, w.V_SIN)
    ir, ix = phasor(w.I_COS, w.I_SIN)
    # V times conjugate I; the current is sampled half a pair later than the reference.
    p, q = 2 * (vr * ir + vx * ix), 2 * (vx * ir - vr * ix)
    half = math.pi * good / n
    p1, q1 = p * math.cos(half) - q * math.sin(half), q * math.cos(half) + p * math.sin(half)
    turn = math.radians(lead_deg)
    p_true, q_true = p1 * math.cos(turn) - q1 * math.sin(turn), q1 * math.cos(turn) + p1 * math.sin(turn)
    # The averaged product counts the fundamental with cos(half); harmonics keep their measured share.
    values["power"] = (power - p1 * math.cos(half) + p_true) * scale_v * scale_i
    values["reactive_power"] = q_true * scale_v * scale_i


class Channel:
    """One input of the converter; `offset` is its bias in 0.1 mV, which follows the mean."""

    def __init__(self, adc, unit_per_mv, bias_mv):
        self.read = adc.read
        self.unit_per_mv = unit_per_mv
        self.offset = round(10 * bias_mv)


class Meter:
    """CT front end of one profile entry. `machine` and `time` are passed in; nothing is read before `start`."""

    names = ("voltage", "current", "power", "reactive_power", "frequency")
    counts_energy = True
    period_ms = 0  # a block lasts as long as its cycles
    problem = ""
    errors = 0

    def __init__(self, spec, profile, machine, time):
        self.id = spec["id"]
        self.phases = len(spec["current"])
        self.reading = r.Reading(self.id, self.phases)
        self._spec = spec
        self._nominal = profile["nominal"]
        self._adc = profile["board"]["adc"]
        self._machine = machine
        self._time = time
        self._partial = array("i", [0] * w.RESULTS)
        self._results = array("i", [0] * w.RESULTS)
        self._parameters = array("i", [0] * w.PARAMETERS)
        self._noise = 0.0
        self._noise_pairs = 0

    def start(self, correction):
        """Set up the converter, learn bias and pair rate; returns what of `correction` is applied here."""
        from gridnode.setup import ct

        spec, p = self._spec, self._parameters
        self._table = correction.adc_table or ct.design_table(self._adc)
        self._sine = ct.sine()
        self._leads = ct.leads(correction)
        self._voltage = ct.voltages(self._machine, spec)
        self._current = ct.currents(self._machine, spec)
        amplitude = 1.414 * self._nominal["voltage"] * spec["voltage"][0]["mv_per_v"]
        ct.limits(p, self._table, self._adc, amplitude)
        self._hertz = self._nominal["frequency"]
        self._rate(2 * self._adc["conversion_us"])
        p[w.CYCLES] = 5
        self._sample(0)
        self._follow(0)
        p[w.CYCLES] = max(1, _CYCLES * self._nominal["frequency"] // (50 * self.phases))
        self._last = self._time.ticks_ms()
        self._spec = self._nominal = self._adc = None  # all of it is applied
        return ("adc", "phase")

    def _rate(self, pair_us):
        """Limits and reference step for pairs that take `pair_us`."""
        p = self._parameters
        f = self._hertz
        nominal = 1e6 / (f * pair_us)
        p[w.PAIRS_NOMINAL] = int(nominal)
        p[w.PAIRS_MIN] = int(nominal * 0.6)
        p[w.PAIRS_MAX] = int(nominal * 1.35)
        p[w.GAP_US] = int(pair_us * _GAP_PAIRS)
        p[w.STEP] = int((1 << 24) / nominal)

    def _sample(self, k):
        p = self._parameters
        voltage = self._voltage[min(k, len(self._voltage) - 1)]
        current = self._current[k]
        p[w.OFFSET_V], p[w.OFFSET_I] = voltage.offset, current.offset
        s = self._results
        for i in range(w.RESULTS):
            s[i] = 0
        w.sample((voltage.read, current.read, self._time.ticks_us), p, self._table, self._sine, self._partial, s)

    def _follow(self, k):
        """Track bias, noise and pair rate for the next block."""
        s = self._results
        n = s[w.PAIRS]
        if not n:
            return
        self._voltage[min(k, len(self._voltage) - 1)].offset += (s[w.SUM_V] + n // 2) // n
        self._current[k].offset += (s[w.SUM_I] + n // 2) // n
        self._noise_pairs = min(self._noise_pairs + n, 16 * n)
        self._noise += (noise_square(s) - self._noise) * n / self._noise_pairs
        if s[w.GOOD] and not s[w.FREE]:
            self._rate(s[w.SPAN_US] / n)
            self._parameters[w.STEP] = (s[w.GOOD] << 24) // n

    async def block(self):
        """Observe one block and return the meter's reading: raw values, interval and covered time in ms."""
        reading = self.reading
        reading.clear()
        covered = 0
        s = self._results
        for k in range(self.phases):
            self._sample(k)
            at = k + 1 if self.phases > 1 else 0
            values = reading.at[at]
            voltage = self._voltage[min(k, len(self._voltage) - 1)]
            if s[w.PAIRS]:
                self._follow(k)
                # Variance of a mean square of noise, and of the estimate of the noise itself.
                spread = math.sqrt(2 / s[w.PAIRS] + 4.5 / self._noise_pairs)
                floor = _DEADBAND * self._noise * spread
                scale = voltage.unit_per_mv, self._current[k].unit_per_mv
                pair(s, *scale, self._leads[k] * self._slower(s), self._noise, floor, values)
                covered += s[w.SPAN_US] + s[w.FREE_US]
            self._judge(reading, at, s)
        now = self._time.ticks_ms()
        reading.ms = self._time.ticks_diff(now, self._last)
        reading.covered_ms = covered / (1000 * self.phases)
        self._last = now
        return reading

    def _slower(self, s):
        """Nominal over measured frequency: the lead of a transformer falls as its magnetising reactance rises."""
        return self._hertz * s[w.SPAN_US] / (1e6 * s[w.GOOD]) if s[w.GOOD] else 1.0

    def _judge(self, reading, at, s):
        if not s[w.PAIRS]:
            for name in self.names:
                reading.spoil(at, name, r.STALE)
            return
        some = s[w.PAIRS] // 1000
        if s[w.SATURATED_V] > some:
            reading.spoil(at, "voltage", r.SATURATED)
        if s[w.SATURATED_I] > some:
            reading.spoil(at, "current", r.SATURATED)
        if s[w.SATURATED_V] > some or s[w.SATURATED_I] > some:
            reading.spoil(at, "power", r.SATURATED)
            reading.spoil(at, "reactive_power", r.SATURATED)
