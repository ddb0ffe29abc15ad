"""The one record that flows through the house: meter -> calibration -> energy -> anomaly -> report.

A meter fills its `Reading` once per block (about 200 ms); `Window` averages corrected blocks into a row and rows
into a report. Values are floats in V, A, W, var, VA, Hz, %, degC; a value that cannot be trusted is None and has a
reason in `quality`. Nothing here knows of any other room.
"""

import math
from array import array
from micropython import const

STALE = "stale"
SATURATED = "saturated"
BUS_FAULT = "bus_fault"
IMPLAUSIBLE = "implausible"

# Where the energy of a reading comes from, if not from power and time: the device's counters.
PER_PHASE = 1
IN_TOTAL = 2

# What may be measured per phase: name in the report -> short name of a phase's signal.
PHASE = {
    "voltage": "v",
    "current": "i",
    "power": "p",
    "reactive_power": "q",
    "apparent_power": "s",
    "power_factor": "pf",
    "phase_angle": "angle",  # degrees that the current lags
    "harmonic_power": "p_h",
    "thd_voltage": "thd_v",
    "thd_current": "thd_i",
    "voltage_ll": "u",
}
_COUNTS = const(("reactive_energy_import_varh", "reactive_energy_export_varh", "apparent_energy_vah"))
_AUX = const(("aux1", "aux2", "aux3", "aux4"))
ONCE = ("frequency", "neutral_current", "power_demand", "temperature", "humidity", "cover") + _COUNTS + _AUX

DERIVED = ("apparent_power", "power_factor")
_RMS = const(("voltage", "current", "voltage_ll", "neutral_current"))
_SUMMED = const(("power", "reactive_power", "apparent_power", "harmonic_power"))
_NEWEST = ("phase_angle",) + _COUNTS


def signal(phase, name):
    """Name of a signal: `voltage` for phase 0 (the flat values), `v2` for phase 2."""
    return PHASE[name] + str(phase) if phase and name in PHASE else name


class Reading:
    """Values of one meter over one interval.

    at[0] holds the flat values; with more than one phase at[1..phases] hold the phases and at[0] their totals.
    """

    def __init__(self, meter, phases=1):
        self.meter = meter
        self.phases = phases
        self.at = [{} for _ in range(phases + 1 if phases > 1 else 1)]
        self.own_totals = ()  # names whose total the device measures itself
        self.quality = {}  # signal -> reason
        self.energy = [0] * len(self.at) * 2  # uJ imported, exported per entry of `at`, where the device counts
        self.metered = 0  # PER_PHASE or IN_TOTAL: the energy above holds
        self.energy_ms = 0  # time over which it was counted, if longer than `ms`
        self.energy_step = 0  # uJ of one count
        self.flags = ()  # what the device flagged, e.g. "sag_v1"
        self.events = ()  # supply events that ended: (kind, phases, extreme %, ms, uncertainty ms, ended ms ago)
        self.spectrum = None  # per entry of `at`: (V^2, A^2) of the orders 1, 2, .. as array('f'), or None
        self.ms = 0  # interval in ms
        self.covered_ms = 0  # of it, mains cycles really observed
        self.timestamp = 0  # Unix s at the end of a row or report
        self.min = {}
        self.max = {}

    def each(self):
        """Indices of `at` that a meter measures (phases; at[0] alone when single-phase)."""
        return range(1, self.phases + 1) if self.phases > 1 else (0,)

    def clear(self, names=(), reason=None):
        """Forget all values; with a reason, say it for `names`, those of phases for each of them."""
        self.quality.clear()
        self.flags = self.events = ()
        self.metered = 0
        self.spectrum = None
        for i in range(len(self.energy)):
            self.energy[i] = 0
        for k, values in enumerate(self.at):
            for name in values:
                values[name] = None
            if reason:
                for name in names:
                    if self.phases == 1 or (k > 0) == (name in PHASE):
                        self.spoil(k, name, reason)

    def spoil(self, phase, name, reason):
        """Replace one value by None with its reason."""
        self.at[phase][name] = None
        self.quality[signal(phase, name)] = reason

    def rotate(self, phase, lead_deg):
        """Turn P and Q of a phase back by the lead of the sensed current: P cos d - Q sin d, Q cos d + P sin d.

        A sensed current that leads by d lags too little: the measured angle is phi - d, the true one phi. Exact for
        the fundamental.
        """
        values = self.at[phase]
        p, q = values.get("power"), values.get("reactive_power")
        if p is None or q is None or not lead_deg:
            return
        c, s = math.cos(math.radians(lead_deg)), math.sin(math.radians(lead_deg))
        values["power"] = p * c - q * s
        values["reactive_power"] = q * c + p * s

    def derive(self):
        """Fill S = V*I and PF = P/S per phase where missing, then the totals of a multi-phase meter.

        Totals: mean of voltages and currents, sums of the powers (arithmetic S), PF = P/S, unless the device has
        its `own_totals`. A total with a missing phase is None: its reason stands at the phase.
        """
        for k in self.each():
            values = self.at[k]
            if values.get("apparent_power") is None:
                v, i = values.get("voltage"), values.get("current")
                values["apparent_power"] = None if v is None or i is None else v * i
            values["power_factor"] = _factor(values)
        if self.phases == 1:
            return
        flat = self.at[0]
        for name in self.at[1]:
            if name not in self.own_totals and (name in _RMS or name in _SUMMED):
                total = 0.0
                for k in self.each():
                    value = self.at[k].get(name)
                    if value is None:
                        total = None
                        break
                    total += value
                flat[name] = total / self.phases if total is not None and name in _RMS else total
        flat["power_factor"] = _factor(flat)


def _factor(values):
    p, s = values.get("power"), values.get("apparent_power")
    if p is None or not s:
        return None
    return max(-1.0, min(1.0, p / s))


class Window:
    """Average of readings, weighted by their duration: RMS as the root of the mean of squares, else means.

    names: what the meter measures, None for everything. `spoilt` is the share of the time that may carry a reason
    before the value of the window is None as well.
    """

    def __init__(self, meter, phases=1, names=None, extremes=(), spoilt=0.1):
        self.reading = Reading(meter, phases)
        self.names = tuple(set(names or tuple(PHASE) + ONCE) | set(DERIVED))
        self.extremes = extremes
        self.spoilt = spoilt
        size = len(self.names) * len(self.reading.at)
        self.sums = array("f", [0] * size)
        self.weights = array("i", [0] * size)  # ms
        self.spectrum = None  # sums of the readings' spectra: only their ratios matter
        self.bad = {}  # signal -> ms with a reason
        self.quality = {}
        self.restart()

    def restart(self):
        """Begin a new window."""
        self.ms = 0
        self.covered_ms = 0
        self.count = 0
        self.bad.clear()
        self.quality.clear()
        self.flags = ()
        for i in range(len(self.sums)):
            self.sums[i] = self.weights[i] = 0
        for pair in self.spectrum or ():
            for sums in pair:
                for n in range(len(sums or ())):
                    sums[n] = 0
        self.min = {}
        self.max = {}

    def add(self, reading):
        """Add a reading of `reading.ms` milliseconds."""
        ms = reading.ms
        self.ms += ms
        self.covered_ms += reading.covered_ms
        self.count += 1
        self.reading.own_totals = reading.own_totals
        i = 0
        for k, values in enumerate(reading.at):
            known = self.reading.at[k]
            for name in self.names:
                value = values.get(name)
                if name in values:
                    known.setdefault(name)
                if value is not None:
                    if name in _NEWEST:
                        self.sums[i] = self.weights[i] = 0
                    self.sums[i] += value * ms * (value if self._squared(k, name) else 1)
                    self.weights[i] += ms
                i += 1
        for name in reading.quality:
            self.bad[name] = self.bad.get(name, 0) + ms
            self.quality[name] = reading.quality[name]
        for flag in reading.flags:
            if flag not in self.flags:
                self.flags += (flag,)
        if reading.spectrum:
            self._add_spectrum(reading.spectrum)
        for name in self.extremes:
            value = reading.at[0].get(name)
            if value is not None:
                self._extreme(self.min, name, reading.min.get(name, value), -1)
                self._extreme(self.max, name, reading.max.get(name, value), 1)

    def _add_spectrum(self, spectrum):
        if self.spectrum is None:
            self.spectrum = [[None, None] for _ in spectrum]
        for k, pair in enumerate(spectrum):
            for a, part in enumerate(pair or ()):
                if part:
                    sums = self.spectrum[k][a]
                    if sums is None:
                        sums = self.spectrum[k][a] = array("f", [0] * len(part))
                    for n in range(len(part)):
                        sums[n] += part[n]

    def _squared(self, k, name):
        return name in _RMS and (k > 0 or self.reading.phases == 1 or name in ONCE)

    @staticmethod
    def _extreme(table, name, value, sign):
        if name not in table or (value - table[name]) * sign > 0:
            table[name] = value

    def finish(self, timestamp):
        """The reading of this window; valid until `restart`, or until a window that shares `reading` is finished."""
        out = self.reading
        out.ms = self.ms
        out.covered_ms = self.covered_ms
        out.timestamp = timestamp
        i = 0
        for k, values in enumerate(out.at):
            for name in self.names:
                weight = self.weights[i]
                cause = signal(k, "power" if name == "apparent_power" else name)  # a product goes with the other one
                bad = self.bad.get(cause, 0) > self.spoilt * self.ms
                if not weight or bad or name == "power_factor":
                    mean = None  # a power factor comes from the averages, below
                else:
                    mean = self.sums[i] / weight
                    if self._squared(k, name):
                        mean = math.sqrt(mean)
                if name in values:
                    values[name] = mean
                i += 1
        # A short disturbance costs its own time only: the value stands and needs no reason.
        for name in list(self.quality):
            if self.bad[name] <= self.spoilt * self.ms:
                del self.quality[name]
        out.quality, out.min, out.max = self.quality, self.min, self.max
        out.flags, out.spectrum = self.flags, self.spectrum
        out.derive()
        return out

    def coverage(self):
        """Share of the window's time in which mains cycles were observed, 0..1, None for an empty window."""
        return min(1.0, self.covered_ms / self.ms) if self.ms else None

