"""What a technician changes at the cabinet: ratio and direction of clamps, which is on which phase, nominal values,
energy totals. Each change is recorded and can be taken back like any calibration."""

import machine

from gridnode import clock, documents, storage
from gridnode.calibrating import Refused
from gridnode.setup import calibration, drivers

RESETS = "/log/energy-%s.json"
COMMANDS = ("ct_ratio", "ct_direction", "phase_swap", "nominal", "energy_preset")
_MOST_MWH = 10**15


def change(document, profile, request):
    """Write a command into a calibration; returns its record. profile: as installed with that calibration."""
    command, value = request.get("command"), request.get("value")
    if command not in COMMANDS[:4]:
        raise Refused("invalid", "no command %r; there are %s" % (command, ", ".join(COMMANDS)))
    spec = _spec(profile, request.get("meter"))
    phase = request.get("phase")
    if command == "nominal":
        former = _nominal(document, profile, value)
    elif command == "phase_swap":
        former, value = _swap(document, spec, phase, value)
    else:
        former = [_input(document, spec, k, command, value) for k in _phases(spec, phase)]
    return record(command, spec["id"], phase, value, former)


def record(command, meter, phase, value, former):
    return {"step": command, "meter": meter, "phase": phase or 0, "value": value, "former": former}


def _spec(profile, name):
    for spec in profile["meters"]:
        if name is None or spec["id"] == name:
            return spec
    raise Refused("meter", "no meter %r" % name)


def _phases(spec, phase):
    count = len(spec.get("current", ()))
    if not count or (phase is not None and not _is_phase(phase, count)):
        raise Refused("invalid", "meter %s has no clamp on phase %s" % (spec["id"], phase))
    return range(count) if phase is None else (phase - 1,)


def _is_phase(n, count):
    return type(n) is int and 1 <= n <= count


def _number(value, low, high, what):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise Refused("invalid", "%s must be %g to %g, not %s" % (what, low, high, value))
    return value


def _input(document, spec, k, command, value):
    """Change one clamp; returns what it was."""
    order = spec.get("order")
    n = order[k] - 1 if order else k
    channels = document["meters"].setdefault(spec["id"], {}).setdefault("current", [])
    while len(channels) <= n:
        channels.append({})
    own = channels[n]
    if command == "ct_direction":
        if isinstance(value, bool) or value not in (1, -1):
            raise Refused("invalid", "ct_direction is 1 or -1, not %s" % value)
        former = -1 if own.get("reversed") else 1
        own["reversed"] = value < 0
        return former
    if "ratio" not in spec["current"][k]:
        raise Refused("invalid", "meter %s has no clamp with a ratio there" % spec["id"])
    former = spec["current"][k]["ratio"]
    own["ratio"] = _number(value, 1, 100000, "ct_ratio")
    return former


def _swap(document, spec, phase, value):
    """Exchange the clamps of two phases, or take a whole order; returns the former and the new one."""
    count = len(spec.get("current", ()))
    entry = document["meters"].setdefault(spec["id"], {})
    former = entry.get("order") or list(range(1, count + 1))
    if isinstance(value, list):
        wanted = value
    else:
        wanted = list(range(1, count + 1))
        for n in (phase, value):
            if not _is_phase(n, count):
                raise Refused("invalid", "phase_swap takes two of the phases 1 to %d, not %s" % (count, n))
        wanted[phase - 1], wanted[value - 1] = value, phase
    named = [n for n in wanted if _is_phase(n, count)]
    if len(named) != len(wanted) or sorted(named) != list(range(1, count + 1)) or count < 2:
        raise Refused("invalid", "phase_swap must name each of the phases 1 to %d once" % count)
    entry["order"] = [former[n - 1] for n in wanted]
    return former, entry["order"]


def _nominal(document, profile, value):
    if not isinstance(value, dict) or not value or [n for n in value if n not in ("voltage", "frequency")]:
        raise Refused("invalid", "nominal takes voltage, frequency or both")
    if "voltage" in value:
        _number(value["voltage"], 1, 50000, "nominal voltage")
    if "frequency" in value and value["frequency"] not in (50, 60):
        raise Refused("invalid", "the nominal frequency is 50 or 60 Hz")
    former = {name: profile["nominal"][name] for name in value}
    document.setdefault("nominal", {}).update(value)
    return former


def totals(book, meter, phase=None, value=None):
    """Set energy totals, in Wh (None: all to zero); the former ones stay in /log. Returns the record of it."""
    value = value or {}
    new = {}
    for way, name in enumerate(("import_wh", "export_wh")):
        if name in value:
            wh = _number(value[name], 0, _MOST_MWH / 1000, name)
            new[way] = int(wh) * 1000 + round((wh - int(wh)) * 1000)  # a large float has no digits to spare
    unknown = [name for name in value if name not in ("import_wh", "export_wh")]
    k = phase or 0
    if unknown or type(k) is not int or not 0 <= k < len(book.total) // 2:
        raise Refused("invalid", "energy_preset takes import_wh and export_wh of a phase or the total")
    record = {
        "version": 1,
        "meter": meter,
        "timestamp": clock.unix_time() if clock.valid() else None,
        "resets": book.resets + 1,
        "import_mwh": [total[0] for total in book.total[::2]],
        "export_mwh": [total[0] for total in book.total[1::2]],
    }
    former = [list(total) for total in book.total]
    try:
        documents.save(RESETS % meter, record)
        if value:
            book.preset({2 * k + way: new[way] for way in new})
        else:
            book.preset(dict.fromkeys(range(len(former)), 0))
    except (storage.StorageError, OSError) as e:
        book.total[:] = former
        book.resets = record["resets"] - 1
        book.retain()
        raise Refused("storage", "the totals stay as they were: %s" % e)
    return record


def ledger(profile, name):
    """The ledger of a meter, while the application is stopped. Raises Refused where it counts nothing."""
    import time

    from gridnode.calibrating import station

    k, spec = station.place(profile, name)
    meter = drivers.load_meter(spec, profile, machine, time)
    if not meter.counts_energy:
        raise Refused("meter", "meter %s counts no energy" % name)
    return station.ledger(profile, k, meter)


def offline(document, profile, request):
    """Carry out a command while the application is stopped, in the calibration `document`; returns its record."""
    from gridnode.calibrating.station import Station

    calibration.install(profile, document)
    if request.get("command") == "energy_preset":
        spec = _spec(profile, request.get("meter"))
        phase, value = request.get("phase"), request.get("value")
        if not isinstance(value, dict) or not value:
            raise Refused("invalid", "energy_preset takes import_wh, export_wh or both")
        former = totals(ledger(profile, spec["id"]), spec["id"], phase, value)
        done = record("energy_preset", spec["id"], phase, value, former["import_mwh"])
    else:
        done = change(document, profile, request)
        Station(document, done["meter"])  # what the front end cannot be set to is refused here
    return done
