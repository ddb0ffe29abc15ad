"""JSON documents in flash: generations, checksums, installation in one step. Loaded on demand (see rooms).

One that the node has written begins with a space and its last key, `crc32`, covers everything before it; one that
the host has sent was verified by its hash and is taken as it is. Saving goes: serialise, parse back, write aside,
keep the old generation, rename.
"""

import json
import os
from micropython import const

from gridnode.storage import StorageError, crc, exists, promote, remove, write

NODE = "/config/node.json"
PROFILE = "/config/profile.json"
CALIBRATION = "/config/calibration.json"

_JOURNAL = const("/config/install.json")
_CRC_KEY = const(b',"crc32":"')


def make_dirs():
    """Make the folders of a new file system."""
    for folder in ("/config", "/certs", "/data", "/log"):
        if not exists(folder):
            os.mkdir(folder)


def encode(document):
    """Document as bytes with its crc32; raises StorageError for what JSON cannot hold (NaN, infinity)."""
    document.pop("crc32", None)
    text = json.dumps(document)
    try:
        json.loads(text)
    except ValueError:
        raise StorageError("not representable as JSON")
    data = bytearray(b" ")  # few copies: the heap of a node at work has little room
    data.extend(text.encode())
    end = len(data) - 1
    data[end:] = _CRC_KEY + b"%08x" % crc(memoryview(data)[:end]) + b'"}'
    return data


def decode(text):
    """Document from its bytes; raises StorageError where they are no JSON object or the crc32 does not match."""
    at = text.rfind(_CRC_KEY)
    if at < 0:
        if text[:1] == b" ":
            raise StorageError("crc32 is missing")
    elif text[at + len(_CRC_KEY) :][:8] != b"%08x" % crc(text[:at]):
        raise StorageError("wrong crc32")
    try:
        document = json.loads(text)
    except (ValueError, UnicodeError):
        raise StorageError("no JSON text")
    if not isinstance(document, dict):
        raise StorageError("no JSON object")
    document.pop("crc32", None)
    return document


def save(path, document):
    """Save a document, keep the former one as `<path>.prev`."""
    data = encode(document)
    aside = path + ".tmp"
    write(aside, data)
    promote(aside, path)


def install(paths):
    """Put `<path>.new` in the place of each path: all of them, even if the power fails in between.

    A journal makes the renames one step; `recover` finishes them at the next start.
    """
    save(_JOURNAL, {"version": 1, "paths": paths})
    recover()


def recover():
    """Finish an installation that a power cut has interrupted."""
    document, _ = load(_JOURNAL)
    for path in document["paths"] if document else ():
        if exists(path + ".new"):
            promote(path + ".new", path)
        if not path.endswith(".json"):
            remove(path + ".prev")  # keys and certificates go together or not at all: no old key stays behind
    remove(_JOURNAL)
    remove(_JOURNAL + ".prev")


def load(path, check=None):
    """Return (document, problem): the current generation, else the previous one; problem is None or a sentence.

    `check` raises ValueError for a document that may not be used. (None, None) when there is no such file at all.
    """
    problem = None
    for name in (path, path + ".prev"):
        try:
            with open(name, "rb") as f:
                document = decode(f.read())
            if check:
                check(document)
            return document, problem
        except OSError:
            continue
        except (StorageError, ValueError) as e:
            problem = problem or "%s: %s" % (name, e)
    return None, problem
