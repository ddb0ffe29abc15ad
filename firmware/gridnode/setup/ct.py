"""Tables, channels, buffers and limits of a CT front end."""

import math
from array import array

from gridnode.meters import ct, supply_events

w = ct.w

_UNITS = 4096  # of the linearised counts in a mV


def table(adc_uv, adc):
    """Linearisation in 1/4096 mV at every 32nd count, array('i', 129): the unit's own, or that of a typical one."""
    if adc_uv:
        return array("i", (uv * 512 // 125 for uv in adc_uv))
    return array("i", (round(_UNITS * (adc["offset_mv"] + adc["mv_per_count"] * 32 * k)) for k in range(129)))


def sine():
    """One cycle, array('H', 256)."""
    a = w.AMPLITUDE
    return array("H", (a + round(a * math.sin(math.pi * k / 128)) for k in range(256)))


def channels(machine, spec, correction, orders):
    """Voltages and currents with so many orders; a current is read after its voltage."""
    volts, amperes = spec["voltage"], spec["current"]
    found = [], []
    place = 0
    for k in range(max(len(volts), len(amperes))):
        if k < len(volts):
            unit_per_mv = 1 / volts[k]["mv_per_v"]
            found[0].append(_channel(machine, place, volts[k], unit_per_mv, correction.voltage[k], orders))
            place += 1
        if k < len(amperes):
            unit_per_mv = 1 / _mv_per_a(amperes[k])
            found[1].append(_channel(machine, place, amperes[k], unit_per_mv, correction.current[k], orders))
            place += 1
    return found


def _mv_per_a(design):
    return design.get("shunt_mohm") or 1000 * design["burden_ohm"] / design["ratio"]


def _channel(machine, place, design, unit_per_mv, correction, orders):
    adc = machine.ADC(machine.Pin(design["adc"]))
    adc.atten(machine.ADC.ATTN_11DB)
    gain, lead_deg = correction
    return ct.Channel(place, adc, unit_per_mv * gain, lead_deg, orders)


def parameters(spec, profile, bins, lin, volts, amperes):
    """The kernel's parameters: all but reference and hysteresis."""
    adc, hertz = profile["board"]["adc"], profile["nominal"]["frequency"]
    n = len(volts) + len(amperes)
    p = array("i", [0] * (w.CHANNEL + n * w.CHANNEL_WORDS))
    p[w.CYCLES] = 20 if hertz < 55 else 24  # two of the intervals of 10 and 12 cycles of IEC 61000-4-30
    p[w.ROOM] = 2 * p[w.CYCLES] + 5
    set_us = n * adc["conversion_us"]
    p[w.STEP] = (set_us * hertz << 24) // 1000000
    p[w.GAP_US] = set_us + 200
    low, high = adc["range_mv"]
    p[w.COUNT_LOW], p[w.COUNT_HIGH] = _count(lin, low), _count(lin, high)
    while bins << p[w.SHIFT] < 1 << 24:
        p[w.SHIFT] += 1
    p[w.CHANNELS] = n
    for k, v in enumerate(volts):
        p[_word(v, w.OFFSET)] = round(_UNITS * spec["voltage"][k].get("bias_mv", 1650))
    for k, i in enumerate(amperes):
        p[_word(i, w.OFFSET)] = round(_UNITS * spec["current"][k].get("bias_mv", 1650))
        p[_word(i, w.PARTNER)] = _word(volts[min(k, len(volts) - 1)], w.LAST)
    return p


def _word(channel, word):
    return w.CHANNEL + channel.place * w.CHANNEL_WORDS + word


def _count(lin, mv):
    for k in range(128):
        if lin[k + 1] > _UNITS * mv:
            break
    return 32 * k + int(32 * (_UNITS * mv - lin[k])) // max(1, lin[k + 1] - lin[k])


def weights(bins, orders):
    """Factors from the squares of the kernel's phasors to mean squares in (1/16 mV)^2 times the square of the sets.

    Sharing between bins has weakened the order h by sinc(h/B)**2.
    """
    step = math.pi / bins
    return tuple([128 * (h * step / math.sin(h * step)) ** 4 for h in range(1, orders + 1)])


def buffers(p, voltages):
    """The kernel's half cycles and results."""
    return (
        array("i", range(p[w.ROOM] * (w.RECORD + voltages))),
        array("i", range(w.SUMS + 2 * p[w.CHANNELS] * w.SUM_WORDS)),
    )


def events(volts, profile):
    """The watch over the voltages, with the profile's thresholds."""
    nominal, own = profile["nominal"]["voltage"], profile.get("events", {})
    thresholds = {name: own[name] for name in ("dip", "swell", "interruption", "hysteresis") if name in own}
    return supply_events.SupplyEvents([(nominal / v.scale) ** 2 / 1024 for v in volts], **thresholds)


def spectrum(volts, amperes):
    """Where the spectra of a reading lie, per entry of its `at`."""
    pairs = []
    for k in range(max(len(volts), len(amperes))):
        i = amperes[k].squares if k < len(amperes) else None
        pairs.append((volts[min(k, len(volts) - 1)].squares, i))
    return [None] + pairs if len(pairs) > 1 else pairs
