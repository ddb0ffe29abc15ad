"""Turns raw into true: per-channel gains and phases of one meter, and the ADC's linearisation.

What belongs to single samples or to chip registers is handed to the meter as a `Correction`; the meter answers with
the parts that it applied and `correct` does the rest.
"""

from gridnode.reading import PER_PHASE


class Correction:
    """Correction of one meter; the meter may apply `adc_table` and, per channel, gain and phase itself.

    adc_table: 129 integers, uV at raw counts 0, 32, .. 4096, or None.
    voltage, current: list of (gain, lead of the sensed over the true signal in degrees).
    applied: what the meter has answered, of "adc", "gain" and "phase".
    """

    def __init__(self, adc_table, voltage, current):
        self.adc_table = adc_table
        self.voltage = voltage
        self.current = current
        self.applied = ()

    def correct(self, reading):
        """Apply to a raw reading what the meter has not; derives S, PF and the totals."""
        for k in reading.each():
            values = reading.at[k]
            n = k - 1 if k else 0
            if self.voltage and self.current:
                gv, lead_v = self.voltage[min(n, len(self.voltage) - 1)]
                gi, lead_i = self.current[min(n, len(self.current) - 1)]
                if "gain" not in self.applied:
                    _scale(values, "voltage", gv)
                    _scale(values, "current", gi)
                    for name in ("power", "reactive_power", "apparent_power", "harmonic_power"):
                        _scale(values, name, gv * gi)
                    if gv * gi != 1 and (reading.metered == PER_PHASE or reading.phases == 1):
                        for way in (2 * k, 2 * k + 1):
                            reading.energy[way] = int(reading.energy[way] * (gv * gi))
                if "phase" not in self.applied:
                    reading.rotate(k, lead_i - lead_v)
        reading.derive()
        return reading


def _scale(values, name, gain):
    if values.get(name) is not None:
        values[name] *= gain
