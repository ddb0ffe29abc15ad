"""The learnt model as bytes: magic, version, lengths and CRC-32, then JSON of what it belongs to, then arrays.

Numbers are little-endian, as all ports of MicroPython have them. The CRC is that of all other bytes. What a row leaves
behind is in it as far as the next one needs it, if that comes in time; alarms and runs of equal readings start anew.
"""

import binascii
import json
import math
import struct
from array import array

VERSION = 1
_MAGIC = b"GNDM"
_HEAD = "<4sHHII"  # magic, version, length of the JSON, length of all that follows, its CRC
_CRC_AT = 12
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
    facts["now"] = detector.now
    facts["valid_rows"] = detector.causes.valid_rows
    facts["limit"] = detector.ensemble.limit
    facts["signals"] = [_learnt(signal) for signal in detector.signals]
    facts["known"] = [bool(cause and cause.relation.known) for cause in detector.causes.of]
    text = json.dumps(facts).encode()
    body = bytearray(text)
    for _, part in _parts(detector):
        body.extend(part)
    head = struct.pack(_HEAD, _MAGIC, VERSION, len(text), len(body), 0)[:_CRC_AT]
    return head + struct.pack("<I", binascii.crc32(body, binascii.crc32(head))) + body


def load(detector, data):
    """Put a model into a detector; returns "" or why not, and then the detector is as it was."""
    head = struct.calcsize(_HEAD)
    if len(data) < head or data[:4] != _MAGIC:
        return "not a model"
    _, version, text, length, crc = struct.unpack(_HEAD, data[:head])
    if version != VERSION:
        return "the model is of version %d, this firmware reads %d" % (version, VERSION)
    if len(data) != head + length:
        return "the model is cut short" if len(data) < head + length else "bytes follow the model"
    if binascii.crc32(memoryview(data)[head:], binascii.crc32(data[:_CRC_AT])) != crc:
        return "the model is damaged: its CRC does not match"
    facts = json.loads(data[head : head + text])
    for key, value in _belongs(detector).items():
        if facts.get(key) != value:
            return "the model is of another SKU: its %s differ" % key
    if facts["state"] == "learning":
        return "the model was saved before it had learnt"
    if text + size(detector) != length:
        return "the model is of another make: its parts have other sizes"
    detector.reset()
    for signal, learnt in zip(detector.signals, facts["signals"]):
        if learnt:
            signal.resolve(math.ldexp(1.0, learnt[0]))
            rules = signal.certain
            rules.seen, rules.run_limit, rules.zeros, rules.rate = learnt[1:]
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
    detector.now = facts["now"]
    detector.causes.valid_rows = facts["valid_rows"]
    detector.ensemble.limit = facts["limit"]
    detector.ensemble.weighed = True
    return ""


def _belongs(detector):
    """What must be equal for a model to fit; limits as integers, which JSON keeps."""
    limits = detector.limits
    ratings = [int((limits.get(key) or 0) * 16) for key in ("rating_a", "v_nominal")]
    return {"names": list(detector.names), "ratings": ratings, "interval": detector.interval_s}


def _learnt(signal):
    """Its steps as a power of two and what its rules have learnt, None where the steps are not known."""
    rules = signal.certain
    if rules is None:
        return None
    return [math.frexp(signal.per_unit)[1] - 1, rules.seen, rules.run_limit, rules.zeros, rules.rate]


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
