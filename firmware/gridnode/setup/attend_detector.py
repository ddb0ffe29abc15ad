"""What a technician may ask of the detector while the application is stopped; `service` says it to the host.

The model that lies in flash is changed; the application takes it up when it starts again.
"""

from gridnode import storage
from gridnode.calibrating import Refused
from gridnode.setup import detection as making

making.load()

from gridnode import detection  # noqa: E402 - after what it imports
from gridnode.anomaly import model  # noqa: E402


def handle(action, signal):
    """Status of the model after an action of `Detector.command`; raises Refused."""
    try:
        with open(detection.MODEL, "rb") as f:
            data = f.read()
    except OSError:
        raise Refused("detector", "there is no model: the detector is off or has not learnt a row")
    facts, _, problem = model.read(data)
    if problem:
        if action != "reset":
            raise Refused("detector", problem)
        facts = {"rows": 0}
    if action == "status":
        return _status(facts)
    if action == "reset":
        storage.remove(detection.MODEL)
        return {"state": "learning", "reason": None, "rows": 0, "frozen_at": None}
    detector = _detector(facts, data)
    problem = detector.command("accept %s" % signal if action == "accept" else action)
    if problem and detector.state == facts["state"]:
        raise Refused("detector", problem)
    storage.write(detection.MODEL, detector.save())
    if problem:
        raise Refused("detector", problem)
    return _status(_facts(detector))


def _detector(facts, data):
    limits = {"sku": facts["SKU"], "interval_s": facts["interval"]}
    limits["rating_a"], limits["v_nominal"] = [x / 16 for x in facts["ratings"]]
    if "training" in facts:
        limits["train_rows"] = facts["training"]["of"]
    detector = making.make(facts["names"], limits)
    problem = detector.load(data)
    if problem:
        raise Refused("detector", problem)
    return detector


def _status(facts):
    return {
        "state": facts["state"],
        "reason": facts["reason"] or None,
        "rows": facts["rows"],
        "frozen_at": facts["frozen_at"] or None,
        "signals": facts["names"],
    }


def _facts(detector):
    """The same of a detector as of a file."""
    return {name: getattr(detector, name) for name in ("state", "reason", "rows", "frozen_at", "names")}
