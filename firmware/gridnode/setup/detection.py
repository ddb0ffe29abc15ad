"""Makes the detector of a node, where there is room for it: its signals, their limits, the faults that it names."""

import gc
import os
import sys
from micropython import const

from gridnode import storage
from gridnode.setup import rules

# The innermost first: imports in imports want more stack than a chip has.
NAMES = const(("scale", "certain", "statistics", "causes", "lessons", "ensemble", "training", "signal", "detector"))
NAMING = const(("electrical", "fuzzy"))
# Bytes that it takes of a 32-bit heap; of a 64-bit one half as much again.
_CODE = const(25500)  # with its names, where it is not in flash with the rest of the image
_CODE_NAMING = const(5000)  # the same of what names faults
_BASE = const(3500)
_SIGNAL = const(1500)  # while it learns
_FAULTS = const(2800)
_FOREST = const(14000)  # its file, its modules, and what it sees
# What has to stay free for what comes and goes: connecting again, a new configuration.
_KEPT = const(14000)
_KEPT_64 = const(28000)
# Of a report: what is told of the detector and its faults, and of each signal.
_REPORT = const(512)
_TOLD = const(56)
_DAY_S = const(86400)

_MEASURED = (("v", "voltage"), ("i", "current"), ("p", "power"))


def furnish(app, watch):
    """Give the application its detection, or the reason why there is none; watch: see papers._watch."""
    if watch["mode"] == "off":
        app.shadow.set("detector", _off("the profile has it off"))
        return
    sources = signals(app.pipelines, watch["main"])
    if not sources:
        app.shadow.set("detector", _off("nothing is measured that it could judge"))
        return
    gc.collect()
    free, wanted = gc.mem_free(), needed(len(sources), storage.exists(storage.FAULTS), watch["forest"])
    if free < wanted:
        reason = "it needs %d KB of memory, %d KB are free" % (wanted + 1023 >> 10, free >> 10)
        app.shadow.set("detector", _off(reason))
        return
    try:
        app.detection = _make(app, watch, sources)
    except MemoryError:
        app.undetected("no room in memory", "no_room")


def _off(reason):
    return {"state": "off", "reason": reason, "rows": None, "frozen_at": None, "budget": None, "result": None}


def needed(count, faults, forest=False):
    """Bytes of heap that must be free for a detector of `count` signals; what is frozen in the image needs none."""
    frozen = not getattr(sys.modules["gridnode.app"], "__file__", "/").startswith("/")
    total = _BASE + _SIGNAL * count + (_FAULTS if faults else 0) + (_FOREST if forest else 0)
    if not frozen:
        total += _CODE + (_CODE_NAMING if faults else 0)
    return total + (total >> 1) + _KEPT_64 if sys.maxsize >> 32 else total + _KEPT


def signals(pipelines, main):
    """[(name, (pipeline, entry of `Reading.at`, name of the value))] of what there is to judge.

    Those of the primary meter, then what stands flat, then thermometers that do not: they sit on parts, as joints.
    """
    found = []
    for pipeline in pipelines:
        meter = pipeline.meter
        if meter.id != main:
            continue
        for k in meter.reading.each():
            for short, name in _MEASURED:
                if name in meter.names:
                    found.append((short + str(k) if k else name, (pipeline, k, name)))
        if "neutral_current" in meter.names:
            found.append(("i_n", (pipeline, 0, "neutral_current")))
    for name in ("temperature", "humidity", "cover"):
        for pipeline in pipelines:
            if name in (pipeline.flat or ()):
                found.append((name, (pipeline, 0, name)))
    for pipeline in pipelines:
        meter = pipeline.meter
        if not pipeline.flat and tuple(meter.names) == ("temperature",):
            found.append(("t_" + meter.id, (pipeline, 0, "temperature")))
    return found


def limits(watch, site, row_s, phases):
    """What a Detector is told of its SKU; a range with one end gets a far one for the other."""
    ranges = {}
    for key in watch["limits"]:
        name, entries = rules.find(key, phases)
        low, high = watch["limits"][key].get("low"), watch["limits"][key].get("high")
        if low is None:
            low = 0 if name in ("voltage", "current") else -abs(high or 0)
        for k in entries:
            ranges[rules.signal(k, name)] = [low, abs(low) * 4 if high is None else high]
    return {
        "sku": watch["sku"],
        "interval_s": row_s,
        "train_rows": max(1, round(watch["train_days"] * _DAY_S / row_s)),
        "v_nominal": site[0],
        "rating_a": site[1],
        "nominal": ranges,
    }


def load():
    """Import what a detector needs."""
    for name in rooms():
        __import__("gridnode." + name)
    gc.collect()


def rooms():
    """Names of what a detector needs, the innermost first; what names faults, where there is a table of them."""
    found = NAMES + (NAMING if storage.exists(storage.FAULTS) else ())
    return ["anomaly." + name for name in found] + ["detection"]


def _make(app, watch, sources):
    app.shadow.grow(_REPORT + _TOLD * len(sources))  # later no piece of the heap is that large
    load()
    from gridnode import detection

    told = limits(watch, app.site, app.row_s, sources[0][1][0].meter.phases)
    detector = make([name for name, _ in sources], told, app)
    detection.forget(detector)
    if watch["forest"]:
        plant(detector, app)
    found = detection.Detection(detector, [source for _, source in sources], watch["mode"] == "guarded")
    found.id = last()
    problem = stored(detector)
    if problem:
        app.fault("detector", "model", problem, "learn anew")
        app.tell("detector", state=detector.state, reason=problem)
        storage.remove(detection.MODEL)
        found.result = problem
    found.began(app)
    return found


def make(names, told, app=None):
    """A detector; without the faults where their table is of no use."""
    from gridnode.anomaly.detector import Detector
    from gridnode.detection import Table

    if storage.exists(storage.FAULTS):
        told["faults"] = Table(storage.FAULTS)
        try:
            return Detector(names, told)
        except (ValueError, OSError) as e:
            del told["faults"]
            if app:
                app.fault("detector", "faults", "%s: %s" % (storage.FAULTS, e), "judge without naming faults")
    return Detector(names, told)


def plant(detector, app):
    """Attach the forest that lies in flash; one that is missing or of no use is told."""
    try:
        with open(storage.FOREST, "rb") as f:
            reason = detector.attach(f.read())
    except OSError as e:
        reason = str(e)
    if reason:
        app.fault("detector", "forest", "%s: %s" % (storage.FOREST, reason), "judge without it")


def stored(detector):
    """Take the model that lies in flash, if any; "" or why it is of no use."""
    from gridnode.detection import MODEL

    try:
        data = bytearray(os.stat(MODEL)[6])  # once: a read of unknown length wants twice as much
        with open(MODEL, "rb") as f:
            f.readinto(data)
    except OSError:
        return ""
    try:
        return detector.load(data)
    except (ValueError, KeyError, TypeError, IndexError) as e:
        detector.reset()
        return "the model cannot be read: %s" % e


def last():
    """Id of the last command from the cloud."""
    from gridnode.detection import LAST

    try:
        with open(LAST) as f:
            return f.read()
    except OSError:
        return None
