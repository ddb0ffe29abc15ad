"""Topic names and filters, MQTT 3.1.1 chapter 4.7."""

from __future__ import annotations

import pytest
from gridnode_host.bench.topics import matches, slashes, valid_filter, valid_name


@pytest.mark.parametrize(
    ("topic_filter", "topic", "match"),
    [
        ("sport/tennis/#", "sport/tennis", True),
        ("sport/tennis/#", "sport/tennis/player1/score", True),
        ("sport/#", "sports", False),
        ("#", "a/b", True),
        ("#", "$aws/things/n1/shadow/update", False),
        ("+/things/#", "$aws/things/n1/shadow/update", False),
        ("$aws/#", "$aws/things/n1/shadow/update", True),
        ("$aws/things/+/shadow/+", "$aws/things/n1/shadow/update", True),
        ("$aws/things/+/shadow/+", "$aws/things/n1/shadow/update/delta", False),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("a/+", "a", False),
        ("a/b", "a/b/c", False),
        ("a/+/c", "a//c", True),
    ],
)
def test_matches(topic_filter, topic, match):
    assert matches(topic_filter, topic) is match


@pytest.mark.parametrize(
    ("topic_filter", "valid"),
    [
        ("#", True),
        ("a/#", True),
        ("+", True),
        ("+/a/+", True),
        ("/", True),
        ("", False),
        ("a#", False),
        ("a/#/b", False),
        ("a+", False),
        ("a/+b", False),
        ("a\0", False),
    ],
)
def test_valid_filters(topic_filter, valid):
    assert valid_filter(topic_filter) is valid


@pytest.mark.parametrize(
    ("topic", "valid"),
    [("a", True), ("/", True), ("a b", True), ("", False), ("a/+", False), ("#", False)],
)
def test_valid_names(topic, valid):
    assert valid_name(topic) is valid


def test_slashes_of_basic_ingest_are_free():
    assert slashes("a/b/c") == 2
    assert slashes("$aws/rules/history/a/b/c") == 2
    assert slashes("$aws/things/n1/shadow/name/x/update/accepted") == 7
