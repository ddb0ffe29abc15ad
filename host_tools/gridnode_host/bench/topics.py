"""MQTT topic names and filters (MQTT 3.1.1, chapter 4.7), and how AWS counts them."""

from __future__ import annotations


def valid_name(topic: str) -> bool:
    """Tell whether ``topic`` may be published to."""
    return bool(topic) and not any(c in topic for c in "+#\0")


def valid_filter(topic_filter: str) -> bool:
    """Tell whether ``topic_filter`` may be subscribed to."""
    if not topic_filter or "\0" in topic_filter:
        return False
    levels = topic_filter.split("/")
    for at, level in enumerate(levels):
        if "#" in level and (level != "#" or at != len(levels) - 1):
            return False
        if "+" in level and level != "+":
            return False
    return True


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a message on ``topic`` is for ``topic_filter``."""
    if topic_filter == topic:
        return True
    if "+" not in topic_filter and not topic_filter.endswith("#"):
        return False
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or level not in ("+", levels[at]):
            return False
    return len(wanted) == len(levels)


def slashes(topic: str) -> int:
    """Count the slashes as AWS does: a Basic Ingest prefix, ``$aws/rules/NAME/``, is free."""
    return topic.count("/") - (3 if topic.startswith("$aws/rules/") else 0)
