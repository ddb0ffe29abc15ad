"""Turns raw into true: per-channel gains and phases of one meter, and the ADC's linearisation.

What belongs to single samples or to chip registers is handed to the meter as a `Correction`; the meter answers with
the parts that it applied and `correct` does the rest. Most units need no more than gains and phases; what goes beyond
them is the `Trim` of a further room.
"""

from gridnode.reading import PER_PHASE

POWERS = ("power", "reactive_power", "apparent_power", "harmonic_power")


class Correction:
    """Correction of one meter; the meter may apply any part of it itself.

    adc_table: 129 integers, uV at raw counts 0, 32, .. 4096, or None.
    voltage, current: list of (gain, lead of the sensed over the true signal in degrees), in the order of the phases.
    power: per phase (gain, W, var), what power is multiplied by and what is then read without load, or None.
    noise: per current the A rms that are read without load, or 0.
    applied: what the meter has answered, of "adc", "gain", "phase", "power", "offset" and "noise".
    trim: the Trim that does what is left of the latter three and more, or None.
    """

    def __init__(self, adc_table, voltage, current, power=(), noise=()):
        self.adc_table = adc_table
        self.voltage = voltage
        self.current = current
        self.power = power
        self.noise = noise
        self.applied = ()
        self.trim = None

    def correct(self, reading):
        """Apply to a raw reading what the meter has not; derives S, PF and the totals."""
        if self.voltage and self.current:
            for k in reading.each():
                self._channel(reading, k, k - 1 if k else 0)
        if self.trim:
            self.trim.correct(reading)
        reading.derive()
        return reading

    def _channel(self, reading, k, n):
        values = reading.at[k]
        gv, lead_v = self.voltage[min(n, len(self.voltage) - 1)]
        gi, lead_i = self.current[min(n, len(self.current) - 1)]
        if "gain" not in self.applied:
            scale(values, "voltage", gv)
            scale(values, "current", gi)
            for name in POWERS:
                scale(values, name, gv * gi)
            if gv * gi != 1 and (reading.metered == PER_PHASE or reading.phases == 1):
                for way in (2 * k, 2 * k + 1):
                    reading.energy[way] = int(reading.energy[way] * (gv * gi))
        if "phase" not in self.applied:
            reading.rotate(k, lead_i - lead_v)


def scale(values, name, gain):
    """Multiply a value that is there."""
    if values.get(name) is not None:
        values[name] *= gain
