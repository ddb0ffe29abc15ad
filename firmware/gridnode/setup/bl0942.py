"""Scales and registers of a BL0942 for its place: datasheet V1.1, application note V1.04."""

from micropython import const

_I_RMSOS = const(0x12)
_WA_CREEP = const(0x14)
_FREQ_CYC = const(0x17)
_GAIN_CR = const(0x1A)
_MODE = const(0x19)

_VREF = const(1.218)  # V
_PEAK_TO_RMS = const(0.70710678)
_VOLTAGE_END = 100 * _PEAK_TO_RMS  # mV rms of a sine that fills the converter
_CURRENT_END = 42 * _PEAK_TO_RMS


def scales(spec):
    """(counts per V, per A, per W, uJ per pulse) from the divider and the shunt, at the gain of 16.

    I_RMS = 305978 I/Vref, V_RMS = 73989 V/Vref, WATT = 3537 V I cos/Vref^2 with the inputs in mV; a pulse takes
    1638.4 * 256 / WATT seconds. 1 mohm and 510 ohm below 5 x 390 kohm: 15883 per V, 251213 per A, 623.4 per W.
    """
    mv_per_v = spec["voltage"][0]["mv_per_v"]
    mv_per_a = spec["current"][0]["shunt_mohm"]
    per_w = 3537 / (_VREF * _VREF) * mv_per_v * mv_per_a
    return 73989 / _VREF * mv_per_v, 305978 / _VREF * mv_per_a, per_w, int(1638.4 * 256 / per_w * 1e6)


def ends(spec):
    """Largest voltage and current, V and A rms of a sine, that the converters hold."""
    return _VOLTAGE_END / spec["voltage"][0]["mv_per_v"], _CURRENT_END / spec["current"][0]["shunt_mohm"]


def registers(frequency):
    """Address and value of each register that matters, MODE last: it alone differs from its reset value (0x87).

    MODE: pulses on, RMS and power over 800 ms, algebraic accumulation, baud rate as the pin SCLK_BPS says.
    """
    mode = 0x0F | (0x20 if frequency == 60 else 0)
    return ((_I_RMSOS, 0), (_WA_CREEP, 0x0B), (_FREQ_CYC, 3), (_GAIN_CR, 2), (_MODE, mode))
