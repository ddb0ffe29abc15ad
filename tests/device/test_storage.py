"""Documents with a CRC, generations, journalled installation, records in RTC memory."""

import os

from gridnode import documents, storage
from ramdisk import BASE, Rtc, setup


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
