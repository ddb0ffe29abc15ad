"""Calibrates simulated front ends with the node's own rules and tells the errors before and after.

Reads {"unit": seed, "points": [% of rating]}; prints an object. A front end is arithmetic on phasors, apart from the
firmware: gains, leads, a clamp's curve, pick-up, noise, temperature.
"""
# mypy: ignore-errors

import cmath
import json
import math
import random
import sys

from gridnode import reading
from gridnode.calibrating import Refused, procedure
from gridnode.setup import calibration, judge

RATED, NOMINAL = 60.0, 230.0
PROFILE = {
    "sku": "simulated",
    "nominal": {"voltage": NOMINAL, "frequency": 50},
    "rating": {"current": RATED},
    "meters": [{"id": "main", "driver": "simulated", "voltage": [{}], "current": [{"phase_deg": 2.5}]}],
}
SPEC = PROFILE["meters"][0]
HELD_OUT = (5, 7, 12, 15, 30, 45, 70, 90, 100)  # % of rating, not among the points but for the ends
FACTORS = ((1.0, 0.0), (0.5, 60.0), (0.8, -36.87))  # power factor, lag in degrees
BLOCK_MS = 400
BLOCKS = 100  # of a reading that is judged: its own noise is not what is asked for


class FrontEnd:
    """One unit; `load` is what it is on."""

    def __init__(self, seed):
        random.seed(1 + seed * 2654435761 % 1073741789)
        u = random.uniform
        for _ in range(8):  # the first numbers of neighbouring seeds are alike
            u(0, 1)
        self.gain_v, self.gain_i = 1 + u(-0.08, 0.08), 1 + u(-0.08, 0.08)
        self.ppm_v, self.ppm_i = u(-150, 150), u(-150, 150)
        self.lead_v = u(0, 1)
        self.lead, self.fall, self.knee = u(0, 4), u(0.2, 1.0), u(4, 20)
        self.loss = u(0, 0.004)  # of the ratio at small currents
        self.pick_up = cmath.rect(u(0, 0.003) * RATED / NOMINAL, u(-math.pi, math.pi))  # A per V
        self.noise = u(0, 0.002) * RATED  # rms, without a phase
        self.jitter = 0.00015 * RATED  # of a block
        self.load = (NOMINAL, 0.0, 0.0, 25.0)  # V, A, lag in degrees, degC
        self.shift = 1.0  # of the load, for what goes wrong

    def lead_at(self, amperes):
        """Degrees that the clamp leads: between 0 and 5 in all."""
        return self.lead + self.fall / (1 + amperes / self.knee)

    def block(self, out):
        """Raw values of one block."""
        volts, amperes, lag, celsius = self.load
        amperes *= self.shift
        g = random.gauss if hasattr(random, "gauss") else _gauss
        warm = (celsius - 25) * 1e-6
        scale_v = (1 + self.ppm_v * warm) / self.gain_v
        scale_i = (1 + self.ppm_i * warm) / self.gain_i * (1 - self.loss / (1 + amperes / self.knee))
        v = cmath.rect(volts * scale_v * (1 + g(0, 0.0002)), math.radians(self.lead_v))
        true = cmath.rect(amperes, -math.radians(lag)) + self.pick_up * volts
        i = true * cmath.rect(scale_i, math.radians(self.lead_at(amperes)))
        i += complex(g(0, self.jitter), g(0, self.jitter))
        s = v * complex(i.real, -i.imag)
        out["voltage"] = abs(v)
        out["current"] = math.sqrt(abs(i) ** 2 + (self.noise * scale_i) ** 2)
        out["power"], out["reactive_power"] = s.real, s.imag
        out["apparent_power"] = None
        out["frequency"], out["temperature"] = 50.0, celsius


def _gauss(mean, sigma):
    """Normal by the sum of twelve."""
    return mean + sigma * (sum([random.random() for _ in range(12)]) - 6)


class Meter:
    """What the firmware takes for a driver."""

    id = "main"
    phases = 1
    names = ("voltage", "current", "power", "reactive_power", "frequency", "temperature")
    problem = ""

    def __init__(self, front_end):
        self.front_end = front_end
        self.reading = reading.Reading(self.id)

    def start(self, correction):
        """Everything is left to the software."""
        return ()

    def read(self, correction):
        """One corrected reading."""
        r = self.reading
        r.clear()
        r.ms = r.covered_ms = BLOCK_MS
        self.front_end.block(r.at[0])
        return correction.correct(r)


class Bench:
    """One front end and the calibration in force."""

    def __init__(self, seed):
        self.unit = FrontEnd(seed)
        self.stored = {"version": 2, "meters": {"main": {}}}
        self.put()

    def put(self):
        self.meter = Meter(self.unit)
        self.correction = calibration.put(self.meter, SPEC, self.stored, self.meter.reading)

    def feed(self, windows):
        while not windows.full:
            windows.add(self.meter.read(self.correction))

    def step(self, name, reference, percent, lag=0.0, celsius=25.0, volts=NOMINAL, between=None):
        """One step under a load; raises Refused and leaves the calibration in force then."""
        self.unit.load = (volts, RATED * percent / 100, lag, celsius)
        found = procedure.Procedure(name, self.meter, SPEC, PROFILE, self.meter.reading)
        former = self.stored
        try:
            self.feed(found.windows)
            found.examine()
            entry = found.compute(former["meters"]["main"], reference)
            self.stored = {"version": 2, "meters": {"main": entry}}
            judge.check(self.stored)
            if between:
                between(self.unit)
            self.put()
            self.feed(found.retry(self.meter))
            return found.prove()
        except Refused:
            self.stored = former
            self.put()
            raise

    def errors(self):
        """Worst error of held-out loads: {quantity: %}."""
        worst = {}
        for celsius in (25.0, 38.0):
            for percent in HELD_OUT:
                for factor, lag in FACTORS:
                    for volts in (NOMINAL * 0.93, NOMINAL * 1.06):
                        self._error(worst, percent, factor, lag, volts, celsius)
        return worst

    def _error(self, worst, percent, factor, lag, volts, celsius):
        amperes = RATED * percent / 100
        self.unit.load = (volts, amperes, lag, celsius)
        window = reading.Window("main", 1, self.meter.names)
        for _ in range(BLOCKS):
            window.add(self.meter.read(self.correction))
        found = window.finish(0).at[0]
        power = f"power at PF {factor:g}"
        for name, value, true in (
            ("voltage", found["voltage"], volts),
            ("current", found["current"], amperes),
            (power, found["power"], volts * amperes * math.cos(math.radians(lag))),
        ):
            worst[name] = max(worst.get(name, 0.0), abs(100 * (value / true - 1)))


def calibrate(bench, points):
    """What a technician does, PF 1 throughout."""
    bench.step("offset", {}, 0)
    bench.step("gain", {"voltage": NOMINAL, "current": RATED / 2}, 50)
    bench.step("phase", {}, 50)
    for percent in points:
        bench.step("multipoint", {"current": RATED * percent / 100, "phase_deg": 0.0}, percent)
    bench.step("power", {"power": NOMINAL * RATED / 2}, 50)
    warm = {"voltage": NOMINAL, "current": RATED / 2}
    bench.step("temperature", warm, 50, celsius=45.0)


def _half_way(unit, back):
    """The load is switched in the middle of a step: from the 12th block on."""
    count = [0]
    block = unit.block

    def switched(out):
        count[0] += 1
        unit.shift = 1.0 if count[0] < 12 else back
        block(out)

    unit.block = switched
    return block


def spoil(bench):
    """Tries what must be refused; returns {name: code and reason, or "stored"}."""
    true = {"voltage": NOMINAL, "current": RATED / 2}
    tried = {}

    def attempt(name, step, reference, percent=50, **how):
        before = json.dumps(bench.stored)
        try:
            bench.step(step, reference, percent, **how)
            tried[name] = "stored"
        except Refused as e:
            kept = json.dumps(bench.stored) == before
            tried[name] = e.message if kept else "stored"

    attempt("reference ten times too high", "gain", {"voltage": NOMINAL, "current": RATED * 5})
    attempt("reference ten times too low", "gain", {"voltage": NOMINAL / 10, "current": RATED / 2})
    attempt("another phase clamped", "phase", {}, lag=120.0)
    attempt("clamp reversed", "phase", {}, lag=180.0)
    attempt("load not resistive", "power", {"power": NOMINAL * RATED / 2}, lag=40.0)
    attempt("no load", "gain", true, percent=0.5)
    attempt("load during the offset", "offset", {}, percent=20)
    attempt("supply gone", "gain", true, volts=30.0)
    attempt("same temperature", "temperature", true, celsius=27.0)
    for name, back in (("load switched off during the step", 0.02), ("load raised during the step", 1.15)):
        block = _half_way(bench.unit, back)
        attempt(name, "gain", true)
        bench.unit.block, bench.unit.shift = block, 1.0
    jitter, bench.unit.jitter = bench.unit.jitter, 0.02 * RATED
    attempt("noise of 2 % of the rating", "multipoint", {"current": RATED / 20, "phase_deg": 0.0}, percent=5)
    bench.unit.jitter = jitter

    def move(unit):
        unit.shift = 1.03

    attempt("load moved before the proof", "gain", true, between=move)
    bench.unit.shift = 1.0
    return tried


def main():
    order = json.loads(sys.stdin.readline())
    bench = Bench(order["unit"])
    before, reason = bench.errors(), None
    try:
        calibrate(bench, order["points"])
    except Refused as e:
        reason = e.message
    after = bench.errors()
    print(json.dumps({"before": before, "after": after, "refused": reason, "bad": spoil(bench)}))


main()
