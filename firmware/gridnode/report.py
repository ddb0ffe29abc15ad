"""The shadow's `reported` object from a window's reading: field-standard names, sensible decimals, nothing unknown."""

from gridnode.reading import NAMES


class Fixed:
    """A number kept as an integer of thousandths, written to JSON with all its digits (float32 has seven)."""

    def __init__(self, thousandths):
        self.thousandths = thousandths

    def json(self):
        """The number as JSON text."""
        return "%d.%03d" % (self.thousandths // 1000, self.thousandths % 1000)


def _values(out, values, ledger, k):
    for name in values:
        value = values[name]
        out[name] = None if value is None else round(value, NAMES[name][1])
    out["energy_import_wh"] = Fixed(ledger.mwh(k, 0))
    out["energy_export_wh"] = Fixed(ledger.mwh(k, 1))


def meter(out, window, ledger, timestamp):
    """Fill `out` with what one meter has to say of a window: flat values, l1..l3, extremes, quality, coverage.

    `out` is the same dict every time; what holds no longer is None in it.
    """
    reading = window.finish(timestamp)
    _values(out, reading.at[0], ledger, 0)
    for k in range(1, len(reading.at)):
        _values(out.setdefault("l%d" % k, {}), reading.at[k], ledger, k)
    for key, table in (("min", reading.min), ("max", reading.max)):
        out[key] = {name: round(table[name], NAMES[name][1]) for name in table}
    out["quality"] = reading.quality
    coverage = window.coverage()
    out["coverage"] = None if coverage is None else round(coverage, 3)
