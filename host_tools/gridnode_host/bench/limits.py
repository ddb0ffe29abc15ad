"""Limits of AWS IoT Core's MQTT endpoint, each one a switch of the bench.

Figures: AWS IoT Core endpoints and quotas (General Reference) and the developer guide, "MQTT".
None switches a limit off. Times are in rig seconds, so that they follow a warped clock, except
those of the transport itself, which cannot be warped.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one connection may do. A breach closes the connection unless said otherwise."""

    payload_bytes: int | None = 128 * 1024
    topic_bytes: int | None = 256
    topic_slashes: int | None = 7
    client_id_bytes: int | None = 128
    filters_per_subscribe: int | None = 8
    subscriptions: int | None = 50
    # More are discarded without an acknowledgement; the connection stays.
    publishes_per_second: int | None = 100
    # Off by default: a bench restarts its nodes more often than a field does.
    connects_per_second: int | None = None
    # Messages sent to a client and not yet acknowledged; more wait in its session.
    in_flight: int = 100
    # A shorter keep-alive is raised, a longer one and 0 mean the maximum; drop at 1.5 times.
    keep_alive_min: float = 30.0
    keep_alive_max: float = 1200.0
    # A persistent session ends so long after its connection.
    session_expiry: float = 3600.0
    # An unacknowledged QoS 1 message is sent again to a connected client after this time, and
    # given up when it is older than a session may be.
    resend_after: float = 30.0
    # Real seconds for the TLS handshake, and again for CONNECT to follow it.
    handshake_timeout: float = 20.0
    connect_timeout: float = 20.0
    # Real seconds a closing connection has to take what was sent to it.
    close_timeout: float = 2.0
