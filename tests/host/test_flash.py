"""The NOR model, and littlefs on it when the power fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.flash import SECTOR, NorFlash, PowerLost
from gridnode_host.bench.node import VirtualNode
from gridnode_host.bench.wiring import Wiring
from repl import Repl, wait_for


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[NorFlash]:
    flash = NorFlash(tmp_path / "flash.bin", 4 * SECTOR)
    yield flash
    flash.close()


def test_programming_only_clears_bits(chip: NorFlash) -> None:
    assert chip.read(0, 4) == b"\xff" * 4
    chip.program(0, b"\xf0\x0f\x55")
    assert chip.violations == 0
    chip.program(0, b"\x0f\x0f\x54")
    assert chip.read(0, 4) == b"\x00\x0f\x54\xff"
    assert chip.violations == 1, "only the first byte would have needed a bit set"
    chip.erase(0)
    assert chip.read(0, 4) == b"\xff" * 4
    assert (chip.programs, chip.erases, chip.wear) == (2, 1, [1, 0, 0, 0])


def test_what_is_written_is_in_the_image(chip: NorFlash) -> None:
    chip.program(SECTOR, b"kept")
    chip.close()
    again = NorFlash(chip.path, chip.size)
    assert again.read(SECTOR, 4) == b"kept"
    again.close()


def test_a_program_is_torn_at_the_byte(chip: NorFlash) -> None:
    cuts: list[bool] = []
    chip.on_cut = lambda: cuts.append(True)
    chip.cut(after_bytes=6)
    chip.program(0, b"abcd")
    with pytest.raises(PowerLost):
        chip.program(4, b"efgh")
    assert chip.read(0, 9) == b"abcdef\xff\xff\xff"
    chip.program(6, b"g")
    assert cuts == [True], "a cut strikes once"


def test_an_erase_is_torn_at_the_byte(chip: NorFlash) -> None:
    chip.program(0, b"\x00" * SECTOR)
    chip.cut(after_bytes=100)
    with pytest.raises(PowerLost):
        chip.erase(0)
    assert chip.read(0, SECTOR) == b"\xff" * 100 + b"\x00" * (SECTOR - 100)


def test_a_cut_falls_between_operations(chip: NorFlash) -> None:
    chip.cut(after_ops=2)
    chip.program(0, b"a")
    chip.erase(1)
    with pytest.raises(PowerLost):
        chip.program(1, b"b")
    assert chip.read(0, 2) == b"a\xff"
    chip.cut(after_ops=0)
    chip.cut()
    chip.program(1, b"b")


@pytest.mark.parametrize(("address", "length"), [(-1, 1), (4 * SECTOR - 1, 2)])
def test_outside_the_chip_is_refused(chip: NorFlash, address: int, length: int) -> None:
    with pytest.raises(ValueError):
        chip.read(address, length)
    with pytest.raises(ValueError):
        chip.program(address, b"x" * length)
    with pytest.raises(ValueError):
        chip.erase(4)


def save(content: str) -> str:
    return (
        f"f = open('/new', 'w'); f.write({content!r} * 300); f.close()\n"
        "import os; os.rename('/new', '/file')"
    )


@pytest.mark.parametrize("kind", ["torn", "clean"])
def test_littlefs_keeps_the_old_or_has_the_new_after_a_power_cut(
    tmp_path: Path, kind: str
) -> None:
    """Cut at steps through one save, until a save gets through uncut."""
    seen = set()
    with VirtualNode("node", tmp_path, None, Wiring(), RigClock()) as node:
        with Repl(node.port) as repl:
            repl.raw()
            repl.run(save("old"))
        step = 0
        while True:
            if kind == "torn":
                node.flash.cut(after_bytes=37 + 421 * step)
            else:
                node.flash.cut(after_ops=step)
            step += 1
            with Repl(node.port) as repl:
                repl.raw()
                before = len(node.console)
                repl.serial.write(save("new").encode() + b"\x04")
                done = b"OK\x04\x04>"
                wait_for(lambda: not node.powered or done in node.console[before:])  # noqa: B023
                through = node.powered
                node.power_cycle()
                repl.raw()
                content = repl.run("print(open('/file').read())")
                assert content in ("old" * 300, "new" * 300)
                seen.add(content[:3])
                if through:
                    break
                repl.run(save("old"))
        assert content == "new" * 300
        assert step > 3, "the cuts must have struck"
        assert "old" in seen
        assert node.flash.violations == 0
        assert b"damaged" not in node.console


def test_a_damaged_file_system_is_made_new(tmp_path: Path) -> None:
    with VirtualNode("node", tmp_path, None, Wiring(), RigClock()) as node:
        wait_for(lambda: node.console.endswith(b">>> "))
        node.power_off()
        for sector in (0, 1):
            node.flash.program(sector * SECTOR, b"\x00" * 64)
        node.power_on()
        wait_for(lambda: b"damaged" in node.console)
        with Repl(node.port) as repl:
            repl.raw()
            repl.run(save("new"))


def test_the_file_system_spreads_its_wear(tmp_path: Path) -> None:
    with (
        VirtualNode("node", tmp_path, None, Wiring(), RigClock()) as node,
        Repl(node.port) as repl,
    ):
        repl.raw()
        erases = node.flash.erases
        repl.run("for i in range(60):\n f = open('/x', 'w'); f.write('y' * 3000); f.close()")
        assert node.flash.erases - erases >= 60
        assert max(node.flash.wear[2:]) < 20
