"""Drafts of a calibration session, one per accepted step: a step can be undone, and what breaks off changes nothing."""

import json
import os

from gridnode import documents, storage
from gridnode.calibrating import Refused

VALUES = ".json"
LINES = ".jsonl"

DRAFT = "/config/calibration-draft-"


def draft():
    """The newest draft. Raises Refused without a session."""
    steps = numbers(DRAFT)
    is_open = steps[:1] == [0]
    document = documents.load("%s%d%s" % (DRAFT, steps[-1], VALUES))[0] if is_open else None
    if document is None:
        raise Refused("sequence", "no calibration session is open: begin one")
    return document


def push(document, records):
    """A further step and its records; returns how many steps there are."""
    number = numbers(DRAFT)[-1] + 1
    try:
        note(number, records)
        save(DRAFT + str(number), document)
    except Refused:
        remove(DRAFT + str(number))
        raise
    return number


def note(number, records):
    """Write the records of a step."""
    write_lines(DRAFT + str(number), (json.dumps(record).encode() for record in records))


def undo():
    """Drop the newest step; returns how many are left."""
    steps = numbers(DRAFT)
    if len(steps) < 2:
        raise Refused("sequence", "there is no step to undo")
    remove(DRAFT + str(steps[-1]))
    return steps[-2]


def drop():
    """End the session without a result. With its first draft it is over."""
    folder, _, start = DRAFT.rpartition("/")
    for name in sorted(os.listdir(folder)):
        if name.startswith(start):
            storage.remove(folder + "/" + name)


def save(stem, document):
    """Write a calibration. Raises Refused where the flash does not take it."""
    path = stem + VALUES
    try:
        documents.save(path, document)
        if path != documents.CALIBRATION:
            storage.remove(path + ".prev")
    except (storage.StorageError, OSError) as e:
        storage.remove(path + ".tmp")
        raise _unwritten(path, e)


def write_lines(stem, lines):
    """Write a file of records in one step; returns {"count", "crc32"}."""
    path = stem + LINES
    check, count = 0, 0
    try:
        with open(path + ".tmp", "wb") as f:
            for line in lines:
                f.write(line)
                f.write(b"\n")
                check, count = storage.crc(b"\n", storage.crc(line, check)), count + 1
        os.rename(path + ".tmp", path)
    except OSError as e:
        storage.remove(path + ".tmp")
        raise _unwritten(path, e)
    return {"count": count, "crc32": "%08x" % check}


def read_lines(stem):
    """Lines of a file of records; none of one that is missing."""
    try:
        with open(stem + LINES, "rb") as f:
            for line in f:
                yield line.rstrip()
    except OSError:
        return


def _unwritten(path, e):
    if "28" in str(e).rpartition(": ")[2]:  # ENOSPC; a path before it may have any number
        e = "the flash is full; free some space and repeat, the calibration in force has not changed"
    return Refused("storage", "%s cannot be written: %s" % (path, e))


def remove(stem):
    """Remove a calibration and its records."""
    for end in (VALUES, LINES):
        storage.remove(stem + end)


def numbers(stem):
    """Numbers of the calibrations whose name begins with `stem`, rising."""
    folder, _, start = stem.rpartition("/")
    found = []
    for name in os.listdir(folder):
        if name.startswith(start) and name.endswith(VALUES):
            number = name[len(start) : -len(VALUES)]
            if number.isdigit():
                found.append(int(number))
    return sorted(found)
