"""Schema subset, configuration as a whole, desired.config."""

import json

from gridnode import config, documents, schema
from ramdisk import BASE, setup

HEAP_KW = 192

NODE = {
    "version": 1,
    "thing": "node-1",
    "network": {"kind": "none"},
    "mqtt": {"host": "localhost", "port": 8883},
    "report": {"interval_s": 10},
    "later": {"unknown": True},
}


def changed(**fields):
    document = json.loads(json.dumps(NODE))
    document.update(fields)
    return document


def reason(document, row_s=10):
    try:
        config.check_node(document, row_s)
    except config.ConfigError as e:
        return str(e)
    return None


def test_a_good_document_passes_and_unknown_keys_are_kept():
    assert reason(NODE) is None


def test_refusals_name_the_place():
    for document, part in (
        (changed(version=2), "version 2"),
        (changed(version=True), "version"),
        (changed(thing=""), "thing is below 1 characters"),
        (changed(thing=7), "thing must be of type string"),
        (changed(mqtt={"port": 1}), "mqtt lacks 'host'"),
        (changed(mqtt={"host": "x", "port": 70000}), "mqtt.port is above 65535"),
        (changed(mqtt={"host": "x", "port": True}), "mqtt.port must be of type integer"),
        (changed(network={"kind": "zigbee"}), "network.kind must be one of wlan, lan, none"),
        (changed(network={"kind": "wlan"}), "needs network.ssid"),
        (changed(report={"interval_s": 15}), "multiple"),
        (changed(report={"interval_s": 10.5}), "integer"),
    ):
        got = reason(document)
        assert got and part in got, (got, part)


def test_profile_schema_is_in_the_image():
    s = schema.load("profile")
    assert s["properties"]["meters"]["items"]["required"] == ["id", "driver"]
    try:
        schema.check(s, {"version": 1})
        assert 0
    except schema.SchemaError as e:
        assert "lacks" in str(e)


def test_no_meter_sits_on_the_console():
    profile = {
        "version": 1,
        "sku": "x",
        "board": {"console": {"uart": 0, "tx": 1, "rx": 3}},
        "phases": 1,
        "nominal": {"voltage": 230, "frequency": 50},
        "rating": {"current": 16},
        "meters": [{"id": "main", "driver": "bl0942", "uart": {"id": 2, "tx": 17, "rx": 16, "baud": 4800}}],
    }
    config.check_profile(profile)
    for wrong in ({"id": 0}, {"tx": 1}, {"rx": 3}, {"de": 1}):
        document = json.loads(json.dumps(profile))
        document["meters"][0]["uart"].update(wrong)
        try:
            config.check_profile(document)
            assert 0, wrong
        except config.ConfigError as e:
            assert str(e) == "meter 'main' sits on the console UART"


def test_desired_config_is_applied_or_refused_as_a_whole():
    end = setup()
    path, documents.NODE = documents.NODE, BASE + "/node.json"
    try:
        c = config.Config(changed(), 10)
        assert c.apply({"report": {"interval_s": 30}}) is None
        assert c.get("report")["interval_s"] == 30
        assert documents.load(documents.NODE)[0]["report"]["interval_s"] == 30
        assert documents.load(documents.NODE)[0]["later"] == {"unknown": True}
        for patch, part in (
            ({"report": {"interval_s": 25}}, "multiple"),
            ({"report": {"interval_s": 0}}, "below"),
            ({"report": {"interval_s": 60}, "mqtt": {"host": "evil"}}, "mqtt cannot be changed"),
            ({"network": {"kind": "none"}}, "cannot be changed"),
            ({"thing": "other"}, "cannot be changed"),
            ({"report": 5}, "type object"),
            (None, "object"),
            ([1], "object"),
        ):
            got = c.apply(patch)
            assert got and part in got, (patch, got)
            assert c.get("report")["interval_s"] == 30
        assert c.apply({"report": {"interval_s": None}}) is None
        assert c.get("report")["interval_s"] == 10
    finally:
        documents.NODE = path
        end()


def test_interval_never_contradicts_the_row():
    c = config.Config(changed(report={"interval_s": 10}), 4)
    assert c.get("report")["interval_s"] == 4 and c.remote()["report"]["interval_s"] == 4
    assert config.Config({"version": 1}, 7).get("report")["interval_s"] == 7
    assert "multiple" in config.interval_problem(changed(report={"interval_s": 10}), 4)


def test_an_interval_that_gave_way_does_not_block_other_changes():
    end = setup()
    path, documents.NODE = documents.NODE, BASE + "/node.json"
    try:
        c = config.Config(changed(report={"interval_s": 15}), 10)
        assert c.apply({"clock": {"server": "ntp.example", "resync_s": 600}}) is None
        assert c.remote()["clock"]["resync_s"] == 600 and c.remote()["report"]["interval_s"] == 10
    finally:
        documents.NODE = path
        end()


def test_a_refused_generation_leaves_the_previous_one():
    end = setup()
    try:
        path = BASE + "/node.json"
        documents.save(path, changed(thing="old"))
        documents.save(path, changed(version=9, thing="new"))
        document, problem = config.load(path, config.check_node)
        assert document["thing"] == "old" and "version 9" in problem, (document, problem)
        documents.save(path, changed(version=8))
        document, problem = config.load(path, config.check_node)
        assert document is None and "version 8" in problem, (document, problem)
        assert config.load(BASE + "/none.json", config.check_node) == (None, BASE + "/none.json is missing")
    finally:
        end()
