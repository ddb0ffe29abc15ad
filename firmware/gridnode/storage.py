"""Files that survive a power cut at any byte, and records in RTC memory that survive a reset.

A document is JSON text. One that the node has written begins with a space and its last key, `crc32`, covers
everything before it; one that the host has sent was verified by its hash and is taken as it is. Saving goes:
serialise, parse back, write aside, keep the old generation, rename.
"""

import binascii
import json
import os
import struct

_JOURNAL = "/config/install.json"
_CRC_KEY = b',"crc32":"'


class StorageError(Exception):
    """A file cannot be read or written; the text says which and why."""


def exists(path):
    """Whether the file is there."""
    try:
        os.stat(path)
        return True
    except OSError:
        return False


def remove(path):
    """Remove a file if it is there."""
    try:
        os.remove(path)
    except OSError:
        pass


def make_dirs():
    """Make the folders of a new file system."""
    for folder in ("/config", "/certs", "/data", "/log"):
        if not exists(folder):
            os.mkdir(folder)


def crc(data, start=0):
    """CRC-32 as an unsigned number."""
    return binascii.crc32(data, start) & 0xFFFFFFFF


def write(path, data):
    """Replace a file's content in one step: old or new after a power cut, never a mixture."""
    aside = path + ".tmp"
    try:
        with open(aside, "wb") as f:
            f.write(data)
        os.rename(aside, path)
    except OSError as e:
        remove(aside)
        raise StorageError("cannot write %s: %s" % (path, e))


def encode(document):
    """Document as bytes with its crc32; raises StorageError for what JSON cannot hold (NaN, infinity)."""
    document.pop("crc32", None)
    text = json.dumps(document).encode()
    try:
        json.loads(text)
    except ValueError:
        raise StorageError("not representable as JSON")
    body = b" " + text[:-1]
    return body + _CRC_KEY + b"%08x" % crc(body) + b'"}'


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


def promote(aside, path):
    """Put a finished file in the place of `path`; the former one stays as `<path>.prev`."""
    if exists(path):
        os.rename(path, path + ".prev")
    os.rename(aside, path)


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
    remove(_JOURNAL)
    remove(_JOURNAL + ".prev")


def load(path):
    """Return (document, problem): the current generation, else the previous one; problem is None or a sentence.

    (None, None) when there is no such file at all.
    """
    problem = None
    for name in (path, path + ".prev"):
        try:
            with open(name, "rb") as f:
                return decode(f.read()), problem
        except OSError:
            continue
        except StorageError as e:
            problem = "%s: %s" % (name, e)
    return None, problem


class Retained:
    """Records in `machine.RTC().memory()`: kept over every reset but not over power loss.

    A record stands twice, written in turn with a counter and a CRC: a reset in the middle costs the newer copy only.
    """

    _RECORDS = 9  # the boot's and eight meters'
    _SLOT = 112
    _HEAD = "<HHI"  # length, counter, crc32 of the counter and the payload

    def __init__(self, rtc):
        self._rtc = rtc
        size = 2 * self._RECORDS * self._SLOT
        image = bytearray(rtc.memory())
        self._image = image if len(image) == size else bytearray(size)

    def _slot(self, at):
        head = struct.calcsize(self._HEAD)
        length, counter, check = struct.unpack_from(self._HEAD, self._image, at)
        if not 0 < length <= self._SLOT - head:
            return None
        payload = bytes(self._image[at + head : at + head + length])
        if crc(payload, counter) != check:
            return None
        return counter, payload

    def read(self, record):
        """Newest valid payload of a record, or None."""
        return self._newest(record)[1]

    def _newest(self, record):
        base = 2 * record * self._SLOT
        best = (-1, None, base + self._SLOT)
        for at in (base, base + self._SLOT):
            slot = self._slot(at)
            # The counter wraps: the other one is newer when it is just behind zero.
            if slot and (best[1] is None or (slot[0] - best[0]) & 0xFFFF < 0x8000):
                best = (slot[0], slot[1], at)
        return best

    def write(self, record, payload):
        """Replace a record; at most 104 bytes."""
        counter, _, at = self._newest(record)
        base = 2 * record * self._SLOT
        at = base + self._SLOT if at == base else base
        counter = (counter + 1) & 0xFFFF
        head = struct.calcsize(self._HEAD)
        struct.pack_into(self._HEAD, self._image, at, len(payload), counter, crc(payload, counter))
        self._image[at + head : at + head + len(payload)] = payload
        self._rtc.memory(self._image)
