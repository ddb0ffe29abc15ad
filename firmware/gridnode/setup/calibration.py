"""Reads /config/calibration.json; a unit without one runs on its design values."""

from array import array

from gridnode.calibration import Correction

VERSION = 1


def correction(spec, stored=None):
    """Correction of one meter: `spec` is its entry of the profile, `stored` the calibration file or None.

    Raises ValueError for a file of another version and for values that cannot be.
    """
    entry = {}
    if stored is not None:
        if stored.get("version") != VERSION:
            raise ValueError("calibration version %r, this firmware knows %d" % (stored.get("version"), VERSION))
        entry = stored.get("meters", {}).get(spec["id"], {})
    table = entry.get("adc_table")
    if table is not None:
        if len(table) != 129 or any(b < a for a, b in zip(table, table[1:])) or table[128] < 1000000:
            raise ValueError("adc_table must be 129 rising values in uV")
        table = array("i", table)
    return Correction(
        table,
        _channels(spec.get("voltage"), entry.get("voltage")),
        _channels(spec.get("current"), entry.get("current")),
    )


def _channels(design, stored):
    result = []
    for k, channel in enumerate(design or ()):
        own = stored[k] if stored and k < len(stored) else {}
        gain = own.get("gain", 1.0)
        if not 0.5 <= gain <= 2.0:
            raise ValueError("gain %r is not within 0.5..2" % gain)
        result.append((gain, own.get("phase_deg", channel.get("phase_deg", 0.0))))
    return result
