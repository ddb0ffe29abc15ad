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
_AWGAIN = const(0x282)  # then AVARGAIN
_AIRMSOS = const(0x286)
_AWATTOS = const(0x289)  # then AVAROS
_CHANNEL_B = const(12)  # registers between those of A and B

_FULL_MV = const(353.55339)  # rms of the sine of 500 mV that fills a converter
_FULL_RMS = const(9032007)
_FULL_PEAK = const(6500000)  # of the converter, varies from part to part
_FULL_POWER = const(4862401)
_FULL_RATE = const(206900)  # counts of energy a second
_UNITY = const(0x400000)
_MOST = const(0x7FFFFF)  # of an offset register
_STEP_DEG = const(0.025)  # of the phase registers, at 60 Hz


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


def offset(value, lsb):
    """Offset register, 24 bits in two's complement, that takes off a value of that unit; None beyond its range."""
    return -round(value / lsb) & 0xFFFFFF if abs(value) < _MOST * lsb else None


def trims(correction, watts, amperes, whole):
    """(addresses and values, applied): the registers of power and noise, and what of it they hold for all currents.

    watts: W that one count of energy a second stands for, amperes: A per count of IRMS, each per current; whole: the
    chip's delays leave nothing of the leads. What the registers do not hold is left to the software, and so are
    offsets of a power that the software has still to correct. All registers are written, since the chip may still
    have those of another calibration.

    Full scale is 4862401 counts of WATT and 206.9 kHz of energy, and a step of AWATTOS is 1/512 of a count of WATT
    (p. 35): 12033 steps make a count of energy a second. AN-1118's formula has 0x14000000 * 2^5 / (128 * 6.99 kHz) =
    12001 there. The offset is added behind AWGAIN and before the energy (figure 45). IRMS^2 = IRMS0^2 + AIRMSOS * 2^12
    (p. 35), behind AIGAIN: noise adds by its square.
    """
    gains, offsets, noises = [], [], []
    for k in range(len(watts)):
        g, w, var = correction.power[k] if k < len(correction.power) else (1.0, 0.0, 0.0)
        noise = correction.noise[k] / amperes[k] if k < len(correction.noise) else 0.0
        lsb = watts[k] * _FULL_RATE / _FULL_POWER / 512
        gains.append(gain(g) if 0.5 <= g <= 1.5 else None)
        offsets += (offset(w, lsb), offset(var, lsb))
        noises.append(offset(noise * noise, 4096))
    applied = ()
    if None in gains:
        gains = [_UNITY] * len(gains)
        whole = False
    else:
        applied += ("power",)
    if whole and None not in offsets:
        applied += ("offset",)
    else:
        offsets = [0] * len(offsets)
    if None in noises:
        noises = [0] * len(noises)
    else:
        applied += ("noise",)
    chip = []
    for k in range(len(watts)):
        b = k * _CHANNEL_B
        chip += (_AWGAIN + b, gains[k], _AWGAIN + 1 + b, gains[k], _AIRMSOS + b, noises[k])
        chip += (_AWATTOS + b, offsets[2 * k], _AWATTOS + 1 + b, offsets[2 * k + 1])
    return chip, applied


def registers(spec, profile, correction):
    """(configuration, units, leads, whole, applied, warnings).

    The first is array('i') of address and value in turn, the configuration register first. Units: V per count, count of
    a clipped voltage peak; A per count, counts of clipped peaks, uJ per count of energy, each per current. A lead is
    (degrees that the sensed current leads, that the chip takes off); whole: nothing is left of them; applied: what of
    the correction is in the registers or the units; a warning is a sentence on what the chip cannot flag here.
    The gain of the voltage is in the units: the documents disagree on what AVGAIN does to channel B (BVGAIN must not be
    changed, p. 62; must be equal, p. 34).
    """
    if "order" in spec:
        raise ValueError("meter %s: its inputs cannot be exchanged, an outlet is what it is wired to" % spec["id"])
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
    leads, amperes, peaks, steps, watts = [], [], [], [], []
    whole = True
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
        chip += (_PGA_V + 1 + k, codes[pga], _AIGAIN + k * _CHANNEL_B, register, _PHCAL + k, delay)
        leads.append((lead_i - lead_v, turned))
        whole = whole and abs(lead_i - lead_v - turned) <= _STEP_DEG
        amperes.append(full / _FULL_RMS)
        peaks.append(int(0.97 * _FULL_PEAK * register / _UNITY))
        watts.append(full_v * full / _FULL_RATE)
        steps.append(round(1e6 * watts[k]))
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
    values, applied = trims(correction, watts, amperes, whole)
    chip += values
    units = full_v / _FULL_RMS, int(0.97 * _FULL_PEAK), amperes, peaks, steps
    return array("i", chip), units, leads, whole, ("gain", "phase") + applied, tuple(warnings)
