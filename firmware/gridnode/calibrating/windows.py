"""Windows of readings: medians of several, outliers rejected, what is left as an uncertainty."""

import gc
import math
from micropython import const

from gridnode.calibrating import Refused, unmet
from gridnode.reading import Window

# What decides whether a window is an outlier, and how it is compared.
_STEADY = const(("voltage", "current", "power"))
# What is kept of a window.
_NAMES = _STEADY + ("reactive_power", "frequency", "temperature", "thd_current")
_OUTLIER = const(5.0)  # standard deviations, by the median of the deviations
_CLEAR = const(0.4)  # of the limit of the spread: less is no outlier
_MOVED = const(5.0)  # times that limit: no outlier but a load that was switched


def median(values):
    """Median of a sequence that is not empty."""
    ordered = sorted(values)
    n = len(ordered)
    return ordered[n // 2] if n & 1 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2


def deviation(values):
    """Standard uncertainty of the median of some values, 1.25 times that of their mean as for normal ones."""
    n = len(values)
    mean = sum(values) / n
    return 1.25 * math.sqrt(sum([(x - mean) ** 2 for x in values]) / max(1, n - 1) / n)


class Windows:
    """Takes corrected readings of one meter until there are enough good windows; `full` says when.

    conditions: see `conditions`. rating_a, nominal_v: what its percentages are of. count: windows wanted, in place of
    the conditions' own. each: entries of Reading.at that are judged, None for all.
    """

    def __init__(self, meter, conditions, rating_a, nominal_v, count=None, each=None):
        self.full = False
        self.rejected = 0
        self.window_s = 0  # of the longest
        self.seconds = 0.0  # of all
        self.window = Window(meter.id, meter.phases, [name for name in meter.names if name in _NAMES])
        self.conditions = conditions
        self._each = each or list(meter.reading.each())  # the meter itself may be let go before the windows
        self._turns = meter.phases if getattr(meter, "orders", 0) else 1
        self.wanted = count or conditions["windows"]
        more = conditions["most"] - conditions["windows"]
        self._most = self.wanted + (more // 2 if count else more)
        self._scales = {"voltage": nominal_v, "current": rating_a, "power": nominal_v * rating_a}
        self._rows = []  # per window and entry of Reading.at: name -> value
        self._kept = []
        self._bad = {}

    def add(self, reading):
        """Take one reading."""
        if self.full:
            return
        window = self.window
        window.add(reading)
        # The noise of samples shows in small currents. Clamps that share a converter have a sample in turn: a longer
        # window holds as many of each as that of a single one.
        least = min([reading.at[k].get("current") or 0.0 for k in self._each])
        turns = self._turns if least < 0.15 * self._scales["current"] else 1
        if window.ms < 1000 * self.conditions["window_s"] * turns:
            return
        self.window_s = max(self.window_s, window.ms / 1000)
        self.seconds += window.ms / 1000
        coverage = window.coverage()
        gc.collect()  # what is kept of the window then lies low, not all over the heap
        found = window.finish(0)
        bad = {s: why for s, why in found.quality.items() if not s[-1].isdigit() or int(s[-1]) in self._each}
        self._bad.update(bad)
        if not bad and coverage >= self.conditions["coverage"]:
            self._rows.append([{name: values[name] for name in _NAMES if name in values} for values in found.at])
        else:
            self._most -= 1
        window.restart()
        self._weigh()
        enough = len(self._kept) >= self.wanted and self._fine()
        self.full = enough or len(self._rows) >= self._most

    def forget(self):
        """Let go what was collected."""
        self._rows, self._kept = [], []

    def _weigh(self):
        """Keep the windows that agree."""
        rows = self._rows
        kept = list(range(len(rows)))
        for k in self._each:
            for name in _STEADY:
                values = [row[k].get(name) for row in rows]
                if not values or None in values:
                    continue
                middle = median(values)
                off = [abs(value - middle) for value in values]
                least = _CLEAR * self._limit(name, middle)
                bound = max(1.4826 * _OUTLIER * median(off), least)
                kept = [n for n in kept if off[n] <= bound]
        self._kept = kept
        self.rejected = len(rows) - len(kept)

    def _fine(self):
        """Whether every current that flows is known as finely as the conditions want it."""
        for k in self._each:
            found = [self._rows[n][k].get("current") for n in self._kept]
            if None in found or median(found) * 100 < self._scales["current"]:
                continue
            if deviation(found) * 100 > self.conditions["fine"] * median(found):
                return False
        return True

    def _limit(self, name, value):
        """What `name` may differ between windows."""
        c, scale = self.conditions, self._scales
        share = c["spread_v"] if name == "voltage" else c["spread_i"]
        floor = 0.0 if name == "voltage" else c["noise_i"] * scale[name]
        return (share * abs(value) + floor) / 100

    def result(self):
        """Observation of the windows that agree. Raises Refused where there are too few, or they do not agree."""
        if not self._rows:
            reasons = ", ".join(["%s %s" % item for item in self._bad.items()])
            raise Refused("meter", "no usable reading: " + (reasons or "the mains cycles were not seen"))
        rows = self._rows
        for k in self._each:
            for name in _STEADY:
                values = [row[k].get(name) for row in rows]
                if None in values:
                    continue
                spread, limit = max(values) - min(values), self._limit(name, median(values))
                if spread > _MOVED * limit:
                    raise self._moving(k, name, spread, limit)
        if len(self._kept) < self.wanted:
            raise unmet("windows", "only %s windows agree, %s are needed", len(self._kept), self.wanted)
        most = 1 + self.wanted // 4
        if self.rejected > most:
            raise unmet("windows", "%s windows differ from the others, allowed are %s", self.rejected, most)
        found = Observation([rows[n] for n in self._kept], self.rejected, self.window_s)
        for k in self._each:
            for name in _STEADY:
                spread = found.spread[k].get(name)
                if spread is not None:
                    limit = self._limit(name, found.values[k][name])
                    if spread > limit:
                        raise self._moving(k, name, spread, limit)
        return found

    @staticmethod
    def _moving(k, name, spread, limit):
        where = "L%d " % k if k else ""
        return unmet("steady", where + name + " moved by %s within the step, allowed are %s", spread, limit)


class Observation:
    """What the windows that agree say, per entry of Reading.at.

    values: name -> median. spread: name -> largest less smallest. deviation: name -> standard uncertainty of the
    median.
    """

    def __init__(self, rows, rejected, window_s):
        self.windows = len(rows)
        self.rejected = rejected
        self.window_s = window_s
        self.values, self.spread, self.deviation = [], [], []
        for k in range(len(rows[0])):
            values, spreads, deviations = {}, {}, {}
            for name in rows[0][k]:
                found = [row[k].get(name) for row in rows]
                if None in found:
                    continue
                values[name] = median(found)
                spreads[name] = max(found) - min(found)
                deviations[name] = deviation(found)
            self.values.append(values)
            self.spread.append(spreads)
            self.deviation.append(deviations)

    def percent(self, k, name, of=None):
        """Spread of a value in % of itself, or of `of`."""
        whole = abs(self.values[k][name] if of is None else of)
        return 100 * self.spread[k][name] / whole if whole else 0.0
