"""What a technician reads about a fault: every code that a node tells has advice of its own."""

import re

import pytest
from gridnode_host import faults, resources
from gridnode_host.errors import Exit

TOLD = re.compile(
    r'(?:Fault\("\w+"|_mqtt\(|_link\(|_network\(|\.fault\([^"\n]*"[\w ]+"[^",]*),? ?"(\w+)"'
)


def fault(room: str, code: str) -> dict[str, str]:
    return {"event": "fault", "room": room, "code": code, "message": "m"}


def test_no_code_of_the_firmware_is_without_advice() -> None:
    root = resources.checkout()
    assert root
    text = "".join(path.read_text() for path in sorted((root / "firmware").rglob("*.py")))
    codes = set(TOLD.findall(text))
    assert {"cert_missing", "mqtt_timeout", "interval", "sync_timeout"} <= codes
    codes |= {"bus_fault", "stale", "implausible"}  # a reading's reasons, passed on as they are
    elsewhere = {"file", "refused", "sntp_"}  # told by their room; the first part of the clock's codes
    assert not codes - elsewhere - set(faults._ADVICE)


@pytest.mark.parametrize(
    ("room", "code", "words"),
    [
        ("meter grid", "bus_fault", "wiring and supply of the metering chip"),
        ("meter", "refused", "profile is this SKU's"),
        ("calibration", "refused", "--calibration"),
        ("calibration", "file", "--calibration"),
        ("link", "cert_missing", "Provision the node again"),
        ("config", "profile", "profile"),
        ("config", "node", "Provision the node again"),
        ("config", "interval", "--interval"),
        ("config", "new", "provision again"),
        ("link", "new", "broker's log"),
        ("new", "new", "gridnode monitor"),
    ],
)
def test_the_action_fits_the_fault(room: str, code: str, words: str) -> None:
    error = faults.to_error(fault(room, code))
    assert words in error.action
    assert error.cause == f"m ({code})"
    assert error.exit in (Exit.REFUSED, Exit.CLOUD)


def test_every_advice_stands_alone() -> None:
    for known in (*faults._ADVICE.values(), *faults._BY_ROOM.values(), faults._OTHER):
        assert known.action.endswith(".")
        assert "above" not in known.action


def test_what_the_node_can_live_with_does_not_end_the_wait() -> None:
    assert faults.advice(fault("link", "cert_missing")).lasting
    assert faults.advice(fault("config", "profile")).lasting
    for room, code in (
        ("config", "interval"),
        ("meter grid", "bus_fault"),
        ("calibration", "file"),
    ):
        assert not faults.advice(fault(room, code)).lasting
