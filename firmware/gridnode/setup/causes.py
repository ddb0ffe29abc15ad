"""Finds what moves the signals of a device, for `gridnode.anomaly.causes`."""

from gridnode.anomaly import scale
from gridnode.anomaly.causes import DAY, FIRST, LAGS, Cause
from gridnode.setup import signals

_TAU_MIN = (8, 30, 110)


def find(names, kinds, interval_s):
    """Positions of currents, of the voltage of each (-1 without) and of the air; lags in rows; causes."""
    currents = [k for k in range(len(names)) if kinds[k] == scale.CURRENT and names[k] != "i_n"]
    air, _ = signals.thermometers(names)
    volts = [_of(names, "v", "voltage", k) for k in currents]
    tau = [max(2, minutes * 60 // interval_s) for minutes in _TAU_MIN]
    return tuple(currents), tuple(volts), air, tuple(tau), [
        _cause(names, kinds, k, currents, volts, air) for k in range(len(names))
    ]


def _of(names, letter, alone, current):
    """Position of the signal of the same phase, -1 where there is none."""
    name = alone if names[current] == "current" else letter + names[current][1:]
    return names.index(name) if name in names else -1


def _cause(names, kinds, k, currents, volts, air):
    kind = kinds[k]
    amperes = FIRST + len(currents) * LAGS
    watts = amperes + len(currents)
    if kind == scale.TEMPERATURE and k != air:
        inputs = list(range(FIRST, amperes))
        inputs += [watts + len(currents)] if air >= 0 else DAY
        needs = currents + ([air] if air >= 0 else [])
        return Cause(tuple(inputs), tuple(needs), 1, True) if currents else None
    for c in range(len(currents)):
        if kind == scale.VOLTAGE and volts[c] == k:
            return Cause((amperes + c,), (currents[c],), -1)
        if kind == scale.POWER and _of(names, "p", "power", currents[c]) == k and volts[c] >= 0:
            return Cause((watts + c,), (volts[c], currents[c]))
    return None
