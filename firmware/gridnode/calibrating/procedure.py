"""One step from its first window to its proof.

The owner feeds readings to `windows` until it is full, asks `compute` for the new calibration, puts that in force,
feeds `proof` with readings of it, and asks `prove` for the records. Each raises Refused; nothing is stored here.
"""

import json
import math
from micropython import const

from gridnode.calibrating import Refused, angle_of, conditions, turn, unmet
from gridnode.calibrating.windows import Windows

_AFTER = {"voltage": "after_v", "current": "after_i", "power": "after_p", "angle": "after_deg"}
_MEASURES = {
    "offset": ("power",),
    "gain": ("voltage", "current"),
    "phase": ("angle",),
    "power": ("power",),
    "multipoint": ("current", "angle"),
    "temperature": ("voltage", "current"),
    "verify": ("voltage", "current", "power", "angle"),
}


_PARTS = const(("gain", "phase", "offset", "power", "noise"))


def applied_by(meter, correction):
    """Where each part of a meter's correction is applied: {"gain": "registers", "samples" or "software", ..}.

    The phase is "registers+software" where a chip's delays leave something of a lead.
    """
    left = getattr(meter, "phase_left", None)  # of a front end with registers
    own = "samples" if left is None else "registers"
    where = {part: own if part in correction.applied else "software" for part in _PARTS}
    if left:
        where["phase"] += "+software"
    return where


def available(meter):
    """Steps that a meter's front end allows, in a sensible order."""
    names = meter.names
    steps = []
    if getattr(meter, "orders", 0):
        steps.append("linearity")
    if "power" in names:
        steps.append("offset")
    if "voltage" in names or "current" in names:
        steps.append("gain")
    if "reactive_power" in names:
        steps.append("phase")
    if "power" in names:
        steps.append("power")
    if "current" in names:
        steps.append("multipoint")
    return steps + ["temperature", "verify"] if steps else []


class Procedure:
    """One step at one meter. profile, stored: as installed, and the calibration in force (None: design values).

    thermometer: Reading that has the temperature, or None. phase: 1, 2, 3 to judge that one alone.
    """

    def __init__(self, step, meter, spec, profile, thermometer=None, phase=None):
        c = conditions.of(step, profile)
        steps = available(meter)
        if c is None or step not in steps:
            raise Refused("invalid", "meter %s has no step %r; it has %s" % (meter.id, step, ", ".join(steps)))
        self.step = step
        self.name = meter.id
        self.meter = meter  # until it has been measured
        self.spec = spec
        self._c = c
        self._nominal = profile["nominal"]
        self._rating = profile["rating"]["current"]
        self._thermometer = thermometer
        self._each = list(meter.reading.each())
        self.phase = phase
        self._judged = self._phases(phase)
        self.windows = self._windows(meter)
        self.proof = None
        self.seen = None  # Observation before
        self.converter = None  # (table in uV, mean level in mV) of a front end that samples
        self._targets = []

    def _windows(self, meter, count=None):
        return Windows(meter, self._c, self._rating, self._nominal["voltage"], count, self._judged)

    def _proof(self):
        """How many windows prove the new values."""
        return 2

    def celsius(self):
        """Temperature now, or None."""
        return self._thermometer.at[0].get("temperature") if self._thermometer else None

    # -- before the reference is known

    def examine(self):
        """Judge the windows by what needs no reference; returns the Observation."""
        if getattr(self.meter, "orders", 0):
            from gridnode.calibrating import front_end

            self.converter = front_end.in_force(self.meter)  # what the new values hold for
        self.meter = None  # it may be let go
        self.seen = self.windows.result()
        self.windows.forget()
        for k in self._judged:
            self._examine(k, self.seen.values[k])
        hertz = self.seen.values[0].get("frequency")
        if hertz is not None:
            off = 100 * abs(hertz / self._nominal["frequency"] - 1)
            if off > self._c["frequency"]:
                sentence = "the frequency is %s off the nominal one, allowed are %s"
                raise unmet("frequency", sentence, off, self._c["frequency"], " %")
        return self.seen

    def _examine(self, k, values):
        where = "L%d: " % k if k else ""
        for name, whole, unit in (("voltage", self._nominal["voltage"], " V"), ("current", self._rating, " A")):
            value = values.get(name)
            low, high = self._c.get(name + "_low"), self._c.get(name + "_high")
            if value is None:
                continue
            sentence = where + name + " %s is %s the %%s that this step %s"
            if high is not None and value > high * whole / 100:
                raise unmet(name, sentence % ("%s", "above", "allows"), value, high * whole / 100, unit)
            # A phase without load is left out by its reference; a current below what a step needs is told with it.
            if name == "voltage" and low is not None and value < low * whole / 100:
                raise unmet(name, sentence % ("%s", "below", "needs"), value, low * whole / 100, unit)

    # -- with the reference

    def compute(self, entry, reference, phase=None):
        """New entry of the meter, from its entry now; reference: see the contract of `serial`.

        phase: 1, 2, 3, or None for every phase that the reference tells (all of them in a step that needs none).
        """
        from gridnode.calibrating import compute

        each = self._each
        chosen = self._phases(phase)
        references = compute.check_reference(reference, len(each))
        needs = compute.needs(self.step)
        table = entry.pop("adc_table", None)
        new = json.loads(json.dumps(entry))  # refused halfway, it must not have changed
        if table:
            entry["adc_table"] = table
        elif self.converter:
            table = self.converter[0]
        if table:
            new["adc_table"] = table
        self._targets = []
        done = []  # voltages
        for n, k in enumerate(each):
            told = references[n]
            if k not in chosen or (needs and not any(name in told for name in needs)):
                continue
            if self.step == "phase" and compute.wanted_angle(told) is None:
                told["phase_deg"] = 0.0
            target = compute.Target(k, self.seen.values[k], told, new, self.spec, self.seen.deviation[k])
            self._compare(target)
            target.shared = target.volt in done
            if "voltage" in told:
                done.append(target.volt)
            self._targets.append(target)
        if not self._targets:
            raise Refused("invalid", "%s needs the reference of %s" % (self.step, " or ".join(needs)))
        if self.step != "verify":
            for target in self._targets:
                self._change(target, new)
        return new

    def _phases(self, phase):
        """Entries of Reading.at of phase 1, 2 or 3, or of all for None. Raises Refused."""
        if phase is None:
            return self._each
        if type(phase) is not int or not 1 <= phase <= len(self._each):
            raise Refused("invalid", "there is no phase %r" % phase)
        return self._each[phase - 1 : phase]

    def retry(self, meter):
        """Begin the proof at the meter that has the new values."""
        self.proof = self._windows(meter, self._proof())
        return self.proof

    def _change(self, target, new):
        from gridnode.calibrating import compute

        if self.step == "temperature":
            now, then = self.celsius(), new.get("temperature")
            if now is None or then is None:
                raise Refused("sequence", "no temperature is known for %s" % ("now" if now is None else "the gains"))
            if abs(now - then) < self._c["kelvin"]:
                sentence = "the gains were found at a temperature only %s away, %s are needed"
                raise unmet("temperature", sentence, abs(now - then), self._c["kelvin"], " K")
            compute.temperature(target, now, then)
            return
        getattr(compute, self.step)(target)
        if self.step == "gain" and self.celsius() is not None:
            channels = new.get("voltage", []) + new.get("current", [])
            if "temperature" not in new or not any([channel.get("ppm_per_k") for channel in channels]):
                new["temperature"] = round(self.celsius(), 1)

    def _compare(self, target):
        """Judge a reading beside its reference."""
        from gridnode.calibrating import compute

        c, values, told = self._c, target.values, target.reference
        where = "L%d: " % target.k if target.k else ""
        uses_current = "current" in told or self.step in ("phase", "power")
        for name in ("voltage", "current", "power"):
            if name not in told:
                continue
            if values.get(name) is None:
                raise Refused("invalid", "%sthis meter measures no %s" % (where, name))
            if not values[name] or not told[name]:
                raise unmet(name, where + name + " reads %s where the reference is %s", values[name], told[name])
        low = c.get("current_low")
        if uses_current and low is not None:
            amperes, least = values.get("current"), low * self._rating / 100
            if amperes is None:
                raise Refused("invalid", where + "this meter measures no current")
            if amperes < least:
                raise unmet("current", where + "load current %s is below %s", amperes, least, " A")
        for name in ("voltage", "current", "power"):
            if name in told and "reference" in c:
                off = 100 * abs(told[name] / values[name] - 1)
                if off > c["reference"]:
                    sentence = where + name + " reference is %s away from the reading, allowed are %s"
                    raise unmet("reference", sentence, off, c["reference"], " %")
        if "angle" in c:
            expected = compute.wanted_angle(told)
            if expected is None and self.step == "power":
                expected = 0.0
            found = angle_of(values)
            if expected is not None and found is not None:
                off = abs(turn(found - expected))
                if off > c["angle"]:
                    sentence = where + "the load's angle is %s away from the expected one, allowed are %s"
                    raise unmet("angle", sentence, off, c["angle"], " deg")
        thd = values.get("thd_current")
        if self.step == "phase" and thd is not None and thd > c["thd"]:
            raise unmet("thd", where + "the current's distortion is %s, allowed are %s", thd, c["thd"], " %")

    # -- with the new values in force

    def prove(self, uncertainty=None):
        """Records, one per phase, of what was better afterwards; raises Refused where it was not."""
        from gridnode.calibrating import compute

        uncertainty = compute.check_uncertainty(uncertainty or {})
        after = self.proof.result() if self.proof else self.seen
        return [self._record(target, after, uncertainty) for target in self._targets]

    def _record(self, target, after, uncertainty):
        from gridnode.calibrating import compute

        k = target.k
        before, left, spreads, expanded = {}, {}, {}, {}
        changed = self.step != "verify"
        then = compute.Target(k, after.values[k], target.reference, {}, self.spec)
        for name in _MEASURES[self.step]:
            error = self._error(target, name)
            if error is None:
                continue
            rest = self._error(then, name)
            left[name] = round(rest, 4)
            if changed:
                before[name] = round(error, 4)
                self._improved(target, name, error, rest, after)
            measured = "power" if name == "angle" else name
            if measured in self.seen.spread[k]:
                whole = self._whole(name, target)
                spreads[measured] = round(self.seen.percent(k, measured, whole), 4)
                own = 200 * self.seen.deviation[k][measured] / whole
                if name == "angle":  # like its error in degrees; what its reference is uncertain by is not known
                    expanded[name] = round(math.degrees(own / 100), 4)
                    continue
                expanded[name] = round(math.sqrt(own * own + uncertainty.get(measured, 0.0) ** 2), 4)
        load = {}
        values = after.values[k]
        for name in ("voltage", "current", "power"):
            if values.get(name) is not None:
                load[name] = round(values[name], 4)
        if len(load) == 3 and values["current"]:
            load["power_factor"] = round(values["power"] / values["voltage"] / values["current"], 4)
        if after.values[0].get("frequency") is not None:
            load["frequency"] = round(after.values[0]["frequency"], 3)
        if self.celsius() is not None:
            load["temperature"] = round(self.celsius(), 1)
        return {
            "step": self.step,
            "meter": self.name,
            "phase": k,
            "reference": target.reference,
            "uncertainty_percent": uncertainty,
            "before_percent": before,
            "after_percent": left,
            "spread_percent": spreads,
            "u_percent": expanded,
            "load": load,
            "windows": self.seen.windows,
            "rejected": self.seen.rejected,
            "window_s": self.seen.window_s,
        }

    def _whole(self, name, target):
        """What a percentage is of: the reference, or without load the rated apparent power."""
        if self.step == "offset":
            return self._rating * self._nominal["voltage"]
        values = target.values
        if name == "angle":
            return math.sqrt(values["power"] ** 2 + values["reactive_power"] ** 2) or 1.0
        return abs(values[name]) or 1.0

    def _error(self, target, name):
        if self.step == "offset":
            values = target.values
            off = math.sqrt((values.get("power") or 0.0) ** 2 + (values.get("reactive_power") or 0.0) ** 2)
            return 100 * off / self._whole(name, target)
        return target.error(name)

    def _improved(self, target, name, before, after, proof):
        k = target.k
        limit = self._c["idle"] if self.step == "offset" else self._c.get(_AFTER[name], 100)
        # Both measurements scatter: a difference within that is none. The longer one tells the scatter of both.
        scatter = 3 * self.seen.deviation[k].get("power" if name == "angle" else name, 0.0) / self._whole(name, target)
        scatter *= math.sqrt(1 + self.seen.windows / proof.windows)
        scatter = math.degrees(scatter) if name == "angle" else 100 * scatter
        if abs(after) > limit + scatter or abs(after) > abs(before) + limit / 2 + scatter:
            unit = " deg" if name == "angle" else " %"
            where = "L%d: " % k if k else ""
            sentence = "%s%s is %.3g%s off with the new values, before %.3g, allowed are %.3g: the old ones stay"
            raise Refused("unproven", sentence % (where, name, after, unit, before, limit + scatter))
