"""Documents with a CRC, generations, installation and checkpoints across power cuts, records in RTC memory."""

import os

from gridnode import documents, energy, storage
from gridnode.setup import energy as energy_setup
from ramdisk import BASE, Root, Rtc, setup

TIMEOUT_S = 60
HEAP_KW = 512


def refuses(call, part):
    try:
        call()
    except storage.StorageError as e:
        assert part in str(e), e
        return
    raise AssertionError("no refusal with %r" % part)


def test_a_document_comes_back_and_its_crc_counts():
    data = documents.encode({"version": 1, "name": "é", "n": [1, 2.5, None]})
    assert documents.decode(data) == {"version": 1, "name": "é", "n": [1, 2.5, None]}
    for k in range(len(data)):
        broken = bytearray(data)
        broken[k] ^= 0x04
        try:
            assert documents.decode(bytes(broken)) == {"version": 1, "name": "é", "n": [1, 2.5, None]}, broken
            assert 0, "a flipped bit at %d went unnoticed: %r" % (k, broken)
        except storage.StorageError:
            pass


def test_a_file_of_the_host_needs_no_crc():
    assert documents.decode(b'{"version": 1}\n') == {"version": 1}
    refuses(lambda: documents.decode(b"[1]"), "no JSON object")
    refuses(lambda: documents.decode(b'{"version": 1'), "no JSON text")


def test_what_json_cannot_hold_is_refused():
    refuses(lambda: documents.encode({"x": float("nan")}), "JSON")
    refuses(lambda: documents.encode({"x": float("inf")}), "JSON")


def test_previous_generation_stands_in():
    end = setup()
    try:
        path = BASE + "/doc.json"
        assert documents.load(path) == (None, None)
        documents.save(path, {"n": 1})
        documents.save(path, {"n": 2})
        assert documents.load(path) == ({"n": 2}, None)
        with open(path, "r+b") as f:
            f.write(b"#")
        document, problem = documents.load(path)
        assert document == {"n": 1} and "doc.json" in problem, (document, problem)
        storage.remove(path)
        assert documents.load(path)[0] == {"n": 1}
    finally:
        end()


def test_a_full_flash_keeps_the_old_file():
    end = setup()
    try:
        path = BASE + "/doc.json"
        documents.save(path, {"n": 1})
        with open(BASE + "/filler", "wb") as f:
            for _ in range(26):
                f.write(bytes(1024))
        refuses(lambda: documents.save(path, {"n": "x" * 6000}), "cannot write")
        assert documents.load(path) == ({"n": 1}, None)
        assert sorted(os.listdir(BASE)) == ["doc.json", "filler"], os.listdir(BASE)
    finally:
        end()


def test_records_survive_a_reset_and_a_torn_write():
    rtc = Rtc()
    kept = storage.Retained(rtc)
    assert kept.read(0) is None
    for k in range(5):
        kept.write(1, b"value %d" % k)
    kept.write(0, b"boot")
    again = storage.Retained(rtc)
    assert again.read(1) == b"value 4" and again.read(0) == b"boot"
    # The newest copy is damaged: the one before it stands.
    image = bytearray(rtc.data)
    at = bytes(image).find(b"value 4")
    image[at] ^= 1
    rtc.data = bytes(image)
    assert storage.Retained(rtc).read(1) == b"value 3"
    # All bits set or cleared, as after power-on, is nothing.
    rtc.data = b"\xff" * len(rtc.data)
    assert storage.Retained(rtc).read(1) is None


def test_record_counter_wraps():
    rtc = Rtc()
    kept = storage.Retained(rtc)
    for k in range(65540):
        if k < 5 or k > 65530:
            kept.write(0, b"%d" % k)
        elif k == 5:
            # Set both counters just below the wrap instead of writing 65,000 times.
            import struct

            for slot, n in ((0, 65529), (112, 65530)):
                payload = b"%d" % n
                struct.pack_into("<HHI", kept._image, slot, len(payload), n, storage.crc(payload, n))
                kept._image[slot + 8 : slot + 8 + len(payload)] = payload
    assert kept.read(0) == b"65539", kept.read(0)


# -- power cuts


FILES = ("/certs/ca.der", "/certs/cert.der", "/certs/key.der", "/config/node.json", "/config/profile.json")


def generation(number):
    """Five files; those of different generations differ in length too."""
    files = {}
    for path in FILES:
        text = ("%s %d " % (path, number)) * (4 + 3 * number)
        if path.endswith(".json"):
            files[path] = b'{"version": 1, "text": "%s"}' % text.encode()
        else:
            files[path] = text.encode()
    return files


def stage(files):
    documents.make_dirs()
    for path in files:
        with open(path + ".new", "wb") as f:
            f.write(files[path])


def content(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return None


def test_an_installation_is_all_or_nothing_at_every_power_cut():
    old, new = generation(1), generation(2)
    root = Root(96)
    with root:
        stage(old)
        documents.install(list(FILES))
        stage(new)
    outcomes = set()
    for n in root.cuts(lambda: documents.install(list(FILES))):
        complete = not root.failed
        with root:
            documents.make_dirs()
            documents.recover()
            found = {path: content(path) for path in FILES}
            assert found in (old, new), (n, [path for path in FILES if found[path] != old[path]])
            assert found == new or not complete, n
            left = sorted(os.listdir("/config"))
            for path in ("/config/node.json", "/config/profile.json"):
                assert documents.load(path)[1] is None
            outcomes.add((found == new, complete))
            # Whatever was left behind, the next installation finds its way.
            stage(new)
            documents.install(list(FILES))
            assert {path: content(path) for path in FILES} == new, (n, left)
            assert sorted(os.listdir("/certs")) == ["ca.der", "cert.der", "key.der"]
    assert outcomes == {(False, False), (True, False), (True, True)}, outcomes


def test_a_recovery_survives_power_cuts():
    old, new = generation(1), generation(2)
    root = Root(96)
    with root:
        stage(old)
        documents.install(list(FILES))
        stage(new)
    before = root.image()
    begun = first = 0
    root.failed = True
    while root.failed:
        root.put(before)
        root.supply(first)
        with root:
            documents.install(list(FILES))
        cut = root.failed
        with root:
            journal = storage.exists("/config/install.json")
        begun += journal
        for n in root.cuts(documents.recover) if journal else ():
            with root:
                documents.recover()
                assert {path: content(path) for path in FILES} == new, (first, n)
        root.failed = cut
        first += 3
    assert begun > 2, begun


def ledger():
    return energy.Ledger(2, 20000, storage.Retained(Rtc()), 1, "/data/energy.bin")


def test_a_checkpoint_is_old_or_new_at_every_power_cut():
    root = Root()
    with root:
        documents.make_dirs()
        book = ledger()
        energy_setup.load(book)
        for _ in range(3):
            book._bump(0, 7200000)
            book.next_seq()
            book.checkpoint()
    book._bump(0, 3600000)
    used = [book.next_seq() for _ in range(50)][-1]
    found = set()
    for n in root.cuts(book.checkpoint):
        complete = not root.failed
        last = used
        for _ in range(3):  # starts after power failures, the later ones without any checkpoint in between
            with root:
                again = ledger()
                energy_setup.load(again)
            assert again.recovered == "flash" and again.mwh(0, 0) in (6, 7), (n, again.recovered, again.total)
            assert again.mwh(0, 0) == 7 or not complete, n
            found.add(again.mwh(0, 0))
            seq = again.next_seq()
            assert seq > last, (n, seq, last)
            last = again.next_seq()
    assert found == {6, 7}, found


def test_no_sequence_number_comes_twice_when_the_power_fails_at_the_start():
    root = Root()
    with root:
        documents.make_dirs()
        book = ledger()
        energy_setup.load(book)
        book._bump(0, 7200000)
        book.checkpoint()
    used = [book.next_seq() for _ in range(50)][-1]
    for n in root.cuts(lambda: energy_setup.load(ledger())):
        last = used
        for _ in range(2):
            with root:
                again = ledger()
                energy_setup.load(again)
            assert again.mwh(0, 0) == 2, (n, again.total)
            assert again.next_seq() > last, (n, again.seq, last)
            last = again.next_seq()
