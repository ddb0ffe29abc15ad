"""Self-checks of the running node: told when they hold twice, applied by themselves where the profile allows it."""

import asyncio
import time
from micropython import const

from gridnode.calibrating.evidence import Evidence

_PATIENCE_MS = const(30000)
_TELL = const(2)  # looks in a row
_APPLY = const(3)
_EVIDENCE = const(120)
_TOLD = const(3)  # suggestions in a report


async def look(app):
    """Look at the primary meter once."""
    found = {}
    pipeline = app.pipelines[0] if app.pipelines else None  # the primary meter
    if pipeline and "power" in pipeline.meter.names:
        volts, amperes, load_only, _, voltages, bias = app.site
        profile = {
            "nominal": {"voltage": volts},
            "rating": {"current": amperes},
            "calibration": {"load_only": load_only},
        }
        spec = {"voltage": [{"bias_mv": bias}] * voltages}
        evidence = Evidence(pipeline.meter, spec, profile, pipeline.correction.trim)
        pipeline.observer = evidence
        began = time.ticks_ms()
        while not evidence.full and time.ticks_diff(time.ticks_ms(), began) < _PATIENCE_MS:
            await asyncio.sleep_ms(200)
        pipeline.observer = None
        for one in evidence.suggestions() if evidence.full else ():
            found[one["meter"], one["check"], one["phase"]] = one
    weigh(app, found)


def weigh(app, found):
    """Compare with the looks before: tell what is new, take back what has gone, ask for what may be applied."""
    before = app.suggestions
    app.suggestions = now = {}
    for key in found:
        now[key] = before.get(key, 0) + 1
    told = sorted([key for key in now if now[key] >= _TELL])
    if told or [key for key in before if before[key] >= _TELL]:
        report = {}
        for key in told[:_TOLD]:
            name = "%s %s L%d" % key if key[2] else "%s %s" % key[:2]
            report[name] = found[key]["evidence"][:_EVIDENCE]
        app.shadow.set("suggestions", report or None)
    for key in told:
        one = found[key]
        if now[key] == _TELL:
            app.tell("suggestion", **one)
        allowed = key[1] in app.site[3].split()
        if now[key] >= _APPLY and one["command"] and allowed and not app.calibrating:
            request = dict(one["command"], meter=one["meter"], source="self", operator="self-check")
            request["id"] = "%s-%d" % (key[1], app.ledger.seq)
            app.calibrate(request)
