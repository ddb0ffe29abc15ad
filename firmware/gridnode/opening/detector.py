"""What desired.detector asks for: done once per id, the answer in reported.detector."""

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
        return True, watch.status()
    watch.id = name
    action = str(patch.get("action", ""))
    if action == "accept":
        action = "accept %s" % patch.get("signal", "")
    try:
        storage.write(LAST, name.encode())
    except storage.StorageError as e:
        watch.result = str(e)
        return True, watch.status()
    watch.result = watch.command(app, action) or "done"
    watch.turned(app)
    return True, watch.status()
