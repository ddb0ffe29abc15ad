"""What `service.calibration` does for the host: a session of steps, restore, self-checks and field commands.

An order takes an object and returns one; it raises Refused. A session: begin, then per step measure and apply, in the
end commit or abandon. Only commit puts anything in force.
"""

import gc
import machine

from gridnode import health
from gridnode.calibrating import Refused, conditions, procedure, store
from gridnode.calibrating.station import Station, profile
from gridnode.calibrating.windows import Windows

_CLASS = {"voltage": 0.5, "current": 0.5, "power": 1.0}
_POINTS = (5, 20, 50, 100)
_AT_ONCE = 4  # records in an answer


class _Session:
    """What is kept between two calls."""

    station = None  # with the newest draft
    pending = None  # Procedure that has been measured
    operator = ""
    date = None
    source = "serial"


_now = _Session()


def handle(order, request):
    """Carry out an order."""
    if order not in _ORDERS:
        raise Refused("invalid", "no order %r; there are %s" % (order, ", ".join(sorted(_ORDERS))))
    if not isinstance(request, dict):
        raise Refused("invalid", "an order takes an object")
    return _ORDERS[order](request)


def _store():
    return store.Store(machine, profile()["sku"])


def _take_names(request):
    _now.operator = str(request.get("operator", _now.operator))[:40]
    _now.date = request.get("date", _now.date)
    _now.source = request.get("source", "serial")


def open_session(request):
    """Begin a session; returns what is in force."""
    _forget()
    _take_names(request)
    return _store().begin()


def _begin(request):
    former = open_session(request)
    document = profile()
    shelf = _store()
    own = document.get("calibration", {})
    meters = []
    for spec in document["meters"]:
        station = Station(former, spec["id"])
        steps = procedure.available(station.meter)
        if steps:
            if station.thermometer is None:
                steps.remove("temperature")
            meters.append(
                {
                    "id": spec["id"],
                    "driver": spec["driver"],
                    "phases": station.meter.phases,
                    "names": list(station.meter.names),
                    "steps": steps,
                    "rating_a": document["rating"]["current"],
                    "nominal_v": station.profile["nominal"]["voltage"],
                    "nominal_hz": station.profile["nominal"]["frequency"],
                }
            )
    return {
        "node": shelf.node,
        "sku": document["sku"],
        "generation": former["generation"],
        "firmware": health.VERSION,
        "meters": meters,
        "class": own.get("class", _CLASS),
        "points": list(own.get("points", _POINTS)),
    }


def _forget():
    _now.station = _now.pending = None


def _station(name, pair=False):
    station = _now.station
    if pair or station is None or station.spec["id"] != name:
        _now.station = None
        station = Station(_store().draft(), name, pair)
        if not pair:
            _now.station = station
    return station


def _meter(request):
    name = request.get("meter")
    return profile()["meters"][0]["id"] if name is None else name


def _observe(request):
    station = _station(_meter(request))
    rules = dict(conditions.of("verify", station.profile))
    rules.update({"windows": 1, "most": 2})
    nominal, rating = station.profile["nominal"]["voltage"], station.profile["rating"]["current"]
    blocks = _Blocks(Windows(station.meter, rules, rating, nominal))
    station.run(blocks)
    values, spreads = blocks.summary(station.meter.reading)
    return {
        "values": values,
        "spread_percent": spreads,
        "quality": blocks.quality,
        "blocks": blocks.count,
        "window_s": rules["window_s"],
    }


class _Blocks:
    """A window, and the spread of the blocks in it."""

    def __init__(self, windows):
        self._windows = windows
        self.count = 0
        self.quality = {}
        self._least, self._most, self._sums = {}, {}, {}

    @property
    def full(self):
        return self._windows.full

    def add(self, reading):
        self._windows.add(reading)
        self.count += 1
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


def _measure(request):
    name, step = _meter(request), request.get("step")
    linear = step == "linearity"
    station = _station(name, pair=linear)
    kind = procedure.Procedure
    if linear:
        from gridnode.calibrating import linearity

        kind = linearity.Linearity
    found = kind(step, station.meter, station.spec, station.profile, station.thermometer)
    if step == "offset":
        station.meter.deadband = 0
    station.run(found.windows)
    seen = found.examine()
    _now.pending = found
    _now.station = None if linear else station
    spreads = []
    for k in range(len(seen.values)):
        names = [n for n in ("voltage", "current", "power") if n in seen.values[k]]
        spreads.append({n: round(seen.percent(k, n), 4) for n in names})
    return {
        "values": seen.values,
        "spread_percent": spreads,
        "windows": seen.windows,
        "rejected": seen.rejected,
        "window_s": seen.window_s,
        "temperature": found.celsius(),
    }


def _apply(request):
    found = _now.pending
    step, name = request.get("step"), _meter(request)
    if found is None or found.step != step or found.meter.id != name:
        raise Refused("sequence", "measure %s first" % step)
    _now.pending = None
    shelf = _store()
    document = shelf.draft()
    former = document["meters"].get(name, {})
    document["meters"][name] = found.compute(former, request.get("reference") or {}, request.get("phase"))
    station = None
    if step != "verify":
        _now.station = found.meter = None  # the old one goes before the new one comes
        gc.collect()
        station = Station(document, name, pair=step == "linearity")
        if step == "offset":
            station.meter.deadband = 0
        station.run(found.retry(station.meter))
    records = found.prove(request.get("uncertainty_percent"))
    for record in records:
        record["source"] = _now.source
        record["operator"] = _now.operator
        record["date"] = _now.date
        record["instrument"] = str(request.get("instrument", ""))[:60]
        if station:
            record["applied"] = procedure.applied_by(station.meter, station.correction)
        if request.get("as_found"):
            record["as_found"] = True
    if step != "verify":
        document["operator"], document["date"] = _now.operator, _now.date
    number = shelf.push(document, records)
    if station and step not in ("linearity", "offset"):
        _now.station = station
    return {"number": number, "records": records}


def _undo(request):
    _forget()
    return {"number": _store().undo()}


def _commit(request):
    shelf = _store()
    document = shelf.draft()
    _forget()
    return {"generation": shelf.commit(document, factory=bool(request.get("factory")))}


def _abandon(request):
    _forget()
    _store().drop()
    return {}


def _restore(request):
    _forget()
    document = _store().restore(request.get("to"))
    return {name: document.get(name) for name in ("generation", "date", "operator")}


def _show(request):
    shelf = _store()
    return {
        "calibration": shelf.load(),
        "generations": shelf.generations(),
        "factory": shelf.has_factory(),
    }


def _records(request):
    first = int(request.get("from", 0))
    return {"records": _store().records(first, _AT_ONCE)}


def _check(request):
    from gridnode.calibrating import checks

    _forget()
    document = _store().current()
    found = []
    for spec in profile()["meters"]:
        station = Station(document, spec["id"])
        if "power" not in station.meter.names:
            continue
        evidence = checks.Evidence(station.meter, station.spec, station.profile, station.correction.trim)
        station.run(evidence)
        found += evidence.suggestions()
    return {"suggestions": found}


def _set(request):
    from gridnode.calibrating import field

    _forget()
    _take_names(request)
    record, number = field.serial(_store(), profile(), request, _now.operator, _now.date, _now.source)
    return {"record": record, "generation": number}


_ORDERS = {
    "begin": _begin,
    "observe": _observe,
    "measure": _measure,
    "apply": _apply,
    "undo": _undo,
    "commit": _commit,
    "abandon": _abandon,
    "records": _records,
    "restore": _restore,
    "show": _show,
    "check": _check,
    "set": _set,
}
