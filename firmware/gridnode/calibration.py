"""Turns raw into true: per-channel gains and phases of one meter, and the ADC's linearisation.

What belongs to single samples or to chip registers is handed to the meter as a `Correction`; the meter answers with
the parts that it applied and `Calibration.correct` does the rest. A unit without /config/calibration.json runs on
its design values.
"""

from array import array

VERSION = 1


class Correction:
    """What a meter may apply itself: `adc_table` and, per channel, gain and phase.

    adc_table: array('H', 129) of 0.1 mV at raw counts 0, 32, .. 4096, or None.
    voltage, current: list of (gain, lead of the sensed over the true signal in degrees).
    """

    def __init__(self, adc_table, voltage, current):
        self.adc_table = adc_table
        self.voltage = voltage
        self.current = current


class Calibration:
    """Calibration of one meter: `spec` is the meter's entry of the profile, `stored` the calibration file or None."""

    def __init__(self, spec, stored=None):
        entry = {}
        if stored is not None:
            if stored.get("version") != VERSION:
                raise ValueError("calibration version %r, this firmware knows %d" % (stored.get("version"), VERSION))
            entry = stored.get("meters", {}).get(spec["id"], {})
        table = entry.get("adc_table")
        if table is not None:
            if len(table) != 129 or any(b < a for a, b in zip(table, table[1:])):
                raise ValueError("adc_table must be 129 rising values")
            table = array("H", table)
        self.calibrated = bool(entry)
        self.correction = Correction(
            table,
            self._channels(spec.get("voltage"), entry.get("voltage")),
            self._channels(spec.get("current"), entry.get("current")),
        )
        self.applied = ()

    @staticmethod
    def _channels(design, stored):
        result = []
        for k, channel in enumerate(design or ()):
            own = stored[k] if stored and k < len(stored) else {}
            gain = own.get("gain", 1.0)
            if not 0.5 <= gain <= 2.0:
                raise ValueError("gain %r is not within 0.5..2" % gain)
            result.append((gain, own.get("phase_deg", channel.get("phase_deg", 0.0))))
        return result

    def correct(self, reading):
        """Apply to a raw reading what the meter has not; derives S, PF and the totals."""
        c = self.correction
        for k in reading.each():
            values = reading.at[k]
            n = k - 1 if k else 0
            if c.voltage and c.current:
                gv, lead_v = c.voltage[min(n, len(c.voltage) - 1)]
                gi, lead_i = c.current[min(n, len(c.current) - 1)]
                if "gain" not in self.applied:
                    _scale(values, "voltage", gv)
                    _scale(values, "current", gi)
                    for name in ("power", "reactive_power", "apparent_power"):
                        _scale(values, name, gv * gi)
                if "phase" not in self.applied:
                    reading.rotate(k, lead_i - lead_v)
        reading.derive()
        return reading


def _scale(values, name, gain):
    if values.get(name) is not None:
        values[name] *= gain
