"""Give a node its configuration, profile and certificates, and see it connect.

Nothing on the node changes until all files have arrived and the node itself has checked their
hashes and contents: it then gives them their names, all or none. Secrets travel over the serial
cable only; they never appear among arguments, in messages or in temporary files.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from gridnode_host import certs, faults, monitor, profiles, resources
from gridnode_host.address import MQTT_PORT, SNTP_PORT, host_port
from gridnode_host.device import Node, parse_event
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.files import unread
from gridnode_host.output import Output

NODE_JSON = "/config/node.json"
PROFILE_JSON = "/config/profile.json"
CALIBRATION_JSON = "/config/calibration.json"
FAULTS_JSONL = "/config/faults.jsonl"
FOREST_GNF = "/config/forest.gnf"
CA_DER, CERT_DER, KEY_DER = "/certs/ca.der", "/certs/cert.der", "/certs/key.der"

WIFI_KEY_VARIABLE = "GRIDNODE_WIFI_KEY"


@dataclass(frozen=True)
class Plan:
    """What one node is to get, and from where."""

    port: str
    thing: str
    config: dict[str, Any]
    profile: dict[str, Any]
    certs_dir: Path
    calibration: dict[str, Any] | None = None
    ca_file: Path | None = None  # what signs the broker's certificate, if not the own CA
    keep_keys: bool = False
    timeout_s: float = 90.0


def node_config(
    thing: str,
    broker: str,
    network: str,
    *,
    ssid: str | None = None,
    key: str | None = None,
    sntp: str | None = None,
    interval_s: int | None = None,
) -> dict[str, Any]:
    """Return the content of ``node.json``, checked against the config schema."""
    if network == "wlan" and not ssid:
        raise GridnodeError(
            "check the settings",
            "a node on Wi-Fi needs the network's name",
            "Give --wifi-ssid, or --network lan or none.",
            Exit.USAGE,
        )
    host, port = host_port("--broker", broker, MQTT_PORT)
    settings: dict[str, Any] = {"kind": network}
    if network == "wlan":
        settings["ssid"] = ssid
        if key:
            settings["key"] = key
    config: dict[str, Any] = {
        "version": 1,
        "thing": thing,
        "network": settings,
        "mqtt": {"host": host, "port": port},
    }
    if sntp:
        server, port = host_port("--sntp", sntp, SNTP_PORT)
        config["clock"] = {"server": server, "port": port}
    if interval_s is not None:
        config["report"] = {"interval_s": interval_s}
    _check("config", config)
    return config


def wifi_key(file: Path | None, *, ask: bool) -> str | None:
    """Return the Wi-Fi key from a file, the environment or a hidden prompt; None: open network."""
    if file:
        try:
            lines = file.read_text("utf-8").splitlines()
        except OSError as err:
            raise unread("read the Wi-Fi key", file, err) from err
        return lines[0] if lines else None
    if WIFI_KEY_VARIABLE in os.environ:
        return os.environ[WIFI_KEY_VARIABLE] or None
    return (getpass.getpass("Wi-Fi key (empty for an open network): ") or None) if ask else None


def load_calibration(path: Path | None) -> dict[str, Any] | None:
    """Return the content of a calibration file, or None without one."""
    if path is None:
        return None
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as err:
        raise GridnodeError(
            "read the calibration", f"{path}: {err}", "Check the file.", Exit.USAGE
        ) from err
    if not isinstance(document, dict):
        raise GridnodeError(
            "read the calibration", f"{path} holds no JSON object", "Check the file.", Exit.USAGE
        )
    return document


def run(plan: Plan, out: Output, *, dry_run: bool = False) -> None:
    """Carry a plan out; returns when the node says that it is connected.

    Raises `GridnodeError` with the step that failed. Until the node has installed the files it
    keeps working as before.
    """
    _check("profile", plan.profile)
    profiles.check(plan.profile)
    _check_interval(plan.config, plan.profile)
    folder = certs.node_folder(plan.certs_dir, plan.thing)
    ca = certs.read_der(plan.ca_file) if plan.ca_file else None
    profile, table = _detection(plan.profile)
    tree = plan.profile.get("detector", {}).get("forest")
    forest = {FOREST_GNF: resources.forest(tree)} if tree else {}
    documents = {NODE_JSON: plan.config, PROFILE_JSON: profile}
    if plan.calibration is not None:
        documents[CALIBRATION_JSON] = plan.calibration
    if dry_run:
        for path in (*documents, FAULTS_JSONL, *forest, CA_DER, CERT_DER, KEY_DER):
            out.event("plan", f"would write {path} to the node on {plan.port}", path=path)
        if not plan.keep_keys and (folder / "key.der").is_file():
            out.event("plan", f"would then remove {folder / 'key.der'}", path=str(folder))
        out.done()
        return
    with out.step(f"open {plan.port}"):
        node = Node(plan.port)
    with node:
        with out.step("prepare key and certificate"):
            authority = certs.ensure_ca(plan.certs_dir)
            identity = certs.node_identity(plan.certs_dir, plan.thing)
            if identity:
                cert, key = identity.cert.read_bytes(), identity.key.read_bytes()
            else:  # a key that is not to be kept never reaches this machine's disk
                cert, key = certs.new_node(authority, plan.thing)
        files = {path: _compact(content) for path, content in documents.items()}
        files |= {FAULTS_JSONL: table, **forest}
        files |= {CA_DER: ca or authority.der.read_bytes(), CERT_DER: cert, KEY_DER: key}
        install(node, files, out)
        certs.store_node(plan.certs_dir, plan.thing, cert, key if plan.keep_keys else None)
        where = "is kept on this machine as well" if plan.keep_keys else "is on the node only"
        out.event("key", f"      the node's private key {where}", kept=plan.keep_keys)
        with out.step("restart the node"):
            node.restart()
        with out.step("wait until the node is connected"):
            seconds = _await_connected(node, out, plan)
    out.done(
        f"{plan.thing} is provisioned and connected ({seconds:.1f} s after its restart)",
        thing=plan.thing,
        connected_s=round(seconds, 2),
    )


def _detection(profile: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return a profile without its rules of faults, and all rules, one a line: a node reads one at a time."""
    own = profile.get("detector", {})
    rules = resources.faults(own.get("faults"))
    if "faults" in own:
        profile = {**profile, "detector": {k: v for k, v in own.items() if k != "faults"}}
    return profile, b"".join(_compact(rule) + b"\n" for rule in rules)


def _check_interval(config: dict[str, Any], profile: dict[str, Any]) -> None:
    interval, row = config.get("report", {}).get("interval_s"), profile.get("row_s", 10)
    if interval and interval % row:
        raise GridnodeError(
            "check the settings",
            f"a report every {interval} s does not go with the profile's rows of {row} s",
            f"Give --interval a multiple of {row}.",
            Exit.USAGE,
        )


def install(node: Node, files: dict[str, bytes], out: Output) -> None:
    """Stop the application and give the node all files or none; it checks them itself."""
    hashes = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    with out.step("stop the application"):
        node.stop()
        info = node.call("info")
    out.event("node_info", None, info=info)
    total, written = sum(len(data) for data in files.values()), 0
    with out.step("write the files") as progress:
        for path, data in files.items():

            def show(done: int, _: int, before: int = written) -> None:
                progress(before + done, total)

            node.stage(path, data, show)
            written += len(data)
    with out.step("let the node check and install them"):
        try:
            node.call("install", hashes)
        except GridnodeError:
            with contextlib.suppress(GridnodeError):
                node.call("discard", list(hashes))
            raise
    with out.step("read the hashes back"):
        found = node.call("hashes", list(hashes)).get("hashes", {})
        wrong = [path for path in hashes if found.get(path) != hashes[path]]
        if wrong:
            raise GridnodeError(
                "read the hashes back",
                f"the node holds other content in {', '.join(wrong)}",
                "Provision again; if it happens once more, the node's flash is failing.",
                Exit.VERIFY,
            )


def _await_connected(node: Node, out: Output, plan: Plan) -> float:
    """Wait for the node's own connected line; returns the seconds it took."""
    started = time.monotonic()
    last: dict[str, Any] | None = None
    for line in node.console.lines(started + plan.timeout_s):
        event = parse_event(line) if line else None
        if event is None:
            continue
        name = event["event"]
        if name == "connected":
            return time.monotonic() - started
        if name == "fault":
            if last is None or event.get("code") != last.get("code"):
                out.event("node", f"      {monitor.describe(event)}", node=event)
            last = event
            if faults.advice(event).lasting:
                raise faults.to_error(event)
    if last:
        raise faults.to_error(last)
    raise GridnodeError(
        "wait until the node is connected",
        f"the node said nothing of a connection for {plan.timeout_s:g} s",
        f"See what it says: gridnode monitor --port {plan.port}",
        Exit.CLOUD,
    )


def _check(kind: str, document: dict[str, Any]) -> None:
    """Check a document against its schema; the message names the place, never the value."""
    validator = jsonschema.Draft202012Validator(resources.schema(kind))
    for error in sorted(validator.iter_errors(document), key=lambda err: list(err.path)):
        place = "/".join(str(part) for part in error.path) or "the document"
        secret = "key" in error.path
        cause = f"{place}: {'not usable' if secret else error.message}"
        raise GridnodeError(f"check the {kind}", cause, "Correct it.", Exit.USAGE)


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
