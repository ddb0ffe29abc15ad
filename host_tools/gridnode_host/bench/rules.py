"""What one MQTT client may send: AWS IoT Core's limits and the client's policy.

Each check returns why a request is refused, or an empty string.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amqtt.mqtt.connect import ConnectVariableHeader

from gridnode_host.bench import topics
from gridnode_host.bench.limits import Limits
from gridnode_host.bench.mqtt_codec import Malformed
from gridnode_host.bench.policy import BoundPolicy


class Rules:
    """The rules of one connection; without ``rights``, before CONNECT, nothing is allowed."""

    def __init__(self, limits: Limits, rights: BoundPolicy | None = None) -> None:
        self._limits = limits
        self._rights = rights

    def receive(self, topic: str) -> bool:
        """Tell whether a message on ``topic`` may be delivered."""
        return self._allowed("iot:Receive", f"topic/{topic}")

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> str:
        """Check a PUBLISH or a last will."""
        limit = self._limits.payload_bytes
        if qos > 1:
            return f"QoS {qos} is not supported"
        if not topics.valid_name(topic):
            return f"topic {topic!r} cannot be published to"
        if problem := self._length(topic):
            return problem
        if limit is not None and len(payload) > limit:
            return f"payload of {len(payload)} bytes on {topic}"
        if retain and topic.startswith("$"):
            return f"retained message on reserved topic {topic}"
        if not self._allowed("iot:Publish", f"topic/{topic}"):
            return f"iot:Publish on {topic} is not allowed"
        if retain and not self._allowed("iot:RetainPublish", f"topic/{topic}"):
            return f"iot:RetainPublish on {topic} is not allowed"
        return ""

    def subscribe(self, wanted: Sequence[tuple[str, int]], known: Mapping[str, int]) -> str:
        """Check a SUBSCRIBE beside the filters that are ``known``; raise `Malformed`."""
        limits = self._limits
        if limits.filters_per_subscribe and len(wanted) > limits.filters_per_subscribe:
            return f"{len(wanted)} filters in one SUBSCRIBE"
        for topic_filter, qos in wanted:
            if not topics.valid_filter(topic_filter) or qos > 2:
                raise Malformed(f"SUBSCRIBE to {topic_filter!r} with QoS {qos}")
            if qos > 1:
                return f"QoS {qos} is not supported"
            if problem := self._length(topic_filter):
                return problem
            if not self._allowed("iot:Subscribe", f"topicfilter/{topic_filter}"):
                return f"iot:Subscribe to {topic_filter} is not allowed"
        count = len(known.keys() | {topic_filter for topic_filter, _ in wanted})
        if limits.subscriptions and count > limits.subscriptions:
            return f"{count} subscriptions"
        return ""

    def _allowed(self, action: str, resource: str) -> bool:
        return self._rights is not None and self._rights.allows(action, resource)

    def _length(self, topic: str) -> str:
        limits, size, slashes = self._limits, len(topic.encode()), topics.slashes(topic)
        if limits.topic_bytes is not None and size > limits.topic_bytes:
            return f"topic of {size} bytes"
        if limits.topic_slashes is not None and slashes > limits.topic_slashes:
            return f"topic with {slashes} slashes"
        return ""


def check_connect_flags(head: ConnectVariableHeader) -> None:
    """Raise `Malformed` for flags that MQTT 3.1.1 (3.1.2) forbids."""
    without_will = not head.will_flag and (head.will_qos or head.will_retain_flag)
    lone_password = head.password_flag and not head.username_flag
    if head.reserved_flag or head.will_qos == 3 or without_will or lone_password:
        raise Malformed("CONNECT with impossible flags")
