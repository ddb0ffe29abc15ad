"""Calibrations in flash: the one in force, former generations, the factory set, and the drafts of a session.

A session works on drafts, one per accepted step, so that a step can be undone and a session that breaks off changes
nothing. What becomes valid replaces the file in one step (documents.save); a copy of it stays as a generation.
A declared factory set waits aside until it is in force, so that both become valid in that one step.
The records of the steps lie beside the values, a line of JSON each, and are never in memory together: `records` in the
values tells how many there are and the CRC-32 of their file, `former` the generation that was in force before.
"""

import json
import os
from binascii import hexlify
from micropython import const

from gridnode import documents, storage
from gridnode.calibrating import Refused, drafts
from gridnode.setup import judge

FACTORY = "/config/calibration-factory"

_DECLARED = const("/config/calibration-factory-new")  # the factory set once it is in force, nothing before
_GENERATION = const("/config/calibration-g")
_KEPT = const(5)  # generations
_RECORDS = const(64)


class Store:
    """Calibrations of one node. node: hex of its unique id; sku: of its profile."""

    def __init__(self, machine, sku):
        self.node = hexlify(machine.unique_id()).decode()
        self.sku = sku

    def check(self, document):
        """Raise ValueError unless it is a valid calibration of this node."""
        judge.check(document, self.node, self.sku)

    def load(self, path=documents.CALIBRATION):
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
        drafts.drop()
        document = self.current()
        drafts.save(drafts.DRAFT + "0", document)
        return document

    # -- what is in force

    def generations(self):
        """Numbers of the generations that are kept, rising."""
        return drafts.numbers(_GENERATION)

    def has_factory(self):
        """Whether there is a factory set."""
        self._settle()
        return storage.exists(FACTORY + drafts.VALUES)

    def _settle(self):
        """Make what was declared the factory set if it came into force, and drop it otherwise."""
        number = (self.load(_DECLARED + drafts.VALUES) or {}).get("generation")
        if number is not None and number == self.current()["generation"]:
            for end in (drafts.LINES, drafts.VALUES):  # these last: with them it is done
                if storage.exists(_DECLARED + end):
                    os.rename(_DECLARED + end, FACTORY + end)
        drafts.remove(_DECLARED)

    def commit(self, document, records=None, factory=False):
        """Put a calibration in force as the newest generation; returns its number.

        records: of what has led to it, None: those of the session's drafts. What was in force before the first one is
        the factory set, unless one is declared.
        """
        if records is None:
            stems = [drafts.DRAFT + str(n) for n in drafts.numbers(drafts.DRAFT)]

            def new():
                for stem in stems:
                    for line in drafts.read_lines(stem):
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
            drafts.save(FACTORY, self.current())
        if former not in self.generations():
            drafts.save(_GENERATION + str(former), self.current())
        stem = _GENERATION + str(number)
        try:
            document["records"] = drafts.write_lines(stem, lines)
            drafts.save(stem, document)
            if factory:
                drafts.write_lines(_DECLARED, drafts.read_lines(stem))
                drafts.save(_DECLARED, document)
            drafts.save(documents.CALIBRATION[: -len(drafts.VALUES)], document)
        except Refused:
            for unused in (stem, _DECLARED):
                drafts.remove(unused)  # it was never in force
            raise
        self._settle()
        drafts.drop()
        for old in self.generations()[:-_KEPT]:
            if old != former:
                drafts.remove(_GENERATION + str(old))
        return number

    def restore(self, to):
        """Put the factory set or the generation before the one in force back; returns it."""
        self._settle()
        if to == "factory":
            document = self.load(FACTORY + drafts.VALUES)
            if document is None:
                raise Refused("storage", "this node has no factory set")
            self._put(document, self.current()["generation"], drafts.read_lines(FACTORY))
            return document
        if to != "previous":
            raise Refused("invalid", "restore what: factory or previous?")
        document = self.current()
        now = document["generation"]
        former = document.get("former", now - 1)
        for number in reversed(self.generations()):
            document = self.load("%s%d%s" % (_GENERATION, number, drafts.VALUES)) if number <= former else None
            if document:
                drafts.save(documents.CALIBRATION[: -len(drafts.VALUES)], document)
                drafts.drop()
                return document
        raise Refused("storage", "no generation before %d is kept" % now)

    def records(self, first, count):
        """Records of the calibration in force from number `first` on, `count` at most.

        Raises Refused where they are not those that belong to its values.
        """
        document = self.current()
        check, found = 0, []
        for n, line in enumerate(drafts.read_lines(_GENERATION + str(document["generation"]))):
            check = storage.crc(b"\n", storage.crc(line, check))
            if first <= n < first + count:
                found.append(line)
        if "records" in document and document["records"]["crc32"] != "%08x" % check:
            raise Refused("storage", "the records of generation %d are damaged or gone" % document["generation"])
        return [json.loads(line) for line in found]


def _merged(former, new):
    """Lines of a new generation: new ones, and old ones of steps, meters and phases that were not done anew."""
    done, count = [None], 0
    for line in new():
        count += 1
        key = _key(line)
        if key not in done:
            done.append(key)
    stem = _GENERATION + str(former)
    surplus = count + sum([_key(line) not in done for line in drafts.read_lines(stem)]) - _RECORDS
    for line in drafts.read_lines(stem):
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
