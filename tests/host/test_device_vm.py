"""The runner of the device tests: each way a test can end inside the VM is told apart."""

import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]

MODULE = """
from harness import Skip, fixtures

HEAP_KW = 64
TIMEOUT_S = 2
FIXTURES = ("answer",)


def test_passes():
    import umqtt.simple
    print("heard")


def test_fixture():
    assert fixtures["answer"] == {"port": 42}


def test_skips():
    raise Skip("no such thing here")


def test_fails():
    assert 1 == 2, "not equal"


def test_memory():
    bytearray(300000)


def test_hangs():
    while True:
        pass


def test_after_a_hang():
    pass
"""

CRASH = """
import os



def test_crash():
    import uctypes
    uctypes.bytearray_at(8, 4)[0] = 1


def test_after_a_crash():
    pass
"""

CONFTEST = """

@pytest.fixture(scope="session")
def answer():
    return {"port": 42}
"""


def test_every_ending_is_an_ordinary_result(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    folder.mkdir()
    text = (TESTS / "device" / "conftest.py").read_text()
    (folder / "conftest.py").write_text(text + CONFTEST)
    (folder / "test_endings.py").write_text(MODULE)
    (folder / "test_crash.py").write_text(CRASH)
    (folder / "test_broken.py").write_text("import no_such_module\n\n\ndef test_x():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-o", f"pythonpath={TESTS}", "--rootdir", str(tmp_path), str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path
    )
    summary = done.stdout.rpartition("short test summary")[2]
    results = dict(
        reversed(pair) for pair in re.findall(r"^(\w+) \S+::(\w+)", summary, re.MULTILINE)
    )
    assert results == {
        "test_passes": "PASSED",
        "test_fixture": "PASSED",
        "test_fails": "FAILED",
        "test_memory": "FAILED",
        "test_hangs": "FAILED",
        "test_after_a_hang": "FAILED",
        "test_crash": "FAILED",
        "test_after_a_crash": "FAILED",
        "test_x": "FAILED",
    }
    assert "no such thing here" in summary
    output = done.stdout
    assert "heard" in output
    assert "not equal" in output
    assert "MemoryError" in output
    assert "took more than 2" in output
    assert re.search(r'File "test_endings.py", line \d+, in test_hangs', output)
    assert "the VM ended during test_crash" in output
    assert "no module named 'no_such_module'" in output
