"""What gains and phases of channels cannot correct: offsets, curves against current, temperature, a reversed clamp.

Loaded for units that have been calibrated so far. Formulas: the current that a sensor picks up without load is a
phasor, so it is taken from P and Q as it is and from the rms by the law of cosines; noise has no phase and goes by its
square. The rest is IEEE 1459's rotation of P and Q1 by a small angle (`Reading.rotate`).
"""

import math

from gridnode.calibration import POWERS, scale
from gridnode.reading import IN_TOTAL


def curve_at(curve, amperes):
    """(gain, lead in degrees) of a curve at a current: linear between its points, constant beyond them.

    curve: flat sequence of amperes, gain, degrees per point, rising.
    """
    last = len(curve) - 3
    for k in range(0, last + 1, 3):
        if amperes <= curve[k] or k == last:
            break
    if k == 0 or amperes >= curve[k]:
        return curve[k + 1], curve[k + 2]
    share = (amperes - curve[k - 3]) / (curve[k] - curve[k - 3])
    return (
        curve[k - 2] + share * (curve[k + 1] - curve[k - 2]),
        curve[k - 1] + share * (curve[k + 2] - curve[k - 1]),
    )


class Phase:
    """Trim of one phase; what is not needed is None, 0 or False.

    power: gain of P and Q. offset: (W, var, V at which they are read without load); held: the meter has taken them off
    P and Q already. noise: A^2. curve: see `curve_at`. drift_v, drift_i: gain per K. reversed: the clamp looks the
    other way.
    """

    def __init__(self, power=1.0, offset=None, held=False, noise=0.0, curve=None, drift=(0.0, 0.0), reversed=False):
        self.power = power
        self.offset = offset
        self.held = held
        self.noise = noise
        self.curve = curve
        self.drift_v, self.drift_i = drift
        self.reversed = reversed
        # The meter's counters know nothing of these.
        self.alters = bool(power != 1 or curve or drift != (0.0, 0.0) or (offset and not held))


class Trim:
    """Trim of one meter.

    phases: a Phase per phase, or None; thermometer: Reading that has the temperature, or None; celsius: temperature
    at which the gains hold.
    """

    def __init__(self, phases, thermometer=None, celsius=None):
        self.phases = phases
        self.thermometer = thermometer
        self.celsius = celsius

    def correct(self, reading):
        """Apply to a reading that has its gains and phases. Where power is altered, energy is integrated from it."""
        kelvin = 0.0
        if self.thermometer and self.celsius is not None:
            now = self.thermometer.at[0].get("temperature")
            kelvin = 0.0 if now is None else now - self.celsius
        for k in reading.each():
            one = self.phases[k - 1 if k else 0]
            if not one:
                continue
            values = reading.at[k]
            if one.alters or one.reversed:
                reading.own_totals = ()
                if one.alters or reading.metered == IN_TOTAL:
                    reading.metered = 0
            if one.alters:
                scale(values, "power", one.power)
                scale(values, "reactive_power", one.power)
            if one.offset or one.noise:
                self._offset(one, values)
            if one.reversed:
                self._reverse(reading, k)
            gain_v = 1 + one.drift_v * kelvin
            gain_i = 1 + one.drift_i * kelvin
            amperes = values.get("current")
            if one.curve and amperes is not None:
                gain, lead = curve_at(one.curve, amperes)
                gain_i *= gain
                reading.rotate(k, lead)
                if values.get("phase_angle") is not None:
                    values["phase_angle"] += lead
            scale(values, "voltage", gain_v)
            scale(values, "current", gain_i)
            for name in POWERS:
                scale(values, name, gain_v * gain_i)

    @staticmethod
    def _offset(one, values):
        volts, amperes = values.get("voltage"), values.get("current")
        square = -one.noise
        if one.offset and volts:
            p, q, at = one.offset
            ratio = (volts / at) ** 2  # what is picked up goes with the voltage
            p, q = p * ratio, q * ratio
            for name, value in (("power", p), ("reactive_power", q)):
                if values.get(name) is not None and not one.held:
                    values[name] -= value
            active, reactive = values.get("power"), values.get("reactive_power")
            cross = (active or 0.0) * p + (reactive or 0.0) * q
            square -= (2 * cross + p * p + q * q) / (volts * volts)
        if amperes:
            values["current"] = math.sqrt(max(0.0, amperes * amperes + square))
        values["apparent_power"] = None  # of the new current

    @staticmethod
    def _reverse(reading, k):
        values, energy = reading.at[k], reading.energy
        for name in ("power", "reactive_power", "harmonic_power"):
            scale(values, name, -1)
        angle = values.get("phase_angle")
        if angle is not None:
            values["phase_angle"] = angle - 180 if angle > 0 else angle + 180
        energy[2 * k], energy[2 * k + 1] = energy[2 * k + 1], energy[2 * k]
