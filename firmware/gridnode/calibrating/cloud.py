"""desired.calibrate: a step, a field command, a restore or the self-checks, done once per `id`.

There is no room for that beside the link. So the request is kept in flash, the last report tells that the node is
calibrating, the node resets, does the work as a technician would before the application has started, and resets into
the application, which tells the outcome. What a power cut interrupts is told as interrupted and not begun again.
"""

import json
import machine
import os

from gridnode import clock, documents, health, storage
from gridnode.calibrating import Refused, load

_REASON = 160
_WDT_MS = 600000


def _end(outcome, state, **more):
    outcome["state"] = state
    outcome["new"] = True  # to the cloud
    outcome.update(more)
    try:
        documents.save(storage.REQUEST, outcome)
    except (storage.StorageError, OSError):
        pass  # a full flash: the cloud sees by its absence that nothing was done


def catch_up():
    """Do what was asked for before the last reset, if it was not begun already, and reset into the application."""
    new, begun = storage.REQUEST + ".new", storage.REQUEST + ".run"
    interrupted = storage.exists(begun)
    try:
        with open(begun if interrupted else new, "rb") as f:
            request = json.loads(f.read())
        outcome = {"version": 1, "id": request["id"], "step": _title(request)}
    except (OSError, ValueError, KeyError, TypeError):
        storage.remove(new)
        storage.remove(begun)
        return
    machine.WDT(timeout=_WDT_MS).feed()
    try:
        if interrupted:
            raise Refused("interrupted", "interrupted by a restart")
        os.rename(new, begun)  # so that it is not begun a second time
        _end(outcome, "done", **_carry_out(request))
    except Refused as e:
        _end(outcome, "refused", reason=e.message[:_REASON])
    except Exception as e:  # noqa: BLE001 - the cloud must hear how it ended
        _end(outcome, "refused", reason=("%s: %s" % (type(e).__name__, e))[:_REASON])
    storage.remove(new)
    storage.remove(begun)
    retained = storage.Retained(machine.RTC())
    record = retained.read(health.RECORD)
    health.announce(retained, record[0] if record else 0, "calibrated")
    machine.reset()


def _title(request):
    return str(request.get("step") or request.get("command") or ("restore" if "restore" in request else ""))[:24]


def _carry_out(request):
    load()
    from gridnode.calibrating import serial

    if sum([kind in request for kind in ("step", "command", "restore")]) != 1:
        raise Refused("invalid", "calibrate needs one of step, command and restore")
    names = {
        "operator": request.get("operator", "cloud"),
        "date": clock.unix_time() if clock.valid() else None,
        "source": request.get("source", "cloud"),
    }
    if "restore" in request:
        return {"generation": serial.handle("restore", {"to": request["restore"]})["generation"]}
    if "command" in request:
        return {"generation": serial.handle("set", dict(request, **names))["generation"]}
    if request.get("step") == "check":
        found = serial.handle("check", {})["suggestions"]
        return {"reason": "; ".join(["%s: %s" % (s["check"], s["evidence"]) for s in found])[:_REASON] or None}
    serial.open_session(names)
    try:
        serial.handle("measure", request)
        records = serial.handle("apply", request)["records"]
        if request["step"] == "verify":
            serial.handle("abandon", {})
            return {"after_percent": records[0]["after_percent"]}
        number = serial.handle("commit", {})["generation"]
        return {"generation": number, "after_percent": records[0]["after_percent"]}
    except Refused:
        serial.handle("abandon", {})
        raise
