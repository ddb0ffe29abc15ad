"""Furnishes a node's link from node.json. What is unusable is said: the node then measures without one.

In stages as all of `setup.node`: what one needs goes before the next one comes.
"""

from gridnode import clock, rooms, storage
from gridnode.fault import Fault


def furnish(app, known):
    """Give the application its configuration and its connection; known: see papers.read."""
    wanted, mqtt, ntp = _settings(app, known["node"])
    rooms.forget()
    interface = known["context"] and _tried(app, _interface, wanted)
    rooms.forget()
    if not interface:
        return
    from gridnode import session

    connection = session.Connection(
        known["thing"],
        mqtt["host"],
        mqtt["port"],
        known["context"],
        interface,
        clock.Sntp(ntp["server"], ntp["port"], ntp["resync_s"]),
        keepalive=mqtt["keepalive_s"],
        will=will(app),
        size=128 + len(known["hello"]),  # what is longer is lent
    )
    app.connection = connection
    connection.session.opening = True, known["hello"]
    connection.subscriptions = app.shadow.filters
    connection.sync = app.sync
    connection.on_state = app.state
    connection.on_fault = app.link_fault
    connection.session.on_message = app.message
    connection.session.on_ack = app.acked


def context(app):
    """The TLS context, None where it cannot be made; certificates want large blocks, so it comes early."""
    from gridnode.setup import credentials

    def make():
        return credentials.tls_context(*[_file("/certs/%s.der" % name) for name in ("ca", "cert", "key")])

    return _tried(app, make)


def _tried(app, make, *args):
    try:
        return make(*args)
    except Exception as e:  # noqa: BLE001 - the node measures without a link
        code, message = (e.code, e.message) if isinstance(e, Fault) else ("internal", str(e))
        app.fault("link", code, message, "measure without a link until it is provisioned")
        return None


def will(app):
    """Topic and payload of the last will."""
    return app.topic + b"status", b'{"status":"offline"}'


def _settings(app, path):
    """Put the configuration in force; returns its sections for network, MQTT and clock."""
    from gridnode import config, documents
    from gridnode.opening import desired

    if storage.exists(storage.REQUEST):
        _outcome(app, documents)
    settings = config.Config(documents.load(path)[0], app.row_s)
    desired.configure(app, settings)
    return [settings.get(section) for section in ("network", "mqtt", "clock")]


def _outcome(app, documents):
    """Tell how the last request of the cloud's ended. A shadow merges: what does not hold is null."""
    told = documents.load(storage.REQUEST)[0]
    if not told:
        return
    del told["version"]
    new = told.pop("new", False)
    app.last_id = told["id"]
    app.shadow.set("calibrate", {"id": told["id"]})
    if new:
        app.tell("calibration", **told)
        documents.save(storage.REQUEST, dict(told, version=1))
    for name in ("generation", "reason", "after_percent"):
        told.setdefault(name)
    for name in ("voltage", "current", "power", "angle") if told["after_percent"] else ():
        told["after_percent"].setdefault(name)
    app.shadow.set("calibration", told)


def _interface(wanted):
    from gridnode.setup import network

    return network.interface(wanted)


def _file(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        raise Fault("link", "cert_missing", path + " is missing")
