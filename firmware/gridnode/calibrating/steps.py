"""What `service.calibration` does for the host, and with it the orders that host and desired state share.

An order takes an object and returns one; it raises Refused. A session: begin, then per step measure and apply, in the
end commit or abandon. A step is measured at a station, which then goes with its driver: where code lies on the heap,
the rest has no room beside it. Only commit, restore and set put anything in force.
"""

import machine
from micropython import const

from gridnode import rooms
from gridnode.calibrating import Refused, drafts, procedure
from gridnode.calibrating.station import Station, profile

_ANEW = const(("meters", "schema", "_schemas"))
_PASSING = const(("store", "field", "serial", "sweep", "linearity", "converter", "front_end"))
_STAYS = const(("setup", "calibration", "drivers"))  # of the setup, since the station knows them


class _Session:
    """What is kept between two orders."""

    station = None  # with the newest draft
    pending = None  # Procedure that has been measured
    operator = ""
    date = None
    source = "serial"


now = _Session()


def handle(order, request):
    """Carry out an order."""
    if not isinstance(request, dict):
        raise Refused("invalid", "an order takes an object")
    work = _ORDERS.get(order)
    if work is None:
        from gridnode.calibrating import serial

        work = serial.ORDERS.get(order)
        if work is None:
            known = ", ".join(sorted(list(_ORDERS) + list(serial.ORDERS)))
            raise Refused("invalid", "no order %r; there are %s" % (order, known))
    return work(request)


def shelf():
    """The calibrations in flash."""
    from gridnode.calibrating import store

    return store.Store(machine, profile()["sku"])


def take_names(request):
    """Take who calibrates, when and from where."""
    now.operator = str(request.get("operator", now.operator))[:40]
    now.date = request.get("date", now.date)
    now.source = request.get("source", "serial")


def open_session(request):
    """Begin a session; returns what is in force."""
    forget()
    take_names(request)
    document = shelf().begin()
    _unload()
    return document


def forget():
    """Let go what was measured."""
    now.station = now.pending = None


def station_of(name):
    """The station of a meter with the newest draft, kept for the next order."""
    station = now.station
    if station is None or station.spec["id"] != name:
        now.station = None
        _unload("compute")
        now.station = station = Station(drafts.draft(), name)
    return station


def meter_of(request):
    """Id of the meter that is meant; the first one where none is named."""
    name = request.get("meter")
    return profile()["meters"][0]["id"] if name is None else name


def measure(request):
    """Measure for a step and judge what needs no reference."""
    name, step = meter_of(request), request.get("step")
    if "level_mv" in request:
        return _take_level(name, request["level_mv"])
    forget()
    _unload("compute")
    kind = procedure.Procedure
    if step == "linearity":
        from gridnode.calibrating import linearity

        kind = linearity.Linearity
    station = _place(drafts.draft(), name, step)
    found = kind(step, station.meter, station.spec, station.profile, station.thermometer, request.get("phase"))
    station.run(found.windows)
    seen = found.examine()
    now.pending = found
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


def _take_level(name, mv):
    """One level of a linearity that is swept."""
    from gridnode.calibrating import sweep

    meter = station_of(name).meter
    if not getattr(meter, "orders", 0):
        raise Refused("invalid", "meter %s has no converter of its own" % name)
    take = getattr(now.pending, "take", None)
    if take is None:
        now.pending = found = sweep.Sweep(meter)
        take = found.take
    return take(meter, mv)


def _unload(*more):
    """Drop what is loaded anew when it is wanted: drivers, the store, the judge of documents, `more` of this room.

    What is pending keeps its own module.
    """

    def goes(path):
        name = path[-1]
        if path[0] == "setup":
            return name not in _STAYS
        return path[0] in _ANEW or name in _PASSING + more

    rooms.drop(goes)


def _place(document, name, step):
    station = Station(document, name, pair=step == "linearity")
    if step == "offset":
        station.meter.deadband = 0
    return station


def apply(request):
    """Compute from what was measured, put it in force for a proof, keep it as a draft where it is better."""
    found = now.pending
    step, name = request.get("step"), meter_of(request)
    if found is None or (found.step, found.name) != (step, name) or found.phase not in (None, request.get("phase")):
        raise Refused("sequence", "measure %s first" % step)
    now.station = None
    _unload()
    document = drafts.draft()
    former = document["meters"].get(name, {})
    document["meters"][name] = found.compute(former, request.get("reference") or {}, request.get("phase"))
    now.pending = None  # a refused reference can be told again
    if step != "verify":
        document["operator"], document["date"] = now.operator, now.date
    number = drafts.push(document, ())  # while there is room; what is not proven goes again
    try:
        applied, seconds = None, 0
        if step != "verify":
            station = _place(document, name, step)
            document = None
            proof = found.retry(station.meter)
            station.run(proof)
            seconds = getattr(proof, "seconds", 0)
            proof = None
            applied = procedure.applied_by(station.meter, station.correction)
            station = None
            _unload()
        records = found.prove(request.get("uncertainty_percent"))
        for record in records:
            record["source"] = now.source
            record["operator"] = now.operator
            record["date"] = now.date
            record["instrument"] = str(request.get("instrument", ""))[:60]
            if applied:
                record["applied"] = applied
            if request.get("as_found"):
                record["as_found"] = True
        drafts.note(number, records)
    except Exception:
        drafts.undo()
        raise
    return {"number": number, "records": records, "proof_s": seconds}


def commit(request):
    """Put the newest draft in force."""
    forget()
    return {"generation": shelf().commit(drafts.draft(), factory=bool(request.get("factory")))}


def abandon(request):
    """End the session, change nothing."""
    forget()
    drafts.drop()
    return {}


def restore(request):
    """Put the factory set or the previous generation back."""
    forget()
    document = shelf().restore(request.get("to"))
    return {name: document.get(name) for name in ("generation", "date", "operator")}


def check(request):
    """What the self-checks find at every meter that measures power."""
    from gridnode.calibrating.evidence import Evidence

    forget()
    document = shelf().current()
    found = []
    for spec in profile()["meters"]:
        station = Station(document, spec["id"])
        if "power" not in station.meter.names:
            continue
        evidence = Evidence(station.meter, station.spec, station.profile, station.correction.trim)
        station.run(evidence)
        found += evidence.suggestions()
    return {"suggestions": found}


def put(request):
    """Carry out a field command."""
    forget()
    take_names(request)
    document = shelf().current()
    _unload()
    from gridnode.calibrating import field

    record = field.offline(document, profile(), request)
    field = None
    _unload()
    record.update({"operator": now.operator, "date": now.date, "source": now.source})
    return {"record": record, "generation": shelf().commit(document, [record])}


_ORDERS = {
    "measure": measure,
    "apply": apply,
    "commit": commit,
    "abandon": abandon,
    "restore": restore,
    "check": check,
    "set": put,
}
