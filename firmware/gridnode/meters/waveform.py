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
PARAMETERS = const(11)

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
V0 = const(10)  # v[n]*v[n], low and high half; the others follow in pairs
V1 = const(12)  # v[n]*v[n-1]
V2 = const(14)
I0 = const(16)
I1 = const(18)
I2 = const(20)
VI = const(22)  # (v[n] + v[n+1]) * i[n]: twice the power, the skew of half a pair removed
V_SIN = const(24)
V_COS = const(26)
I_SIN = const(28)
I_COS = const(30)
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
    read_v = calls[0]
    read_i = calls[1]
    ticks = calls[2]
    p = ptr32(parameters)
    lin = ptr16(table)
    wave = ptr16(sine)
    c = ptr32(partial)
    s = ptr32(results)
    offset_v = p[OFFSET_V]
    offset_i = p[OFFSET_I]
    arm = 0 - p[HYSTERESIS]
    step = p[STEP]
    gap = p[GAP_US]
    low = p[COUNT_LOW]
    high = p[COUNT_HIGH]
    budget = p[PAIRS_MAX] * (p[CYCLES] + 3)
    left = p[CYCLES]
    locked = 0  # a crossing began the current cycle
    armed = 0
    spoilt = 1  # until the first boundary
    limit = p[PAIRS_MAX]
    n = 0
    phase = 0
    v1 = 0
    v2 = 0
    i1 = 0
    i2 = 0
    began = 0
    last = int(ticks()) & 0x3FFFFFFF
    k = 0
    while k < RESULTS:
        c[k] = 0
        k += 1
    while left > 0 and budget > 0:
        budget -= 1
        now = int(ticks()) & 0x3FFFFFFF
        raw = int(read_v()) & 0xFFF
        if raw < low or raw > high:
            c[SATURATED_V] += 1
        k = raw >> 5
        v0 = lin[k]
        v0 = v0 + (((lin[k + 1] - v0) * (raw & 31)) >> 5) - offset_v
        raw = int(read_i()) & 0xFFF
        if raw < low or raw > high:
            c[SATURATED_I] += 1
        k = raw >> 5
        i0 = lin[k]
        i0 = i0 + (((lin[k + 1] - i0) * (raw & 31)) >> 5) - offset_i
        if v0 > 20000:
            v0 = 20000
        elif v0 < -20000:
            v0 = -20000
        if i0 > 20000:
            i0 = 20000
        elif i0 < -20000:
            i0 = -20000
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
        c[SUM_V] += v0
        c[SUM_I] += i0
        m = v0 * v0
        c[V0] += m & 0x3FFF
        c[V0 + 1] += m >> 14
        m = v0 * v1
        c[V1] += m & 0x3FFF
        c[V1 + 1] += m >> 14
        m = v0 * v2
        c[V2] += m & 0x3FFF
        c[V2 + 1] += m >> 14
        m = i0 * i0
        c[I0] += m & 0x3FFF
        c[I0 + 1] += m >> 14
        m = i0 * i1
        c[I1] += m & 0x3FFF
        c[I1 + 1] += m >> 14
        m = i0 * i2
        c[I2] += m & 0x3FFF
        c[I2 + 1] += m >> 14
        k = phase >> 16
        w = wave[k]
        if w > 0x7FFF:
            w -= 0x10000
        m = v0 * w
        c[V_SIN] += m & 0x3FFF
        c[V_SIN + 1] += m >> 14
        m = i0 * w
        c[I_SIN] += m & 0x3FFF
        c[I_SIN + 1] += m >> 14
        w = wave[(k + 64) & 255]
        if w > 0x7FFF:
            w -= 0x10000
        m = v0 * w
        c[V_COS] += m & 0x3FFF
        c[V_COS + 1] += m >> 14
        m = i0 * w
        c[I_COS] += m & 0x3FFF
        c[I_COS + 1] += m >> 14
        phase = (phase + step) & 0xFFFFFF
        v2 = v1
        v1 = v0
        i2 = i1
        i1 = i0
