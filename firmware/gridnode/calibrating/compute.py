"""What each step makes of a measurement and its reference: new values of one meter's entry in the calibration.

Readings are those that the calibration in force has corrected, so every step is a correction of what is left: a gain is
multiplied, an angle added. `Target` holds one phase: what was measured, what is true, and the entries that it changes.
"""

import math
from micropython import const

from gridnode.calibrating import Refused, angle_of, turn, unmet
from gridnode.trim import curve_at

_GAINS = const((0.5, 2.0))
_POWER_GAINS = const((0.8, 1.25))
_LEAD = const(15.0)  # degrees
_PPM = const(2000.0)
_POINTS = const(8)  # of a curve
_SAME = const(1.1)  # ratio of two currents that are the same point
_TOLD = const(("voltage", "current", "power", "reactive_power", "phase_deg"))


def wanted_angle(reference):
    """The angle that a reference tells: as such, or by its P and Q; None if it tells none."""
    if "phase_deg" in reference:
        return reference["phase_deg"]
    if "power" in reference and "reactive_power" in reference:
        return angle_of(reference)
    return None


class Target:
    """One phase of a step.

    k: entry of Reading.at; values: what was measured there; reference: what is true, by the report's names.
    meter_entry: the meter's part of the calibration; spec: its part of the installed profile. deviation: standard
    uncertainty of the values. shared: the voltage is that of a phase before, which has put it right.
    """

    shared = False

    def __init__(self, k, values, reference, meter_entry, spec, deviation=None):
        self.k = k
        self.deviation = deviation or {}
        self.values = values
        self.reference = reference
        self._entry = meter_entry
        self._spec = spec
        n = k - 1 if k else 0
        order = spec.get("order")
        self._input = order[n] - 1 if order else n
        self._phase = n
        self.volt = self._volt(n)

    def _volt(self, n):
        """Voltage input of a phase."""
        return min(n, max(1, len(self._spec.get("voltage", "..."))) - 1)

    def voltage(self):
        """Entry of the phase's voltage."""
        return self._channel("voltage", self.volt)

    def current(self):
        """Entry of the input that the phase's clamp is on."""
        return self._channel("current", self._input)

    def power(self):
        """Entry of the power of that input."""
        return self._channel("power", self._input)

    def powers(self):
        """Entries of the powers, as far as there are any, that the phase's voltage is part of."""
        order = self._spec.get("order")
        for n, entry in enumerate(self._entry.get("power", ())):
            if self._volt(order.index(n + 1) if order else n) == self.volt:
                yield entry

    def _channel(self, name, n):
        channels = self._entry.setdefault(name, [])
        while len(channels) <= n:
            channels.append({})
        return channels[n]

    def lead(self):
        """Degrees in force of the current's sensor."""
        design = self._spec.get("current", ())
        own = design[self._phase].get("phase_deg", 0.0) if self._phase < len(design) else 0.0
        return self.current().get("phase_deg", own)

    def model_lead(self, amperes):
        """Degrees that the clamp's model has on top of its lead at rated current."""
        design = self._spec.get("current", ())
        channel = design[self._phase] if self._phase < len(design) else {}
        points = channel.get("phase_points")
        if not points:
            return 0.0
        return curve_at([x for a, deg in points for x in (a, 1.0, deg)], amperes)[1] - channel.get("phase_deg", 0.0)

    def ratio(self, name):
        """Reference over reading."""
        return self.reference[name] / self.values[name]

    def error(self, name):
        """Error of the reading in % of the reference; of an angle in degrees, of power at its reference."""
        if name == "angle":
            measured, true = angle_of(self.values), wanted_angle(self.reference)
            return None if measured is None or true is None else turn(measured - true)
        value, true = self.values.get(name), self.reference.get(name)
        return None if value is None or not true else 100 * (value / true - 1)


def _within(name, value, limits):
    if not limits[0] <= value <= limits[1]:
        limit = limits[0] if value < limits[0] else limits[1]
        raise unmet(name, name + " would become %s, beyond %s", value, limit)
    return value


def _rescale(p, ratio, lead=0.0):
    """What is read without load, of an entry of the power, goes through the same gains and angle."""
    if "at_v" in p:
        w, var = p.get("offset_w", 0.0) * ratio, p.get("offset_var", 0.0) * ratio
        c, s = math.cos(math.radians(lead)), math.sin(math.radians(lead))
        p["offset_w"], p["offset_var"] = w * c - var * s, var * c + w * s


def offset(target):
    """No load: power that is read all the same, and noise. What lies within the uncertainty is none."""
    values, p, i = target.values, target.power(), target.current()
    v = values["voltage"]
    sign = -1 if i.get("reversed") else 1
    before = (v / p["at_v"]) ** 2 if "at_v" in p else 0.0
    w, var = [_significant(target, name) for name in ("power", "reactive_power")]
    p["offset_w"] = p.get("offset_w", 0.0) * before + sign * w
    p["offset_var"] = p.get("offset_var", 0.0) * before + sign * var
    p["at_v"] = v
    amperes = values.get("current") or 0.0
    rest = amperes * amperes - (w * w + var * var) / (v * v)
    noise = math.sqrt(max(0.0, i.get("noise_a", 0.0) ** 2 + rest))
    if noise:
        i["noise_a"] = noise


def _significant(target, name):
    value = target.values.get(name) or 0.0
    return value if abs(value) > 2 * target.deviation.get(name, 0.0) else 0.0


def gain(target):
    """A known voltage or current, or both."""
    if "voltage" in target.reference and not target.shared:
        ratio = _regain(target.voltage(), target.ratio("voltage"))
        for p in target.powers():
            _rescale(p, ratio)
            if "at_v" in p:
                p["at_v"] *= ratio
    if "current" in target.reference:
        i = target.current()
        ratio = _regain(i, target.ratio("current"))
        _rescale(target.power(), ratio)
        if "noise_a" in i:
            i["noise_a"] *= ratio


def _regain(channel, ratio):
    channel["gain"] = _within("gain", channel.get("gain", 1.0) * ratio, _GAINS)
    return ratio


def phase(target):
    """A load of known angle; resistive where the reference does not tell."""
    lead = -target.error("angle")
    i = target.current()
    i["phase_deg"] = _within("phase_deg", target.lead() + lead, (-_LEAD, _LEAD))
    _rescale(target.power(), 1.0, lead)


def power(target):
    """A known power at PF 1: what the product of voltage and current has left."""
    p = target.power()
    ratio = target.ratio("power")
    p["gain"] = _within("power gain", p.get("gain", 1.0) * ratio, _POWER_GAINS)
    _rescale(p, ratio)


def multipoint(target):
    """One point of the clamp's curve: gain and, where the reference tells the angle, lead at this current.

    Measured points replace the curve of the clamp's model.
    """
    i = target.current()
    curve = i.get("curve", [])
    amperes = target.values["current"]
    g, lead = 1.0, target.model_lead(amperes)
    if curve:
        g, lead = curve_at([x for point in curve for x in point], amperes)
        amperes /= g
    off = target.error("angle")
    if off is not None:
        lead -= off
    elif curve:  # as the points have it, and from one to the other as the model
        rest = [x for a, _, deg in curve for x in (a, 1.0, deg - target.model_lead(a))]
        lead = curve_at(rest, amperes)[1] + target.model_lead(amperes)
    point = [amperes, g * target.ratio("current"), lead]
    curve = [p for p in curve if not amperes / _SAME < p[0] < amperes * _SAME]
    if len(curve) >= _POINTS:
        raise unmet("points", "a curve of %s points is full, it takes %s", len(curve), _POINTS)
    i["curve"] = sorted(curve + [point])


def temperature(target, celsius, reference_celsius):
    """A known voltage or current at another temperature than that of the gains: the coefficient."""
    for name, channel in (("voltage", target.voltage()), ("current", target.current())):
        if name in target.reference and not (name == "voltage" and target.shared):
            ppm = 1e6 * (target.ratio(name) - 1) / (celsius - reference_celsius)
            channel["ppm_per_k"] = _within("ppm_per_k", channel.get("ppm_per_k", 0.0) + ppm, (-_PPM, _PPM))


def needs(step):
    """Names of which a step needs one in its reference."""
    if step in ("gain", "temperature"):
        return ("voltage", "current")
    if step in ("power", "multipoint"):
        return ("power" if step == "power" else "current",)
    if step == "verify":
        return ("voltage", "current", "power")
    return ()


def check_reference(reference, phases):
    """The reference per phase: [{name: value}], from values that hold for all or lists with one per phase."""
    if not isinstance(reference, dict):
        raise Refused("invalid", "a reference is an object, not %s" % reference)
    found = [{} for _ in range(phases)]
    for name in reference:
        if name not in _TOLD:
            raise Refused("invalid", "a reference of %s is of no use, known are %s" % (name, ", ".join(_TOLD)))
        value = reference[name]
        values = value if isinstance(value, (list, tuple)) else [value] * phases
        if len(values) != phases:
            raise Refused("invalid", "reference %s has %d values for %d phases" % (name, len(values), phases))
        for one, x in zip(found, values):
            if x is None:
                continue
            if not _is_number(x):
                raise Refused("invalid", "reference %s is no number: %s" % (name, x))
            if name in ("voltage", "current") and x <= 0:
                raise Refused("invalid", "reference %s must be above 0, not %s" % (name, x))
            one[name] = float(x)
    return found


def check_uncertainty(uncertainty):
    """The uncertainty in % by name, without what is not known."""
    if not isinstance(uncertainty, dict):
        raise Refused("invalid", "an uncertainty is an object, not %s" % uncertainty)
    found = {name: uncertainty[name] for name in uncertainty if uncertainty[name] is not None}
    for name, percent in found.items():
        if not _is_number(percent) or percent < 0:
            raise Refused("invalid", "uncertainty of %s is no number of percent: %s" % (name, percent))
    return found


def _is_number(x):
    return isinstance(x, (int, float)) and not isinstance(x, bool) and -1e9 < x < 1e9
