"""The learnt model as bytes: magic, version, lengths and CRC-32, then JSON of what it belongs to, then arrays.

One that still learns has its training with it. Numbers are little-endian, as all ports of MicroPython have them. The
CRC is that of all other bytes. What a row leaves behind is there as far as the next one needs it; alarms and runs of
equal readings start anew.
"""

import binascii
import json
import math
import struct
from array import array

VERSION = 3
_MAGIC = b"GNDM"
_HEAD = "<4sHHII"  # magic, version, length of the JSON, length of all that follows, its CRC
_HEAD_BYTES = 16
_CRC_AT = 12
_SIZES = {"i": 4, "h": 2, "H": 2, "B": 1}


def size(detector):
    """Bytes that the arrays of a model take."""
    return _bytes(_parts(detector) + _usual(detector))


def _bytes(parts):
    return sum([_SIZES[code] * len(part) for code, part in parts])


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
    facts["known"] = [bool(cause and cause.known) for cause in detector.causes.of]
    facts["usual"] = bool(detector.electrical)
    parts = _parts(detector)
    if detector.training:
        from gridnode.anomaly import progress

        facts["training"] = progress.facts(detector.training)
        parts += progress.arrays(detector.training)
    text = json.dumps(facts).encode()
    facts = None
    parts += _usual(detector)
    at = _HEAD_BYTES + len(text)
    data = bytearray(at + _bytes(parts))  # once: a heap in use has few pieces of that size
    data[_HEAD_BYTES:at] = text
    for code, part in parts:
        end = at + _SIZES[code] * len(part)
        data[at:end] = bytes(part)
        at = end
    struct.pack_into(_HEAD, data, 0, _MAGIC, VERSION, len(text), at - _HEAD_BYTES, 0)
    struct.pack_into("<I", data, _CRC_AT, _crc(data))
    return data


def _crc(data):
    return binascii.crc32(memoryview(data)[_HEAD_BYTES:], binascii.crc32(memoryview(data)[:_CRC_AT]))


def read(data):
    """(facts, where the arrays begin, "") of a model's bytes, or (None, 0, what is wrong with them)."""
    head = _HEAD_BYTES
    reason = ""
    if len(data) < head or data[:4] != _MAGIC:
        return None, 0, "not a model"
    _, version, text, length, crc = struct.unpack(_HEAD, data[:head])
    if version != VERSION:
        reason = "the model is of version %d, this firmware reads %d" % (version, VERSION)
    elif len(data) != head + length:
        reason = "the model is cut short" if len(data) < head + length else "bytes follow the model"
    elif _crc(data) != crc:
        reason = "the model is damaged: its CRC does not match"
    return (None, 0, reason) if reason else (json.loads(data[head : head + text]), head + text, "")


def load(detector, data):
    """Put a model into a detector; returns "" or why not.

    The detector is as it was then, or, where a training turns out to be of another make, as new.
    """
    facts, at, reason = read(data)
    if reason:
        return reason
    for key, value in _belongs(detector).items():
        if facts.get(key) != value:
            return "the model is of another SKU: its %s differ" % key
    training = facts.get("training")
    if facts["state"] == "learning" and not training:
        return "the model was saved before it had learnt"
    if training and training["of"] != detector.train_rows:
        return "the model learns from %d rows, not from %d" % (training["of"], detector.train_rows)
    usual = facts["usual"]  # the table of faults may have come or gone since
    if not training and not _fit(detector, _parts(detector), usual, len(data) - at):
        return "the model is of another make: its parts have other sizes"
    if detector.rows or detector.training is None:
        detector.reset()
    from gridnode.setup import signals

    for name, signal, learnt in zip(detector.names, detector.signals, facts["signals"]):
        if learnt:
            signals.resolve(signal, math.ldexp(1.0, learnt[0]), name, detector.limits)
            rules = signal.certain
            rules.seen, rules.run_limit, rules.zeros, rules.rate = learnt[1:]
    parts = _parts(detector)
    if training:
        from gridnode.anomaly import progress

        progress.restore(detector.training, training)
        parts += progress.arrays(detector.training)
        if not _fit(detector, parts, usual, len(data) - at):
            detector.reset()
            return "the training is of another make: its parts have other sizes"
    else:
        detector.training = None
    if usual:
        parts += _usual(detector)
    for code, part in parts:
        end = at + _SIZES[code] * len(part)
        values = array(code, data[at:end])
        for k in range(len(part)):
            part[k] = values[k]
        at = end
    for cause, known in zip(detector.causes.of, facts["known"]):
        if known:
            cause.known = True
    detector.state = facts["state"]
    detector.reason = facts["reason"]
    detector.rows = facts["rows"]
    detector.frozen_at = facts["frozen_at"]
    detector.now = facts["now"]
    detector.causes.valid_rows = facts["valid_rows"]
    detector.ensemble.limit = facts["limit"]
    if not training:
        detector.ensemble.weighed = True
    return ""


def _belongs(detector):
    """What must be equal for a model to fit; limits as integers, which JSON keeps."""
    limits = detector.limits
    ratings = [int((limits.get(key) or 0) * 16) for key in ("rating_a", "v_nominal")]
    sku = limits.get("sku")
    return {"SKU": sku, "names": list(detector.names), "ratings": ratings, "interval": detector.interval_s}


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
            parts += [("i", cause.weights), ("i", cause.centers)]
    parts += [("i", detector.causes.means), ("B", detector.ensemble.costs), ("h", detector.ys)]
    return parts


def _fit(detector, parts, usual, length):
    """Whether so many bytes are those of `parts` and of what is usual, as far as it can be told here."""
    if usual and not detector.electrical:
        return True
    return _bytes(parts + (_usual(detector) if usual else [])) == length


def _usual(detector):
    """What the rules of faults have learnt."""
    one = detector.electrical
    return [("i", one.learnt), ("H", one.counts)] if one else []
