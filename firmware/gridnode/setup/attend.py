"""What a technician may ask of the meters while the application is stopped; `service` says it to the host."""

import asyncio
import machine
import time
from micropython import const

from gridnode.calibrating import Refused, field
from gridnode.calibrating.station import Station, place, profile
from gridnode.calibrating.store import Store

_PATIENCE_MS = const(6000)  # for a meter that has not measured yet


def _station(name):
    document = profile()
    return Station(Store(machine, document["sku"]).load(), name)


def names():
    """Ids of the profile's meters."""
    return [spec["id"] for spec in profile()["meters"]]


def read(name):
    """One reading of a meter: values by entry (totals or flat first, then the phases), what is wrong, its commands."""
    station = _station(name)
    meter = station.meter
    began = time.ticks_ms()
    while True:
        reading = station.correction.correct(asyncio.run(meter.block()))
        waited = time.ticks_diff(time.ticks_ms(), began)
        if "stale" not in reading.quality.values() or waited > _PATIENCE_MS:
            break
        time.sleep_ms(300)
    return {
        "meter": name,
        "driver": station.spec["driver"],
        "values": reading.at,
        "quality": reading.quality,
        "flags": list(reading.flags),
        "problem": meter.problem if reading.quality else "",
        "errors": getattr(meter, "errors", 0),
        "commands": sorted(getattr(meter, "commands", ())) + (["reset_totals"] if meter.counts_energy else []),
    }


def command(name, order, value=None):
    """Carry out one of a meter's commands, or `reset_totals`: the node's own energy totals back to zero."""
    if order == "reset_totals":
        document = profile()
        place(document, name)
        return field.totals(field.ledger(document, name), name)
    station = _station(name)
    known = getattr(station.meter, "commands", ())
    if order not in known:
        told = ", ".join(sorted(known)) or "none"
        raise Refused("meter", "meter %s has no command %r; it has %s" % (name, order, told))
    try:
        asyncio.run(getattr(station.meter, order)(*(() if value is None else (value,))))
    except Exception as e:  # noqa: BLE001 - a bus error of the driver's own; its text is the reason
        raise Refused("meter", "%s: %s" % (order, e))
    return {"meter": name, "command": order}
