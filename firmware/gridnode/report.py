"""The shadow's `reported` object from a window's reading: field-standard names, sensible decimals, nothing unknown."""

from gridnode.reading import NAMES


class Fixed:
    """A number kept as an integer of thousandths, written to JSON with all its digits (float32 has seven)."""

    def __init__(self, thousandths):
        self.thousandths = thousandths

    def json(self):
        """The number as JSON text."""
        return "%d.%03d" % (self.thousandths // 1000, self.thousandths % 1000)


def _values(values, ledger, k):
    out = {}
    for name in values:
        value = values[name]
        if value is not None:
            out[name] = round(value, NAMES[name][1])
    out["energy_import_wh"] = Fixed(ledger.mwh(k, 0))
    out["energy_export_wh"] = Fixed(ledger.mwh(k, 1))
    return out


def meter(reading, ledger, coverage):
    """What one meter has to say: flat values, l1..l3, extremes, quality, coverage."""
    out = _values(reading.at[0], ledger, 0)
    for k in range(1, len(reading.at)):
        out["l%d" % k] = _values(reading.at[k], ledger, k)
    for key, table in (("min", reading.min), ("max", reading.max)):
        if table:
            out[key] = {name: round(table[name], NAMES[name][1]) for name in table}
    if reading.quality:
        out["quality"] = dict(reading.quality)
    if coverage is not None:
        out["coverage"] = round(coverage, 3)
    return out
