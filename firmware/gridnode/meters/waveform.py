"""Sampling kernel of voltages and currents on one converter: whole mains cycles, exact integer sums.

`sample` reads all channels in turn, a set, over and over: V1 I1, V1 I1 V2 I2 V3 I3 or V1 I1 I2 I3. While it waits
for the converter anyway, it linearises each count, finds the rising zero crossings of one voltage, adds up the
products from which RMS, power and noise are derived, and records the mean square of every half cycle. Nothing is
buffered and nothing is allocated. A sample costs some 500 instructions: 2 to 3 us at 240 MHz beside its conversion.

Harmonics: each sample is added to one cycle of bins, synchronous with the crossings, shared by two neighbours
according to its phase. That costs two products per sample whatever the number of orders; `phasor` takes each out of
the bins after the block. Sharing weakens the order h of B bins by sinc(h/B)**2, which is known, and lets images
of the orders k*B - h through with (h/(k*B - h))**2: 1.8 % for the 15th in 128 bins, 1.5 % for the 7th in 64, from
orders above 50.

Bounds (chip: 32-bit viper, bytecode twin: 31-bit small integers). A linearised sample is |x| <= 32767 (1/16 mV), so
every product of two is below 2**30. A product p is added as p >> 14 and p & 0x3FFF: with up to 16000 sets a call the
halves stay below 2**30. A half cycle adds p >> 10 < 2**20, with up to 1000 sets. A bin holds 2**29 plus or minus up
to 64*32767 per set that falls on it: of n cycles of m sets n*(m/B + 1) sets, 128 for 2**28. `phasor` takes 16 bits of
that times 13 of the sine: below 2**29, and so is the sum of 128 of them, each >> 8.
The module is compiled twice: as viper, and without the decorator for chips and releases that lack the emitter.
"""

import micropython
from micropython import const

# Parameters, array('i'). Rate, limit, reference and offsets may change between calls.
STEP = const(0)  # advance of the phase per set, 2**24 = one cycle
GAP_US = const(1)  # a longer step between two sets spoils the cycle
REFERENCE = const(2)  # where the words of the voltage begin whose crossings part the cycles
_CYCLES = const(3)  # to observe before returning
ROOM = const(4)  # half cycles to record at most: bounds the time of a call
_COUNT_LOW = const(5)  # counts outside COUNT_LOW..COUNT_HIGH are saturated
_COUNT_HIGH = const(6)
_SHIFT = const(7)  # 2**(24 - SHIFT) bins per channel
_CHANNELS = const(8)
CHANNEL = const(9)  # first word of the first channel. Words of each:
_OFFSET = const(0)  # its mean, 1/4096 mV
_VOLTAGE = const(1)  # of a current: where the words of its voltage begin, which is read before; of a voltage: 0
_HYSTERESIS = const(2)  # of a voltage: it must fall below -HYSTERESIS before its next rising crossing counts
_LAST = const(3)  # the kernel's own: the last sample, BIAS above its value
_BEFORE = const(4)  # the sample before
_HALF = const(5)  # sum over the half cycle
CHANNEL_WORDS = const(6)

_BIAS = const(0x8000)  # a 64-bit VM reads what lies in an array as unsigned

# Results, array('i'), of the complete cycles of one call.
_SETS = const(0)
_GOOD = const(1)  # cycles between two crossings, no gap
_FREE = const(2)  # cycles closed by length, no crossing seen
_SPOILT = const(3)
_SPAN_US = const(4)  # duration of the GOOD cycles by interpolated crossings
_SETS_US = const(5)  # their duration from the first set of the first to the first set behind the last
_FREE_US = const(6)  # duration of the FREE cycles
_BINNED = const(7)  # sets in the bins
_HALVES = const(8)  # half cycles recorded
_ENDED_US = const(9)  # ticks of the end
SUMS = const(10)  # first word of the first channel; the sums of the cycle under way lie behind those of all channels
SUM_WORDS = const(8)  # of each:
_SUM = const(0)
_SQUARE = const(1)  # x*x, low and high half
_FIRST = const(3)  # voltage: v[n]*v[n-1]; current: v[n]*i[n]
_SECOND = const(5)  # voltage: v[n]*v[n-2]; current: v[n+1]*i[n]
_SATURATED = const(7)  # samples outside the counts

RECORD = const(2)  # words of a half cycle before its squares

_CYCLE = const(0x1000000)
_HALF_CYCLE = const(0x800000)
_SHORTEST = const(0x999999)  # 0.6 of a cycle
_LONGEST = const(0x1599999)  # 1.35
_ZERO = const(0x20000000)  # of a bin
_TICKS = const(0x3FFFFFFF)
AMPLITUDE = const(8192)  # of the sine table, which is that much above zero


def ptr16(x):  # in viper the compiler's own cast; here for the bytecode twin
    return x


ptr32 = ptr16


@micropython.viper
def sample(calls, parameters, table, bins, halves, results):
    """Observe parameters[CYCLES] mains cycles, or as many free-running ones.

    calls: (ticks_us, read count of the first channel, of the second, ..); table: array('i', 129), 1/4096 mV at every
    32nd count; bins, halves, results: array('i'), overwritten. Of each half cycle `halves` gets the ticks of its end,
    its duration in us, and per voltage the mean square in (2 mV)**2.
    """
    ticks = calls[0]
    p = ptr32(parameters)
    lin = ptr32(table)
    b = ptr32(bins)
    h = ptr32(halves)
    s = ptr32(results)
    channels = p[_CHANNELS]
    step = p[STEP]
    gap = p[GAP_US]
    shift = p[_SHIFT]
    mask = (_CYCLE >> shift) - 1
    reference = p[REFERENCE] + _LAST
    arm = 0 - p[p[REFERENCE] + _HYSTERESIS]
    behind = channels * SUM_WORDS  # from a sum to that of the cycle under way
    end = SUMS + behind
    left = p[_CYCLES]
    room = p[ROOM]
    locked = 0  # a crossing began the current cycle
    armed = 0
    spoilt = 1  # until the first boundary
    limit = _LONGEST
    phase = 0  # of the coming set
    n = 0  # sets of the current cycle, and of the current half cycle
    m = 0
    half = 0  # phase since the half cycle began
    record = 0
    began = 0  # the current cycle, by its crossing and by its sets
    first = 0
    dt = 0  # between the last two sets
    k = 0
    while k < end + behind:
        s[k] = 0
        k += 1
    k = channels * (mask + 1)
    while k > 0:
        k -= 1
        b[k] = _ZERO
    p[reference] = _BIAS
    opened = 0  # the half cycle
    last = (int(ticks()) - gap - gap) & _TICKS  # what was before the call is a gap
    while room > 0:
        now = int(ticks()) & _TICKS
        d = (now - last) & _TICKS
        # A boundary is seen in the set before this one.
        v = p[reference] - _BIAS
        boundary = 0
        if v < arm:
            armed = 1
        elif armed != 0 and v >= 0:
            armed = 0
            if phase >= _SHORTEST or locked == 0:
                boundary = 1
        if boundary == 0 and phase >= limit:
            boundary = 2
        if boundary != 0:
            at = last
            done = 0
            if boundary == 1:
                phase = step
                if 0 < dt <= gap:
                    k = dt * v // (v + _BIAS - p[reference + 1])
                    at = (last - k) & _TICKS
                    phase += step * k // dt
                if locked != 0:
                    done = _GOOD
                locked = 1
                limit = _LONGEST
            else:
                limit = _CYCLE
                phase -= _CYCLE
                if locked == 0:
                    done = _FREE
                else:
                    left -= 1
                    locked = 0
            if done == 0:
                spoilt = 1  # the first boundary, and the one that gains or loses the lock, only begins a cycle
            else:
                left -= 1
                if spoilt != 0:
                    done = _SPOILT
                else:
                    if done == _FREE:
                        s[_FREE_US] += (at - began) & _TICKS
                    else:
                        s[_SPAN_US] += (at - began) & _TICKS
                        s[_SETS_US] += (last - first) & _TICKS
                    s[_SETS] += n
                s[done] += 1
            k = SUMS
            while k < end:
                if spoilt == 0:
                    s[k] += s[k + behind]
                s[k + behind] = 0
                k += 1
            if left <= 0:
                break
            began = at
            first = last
            n = 0
            spoilt = 0
            if dt > gap:  # it hides where the cycle really began
                spoilt = 1
        if d > gap or half >= _HALF_CYCLE:
            if d <= gap:
                h[record] = now
                h[record + 1] = (now - opened) & _TICKS
                record += RECORD
                s[_HALVES] += 1
                room -= 1
            f = CHANNEL
            k = 0
            while k < channels:
                if p[f + _VOLTAGE] == 0:
                    if d <= gap:
                        h[record] = p[f + _HALF] // m
                        record += 1
                    p[f + _HALF] = 0
                f += CHANNEL_WORDS
                k += 1
            half -= _HALF_CYCLE
            if d > gap:
                half = 0
                spoilt = 1
            opened = now
            m = 0
        dt = d
        last = now
        # Place of this set in the cycle of bins.
        place = phase >> shift & mask
        beside = (place + 1) & mask
        share = phase >> (shift - 6) & 63
        bin = 0
        at = end
        f = CHANNEL
        k = 1
        while k <= channels:
            raw = int(calls[k]()) & 0xFFF
            if raw < p[_COUNT_LOW] or raw > p[_COUNT_HIGH]:
                s[at + _SATURATED] += 1
            v = raw >> 5
            x = lin[v]
            x = (x + ((lin[v + 1] - x) * (raw & 31) >> 5) - p[f + _OFFSET]) >> 8
            if x > 32767:
                x = 32767
            elif x < -32767:
                x = -32767
            q = x * x
            s[at + _SQUARE] += q & 0x3FFF
            s[at + _SQUARE + 1] += q >> 14
            v = p[f + _LAST] - _BIAS
            if p[f + _VOLTAGE] == 0:
                p[f + _HALF] += q >> 10
                q = x * (p[f + _BEFORE] - _BIAS)
                v = v * x
            else:
                y = p[p[f + _VOLTAGE] + _LAST] - _BIAS
                q = v * y
                v = x * y
            s[at + _FIRST] += v & 0x3FFF
            s[at + _FIRST + 1] += v >> 14
            s[at + _SECOND] += q & 0x3FFF
            s[at + _SECOND + 1] += q >> 14
            s[at + _SUM] += x
            p[f + _BEFORE] = p[f + _LAST]
            p[f + _LAST] = x + _BIAS
            if spoilt == 0:
                b[bin + place] += x * (64 - share)
                b[bin + beside] += x * share
            bin += mask + 1
            at += SUM_WORDS
            f += CHANNEL_WORDS
            k += 1
        if spoilt == 0:
            s[_BINNED] += 1
        phase += step
        half += step
        n += 1
        m += 1
    s[_ENDED_US] = int(ticks()) & _TICKS


@micropython.viper
def phasor(bins, channel, order, sine, out):
    """Real and imaginary part of one order: half of the sum of x*cos and -x*sin over the binned sets.

    sine: array('H') of as many words as a channel has bins, AMPLITUDE above the value; out: array('i', 2).
    """
    b = ptr32(bins)
    wave = ptr16(sine)
    o = ptr32(out)
    size = int(len(sine))  # noqa: RUF046 - viper has it as an object
    k = int(channel) * size
    end = k + size
    a = 0
    re = 0
    im = 0
    while k < end:
        x = (b[k] - _ZERO) >> 12
        re += (x * (wave[(a + (size >> 2)) & (size - 1)] - AMPLITUDE) + 128) >> 8
        im += (x * (AMPLITUDE - wave[a]) + 128) >> 8
        a = (a + int(order)) & (size - 1)
        k += 1
    o[0] = re
    o[1] = im
