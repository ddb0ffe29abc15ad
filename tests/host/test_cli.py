"""The command line: help, exit codes, JSON lines, and no stop of a node that is only watched."""

import json
import re
import select
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from command_line import events, gridnode
from fake_node import FakeNode
from gridnode_host import certs, cli, monitor, resources
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output
from typer.main import get_command


def verbs(command: Any, *words: str) -> Iterator[str]:
    """Every command that can be run, with the words that lead to it."""
    below = getattr(command, "commands", {})
    if not below or command.invoke_without_command:
        yield " ".join(words)
    for name, one in below.items():
        yield from verbs(one, *words, name)


VERBS = sorted(verbs(get_command(cli.app)))


def test_every_group_is_walked() -> None:
    assert {"certs", "calibrate", "calibrate set", "simulate grid-sensor"} <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_and_the_exit_codes(verb: str) -> None:
    code, out, _ = gridnode(*verb.split(), "--help")
    assert code == 0
    assert f"Example: gridnode {verb}" in out
    assert "Exit codes: 0 done, 1 internal error, 2 usage" in out
    assert "--json" in out


def test_the_table_of_exit_codes_is_in_the_help() -> None:
    code, out, _ = gridnode("--help")
    assert code == 0
    for exit_code in Exit:
        assert f"{int(exit_code)} {exit_code.meaning}" in re.sub(r"\s+", " ", out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["monitor"],
        ["ports", "--no-such-option"],
        ["demo", "--nodes", "0"],
        ["certs", "--thing", "a/b"],
        ["build", "--arch"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], tmp_path: Path) -> None:
    code, _, err = gridnode(*arguments)
    assert code == Exit.USAGE
    assert err


def test_a_missing_port_ends_with_3_and_says_what_to_do(tmp_path: Path) -> None:
    port = str(tmp_path / "tty")
    code, _, err = gridnode("monitor", "--port", port)
    assert code == Exit.NO_NODE
    assert [line.split()[0] for line in err.splitlines()] == ["failed", "cause", "next"]
    code, out, _ = gridnode("monitor", "--port", port, "--json")
    assert code == Exit.NO_NODE
    last = events(out)[-1]
    assert (last["event"], last["exit"]) == ("error", 3)
    assert {"step", "cause", "action"} < set(last)


def test_ports_lists_json(monkeypatch: pytest.MonkeyPatch) -> None:
    from gridnode_host import device

    row = {"port": "/dev/ttyUSB0", "description": "CP2102 [x]", "usb": "10c4:ea60"}
    monkeypatch.setattr(device, "list_ports", lambda every: [row])
    assert "CP2102 [x]" in gridnode("ports")[1]
    found = events(gridnode("ports", "--json")[1])
    assert found[0] == {"v": 1, "event": "port", **row}
    assert found[-1]["event"] == "done"


def test_certs_makes_keeps_and_renews(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    options = ["certs", "--thing", "m-1", "--server", "--certs-dir", str(folder), "--json"]
    assert gridnode(*options, "--dry-run")[0] == 0
    assert not folder.exists()
    assert gridnode(*options)[0] == 0
    key = folder / "nodes" / "m-1" / "key.der"
    first, ca = key.read_bytes(), (folder / "ca.pem").read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    kept = events(gridnode(*options)[1])
    assert [event["event"] for event in kept] == ["kept", "kept", "ca", "done"]
    assert key.read_bytes() == first
    assert gridnode(*options, "--renew")[0] == 0
    assert key.read_bytes() != first
    assert (folder / "ca.pem").read_bytes() == ca


def test_monitor_tells_events_and_sends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fault = {"event": "fault", "code": "tls_ca", "message": "wrong CA"}
    with FakeNode() as fake:

        def talk() -> None:
            fake.say(b'{"event": "report", "voltage": 230.1, "energy_import_wh": 1500}')
            fake.say(b"not JSON")
            fake.say(json.dumps(fault).encode())

        timer = threading.Timer(0.3, talk)  # opening a port drops what came before
        timer.start()
        monitor.run(fake.port, Output(as_json=True), duration_s=1.2)
        timer.join()
        received = fake.received
    found = events(capsys.readouterr().out)
    assert [event["event"] for event in found] == ["node", "console", "node", "done"]
    assert received == b""
    text = monitor.describe({"event": "report", "voltage": 230.1, "energy_import_wh": 1500})
    assert "230.1 V" in text
    assert "1.500 kWh" in text
    assert "--ca-file" in monitor.describe(fault)


def test_build_tells_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = gridnode("build", "--arch", "x64", "--json")
    assert code == 0
    images = [event for event in events(out) if event["event"] == "image"]
    assert images[0]["arch"] == "x64"
    monkeypatch.setattr(resources, "checkout", lambda: None)
    assert gridnode("build")[0] == Exit.USAGE


def test_an_unexpected_failure_is_told_as_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("x")

    monkeypatch.setattr(certs, "ensure_ca", fail)
    code, _, err = gridnode("certs", "--certs-dir", "/nowhere")
    assert code == Exit.INTERNAL
    assert "ZeroDivisionError" in err
    assert "GRIDNODE_DEBUG" in err


def test_the_wifi_key_is_no_option() -> None:
    _, out, _ = gridnode("provision", "--help")
    assert "--wifi-key-file" in out
    code, _, _ = gridnode("provision", "--wifi-key", "secret")
    assert code == Exit.USAGE


@pytest.mark.parametrize("as_json", [True, False])
def test_a_step_that_fails_is_not_told_as_done(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Output(as_json)

    def write() -> None:
        with out.step("write") as progress:
            progress(1, 2)
            raise GridnodeError("write", "cause")

    with pytest.raises(GridnodeError):
        write()
    assert "done  write" not in (text := capsys.readouterr().out)
    assert '"state": "done"' not in text


def test_python_m_runs_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gridnode_host", "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith("gridnode ")


@pytest.mark.parametrize("code", [Exit.DONE, Exit.CLOUD])
def test_the_demo_gives_its_own_exit_code(monkeypatch: pytest.MonkeyPatch, code: Exit) -> None:
    from gridnode_host.bench import demo

    asked: dict[str, object] = {}

    def run(_: Output, **options: object) -> int:
        asked.update(options)
        return int(code)

    monkeypatch.setattr(demo, "run", run)
    assert gridnode("demo", "--nodes", "2", "--duration", "5")[0] == code
    assert asked == {"nodes": 2, "duration": 5.0, "learn": 48}


@pytest.mark.parametrize(
    ("verb", "missing"),
    [
        *product(["demo", "bench"], ["numpy", "amqtt", "termios", "pty"]),
        ("simulate faults --list", "numpy"),
        ("simulate grid-sensor --out x", "numpy"),
        ("simulate sysmon", "psutil"),
    ],
)
def test_without_its_extra_the_bench_says_how_to_install_it(verb: str, missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None  # as if it were not installed
from gridnode_host import cli
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *verb.split()],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == Exit.USAGE
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["failed", "cause", "next"]
    assert missing in done.stderr
    assert "pip install 'gridnode[bench]'" in done.stderr
    assert "Linux or macOS" in done.stderr


def test_a_broken_import_of_its_own_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gridnode_host.bench.demo", None)
    code, _, err = gridnode("demo")
    assert code == Exit.INTERNAL
    assert "GRIDNODE_DEBUG" in err


def test_monitor_ends_well_on_ctrl_c() -> None:
    with FakeNode() as fake:
        process = subprocess.Popen(
            [sys.executable, "-m", "gridnode_host", "monitor", "--port", fake.port, "--json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        for _ in range(100):  # talk until it listens
            fake.say(b'{"event": "boot"}')
            if select.select([process.stdout], [], [], 0.2)[0]:
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert events(rest)[-1]["event"] == "done"
