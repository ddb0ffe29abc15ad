"""Image build: every module for every chip, twins, schemas, and only what has changed."""

import json
import subprocess
from pathlib import Path

import pytest
from gridnode_host import build, resources
from gridnode_host.errors import Exit, GridnodeError

ARCH_BITS = {"x86": 1, "x64": 2, "xtensawin": 10, "rv32imc": 11}


@pytest.mark.parametrize("arch", ["xtensawin", "rv32imc"])
def test_every_module_compiles_for_the_chips(arch: str, tmp_path: Path) -> None:
    image = build.build_image(arch, tmp_path / arch)
    sources = resources.checkout() / "firmware"  # type: ignore[operator]
    compiled = {path.relative_to(image).with_suffix("") for path in image.rglob("*.mpy")}
    assert {path.relative_to(sources).with_suffix("") for path in sources.rglob("*.py")} < compiled
    assert Path("umqtt/simple") in compiled
    for path in image.rglob("*.mpy"):
        magic, version, flags, small_int_bits = path.read_bytes()[:4]
        assert (chr(magic), version, small_int_bits) == ("M", 6, 31)
        assert flags >> 2 in (0, ARCH_BITS[arch])  # 0: no native code inside


def project(root: Path, monkeypatch: pytest.MonkeyPatch, **sources: str) -> Path:
    """Make a small checkout with the given modules; returns the folder for its image."""
    real = resources.checkout()
    assert real
    package = root / "firmware" / "gridnode"
    package.mkdir(parents=True)
    for name, text in sources.items():
        (package / f"{name}.py").write_text(text)
    (root / "boards").symlink_to(real / "boards")
    (root / "build").mkdir()
    (root / "build" / "download").symlink_to(real / "build" / "download")
    resources.image_dir("x64")  # so that the download is there
    monkeypatch.setattr(resources, "checkout", lambda: root)
    return root / "build" / "image" / "x64"


KERNEL = """
@micropython.viper
def double(x: int) -> int:
    return x + x


@micropython.native  # faster
def half(x):
    return x // 2
"""


def test_a_viper_module_gets_a_twin_in_bytecode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = project(tmp_path, monkeypatch, kernel=KERNEL, other="")
    image = build.build_image("x64", out)
    native, plain = (image / "gridnode" / name for name in ("kernel.mpy", "kernel_plain.mpy"))
    assert native.read_bytes()[2] >> 2 == ARCH_BITS["x64"]
    assert plain.read_bytes()[2] >> 2 == 0
    assert not (image / "gridnode" / "other_plain.mpy").exists()


def test_only_changed_modules_are_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = project(tmp_path, monkeypatch, one="A = 1", two="B = 1", three="C = 1")
    build.build_image("x64", out)
    package = tmp_path / "firmware" / "gridnode"
    (package / "two.py").write_text("B = 2")
    (package / "three.py").unlink()
    (out / "gridnode" / "one.mpy").unlink()  # lost outputs come back
    compiled: list[str] = []
    real = build._compile

    def spy(module: build.Module, arch: str, folder: Path) -> None:
        compiled.append(module.name)
        real(module, arch, folder)

    monkeypatch.setattr(build, "_compile", spy)
    build.build_image("x64", out)
    assert sorted(compiled) == ["gridnode/one", "gridnode/two"]
    assert not (out / "gridnode" / "three.mpy").exists()


def test_a_module_that_does_not_compile_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = project(tmp_path, monkeypatch, broken="def f(:\n")
    with pytest.raises(GridnodeError, match=r"gridnode/broken\.py for x64") as failure:
        build.build_image("x64", out)
    assert "line 1" in failure.value.cause


def test_the_chip_compiler_refuses_what_only_a_64_bit_vm_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "@micropython.viper\ndef f() -> int:\n    return 0x7fffffff\n"
    out = project(tmp_path, monkeypatch, big=text)
    with pytest.raises(GridnodeError, match="xtensawin"):
        build.build_image("xtensawin", out)


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GridnodeError, match="z80"):
        build.build_image("z80", tmp_path)


def test_schemas_lose_what_is_for_people_only() -> None:
    schema = {
        "$id": "x",
        "title": "T",
        "properties": {"title": {"type": "string", "description": "D"}},
        "items": [{"description": "D", "enum": [{"title": "kept"}]}],
    }
    assert build.minify_schema(schema) == {
        "properties": {"title": {"type": "string"}},
        "items": [{"enum": [{"title": "kept"}]}],
    }


def test_the_vm_reads_the_very_schemas_of_the_host() -> None:
    vm = build.micropython()
    image = resources.image_dir(build.vm_arch(vm))
    code = f"import sys; sys.path[:] = [{str(image)!r}]\n"
    code += "from gridnode._schemas import config, profile; print(config.TEXT); print(profile.TEXT)"
    done = subprocess.run([vm, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    config, profile = (json.loads(line) for line in done.stdout.splitlines())
    assert config == build.minify_schema(resources.schema("config"))
    assert profile == build.minify_schema(resources.schema("profile"))


def test_a_wrong_micropython_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MICROPYTHON", str(tmp_path / "none"))
    with pytest.raises(GridnodeError, match="which is no program"):
        build.micropython()


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("exit 0", "it told nothing"),
        ("echo 3.11 strange words", "strange words"),
        ("echo 'no such option' >&2; exit 3", "ended with 3: no such option"),
        (None, "does not run"),
    ],
)
def test_a_program_that_is_no_vm_is_named(tmp_path: Path, script: str | None, cause: str) -> None:
    vm = tmp_path / "vm"
    vm.write_text(f"#!/bin/sh\n{script}\n" if script else "no program")
    vm.chmod(0o755)
    with pytest.raises(GridnodeError, match="no MicroPython VM") as failure:
        build.vm_arch(str(vm))
    assert failure.value.exit == Exit.USAGE
    assert str(vm) in failure.value.cause
    assert cause in failure.value.cause
    assert "MICROPYTHON" in failure.value.action
