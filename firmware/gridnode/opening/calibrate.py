"""What desired.calibrate asks for: kept in flash until the node has reset, see calibrating.cloud."""

import json

from gridnode import storage


def take(app, patch):
    """Take a request: (True, its echo) or (False, why it is refused). The application then ends by itself."""
    app.shadow.drop("calibrate")  # what stays in desired would be merged with the next request
    name = patch.get("id", app.last_id) if isinstance(patch, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= 36:
        return False, "calibrate needs an id of 1 to 36 characters"
    if name == app.last_id:  # done once; a delta lacks the id that is reported already
        return True, {"id": name}
    if app.calibrating:
        return False, "%s is under way" % app.last_id
    try:
        storage.write(storage.REQUEST + ".new", json.dumps(patch).encode())
    except storage.StorageError as e:
        return False, str(e)
    app.calibrating = app.uptime.ms()
    app.last_id = name
    step = str(patch.get("step") or patch.get("command") or "restore")[:24]
    for pipeline in app.pipelines:
        pipeline.calibrating = step
    app.shadow.set("calibration", {"id": name, "state": "running", "step": step})
    return True, {"id": name}
