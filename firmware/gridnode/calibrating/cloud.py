"""desired.calibrate: a step, a field command, a restore or the self-checks, done once per `id`.

There is no room for that beside the link. So the request is kept in flash, the last report tells that the node is
calibrating, the node resets, does the work as a technician would before the application has started, and resets into
the application, which tells the outcome. What a power cut interrupts is told as interrupted and not begun again.
"""

import machine

from gridnode import clock, documents, storage
from gridnode.app import App
from gridnode.calibrating import Refused

_ID = 36
_REASON = 160
_WDT_MS = 600000


def last():
    """What was asked for last, and how it ended: {"id", "state", ..}, or None."""
    return documents.load(App.REQUEST)[0]


def take(app, patch):
    """Judge a patch of desired.calibrate: (True, its echo), with the work still to be done, or (False, why not).

    What is asked for again, and what has already gone, is only echoed.
    """
    former = last()
    if not isinstance(patch, dict):
        return False, "calibrate must be an object"
    name = patch.get("id")
    if name is None and former:  # a delta holds what differs from the echo: the id is the former one's
        return True, {"id": former["id"]}
    if not isinstance(name, str) or not 0 < len(name) <= _ID:
        return False, "calibrate needs an id of 1 to %d characters" % _ID
    if former and former["id"] == name:
        return True, {"id": name}
    if app.calibrating:
        return False, "a step is under way"
    if sum([kind in patch for kind in ("step", "command", "restore")]) != 1:
        return False, "calibrate needs one of step, command and restore"
    return ask(app, patch)


def ask(app, request):
    """Keep a request for the time when the application has ended, and let it end: (True, its echo) or (False, why)."""
    outcome = {"id": request["id"], "state": "running", "step": title(request)}
    try:
        documents.save(App.REQUEST, dict(outcome, version=1, request=request))
    except (storage.StorageError, OSError) as e:
        return False, "the request cannot be kept: %s" % e
    for pipeline in app.pipelines:
        pipeline.calibrating = outcome["step"]
    app.shadow.set("calibration", outcome)
    app.calibrating = app.uptime.ms()
    return True, {"id": request["id"]}


def title(request):
    """What a request is called in reports."""
    return str(request.get("step") or request.get("command") or ("restore" if "restore" in request else ""))[:24]


def resume(app):
    """Tell at start how the last request ended."""
    former = last()
    if not former:
        return
    told = {name: former[name] for name in former if name not in ("version", "told")}
    if not former.get("told"):
        app.tell("calibration", **told)
    for name in ("generation", "reason", "after_percent"):  # a shadow merges: what does not hold is null
        told.setdefault(name)
    if told["after_percent"]:
        for name in ("voltage", "current", "power", "angle", "nonlinearity"):
            told["after_percent"].setdefault(name)
    app.shadow.set("calibrate", {"id": former["id"]})
    app.shadow.set("calibration", told)
    if not former.get("told"):
        _save(dict(former, told=True))


def _end(outcome, state, **more):
    outcome["state"] = state
    outcome.update(more)
    _save(outcome)


def _save(outcome):
    try:
        documents.save(App.REQUEST, outcome)
    except (storage.StorageError, OSError):
        pass  # it is told as interrupted then


def catch_up(app):
    """Do what was asked for before the last reset, if anything, and reset into the application."""
    if (last() or {}).get("state") == "running":
        work()
        app.boot.announce("calibrated")
        machine.reset()


def work():
    """Do what was asked for, the application not yet started; the outcome is kept for `resume`."""
    machine.WDT(timeout=_WDT_MS).feed()
    outcome = last()
    request = outcome.pop("request", None)
    _save(outcome)  # a second time it would be no more there
    try:
        if request is None:
            raise Refused("interrupted", "interrupted by a restart")
        _end(outcome, "done", **_carry_out(request))
    except Refused as e:
        _end(outcome, "refused", reason=e.message[:_REASON])
    except Exception as e:  # noqa: BLE001 - the cloud must hear how it ended
        _end(outcome, "refused", reason=("%s: %s" % (type(e).__name__, e))[:_REASON])


def _carry_out(request):
    from gridnode.calibrating import serial

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
