"""Furnishes a node from what lies on its flash: pipelines from the profile, the link from node.json.

What is unusable is said and left out: the node measures without a link, and links without a meter.
"""

import time
from binascii import hexlify

from gridnode import clock, config, documents, rooms, shadow, storage
from gridnode.fault import Fault
from gridnode.opening import desired
from gridnode.reading import PHASE

_BASE_BYTES = 1536  # of a report: the node, its configuration, verdict and reasons, the last calibration
_HARMONIC_BYTES = 14  # per order of both spectra


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
    stored = _calibration(app, profile) if profile else None
    rooms.forget()  # the judges go before the permanent rooms come
    if profile:
        _wire(app, profile, stored)
        app.site = _site(profile)
        profile = stored = None
        rooms.forget()
    _allot(app, document["thing"] if document else "")
    if settings:
        if storage.exists(app.REQUEST):
            from gridnode.calibrating import cloud

            cloud.resume(app)
        desired.configure(app, settings)
        _link(app, document["thing"], settings)


def _document(app, name, check, use, without):
    document, problem = config.load("/config/%s.json" % name, check)
    if problem:
        action = use + " with the previous one" if document else without + " until it is provisioned"
        app.fault("config", name, problem, action)
    return document


def _site(profile):
    """What the self-checks need of a profile: see App.site."""
    own = profile.get("calibration", {})
    volts = profile["meters"][0].get("voltage", ({},))
    return (
        profile["nominal"]["voltage"],
        profile["rating"]["current"],
        own.get("load_only", False),
        " ".join(own.get("auto", ())),
        len(volts),
        volts[0].get("bias_mv"),
    )


def _wire(app, profile, stored):
    from gridnode.setup import calibration, pipeline

    try:
        calibration.install(profile, stored)
    except ValueError as e:
        app.fault("calibration", "refused", str(e), "measure with design values")
        stored = None
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
                    warm = calibration.thermometer(meters, k)
                    way = pipeline.build(meters[k], spec, profile, calibrated, app.retained, k + 1, flat[k], warm)
                    app.pipelines.append(way)
                    app.ledger = app.ledger or way.ledger
                    for sentence in getattr(meters[k], "warnings", ()):
                        app.fault("meter " + meters[k].id, "threshold", sentence, "measure without that flag")
                    break
                except (ValueError, KeyError, OSError) as e:
                    _refused(app, spec, e, calibrated)


def _calibration(app, profile):
    from gridnode.setup import judge

    node = hexlify(app.machine.unique_id()).decode()
    stored, problem = documents.load(config.CALIBRATION, lambda d: judge.check(d, node, profile["sku"]))
    if problem:
        action = "measure with the previous one" if stored else "measure with design values"
        app.fault("calibration", "file", problem, action)
    return stored


def _refused(app, spec, error, calibrated=None):
    room = "calibration" if calibrated else "meter"
    action = "measure with design values" if calibrated else "the other meters go on"
    app.fault(room, "refused", "meter %s: %s" % (spec["id"], error), action)


def _allot(app, thing):
    """Make the shadow, its buffer large enough for the report of all meters."""
    size = _BASE_BYTES
    for p in app.pipelines:
        entries = len(p.meter.reading.at)
        size += (80 + _HARMONIC_BYTES * getattr(p.meter, "orders", 0)) * entries  # 80: the energies
        for name in p.row.names:
            size += (len(name) + 12) * (entries if name in PHASE else 1)
    app.shadow = shadow.Shadow(thing, {"config": app.desired, "calibrate": app.calibrate}, size)
    app.topic = b"dt/gridnode/%s/" % thing.encode()


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
        size=256 + sum([len(name) for name in app.shadow.filters]),  # the SUBSCRIBE; reports are lent
    )
    app.connection = connection
    connection.subscriptions = app.shadow.filters
    connection.sync = app.sync
    connection.on_state = app.state
    connection.on_fault = app.link_fault
    connection.session.on_message = app.message
    connection.session.on_ack = app.acked


def _file(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        raise Fault("link", "cert_missing", path + " is missing")
