"""Calibrations in flash: the one in force, former generations, the factory set, and the drafts of a session.

A session works on drafts, one per accepted step, so that a step can be undone and a session that breaks off changes
nothing. What becomes valid replaces the file in one step (documents.save); a copy of it stays as a generation.
The records of the steps lie beside the values, a line of JSON each, and are never in memory together: `records` in the
values tells how many there are and the CRC-32 of their file, `former` the generation that was in force before.
"""

import json
import os
from binascii import hexlify

from gridnode import documents, storage
from gridnode.calibrating import Refused
from gridnode.config import CALIBRATION
from gridnode.setup import judge

FACTORY = "/config/calibration-factory"

_DRAFT = "/config/calibration-draft-"
_GENERATION = "/config/calibration-g"
_VALUES = ".json"
_LINES = ".jsonl"
_KEPT = 5  # generations
_RECORDS = 64


class Store:
    """Calibrations of one node. node: hex of its unique id; sku: of its profile."""

    def __init__(self, machine, sku):
        self.node = hexlify(machine.unique_id()).decode()
        self.sku = sku

    def check(self, document):
        """Raise ValueError unless it is a valid calibration of this node."""
        judge.check(document, self.node, self.sku)

    def load(self, path=CALIBRATION):
        """The calibration of a file, None if there is none that can be used."""
        return documents.load(path, self.check)[0]

    def current(self):
        """The calibration in force; one of design values where nothing was ever calibrated."""
        document = self.load() or {"version": judge.VERSION, "meters": {}}
        document.setdefault("generation", 0)
        return document

    # -- drafts

    def begin(self):
        """Open a session: its first draft is what is in force."""
        self.drop()
        document = self.current()
        _save(_DRAFT + "0", document)
        return document

    def draft(self):
        """The newest draft. Raises Refused without a session."""
        numbers = _numbers(_DRAFT)
        is_open = numbers[:1] == [0]
        document = documents.load("%s%d%s" % (_DRAFT, numbers[-1], _VALUES))[0] if is_open else None
        if document is None:
            raise Refused("sequence", "no calibration session is open: begin one")
        return document

    def push(self, document, records):
        """A further accepted step and its records; returns how many steps there are."""
        number = _numbers(_DRAFT)[-1] + 1
        stem = _DRAFT + str(number)
        try:
            _write_lines(stem, [json.dumps(record).encode() for record in records])
            _save(stem, document)
        except Refused:
            _remove(stem)
            raise
        return number

    def undo(self):
        """Drop the newest step; returns how many are left."""
        numbers = _numbers(_DRAFT)
        if len(numbers) < 2:
            raise Refused("sequence", "there is no step to undo")
        _remove(_DRAFT + str(numbers[-1]))
        return numbers[-2]

    def drop(self):
        """End the session without a result. With its first draft it is over."""
        folder, _, start = _DRAFT.rpartition("/")
        for name in sorted(os.listdir(folder)):
            if name.startswith(start):
                storage.remove(folder + "/" + name)

    # -- what is in force

    def generations(self):
        """Numbers of the generations that are kept, rising."""
        return _numbers(_GENERATION)

    def has_factory(self):
        """Whether there is a factory set."""
        return storage.exists(FACTORY + _VALUES)

    def commit(self, document, records=None, factory=False):
        """Put a calibration in force as the newest generation; returns its number.

        records: of what has led to it, None: those of the session's drafts. What was in force before the first one is
        the factory set, unless one is declared.
        """
        if records is None:
            stems = [_DRAFT + str(n) for n in _numbers(_DRAFT)]

            def new():
                for stem in stems:
                    for line in _read_lines(stem):
                        yield line
        else:
            def new():
                for record in records:
                    yield json.dumps(record).encode()
        former = self.current()["generation"]
        return self._put(document, former, _merged(former, new), factory)

    def _put(self, document, former, lines, factory=False):
        """Put a calibration with its records in the place of generation `former`; returns its number."""
        number = 1 + max(self.generations() + [former])
        document.update({"generation": number, "former": former, "node": self.node, "sku": self.sku})
        try:
            self.check(document)
        except ValueError as e:
            raise Refused("storage", "what was computed is no valid calibration: %s" % e)
        if not self.has_factory() and not factory:
            _save(FACTORY, self.current())
        if former not in self.generations():
            _save(_GENERATION + str(former), self.current())
        stem = _GENERATION + str(number)
        try:
            document["records"] = _write_lines(stem, lines)
            _save(stem, document)
            if factory:
                _write_lines(FACTORY, _read_lines(stem))
                _save(FACTORY, document)
            _save(CALIBRATION[: -len(_VALUES)], document)
        except Refused:
            _remove(stem)  # it was never in force
            raise
        self.drop()
        for old in self.generations()[:-_KEPT]:
            if old != former:
                _remove(_GENERATION + str(old))
        return number

    def restore(self, to):
        """Put the factory set or the generation before the one in force back; returns it."""
        if to == "factory":
            document = self.load(FACTORY + _VALUES)
            if document is None:
                raise Refused("storage", "this node has no factory set")
            self._put(document, self.current()["generation"], _read_lines(FACTORY))
            return document
        if to != "previous":
            raise Refused("invalid", "restore what: factory or previous?")
        document = self.current()
        now = document["generation"]
        former = document.get("former", now - 1)
        for number in reversed(self.generations()):
            document = self.load("%s%d%s" % (_GENERATION, number, _VALUES)) if number <= former else None
            if document:
                _save(CALIBRATION[: -len(_VALUES)], document)
                self.drop()
                return document
        raise Refused("storage", "no generation before %d is kept" % now)

    def records(self, first, count):
        """Records of the calibration in force from number `first` on, `count` at most."""
        found = []
        for n, line in enumerate(_read_lines(_GENERATION + str(self.current()["generation"]))):
            if first <= n < first + count:
                found.append(json.loads(line))
        return found


def _merged(former, new):
    """Lines of a new generation: new ones, and old ones of steps, meters and phases that were not done anew."""
    done, count = [None], 0
    for line in new():
        count += 1
        key = _key(line)
        if key not in done:
            done.append(key)
    stem = _GENERATION + str(former)
    surplus = count + sum([_key(line) not in done for line in _read_lines(stem)]) - _RECORDS
    for line in _read_lines(stem):
        if _key(line) not in done:
            surplus -= 1
            if surplus < 0:
                yield line
    for line in new():
        yield line


def _key(line):
    """What a record is of; None of a line that is none."""
    try:
        record = json.loads(line)
        return record["step"], record["meter"], record["phase"]
    except (ValueError, KeyError, TypeError):
        return None


def _save(stem, document):
    path = stem + _VALUES
    try:
        documents.save(path, document)
        if path != CALIBRATION:
            storage.remove(path + ".prev")
    except (storage.StorageError, OSError) as e:
        storage.remove(path + ".tmp")
        raise Refused("storage", "%s cannot be written: %s" % (path, e))


def _write_lines(stem, lines):
    """Write a file of records in one step; returns {"count", "crc32"}."""
    path = stem + _LINES
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
        raise Refused("storage", "%s cannot be written: %s" % (path, e))
    return {"count": count, "crc32": "%08x" % check}


def _read_lines(stem):
    """Lines of a file of records; none of one that is missing."""
    try:
        with open(stem + _LINES, "rb") as f:
            for line in f:
                yield line.rstrip()
    except OSError:
        return


def _remove(stem):
    for end in (_VALUES, _LINES):
        storage.remove(stem + end)


def _numbers(stem):
    folder, _, start = stem.rpartition("/")
    found = []
    for name in os.listdir(folder):
        if name.startswith(start) and name.endswith(_VALUES):
            number = name[len(start) : -len(_VALUES)]
            if number.isdigit():
                found.append(int(number))
    return sorted(found)
