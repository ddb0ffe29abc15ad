"""Makes the rules of a profile's limits."""

from gridnode.anomaly.rules import Range
from gridnode.reading import NAMES


def ranges(key, limit, phases):
    """Rules for a key of the limits: a report name (`voltage`), a phase signal (`v2`) or a family (`v`)."""
    if key in NAMES:
        return [Range(key, 0, key, limit)]
    for name in NAMES:
        short = NAMES[name][0]
        if key == short:
            if phases == 1:
                return [Range(name, 0, name, limit)]
            return [Range(short + str(k), k, name, limit) for k in range(1, phases + 1)]
        if key[:-1] == short and key[-1:] in "123" and int(key[-1]) <= phases > 1:
            return [Range(key, int(key[-1]), name, limit)]
    raise ValueError("limits: no signal %r" % key)
