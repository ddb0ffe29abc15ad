"""desired.calibrate: a step, a field command, a restore or the self-checks, done once per `id`.

There is no room for that beside the link. So the request is kept in flash, the last report tells that the node is
calibrating, the node resets, does the work as a technician would before the application has started, and resets into
the application, which tells the outcome. What a power cut interrupts is told as interrupted and not begun again.
"""

import json
import machine
import os
from micropython import const

from gridnode import clock, documents, health, rooms, storage
from gridnode.calibrating import Refused, load

_REASON = const(160)
_WDT_MS = const(600000)


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
        outcome.update(_carry_out(request))
        outcome["state"] = "done"
    except Refused as e:
        _refused(outcome, e.message)
    except Exception as e:  # noqa: BLE001 - the cloud must hear how it ended
        _refused(outcome, "%s: %s" % (type(e).__name__, e))
    rooms.forget()  # what is left to do must find room
    outcome["new"] = True  # to the cloud
    try:
        documents.save(storage.REQUEST, outcome)
    except (storage.StorageError, OSError) as e:
        health.say("fault", room="calibration", code="flash", message=str(e), action="leave the outcome untold")
    storage.remove(new)
    storage.remove(begun)
    from gridnode.setup import boot

    boot.reset("calibrated")


def _refused(outcome, reason):
    outcome["state"] = "refused"
    outcome["reason"] = reason[:_REASON]


def _title(request):
    return str(request.get("step") or request.get("command") or ("restore" if "restore" in request else ""))[:24]


def _carry_out(request):
    load()
    from gridnode.calibrating import steps

    if sum([kind in request for kind in ("step", "command", "restore")]) != 1:
        raise Refused("invalid", "calibrate needs one of step, command and restore")
    names = {
        "operator": request.get("operator", "cloud"),
        "date": clock.unix_time() if clock.valid() else None,
        "source": request.get("source", "cloud"),
    }
    if "restore" in request:
        return {"generation": steps.restore({"to": request["restore"]})["generation"]}
    if "command" in request:
        return {"generation": steps.put(dict(request, **names))["generation"]}
    if request.get("step") == "check":
        found = steps.check({})["suggestions"]
        return {"reason": "; ".join(["%s: %s" % (s["check"], s["evidence"]) for s in found])[:_REASON] or None}
    steps.open_session(names)
    try:
        steps.measure(request)
        records = steps.apply(request)["records"]
        if request["step"] == "verify":
            steps.abandon({})
            return {"after_percent": records[0]["after_percent"]}
        return {"generation": steps.commit({})["generation"], "after_percent": records[0]["after_percent"]}
    except Refused:
        steps.abandon({})
        raise
