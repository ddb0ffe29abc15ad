"""The state of the detector, and what desired.detector asks for: done once per id, the answer in reported.detector."""

import gc

from gridnode import storage


def take(app, patch):
    """Carry out a command: (True, what is reported) or (False, why it is refused)."""
    app.shadow.drop("detector")  # what stays in desired would be merged with the next command
    watch = app.detection
    if not watch:
        name = patch.get("id") if isinstance(patch, dict) else None
        return False, "%s: this node has no detector at work" % (name or "detector")
    from gridnode.detection import LAST

    name = patch.get("id", watch.id) if isinstance(patch, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= 36:
        return False, "detector needs an id of 1 to 36 characters"
    if name == watch.id:  # done once; a delta lacks the id that is reported already
        return True, status(watch)
    watch.id = name
    action = str(patch.get("action", ""))
    if action == "accept":
        action = "accept %s" % patch.get("signal", "")
    try:
        storage.write(LAST, name.encode())
    except storage.StorageError as e:
        watch.result = str(e)
        return True, status(watch)
    watch.result = _command(watch.detector, action) or "done"
    watch.turned(app)
    return True, status(watch)


def _command(detector, action):
    from gridnode.detection import MODEL

    gc.collect()
    if action == "reset":
        storage.remove(MODEL)
    return detector.command(action)


def status(watch):
    """What is reported as `detector`."""
    from gridnode.anomaly.detector import GUARDED

    detector = watch.detector
    return {
        "id": watch.id,
        "state": detector.state,
        "reason": detector.reason or None,
        "rows": detector.rows,
        "frozen_at": detector.frozen_at or None,
        "budget": detector.budget() if detector.state == GUARDED else None,
        "result": watch.result,
    }
