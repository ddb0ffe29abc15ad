"""Files and records that survive: a file replaced in one step, and records in RTC memory that survive a reset."""

import binascii
import os
import struct

# How the last request for calibration ended; beside it .new is one that waits, .run one that was begun.
REQUEST = "/data/calibrate.json"
FOREST = "/config/forest.gnf"  # from gridnode train, where the profile names one
FAULTS = "/config/faults.jsonl"  # a rule a line, as gridnode.setup.faults reads it; from the host


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


def promote(aside, path):
    """Put a finished file in the place of `path`; the former one stays as `<path>.prev`."""
    if exists(path):
        os.rename(path, path + ".prev")
    os.rename(aside, path)


class Retained:
    """Records in `machine.RTC().memory()`: kept over every reset but not over power loss.

    A record stands twice, written in turn with a counter and a CRC: a reset in the middle costs the newer copy only.
    """

    _SLOT = 112
    _SIZE = 2016  # of nine records, the boot's and eight meters'
    _HEAD = "<HHI"  # length, counter, crc32 of the counter and the payload

    def __init__(self, rtc):
        self._rtc = rtc
        self._image = bytearray(rtc.memory()[: self._SIZE])  # as long as the records that were written

    def _slot(self, at):
        head = struct.calcsize(self._HEAD)
        if at + self._SLOT > len(self._image):
            return None
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
        missing = base + 2 * self._SLOT - len(self._image)
        if missing > 0:
            self._image.extend(bytes(missing))
        struct.pack_into(self._HEAD, self._image, at, len(payload), counter, crc(payload, counter))
        self._image[at + head : at + head + len(payload)] = payload
        self._rtc.memory(self._image)
