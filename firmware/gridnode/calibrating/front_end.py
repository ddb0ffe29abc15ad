"""What calibration and self-checks ask of a CT meter's converter."""


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
