"""Furnishes a node from what lies on its flash: pipelines from the profile, the link from node.json.

What is unusable is said and left out: the node measures without a link, and links without a meter.
"""

import time

from gridnode import clock, config, documents, rooms
from gridnode.fault import Fault


def furnish(app):
    """Give the application its pipelines, its configuration and its connection."""
    documents.make_dirs()
    documents.recover()
    profile = _document(app, "profile", config.check_profile, "measure", "no measurement")
    if profile:
        app.row_s = profile.get("row_s", app.row_s)
    document = _document(app, "node", config.check_node, "run", "measure without a link")
    problem = document and config.interval_problem(document, app.row_s)
    if problem:
        app.fault("config", "interval", problem, "report every %d s" % app.row_s)
    settings = config.Config(document, app.row_s) if document else None
    rooms.forget()  # the judges go before the permanent rooms come
    if profile:
        _wire(app, profile)
    app.allot(document["thing"] if document else "")
    if settings:
        app.configure(settings)
        _link(app, document["thing"], settings)


def _document(app, name, check, use, without):
    document, problem = config.load("/config/%s.json" % name, check)
    if problem:
        action = use + " with the previous one" if document else without + " until it is provisioned"
        app.fault("config", name, problem, action)
    return document


def _wire(app, profile):
    from gridnode.setup import pipeline

    stored, problem = documents.load(config.CALIBRATION)
    if problem:
        action = "measure with the previous one" if stored else "measure with design values"
        app.fault("calibration", "file", problem, action)
    meters = []
    for spec in profile["meters"]:
        try:
            meters.append(pipeline.load_meter(spec, profile, app.machine, time))
        except (ValueError, KeyError, OSError) as e:
            _refused(app, spec, e)
            meters.append(None)
    flat = pipeline.flat_names(profile, meters)
    for k, spec in enumerate(profile["meters"]):
        for calibrated in (stored, None):
            if meters[k]:
                try:
                    way = pipeline.build(meters[k], spec, profile, calibrated, app.retained, k + 1, flat[k])
                    app.pipelines.append(way)
                    for sentence in getattr(meters[k], "warnings", ()):
                        app.fault("meter " + meters[k].id, "threshold", sentence, "measure without that flag")
                    break
                except (ValueError, KeyError, OSError) as e:
                    _refused(app, spec, e, calibrated)


def _refused(app, spec, error, calibrated=None):
    room = "calibration" if calibrated else "meter"
    action = "measure with design values" if calibrated else "the other meters go on"
    app.fault(room, "refused", "meter %s: %s" % (spec["id"], error), action)


def _link(app, thing, settings):
    try:
        from gridnode import session
        from gridnode.setup import credentials, network

        context = credentials.tls_context(*[_file("/certs/%s.der" % name) for name in ("ca", "cert", "key")])
        interface = network.interface(settings.get("network"))
    except Exception as e:  # noqa: BLE001 - the node measures without a link
        code, message = (e.code, e.message) if isinstance(e, Fault) else ("internal", str(e))
        app.fault("link", code, message, "measure without a link until it is provisioned")
        return
    mqtt, ntp = settings.get("mqtt"), settings.get("clock")
    connection = session.Connection(
        thing,
        mqtt["host"],
        mqtt["port"],
        context,
        interface,
        clock.Sntp(ntp["server"], ntp["port"], ntp["resync_s"]),
        keepalive=mqtt["keepalive_s"],
        will=(app.topic + b"status", b'{"status":"offline"}'),
        size=app.shadow.size + 256,
    )
    app.join(connection)


def _file(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        raise Fault("link", "cert_missing", path + " is missing")
