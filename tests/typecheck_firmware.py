"""Check the firmware's types with mypy against the stubs of MicroPython for the ESP32.

The stubs take the place of CPython's library (a custom typeshed). They lie in site-packages,
where mypy would not take them from, so they are copied into the build folder. What mypy finds in
the stubs themselves is not ours and is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path

from mypy import api

ROOT = Path(__file__).resolve().parents[1]
STUBS = ROOT / "build" / "stubs"
PACKAGES = ("micropython-esp32-stubs", "micropython-stdlib-stubs")

# What mypy cannot know
GAPS = re.compile(
    r'"SSLContext" has no attribute "verify_mode"'  # missing in the stub of tls
    r'|Module has no attribute "socket"'  # umqtt.simple imports it, its stub does not
    r'|has no attribute "(_schemas|\w+_plain)"'  # modules that the image build makes
    r"|_Ticks(Ms|Us)"  # ticks are a type of their own in the stubs, and integers in the VM
)


def copy_stubs() -> None:
    """Copy the stubs once per version."""
    stamp = STUBS / "version"
    version = " ".join(f"{name} {distribution(name).version}" for name in PACKAGES)
    if stamp.is_file() and stamp.read_text() == version:
        return
    shutil.rmtree(STUBS, ignore_errors=True)
    for name in PACKAGES:
        for file in distribution(name).files or []:
            if file.suffix == ".pyi" or file.name == "VERSIONS":
                target = STUBS / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), target)
    stamp.write_text(version)


def main() -> int:
    """Print what is wrong in the firmware; return 1 if anything is."""
    copy_stubs()
    os.environ["MYPYPATH"] = f"{ROOT / 'firmware'}{os.pathsep}{STUBS}"
    os.chdir(ROOT)
    out, err, status = api.run(
        [
            "--config-file=",
            f"--custom-typeshed-dir={STUBS}",
            "--python-version=3.11",
            "--namespace-packages",
            "--explicit-package-bases",
            "--no-site-packages",
            "--check-untyped-defs",
            # the firmware has no annotations: None is how a name starts, and its type shows later
            "--no-strict-optional",
            "--disable-error-code=var-annotated",
            "--disable-error-code=no-redef",
            "--disable-error-code=assignment",
            "--no-error-summary",
            "--show-error-codes",
            f"--cache-dir={ROOT / '.mypy_cache' / 'firmware'}",
            "firmware",
        ]
    )
    if status not in (0, 1):  # mypy itself could not do its work
        print(out + err)
        return status
    own = [
        line
        for line in out.splitlines()
        if line.startswith("firmware") and " error: " in line and not GAPS.search(line)
    ]
    print("\n".join(own + err.splitlines()), end="\n" if own or err else "")
    return 1 if own or err else 0


if __name__ == "__main__":
    sys.exit(main())
