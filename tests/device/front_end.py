"""A front end made of complex numbers, and the way of a calibration step over it.

`Bent` is one phase with all that parts may have wrong; `FakeMeter` measures it as a driver does; `Place` holds the
calibration of a unit and takes a step through the rooms that a node takes it through: measure, compute, put the new
values in force, prove.
"""

import json
import math
import random

from gridnode import reading as r
from gridnode.calibrating import Refused, procedure
from gridnode.calibration import Correction
from gridnode.setup import calibration, judge

NAMES = ("voltage", "current", "power", "reactive_power", "frequency")
BLOCK_MS = 1000
RATING = 60
NOMINAL = 230


def phasor(size, degrees):
    return size * complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


class Bent:
    """One phase: its true load, and what its parts make of it.

    v, i: what a true 1 V and 1 A read. lead_v, lead_i: degrees. power: what the product reads beyond them. picked:
    A per V of the mains that the clamp picks up, as a phasor. noise: A rms. core: function of the true A that gives
    (gain, degrees of lead) of the clamp's core. ppm_v, ppm_i: per K from 25 degC. scatter: of each block, relative.
    """

    def __init__(self, v=1.0, i=1.0, lead_v=0.0, lead_i=0.0, **more):
        self.volts, self.amperes, self.lag = 230.0, 20.0, 0.0
        self.v, self.i, self.lead_v, self.lead_i = v, i, lead_v, lead_i
        self.power = 1.0
        self.picked = 0j
        self.noise = 0.0
        self.core = None
        self.ppm_v = self.ppm_i = 0.0
        self.scatter = 0.0
        self.thd = None
        self.reversed = False
        for name, value in more.items():
            setattr(self, name, value)

    def sensed(self, celsius):
        """Raw voltage, current, P and Q1."""
        kelvin = celsius - 25
        v = phasor(self.volts * self.v * (1 + 1e-6 * self.ppm_v * kelvin), self.lead_v)
        true = phasor(self.amperes, -self.lag)
        if self.core:
            gain, lead = self.core(self.amperes)
            true *= phasor(gain, lead)
        i = (true + self.picked * self.volts) * phasor(self.i * (1 + 1e-6 * self.ppm_i * kelvin), self.lead_i)
        if self.reversed:
            i = -i
        s = v * complex(i.real, -i.imag) * self.power
        amperes = math.sqrt(abs(i) ** 2 + (self.noise * self.i) ** 2)
        return [x * (1 + self.scatter * _gauss()) for x in (abs(v), amperes)] + [
            x + abs(s) * self.scatter * _gauss() for x in (s.real, s.imag)
        ]

    def truth(self):
        """What a perfect meter reads."""
        s = self.volts * self.amperes
        turn = math.radians(self.lag)
        return {
            "voltage": self.volts,
            "current": self.amperes,
            "power": s * math.cos(turn),
            "reactive_power": s * math.sin(turn),
        }


def _gauss():
    return sum([random.random() for _ in range(12)]) - 6


class FakeMeter:
    """A driver over `Bent` phases. applies: what it takes of a correction, of "gain", "phase" and "power"."""

    def __init__(self, place):
        self.id = "main"
        self.place = place
        self.phases = len(place.bent)
        self.names = place.names
        self.applies = place.applies
        self.reading = r.Reading(self.id, self.phases)
        self.problem = ""

    def start(self, correction):
        c = correction  # its owner takes back what is applied
        self.correction = Correction(c.adc_table, c.voltage, c.current, c.power, c.noise)
        return self.applies

    def block(self):
        """One raw reading."""
        x, place = self.reading, self.place
        x.clear()
        x.ms = BLOCK_MS
        x.covered_ms = BLOCK_MS * place.coverage
        for n, k in enumerate(x.each()):
            order = self.place.spec.get("order")
            clamp = place.bent[order[n] - 1 if order else n]
            values = dict(zip(NAMES, self._apply(n, clamp.sensed(place.celsius))))
            if clamp.thd is not None:
                values["thd_current"] = clamp.thd
            x.at[k].update({name: values[name] for name in values if name in self.names})
        if "frequency" in self.names:
            x.at[0]["frequency"] = place.hertz
        return x

    def _apply(self, n, raw):
        v, i, p, q = raw
        c = self.correction
        if c.voltage and "gain" in self.applies:
            gv, gi = c.voltage[min(n, len(c.voltage) - 1)][0], c.current[n][0]
            v, i, p, q = v * gv, i * gi, p * gv * gi, q * gv * gi
        if c.voltage and "phase" in self.applies:
            s = complex(p, q) * phasor(1, c.current[n][1] - c.voltage[min(n, len(c.voltage) - 1)][1])
            p, q = s.real, s.imag
        if "power" in self.applies and n < len(c.power):
            p, q = p * c.power[n][0], q * c.power[n][0]
        return v, i, p, q


class Place:
    """One unit: its phases, its profile, its calibration."""

    def __init__(self, *bent, names=NAMES, applies=(), voltages=None, conditions=None, **design):
        self.bent = bent or (Bent(),)
        self.names = names
        self.applies = applies
        self.hertz = 50.0
        self.celsius = 25.0
        self.warm = None  # Reading of a thermometer
        self.coverage = 1.0
        self.document = {"version": 2, "meters": {}}
        spec = {"id": "main", "driver": "ct"}
        spec["voltage"] = [{"mv_per_v": 2.9} for _ in range(voltages or len(self.bent))]
        spec["current"] = [dict({"ratio": 2000}, **design) for _ in self.bent]
        self._profile = {
            "phases": len(self.bent),
            "nominal": {"voltage": NOMINAL, "frequency": 50},
            "rating": {"current": RATING},
            "meters": [spec],
        }
        if conditions:
            self._profile["calibration"] = {"conditions": conditions}
        self.spec = spec
        self.install()

    def install(self):
        """The profile with the calibration of now."""
        self.profile = json.loads(json.dumps(self._profile))
        calibration.install(self.profile, self.document)
        self.spec = self.profile["meters"][0]

    @property
    def entry(self):
        return self.document["meters"].get("main", {})

    def load(self, volts=230.0, amperes=20.0, lag=0.0):
        """Set the true load: a number for all phases, or one for each."""
        for n, one in enumerate(self.bent):
            values = [x[n] if isinstance(x, (list, tuple)) else x for x in (volts, amperes, lag)]
            one.volts, one.amperes, one.lag = values

    def thermometer(self):
        """Give the unit a thermometer that tells `celsius`."""
        self.warm = r.Reading("air")
        self.warm_up(self.celsius)

    def warm_up(self, celsius):
        self.celsius = celsius
        if self.warm:
            self.warm.at[0]["temperature"] = celsius

    def meter(self, document=None):
        """(meter, correction) with a calibration, that of now if none is told."""
        meter = FakeMeter(self)
        return meter, calibration.put(meter, self.spec, document or self.document, self.warm)

    def read(self):
        """Corrected values of one reading, per entry of Reading.at."""
        meter, correction = self.meter()
        return [dict(values) for values in correction.correct(meter.block()).at]

    def begin(self, step, phase=None):
        """A procedure and the meter that it is to watch."""
        meter, correction = self.meter()
        return procedure.Procedure(step, meter, self.spec, self.profile, self.warm, phase), meter, correction

    def step(self, step, reference=None, phase=None, uncertainty=None, between=None, during=None):
        """Take one step to its end and keep its result; returns its records.

        during: called with the number of each block before it is measured; between: before the proof.
        """
        found, meter, correction = self.begin(step, phase)
        feed(found.windows, meter, correction, during)
        found.examine()
        new = json.loads(json.dumps(self.document))
        new["meters"]["main"] = found.compute(self.entry, reference or {}, phase)
        if between:
            between()
        if step != "verify":
            meter, correction = self.meter(new)
            feed(found.retry(meter), meter, correction)
        records = found.prove(uncertainty)
        if step != "verify":
            judge.check(new)
            self.document = new
        return records

    def refused(self, step, *more, **named):
        """The refusal of a step, which must change nothing."""
        before = json.loads(json.dumps(self.document))
        try:
            self.step(step, *more, **named)
        except Refused as e:
            assert self.document == before, "changed all the same"
            return e
        raise AssertionError("no refusal of " + step)


def feed(windows, meter, correction, during=None):
    """Feed windows until they are full."""
    n = 0
    while not windows.full:
        if during:
            during(n)
        windows.add(correction.correct(meter.block()))
        n += 1
        assert n < 1000, "never full"
