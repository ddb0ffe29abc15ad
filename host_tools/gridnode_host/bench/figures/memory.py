"""Memory: heap of a running node over 100 reports, `.mpy` size and heap of each room."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mpremote.transport_serial import SerialTransport

from gridnode_host import build, resources
from gridnode_host.bench import node as virtual
from gridnode_host.bench import vm as processor
from gridnode_host.bench.figures import probe
from gridnode_host.bench.figures.tables import Table
from gridnode_host.bench.rig import Rig, RigNode
from gridnode_host.device import BAUD

REPORTS = 100
SETTLED = 75
"""Reports before those that count: a minute after its start a node checks itself for the first time, and the names
that come with it stay in the VM's table."""
GOAL_MPY = 40 * 1024
GOAL_HEAP = 96 * 1024
CHIP = "xtensawin"

_RATE = 5
_SILENCE_S = 60.0
_LEAK = 2.0  # bytes per report; to keep the smallest block with each is 16 or 32
_CHIP_SHARE = 0.7  # of a 64-bit heap: a 32-bit VM used 75 and 78 KB where that used 107 and 112
_ASK = "import gc, json, sys; gc.collect(); "
_ASK += "print(json.dumps([gc.mem_alloc() + gc.mem_free(), sorted(sys.modules)]))"


@dataclass(frozen=True)
class Heap:
    """A running node: free bytes at each report, size of its heap, what it has imported."""

    profile: str
    free: tuple[int, ...]
    size: int
    modules: frozenset[str]

    def growth(self) -> float:
        """Bytes per report by which the last half grew: its second against its first half.

        Medians, since a self-check takes its room for some reports and gives it back.
        """
        half = len(self.free) // 2
        last = self.free[-half:]
        first, second = last[: half // 2], last[-(half // 2) :]
        return (median(first) - median(second)) / (half - half // 2)


def observe(
    profiles: Sequence[str],
    progress: Callable[[int, int], None],
    reports: int = REPORTS,
    settled: int = SETTLED,
) -> list[Heap]:
    """Let one node of each profile run for `settled` and then `reports` reports of one second.

    Raises TimeoutError when a node falls silent.
    """
    chosen = [{**resources.profile(name), "row_s": 1} for name in profiles]
    with Rig.virtual(nodes=len(chosen), profile=chosen, ideal=True, interval_s=1) as bench:
        for node in bench.nodes:
            node.wait_event("accepted", _SILENCE_S)
        bench.clock.warp(_RATE)
        total = settled + reports
        deadline = time.monotonic() + total / _RATE + _SILENCE_S
        while (least := min(len(_free(node)) for node in bench.nodes)) < total:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {least} of {total} reports came")
            progress(least, total)
            time.sleep(0.2)
        bench.clock.warp(1)
        found = []
        for name, node in zip(profiles, bench.nodes, strict=True):
            free = tuple(_free(node)[settled:total])
            size, modules = _ask(node)
            found.append(Heap(name, free, size, modules))
        return found


def _free(node: RigNode) -> list[int]:
    return [
        event["reported"]["node"]["free_memory"]
        for event in node.events
        if event["event"] == "report"
    ]


def _ask(node: RigNode) -> tuple[int, frozenset[str]]:
    """Stop the application and ask the VM for the size of its heap and what it has loaded."""
    transport = SerialTransport(node.port, BAUD, timeout=5)
    try:
        transport.enter_raw_repl(soft_reset=False, timeout_overall=10)
        size, modules = json.loads(transport.exec(_ASK))
    finally:
        transport.close()
    return size, frozenset(modules)


def heap(found: Sequence[Heap]) -> Table:
    """The heap of running nodes, in bytes of a 32-bit chip."""
    vm = build.micropython()
    wide = build.vm_arch(vm) == "x64"
    word = 2 if wide else 1
    shims = processor.shim_heap_kb(vm) * 1024 * word
    rows = []
    for one in found:
        used = one.size - min(one.free) - shims
        chip = used * _CHIP_SHARE if wide else used
        growth = one.growth()
        rows.append(
            {
                "profile": one.profile,
                "reports": len(one.free),
                "heap KB": round((one.size - shims) / 1024, 1),
                "used KB": round(used / 1024, 1),
                "on the chip KB": round(chip / 1024, 1),
                "goal KB": GOAL_HEAP // 1024,
                "goal": "kept" if chip <= GOAL_HEAP else "missed",
                "growth B/report": round(growth, 2),
                "ok": growth < _LEAK * word,
            }
        )
    how = (
        f"{_CHIP_SHARE} of it on the chip, as a 32-bit VM has shown: objects halve, code does not"
        if wide
        else "measured with the chip's word size"
    )
    return Table(
        "heap",
        f"Heap of a running node after {len(found[0].free)} reports (limit: growth "
        f"under {_LEAK * word:g} B a report over the last half)",
        [
            f"Used: application code and data after a collection, without the {shims // 1024} KB of what "
            f"stands for the chip's own modules; {how}.",
            f"Reports every second (row_s 1) at {_RATE} times real time, after the node has checked itself "
            "once. Used is the most after any report; the names of what stands for the chip's modules, "
            "which a chip has in ROM, make the VM's table of names one block (7 KB on 32 bit) larger. "
            "Growth compares the medians of the third and the last quarter; a leak of one block per "
            "report would be 16 or 32 B.",
            f"The VM gets {virtual.HEAP_KB} K words for the application, the chip's budget: an ESP32 "
            "starts with about 150 KB, of which TLS takes about 35 KB (in the VM that is C memory); "
            "code that is frozen in flash on the chip lies on the heap here.",
        ],
        rows,
    )


# -- rooms -------------------------------------------------------------------------------------


def sizes(arch: str = CHIP) -> dict[str, int]:
    """Bytes of each compiled module of the application."""
    folder = resources.image_dir(arch)
    return {
        _module(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*.mpy")
    }


def _module(path: Path) -> str:
    name = path.with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


def rooms(found: Sequence[Heap]) -> Table:
    """`.mpy` size and heap of each room; sums of what the running nodes have loaded."""
    size = sizes()
    names = sorted(name for name in size if name != "main")
    given = sorted(path.stem for path in processor.SHIMS.glob("*.py") if path.stem != "_boot")
    heaps, tables = {}, []
    for kind, vm in probe.machines().items():
        heaps[kind] = probe.run(vm, "rooms", [given, names, True], shims=True)["bytes"]
        narrow = probe.run(vm, "rooms", [given, names, False], shims=True)["bytes"]
        more = sum(v or 0 for v in narrow.values()) - sum(v or 0 for v in heaps[kind].values())
        tables.append(f"{more} bytes ({kind})")
    rows: list[dict[str, Any]] = []
    for name in names:
        row: dict[str, Any] = {"room": name.removeprefix("gridnode."), ".mpy": size[name]}
        row |= {f"heap {kind}": used[name] for kind, used in heaps.items()}
        row |= {one.profile: "x" if name in one.modules else None for one in found}
        rows.append(row)
    for one in found:
        loaded = [name for name in names if name in one.modules]
        total = sum(size[name] for name in loaded)
        row = {"room": f"sum of {one.profile}", ".mpy": total}
        row |= {
            f"heap {kind}": sum(used[name] or 0 for name in loaded) for kind, used in heaps.items()
        }
        row["goal .mpy"] = GOAL_MPY
        row["goal"] = "kept" if total <= GOAL_MPY else "missed"
        rows.append(row)
    return Table(
        "rooms",
        f"Rooms: .mpy size ({CHIP}) and heap when imported, bytes",
        [
            "Each counts what it adds itself, imported one by one, without its share of the VM's table "
            f"of names, which grows in steps and takes for all rooms {', '.join(tables)}.",
            "x: on the heap of the running node. The others are loaded for a while (at the start, to "
            "judge a document, while the host works on the node) or instead of another.",
            "Native code (waveform) does not lie on the heap.",
        ],
        rows,
    )


# -- detector ----------------------------------------------------------------------------------

NODE = (
    "anomaly.rules",
    "app",
    "calibration",
    "clock",
    "energy",
    "fault",
    "health",
    "link",
    "meters.angle",
    "meters.atm90e32",
    "meters.polled",
    "mqtt",
    "pipeline",
    "reading",
    "report",
    "rooms",
    "session",
    "shadow",
    "storage",
    "trim",
    "wifi",
)
"""Rooms that a detector finds on the heap: those of `feeder-200a`."""

PLACE = ("voltage", "current", "power")
FEEDER = ("v1", "i1", "p1", "v2", "i2", "p2", "v3", "i3", "p3", "i_n", "temperature")
_LIMITS = {"interval_s": 600, "train_rows": 144, "v_nominal": 230, "rating_a": 60}


def taken(vm: str, signals: Sequence[str], faults: Sequence[Any]) -> dict[str, Any]:
    """Bytes of heap that a detector takes of a VM: "code", "learning" and "frozen" in all."""
    given = [path.stem for path in sorted(processor.SHIMS.glob("*.py")) if path.stem != "_boot"]
    before = [*given, "asyncio", *(f"gridnode.{name}" for name in NODE)]
    order = {"before": before, "names": signals, "limits": _LIMITS, "faults": faults}
    found: dict[str, Any] = probe.run(vm, "detector", order, shims=True)
    return found


def detector() -> Table:
    """What a detector takes beside a running node."""
    rows: list[dict[str, Any]] = []
    for kind, vm in probe.machines().items():
        for signals in (PLACE, FEEDER):
            for faults in ([], resources.faults()):
                found = taken(vm, signals, faults)
                rows.append(
                    {
                        "vm": kind,
                        "signals": len(signals),
                        "names faults": "yes" if faults else "no",
                        "code KB": round(found["code"] / 1024, 1),
                        "learning KB": round(found["learning"] / 1024, 1),
                        "frozen KB": round(found["frozen"] / 1024, 1),
                    }
                )
    return Table(
        "detector",
        "Heap of a detector beside the other rooms of a node",
        [
            "Code: what stays while it learns; it takes no heap where the application is frozen into the "
            "image. Learning: the most after any row, code included. Frozen: once it has learnt.",
            "Without its share of the VM's table of names: some 3 KB for the names, and 9 KB (32-bit) where "
            "they make the table grow.",
        ],
        rows,
    )
