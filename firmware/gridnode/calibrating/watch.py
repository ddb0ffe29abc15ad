"""Self-checks of the running node: told when they hold twice, applied by themselves where the profile allows it.

What the node has changed once by itself it only suggests from then on: a place that it takes for wrongly wired again
is one that the profile does not describe.
"""

from gridnode import config, documents
from gridnode.calibrating import Refused, checks, cloud, store

_TELL = 2  # looks in a row
_APPLY = 3
_EVIDENCE = 120
_TOLD = 3  # suggestions in a report


async def look(app):
    """Look at every meter once; a look that the memory does not allow is left out."""
    try:
        await _look(app)
    except (MemoryError, Refused):
        pass


async def _look(app):
    document = None
    found = {}
    for pipeline in app.pipelines:
        if "power" not in pipeline.meter.names or pipeline.observer or app.calibrating:
            continue
        profile = documents.load(config.PROFILE)[0]
        document = store.Store(app.machine, profile["sku"]).current()
        profile, spec = cloud.place(document, pipeline.meter.id)
        evidence = checks.Evidence(pipeline.meter, spec, profile)
        await cloud.watch(pipeline, evidence)
        for one in evidence.suggestions():
            found[one["meter"], one["check"], one["phase"]] = one, profile
    _weigh(app, found)


def _weigh(app, found):
    before = app.suggestions
    app.suggestions = now = {}
    for key in found:
        now[key] = before.get(key, 0) + 1
    told = [key for key in now if now[key] >= _TELL]
    if told or [key for key in before if before[key] >= _TELL]:
        report = {}
        for key in sorted(told)[:_TOLD]:
            report["%s %s L%d" % key if key[2] else "%s %s" % key[:2]] = found[key][0]["evidence"][:_EVIDENCE]
        app.shadow.set("suggestions", report or None)
    for key in told:
        one, profile = found[key]
        if now[key] == _TELL:
            app.tell("suggestion", **one)
        if now[key] >= _APPLY and one["command"] and key[1] in profile.get("calibration", {}).get("auto", ()):
            _apply(app, one, profile)
            return  # its effect is looked at before the next one


def _apply(app, one, profile):
    shelf = store.Store(app.machine, profile["sku"])
    request = dict(one["command"], meter=one["meter"], source="self", operator="self-check")
    done = request["command"], one["meter"], request.get("phase") or 0
    first = 0
    while True:
        records = shelf.records(first, 4)
        if not records:
            break
        first += 4
        for record in records:
            if (record["step"], record["meter"], record["phase"]) == done and record["source"] == "self":
                return
    try:
        generation = cloud.command(app, request, shelf)["generation"]
        app.tell("calibration", step=request["command"], state="done", generation=generation, reason=one["evidence"])
    except (Refused, ValueError) as e:
        app.fault("calibration", "self", "%s: %s" % (request["command"], e), "leave it as it is")
