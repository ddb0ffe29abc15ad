"""CT front end against computed waves: values, harmonics, noise, gaps, saturation, lost voltages, events, bounds."""

import asyncio
import gc
import math
import sys
from array import array

from gridnode import reading
from gridnode.meters import ct, waveform_plain
from gridnode.setup import calibration
from gridnode.setup import ct as setup
from synth import PROFILE, SPEC, Mains, channels

w = ct.w
SETS, GOOD, FREE, SPOILT = range(4)  # results of the kernel
ENDED_US = 9
SQUARE = 1  # of the sums of a channel
SMPS = ((3, 0.75, 180), (5, 0.45, 0), (7, 0.25, 180), (9, 0.15, 0), (15, 0.1, 30))


def meter(mains, spec=SPEC, profile=PROFILE):
    m = ct.Meter(spec, profile, mains, mains)
    assert m.start(calibration.correction(spec)) == ("adc", "gain", "phase")
    return m


def block(m):
    return asyncio.run(m.block())


def window(m, blocks):
    out = reading.Window("main", m.phases)
    for _ in range(blocks):
        out.add(block(m))
    return out.finish(0)


def mean(m, blocks):
    return window(m, blocks).at[0]


def near(got, want, tolerance, what):
    if got is None or not abs(got - want) <= tolerance:
        raise AssertionError("%s: %r, expected %r within %r" % (what, got, want, tolerance))


def in_phase(values, volts, amperes, degrees):
    s = volts * amperes
    near(values["voltage"], volts, 0.001 * volts, "voltage")
    near(values["current"], amperes, 0.002 * amperes + 0.025, "current")
    near(values["power"], s * math.cos(math.radians(degrees)), 0.004 * s, "power")
    near(values["reactive_power"], s * math.sin(math.radians(degrees)), 0.004 * s, "reactive power")


def test_values_of_a_sine():
    for amperes, lag, hertz in ((60, 0, 50), (5, 60, 50), (20, -37, 45.3), (12, 60, 64.7)):
        x = mean(meter(Mains(230, amperes, lag, hertz)), 3)
        in_phase(x, 230, amperes, lag)
        near(x["frequency"], hertz, 0.01, "frequency")


def test_each_channel_of_a_scan():
    volts, amperes = [230, 225, 235], [20, 10, 40]
    x = window(meter(Mains(volts, amperes, 60, 50.3), channels(3, 3)), 2)
    for k in range(3):
        in_phase(x.at[k + 1], volts[k], amperes[k], 60)
        assert "frequency" not in x.at[k + 1]
    near(x.at[0]["frequency"], 50.3, 0.01, "frequency")
    near(x.at[0]["power"], (4600 + 2250 + 9400) / 2, 60, "total power")
    x = window(meter(Mains(230, amperes, -30, 60, apart=0), channels(1, 3)), 2)
    for k in range(3):
        in_phase(x.at[k + 1], 230, amperes[k], -30)
    x = window(meter(Mains(volts, amperes, 40), channels(2, 3)), 2)
    in_phase(x.at[2], 225, 10, 40)
    in_phase(x.at[3], 225, 40, 160)  # the third clamp, with the second voltage
    x = window(meter(Mains(volts, amperes, 40), channels(3, 1)), 2)
    in_phase(x.at[1], 230, 20, 40)
    near(x.at[3]["voltage"], 235, 0.2, "voltage")
    assert x.at[3].get("current") is None


def test_noise_is_removed_at_small_current():
    # 0.6 A is 6.6 mV at the converter; 10 mV of noise alone would read 0.9 A.
    x = mean(meter(Mains(230, 0.6, noise_mv=10)), 4)
    near(x["current"], 0.6, 0.15, "current")
    assert x["thd_current"] is None, x


def test_no_load_reads_zero():
    x = mean(meter(Mains(230, 0.0)), 2)
    assert x["current"] == 0 and x["power"] == 0 and x["thd_current"] is None, x


def ratios(squares):
    return [100 * math.sqrt(max(0, x / squares[0])) for x in squares]


def test_harmonics():
    for spec, orders, tolerance in ((SPEC, 15, 0.25), (channels(3, 3), 7, 0.5)):
        m = meter(Mains(230, 15, 10, 50.3226, harmonics=SMPS, distortion=((3, 0.02, 0), (5, 0.04, 90))), spec)
        assert m.orders == orders
        x = window(m, 2)
        assert len(x.spectrum) == len(x.at)
        for k in x.each():
            v, i = x.spectrum[k]
            near(math.sqrt(v[0] / 2), 230, 0.3, "fundamental")
            for got, found in ((v, {3: 2, 5: 4}), (i, {h: 100 * a for h, a, _ in SMPS})):
                assert len(got) == orders
                for order, percent in enumerate(ratios(got), 1):
                    if order > 1:
                        near(percent, found.get(order, 0), tolerance, "order %d" % order)
            near(x.at[k]["thd_voltage"], math.sqrt(20), 0.3, "THD of the voltage")
            near(x.at[k]["thd_current"], 92.87, 0.6, "THD of the current")
        p = 0.0
        for h, share, turn in ((1, 1, 0), (3, 0.02 * 0.75, 180), (5, 0.04 * 0.45, -90)):
            p += 230 * 15 / 1.3647 * share * math.cos(math.radians(10 * h - turn))
        near(x.at[k]["power"], p, 12, "power")
        near(x.at[k]["current"], 15, 0.05, "current")


def test_a_sine_has_no_distortion():
    for spec, limit in ((SPEC, 0.6), (channels(3, 3), 0.8)):
        m = meter(Mains(230, 50, noise_mv=1), spec)
        x = window(m, 4)
        for k in x.each():
            assert x.at[k]["thd_voltage"] < limit and x.at[k]["thd_current"] < limit, x.at[k]


def test_leads_are_turned_back():
    spec = dict(SPEC)
    spec["current"] = [dict(SPEC["current"][0], phase_deg=2.7)]
    spec["voltage"] = [dict(SPEC["voltage"][0], phase_deg=0.3)]
    # The wave sensed by such a pair lags 2.4 degrees less than the true one.
    in_phase(mean(meter(Mains(230, 20, 57.6), spec), 3), 230, 20, 60)


def test_response_of_a_transformer():
    # A first-order high-pass that leads by 2.7 degrees at 50 Hz: gain at 45 and at 150 Hz, 1 at 50 Hz.
    t = math.tan(math.radians(2.7))

    def gain(ratio):
        return (1 + t * t) * ratio * ratio / (ratio * ratio + t * t)

    c = ct.Channel(0, 1, math.radians(2.7), 15, 128)
    near(ct.response(c.corner, 50 / 45), gain(0.9), 1e-6, "gain at 45 Hz")
    near(c.higher, gain(3), 1e-6, "gain at 150 Hz")
    for lead in (0, -1):
        c = ct.Channel(0, 1, lead, 15, 128)
        assert ct.response(c.corner, 1) == c.higher == 1


def test_a_gap_spoils_only_its_cycles():
    mains = Mains()
    m = meter(mains)
    mains.stall_us[mains.us // 36 + 1500] = 7300
    x = block(m)
    assert 1 <= m._results[SPOILT] <= 2, m._results[SPOILT]  # two where it hides the crossing between them
    near(x.at[0]["frequency"], 50, 0.02, "frequency")
    assert x.spectrum is None
    assert 350 < x.covered_ms < 390 and x.ms > 400, (x.covered_ms, x.ms)
    near(x.at[0]["voltage"], 230, 0.4, "voltage")
    near(x.at[0]["power"], 2300, 15, "power")
    near(x.at[0]["current"], 10, 0.04, "current")


def test_saturation_is_no_value():
    x = block(meter(Mains(230, 100)))
    for name in ("current", "power", "reactive_power", "thd_current"):
        assert x.at[0][name] is None and x.quality[name] == "saturated", (name, x.quality)
    assert x.at[0]["voltage"] is not None and x.spectrum is None


def test_lost_voltage():
    mains = Mains(0.5, 10)
    m = meter(mains)
    mains.us += 700
    before = mains.us
    x = block(m)
    assert mains.us - before < 600000, "a block without crossings takes %d us" % (mains.us - before)
    near(x.at[0]["voltage"], 0.3, 0.5, "voltage")
    near(x.at[0]["current"], 10, 0.1, "current")
    assert x.at[0]["frequency"] is None and x.at[0]["thd_voltage"] is None
    mains.volts[0] = 230.0
    m = meter(mains)
    mains.volts[0] = 0.0
    block(m)
    mains.volts[0] = 230.0
    block(m)
    near(block(m).at[0]["voltage"], 230, 0.4, "voltage after the return")


def test_another_phase_parts_the_cycles_when_the_first_is_lost():
    mains = Mains([230, 225, 235], [0, 10, 20], 60)
    m = meter(mains, channels(3, 3))
    mains.volts[0] = 0.0
    block(m)
    x = window(m, 2)
    assert x.at[1]["voltage"] < 1, x.at[1]
    in_phase(x.at[2], 225, 10, 60)
    in_phase(x.at[3], 235, 20, 60)
    near(x.at[0]["frequency"], 50, 0.01, "frequency")


def test_bias_is_followed():
    mains = Mains()
    m = meter(mains)
    before = m._parameters[w.CHANNEL]
    mains.dc_mv = 1330.0
    near(block(m).at[0]["current"], 10, 0.04, "current")
    near(block(m).at[0]["current"], 10, 0.04, "current")
    near((m._parameters[w.CHANNEL] - before) / 4096, 30 * (1 - (7 / 8) ** 2), 1, "bias")


def test_reversed_current_is_export():
    in_phase(mean(meter(Mains(230, 10, 180)), 2), 230, 10, 180)


def test_the_other_tasks_get_the_rest_of_a_cycle():
    mains = Mains()
    m = meter(mains)
    mains.us += 1 << 30  # more than the kernel's ticks can tell
    turns = []

    async def other():
        while True:
            turns.append(mains.us)
            mains.us += 3000
            await asyncio.sleep_ms(2)

    async def main():
        task = asyncio.create_task(other())
        await m.block()
        task.cancel()

    asyncio.run(main())
    assert 4 <= len(turns) <= 8, len(turns)


def test_ticks_wrap():
    x = block(meter(Mains(us=(1 << 30) - 600000)))
    near(x.at[0]["frequency"], 50, 0.02, "frequency")
    near(x.at[0]["voltage"], 230, 0.4, "voltage")


def test_gains_are_applied_by_the_meter():
    mains = Mains(200, 10)
    m = ct.Meter(SPEC, PROFILE, mains, mains)
    stored = {"version": 2, "meters": {"main": {"voltage": [{"gain": 1.15}], "current": [{"gain": 0.9}]}}}
    m.start(calibration.correction(SPEC, stored))
    in_phase(mean(m, 2), 230, 9, 0)


def test_a_wrong_rotation_is_flagged():
    for voltages, apart, wrong in (
        (3, 120, False),
        (3, -120, True),
        (2, 120, False),
        (2, 240, True),
        (2, 180, False),  # a split phase has none
        (3, 0, False),
        (1, -120, False),
    ):
        m = meter(Mains([230, 225, 235], 10, hertz=50.7, apart=apart), channels(voltages, 3))
        for _ in range(3):
            assert block(m).flags == (("sequence",) if wrong else ()), (voltages, apart)
    # Two inputs exchanged, at the lowest and the highest voltage of normal service.
    spec = channels(3, 3)
    spec["voltage"] = [spec["voltage"][k] for k in (0, 2, 1)]
    for volts in (195, 265):
        m = meter(Mains(volts, 10), spec)
        assert block(m).flags == ("sequence",) and block(m).flags == ("sequence",)


def test_a_lost_voltage_is_no_rotation():
    for lost in (0, 1):
        mains = Mains([230, 225, 235], 10, apart=-120)
        m = meter(mains, channels(3, 3))
        assert block(m).flags == ("sequence",)
        mains.volts[lost] = 0.0
        block(m)
        assert block(m).flags == () and block(m).flags == ()
        mains.volts[lost] = 230.0
        block(m)
        assert block(m).flags == ("sequence",)


def test_clamps_are_put_on_the_phases_that_they_sense():
    spec = channels(3, 3)
    spec["current"] = [spec["current"][k] for k in (1, 0, 2)]  # those of the first two inputs are exchanged
    x = window(meter(Mains(230, [10, 20, 40], 30), spec), 2)
    in_phase(x.at[1], 230, 20, 150)
    entry = {"order": [2, 1, 3], "current": [{"gain": 0.9}, {"phase_deg": 10.0}]}
    stored = {"version": 2, "meters": {"main": entry}}
    profile = dict(PROFILE, nominal=dict(PROFILE["nominal"]), meters=[spec])
    calibration.install(profile, stored)
    mains = Mains(230, [10, 20, 40], 30)
    m = ct.Meter(spec, profile, mains, mains)
    m.start(calibration.correction(spec, stored, 3))
    x = window(m, 2)
    in_phase(x.at[1], 230, 10, 40)
    in_phase(x.at[2], 230, 18, 30)
    in_phase(x.at[3], 230, 40, 30)


def test_supply_events():
    mains = Mains()
    m = meter(mains)
    block(m)
    start = mains.us + 123400
    ratio = {0: 0.4, 1: 1.2, 2: 0.0}
    found = []

    def level(us, phase):
        at = us - start
        for k, ms in enumerate((40, 100, 300)):
            if 0 <= at - 500000 * k < 1000 * ms:
                return ratio[k]
        return 1.0

    mains.level = level
    for _ in range(4):
        found.extend(block(m).events)
        mains.us += 12000
    assert [x[0] for x in found] == ["dip", "swell", "interruption"], found
    for (_, phases, extreme, ms, uncertainty, ago), want, depth in zip(found, (40, 100, 300), (40, 120, 0)):
        assert phases == (1,)
        near(ms, want, 20, "duration")
        near(extreme, depth, 2, "extreme")
        assert uncertainty <= 11 and 0 <= ago < 420, (uncertainty, ago)


def test_the_room_of_the_events_is_loaded_when_it_is_needed():
    name = "gridnode.meters.supply_events"
    sys.modules.pop(name, None)
    mains = Mains()
    m = meter(mains)
    block(m)
    assert name not in sys.modules
    start = mains.us + 12000  # after the first block the watch has seen nothing of it
    mains.level = lambda us, phase: 0.5 if 0 <= us - start < 60000 else 1.0
    sys.modules[name] = Full()
    assert block(m).events == () and name not in sys.modules
    start = mains.us + 12000
    events = block(m).events
    assert name in sys.modules and [x[0] for x in events] == ["dip"], events


class Full:
    """A room for which there is no memory."""

    def __getattr__(self, name):
        raise MemoryError


def test_thresholds_of_the_profile():
    mains = Mains()
    m = meter(mains, profile=dict(PROFILE, events={"dip": 97, "comment": "unknown keys are kept"}))
    start = mains.us + 100000
    mains.level = lambda us, phase: 0.95 if 0 <= us - start < 100000 else 1.0
    assert [x[0] for x in block(m).events] == ["dip"]


def test_slow_variation_is_no_event():
    mains = Mains()
    m = meter(mains)
    mains.level = lambda us, phase: 1 + 0.08 * math.sin(us / 3e5)
    for _ in range(5):
        assert not block(m).events


def _scripted(volts, amperes, gap=None):
    """Calls for the kernel from stored counts of two channels; ticks advance once a set, in a gap by more."""
    state = [0, 0]

    def read_v():
        return volts[state[0]]

    def read_i():
        state[0] = (state[0] + 1) % len(volts)
        return amperes[state[0] - 1]

    def ticks():
        state[1] = (state[1] + (72 if state[0] != gap else 3000)) & 0x3FFFFFFF
        return state[1]

    return ticks, read_v, read_i


class Kernel:
    """Buffers of one pair, 1/16 mV per 1/16 count and bias at 1300 counts."""

    def __init__(self, cycles):
        self.p = array("i", ((1 << 24) // 278, 272, w.CHANNEL, cycles, 2 * cycles + 5, 10, 4000, 17, 2))
        for words in ((1300 * 4096, 0, 500, 0, 0, 0), (1300 * 4096, w.CHANNEL, 0, 0, 0, 0)):
            self.p.extend(array("i", words))
        self.bins = array("i", range(256))
        self.halves, self.results = setup.buffers(self.p, 1)
        self.table = array("i", (k * 32 * 4096 for k in range(129)))
        self.sine = setup.sine(128)

    def run(self, kernel, calls):
        kernel.sample(calls, self.p, self.table, self.bins, self.halves, self.results)

    def phasors(self, kernel):
        out = array("i", (0, 0))
        found = []
        for channel in range(2):
            for order in range(1, 16):
                kernel.phasor(self.bins, channel, order, self.sine, out)
                found.extend(out)
        return found


def test_both_kernels_agree_bit_for_bit():
    volts, amperes = array("H"), array("H")
    for k in range(1111):
        a = k * 8 * math.pi / 1111
        volts.append(1300 + int(900 * math.sin(a)))
        amperes.append(max(0, 1300 + int(700 * math.sin(a - 1) + 2000 * math.sin(3 * a))))
    one, two = Kernel(8), Kernel(8)
    one.run(w, _scripted(volts, amperes, 700))
    two.run(waveform_plain, _scripted(volts, amperes, 700))
    assert one.results[SPOILT] and one.results[GOOD], list(one.results)
    one.results[ENDED_US] = two.results[ENDED_US]
    for name in ("results", "bins", "halves", "p"):
        assert list(getattr(one, name)) == list(getattr(two, name)), name
    assert one.phasors(w) == two.phasors(waveform_plain)


def _square(period, low, high):
    wave = array("H", (low if k < period // 2 else high for k in range(period)))
    return _scripted(wave, wave)


def test_largest_sums_stay_within_the_bounds():
    # A full-scale square wave is the worst case; 31-bit sums must hold for a whole block, whatever the word size.
    k = Kernel(24)
    for c in range(2):
        k.p[w.CHANNEL + c * w.CHANNEL_WORDS] = 2047 * 4096 + 2048
    k.run(waveform_plain, _square(370, 0, 4095))
    s = k.results
    assert s[SETS] > 7000, s[SETS]
    for words in (s, k.bins, k.halves, k.phasors(waveform_plain)):
        for x in words:
            assert -(1 << 30) <= x < 1 << 30, x
    for x in k.bins:
        assert abs(x - (1 << 29)) < 1 << 28, x
    # Clamped at 32767 on both sides: nothing was lost in the split sums.
    square = s[w.SUMS + SQUARE] + (s[w.SUMS + SQUARE + 1] << 14)
    assert square <= s[SETS] * 32767 * 32767 and square > 0.999 * s[SETS] * 32760 * 32760


def test_kernel_allocates_nothing():
    import micropython

    k = Kernel(5)
    calls = _square(278, 700, 1900)
    out = array("i", (0, 0))
    for kernel in (w, waveform_plain):
        micropython.heap_lock()
        try:
            kernel.sample(calls, k.p, k.table, k.bins, k.halves, k.results)
            kernel.phasor(k.bins, 1, 3, k.sine, out)
        finally:
            micropython.heap_unlock()
        assert k.results[GOOD] >= 4


def test_blocks_do_not_grow():
    m = meter(Mains(noise_mv=0))
    for _ in range(3):
        block(m)
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(4):
        block(m)
    gc.collect()
    assert gc.mem_alloc() <= before, gc.mem_alloc() - before
