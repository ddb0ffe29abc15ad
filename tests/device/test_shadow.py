"""Shadow protocol: nulls once, tokens, answers in pieces, desired state, hostile texts."""

import gc
import json

from gridnode import shadow

BASE = b"$aws/things/n1/shadow/"


def applied(log, answer):
    def apply(patch):
        log.append(patch)
        return answer(patch)

    return apply


class Shadow(shadow.Shadow):
    """Keeps what is reported beyond the next report."""

    def report(self, fields):
        self.begin()
        for name in fields:
            self.put(name, fields[name])
        return bytes(self.finish())


def make(answer=None):
    log = []
    answer = answer or (lambda patch: (True, patch))
    return Shadow("n1", {"config": applied(log, answer)}), log


def reported(payload):
    document = json.loads(payload)
    assert set(document) == {"state", "clientToken"}, document
    assert len(document["clientToken"]) <= 64
    return document["state"]["reported"]


def tell(sh, kind, document, piece=None):
    """Hand a message over whole, or in pieces of `piece` bytes; the answer of the last one."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    piece = piece or len(data)
    for at in range(0, len(data), piece):
        part = memoryview(data)[at : at + piece]
        result = sh.message(BASE + kind, part, at, len(data))
        last = at + piece >= len(data)
        assert last or result is None
    return result


def accept(sh, payload, version=1):
    document = json.loads(payload)
    document["metadata"] = {"reported": {"version": {"timestamp": 5}}}
    document["version"] = version
    document["timestamp"] = 1790000000
    return tell(sh, b"update/accepted", document)


def test_topics():
    sh, _ = make()
    assert sh.update_topic == BASE + b"update"
    assert sh.get_topic == BASE + b"get"
    assert len(sh.filters) == 5
    assert BASE + b"update/delta" in sh.filters


def test_values():
    sh, _ = make()
    got = reported(
        sh.report(
            {
                "i": 5,
                "big": 1 << 40,
                "f": 1.5,
                "s": 'a"b',
                "b": True,
                "none": None,
                "nan": float("nan"),
                "inf": float("-inf"),
                "list": [1, {"x": 2}, float("nan")],
                "l1": {"voltage": 2.25, "gone": None},
                "empty": {},
            }
        )
    )
    assert got["i"] == 5 and got["big"] == 1 << 40 and got["f"] == 1.5 and got["s"] == 'a"b'
    assert got["b"] is True and got["list"] == [1, {"x": 2}, None]
    assert got["l1"] == {"voltage": 2.25}
    assert set(got) == {"i", "big", "f", "s", "b", "list", "l1"}, got
    sh.begin()
    sh.fixed("e", 123456789012345)
    sh.fixed("z", 7)
    payload = bytes(sh.finish())
    assert payload.startswith(b'{"state":{"reported":{"e":123456789012.345,"z":0.007,'), payload


def test_floats_are_short():
    sh, _ = make()
    payload = sh.report({"a": 9.986000000000001, "b": 0.1 + 0.2, "c": 50.012, "d": 1 / 3})
    got = reported(payload)
    assert len(payload) < 110, payload
    for name, value in (("a", 9.986), ("b", 0.3), ("c", 50.012), ("d", 0.333333)):
        assert abs(got[name] - value) < 1e-5


def test_key_that_no_longer_holds_is_null_until_accepted():
    sh, _ = make()
    sh.report({"voltage": 1, "quality": {"i": "stale", "v": "stale"}, "l1": {"p": 1}})
    second = sh.report({"voltage": None, "quality": {"i": "stale"}})
    assert reported(second) == {"voltage": None, "quality": {"i": "stale", "v": None}, "l1": None}
    third = sh.report({"quality": {"i": "stale"}})  # the second may be lost
    assert reported(third) == {"voltage": None, "quality": {"i": "stale", "v": None}, "l1": None}
    assert accept(sh, second) == "accepted"
    assert reported(sh.report({"quality": {"i": "stale"}})) == {"quality": {"i": "stale"}}
    assert reported(sh.report({"voltage": 3, "quality": {}})) == {
        "voltage": 3,
        "quality": None,
    }


def test_acceptance_of_an_older_update_does_not_end_a_null():
    sh, _ = make()
    first = sh.report({"a": 1, "b": 1})
    sh.report({"b": 1})
    accept(sh, first)
    assert reported(sh.report({"b": 1})) == {"b": 1, "a": None}


def test_value_that_comes_back_is_no_null():
    sh, _ = make()
    sh.report({"a": 1})
    gone = sh.report({"a": None})
    assert reported(sh.report({"a": 2})) == {"a": 2}
    accept(sh, gone)
    assert reported(sh.report({"a": 2})) == {"a": 2}
    assert reported(sh.report({})) == {"a": None}


def test_object_becomes_scalar_and_back():
    sh, _ = make()
    sh.report({"a": {"x": 1}})
    assert reported(sh.report({"a": 1})) == {"a": 1}
    assert reported(sh.report({"a": {"y": 1}})) == {"a": {"y": 1}}
    assert reported(sh.report({})) == {"a": None}


def test_accepted_of_others_is_not_ours():
    sh, _ = make()
    assert tell(sh, b"update/accepted", {"state": {}, "version": 7}) is None
    assert tell(sh, b"update/accepted", {"state": {}, "version": 7, "clientToken": "zz-1"}) is None


def test_accepted_is_found_behind_lookalikes_in_any_pieces():
    for piece in (1, 2, 7, 64, 1000):
        sh, _ = make()
        sh.report({"a": 1})
        payload = sh.report({})
        document = json.loads(payload)
        token = json.dumps(document["clientToken"])
        text = '{"state":{"reported":{"clientToken":"x-9","version":3,"s":"\\\\\\"}{,:",'
        text += '"l":[{"version":1},"]"]}}, "version" : 12 ,"clientToken":%s}' % token
        assert tell(sh, b"update/accepted", text.encode(), piece) == "accepted", piece
        assert reported(sh.report({})) == {}, piece


def test_rejected():
    sh, _ = make()
    token = json.loads(sh.report({}))["clientToken"]
    error = {"code": 413, "message": "too \"large\"", "clientToken": token}
    assert tell(sh, b"update/rejected", error) == "rejected"
    assert sh.error[0] == 413 and "large" in sh.error[1]
    error["clientToken"] = "other"
    assert tell(sh, b"update/rejected", error) is None


def test_delta_is_applied_and_reported_back_until_accepted():
    sh, log = make(lambda patch: (True, {"report": patch["report"]}))
    delta = {"version": 4, "state": {"config": {"report": {"interval_s": 5}}, "other": {"x": 1}}}
    assert tell(sh, b"update/delta", delta) == "delta"
    assert log == [{"report": {"interval_s": 5}}]
    assert sh.dirty
    payload = sh.report({"v": 1})
    assert not sh.dirty
    assert reported(payload) == {
        "v": 1,
        "config": {"report": {"interval_s": 5}},
        "config_error": None,
    }
    assert "config" in reported(sh.report({"v": 1}))
    accept(sh, payload)
    assert reported(sh.report({"v": 1})) == {"v": 1}


def test_older_or_equal_version_of_a_delta_is_ignored():
    sh, log = make()
    for version, interval in ((10, 1), (10, 2), (9, 3), (11, 4)):
        tell(sh, b"update/delta", {"version": version, "state": {"config": {"a": interval}}})
    assert log == [{"a": 1}, {"a": 4}]


def test_refused_patch_is_remembered_by_its_content():
    sh, log = make(lambda patch: (False, "interval_s must be at least 1"))
    for version in (5, 6, 7):
        tell(sh, b"update/delta", {"version": version, "state": {"config": {"a": -1}}})
    tell(sh, b"get/accepted", {"version": 8, "state": {"delta": {"config": {"a": -1}}}})
    assert len(log) == 1
    assert reported(sh.report({})) == {"config_error": "interval_s must be at least 1"}
    tell(sh, b"update/delta", {"version": 9, "state": {"config": {"a": -2}}})
    assert len(log) == 2


def test_patch_that_found_no_room_is_tried_with_the_next_delta_and_told_once():
    short = [True, True, False]

    def answer(patch):
        if short.pop(0):
            raise MemoryError
        return True, patch

    sh, log = make(answer)
    delta = {"state": {"config": {"a": 1}}, "version": 1}
    assert tell(sh, b"update/delta", delta) == "delta" and sh.dirty
    payload = sh.report({"power": 1})
    assert reported(payload)["config_error"] == "no room for it in memory"
    accept(sh, payload)
    delta["version"] = 2
    assert tell(sh, b"update/delta", delta) is None and not sh.dirty, "no report out of turn for the same again"
    delta["version"] = 3
    assert tell(sh, b"update/delta", delta) == "delta" and len(log) == 3
    found = reported(sh.report({"power": 1}))
    assert found["config"] == {"a": 1} and found["config_error"] is None, found
    delta["version"] = 4
    assert tell(sh, b"update/delta", delta) is None and len(log) == 3


def test_document_gives_difference_and_what_the_shadow_held_before():
    for piece in (None, 1, 50):
        sh, log = make()
        document = {
            "state": {
                "desired": {"config": {"a": 1}},
                "reported": {
                    "voltage": 1,
                    "quality": {"i": "stale", "deep": {"x": [1, {"y": 2}]}},
                    "config": {"a": 0},
                    "config_error": "old",
                },
                "delta": {"config": {"a": 1}},
            },
            "metadata": {"reported": {"zzz": {"timestamp": 1}}},
            "version": 20,
        }
        assert tell(sh, b"get/accepted", document, piece) == "synced"
        assert log == [{"a": 1}]
        got = reported(sh.report({"power": 1, "quality": {"v": "stale"}}))
        assert got == {
            "power": 1,
            "voltage": None,
            "quality": {"v": "stale", "i": None, "deep": None},
            "config": {"a": 1},
            "config_error": None,
        }, got
        assert tell(sh, b"update/delta", {"version": 20, "state": {"config": {"a": 2}}}) is None


def test_array_in_the_shadow_that_becomes_an_object():
    sh, _ = make()
    document = {"state": {"reported": {"a": {"x": [{"y": 1}]}}}, "version": 2}
    tell(sh, b"get/accepted", document)
    assert reported(sh.report({"a": {"x": {"z": 1}}})) == {"a": {"x": {"z": 1}}}


def test_arrays_are_no_place_to_look_in():
    sh, log = make()
    document = {"list": [{"version": 9, "x": [{"config": 1}]}], "state": [{"delta": 1}], "version": 2}
    assert tell(sh, b"get/accepted", document) == "synced"
    delta = {"state": [{"config": 1}], "version": 3}
    assert tell(sh, b"update/delta", delta) is None
    assert tell(sh, b"update/delta", {"state": {"config": {"a": 1}}, "version": 3}) is None
    assert not log


def test_no_shadow_yet_counts_as_synced():
    sh, _ = make()
    missing = {"code": 404, "message": "No shadow exists with name: 'n1'"}
    assert tell(sh, b"get/rejected", missing) == "synced"
    assert tell(sh, b"update/delta", {"version": 1, "state": {"config": {"a": 2}}}) == "delta"


def test_patch_that_is_too_long_is_refused():
    sh, log = make()
    delta = {"version": 1, "state": {"config": {"a": "x" * 2000}}}
    assert tell(sh, b"update/delta", delta, 300) == "delta"
    assert not log
    assert "longer" in reported(sh.report({}))["config_error"]


def test_hostile_texts_do_no_harm():
    for text in (
        b"[" * 3000,
        b'{"a":' * 3000,
        b"}}}]]]",
        b'{"version":"x","state":{"config":{"a":1',
        b'"',
        b'{"state":5,"version":1.5}',
        b"\xff\xfe{{",
        b'{"%s":1}' % (b"k" * 5000),
        b'{"version":99999999999999999999}',
        b"null",
    ):
        for kind in (b"update/delta", b"get/accepted", b"update/accepted", b"update/rejected"):
            sh, log = make()
            tell(sh, kind, text, 512)
            assert not log
            sh.report({"a": 1})


def test_piece_without_a_beginning_and_foreign_topics():
    sh, log = make()
    assert sh.message(BASE + b"update/delta", b"}}", 10, 12) is None
    assert sh.message(b"$aws/things/n2/shadow/update/delta", b"{}", 0, 2) is None
    assert sh.message(BASE + b"update/documents", b"{}", 0, 2) is None


def test_no_growth_over_reports():
    sh, _ = make()
    fields = {"v": 0, "quality": {}, "l1": {"p": 0.5}}

    def cycle(n):
        fields["v"] = n
        fields["quality"]["i"] = "stale" if n & 1 else None
        accept(sh, sh.report(fields), n)

    for n in range(10):
        cycle(n)
    gc.collect()
    before = gc.mem_alloc()
    for n in range(100):
        cycle(n)
    gc.collect()
    growth = gc.mem_alloc() - before
    assert growth < 100 * 8, growth  # a leak would be a block (16 bytes) or more each
