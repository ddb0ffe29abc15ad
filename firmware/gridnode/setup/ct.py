"""Tables, channels, buffers and limits of a CT front end."""

import math
from array import array
from micropython import const

from gridnode.meters import ct

w = ct.w

_UNITS = const(4096)  # of the linearised counts in a mV
_PAIRS = const(200)  # of a count and its mV: more than a cycle
_SWING = const(300)  # counts
_TYPICAL = const(0.01)  # off the typical slope


def table(adc_uv, adc):
    """Linearisation in 1/4096 mV at every 32nd count, array('i', 129): the unit's own, or that of a typical one."""
    if adc_uv:
        return array("i", (uv * 512 // 125 for uv in adc_uv))
    return array("i", (round(_UNITS * (adc["offset_mv"] + adc["mv_per_count"] * 32 * k)) for k in range(129)))


def fused(machine, spec, typical):
    """Linearisation in uV by what the chip itself makes of its counts, by the calibration that its maker has fused.

    The chip tells whole mV, and counts and mV of different moments: so a line through many, on the voltage's swing.
    None without such a swing, and for a chip that is typical (mV per count) within what this can tell.
    """
    adc = _adc(machine, spec["voltage"][0])
    counts, uv = array("i", range(_PAIRS)), array("i", range(_PAIRS))
    for k in range(_PAIRS):
        before = adc.read()
        uv[k] = adc.read_uv()
        counts[k] = before + adc.read()  # twice the count at that moment
    if max(counts) - min(counts) < 2 * _SWING:
        return None
    x, y = sum(counts) / _PAIRS, sum(uv) / _PAIRS
    slope = sum([(a - x) * (b - y) for a, b in zip(counts, uv)]) / sum([(a - x) ** 2 for a in counts])
    if abs(slope / (500 * typical) - 1) < _TYPICAL:
        return None
    return [int(y + slope * (64 * k - x)) for k in range(129)]


def sine(bins):
    """One cycle, array('H')."""
    a = w.AMPLITUDE
    return array("H", (a + round(a * math.sin(2 * math.pi * k / bins)) for k in range(bins)))


def weights(bins, orders):
    """What sharing between bins leaves of the orders 1, 2, .., sinc(h/B)**2, in 1/8192: array('H')."""
    step = math.pi / bins
    return array("H", (round(8192 * (math.sin(h * step) / (h * step)) ** 2) for h in range(1, orders + 1)))


def channels(machine, spec, correction, orders, bins):
    """Voltages and currents with so many orders, and the calls that read all of them in turn.

    A current is read after its voltage.
    """
    volts, amperes, reads = [], [], []
    for k in range(max(len(spec["voltage"]), len(spec["current"]))):
        if k < len(spec["voltage"]):
            design = spec["voltage"][k]
            volts.append(_channel(len(reads), design["mv_per_v"], correction.voltage[k], orders, bins))
            reads.append(_adc(machine, design).read)
        if k < len(spec["current"]):
            design = spec["current"][k]
            amperes.append(_channel(len(reads), _mv_per_a(design), correction.current[k], orders, bins))
            reads.append(_adc(machine, design).read)
    return tuple(volts), tuple(amperes), reads


def _mv_per_a(design):
    return design.get("shunt_mohm") or 1000 * design["burden_ohm"] / design["ratio"]


def _channel(place, mv_per_unit, correction, orders, bins):
    gain, lead_deg = correction
    return ct.Channel(place, gain / (16 * mv_per_unit), math.radians(lead_deg), orders, bins)


def _adc(machine, design):
    adc = machine.ADC(machine.Pin(design["adc"]))
    adc.atten(machine.ADC.ATTN_11DB)
    return adc


def parameters(spec, profile, bins, lin, volts, amperes):
    """The kernel's parameters, in its order."""
    adc, nominal = profile["board"]["adc"], profile["nominal"]
    n = len(volts) + len(amperes)
    set_us = n * adc["conversion_us"]
    cycles = 20 if nominal["frequency"] < 55 else 24  # two of the intervals of 10 and 12 cycles of IEC 61000-4-30
    low, high = adc["range_mv"]
    shift = 24
    while 1 << 24 - shift < bins:
        shift -= 1
    step = (set_us * nominal["frequency"] << 24) // 1000000
    p = [step, set_us + 200, volts[0].words, cycles, 2 * cycles + 5, _count(lin, low), _count(lin, high), shift, n]
    p += [0] * (n * w.CHANNEL_WORDS)
    for k, v in enumerate(volts):
        hysteresis = int(0.115 * nominal["voltage"] / v.scale)  # 8 % of the amplitude
        p[v.words : v.words + 3] = [_offset(spec["voltage"][k]), 0, hysteresis]
    for k, i in enumerate(amperes):
        p[i.words : i.words + 2] = [_offset(spec["current"][k]), volts[min(k, len(volts) - 1)].words]
    return array("i", p)


def _offset(design):
    return round(_UNITS * design.get("bias_mv", 1650))


def _count(lin, mv):
    for k in range(128):
        if lin[k + 1] > _UNITS * mv:
            break
    return 32 * k + int(32 * (_UNITS * mv - lin[k])) // max(1, lin[k + 1] - lin[k])


def buffers(p, voltages):
    """The kernel's half cycles and results, for these parameters."""
    room, channels = p[w.ROOM], (len(p) - w.CHANNEL) // w.CHANNEL_WORDS
    return (
        array("i", range(room * (w.RECORD + voltages))),
        array("i", range(w.SUMS + 2 * channels * w.SUM_WORDS)),
    )


def thresholds(volts, profile):
    """What `supply_events` is made with, and of each voltage the least and the largest quiet half cycle, array('i')."""
    own = profile.get("events", {})
    dip, swell = own.get("dip", 90), own.get("swell", 110)
    nominal = [(profile["nominal"]["voltage"] / v.scale) ** 2 / 1024 for v in volts]
    quiet = array("i")
    for x in nominal:
        quiet.extend(array("i", (int(x * dip * dip / 10000) + 1, int(x * swell * swell / 10000) - 1)))
    return (nominal, dip, swell, own.get("interruption", 10), own.get("hysteresis", 2)), quiet


def spectrum(volts, amperes):
    """Where the spectra of a reading lie, per entry of its `at`."""
    pairs = []
    for k in range(max(len(volts), len(amperes))):
        i = amperes[k].squares if k < len(amperes) else None
        pairs.append((volts[min(k, len(volts) - 1)].squares, i))
    return [None] + pairs if len(pairs) > 1 else pairs
