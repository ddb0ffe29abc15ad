"""What a technician does about a fault that a node reports: step, cause, next action.

A node's console line ``{"event": "fault", "room", "code", "message", "action"}`` says what the
node sees and what it does itself. Some causes look alike from the node: a broker that refuses a
client certificate only closes the connection, so the next action then names the broker's log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gridnode_host.errors import Exit, GridnodeError


@dataclass(frozen=True)
class Advice:
    """How one fault code is told. A ``lasting`` fault does not go away by waiting."""

    step: str
    action: str
    lasting: bool = False
    exit: Exit = Exit.CLOUD


_NETWORK = "join the network"
_CLOCK = "set the node's clock"
_BROKER = "reach the broker"
_TLS = "secure the connection"
_MQTT = "sign in at the broker"

_START = "start with the configuration"
_MEASURE = "measure"
_JUDGE = "judge the readings"

_DEFECT = "This is a defect of the firmware: keep the node's /log and update the node."
_CERTS = "Provision the node again; gridnode certs --renew makes new certificates."
_NAME = "Give --broker the name that stands in the broker's certificate, or renew that."

_ADVICE = {
    "wlan_no_ap": Advice(_NETWORK, "Check the network's name, 2.4 GHz and the distance."),
    # weak signal looks like a wrong key now and then, so this one is not lasting
    "wlan_key": Advice(_NETWORK, "Provision again with the right Wi-Fi key."),
    "wlan_timeout": Advice(_NETWORK, "Check the access point's DHCP server and free addresses."),
    "lan_timeout": Advice(_NETWORK, "Check the Ethernet cable, the switch and its DHCP server."),
    "network_config": Advice(
        _NETWORK, "Provision again with other network settings.", lasting=True
    ),
    "network_lost": Advice(_NETWORK, "Check the access point or the cable."),
    "sntp_timeout": Advice(_CLOCK, "Check --sntp, and that UDP to its port is let through."),
    "sntp_dns": Advice(_CLOCK, "Check the time server's name and the network's name server."),
    "sntp_refused": Advice(_CLOCK, "Choose another time server with --sntp."),
    "sntp_bad": Advice(_CLOCK, "Choose another time server with --sntp."),
    "dns": Advice(_BROKER, "Check the broker's name and the network's name server."),
    "tcp": Advice(_BROKER, "Check host and port of --broker, and that the broker is running."),
    "timeout": Advice(_BROKER, "Check the network and any firewall between node and broker."),
    "tls_ca": Advice(
        _TLS,
        "The node has another CA than the one that signed the broker's certificate: provision "
        "with that CA (--ca-file or --certs-dir).",
        lasting=True,
    ),
    "tls_no_ca": Advice(_TLS, _CERTS, lasting=True),
    "tls_expired": Advice(
        _TLS, "Renew the broker's certificate (gridnode certs --server --renew).", lasting=True
    ),
    "tls_not_yet_valid": Advice(
        _TLS, "The node's clock is not set or the certificate is too new: check --sntp."
    ),
    "tls_hostname": Advice(_TLS, _NAME, lasting=True),
    "tls_key_mismatch": Advice(_TLS, _CERTS, lasting=True),
    "ca_invalid": Advice(_TLS, _CERTS, lasting=True),
    "cert_invalid": Advice(_TLS, _CERTS, lasting=True),
    "key_invalid": Advice(_TLS, _CERTS, lasting=True),
    "tls_refused": Advice(
        _TLS,
        "The broker closed without a reason that a node can see. Look into the broker's log: "
        "most often it does not know the node's certificate or CA, or the certificate expired.",
    ),
    "tls": Advice(_TLS, "Look into the broker's log for the reason."),
    "mqtt_refused": Advice(
        _MQTT, "Register the thing at the broker and attach a policy that lets it connect."
    ),
    "closed": Advice(
        _MQTT,
        "The broker closed the connection: see its log. Its policy must allow the thing's "
        "topics, and no other client may use the same name.",
    ),
    "subscribe_refused": Advice(_MQTT, "Let the thing's policy allow its shadow topics."),
    "mqtt_timeout": Advice(_MQTT, "Look into the broker's log; check the network's quality."),
    "mqtt_protocol": Advice(_MQTT, "Check that --broker is an MQTT 3.1.1 broker; see its log."),
    "overflow": Advice(_MQTT, _DEFECT, exit=Exit.REFUSED),
    "rejected": Advice(
        "report to the shadow", "The shadow service refused an update: see its log for the reason."
    ),
    "sync_timeout": Advice(
        "report to the shadow", "The broker answers but no shadow service does: check that one."
    ),
    "sntp_step": Advice(_CLOCK, "The time server jumps: choose another one with --sntp."),
    "cert_missing": Advice(_TLS, "Provision the node again: it lacks a certificate or key.", True),
    "node": Advice(_START, "Provision the node again.", True, Exit.REFUSED),
    "incomplete": Advice(_START, "Provision the node again.", True, Exit.REFUSED),
    "profile": Advice(
        _START, "Provision again with a profile that fits this firmware.", True, Exit.REFUSED
    ),
    # the node goes on and reports once per row
    "interval": Advice(
        _START,
        "Provision again with an --interval that is a multiple of the row.",
        False,
        Exit.REFUSED,
    ),
    "bus_fault": Advice(
        _MEASURE,
        "Check wiring and supply of the metering chip or meter, a meter's address and baud rate, "
        "and that the profile is this SKU's.",
        exit=Exit.REFUSED,
    ),
    "stale": Advice(
        _MEASURE,
        "The meter answers, but with values that do not change: switch its supply off and on.",
        exit=Exit.REFUSED,
    ),
    "implausible": Advice(
        _MEASURE,
        "The meter sends values that its place cannot have: check its wiring and the profile's ratings.",
        exit=Exit.REFUSED,
    ),
    "threshold": Advice(
        _MEASURE,
        "Nothing to do, or a profile with a smaller voltage or current at the chip.",
        exit=Exit.REFUSED,
    ),
    "flash": Advice(
        "keep the energy totals",
        "Keep the node powered until it is repaired: its flash takes no more writes.",
        exit=Exit.REFUSED,
    ),
    "model": Advice(
        _JUDGE,
        "Nothing to do after a change of SKU, wiring or ratings: it learns anew.",
        exit=Exit.REFUSED,
    ),
    "faults": Advice(
        _JUDGE,
        "Provision again: the rules of faults on the node are not of this firmware.",
        exit=Exit.REFUSED,
    ),
    "forest": Advice(
        _JUDGE,
        "Provision again: the forest on the node is missing or not of this firmware.",
        exit=Exit.REFUSED,
    ),
    "unsaved": Advice(
        _JUDGE,
        "Keep the node powered: after a power cut it has the model of before, or learns anew.",
        exit=Exit.REFUSED,
    ),
    "no_room": Advice(
        _JUDGE, "Flash an image in which the application is frozen.", exit=Exit.REFUSED
    ),
    "failed": Advice(_JUDGE, "Restart the node. " + _DEFECT, exit=Exit.REFUSED),
    "memory": Advice("run the application", "Restart the node. " + _DEFECT, exit=Exit.REFUSED),
    "internal": Advice("run the application", _DEFECT, exit=Exit.REFUSED),
    "crash": Advice("run the application", _DEFECT, exit=Exit.REFUSED),
}

# Where the code alone does not tell: first word of the room.
_BY_ROOM = {
    "config": Advice(_START, "Correct the file and provision again.", True, Exit.REFUSED),
    "calibration": Advice(
        _MEASURE,
        "Provision again with the right file at --calibration; until then the node does not "
        "measure with that calibration.",
        exit=Exit.REFUSED,
    ),
    "meter": Advice(
        _MEASURE, "Check that the profile is this SKU's and provision again.", exit=Exit.REFUSED
    ),
    "link": Advice(_BROKER, "Look into the broker's log."),
    "mqtt": Advice(_MQTT, "Look into the broker's log."),
    "network": Advice(_NETWORK, "Check the network and provision again with its settings."),
    "clock": Advice(_CLOCK, "Check the time server (--sntp)."),
}
_OTHER = Advice(
    "run the node",
    "Watch it with gridnode monitor; if it stays, restart the node and update it.",
    exit=Exit.REFUSED,
)


def advice(event: dict[str, Any]) -> Advice:
    """Return the advice for a fault event, a general one when its code is not known."""
    room = str(event.get("room")).partition(" ")[0]  # a meter's name follows its room
    general = _BY_ROOM.get(room, _OTHER)
    return _ADVICE.get(str(event.get("code")), general)


def to_error(event: dict[str, Any]) -> GridnodeError:
    """Return a fault event as the failure that is shown to a person."""
    known = advice(event)
    cause = f"{event.get('message') or 'no reason given'} ({event.get('code', '?')})"
    return GridnodeError(known.step, cause, known.action, known.exit)
