"""Register values of an ATM90E32AS for its place: Atmel-46003 datasheet, Atmel-46103 application note."""

from array import array
from micropython import const

_MAP_I = const(0x01)
_SAG_PEAK = const(0x05)
_OV_TH = const(0x06)
_ZX = const(0x07)
_SAG_TH = const(0x08)
_LOSS_TH = const(0x09)
_OI_TH = const(0x0B)
_FREQ_LO = const(0x0C)
_FREQ_HI = const(0x0D)
_PL_HIGH = const(0x31)
_PL_LOW = const(0x32)
_MMODE0 = const(0x33)
_MMODE1 = const(0x34)
_START = const(0x35)  # P, Q, S start thresholds, then one phase's
_POFFSET_A = const(0x41)  # then Q, those of the other phases two further each
_PQGAIN_A = const(0x47)
_PHI_A = const(0x48)
_POFFSET_F = const(0x51)
_UGAIN_A = const(0x61)
_IGAIN_A = const(0x62)

_STEP_DEG = const(0.011)  # of the phase registers, at 60 Hz
_POWER_LSB = const(0.00032)  # W, var


def threshold(value_lsb, gain):
    """Sag and over-voltage or -current threshold: RMS register value * sqrt2 * 2^14 / gain, at most 0xFFFF."""
    return min(0xFFFF, int(value_lsb * 1.41421356 * 16384 / gain))


def common(percent, lsb_per_percent, gains):
    """The one threshold of phases with different gains: no phase misses what reaches `percent` of the nominal value.

    So that of the phase that needs the most sensitive one; but none beyond half the way to 100 %, where a phase of
    another gain would be flagged in normal service.
    """
    wanted = [threshold(percent * lsb_per_percent, gain) for gain in gains]
    bound = [threshold((percent + 100) / 2 * lsb_per_percent, gain) for gain in gains]
    return min(max(wanted), *bound) if percent < 100 else max(min(wanted), *bound)


def gains(spec, channel):
    """Design gains (U, I) of one phase before calibration.

    The converter's full scale is 720 mV rms, where the RMS registers read 2 sqrt2 times the gain (threshold formula
    of the datasheet, 3.7.2): U in 0.01 V divided by `voltage_scale`, I in mA divided by `current_scale`.
    """
    current = spec["current"][channel]
    mv_per_a = current.get("shunt_mohm") or 1000 * current["burden_ohm"] / current["ratio"]
    per_mv = 720 / 2.8284271
    return (
        100 * per_mv / (spec["voltage"][channel]["mv_per_v"] * spec.get("voltage_scale", 1)),
        1000 * per_mv / (mv_per_a * spec.get("pga", 1) * spec.get("current_scale", 1)),
    )


def phi(lead_deg, hertz):
    """Phi register for a sensed current that leads by `lead_deg`: bit 15 delays the voltage, steps of 1/2.048 MHz.

    Returns (register, degrees that this takes off): the range ends at 255 steps.
    """
    per_step = 360 * hertz / 2048000
    steps = min(255, int(abs(lead_deg) / per_step + 0.5))
    return steps | (0x8000 if lead_deg < 0 else 0), steps * per_step * (1 if lead_deg > 0 else -1)


def power(wanted, phases, unit, whole):
    """(addresses and values, applied): the registers that hold a correction of power, those that are not 0.

    wanted: (gain, W, var) per phase, what power is multiplied by and what is then taken off; unit: true W per W of
    the chip; whole: the chip's delays leave nothing of the leads. Applied: "power", "offset" as far as the registers
    reach for all phases; what they do not hold is left to the software, and so are offsets of a power that the
    software has still to correct.

    The datasheet does not say which acts first, gain or offset: what is read without load is too small for a percent
    of it to matter. The harmonic power is P less that of the fundamental (datasheet, figure 8), and what a sensor picks
    up is of the fundamental: both get the offset. PGainF, the further gain of the fundamental, stays 1.
    The offset of the RMS current is added to it, while noise adds by its square (`Correction.noise`) and under load
    all but vanishes: the register would be wrong by its whole amount there, so it stays 0.
    """
    lsb = _POWER_LSB * unit
    wanted = [wanted[k] if k < len(wanted) else (1.0, 0.0, 0.0) for k in range(phases)]
    if any(abs(gain - 1) * 32768 > 32767 for gain, _, _ in wanted):
        return [], ()
    chip = [(_PQGAIN_A + 2 * k, round((wanted[k][0] - 1) * 32768)) for k in range(phases)]
    applied = ("power",)
    if whole and all(abs(x) < 32767 * lsb for one in wanted for x in one[1:]):
        for k, (_, w, var) in enumerate(wanted):
            p = -round(w / lsb)
            chip += ((_POFFSET_A + 2 * k, p), (_POFFSET_A + 2 * k + 1, -round(var / lsb)), (_POFFSET_F + k, p))
        applied += ("offset",)
    flat = []
    for address, value in chip:
        if value:
            flat += (address, value & 0xFFFF)
    return flat, applied


def current_map(order):
    """ChannelMapI: digit k is the input of phase k, counted from 0 here and from 1 in `order`."""
    value = 0x0210
    for k, number in enumerate(order):
        value = value & ~(7 << 4 * k) | number - 1 << 4 * k
    return value


def registers(spec, profile, correction):
    """(configuration, leads, whole, applied, warnings).

    The first is array('H') of address and value in turn; a lead is (degrees that the sensed current leads, that the
    chip takes off), one per phase; whole: nothing is left of them; applied: what of the correction is in the
    registers; a warning is a sentence on what the chip cannot flag here.
    Raises ValueError for gains beyond the chip's registers.
    """
    f = profile["nominal"]["frequency"]
    chip = []
    leads = []
    whole = True
    gains_u = []
    gains_i = []
    for k in range(min(len(spec["voltage"]), len(spec["current"]))):
        u, c = gains(spec, k)
        gain_v, lead_v = correction.voltage[k]
        gain_i, lead_i = correction.current[k]
        u, c = round(u * gain_v), round(c * gain_i)
        if not (0 < u < 0x10000 and 0 < c < 0x10000):
            raise ValueError("meter %s: gain of phase %d does not fit 16 bits" % (spec["id"], k + 1))
        steps, turned = phi(lead_i - lead_v, f)
        leads.append((lead_i - lead_v, turned))
        whole = whole and abs(lead_i - lead_v - turned) <= _STEP_DEG
        gains_u.append(u)
        gains_i.append(c)
        chip += (_UGAIN_A + 4 * k, u, _IGAIN_A + 4 * k, c, _PHI_A + 2 * k, steps)
    scale = spec.get("voltage_scale", 1) * spec.get("current_scale", 1)
    powers, applied = power(correction.power, len(leads), scale, whole)
    chip += powers
    if "order" in spec:
        chip += (_MAP_I, current_map(spec["order"]))
    events = profile.get("events", {})
    unit_u = profile["nominal"]["voltage"] / spec.get("voltage_scale", 1)  # 0.01 V in a percent
    unit_i = 10 * profile["rating"]["current"] / spec.get("current_scale", 1)  # mA in a percent
    warnings = []
    for address, name, percent, unit, its_gains in (
        (_SAG_TH, "sag", events.get("dip", 78), unit_u, gains_u),
        (_LOSS_TH, "phase_loss", events.get("interruption", 10), unit_u, gains_u),
        (_OV_TH, "over_voltage", events.get("swell", 122), unit_u, gains_u),
        (_OI_TH, "over_current", events.get("over_current", 120), unit_i, gains_i),
    ):
        level = common(percent, unit, its_gains)
        if level == 0xFFFF:
            warnings.append("%s at %d %% lies beyond the converter and is never flagged" % (name, percent))
        chip += (address, level)
    # Sag and peak periods of 20 ms: one cycle, whichever half of it the chip looks at.
    chip += (_SAG_PEAK, 0x1414, _ZX, 0xD654, _FREQ_LO, f * 100 - 300, _FREQ_HI, f * 100 + 300)
    chip += (_PL_HIGH, 0x0861, _PL_LOW, 0xC468, _MMODE0, 0x0087 | (0x1000 if f == 60 else 0))
    chip += (_MMODE1, {1: 0x00, 2: 0x15, 4: 0x2A}[spec.get("pga", 1)])
    # Start at 2.4 W in all and 0.24 W a phase: below, the chip counts nothing.
    for k in range(6):
        chip += (_START + k, 0x1D4C if k < 3 else 0x02EE)
    return array("H", chip), leads, whole, ("gain", "phase") + applied, tuple(warnings)
