"""Addresses as people write them: HOST or HOST:PORT."""

from __future__ import annotations

from gridnode_host.errors import Exit, GridnodeError

MQTT_PORT = 8883
SNTP_PORT = 123


def host_port(option: str, text: str, default: int) -> tuple[str, int]:
    """Split ``host``, ``host:port``, ``[v6]`` or ``[v6]:port``; ``option`` is for the refusal."""
    host, sep, port = text.rpartition(":")
    if not sep or text.endswith("]"):
        host, port = text, str(default)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise GridnodeError(
            "check the settings",
            f"{option} {text!r} is not HOST or HOST:PORT",
            "Example: broker.example:8883",
            Exit.USAGE,
        )
    return host, int(port)
