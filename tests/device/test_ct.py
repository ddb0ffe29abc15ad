"""CT front end against computed waves: values, noise, gaps, saturation, lost voltage, allocation, bounds."""

import asyncio
import gc
import math
from array import array

from gridnode import reading
from gridnode.meters import ct, waveform_plain
from gridnode.setup import calibration
from gridnode.setup import ct as setup
from synth import PROFILE, SPEC, Mains

w = ct.w


def meter(mains, leads=None):
    m = ct.Meter(SPEC, PROFILE, mains, mains)
    m.start(calibration.correction(leads or SPEC))
    return m


def block(m):
    return asyncio.run(m.block())


def mean(m, blocks):
    window = reading.Window("main")
    for _ in range(blocks):
        window.add(block(m))
    return window.finish(0).at[0]


def near(got, want, tolerance, what):
    if got is None or not abs(got - want) <= tolerance:
        raise AssertionError("%s: %r, expected %r within %r" % (what, got, want, tolerance))


def test_values_of_a_sine():
    for amperes, lag, hertz in ((60, 0, 50), (3, 60, 50), (20, -37, 45.3), (12, 60, 64.7)):
        x = mean(meter(Mains(230, amperes, lag, hertz)), 4)
        p = 230 * amperes * math.cos(math.radians(lag))
        q = 230 * amperes * math.sin(math.radians(lag))
        s = 230 * amperes
        near(x["voltage"], 230, 0.5, "voltage")
        near(x["current"], amperes, 0.006 * amperes, "current")
        near(x["power"], p, 0.006 * s, "power")
        near(x["reactive_power"], q, 0.006 * s, "reactive power")
        near(x["frequency"], hertz, 0.02, "frequency")


def test_noise_is_removed_at_small_current():
    # 0.6 A is 6.6 mV at the converter; 10 mV of noise alone would read 0.9 A.
    x = mean(meter(Mains(230, 0.6, noise_mv=10)), 4)
    near(x["current"], 0.6, 0.15, "current")


def test_no_load_reads_zero():
    x = mean(meter(Mains(230, 0.0)), 2)
    assert x["current"] == 0 and x["power"] == 0, x


def test_distorted_current():
    waves = ((3, 0.75, 180), (5, 0.45, 0), (7, 0.25, 180), (9, 0.15, 0))
    x = mean(meter(Mains(230, 15, 10, harmonics=waves)), 4)
    fundamental = 15 / math.sqrt(1 + sum([a * a for _, a, _ in waves]))
    near(x["current"], 15, 0.09, "current")
    near(x["power"], 230 * fundamental * math.cos(math.radians(10)), 20, "power")


def test_ct_lead_is_turned_back():
    spec = dict(SPEC)
    spec["current"] = [dict(SPEC["current"][0], phase_deg=2.7)]
    spec["voltage"] = [dict(SPEC["voltage"][0], phase_deg=0.3)]
    # The wave sensed by such a pair lags 2.4 degrees less than the true one.
    x = mean(meter(Mains(230, 20, 57.6), spec), 4)
    near(x["power"], 2300, 14, "power")
    near(x["reactive_power"], 3984, 20, "reactive power")


def test_a_gap_spoils_only_its_cycles():
    mains = Mains()
    m = meter(mains)
    at = mains.us // 36 + 1500
    mains.stall_us[at] = 7300
    x = block(m)
    assert 1 <= m._results[w.SPOILT] <= 2, m._results[w.SPOILT]  # two where it hides the crossing between them
    near(x.at[0]["voltage"], 230, 0.6, "voltage")
    near(x.at[0]["current"], 10, 0.06, "current")
    near(x.at[0]["frequency"], 50, 0.05, "frequency")
    assert x.covered_ms < 190 and x.ms > 200, (x.covered_ms, x.ms)


def test_saturation_is_no_value():
    x = block(meter(Mains(230, 100)))
    assert x.at[0]["current"] is None and x.quality["current"] == "saturated", x.quality
    assert x.at[0]["power"] is None and x.at[0]["voltage"] is not None


def test_lost_voltage():
    mains = Mains(0.5, 10)
    x = mean(meter(mains), 3)
    near(x["voltage"], 0.3, 0.5, "voltage")
    near(x["current"], 10, 0.1, "current")
    assert x["frequency"] is None
    mains.volts = 230.0
    m = meter(mains)
    mains.volts = 0.0
    block(m)
    mains.volts = 230.0
    block(m)
    near(block(m).at[0]["voltage"], 230, 0.6, "voltage after the return")


def test_bias_is_followed():
    mains = Mains()
    m = meter(mains)
    mains.dc_mv = 1330.0
    block(m)
    near(block(m).at[0]["current"], 10, 0.06, "current")


def test_reversed_current_is_export():
    x = mean(meter(Mains(230, 10, 180)), 2)
    near(x["power"], -2300, 14, "power")


def test_ticks_wrap():
    x = block(meter(Mains(us=(1 << 30) - 90000)))
    near(x.at[0]["frequency"], 50, 0.05, "frequency")
    near(x.at[0]["voltage"], 230, 0.6, "voltage")


def _scripted(values):
    """Calls for the kernel from stored counts; ticks advance 72 us a pair."""
    state = [0, 0]

    def read_v():
        return values[state[0]][0]

    def read_i():
        state[0] = (state[0] + 1) % len(values)
        return values[state[0] - 1][1]

    def ticks():
        state[1] = (state[1] + 72) & 0x3FFFFFFF
        return state[1]

    return read_v, read_i, ticks


def _sums(kernel, values, cycles=5):
    p = array("i", [0] * w.PARAMETERS)
    p[w.CYCLES], p[w.OFFSET_V], p[w.OFFSET_I], p[w.HYSTERESIS] = cycles, 13000, 13000, 500
    p[w.STEP], p[w.PAIRS_MIN], p[w.PAIRS_NOMINAL], p[w.PAIRS_MAX] = (1 << 24) // 278, 167, 278, 375
    p[w.GAP_US], p[w.COUNT_LOW], p[w.COUNT_HIGH] = 288, 10, 4000
    s = array("i", [0] * w.RESULTS)
    table = array("H", (k * 32 * 10 for k in range(129)))
    kernel.sample(_scripted(values), p, table, setup.sine(), array("i", [0] * w.RESULTS), s)
    return s


def _square(period, low, high):
    return [(low, low) if k < period // 2 else (high, high) for k in range(period)]


def test_both_kernels_agree_bit_for_bit():
    values = [
        (1300 + int(900 * math.sin(k * 2 * math.pi / 271)), 1300 + int(700 * math.sin(k * 2 * math.pi / 271 - 1)))
        for k in range(271)
    ]
    assert list(_sums(w, values)) == list(_sums(waveform_plain, values))


def test_largest_sums_stay_within_the_bounds():
    # A full-scale square wave is the worst case; 31-bit sums must hold for a whole block, whatever the word size.
    s = _sums(waveform_plain, _square(370, 0, 4095), 53)
    assert s[w.PAIRS] > 19000, s[w.PAIRS]
    for k in range(w.RESULTS):
        assert -(1 << 30) <= s[k] < 1 << 30, (k, s[k])
    n = s[w.PAIRS]
    # Clamped at 20000 above, -13000 below: nothing was lost in the split sums.
    half = n // 2
    assert s[w.V0] + (s[w.V0 + 1] << 14) == half * (20000 * 20000 + 13000 * 13000)


def test_kernel_allocates_nothing():
    import micropython

    values = _square(278, 700, 1900)
    p = array("i", [0] * w.PARAMETERS)
    p[w.CYCLES], p[w.OFFSET_V], p[w.OFFSET_I], p[w.HYSTERESIS] = 5, 13000, 13000, 500
    p[w.STEP], p[w.PAIRS_MIN], p[w.PAIRS_NOMINAL], p[w.PAIRS_MAX] = (1 << 24) // 278, 167, 278, 375
    p[w.GAP_US], p[w.COUNT_LOW], p[w.COUNT_HIGH] = 288, 10, 4000
    s, partial = array("i", [0] * w.RESULTS), array("i", [0] * w.RESULTS)
    table, sine, calls = array("H", (k * 320 for k in range(129))), setup.sine(), _scripted(values)
    for kernel in (w, waveform_plain):
        micropython.heap_lock()
        try:
            kernel.sample(calls, p, table, sine, partial, s)
        finally:
            micropython.heap_unlock()
    assert s[w.GOOD] >= 8


def test_blocks_do_not_grow():
    m = meter(Mains(noise_mv=0))
    block(m)
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(5):
        block(m)
    gc.collect()
    assert gc.mem_alloc() <= before, gc.mem_alloc() - before
