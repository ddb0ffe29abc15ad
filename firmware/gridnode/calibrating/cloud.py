"""desired.calibrate: a step, a field command or a restore on the running node, done once per `id`.

The readings that go their way are watched; for the proof a meter with the new values takes the place of the old one.
The outcome is kept in flash, so that what was begun before a power cut is told as interrupted and not begun again.
"""

import asyncio
import gc
import time

from gridnode import clock, config, documents, storage
from gridnode.calibrating import Refused

PATH = "/data/calibrate.json"
_PATIENCE_MS = 60000
_POLL_MS = 100
_ID = 36
_REASON = 160


def last():
    """What was asked for last, and how it ended: {"id", "state", ..}, or None."""
    return documents.load(PATH)[0]


def take(app, patch):
    """Judge a patch of desired.calibrate: (True, its echo) and begin the work, or (False, why not).

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
    app.calibrating = True
    app.background(_work(app, patch))
    return True, {"id": name}


def resume(app):
    """Report at start how the last request ended."""
    former = last()
    if former:
        if former["state"] == "running":
            former.update({"state": "refused", "reason": "interrupted by a restart"})
            _keep(app, former)
        app.shadow.set("calibrate", {"id": former["id"]})
        app.shadow.set("calibration", _told(former))


def _told(outcome):
    return {name: outcome[name] for name in outcome if name != "version"}


def _keep(app, outcome):
    outcome["version"] = 1
    try:
        documents.save(PATH, outcome)
    except (storage.StorageError, OSError) as e:
        app.fault("calibration", "flash", str(e), "go on")


async def _work(app, patch):
    outcome = {"id": patch["id"], "state": "running", "step": _title(patch)}
    try:
        _keep(app, outcome)
        app.shadow.set("calibration", _told(outcome))
        gc.collect()
        outcome.update(await _carry_out(app, patch))
        outcome["state"] = "done"
    except Refused as e:
        outcome.update({"state": "refused", "reason": e.message[:_REASON]})
    except MemoryError:
        outcome.update({"state": "refused", "reason": "not enough memory beside the running application"})
    except Exception as e:  # noqa: BLE001 - the cloud must hear how it ended
        outcome.update({"state": "refused", "reason": ("%s: %s" % (type(e).__name__, e))[:_REASON]})
    finally:
        app.calibrating = False
    _keep(app, outcome)
    app.shadow.set("calibration", _told(outcome))
    app.tell("calibration", **_told(outcome))


def _title(patch):
    return str(patch.get("step") or patch.get("command") or ("restore" if "restore" in patch else None))[:24]


async def _carry_out(app, patch):
    from gridnode.calibrating import store

    shelf = store.Store(app.machine, documents.load(config.PROFILE)[0]["sku"])
    if "step" in patch:
        return await _step(app, patch, shelf)
    if "restore" in patch:
        document = shelf.restore(patch["restore"])
        for pipeline in app.pipelines:
            exchange(app, pipeline, document)
        return {"generation": document["generation"]}
    return command(app, patch, shelf)


def _find(app, name):
    for pipeline in app.pipelines:
        if name is None or pipeline.meter.id == name:
            return pipeline
    raise Refused("meter", "no meter %r" % name)


async def _step(app, patch, shelf):
    from gridnode.setup import calibration

    step, pipeline = patch["step"], _find(app, patch.get("meter"))
    document = shelf.current()
    profile, spec = place(document, pipeline.meter.id)
    warm = calibration.thermometer([p.meter for p in app.pipelines], app.pipelines.index(pipeline))
    from gridnode.calibrating import procedure

    kind = procedure.Procedure
    if step == "linearity":
        from gridnode.calibrating import linearity

        kind = linearity.Linearity
    found = kind(step, pipeline.meter, spec, profile, warm)
    pipeline.calibrating = step
    quiet = step == "offset" and hasattr(pipeline.meter, "deadband")
    changed = False
    try:
        if quiet:
            pipeline.meter.deadband = 0
        await watch(pipeline, found.windows)
        found.examine()
        name = pipeline.meter.id
        entry = document["meters"].get(name, {})
        document["meters"][name] = found.compute(entry, patch.get("reference") or {}, patch.get("phase"))
        if step != "verify":
            found.meter = None
            changed = True
            exchange(app, pipeline, document)
            if quiet:
                pipeline.meter.deadband = 0
            await watch(pipeline, found.retry(pipeline.meter))
        records = found.prove(patch.get("uncertainty_percent"))
        _sign(records, patch)
        if step != "verify":
            for record in records:
                record["applied"] = calibration.applied_by(pipeline.meter, pipeline.correction)
            document["operator"], document["date"] = "cloud", records[0]["date"]
            result = {"generation": shelf.commit(document, records)}
        else:
            result = {"generation": document["generation"]}
        changed = False
        result["after_percent"] = records[0]["after_percent"]
        return result
    finally:
        if changed:
            exchange(app, pipeline, shelf.current())  # the old values stay
        if quiet:
            pipeline.meter.deadband = type(pipeline.meter).deadband
        pipeline.observer = pipeline.calibrating = None


def _sign(records, patch):
    for record in records:
        record["source"] = patch.get("source", "cloud")
        record["operator"] = str(patch.get("operator", "cloud"))[:40]
        record["date"] = clock.unix_time() if clock.valid() else None
        record["instrument"] = str(patch.get("instrument", ""))[:60]


def place(document, name):
    """The installed profile and a meter's entry in it."""
    from gridnode.setup import calibration

    profile = documents.load(config.PROFILE)[0]
    calibration.install(profile, document)
    for spec in profile["meters"]:
        if spec["id"] == name:
            return profile, spec
    raise Refused("meter", "no meter %r" % name)


async def watch(pipeline, windows):
    pipeline.observer = windows
    began = time.ticks_ms()
    while not windows.full:
        if time.ticks_diff(time.ticks_ms(), began) > _PATIENCE_MS:
            raise Refused("meter", "no end of the measurement: %s" % pipeline.meter.problem)
        await asyncio.sleep_ms(_POLL_MS)
    pipeline.observer = None


def exchange(app, pipeline, document):
    """Let a meter with another calibration take the place of a pipeline's; its totals and windows stay.

    Raises ValueError for what the front end cannot be set to: then the old one stays.
    """
    from gridnode.setup import calibration
    from gridnode.setup.pipeline import load_meter

    former = pipeline.meter
    profile, spec = place(document, former.id)
    meter = load_meter(spec, profile, app.machine, time)
    meters = [meter if p is pipeline else p.meter for p in app.pipelines]
    warm = calibration.thermometer(meters, app.pipelines.index(pipeline))
    pipeline.correction = calibration.put(meter, spec, document, warm)
    pipeline.meter = meter
    for other in app.pipelines:
        trim = other.correction.trim
        if trim and trim.thermometer is former.reading:
            trim.thermometer = meter.reading
    gc.collect()


def command(app, patch, shelf):
    from gridnode.calibrating import field

    document = shelf.current()
    pipeline = _find(app, patch.get("meter"))
    if patch.get("command") == "energy_preset":
        value = patch.get("value")
        if not pipeline.meter.counts_energy or not isinstance(value, dict) or not value:
            raise Refused("invalid", "energy_preset takes import_wh, export_wh or both, of a meter that counts")
        former = field.totals(pipeline.ledger, pipeline.meter.id, patch.get("phase"), value)
        record = field.record("energy_preset", pipeline.meter.id, patch.get("phase"), value, former["import_mwh"])
    else:
        profile, _ = place(document, pipeline.meter.id)
        record = field.change(document, profile, patch)
        if record["step"] == "nominal":
            chosen = app.pipelines
        else:
            chosen = [pipeline]
        for one in chosen:
            exchange(app, one, document)
    _sign([record], patch)
    return {"generation": shelf.commit(document, [record])}

