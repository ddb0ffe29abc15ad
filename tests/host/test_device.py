"""Serial access: every way a port or a node can fail has its exit code, cause and next action."""

import errno
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import serial
from fake_node import FakeNode
from gridnode_host import device
from gridnode_host.errors import Exit, GridnodeError


def test_a_missing_port_is_named(tmp_path: Path) -> None:
    with pytest.raises(GridnodeError, match="there is no port") as failure:
        device.Node(str(tmp_path / "ttyUSB9"))
    assert failure.value.exit == Exit.NO_NODE


def test_something_that_is_no_port_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(GridnodeError) as failure:
        device.Node(str(path))
    assert failure.value.exit == Exit.NO_NODE


HOLD = """
import serial, sys
port = serial.Serial(sys.argv[1], exclusive=True)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("use", [device.Node, device.Console.open])
def test_a_busy_port_names_its_holder(use: Callable[[str], object]) -> None:
    with (
        FakeNode() as fake,
        subprocess.Popen(
            [sys.executable, "-c", HOLD, fake.port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(GridnodeError, match="is in use") as failure:
            use(fake.port)
        assert failure.value.exit == Exit.PORT_BUSY
        if Path("/proc").is_dir():
            assert f"process {holder.pid}" in failure.value.cause
        holder.communicate()


def test_no_permission_tells_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise serial.SerialException(errno.EACCES, "Permission denied")

    monkeypatch.setattr(serial, "serial_for_url", refuse)
    with FakeNode() as fake, pytest.raises(GridnodeError, match="no permission") as failure:
        device.Console.open(fake.port)
    assert failure.value.exit == Exit.PORT_BUSY
    assert "usermod -aG" in failure.value.action


def test_a_silent_port_is_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_STOP_S", 0.1)
    monkeypatch.setattr(device, "_READ_S", 0.05)
    master, slave = pty.openpty()
    with (
        device.Node(os.ttyname(slave)) as node,
        pytest.raises(GridnodeError, match="answers like MicroPython") as failure,
    ):
        node.stop()
    assert failure.value.exit == Exit.NO_NODE
    os.close(master)
    os.close(slave)


def test_a_chip_without_the_application_is_told_apart() -> None:
    with FakeNode(application=False) as fake, device.Node(fake.port) as node:
        node.stop()
        with pytest.raises(GridnodeError, match="no Gridnode application") as failure:
            node.call("info")
    assert failure.value.exit == Exit.WRONG_CHIP


def test_a_failing_service_call_tells_the_device_error() -> None:
    with FakeNode() as fake, device.Node(fake.port) as node:
        node.stop()
        with pytest.raises(GridnodeError, match="AttributeError") as failure:
            node.call("no_such_function")
    assert failure.value.exit == Exit.REFUSED


def test_closing_starts_the_application_again() -> None:
    with FakeNode() as fake:
        with device.Node(fake.port) as node:
            node.stop()
        limit = time.monotonic() + 20
        while not fake.soft_resets and time.monotonic() < limit:
            time.sleep(0.01)
        assert fake.soft_resets == 1


def test_staged_files_arrive_whole() -> None:
    data = bytes(range(256)) * 9
    seen: list[tuple[int, int]] = []
    with FakeNode() as fake, device.Node(fake.port) as node:
        node.stop()
        node.stage("/config/x", data, lambda done, total: seen.append((done, total)))
        assert fake.files == {"/config/x.new": data}
    assert seen[-1] == (len(data), len(data))


def test_console_lines_survive_noise_and_end_in_time() -> None:
    with FakeNode() as fake:
        console = device.Console.open(fake.port)
        fake.say(b'{"event": "boot"}')
        fake.say(b"\xff\xfe noise")
        started = time.monotonic()
        lines = [line for line in console.lines(started + 1.5) if line is not None]
        assert time.monotonic() - started < 4
        console.close()
    assert lines[0] == '{"event": "boot"}'
    assert lines[1].endswith(" noise")
    assert len(lines) == 2


@pytest.mark.parametrize("line", ["", "null", "[1]", "{", '{"event": 3}', "Traceback"])
def test_other_lines_are_no_events(line: str) -> None:
    assert device.parse_event(line) is None
