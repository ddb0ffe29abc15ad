"""Register values of an ADE7953 for its place: ADE7953 datasheet Rev. B, application note AN-1118."""

from array import array
from micropython import const

_SAGCYC = const(0x000)
_PGA_V = const(0x007)  # then those of the currents
_CONFIG = const(0x102)
_PHCAL = const(0x108)  # A, B
_SAGLVL = const(0x200)
_OVLVL = const(0x224)
_OILVL = const(0x225)
_AIGAIN = const(0x280)
_BIGAIN = const(0x28C)

_FULL_MV = 353.55339  # rms of the sine of 500 mV that fills a converter
_FULL_RMS = 9032007
_FULL_PEAK = 6500000  # of the converter, varies from part to part
_FULL_RATE = 206900  # counts of energy a second
_UNITY = const(0x400000)


def gain(ratio):
    """Gain register for a ratio, as near as its range of 0.5 to 1.5 comes."""
    return max(_UNITY // 2, min(_UNITY * 3 // 2, int(ratio * _UNITY + 0.5)))


def sign_magnitude(steps):
    """PHCAL register: 10 bits, the upper one is the sign."""
    return steps if steps >= 0 else 0x200 | -steps


def phcal(lead_deg, hertz):
    """(PHCAL, degrees that this takes off) for a sensed current that leads by `lead_deg`.

    Steps of 4/3.58 MHz, up to 383. Positive ones delay the current (datasheet p. 34), so they are for one that leads.
    AN-1118 prints the opposite signs in its examples; the minus before its formula agrees with the datasheet.
    """
    per_step = 360 * hertz / 895000
    steps = max(-383, min(383, round(lead_deg / per_step)))
    return sign_magnitude(steps), steps * per_step


def registers(spec, profile, correction):
    """(configuration, units, leads, warnings).

    The first is array('i') of address and value in turn, the configuration register first. Units: V per count, count of
    a clipped voltage peak; A per count, counts of clipped peaks, uJ per count of energy, each per current. A lead is
    (degrees that the sensed current leads, that the chip takes off), a warning a sentence on what it cannot flag here.
    The gain of the voltage is in the units: the documents disagree on what AVGAIN does to channel B (BVGAIN must not be
    changed, p. 62; must be equal, p. 34).
    """
    v, f = profile["nominal"]["voltage"], profile["nominal"]["frequency"]
    rating = profile["rating"]["current"]
    events = profile.get("events", {})
    pga = spec.get("pga", 1)
    codes = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4, 22: 5}
    if pga not in codes or (pga == 22 and len(spec["current"]) > 1):
        raise ValueError("meter %s: pga %r" % (spec["id"], pga))
    gain_v, lead_v = correction.voltage[0]
    full_v = _FULL_MV / spec["voltage"][0]["mv_per_v"] * gain_v
    # Lock the interface (bit 15), watch the configuration by its checksum (bit 8), keep the high-pass filters (bit 2).
    chip = [_CONFIG, 0x0104, _PGA_V, 0]
    leads, amperes, peaks, steps = [], [], [], []
    design = None
    for k, channel in enumerate(spec["current"]):
        mv_per_a = channel.get("shunt_mohm") or 1000 * channel["burden_ohm"] / channel["ratio"]
        gain_i, lead_i = correction.current[k]
        full = _FULL_MV / (mv_per_a * pga)
        design = design or full
        # Both currents count alike, since one over-current threshold is for both.
        register = gain(full * gain_i / design)
        full = full * gain_i * _UNITY / register
        delay, turned = phcal(lead_i - lead_v, f)
        chip += (_PGA_V + 1 + k, codes[pga], (_AIGAIN, _BIGAIN)[k], register, _PHCAL + k, delay)
        leads.append((lead_i - lead_v, turned))
        amperes.append(full / _FULL_RMS)
        peaks.append(int(0.97 * _FULL_PEAK * register / _UNITY))
        steps.append(round(1e6 * full_v * full / _FULL_RATE))
    warnings = []
    for address, name, percent, nominal, full in (
        (_SAGLVL, "sag", events.get("dip", 78), v, full_v),
        (_OVLVL, "over_voltage", events.get("swell", 122), v, full_v),
        (_OILVL, "over_current", events.get("over_current", 120), rating, design),
    ):
        share = percent / 100 * nominal / full
        if share > 1:
            warnings.append("%s at %d %% lies beyond the converter and is never flagged" % (name, percent))
        chip += (address, min(0xFFFFFF, int(share * _FULL_PEAK)))
    chip += (_SAGCYC, 2)  # half cycles
    units = full_v / _FULL_RMS, int(0.97 * _FULL_PEAK), amperes, peaks, steps
    return array("i", chip), units, leads, tuple(warnings)
