"""The shadow service on its topics, on a broker of a few lines."""

from __future__ import annotations

import json
import threading

import pytest
from gridnode_host.bench.limits import Limits
from gridnode_host.bench.routing import Message, Router
from gridnode_host.bench.shadow import ShadowService
from gridnode_host.bench.shadow_document import ShadowError, ShadowLimits

NOW = 1_700_000_000.0
CLASSIC = "$aws/things/n1/shadow"


class Bench:
    """Routes in the caller's thread and keeps what was published."""

    def __init__(self, limits=None, things=None):
        self.now = NOW
        self.sent = []
        self.router = Router(Limits(), lambda: self.now)
        self.service = ShadowService(self, lambda: self.now, limits, things)

    def subscribe(self, topic_filter, callback):
        return self.router.observe(topic_filter, callback)

    def publish(self, topic, payload, qos=1, retain=False):
        self.sent.append((topic, json.loads(payload)))
        self.router.publish(Message(topic, payload, qos, retain))

    def request(self, path, body=b"", prefix=CLASSIC, will=False):
        """Publish a request and return the answers as {topic below the prefix: document}."""
        self.sent.clear()
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.router.publish(Message(f"{prefix}/{path}", payload, 1, client="n1", will=will))
        answers = {t.removeprefix(prefix + "/"): document for t, document in self.sent}
        assert len(answers) == len(self.sent)
        return answers


@pytest.fixture
def bench():
    return Bench()


def test_update_then_get_then_delete(bench):
    answers = bench.request("update", {"state": {"reported": {"a": 1}}, "clientToken": "t"})
    assert set(answers) == {"update/accepted", "update/documents"}
    assert answers["update/accepted"]["clientToken"] == "t"
    answers = bench.request("update", {"state": {"desired": {"a": 2}}})
    assert answers["update/delta"]["state"] == {"a": 2}
    assert answers["update/documents"]["previous"]["version"] == 1
    answers = bench.request("get", b"")
    assert answers == {"get/accepted": bench.service.get("n1")}
    assert answers["get/accepted"]["state"] == {
        "desired": {"a": 2},
        "reported": {"a": 1},
        "delta": {"a": 2},
    }
    assert bench.request("get", {"clientToken": "g"})["get/accepted"]["clientToken"] == "g"
    assert bench.request("delete") == {"delete/accepted": {"version": 2, "timestamp": NOW}}
    assert bench.service.get("n1") is None
    assert bench.request("get", {"clientToken": "g"}) == {
        "get/rejected": {
            "code": 404,
            "message": "No shadow exists with name: n1",
            "timestamp": NOW,
            "clientToken": "g",
        }
    }
    assert bench.request("delete")["delete/rejected"]["code"] == 404
    recreated = bench.request("update", {"state": {}})
    assert recreated["update/accepted"]["version"] == 4


def test_refused_update_leaves_nothing_behind(bench):
    answers = bench.request("update", {"state": {}, "version": 7, "clientToken": "t"})
    assert answers == {
        "update/rejected": {
            "code": 409,
            "message": "Version conflict",
            "timestamp": NOW,
            "clientToken": "t",
        }
    }
    assert bench.request("get")["get/rejected"]["code"] == 404


def test_named_shadows_are_separate(bench):
    named = f"{CLASSIC}/name/wave"
    bench.request("update", {"state": {"reported": {"a": 1}}})
    answers = bench.request("update", {"state": {"reported": {"b": 2}}}, named)
    assert answers["update/accepted"]["version"] == 1
    assert bench.service.get("n1", "wave")["state"] == {"reported": {"b": 2}}
    assert bench.service.get("n1")["state"] == {"reported": {"a": 1}}
    missing = bench.request("get", b"", f"{CLASSIC}/name/none")
    assert missing["get/rejected"]["message"] == "No shadow exists with name: none"
    invalid = bench.request("get", b"", f"{CLASSIC}/name/{'x' * 65}")
    assert invalid["get/rejected"]["code"] == 400


def test_cloud_side_sends_the_same_messages(bench):
    bench.request("update", {"state": {"reported": {"a": 1}}})
    bench.sent.clear()
    accepted = bench.service.update("n1", {"desired": {"a": 5}}, token="app")
    assert [topic.removeprefix(CLASSIC) for topic, _ in bench.sent] == [
        "/update/accepted",
        "/update/delta",
        "/update/documents",
    ]
    assert accepted == bench.sent[0][1]
    with pytest.raises(ShadowError, match="Version conflict"):
        bench.service.update("n1", {}, version=1)
    with pytest.raises(ShadowError, match="Desired node must be an object"):
        bench.service.update("n1", {"desired": 5})
    bench.service.delete("n1")
    with pytest.raises(ShadowError, match="No shadow exists"):
        bench.service.delete("n1")


def test_unknown_thing():
    bench = Bench(things={"n2"})
    refused = bench.request("update", {"state": {}, "clientToken": "t"})["update/rejected"]
    assert (refused["code"], refused["message"]) == (404, "Thing not found")
    assert refused["clientToken"] == "t"
    assert bench.request("update", {"state": {}}, "$aws/things/n2/shadow")["update/accepted"]


def test_last_will_on_a_shadow_topic_is_ignored(bench):
    assert bench.request("update", {"state": {"reported": {"a": 1}}}, will=True) == {}
    assert bench.service.get("n1") is None


def test_answers_are_no_requests(bench):
    for path in ("update/accepted", "get/accepted", "update/documents", "name/x/update/delta"):
        assert bench.request(path, {"state": {}}) == {}


def test_too_many_requests_under_way():
    bench = Bench(ShadowLimits(in_flight=10, in_flight_s=0.05))
    for _ in range(10):
        assert "get/rejected" in bench.request("get")
    refused = bench.request("update", {"state": {}, "clientToken": "t"})["update/rejected"]
    assert (refused["code"], refused["clientToken"]) == (429, "t")
    # other things are not affected, and neither is this one a moment later
    other = bench.request("update", {"state": {}}, "$aws/things/n2/shadow")
    assert "update/accepted" in other
    bench.now += 0.0625
    assert "update/accepted" in bench.request("update", {"state": {}})
    free = Bench(ShadowLimits(in_flight=None))
    assert all("update/accepted" in free.request("update", {"state": {}}) for _ in range(50))


def test_time_is_that_of_the_clock(bench):
    bench.now = NOW + 3600
    bench.request("update", {"state": {"reported": {"a": 1}}})
    document = bench.service.get("n1")
    assert document["timestamp"] == NOW + 3600
    assert document["metadata"]["reported"]["a"]["timestamp"] == NOW + 3600


def test_failure_inside_is_answered(bench, monkeypatch, caplog):
    monkeypatch.setattr("gridnode_host.bench.shadow.parse_update", lambda *_: 1 / 0)
    answers = bench.request("update", {"state": {}, "clientToken": "t"})
    assert answers["update/rejected"]["code"] == 500
    assert answers["update/rejected"]["clientToken"] == "t"
    assert "ZeroDivisionError" in caplog.text


def test_threads_do_not_lose_an_update(bench):
    def work(section):
        for i in range(100):
            bench.service.update("n1", {section: {str(i): i}})

    threads = [threading.Thread(target=work, args=(s,)) for s in ("desired", "reported")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    document = bench.service.get("n1")
    assert document["version"] == 200
    assert "delta" not in document["state"]


def test_close_ends_the_service(bench):
    bench.service.close()
    assert bench.request("update", {"state": {}}) == {}
