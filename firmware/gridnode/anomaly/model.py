"""The learnt model as bytes: magic, version, lengths and CRC-32, then JSON of what it belongs to, then arrays.

Numbers are little-endian, as all ports of MicroPython have them.
"""

import binascii
import json
import struct
from array import array

VERSION = 1
_MAGIC = b"GNDM"
_HEAD = "<4sHHII"  # magic, version, length of the JSON, length of all that follows, its CRC
_SIZES = {"i": 4, "h": 2, "B": 1}


def size(detector):
    """Bytes that the arrays of a model take."""
    return sum([_SIZES[code] * len(part) for code, part in _parts(detector)])


def save(detector):
    """The model of a detector."""
    facts = _belongs(detector)
    facts["state"] = detector.state
    facts["reason"] = detector.reason
    facts["rows"] = detector.rows
    facts["frozen_at"] = detector.frozen_at
    facts["limit"] = detector.ensemble.limit
    facts["signals"] = [_learnt(signal) for signal in detector.signals]
    facts["known"] = [bool(cause and cause.relation.known) for cause in detector.causes.of]
    text = json.dumps(facts).encode()
    body = bytearray(text)
    for _, part in _parts(detector):
        body.extend(part)
    return struct.pack(_HEAD, _MAGIC, VERSION, len(text), len(body), binascii.crc32(body)) + body


def load(detector, data):
    """Put a model into a detector; returns "" or why not, and then the detector is as it was."""
    head = struct.calcsize(_HEAD)
    if len(data) < head or data[:4] != _MAGIC:
        return "not a model"
    _, version, text, length, crc = struct.unpack(_HEAD, data[:head])
    if version > VERSION:
        return "the model is of version %d, this firmware reads up to %d" % (version, VERSION)
    if len(data) != head + length:
        return "the model is cut short" if len(data) < head + length else "bytes follow the model"
    if binascii.crc32(data[head:]) != crc:
        return "the model is damaged: its CRC does not match"
    facts = json.loads(data[head : head + text])
    for key, value in _belongs(detector).items():
        if facts.get(key) != value:
            return "the model is of another SKU: its %s differ" % key
    if facts["state"] == "learning":
        return "the model was saved before it had learnt"
    detector.reset()
    for signal, learnt in zip(detector.signals, facts["signals"]):
        if learnt:
            signal.resolve(learnt[0])
            signal.certain.run_limit = learnt[1]
            signal.certain.zeros = learnt[2]
    at = head + text
    for code, part in _parts(detector):
        end = at + _SIZES[code] * len(part)
        values = array(code, data[at:end])
        for k in range(len(part)):
            part[k] = values[k]
        at = end
    for cause, known in zip(detector.causes.of, facts["known"]):
        if known:
            cause.relation.known = True
    detector.training = None
    detector.state = facts["state"]
    detector.reason = facts["reason"]
    detector.rows = facts["rows"]
    detector.frozen_at = facts["frozen_at"]
    detector.ensemble.limit = facts["limit"]
    return ""


def _belongs(detector):
    """What must be equal for a model to fit; limits as integers, which JSON keeps."""
    limits = detector.limits
    ratings = [int((limits.get(key) or 0) * 16) for key in ("rating_a", "v_nominal")]
    return {"names": list(detector.names), "ratings": ratings, "interval": detector.interval_s}


def _learnt(signal):
    """What the rules of a signal have learnt, None where its steps are not known."""
    rules = signal.certain
    return None if rules is None else [signal.per_unit, rules.run_limit, rules.zeros]


def _parts(detector):
    """The arrays of a model with their type codes."""
    parts = []
    for signal in detector.signals:
        series = signal.series
        parts += [("i", series.state), ("h", series.bins), ("B", series.visits), ("h", series.limits)]
    for cause in detector.causes.of:
        if cause:
            parts += [("i", cause.relation.weights), ("i", cause.relation.centers)]
    parts += [("i", detector.causes.means), ("B", detector.ensemble.costs)]
    if detector.electrical:
        parts.append(("i", detector.electrical.learnt))
    return parts
