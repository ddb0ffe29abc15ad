"""Runs the device tests: each module in a MicroPython VM of its own, each test a pytest item.

A file ``tests/device/test_*.py`` is MicroPython. pytest never imports it: its ``test_*``
functions and these constants are found by parsing.

* ``HEAP_KW``: heap in K words (KB on a 32-bit VM, twice that on a 64-bit one), default 128;
* ``TIMEOUT_S``: deadline of each test in seconds, default 30;
* ``FIXTURES``: names of host fixtures (module or session scope) with a value that JSON can
  carry; the test finds them in ``harness.fixtures``.

The VM is the one of ``$MICROPYTHON`` or the registry's. Its path holds the compiled application,
the compiled test module and the other modules of its folder.
"""

from __future__ import annotations

import ast
import json
import os
import selectors
import signal
import subprocess
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gridnode_host import build, resources

MARK = b"\x1e"
HEAP_KW = 128
TIMEOUT_S = 30
START_TIMEOUT_S = 30
HARNESS = Path(__file__).parent / "device" / "vm" / "harness.py"


class DeviceVm:
    """One VM that has loaded one test module."""

    def __init__(self, module: types.ModuleType, folder: Path, fixtures: dict[str, Any]) -> None:
        self._timeout_s: float = module.TIMEOUT_S
        self._ended = ""
        self._pending = b""
        vm = build.micropython()
        arch = build.vm_arch(vm)
        image = resources.image_dir(arch)
        source = Path(str(module.__file__))
        for path in (HARNESS, source, *_helpers(source.parent)):
            _compile(path, arch, folder)
        # .frozen holds the VM's own asyncio and ssl
        start = f"import sys; sys.path[:] = ['.frozen', {str(folder)!r}, {str(image)!r}]; "
        start += "import harness; harness.serve()"
        self._process = subprocess.Popen(
            [vm, "-X", f"heapsize={module.HEAP_KW}wK", "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        order = json.dumps({"module": source.stem, "fixtures": fixtures})
        answer = self._ask(order, f"import of {source.name}", START_TIMEOUT_S)
        if answer.get("error"):
            self._ended = f"{source.name} could not be imported:\n{answer['error']}"

    def run(self, name: str) -> None:
        """Run one test; fails with the device's traceback."""
        if self._ended:
            pytest.fail(self._ended, pytrace=False)
        answer = self._ask(name, name, self._timeout_s)
        if answer.get("error"):
            pytest.fail(answer["error"], pytrace=False)
        if "skip" in answer:
            pytest.skip(answer["skip"])

    def close(self) -> None:
        """End the VM."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, line: str, what: str, timeout_s: float) -> dict[str, Any]:
        """Write a line and return the answer; what the test prints is passed on to stdout."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the VM has ended; reading tells how
        answer = self._read(time.monotonic() + timeout_s)
        if answer is None and self._process.poll() is None:
            self._ended = f"{what} took more than {timeout_s} s; the VM was stopped"
            self._process.send_signal(signal.SIGINT)  # the traceback shows where it hung
            answer = self._read(time.monotonic() + 10) or {}
            self._process.kill()
            pytest.fail(f"{self._ended}\n{answer.get('error') or ''}", pytrace=False)
        if answer is None:
            self._ended = f"the VM ended during {what} (code {self._process.wait()})"
            pytest.fail(self._ended, pytrace=False)
        return answer

    def _read(self, deadline: float) -> dict[str, Any] | None:
        """Return the next answer, or None when the VM has ended or the deadline has passed."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as ready:
            ready.register(descriptor, selectors.EVENT_READ)
            while True:
                line, end, rest = self._pending.partition(b"\n")
                if end:
                    self._pending = rest
                    if line.startswith(MARK):
                        answer: dict[str, Any] = json.loads(line[1:])
                        return answer
                    print(line.decode(errors="replace").rstrip("\r"))
                    continue
                left = deadline - time.monotonic()
                if left <= 0 or not ready.select(left):
                    return None
                chunk = os.read(descriptor, 65536)
                if not chunk:
                    print(self._pending.decode(errors="replace"))
                    self._process.wait(timeout=5)
                    return None
                self._pending += chunk


def _helpers(folder: Path) -> list[Path]:
    """Return the modules that device tests share: what is neither a test nor pytest's."""
    return [
        path
        for path in folder.glob("*.py")
        if not path.name.startswith("test_") and path.name != "conftest.py"
    ]


def _compile(source: Path, arch: str, folder: Path) -> None:
    # -O0: the tests are made of asserts
    command = [build.compiler(), "-O0", f"-march={arch}", "-s", source.name]
    command += ["-o", str(folder / f"{source.stem}.mpy"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)


def collect(path: Path, parent: pytest.Collector) -> pytest.Module:
    """Return a pytest module whose functions run their namesakes in the VM."""
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    settings: dict[str, Any] = {"HEAP_KW": HEAP_KW, "TIMEOUT_S": TIMEOUT_S, "FIXTURES": ()}
    for node in ast.parse(path.read_text("utf-8"), str(path)).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            setattr(module, node.name, _item(node.name, path, node.lineno))
        elif isinstance(node, ast.Assign):
            name = ast.unparse(node.targets[0])
            if name in settings:
                settings[name] = ast.literal_eval(node.value)
    module.__dict__.update(settings)
    collector: pytest.Module = pytest.Module.from_parent(parent, path=path)
    collector.obj = module
    return collector


def _item(name: str, path: Path, line: int) -> Callable[[DeviceVm], None]:
    def test(device_vm: DeviceVm) -> None:
        device_vm.run(name)

    test.__name__ = test.__qualname__ = name
    test.__code__ = test.__code__.replace(co_filename=str(path), co_firstlineno=line)
    return test


@pytest.fixture(scope="module")
def device_vm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DeviceVm]:
    """The VM of a device test module."""
    fixtures = {name: request.getfixturevalue(name) for name in request.module.FIXTURES}
    vm = DeviceVm(request.module, tmp_path_factory.mktemp("device"), fixtures)
    yield vm
    vm.close()
