"""Shadow documents: cases from AWS's documentation, one table per subject."""

from __future__ import annotations

import json

import pytest
from gridnode_host.bench.shadow_document import (
    KEPT_AFTER_DELETE,
    Shadow,
    ShadowError,
    ShadowLimits,
    equal,
    parse_plain,
    parse_update,
    token_of,
)

LIMITS = ShadowLimits()
NOW = 1_700_000_000.7


def send(shadow, state, now=NOW, limits=LIMITS, **more):
    payload = json.dumps({"state": state, **more}).encode()
    return shadow.update(parse_update(payload, limits), limits, now)


def made(*states):
    shadow = Shadow()
    for state in states:
        send(shadow, state)
    return shadow


def refused(call, *args, **kwargs):
    with pytest.raises(ShadowError) as caught:
        call(*args, **kwargs)
    return caught.value.code, caught.value.message


def without_delta(shadow):
    state = shadow.get(NOW)["state"]
    state.pop("delta", None)
    return state


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        # objects merge key by key, scalars are replaced
        ({"reported": {"a": 1}}, {"reported": {"b": 2}}, {"reported": {"a": 1, "b": 2}}),
        ({"reported": {"a": 1}}, {"reported": {"a": 2}}, {"reported": {"a": 2}}),
        (
            {"reported": {"o": {"a": 1}}},
            {"reported": {"o": {"b": 2}}},
            {"reported": {"o": {"a": 1, "b": 2}}},
        ),
        # the sections do not touch each other
        (
            {"reported": {"a": 1}},
            {"desired": {"a": 2}},
            {"reported": {"a": 1}, "desired": {"a": 2}},
        ),
        # a change of type replaces
        ({"reported": {"a": 1}}, {"reported": {"a": {"b": 1}}}, {"reported": {"a": {"b": 1}}}),
        ({"reported": {"a": {"b": 1}}}, {"reported": {"a": 1}}, {"reported": {"a": 1}}),
        ({"reported": {"a": {"b": 1}}}, {"reported": {"a": [1]}}, {"reported": {"a": [1]}}),
        # arrays are replaced as a whole
        ({"reported": {"a": [1, 2, 3]}}, {"reported": {"a": [4]}}, {"reported": {"a": [4]}}),
        ({"reported": {"a": [1]}}, {"reported": {"a": []}}, {"reported": {"a": []}}),
        # null deletes, deep down too, and what is not there as well
        ({"reported": {"a": 1, "b": 2}}, {"reported": {"a": None}}, {"reported": {"b": 2}}),
        (
            {"reported": {"o": {"a": 1, "b": 2}}},
            {"reported": {"o": {"a": None}}},
            {"reported": {"o": {"b": 2}}},
        ),
        ({"reported": {"a": 1}}, {"reported": {"x": None}}, {"reported": {"a": 1}}),
        ({}, {"reported": {"a": 1, "b": None}}, {"reported": {"a": 1}}),
        ({"reported": {"o": {"a": 1}}}, {"reported": {"o": None}}, {}),
        # an emptied nested object stays
        (
            {"reported": {"o": {"a": 1}, "k": 1}},
            {"reported": {"o": {"a": None}}},
            {"reported": {"o": {}, "k": 1}},
        ),
        # null deletes a section, or the whole state
        ({"reported": {"a": 1}, "desired": {"b": 1}}, {"desired": None}, {"reported": {"a": 1}}),
        ({"reported": {"a": 1}, "desired": {"b": 1}}, None, {}),
        # an empty request changes nothing
        ({"reported": {"a": 1}}, {}, {"reported": {"a": 1}}),
        ({"reported": {"a": 1}}, {"reported": {}}, {"reported": {"a": 1}}),
        # what is no section is ignored beside one
        ({}, {"reported": {"a": 1}, "delta": {"a": 2}}, {"reported": {"a": 1}}),
        # text outside ASCII, and numbers beyond 32 bits
        ({}, {"reported": {"µ": "Ω☃", "n": 2**53}}, {"reported": {"µ": "Ω☃", "n": 2**53}}),
    ],
)
def test_merge(before, patch, after):
    shadow = made(before)
    send(shadow, patch)
    assert without_delta(shadow) == after
    assert shadow.version == 2


@pytest.mark.parametrize(
    ("desired", "reported", "delta"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1}, {"a": 2}, {"a": 1}),
        ({}, {"a": 1}, None),
        # a key that is only reported never appears
        ({"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": 1, "b": 2}, {"b": 2, "c": 3}, {"a": 1}),
        # objects are compared inside
        ({"o": {"a": 1, "b": 2}}, {"o": {"a": 1, "b": 3}}, {"o": {"b": 2}}),
        ({"o": {"a": {"b": 1}}}, {"o": {"a": {}}}, {"o": {"a": {"b": 1}}}),
        ({"o": {"a": 1}}, {"o": 5}, {"o": {"a": 1}}),
        ({"o": 5}, {"o": {"a": 1}}, {"o": 5}),
        # arrays as a whole, order counts
        ({"l": [1, 2]}, {"l": [1, 2]}, None),
        ({"l": [1, 2]}, {"l": [2, 1]}, {"l": [1, 2]}),
        ({"l": [1, 2]}, {"l": [1]}, {"l": [1, 2]}),
        ({"l": [{"a": 1}]}, {"l": [{"a": 1}]}, None),
        ({"l": []}, {"l": [1]}, {"l": []}),
        # types count, except that numbers are numbers
        ({"a": True}, {"a": 1}, {"a": True}),
        ({"a": 0}, {"a": False}, {"a": 0}),
        ({"l": [1]}, {"l": [True]}, {"l": [1]}),
        ({"a": "1"}, {"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": 1.0}, None),
        # an object that only desired has
        ({"o": {}}, {"x": 1}, {"o": {}}),
    ],
)
def test_delta(desired, reported, delta):
    shadow = made({"desired": desired, "reported": reported})
    assert shadow.get(NOW)["state"].get("delta") == delta
    result = send(shadow, {})
    assert (result.delta["state"] if result.delta else None) == delta


def test_delta_repeats_older_differences_with_the_metadata_of_desired():
    shadow = Shadow()
    send(shadow, {"desired": {"a": 1, "o": {"b": 2}}}, now=100)
    result = send(shadow, {"desired": {"l": [3, 4]}}, now=200, clientToken="t")
    assert result.delta == {
        "state": {"a": 1, "o": {"b": 2}, "l": [3, 4]},
        "metadata": {
            "a": {"timestamp": 100},
            "o": {"b": {"timestamp": 100}},
            "l": [{"timestamp": 200}, {"timestamp": 200}],
        },
        "version": 2,
        "timestamp": 200,
        "clientToken": "t",
    }
    assert send(shadow, {"reported": {"a": 1, "o": {"b": 2}, "l": [3, 4]}}).delta is None


def test_accepted_repeats_only_what_was_sent():
    shadow = made({"reported": {"old": 1}, "desired": {"x": 1}})
    result = send(shadow, {"reported": {"a": [1, {"b": 2}], "gone": None}}, clientToken="t1")
    stamp = {"timestamp": int(NOW)}
    assert result.accepted == {
        "state": {"reported": {"a": [1, {"b": 2}], "gone": None}},
        "metadata": {"reported": {"a": [stamp, {"b": stamp}], "gone": stamp}},
        "version": 2,
        "timestamp": int(NOW),
        "clientToken": "t1",
    }
    assert "clientToken" not in send(shadow, {}).accepted


def test_documents_carry_both_states():
    shadow = Shadow()
    first = send(shadow, {"reported": {"a": 1}}, now=100)
    second = send(shadow, {"reported": {"a": 2}}, now=200, clientToken="t")

    def document(value, stamp, version):
        return {
            "state": {"reported": {"a": value}},
            "metadata": {"reported": {"a": {"timestamp": stamp}}},
            "version": version,
        }

    assert first.documents == {"previous": None, "current": document(1, 100, 1), "timestamp": 100}
    assert second.documents == {
        "previous": document(1, 100, 1),
        "current": document(2, 200, 2),
        "timestamp": 200,
        "clientToken": "t",
    }


def test_metadata_mirrors_the_state():
    shadow = Shadow()
    send(shadow, {"reported": {"a": 1, "o": {"x": 1, "y": 2}, "l": [1, 2]}}, now=100)
    send(shadow, {"reported": {"o": {"y": 3}, "l": [9], "a": {"in": 1}}}, now=200)
    assert shadow.get(NOW)["metadata"] == {
        "reported": {
            "a": {"in": {"timestamp": 200}},
            "o": {"x": {"timestamp": 100}, "y": {"timestamp": 200}},
            "l": [{"timestamp": 200}],
        }
    }
    send(shadow, {"reported": {"a": None, "o": {"x": None}}}, now=300)
    assert shadow.get(NOW)["metadata"]["reported"] == {
        "o": {"y": {"timestamp": 200}},
        "l": [{"timestamp": 200}],
    }
    send(shadow, {"reported": None}, now=400)
    assert shadow.get(NOW)["metadata"] == {}


def test_key_called_timestamp_is_an_ordinary_key():
    shadow = made({"reported": {"timestamp": 5, "o": {"timestamp": 6}}})
    send(shadow, {"reported": {"o": {"timestamp": None, "b": 1}}}, now=NOW + 5)
    assert shadow.get(NOW)["metadata"]["reported"] == {
        "timestamp": {"timestamp": int(NOW)},
        "o": {"b": {"timestamp": int(NOW) + 5}},
    }


def test_answers_are_copies():
    shadow = Shadow()
    answers = send(shadow, {"desired": {"o": {"l": [1]}}, "reported": {"l": [1]}})
    answers.accepted["state"]["desired"]["o"]["l"].append(2)
    answers.delta["state"]["o"]["l"].append(2)
    answers.documents["current"]["state"]["reported"]["l"].append(2)
    shadow.get(NOW)["state"]["desired"]["o"]["l"].append(2)
    assert without_delta(shadow) == {"desired": {"o": {"l": [1]}}, "reported": {"l": [1]}}


def test_every_accepted_update_counts_even_without_a_change():
    shadow = made({"reported": {"a": 1}}, {"reported": {"a": 1}}, {})
    assert shadow.version == 3


@pytest.mark.parametrize(("version", "accepted"), [(2, True), (1, False), (3, False), (0, False)])
def test_version_must_be_the_current_one(version, accepted):
    shadow = made({"reported": {"a": 1}}, {"reported": {"a": 2}})
    if accepted:
        assert send(shadow, {"reported": {"a": 3}}, version=version).accepted["version"] == 3
    else:
        conflict = refused(send, shadow, {"reported": {"a": 3}}, version=version)
        assert conflict == (409, "Version conflict")
        assert (shadow.version, shadow.reported) == (2, {"a": 2})


def test_new_shadow_has_version_0_before():
    assert refused(send, Shadow(), {}, version=1) == (409, "Version conflict")
    assert send(Shadow(), {}, version=0).accepted["version"] == 1


def test_deleted_shadow_keeps_counting_for_48_hours():
    shadow = made({"reported": {"a": 1}}, {"desired": {"a": 2}})
    assert shadow.delete(NOW, "t") == {"version": 2, "timestamp": int(NOW), "clientToken": "t"}
    assert not shadow.exists
    again = send(shadow, {"reported": {"b": 1}}, now=NOW + KEPT_AFTER_DELETE)
    assert again.accepted["version"] == 4
    assert again.documents["previous"] is None
    assert without_delta(shadow) == {"reported": {"b": 1}}


def test_deleted_shadow_is_forgotten_after_48_hours():
    shadow = made({"reported": {"a": 1}})
    shadow.delete(NOW)
    again = send(shadow, {"reported": {"b": 1}}, now=NOW + KEPT_AFTER_DELETE + 1)
    assert again.accepted["version"] == 1


@pytest.mark.parametrize(
    ("payload", "code", "message"),
    [
        (b"", 400, "Invalid JSON"),
        (b"{", 400, "Invalid JSON"),
        (b"[]", 400, "Invalid JSON"),
        (b"null", 400, "Invalid JSON"),
        (b'{"state":{"reported":{"a":NaN}}}', 400, "Invalid JSON"),
        (b'{"state":{"reported":{"a":-Infinity}}}', 400, "Invalid JSON"),
        (b'{"state":{"reported":{"a":1e999}}}', 400, "Invalid JSON"),
        (b'{"state":{"reported":{"a":"\\ud800"}}}', 400, "Invalid JSON"),
        (b'{"state":' + b"[" * 60_000, 400, "Invalid JSON"),
        (
            b'{"state":{"reported":{"a":"\xff"}}}',
            415,
            "Unsupported documented encoding; supported encoding is UTF-8",
        ),
        (b"{}", 400, "Missing required node: state"),
        (b'{"version":1}', 400, "Missing required node: state"),
        (b'{"state":5}', 400, "State node must be an object"),
        (b'{"state":[]}', 400, "State node must be an object"),
        (b'{"state":"x"}', 400, "State node must be an object"),
        (b'{"state":{"desired":5}}', 400, "Desired node must be an object"),
        (b'{"state":{"desired":[1]}}', 400, "Desired node must be an object"),
        (b'{"state":{"reported":[1]}}', 400, "Reported node must be an object"),
        (b'{"state":{"reported":"x"}}', 400, "Reported node must be an object"),
        (b'{"state":{"reportd":{"a":1}}}', 400, "State contains an invalid node"),
        (b'{"state":{"reported":{"a":[1,null]}}}', 400, "State contains an invalid node"),
        (b'{"state":{"desired":{"a":[{"b":null}]}}}', 400, "State contains an invalid node"),
        (b'{"state":{},"version":"1"}', 400, "Invalid version"),
        (b'{"state":{},"version":1.5}', 400, "Invalid version"),
        (b'{"state":{},"version":true}', 400, "Invalid version"),
        (b'{"state":{},"version":-1}', 400, "Invalid version"),
        (b'{"state":{},"clientToken":5}', 400, "Invalid clientToken"),
        (b'{"state":{},"clientToken":"' + b"x" * 65 + b'"}', 400, "Invalid clientToken"),
        ('{"state":{},"clientToken":"' + "µ" * 33 + '"}', 400, "Invalid clientToken"),
    ],
)
def test_refused_updates(payload, code, message):
    data = payload.encode() if isinstance(payload, str) else payload
    assert refused(parse_update, data, LIMITS) == (code, message)


def test_longest_client_token():
    assert parse_update(b'{"state":{},"clientToken":"' + b"x" * 64 + b'"}', LIMITS).token


@pytest.mark.parametrize("limit", [6, 8, None])
@pytest.mark.parametrize("bracket", ["object", "array"])
def test_nesting(limit, bracket):
    limits = ShadowLimits(nesting=limit)

    def nested(levels):  # the section itself is the first level
        node = 1
        for _ in range(levels - 1):
            node = {"k": node} if bracket == "object" else [node]
        return json.dumps({"state": {"reported": {"k": node}}}).encode()

    assert parse_update(nested(limit or 20), limits).state
    if limit:
        assert refused(parse_update, nested(limit + 1), limits) == (
            400,
            f"JSON contains too many levels of nesting; maximum is {limit}",
        )


def test_size_counts_the_merged_state_without_metadata():
    # {"a":"xx..."} is 8 bytes and the text
    shadow = made({"desired": {"a": "x" * (4096 - 8)}})
    send(shadow, {"reported": {"a": "x" * (4096 - 8)}})
    too_large = refused(send, shadow, {"reported": {"a": "x" * (4096 - 7)}})
    assert too_large == (413, "The payload exceeds the maximum size allowed")
    assert shadow.version == 2
    # the same update is fine where it makes room
    send(shadow, {"desired": None, "reported": {"a": "x" * 8000}})
    # and the limit is one of bytes
    assert refused(send, shadow, {"reported": {"a": "µ" * 4096}})[0] == 413
    send(shadow, {"reported": {"a": "µ" * 4096}}, limits=ShadowLimits(state_bytes=None))


def test_plain_requests():
    assert parse_plain(b"").token is None
    assert parse_plain(b" \n").token is None
    assert parse_plain(b"{}").token is None
    assert parse_plain(b'{"clientToken":"t"}').token == "t"
    assert refused(parse_plain, b"[]") == (400, "Invalid JSON")
    assert refused(parse_plain, b"\xff")[0] == 415


def test_token_of_a_request_that_is_not_read():
    assert token_of(b'{"clientToken":"t","state":5}') == "t"
    assert token_of(b"nonsense") is None


def test_refusal_carries_the_token():
    with pytest.raises(ShadowError) as caught:
        parse_update(b'{"state":5,"clientToken":"t"}', LIMITS)
    assert caught.value.answer(NOW) == {
        "code": 400,
        "message": "State node must be an object",
        "timestamp": int(NOW),
        "clientToken": "t",
    }


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (None, False, False),
        (None, None, True),
        ("1", 1, False),
        ([1, [2]], [1.0, [2.0]], True),
        ([1], [1, 2], False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, [1], False),
    ],
)
def test_equality_of_json_values(a, b, same):
    assert equal(a, b) is same
    assert equal(b, a) is same
