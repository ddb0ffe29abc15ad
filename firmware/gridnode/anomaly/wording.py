"""One plain sentence per alarm: what is seen where, and for how long."""


from gridnode.anomaly import scale
from gridnode.anomaly.rules import plain

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
    "relation": "is not where the load puts it",
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
    seen = _label(signal) + " " + _seen(signal, detector)
    seconds = detector.now - signal.onset if signal.alarm else 0
    if seconds >= signal.interval_s:
        seen += " for " + _duration(seconds)
    return said + ": " + seen if said else seen


def _seen(signal, detector):
    kind = detector.kind
    value = "" if signal.x != signal.x else plain(signal.x) + _unit(signal)
    if kind == "missing":
        return _TELL[kind]
    above = signal.kind == scale.CURRENT and signal.rating and signal.x > signal.rating
    if kind in _TELL and not (above and kind in _SHIFTS):
        return "%s %s" % (value, _TELL[kind])
    if above:
        return "%s on a %s A feeder" % (value, plain(signal.rating))
    limits = signal.range
    if limits and signal.x == signal.x and not limits[0] <= signal.x <= limits[1]:
        side = 1 if signal.x > limits[1] else 0
        return "%s, %s %s" % (value, ("below", "above")[side], plain(limits[side]) + _unit(signal))
    return value


def _unit(signal):
    unit = _UNITS[signal.kind]
    return " " + unit if unit else ""


def _label(signal):
    name = signal.name
    if name == "i_n":
        return "Neutral current"
    if name.startswith("t_"):
        return name[2:3].upper() + name[3:].replace("_", " ") + " temperature"
    if signal.kind and name[1:].isdigit():
        return "L%s %s" % (name[1:], _NAMES[signal.kind])
    return name[:1].upper() + name[1:]


def _duration(seconds):
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return "%d %s" % (seconds // size, unit)
    return "%d s" % seconds
