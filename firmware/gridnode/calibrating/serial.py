"""The orders that only the host gives: begin a session, observe, undo a step, show what there is. See steps.handle."""

from micropython import const

from gridnode import health
from gridnode.calibrating import drafts, procedure, steps
from gridnode.calibrating.station import Station, profile

_CLASS = {"voltage": 0.5, "current": 0.5, "power": 1.0}
_POINTS = const((5, 10, 20, 50, 100))
_AT_ONCE = const(4)  # records in an answer


def _begin(request):
    former = steps.open_session(request)
    document = profile()
    own = document.get("calibration", {})
    meters = []
    for spec in document["meters"]:
        station = Station(former, spec["id"])
        found = procedure.available(station.meter)
        if found:
            if station.thermometer is None:
                found.remove("temperature")
            meters.append(
                {
                    "id": spec["id"],
                    "driver": spec["driver"],
                    "phases": station.meter.phases,
                    "names": list(station.meter.names),
                    "steps": found,
                    "rating_a": document["rating"]["current"],
                    "nominal_v": station.profile["nominal"]["voltage"],
                    "nominal_hz": station.profile["nominal"]["frequency"],
                }
            )
    return {
        "node": steps.shelf().node,
        "sku": document["sku"],
        "generation": former["generation"],
        "firmware": health.VERSION,
        "meters": meters,
        "class": own.get("class", _CLASS),
        "points": list(own.get("points", _POINTS)),
    }


def _observe(request):
    station = steps.station_of(steps.meter_of(request))
    blocks = _Blocks()
    station.run(blocks)
    values, spreads = blocks.summary(station.meter.reading)
    warm = station.thermometer
    return {
        "values": values,
        "spread_percent": spreads,
        "quality": blocks.quality,
        "blocks": blocks.count,
        "window_s": blocks.ms / 1000,
        "temperature": warm.at[0].get("temperature") if warm else None,
    }


class _Blocks:
    """Means of the blocks of a short time, and their spread."""

    def __init__(self):
        self.count = self.ms = 0
        self.quality = {}
        self._least, self._most, self._sums = {}, {}, {}

    @property
    def full(self):
        return self.ms >= 2000

    def add(self, reading):
        self.count += 1
        self.ms += reading.ms
        self.quality.update(reading.quality)
        for k, values in enumerate(reading.at):
            for name in values:
                value = values[name]
                if value is not None:
                    key = k, name
                    self._least[key] = min(value, self._least.get(key, value))
                    self._most[key] = max(value, self._most.get(key, value))
                    total, n = self._sums.get(key, (0.0, 0))
                    self._sums[key] = total + value, n + 1

    def summary(self, reading):
        values, spreads = [], []
        for k in range(len(reading.at)):
            means, percents = {}, {}
            for key in self._sums:
                if key[0] == k:
                    total, n = self._sums[key]
                    means[key[1]] = mean = total / n
                    if key[1] in ("voltage", "current", "power") and mean:
                        percents[key[1]] = round(100 * (self._most[key] - self._least[key]) / abs(mean), 3)
            values.append(means)
            spreads.append(percents)
        return values, spreads


def _undo(request):
    steps.forget()
    return {"number": drafts.undo()}


def _show(request):
    shelf = steps.shelf()
    return {
        "calibration": shelf.load(),
        "generations": shelf.generations(),
        "factory": shelf.has_factory(),
    }


def _records(request):
    first = int(request.get("from", 0))
    return {"records": steps.shelf().records(first, _AT_ONCE)}


ORDERS = {"begin": _begin, "observe": _observe, "undo": _undo, "records": _records, "show": _show}
