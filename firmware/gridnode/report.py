"""What a meter says in the shadow's `reported` object: field-standard names, sensible decimals, nothing unknown."""

from gridnode.reading import NAMES


def _values(out, values, ledger, k):
    for name in values:
        out.put(name, _round(name, values[name]))
    out.fixed("energy_import_wh", ledger.mwh(k, 0))
    out.fixed("energy_export_wh", ledger.mwh(k, 1))


def _round(name, value):
    return None if value is None else round(value, NAMES[name][1])


def meter(out, window, ledger, timestamp):
    """Write a window to `out`, a Shadow: flat values, l1..l3, extremes, quality, coverage."""
    reading = window.finish(timestamp)
    _values(out, reading.at[0], ledger, 0)
    for k in range(1, len(reading.at)):
        out.open("l%d" % k)
        _values(out, reading.at[k], ledger, k)
        out.close()
    for key, table in (("min", reading.min), ("max", reading.max)):
        out.put(key, {name: _round(name, table[name]) for name in table})
    out.put("quality", reading.quality)
    coverage = window.coverage()
    out.put("coverage", None if coverage is None else round(coverage, 3))
