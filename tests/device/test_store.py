"""Calibrations in flash: drafts, generations, the factory set, and what power cuts and a full flash leave behind."""

import binascii
import json
import os

from gridnode import documents, schema, storage
from gridnode.calibrating import Refused, drafts, store
from ramdisk import Root

TIMEOUT_S = 120
HEAP_KW = 1024

SCHEMA = schema.load("calibration")
schema.load = lambda name: SCHEMA  # while the disk is the root no module can be imported
TABLE = [142000 + 25792 * k for k in range(129)]


class Machine:
    def __init__(self, name=b"\x01\x23\x45\x67"):
        self.name = name

    def unique_id(self):
        return self.name


def shelf():
    return store.Store(Machine(), "home")


def entry(gain):
    """The meters of a calibration that has this gain."""
    return {"main": {"adc_table": TABLE, "voltage": [{"gain": gain}], "current": [{"gain": gain, "phase_deg": 2.5}]}}


def record(step="gain", phase=1, meter="main", **more):
    made = {"step": step, "meter": meter, "phase": phase, "date": 1795600000, "after_percent": {"voltage": 0.01}}
    return dict(made, **more)


def session(gain, *records, factory=False):
    """Begin, one step, commit; returns the generation."""
    s = shelf()
    document = s.begin()
    document["meters"] = entry(gain)
    drafts.push(document, records or [record(note=str(gain))])
    return s.commit(drafts.draft(), factory=factory)


def gain(document):
    meters = document["meters"] if document else {}
    return meters["main"]["voltage"][0]["gain"] if meters else None


def in_force():
    """The calibration that a node would start with: its gain, None for design values."""
    return gain(documents.load(documents.CALIBRATION, shelf().check)[0])


def notes():
    return [one.get("note") for one in shelf().records(0, 99)]


def files(start="calibration"):
    return sorted([name for name in os.listdir("/config") if name.startswith(start)])


def refused(call, code, part=""):
    try:
        call()
    except Refused as e:
        assert e.code == code and part in e.message, (e.code, e.message)
        return e
    raise AssertionError("not refused")


def disk(*gains, blocks=160):
    """A disk with calibrations of these gains, the last one in force."""
    root = Root(blocks)
    with root:
        documents.make_dirs()
        for one in gains:
            session(one)
    return root


def prepared(gain, *records, factory=False):
    """A call that commits what a session has made so far: the session is opened here."""
    s = shelf()
    document = s.begin()
    document["meters"] = entry(gain)
    drafts.push(document, records or [record(note=str(gain))])
    return lambda: s.commit(drafts.draft(), factory=factory)


# -- sessions


def test_a_unit_that_was_never_calibrated():
    with disk():
        s = shelf()
        assert s.load() is None and s.current() == {"version": 2, "meters": {}, "generation": 0}
        assert s.generations() == [] and not s.has_factory() and s.records(0, 9) == []
        refused(drafts.draft, "sequence", "begin one")
        refused(drafts.undo, "sequence")
        refused(lambda: s.restore("previous"), "storage", "no generation before 0")
        refused(lambda: s.restore("factory"), "storage", "no factory set")
        refused(lambda: s.restore("other"), "invalid", "factory or previous")


def test_steps_are_drafts_until_they_are_committed():
    with disk():
        s = shelf()
        document = s.begin()
        assert document["generation"] == 0 and drafts.draft() == document
        for n in (1, 2, 3):
            document["meters"] = entry(1 + n / 100)
            assert drafts.push(document, [record(phase=n, note=str(n))]) == n
            assert in_force() is None and drafts.draft() == document
        assert s.commit(drafts.draft()) == 1
        assert in_force() == 1.03 and notes() == ["1", "2", "3"]
        refused(drafts.draft, "sequence")
        assert files("calibration-draft") == []
        kept = s.load()
        assert (kept["generation"], kept["node"], kept["sku"]) == (1, "01234567", "home")
        assert kept["meters"]["main"]["adc_table"] == TABLE


def test_steps_are_undone_one_by_one():
    with disk(1.5):
        s = shelf()
        document = s.begin()
        for n in (1, 2, 3):
            document["meters"] = entry(1 + n / 100)
            drafts.push(document, [record(phase=n, note=str(n))])
        assert drafts.undo() == 2 and gain(drafts.draft()) == 1.02
        assert drafts.undo() == 1 and gain(drafts.draft()) == 1.01
        document["meters"] = entry(1.07)
        assert drafts.push(document, [record(phase=2, note="again")]) == 2
        s.commit(drafts.draft())
        assert in_force() == 1.07
        assert notes() == ["1", "again"], notes()  # the former one was of phase 1, too
        s.begin()
        refused(drafts.undo, "sequence", "no step to undo")
        s.begin()
        drafts.push(drafts.draft(), [])
        assert drafts.undo() == 0 and gain(drafts.draft()) == 1.07


def test_a_session_that_breaks_off_changes_nothing():
    with disk(1.5):
        before = files()
        prepared(1.2)  # never called
        assert in_force() == 1.5
        s = shelf()
        assert gain(s.begin()) == 1.5 and gain(drafts.draft()) == 1.5, "what was left is dropped"
        refused(drafts.undo, "sequence")
        drafts.drop()
        assert files() == before and in_force() == 1.5
        refused(drafts.draft, "sequence")
        drafts.drop()


def test_what_is_left_of_a_session_is_none_without_its_beginning():
    with disk(1.5):
        prepared(1.2)
        storage.remove("/config/calibration-draft-0.json")
        refused(drafts.draft, "sequence")
        shelf().begin()
        assert files("calibration-draft") == ["calibration-draft-0.json"]


def test_more_than_nine_steps():
    with disk(blocks=256):
        s = shelf()
        document = s.begin()
        for n in range(1, 13):
            document["meters"] = {"main": {"voltage": [{"gain": 1 + n / 100}]}}
            assert drafts.push(document, [record("multipoint", note=str(n))]) == n
        assert drafts.undo() == 11
        s.commit(drafts.draft())
        assert in_force() == 1.11 and notes() == [str(n) for n in range(1, 12)], notes()


# -- generations


def test_generations_are_numbered_and_pruned():
    with disk():
        for n in range(1, 10):
            assert session(1 + n / 100) == n
            kept = shelf().generations()
            assert kept == list(range(max(0, n - 4), n + 1)), (n, kept)
        found = files("calibration-g")
        assert len(found) == 10, found  # values and records of five
        assert [name for name in files() if not name.endswith((".json", ".jsonl"))] == ["calibration.json.prev"]
        assert gain(shelf().load("/config/calibration-g7.json")) == 1.07


def test_the_previous_generation_comes_back_and_the_one_before_it():
    with disk(1.1, 1.2, 1.3):
        s = shelf()
        document = s.restore("previous")
        assert gain(document) == 1.2 and document["generation"] == 2 and in_force() == 1.2 and notes() == ["1.2"]
        assert gain(s.restore("previous")) == 1.1 and in_force() == 1.1 and notes() == ["1.1"]
        assert gain(s.restore("previous")) is None and in_force() is None and notes() == []
        refused(lambda: s.restore("previous"), "storage", "no generation before 0")
        assert in_force() is None


def test_previous_is_what_was_in_force_before():
    """Generation 2 was bad and taken back; what follows on 1 is followed by 1 again."""
    with disk(1.1, 1.2):
        s = shelf()
        s.restore("previous")
        assert session(1.3) == 3
        assert gain(s.restore("previous")) == 1.1 and in_force() == 1.1
        s.restore("previous")
        assert in_force() is None


def test_the_generation_that_is_to_come_back_is_not_pruned():
    with disk(1.1, 1.2, 1.3, 1.4, 1.5):
        s = shelf()
        for _ in range(4):
            s.restore("previous")
        assert in_force() == 1.1
        session(1.6)
        assert gain(s.restore("previous")) == 1.1


def test_a_generation_that_is_damaged_is_left_out():
    with disk(1.1, 1.2, 1.3):
        with open("/config/calibration-g2.json", "r+b") as f:
            f.write(b"#")
        assert gain(shelf().restore("previous")) == 1.1


def test_restoring_ends_a_session():
    with disk(1.1, 1.2):
        prepared(1.7)
        shelf().restore("previous")
        refused(drafts.draft, "sequence")


# -- factory set


def test_what_was_in_force_before_the_first_calibration_is_the_factory_set():
    with disk(1.1, 1.2):
        s = shelf()
        assert s.has_factory()
        document = s.restore("factory")
        assert document["meters"] == {} and document["generation"] == 3 and in_force() is None
        assert notes() == [], "no step has led there"
        assert gain(s.restore("previous")) == 1.2 and notes() == ["1.2"]


def test_a_factory_set_is_declared_and_outlives_the_generations():
    with disk(1.1):
        session(1.2, record(note="works"), record("phase", note="works too"), factory=True)
        for n in range(3, 12):
            session(1 + n / 100)
        s = shelf()
        assert gain(s.load("/config/calibration-factory.json")) == 1.2
        assert s.restore("factory")["generation"] == 12
        assert in_force() == 1.2 and notes()[-2:] == ["works", "works too"], notes()
        session(1.9, factory=True)
        assert files("calibration-factory") == ["calibration-factory.json", "calibration-factory.jsonl"]
        session(1.5)
        s.restore("factory")
        assert in_force() == 1.9


def test_a_factory_set_of_another_node_is_refused():
    with disk(1.1):
        other = store.Store(Machine(b"\xff\xff\xff\xff"), "home")
        document = {"version": 2, "node": "ffffffff", "meters": {}}
        storage.write("/config/calibration-factory.json", documents.encode(document))
        refused(lambda: shelf().restore("factory"), "storage")
        assert in_force() == 1.1
        assert other.load("/config/calibration-factory.json")


# -- records


def test_records_follow_the_newest_of_each_step_meter_and_phase():
    with disk():
        session(1.1, record("gain", 1, note="a"), record("gain", 2, note="b"), record("phase", 1, note="c"))
        session(1.2, record("gain", 1, note="d"), record("gain", 1, "sub", note="e"))
        assert notes() == ["b", "c", "d", "e"], notes()
        # All that one session does stays: a curve has a record per point.
        session(1.3, record("multipoint", 1, note="5 %"), record("multipoint", 1, note="20 %"))
        assert notes() == ["b", "c", "d", "e", "5 %", "20 %"]
        session(1.4, record("multipoint", 1, note="5 % again"))
        assert notes() == ["b", "c", "d", "e", "5 % again"]
        assert [one["note"] for one in shelf().records(1, 2)] == ["c", "d"]
        assert shelf().records(5, 9) == []


def test_records_of_a_command_need_no_session():
    with disk(1.1):
        s = shelf()
        document = s.current()
        document["nominal"] = {"voltage": 120}
        assert s.commit(document, [record("nominal", 0, note="set")]) == 2
        assert notes() == ["1.1", "set"] and s.load()["nominal"] == {"voltage": 120}


def test_the_oldest_records_give_way():
    with disk(blocks=256):
        session(1.1, *[record("multipoint", n, note=str(n)) for n in range(40)])
        session(1.2, *[record("verify", n, note="v%d" % n) for n in range(40)])
        found = notes()
        assert len(found) == 64 and found[-1] == "v39" and found[24] == "v0", found
        assert found[:24] == [str(n) for n in range(16, 40)], found


def test_the_values_tell_how_many_records_there_are_and_their_crc():
    with disk():
        session(1.1, record("gain", 1, note="a"), record("phase", 1, note="b"))
        told = shelf().load()["records"]
        with open("/config/calibration-g1.jsonl", "rb") as f:
            text = f.read()
        assert told == {"count": 2, "crc32": "%08x" % (binascii.crc32(text) & 0xFFFFFFFF)}, told
        assert [json.loads(line)["note"] for line in text.decode().split("\n")[:-1]] == ["a", "b"]


def test_a_damaged_line_of_the_records_does_no_harm():
    with disk(1.1):
        with open("/config/calibration-g1.jsonl", "ab") as f:
            f.write(b'{"step": "gain", "me\n[]\n3\n\n')
        assert session(1.2, record("phase", note="new")) == 2
        assert in_force() == 1.2 and notes() == ["1.1", "new"]


def test_records_that_are_not_what_was_written_are_told():
    with disk(1.1):
        assert len(shelf().records(0, 4)) == 1
        with open("/config/calibration-g1.jsonl", "rb") as f:
            text = f.read()
        for wrong in (text.replace(b"1.1", b"1.2"), text[:-3], text + b"{}\n", b""):
            with open("/config/calibration-g1.jsonl", "wb") as f:
                f.write(wrong)
            refused(lambda: shelf().records(0, 4), "storage", "records of generation 1")
            assert in_force() == 1.1
    with disk():
        assert shelf().records(0, 4) == []  # never calibrated


# -- what must not be used


def foreign(**changes):
    document = {"version": 2, "node": "01234567", "sku": "home", "generation": 9, "meters": entry(1.9)}
    document.update(changes)
    return document


def spoil(make):
    """Write over calibration.json as a wrong hand would; the previous generation stays beside it."""
    with open(documents.CALIBRATION, "rb") as f:
        text = f.read()
    with open(documents.CALIBRATION, "wb") as f:
        f.write(make(text))


UNUSABLE = (
    lambda text: documents.encode(foreign(node="fedcba98")),
    lambda text: documents.encode(foreign(sku="plug")),
    lambda text: documents.encode(foreign(version=3)),
    lambda text: documents.encode(foreign(version=1)),
    lambda text: documents.encode(foreign(meters={"main": {"voltage": [{"gain": 9.0}]}})),
    lambda text: documents.encode(foreign(meters=None)),
    lambda text: text[: len(text) // 2],
    lambda text: text[:-1],
    lambda text: b"",
    lambda text: b"\xff" * 300,
    lambda text: b'{"version": 2}',
    lambda text: b"[1, 2]",
    lambda text: text.replace(b'"gain": 1.', b'"gain": 1.0'),
    lambda text: bytes(reversed(text)),
)


def test_a_file_that_cannot_be_used_gives_way_to_the_one_before():
    root = disk(1.1, 1.2)
    before = root.image()
    for n, make in enumerate(UNUSABLE):
        root.put(before)
        with root:
            spoil(make)
            document, problem = documents.load(documents.CALIBRATION, shelf().check)
            assert gain(document) == 1.1 and document["generation"] == 1, n
            assert documents.CALIBRATION in problem, problem
            assert gain(shelf().current()) == 1.1
            # And life goes on from there: the next one is a newer generation, the good one is kept.
            assert session(1.3) == 3 and in_force() == 1.3, n
            assert gain(shelf().restore("previous")) == 1.1


def test_without_one_before_design_values_hold():
    root = disk(1.1)
    with root:
        storage.remove(documents.CALIBRATION + ".prev")
    before = root.image()
    for make in UNUSABLE:
        root.put(before)
        with root:
            spoil(make)
            assert shelf().load() is None and shelf().current()["meters"] == {}
            assert session(1.3) == 2 and in_force() == 1.3


def test_every_flipped_bit_is_noticed():
    with disk(1.1, 1.2):
        with open(documents.CALIBRATION, "rb") as f:
            text = f.read()
        for k in range(len(text)):
            broken = bytearray(text)
            broken[k] ^= 1 << k % 7
            with open(documents.CALIBRATION, "wb") as f:
                f.write(broken)
            assert in_force() == 1.1 or documents.decode(bytes(broken)) == documents.decode(text), (k, broken[k])


def test_a_calibration_that_cannot_be_is_not_committed():
    with disk(1.1):
        s = shelf()
        for bad in (
            {"main": {"voltage": [{"gain": 3.0}]}},
            {"main": {"current": [{"phase_deg": 40}]}},
            {"main": {"current": [{"curve": [[5, 1, 0], [4, 1, 0]]}]}},
            {"main": {"adc_table": TABLE[:5]}},
            {"main": {"power": [{"offset_w": 1.0}]}},
        ):
            document = s.begin()
            document["meters"] = bad
            drafts.push(document, [record()])
            refused(lambda: s.commit(drafts.draft()), "storage", "no valid calibration")
            assert in_force() == 1.1 and notes() == ["1.1"]
        document = s.begin()
        document["meters"] = {"main": {"voltage": [{"gain": float("nan")}]}}
        refused(lambda: drafts.push(document, []), "storage")
        assert gain(drafts.draft()) == 1.1 and s.generations() == [0, 1]


# -- full flash


def fill(left):
    """Fill the disk with files of one block each, but for so many of them."""
    n = 0
    try:
        while True:
            with open("/data/filler-%d" % n, "wb") as f:
                f.write(bytes(400))
            n += 1
    except OSError:
        storage.remove("/data/filler-%d" % n)
    for k in range(n - left, n):
        os.remove("/data/filler-%d" % k)


def empty():
    for name in os.listdir("/data"):
        os.remove("/data/" + name)


def test_a_full_flash_refuses_and_the_old_one_stays_in_force():
    root = disk(1.1, 1.2)
    outcomes = []
    before = root.image()
    for left in range(48):
        root.put(before)
        with root:
            s = shelf()
            document = s.begin()
            document["meters"] = entry(1.3)
            drafts.push(document, [record(note="1.3")])
            fill(left)
            generations = s.generations()
            try:
                number = s.commit(drafts.draft())
                assert number == 3 and in_force() == 1.3 and notes() == ["1.3"]
                outcomes.append(True)
            except Refused as e:
                assert e.code == "storage" and "the flash is full" in e.message, (e.code, e.message)
                assert in_force() == 1.2 and notes() == ["1.2"] and s.current()["generation"] == 2, left
                assert s.generations() == generations, "nothing that never was in force takes up the room"
                assert not [name for name in files() if name.endswith(".tmp")], files()
                outcomes.append(False)
            # The same holds after a restart.
            assert in_force() == (1.3 if outcomes[-1] else 1.2)
            empty()
            if not outcomes[-1]:
                assert s.commit(drafts.draft()) == 3 and in_force() == 1.3, "with room it goes"
    assert outcomes[0] is False and outcomes[-1] is True and outcomes == sorted(outcomes), outcomes
    assert outcomes.count(False) > 3, outcomes


def test_a_full_flash_refuses_a_step_and_a_session():
    root = disk(1.1, 1.2)
    before = root.image()
    for left in range(3):
        root.put(before)
        with root:
            s = shelf()
            document = s.begin()
            document["meters"] = entry(1.3)
            drafts.push(document, [record(phase=2)])
            fill(left)
            refused(lambda d=document: drafts.push(d, [record()] * 4), "storage", "the flash is full")
            assert drafts.undo() == 0 and in_force() == 1.2
            assert files("calibration-draft") == ["calibration-draft-0.json"], files()
        root.put(before)
        with root:
            fill(left)
            refused(shelf().begin, "storage", "the flash is full")
            refused(drafts.draft, "sequence")
            assert in_force() == 1.2


def test_a_flash_that_fails_is_not_told_as_full():
    former = documents.save

    def fail(path, document):
        raise storage.StorageError("cannot write %s: 5" % path)

    documents.save = fail
    try:
        refused(lambda: drafts.save("/config/calibration-g28", {}), "storage", "g28.json: 5")
    finally:
        documents.save = former


def test_a_full_flash_refuses_to_restore():
    root = disk(1.1, 1.2)
    before = root.image()
    for to in ("previous", "factory"):
        root.put(before)
        with root:
            fill(0)
            refused(lambda to=to: shelf().restore(to), "storage", "the flash is full")
            assert in_force() == 1.2 and notes() == ["1.2"]
            empty()
            shelf().restore(to)
            assert in_force() == (1.1 if to == "previous" else None)


# -- power cuts


def cut(root, action, old, new):
    """Cut the power at every operation of `action`: the outcome is exactly `old` or `new`, both as `state` tells."""
    outcomes = set()
    for n in root.cuts(action):
        complete = not root.failed
        with root:
            documents.make_dirs()
            documents.recover()
            found = state()
            assert found in (old, new), (n, found["gain"], found["notes"])
            assert found == new or not complete, n
            assert documents.load(documents.CALIBRATION, shelf().check)[1] is None, "nothing is damaged"
            outcomes.add((found == new, complete))
            # Whatever was left behind: a session goes its way, and back.
            before = found["gain"]
            number = session(1.77)
            assert in_force() == 1.77 and number > found["generation"] and notes()[-1] == "1.77"
            shelf().restore("previous")
            assert state() == found or before is None, n
            assert in_force() == before
    assert outcomes == {(False, False), (True, False), (True, True)}, outcomes


def state():
    """All that a node takes from its calibration, and a declared factory set."""
    s = shelf()
    document = s.load()
    found = {
        "gain": gain(document),
        "document": document,
        "generation": document["generation"] if document else 0,
        "notes": notes(),
        "factory": None,
    }
    if s.has_factory():
        factory = s.load("/config/calibration-factory.json")
        if "records" in factory:  # declared: the first commit keeps what was in force, whether it succeeds or not
            found["factory"] = factory, list(drafts.read_lines("/config/calibration-factory"))
    return found


def ahead(root, action):
    """The state after `action`; the disk is put back."""
    before = root.image()
    with root:
        action()
        found = state()
    root.put(before)
    return found


def test_a_commit_is_old_or_new_at_every_power_cut():
    root = disk(1.1, 1.2)
    with root:
        old = state()
        commit = prepared(1.3, record(note="x"), record("phase", note="y"))
    new = ahead(root, commit)
    assert old["gain"] == 1.2 and new["gain"] == 1.3 and new["notes"] == ["x", "y"] and new["generation"] == 3
    cut(root, commit, old, new)


def test_the_first_commit_is_none_or_new_at_every_power_cut():
    root = disk()
    with root:
        old = state()
        commit = prepared(1.3)
    cut(root, commit, old, ahead(root, commit))


def test_a_commit_that_prunes_and_declares_the_factory_set():
    root = disk(1.1, 1.2, 1.3, 1.4, 1.5, 1.6, blocks=192)
    with root:
        old = state()
        commit = prepared(1.7, record(note="1.7"), factory=True)
    new = ahead(root, commit)
    assert old["factory"] is None and gain(new["factory"][0]) == 1.7 and len(new["factory"][1]) == 1
    cut(root, commit, old, new)


def test_a_factory_set_that_is_declared_anew_is_old_or_new_with_what_is_in_force():
    root = disk(1.1, blocks=192)
    with root:
        session(1.2, record(note="works"), factory=True)
        old = state()
        assert gain(old["factory"][0]) == 1.2
        commit = prepared(1.7, record(note="again"), record("phase", note="1.7"), factory=True)
    new = ahead(root, commit)
    assert gain(new["factory"][0]) == 1.7 and len(new["factory"][1]) == 2
    cut(root, commit, old, new)


def test_a_factory_set_is_not_declared_where_the_commit_finds_no_room():
    root = disk(1.1, blocks=192)
    with root:
        session(1.2, record(note="works"), factory=True)
        old = state()
        prepared(1.3)
    before = root.image()
    outcomes = []
    for left in range(60):
        root.put(before)
        with root:
            fill(left)
            try:
                shelf().commit(drafts.draft(), factory=True)
                outcomes.append(gain(state()["factory"][0]) == in_force() == 1.3)
            except Refused:
                assert state() == old, left
                outcomes.append(False)
            empty()
            assert files("calibration-factory") == ["calibration-factory.json", "calibration-factory.jsonl"]
    assert not outcomes[0] and outcomes[-1] and outcomes == sorted(outcomes), outcomes


def test_restoring_is_old_or_new_at_every_power_cut():
    for to in ("previous", "factory"):
        root = disk(1.1, 1.2)
        with root:
            old = state()
            shelf().begin()

        def restore(to=to):
            shelf().restore(to)

        new = ahead(root, restore)
        assert new["gain"] == (1.1 if to == "previous" else None)
        cut(root, restore, old, new)


def test_a_session_changes_nothing_whenever_the_power_fails():
    root = disk(1.1, 1.2)
    with root:
        old = state()

    def work():
        s = shelf()
        document = s.begin()
        for n in (1, 2):
            document["meters"] = entry(1.3 + n / 100)
            drafts.push(document, [record(phase=n)])
        drafts.undo()
        drafts.drop()

    for n in root.cuts(work):
        with root:
            documents.make_dirs()
            assert state() == old, n
            assert session(1.5) == 3 and in_force() == 1.5, n


def test_a_commit_after_an_interrupted_one_may_be_interrupted_too():
    """Cuts in a row, each at another place."""
    root = disk(1.1)
    allowed = [1.1]
    for first in range(0, 60, 7):
        gains = round(1.2 + first / 1000, 3)
        with root:
            commit = prepared(gains)
        root.supply(first)
        with root:
            commit()
        allowed.append(gains)
        with root:
            found = in_force()
            assert found in (allowed[-1], allowed[-2]), (found, allowed)
            assert notes() == [str(found)], (notes(), found)
            allowed[-1] = found
