"""Makes the rules of a profile's limits."""

from gridnode.anomaly.rules import Range
from gridnode.reading import ONCE, PHASE, signal

_FROM = {"power_factor": "power", "apparent_power": "current"}  # derived from what is measured


def of(limits, names, phases):
    """Rules for those limits whose value is among `names`; keys as `find` knows them."""
    rules = []
    for key in sorted(limits):
        name, at = find(key, phases)
        if _FROM.get(name, name) in names:
            for k in at:
                rules.append(Range(signal(k, name), k, name, limits[key]))
    return rules


def find(key, phases):
    """(name, entries of `Reading.at`) of a key of the limits.

    A key is a report name (`voltage`), a phase signal (`v2`) or a family (`v`). Raises ValueError for anything else.
    """
    if key in PHASE or key in ONCE:
        return key, (0,)
    for name in PHASE:
        short = PHASE[name]
        if key == short:
            return name, range(1, phases + 1) if phases > 1 else (0,)
        if key[:-1] == short and key[-1:] in "123" and int(key[-1]) <= phases > 1:
            return name, (int(key[-1]),)
    raise ValueError("limits: no signal %r" % key)
