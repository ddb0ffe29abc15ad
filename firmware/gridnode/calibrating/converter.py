"""What a calibration asks of a CT meter's converter, and what both ways to its table share, the sine and the levels."""


def rising(table):
    """The table itself, made to rise: whatever its ends do, a larger count is never less."""
    for k in range(1, len(table)):
        table[k] = max(table[k], table[k - 1])
    return table


def record(meter, before, after, windows):
    """Record of the step `linearity` of a meter; before, after: what the converter is off, %."""
    return {
        "step": "linearity",
        "meter": meter,
        "phase": 0,
        "reference": {},
        "uncertainty_percent": {},
        "before_percent": {"nonlinearity": round(before, 4)},
        "after_percent": {"nonlinearity": round(after, 4)},
        "spread_percent": {},
        "u_percent": {},
        "load": {},
        "windows": windows,
        "rejected": 0,
        "window_s": 0,
    }


def phasors(meter):
    """Phasors of the orders 1, 2, .. of a meter's first voltage in its last block: [(re, im)], amplitudes in mV.

    Empty where the block held no whole cycles of known phase.
    """
    from gridnode.meters.ct import w

    _, good, free, _, _, _, _, binned = meter._results[:8]
    out, v = meter._phasor, meter._volts[0]
    if not (binned and good) or free:
        return []
    found = []
    for k in range(meter.orders):
        w.phasor(meter._bins, v.place, k + 1, meter._sine, out)
        part = 8.0 * (binned * meter._weights[k] >> 14)
        found.append((out[0] / part, out[1] / part))
    return found


def in_force(meter):
    """(table in uV, mean level in mV) that a meter's first voltage is measured with."""
    return [x * 125 // 512 for x in meter._table], meter._parameters[meter._volts[0].words] / 4096


def reader(meter):
    """What gives a raw count of a meter's first voltage."""
    return meter._calls[1]  # the one before it tells the time
