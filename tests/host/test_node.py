"""The virtual node behaves like an ESP32 on a serial port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.node import VirtualNode
from gridnode_host.bench.wiring import Wiring
from repl import RAW, Repl, wait_for

PROMPT = b">>> "

LOOP = """
import asyncio
print("main runs")
async def main():
    while True:
        await asyncio.sleep(5)
asyncio.run(main())
"""

Make = Callable[..., VirtualNode]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return a maker of nodes; they are stopped at the end."""
    nodes: list[VirtualNode] = []

    def make(name: str = "node", image: Path | None = None, **options: object) -> VirtualNode:
        node = VirtualNode(name, tmp_path / name, image, Wiring(), RigClock(), **options)  # type: ignore[arg-type]
        nodes.append(node)
        node.start()
        return node

    yield make
    for node in nodes:
        node.stop()


def write_file(node: VirtualNode, path: str, text: str) -> None:
    with Repl(node.port) as repl:
        repl.raw()
        repl.run(f"f = open({path!r}, 'w'); f.write({text!r}); f.close()")


def mpremote(node: VirtualNode, *arguments: str) -> str:
    command = [sys.executable, "-m", "mpremote", "connect", node.port, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.replace("\r\n", "\n")


def test_a_new_node_formats_its_flash_and_shows_a_prompt(make: Make) -> None:
    node = make()
    wait_for(lambda: node.console.endswith(PROMPT))
    assert b"rst:0x1 (POWERON_RESET)" in node.console
    assert b"MicroPython" in node.console
    assert node.alive
    assert node.reset_cause == "power_on"
    assert node.flash.programs > 0
    assert node.flash.violations == 0


def test_line_ends_are_those_of_a_board(make: Make) -> None:
    node = make()
    wait_for(lambda: node.console.endswith(PROMPT))
    with Repl(node.port) as repl:
        repl.serial.write(b"print('a', 'b', sep='\\n')\r")
        assert repl.until(b"b\r\n" + PROMPT).endswith(b"\r\na\r\nb\r\n" + PROMPT)


def test_main_runs_at_power_on_and_ends_in_the_prompt(make: Make) -> None:
    node = make()
    write_file(node, "/boot.py", "print('boot runs')")
    write_file(node, "/main.py", "print('main runs')\n1 / 0\n")
    before = len(node.console)
    lines: list[str] = []
    node.on_line(lines.append)
    node.power_cycle()
    wait_for(lambda: node.console[before:].endswith(PROMPT))
    text = node.console[before:]
    assert text.index(b"boot runs") < text.index(b"main runs") < text.index(b"ZeroDivisionError")
    assert "main runs" in lines


def test_the_image_is_the_application(make: Make, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.mkdir()
    (image / "main.py").write_text("import part\nprint(part.answer)\n")
    (image / "part.py").write_text("answer = 'from ' + __file__\n")
    node = make(image=image)
    wait_for(lambda: node.console.endswith(PROMPT))
    assert b"from /rom/part.py" in node.console
    with Repl(node.port) as repl:
        repl.raw()
        assert repl.run("import sys; print(sys.path)") == "['.frozen', '/rom', '/lib']"
        repl.start("open('/rom/x', 'w')")
        assert "OSError" in repl.finish()[1]


def test_mpremote_works_unmodified_on_a_running_node(make: Make, tmp_path: Path) -> None:
    node = make()
    write_file(node, "/main.py", LOOP)
    node.power_cycle()
    wait_for(lambda: b"main runs" in node.console)
    data = tmp_path / "data.bin"
    data.write_bytes(os.urandom(9000))
    assert mpremote(node, "exec", "print(6 * 7)") == "42\n"
    mpremote(node, "fs", "cp", str(data), ":/data.bin")
    assert "9000 data.bin" in mpremote(node, "fs", "ls", ":/")
    mpremote(node, "fs", "cp", ":/data.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == data.read_bytes()
    assert node.console.count(b"main runs\r\n") == 1, "main.py ran while the host had the node"
    mpremote(node, "reset")
    wait_for(lambda: node.console.count(b"main runs\r\n") == 2)
    assert node.reset_cause == "hard"


def test_soft_reset_at_the_prompt_runs_main_and_in_the_raw_repl_does_not(make: Make) -> None:
    node = make()
    write_file(node, "/main.py", "print('main runs')")
    with Repl(node.port) as repl:
        repl.raw()
        repl.serial.write(b"\x04")
        text = repl.until(RAW)
        assert b"MPY: soft reboot\r\n" in text
        assert b"main runs" not in text
        assert b"help()" not in text
        assert repl.run("import machine; print(machine.reset_cause())") == "5"
        repl.serial.write(b"\x02")
        repl.until(PROMPT)
        repl.serial.write(b"\x04")
        text = repl.until(PROMPT)
        assert b"MPY: soft reboot\r\nmain runs\r\n" in text
        repl.serial.write(b"import sys; sys.exit()\r")
        assert b"main runs\r\n" in repl.until(b"help()")
    assert node.reset_cause == "soft"


@pytest.mark.parametrize(
    ("how", "cause", "number", "keeps"),
    [
        ("import machine; machine.soft_reset()", "soft", 5, True),
        ("import machine; machine.reset()", "hard", 2, True),
        ("import machine; machine.WDT(timeout=50)\nwhile True: pass", "wdt", 3, True),
        ("import machine; machine.deepsleep(30)", "deepsleep", 4, True),
        ("power", "power_on", 1, False),
        ("enable pin", "power_on", 1, False),
    ],
)
def test_reset_causes_and_what_they_keep(
    make: Make, how: str, cause: str, number: int, keeps: bool
) -> None:
    node = make()
    with Repl(node.port) as repl:
        repl.raw()
        repl.run("import machine; r = machine.RTC(); r.memory(b'kept' * 500)")
        repl.run("r.datetime((2026, 7, 1, 0, 12, 0, 0, 0)); open('/file', 'w').close()")
        before = len(node.console)
        if how == "power":
            node.power_cycle()
        elif how == "enable pin":
            node.reset()
        else:
            repl.start(how)
        up = (b"MicroPython", b"soft reboot\r\nraw REPL")
        wait_for(lambda: any(text in node.console[before:] for text in up))
        assert node.reset_cause == cause
        repl.raw()
        code = "import machine, os, time; r = machine.RTC()\n"
        code += "print(machine.reset_cause(), r.memory() == b'kept' * 500, time.gmtime()[0])\n"
        code += "print(os.listdir('/'))"
        year = 2026 if keeps else 2000
        assert repl.run(code) == f"{number} {keeps} {year}\n['file']"


def test_a_fed_watchdog_lets_live_and_outlives_a_soft_reset(make: Make) -> None:
    node = make()
    with Repl(node.port) as repl:
        repl.raw()
        # longer than a soft reset takes on a busy machine
        code = "import machine, time; w = machine.WDT(timeout=1500)\n"
        code += "for i in range(8):\n time.sleep_ms(250); w.feed()"
        repl.run(code)
        repl.serial.write(b"\x04")
        repl.until(RAW)
        assert node.reset_cause == "soft"
        wait_for(lambda: node.reset_cause == "wdt")
        wait_for(lambda: node.alive)
        repl.raw()
        repl.run("import machine; w = machine.WDT(timeout=300); w = machine.WDT(timeout=600000)")
        time.sleep(0.5)
        assert repl.run("print(1)") == "1"


@pytest.mark.parametrize(
    "program",
    [
        LOOP,
        "print('main runs')\nwhile True: pass",
        "import time; print('main runs')\nwhile True: time.sleep(60)",
        "import time; print('main runs')\nwhile True: time.ticks_ms()",
        "import machine; a = machine.ADC(36); print('main runs')\nwhile True: a.read()",
    ],
)
def test_ctrl_c_ends_the_program(make: Make, program: str) -> None:
    node = make()
    with Repl(node.port) as repl:
        repl.raw()
        for _ in range(3):
            repl.start(program)
            repl.until(b"main runs\r\n")
            begun = time.monotonic()
            repl.serial.write(b"\x03")
            assert "KeyboardInterrupt" in repl.finish()[1]
            assert time.monotonic() - begun < 2
        assert repl.run("print(1)") == "1"


def test_what_is_typed_after_ctrl_c_waits_for_the_program_to_end(make: Make) -> None:
    node = make()
    with Repl(node.port) as repl:
        repl.raw()
        program = "import time\ntry:\n print('main runs')\n time.sleep(60)\n"
        program += "except KeyboardInterrupt:\n time.sleep(0.5)\n"
        repl.start(program)
        repl.until(b"main runs\r\n")
        repl.serial.write(b"\x03print(6 * 7)\x04")
        assert repl.finish() == ("", "")
        repl.until(b"OK")
        assert repl.finish() == ("42\n", "")


def test_a_ctrl_c_that_comes_too_late_does_not_overtake_what_follows_it(make: Make) -> None:
    node = make()
    with Repl(node.port) as repl:
        repl.raw()
        repl.start("import _clock; _clock._nap(100000)")  # real time, and deaf to the bus
        repl.serial.write(b"\x03pri")
        assert repl.finish() == ("", "")
        time.sleep(0.2)
        repl.serial.write(b"nt(6 * 7)\x04")
        repl.until(b"OK")
        assert repl.finish() == ("42\n", "")


def test_files_and_nvs_survive_a_new_bench(make: Make, tmp_path: Path) -> None:
    first = make()
    write_file(first, "/file", "kept")
    with Repl(first.port) as repl:
        repl.raw()
        repl.run("import esp32; n = esp32.NVS('a'); n.set_i32('k', -5); n.commit()")
    first.stop()
    second = make()
    with Repl(second.port) as repl:
        repl.raw()
        code = "import esp32; print(open('/file').read(), esp32.NVS('a').get_i32('k'))"
        assert repl.run(code) == "kept -5"


def test_a_crash_of_the_vm_is_a_panic(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    node = make()
    wait_for(lambda: node.console.endswith(PROMPT))
    run = node._current
    assert run is not None
    os.kill(run.vm.process.pid, signal.SIGSEGV)
    wait_for(lambda: node.reset_cause == "hard")
    wait_for(lambda: node.console.endswith(PROMPT))
    assert b"Guru Meditation" in node.console


def test_a_node_that_nobody_listens_to_is_not_held_up(make: Make) -> None:
    node = make()
    write_file(node, "/main.py", "for i in range(4000): print('x' * 200)\nopen('/done', 'w')")
    node.power_cycle()
    wait_for(lambda: node.console.endswith(PROMPT))
    with Repl(node.port) as repl:
        repl.raw()
        assert "done" in repl.run("import os; print(os.listdir('/'))")


def test_three_nodes_run_beside_each_other(make: Make) -> None:
    nodes = [make(f"node{i}") for i in range(3)]
    assert len({node.port for node in nodes}) == 3
    assert len({node.board.mac for node in nodes}) == 3
    code = "import machine, time\nfor i in range(200):\n machine.RTC().memory({0!r})\n"
    code += " assert machine.RTC().memory() == {0!r}\n time.sleep_us(10)\nprint('good')"
    repls = [Repl(node.port) for node in nodes]
    try:
        for repl in repls:
            repl.raw()
        for index, repl in enumerate(repls):
            repl.start(code.format(f"node {index}".encode()))
        assert [repl.finish() for repl in repls] == [("good\n", "")] * 3
    finally:
        for repl in repls:
            repl.serial.close()


def test_power_may_fail_at_any_moment_of_the_start(make: Make) -> None:
    node = make()
    for step in range(12):
        time.sleep(0.004 * step)
        begun = time.monotonic()
        node.power_cycle()
        assert time.monotonic() - begun < 3
    wait_for(lambda: node.console.endswith(PROMPT))
    assert node.flash.violations == 0


def test_leaving_the_raw_repl_and_resetting_in_one_breath_starts_the_program(make: Make) -> None:
    node = make()
    write_file(node, "/main.py", "print('main runs')")
    for count in range(1, 6):
        with Repl(node.port) as repl:
            repl.raw()
            repl.serial.write(b"\r\x02\x04")
        wait_for(lambda: node.console.count(b"main runs\r\n") == count)  # noqa: B023


def test_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    def traces() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    VirtualNode("first", tmp_path / "first", None, Wiring(), RigClock()).stop()
    before = traces()
    pids = []
    for name in ("one", "two"):
        with VirtualNode(name, tmp_path / name, None, Wiring(), RigClock()) as node:
            wait_for(lambda: node.console.endswith(PROMPT))
            node.power_cycle()
            wait_for(lambda: node.console.count(PROMPT) == 2)
            assert node._current is not None
            pids.append(node._current.vm.process.pid)
        assert not node.alive
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["flash.bin"]
    assert traces() == before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert not [name for name in os.listdir("/dev/shm") if name.endswith(f"_{pid}")]


def test_the_vm_ends_with_the_bench(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from gridnode_host.bench.clock import RigClock\n"
        "from gridnode_host.bench.node import VirtualNode\n"
        "from gridnode_host.bench.wiring import Wiring\n"
        f"n = VirtualNode('n', Path({str(tmp_path)!r}), None, Wiring(), RigClock()); n.start()\n"
        "while not n.console.endswith(b'>>> '): time.sleep(0.01)\n"
        "print(n._current.vm.process.pid, flush=True); time.sleep(60)\n"
    )
    bench = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with bench:
        assert bench.stdout is not None
        pid = int(bench.stdout.readline())
        os.kill(pid, 0)
        bench.kill()

    def gone() -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state == "Z"

    wait_for(gone, what="end of the VM")
    shared = Path("/dev/shm")
    assert not shared.is_dir() or not [p for p in shared.iterdir() if str(pid) in p.name]
