"""Reads /config/calibration.json; a unit without one runs on its design values."""

from array import array
from micropython import const

from gridnode.calibration import Correction

_FIRST = {}  # what a channel has that was never calibrated
_EXCHANGES = const(("ct", "atm90e32"))  # front ends that can take their current inputs in any order


def install(profile, stored):
    """Write into a profile what was changed at its place: nominal values, ratios of clamps, which is on which phase.

    Raises ValueError, with the profile as it was, for inputs that a front end cannot exchange.
    """
    if not stored:
        return
    for spec in profile["meters"]:
        order = stored["meters"].get(spec["id"], _FIRST).get("order")
        if order and spec["driver"] not in _EXCHANGES:
            raise ValueError("meter %s: this front end cannot exchange its inputs" % spec["id"])
        if order and len(order) != len(spec["current"]):
            raise ValueError("meter %s: order names %d inputs of %d" % (spec["id"], len(order), len(spec["current"])))
    profile["nominal"].update(stored.get("nominal", {}))
    for spec in profile["meters"]:
        entry = stored["meters"].get(spec["id"], {})
        design = spec.get("current")
        if not design:
            continue
        for channel, own in zip(design, entry.get("current", ())):
            if "ratio" in own:
                channel["ratio"] = own["ratio"]
        order = entry.get("order")
        if order:
            spec["order"] = order
            spec["current"] = [design[n - 1] for n in order]


def correction(spec, stored=None, phases=1):
    """Correction of one meter: `spec` is its entry of the installed profile, `stored` the calibration or None."""
    entry = stored["meters"].get(spec["id"], _FIRST) if stored else _FIRST
    table = entry.get("adc_table")
    order = spec.get("order")
    power = _ordered(entry.get("power"), order)
    current = _ordered(entry.get("current"), order)
    design_v, design_i = spec.get("voltage"), spec.get("current")
    if not design_v and not design_i and entry:
        design_v = design_i = [_FIRST] * phases  # a meter that comes adjusted
    return Correction(
        array("i", table) if table else None,
        _channels(design_v, entry.get("voltage")),
        _channels(design_i, current),
        [(own.get("gain", 1.0), own.get("offset_w", 0.0), own.get("offset_var", 0.0)) for own in power],
        [own.get("noise_a", 0.0) for own in current],
    )


def put(meter, spec, stored=None, thermometer=None):
    """Start a meter with its correction and return it; thermometer: Reading that has the temperature, or None.

    Raises ValueError for what the meter cannot be set to.
    """
    c = correction(spec, stored, meter.phases)
    c.applied = meter.start(c)
    entry = stored["meters"].get(spec["id"], _FIRST) if stored else _FIRST
    c.trim = _trim(meter, spec, entry, c, thermometer)
    c.power = c.noise = ()  # in the meter or the trim
    if "gain" in c.applied and "phase" in c.applied:
        c.voltage = c.current = ()
    return c


def thermometer(meters, k):
    """Reading that tells the temperature at meter k: its own, else that of the first meter that measures it."""
    for n in [k] + list(range(len(meters))):
        if meters[n] and "temperature" in meters[n].names:
            return meters[n].reading
    return None


def _ordered(channels, order):
    channels = channels or []
    if not order:
        return channels
    return [channels[n - 1] if n <= len(channels) else _FIRST for n in order]


def _channels(design, stored):
    result = []
    for k, channel in enumerate(design or ()):
        own = stored[k] if stored and k < len(stored) else _FIRST
        result.append((own.get("gain", 1.0), own.get("phase_deg", channel.get("phase_deg", 0.0))))
    return result


def _trim(meter, spec, entry, c, thermometer):
    volts = entry.get("voltage", ())
    currents = _ordered(entry.get("current"), spec.get("order"))
    powers = _ordered(entry.get("power"), spec.get("order"))
    phases = []
    for k in range(meter.phases):
        v = volts[min(k, len(volts) - 1)] if volts else _FIRST
        i = currents[k] if k < len(currents) else _FIRST
        p = powers[k] if k < len(powers) else _FIRST
        design = spec.get("current", ())
        phases.append(_phase(v, i, p, design[k] if k < len(design) else _FIRST, c.applied))
    if not any(phases):
        return None
    from gridnode.trim import Trim

    return Trim(phases, thermometer, entry.get("temperature"))


def _phase(v, i, p, design, applied):
    """Trim of a phase, None if it needs none."""
    offset = None
    if p.get("offset_w") or p.get("offset_var"):
        offset = p.get("offset_w", 0.0), p.get("offset_var", 0.0), p["at_v"]
    gain = 1.0 if "power" in applied else p.get("gain", 1.0)
    noise = 0.0 if "noise" in applied else i.get("noise_a", 0.0)
    points = i.get("curve")
    if points is None:
        lead = design.get("phase_deg", 0.0)
        points = [(a, 1.0, deg - lead) for a, deg in design.get("phase_points", ())]
    drift = v.get("ppm_per_k", 0.0) * 1e-6, i.get("ppm_per_k", 0.0) * 1e-6
    if not (offset or noise or points or i.get("reversed") or gain != 1 or drift != (0.0, 0.0)):
        return None
    from gridnode.trim import Phase

    flat = []
    for point in points:
        flat.extend(point)
    held = "offset" in applied
    return Phase(gain, offset, held, noise * noise, array("f", flat) if flat else None, drift, i.get("reversed", False))
