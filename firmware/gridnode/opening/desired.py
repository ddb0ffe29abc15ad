"""What desired.config asks for, and what the application takes from its configuration."""

from gridnode import config, documents


def configure(app, settings):
    """Take what is in force from a config.Config, and report the part that desired.config may change."""
    remote = settings.remote()
    app.interval_s = remote["report"]["interval_s"]
    app.shadow.set("config", remote)
    return remote


def take(app, patch):
    """Apply a patch of desired.config: (True, what is in force now) or (False, why it is refused)."""
    settings = config.Config(config.load(documents.NODE, config.check_node)[0], app.row_s)
    reason = settings.apply(patch)
    if reason:
        app.tell("config", accepted=False, reason=reason)
        return False, reason
    remote = configure(app, settings)
    ntp = remote["clock"]
    app.connection.sntp.change(ntp["server"], ntp["port"], ntp["resync_s"])
    app.tell("config", accepted=True)
    return True, remote
