"""One plain sentence per alarm: what is seen where, and for how long."""

from math import isnan

from gridnode.anomaly import scale
from gridnode.anomaly.rules import plain
from gridnode.setup.signals import range_of

_UNITS = ("", "V", "A", "W", "degC", "%")
_NAMES = ("", "voltage", "current", "power", "temperature", "humidity")
_TELL = {
    "missing": "gives no reading",
    "dead": "as if nothing were connected",
    "stuck": "has not moved",
    "rate": "moves faster than it can",
    "noise": "is noisier than it ever was",
    "clipped": "moves less than it ever did",
    "period": "does not follow its time of day",
    "spike": "jumped",
    "mismatch": "does not fit the other readings",
    "relation": "is %s %s where the load puts it",
    "drift": "has left its ordinary level",
    "level_shift": "has jumped to another level",
}
_SHIFTS = ("spike", "level_shift", "drift", "relation", "period")  # a rating says more


def sentence(detector):
    """The alarm of a detector, "" without one."""
    if not detector.alarm:
        return ""
    said = ""
    if detector.rules and detector.rules.top >= 0:
        said = detector.diagnosis.replace("_", " ")
        said = "CT" + said[2:] if said.startswith("ct ") else said[0].upper() + said[1:]
    k = detector.first()
    if k is None:
        return said or "The signals do not fit together"
    signal = detector.signals[k]
    seen = _label(detector.names[k], signal.kind) + " " + _seen(detector, k)
    seconds = detector.now - signal.onset if signal.alarm else 0
    if seconds >= detector.interval_s:
        seen += " for " + _duration(seconds)
    return said + ": " + seen if said else seen


def _seen(detector, k):
    x = detector.values[k]
    measured = detector.signals[k].kind
    unit = _UNITS[measured] and " " + _UNITS[measured]
    known = not isnan(x)
    value = plain(x) + unit if known else ""
    kind = detector.kind_of(k)
    if kind == "missing":
        return _TELL[kind]
    if known and detector.names[k] == "cover":
        return "is open" if x == 1 else "was open"
    rating = detector.limits.get("rating_a")
    above = measured == scale.CURRENT and rating and x > rating
    if kind in _TELL and not (above and kind in _SHIFTS):
        return "%s %s" % (value, _told(kind, detector.signals[k], unit))
    if above:
        return "%s on a %s A feeder" % (value, plain(rating))
    limits = range_of(detector.names[k], measured, detector.limits)
    if limits and known and not limits[0] <= x <= limits[1]:
        side = 1 if x > limits[1] else 0
        return "%s, %s %s" % (value, ("below", "above")[side], plain(limits[side]) + unit)
    return value


def _told(kind, signal, unit):
    if kind == "spike" and signal.series.why & 1:
        return "dropped"
    if kind == "relation":
        off = signal.series.off() / signal.per_unit
        size = plain(round(abs(off), 1)) + (" K" if signal.kind == scale.TEMPERATURE else unit)
        return _TELL[kind] % (size, "above" if off > 0 else "below")
    return _TELL[kind]


def _label(name, measured):
    if name == "i_n":
        return "Neutral current"
    if name.startswith("t_"):
        return name[2:3].upper() + name[3:].replace("_", " ") + " temperature"
    if measured and name[1:].isdigit():
        return "L%s %s" % (name[1:], _NAMES[measured])
    return name[:1].upper() + name[1:]


def _duration(seconds):
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return "%d %s" % (seconds // size, unit)
    return "%d s" % seconds
