"""Judges what lies on the flash, and says what the node can be furnished from."""

from binascii import hexlify

from gridnode import config, documents


def read(app):
    """Judge profile, node.json and calibration; what is unusable is said and left out.

    Returns {"profile", "node", "calibration": path of a usable document or None, "hello": the CONNECT or None,
    "thing", "rooms", "link": the modules that the node keeps, those of its link apart, "watch": see `_watch`}.
    """
    documents.make_dirs()
    documents.recover()
    known = {}
    profile = _document(app, known, "profile", config.check_profile, "measure", "no measurement")
    if profile:
        app.row_s = profile.get("row_s", app.row_s)
        app.site = _site(profile)
    known["watch"] = profile and _watch(profile)
    document = _document(app, known, "node", config.check_node, "run", "measure without a link")
    problem = document and config.interval_problem(document, app.row_s)
    if problem:
        app.fault("config", "interval", problem, "report every %d s" % app.row_s)
    stored = _calibration(app, known, profile) if profile else None
    known["rooms"] = _permanent(profile, stored)
    known["phases"] = profile["phases"] if profile else 0
    known["link"] = ["session", "wifi"] if document else []
    known["thing"] = document["thing"] if document else ""
    known["hello"] = _connect_packet(app, document) if document else None
    return known


def _document(app, known, name, check, use, without):
    path = "/config/%s.json" % name
    document, problem = config.load(path, check)
    if problem:
        action = use + " with the previous one" if document else without + " until it is provisioned"
        app.fault("config", name, problem, action)
    known[name] = document and (path + ".prev" if problem else path)
    return document


def _calibration(app, known, profile):
    from gridnode.setup import judge

    node = hexlify(app.machine.unique_id()).decode()
    stored, problem = documents.load(documents.CALIBRATION, lambda d: judge.check(d, node, profile["sku"]))
    if problem:
        action = "measure with the previous one" if stored else "measure with design values"
        app.fault("calibration", "file", problem, action)
    known["calibration"] = stored and (documents.CALIBRATION + ".prev" if problem else documents.CALIBRATION)
    return stored


def _permanent(profile, stored):
    """Modules that the node keeps, for its meters."""
    names = ["shadow"]
    if profile:
        names += ["pipeline", "calibration", "energy", "anomaly.rules"] + (["trim"] if stored else [])
        names += ["meters." + spec["driver"] for spec in profile["meters"]]
    return names


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


def _watch(profile):
    """What the detector needs of a profile: see setup.detection."""
    own = profile.get("detector", {})
    return {
        "sku": profile["sku"],
        "main": profile["meters"][0]["id"],
        "mode": own.get("mode", "frozen"),
        "train_days": own.get("train_days", 4),
        "forest": "forest" in own,
        "limits": profile.get("limits", {}),
    }


def _connect_packet(app, document):
    """Frame the CONNECT while there is room for umqtt."""
    from gridnode.opening import hello
    from gridnode.setup.link import will

    app.topic = b"dt/gridnode/%s/" % document["thing"].encode()
    keepalive = config.Config(document, app.row_s).get("mqtt")["keepalive_s"]
    return hello.packet(document["thing"].encode(), keepalive, will(app))
