"""What a technician may ask of the meters while the application is stopped; `service` says it to the host."""

import asyncio
import machine
import time

from gridnode import clock, config, documents, energy, storage
from gridnode.setup import calibration, pipeline

_PATIENCE_MS = 6000  # for a meter that has not measured yet
RESETS = "/log/energy-%s.json"


class Refused(Exception):
    """What was asked for cannot be done; the text says why."""


def _profile():
    profile, problem = config.load(config.PROFILE, config.check_profile)
    if not profile:
        raise Refused(problem)
    return profile


def _entry(profile, name):
    for k, spec in enumerate(profile["meters"]):
        if spec["id"] == name:
            return k, spec
    raise Refused("no meter %r; there are %s" % (name, ", ".join([m["id"] for m in profile["meters"]])))


def _meter(profile, spec):
    """The meter, ready to measure, and its correction."""
    try:
        meter = pipeline.load_meter(spec, profile, machine, time)
        correction = calibration.correction(spec, documents.load(config.CALIBRATION)[0])
        correction.applied = meter.start(correction)
    except (ValueError, KeyError, OSError) as e:
        raise Refused("meter %s: %s" % (spec["id"], e))
    return meter, correction


def names():
    """Ids of the profile's meters."""
    return [spec["id"] for spec in _profile()["meters"]]


def read(name):
    """One reading of a meter: values by entry (totals or flat first, then the phases), what is wrong, its commands."""
    profile = _profile()
    k, spec = _entry(profile, name)
    meter, correction = _meter(profile, spec)
    began = time.ticks_ms()
    while True:
        reading = correction.correct(asyncio.run(meter.block()))
        waited = time.ticks_diff(time.ticks_ms(), began)
        if "stale" not in reading.quality.values() or waited > _PATIENCE_MS:
            break
        time.sleep_ms(300)
    return {
        "meter": name,
        "driver": spec["driver"],
        "values": reading.at,
        "quality": reading.quality,
        "flags": list(reading.flags),
        "problem": meter.problem if reading.quality else "",
        "errors": getattr(meter, "errors", 0),
        "commands": sorted(getattr(meter, "commands", ())) + (["reset_totals"] if meter.counts_energy else []),
    }


def command(name, order, value=None):
    """Carry out one of a meter's commands, or `reset_totals`: the node's own energy totals back to zero."""
    profile = _profile()
    k, spec = _entry(profile, name)
    if order == "reset_totals":
        return _reset_totals(k, spec, pipeline.load_meter(spec, profile, machine, time))
    meter, _ = _meter(profile, spec)
    known = getattr(meter, "commands", ())
    if order not in known:
        raise Refused("meter %s has no command %r; it has %s" % (name, order, ", ".join(sorted(known)) or "none"))
    try:
        asyncio.run(getattr(meter, order)(*(() if value is None else (value,))))
    except Exception as e:  # noqa: BLE001 - a bus error of the driver's own; its text is the reason
        raise Refused("%s: %s" % (order, e))
    return {"meter": name, "command": order}


def _reset_totals(k, spec, meter):
    if not meter.counts_energy:
        raise Refused("meter %s counts no energy" % spec["id"])
    path = energy.path(spec["id"], not k)
    book = energy.Ledger(len(meter.reading.at), 0, storage.Retained(machine.RTC()), k + 1, path)
    book.load()
    record = {
        "version": 1,
        "meter": spec["id"],
        "timestamp": clock.unix_time() if clock.valid() else None,
        "resets": book.resets + 1,
        "import_mwh": [total[0] for total in book.total[::2]],
        "export_mwh": [total[0] for total in book.total[1::2]],
    }
    documents.save(RESETS % spec["id"], record)
    book.reset()
    return record
