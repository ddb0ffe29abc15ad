"""What the meters say in the shadow's `reported` object: field-standard names, sensible decimals, nothing unknown."""

import math
from micropython import const

from gridnode.reading import ONCE, PHASE

_DECIMALS = {  # of what has not one
    "voltage": 2,
    "voltage_ll": 2,
    "current": 3,
    "neutral_current": 3,
    "power_factor": 3,
    "frequency": 3,
    "thd_voltage": 2,
    "thd_current": 2,
    "cover": 3,
    "aux1": 4,
    "aux2": 4,
    "aux3": 4,
    "aux4": 4,
}
_SPECTRA = const(("harmonics_voltage", "harmonics_current"))


def meters(out, pipelines, timestamp):
    """Write the chosen window of each pipeline to `out`, a Shadow: what stands flat, then meters of their own."""
    quality = {}
    least = {}
    most = {}
    flags = []
    apart = 0
    for pipeline in pipelines:
        if pipeline.flat is None:
            apart += 1
            continue
        reading = pipeline.window.finish(timestamp)
        _values(out, pipeline, reading, pipeline.flat)
        for name in reading.quality:
            if name in pipeline.flat or (name not in PHASE and name not in ONCE):  # else another's value stands there
                quality[name] = reading.quality[name]
        least.update(reading.min)
        most.update(reading.max)
        flags += reading.flags
    _rest(out, pipelines[0].window, quality, flags)
    for key, table in (("min", least), ("max", most)):
        for name in table:
            table[name] = _round(name, table[name])
        out.put(key, table)
    if apart:
        out.open("meters")
        for pipeline in pipelines:
            if pipeline.flat is None:
                reading = pipeline.window.finish(timestamp)
                out.open(pipeline.meter.id)
                _values(out, pipeline, reading, None)
                _rest(out, pipeline.window, reading.quality, list(reading.flags))
                out.close()
        out.close()


def _rest(out, window, quality, flags):
    out.put("quality", quality)
    out.put("flags", flags or None)
    coverage = window.coverage()
    out.put("coverage", None if coverage is None else round(coverage, 3))


def _values(out, pipeline, reading, names):
    for k, values in enumerate(reading.at):
        if k:
            out.open("l%d" % k)
        for name in values:
            if k or names is None or name in names or name in ("apparent_power", "power_factor"):
                out.put(name, _round(name, values[name]))
        ledger = pipeline.ledger
        if pipeline.meter.counts_energy:
            out.fixed("energy_import_wh", ledger.mwh(k, 0))
            out.fixed("energy_export_wh", ledger.mwh(k, 1))
            if not k and ledger.resets:
                out.put("energy_resets", ledger.resets)
        for name, sums in zip(_SPECTRA, (reading.spectrum and reading.spectrum[k]) or ()):
            if sums and sums[0] > 0:
                out.put(name, [round(100 * math.sqrt(max(0.0, x) / sums[0]), 2) for x in sums[1:]])
        if k:
            out.close()


def _round(name, value):
    return None if value is None else round(value, _DECIMALS.get(name, 1))
