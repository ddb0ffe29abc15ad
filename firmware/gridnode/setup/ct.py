"""Tables, channels and limits of a CT front end."""

import math
from array import array

from gridnode.meters import ct

w = ct.w


def sine():
    """One cycle of the reference, array('h', 256), amplitude 8192."""
    return array("h", (round(8192 * math.sin(math.pi * k / 128)) for k in range(256)))


def design_table(adc):
    """Linearisation of a typical converter of the board, array('H', 129): a unit's own table replaces it."""
    return array("H", (round(10 * (adc["offset_mv"] + adc["mv_per_count"] * 32 * k)) for k in range(129)))


def leads(correction):
    """Lead of each sensed current over the sensed voltage in degrees."""
    volts, amperes = correction.voltage, correction.current
    return [amperes[k][1] - volts[min(k, len(volts) - 1)][1] for k in range(len(amperes))]


def voltages(machine, spec):
    """Channels of the voltages."""
    return [_channel(machine, c, 1 / c["mv_per_v"]) for c in spec["voltage"]]


def currents(machine, spec):
    """Channels of the currents."""
    return [_channel(machine, c, c["ratio"] / (1000 * c["burden_ohm"])) for c in spec["current"]]


def _channel(machine, design, unit_per_mv):
    adc = machine.ADC(machine.Pin(design["adc"]))
    adc.atten(machine.ADC.ATTN_11DB)
    return ct.Channel(adc, unit_per_mv, design.get("bias_mv", 1650))


def limits(parameters, table, adc, amplitude_mv):
    """Set the kernel's limits that hold for good: saturation and hysteresis."""
    low, high = adc["range_mv"]
    parameters[w.COUNT_LOW], parameters[w.COUNT_HIGH] = _count(table, 10 * low), _count(table, 10 * high)
    parameters[w.HYSTERESIS] = int(amplitude_mv * 0.8)


def _count(table, tenth_mv):
    for k in range(128):
        if table[k + 1] > tenth_mv:
            break
    return 32 * k + 32 * (tenth_mv - table[k]) // max(1, table[k + 1] - table[k])
