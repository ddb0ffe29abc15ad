"""Sampling kernel of one voltage/current pair: whole mains cycles, exact integer sums.

`sample` alternates voltage and current conversions and, while it waits for the converter anyway, linearises
each count, finds the rising zero crossings of the voltage and adds up the products from which `pair` derives
RMS, power, phasors and noise. Nothing is buffered and nothing is allocated.

Bounds (chip: 32-bit viper, bytecode twin: 31-bit small integers). A linearised sample is |x| <= 20000 (0.1 mV),
so every product is below 2**30: x*x <= 4e8, (v0 + v1)*i <= 8e8, x*sin <= 1.7e8. A product p is added as p >> 14
and p & 0x3FFF; with at most 20000 pairs a call the halves stay below 9.8e8 and 3.3e8.
The module is compiled twice: as viper, and without the decorator for chips and releases that lack the emitter.
"""

import micropython
from micropython import const

# Parameters, array('i'): set by the caller, STEP may change between calls.
CYCLES = const(0)  # cycles to observe before returning
OFFSET_V = const(1)  # mean of the voltage channel, 0.1 mV
OFFSET_I = const(2)
HYSTERESIS = const(3)  # the voltage must fall below -HYSTERESIS before the next rising crossing counts
STEP = const(4)  # advance of the reference per pair, 2**24 = one cycle
PAIRS_MIN = const(5)  # fewest pairs in a plausible cycle
PAIRS_NOMINAL = const(6)  # length of a cycle while there is no crossing to be seen
PAIRS_MAX = const(7)  # most pairs before a cycle is closed without a crossing
GAP_US = const(8)  # a longer step between two pairs spoils the cycle
COUNT_LOW = const(9)  # counts outside COUNT_LOW..COUNT_HIGH are saturated
COUNT_HIGH = const(10)
FACTORS = const(11)  # the kernel's own, BIAS above their value: v[n], v[n-1], v[n-2], sine, cosine; current likewise
PARAMETERS = const(21)

BIAS = const(0x8000)  # a 64-bit VM reads what lies in an array as unsigned

# Results, array('i'), of the complete cycles of one call.
PAIRS = const(0)
GOOD = const(1)  # cycles between two crossings, no gap
FREE = const(2)  # cycles closed by length, no crossing seen
SPOILT = const(3)
SPAN_US = const(4)  # duration of the GOOD cycles by interpolated crossings
FREE_US = const(5)  # duration of the FREE cycles
SATURATED_V = const(6)  # samples outside the counts; this and what follows is summed per cycle
SATURATED_I = const(7)
SUM_V = const(8)
SUM_I = const(9)
V0 = const(10)  # v[n]*v[n], low and high half; products with the other FACTORS follow in pairs
V1 = const(12)  # v[n]*v[n-1]
V2 = const(14)
V_SIN = const(16)
V_COS = const(18)
I0 = const(20)
I1 = const(22)
I2 = const(24)
I_SIN = const(26)
I_COS = const(28)
VI = const(30)  # (v[n] + v[n+1]) * i[n]: twice the power, the skew of half a pair removed
RESULTS = const(32)


def ptr16(x):  # in viper the compiler's own cast; here for the bytecode twin
    return x


ptr32 = ptr16


@micropython.viper
def sample(calls, parameters, table, sine, partial, results):
    """Observe parameters[CYCLES] mains cycles, or as many free-running ones, and add them to `results`.

    calls: (read voltage count, read current count, ticks_us); table: array('H', 129), 0.1 mV at every 32nd count;
    sine: array('h', 256), amplitude 8192; partial, results: array('i', RESULTS), the caller clears results.
    """
    ticks = calls[2]
    p = ptr32(parameters)
    lin = ptr16(table)
    wave = ptr16(sine)
    c = ptr32(partial)
    s = ptr32(results)
    arm = 0 - p[HYSTERESIS]
    gap = p[GAP_US]
    budget = p[PAIRS_MAX] * (p[CYCLES] + 3)
    left = p[CYCLES]
    locked = 0  # a crossing began the current cycle
    armed = 0
    spoilt = 1  # until the first boundary
    limit = p[PAIRS_MAX]
    n = 0
    phase = 0
    began = 0
    last = int(ticks()) & 0x3FFFFFFF
    k = 0
    while k < RESULTS:
        c[k] = 0
        k += 1
    k = FACTORS
    while k < PARAMETERS:
        p[k] = BIAS
        k += 1
    while left > 0 and budget > 0:
        budget -= 1
        v1 = p[FACTORS] - BIAS
        i1 = p[FACTORS + 5] - BIAS
        now = int(ticks()) & 0x3FFFFFFF
        j = 0
        f = FACTORS
        while j < 2:  # voltage, current
            raw = int(calls[j]()) & 0xFFF
            if raw < p[COUNT_LOW] or raw > p[COUNT_HIGH]:
                c[SATURATED_V + j] += 1
            k = raw >> 5
            x = lin[k]
            x = x + (((lin[k + 1] - x) * (raw & 31)) >> 5) - p[OFFSET_V + j]
            if x > 20000:
                x = 20000
            elif x < -20000:
                x = -20000
            p[f + 2] = p[f + 1]
            p[f + 1] = p[f]
            p[f] = x + BIAS
            f += 5
            j += 1
        v0 = p[FACTORS] - BIAS
        dt = (now - last) & 0x3FFFFFFF
        if dt > gap:
            spoilt = 1
        last = now
        # The product of the previous current with the voltage on both sides of it.
        m = (v1 + v0) * i1
        c[VI] += m & 0x3FFF
        c[VI + 1] += m >> 14
        if v0 < arm:
            armed = 1
        boundary = 0
        if armed != 0 and v0 >= 0:
            armed = 0
            if n >= p[PAIRS_MIN] or locked == 0:
                boundary = 1
        elif n >= limit:
            boundary = 2
        if boundary != 0:
            at = now
            if boundary == 1 and dt <= gap:
                at = (now - dt * v0 // (v0 - v1)) & 0x3FFFFFFF
            done = 0
            if boundary == 1 and locked != 0:
                done = GOOD
            elif boundary == 2 and locked == 0:
                done = FREE
            # The first boundary, and the one that gains or loses the lock, only begins a cycle.
            if done != 0:
                left -= 1
                if spoilt != 0:
                    done = SPOILT
                s[done] += 1
                if done != SPOILT:
                    if done == GOOD:
                        s[SPAN_US] += (at - began) & 0x3FFFFFFF
                    else:
                        s[FREE_US] += (at - began) & 0x3FFFFFFF
                    s[PAIRS] += n
                    k = SATURATED_V
                    while k < RESULTS:
                        s[k] += c[k]
                        k += 1
            k = SATURATED_V
            while k < RESULTS:
                c[k] = 0
                k += 1
            began = at
            n = 0
            spoilt = 0
            if dt > gap:  # the gap reaches into the new cycle
                spoilt = 1
            phase = 0  # each cycle has its own reference: a gap does not turn the next ones
            if boundary == 1:
                locked = 1
                limit = p[PAIRS_MAX]
            else:
                if locked != 0:
                    left -= 1
                locked = 0
                limit = p[PAIRS_NOMINAL]
        n += 1
        j = phase >> 16
        phase = (phase + p[STEP]) & 0xFFFFFF
        at = V0
        f = FACTORS
        while f < PARAMETERS:
            p[f + 3] = wave[j] & 0xFFFF ^ BIAS
            p[f + 4] = wave[(j + 64) & 255] & 0xFFFF ^ BIAS
            x = p[f] - BIAS
            k = f
            f += 5
            while k < f:
                m = x * (p[k] - BIAS)
                c[at] += m & 0x3FFF
                c[at + 1] += m >> 14
                at += 2
                k += 1
        c[SUM_V] += v0
        c[SUM_I] += x
