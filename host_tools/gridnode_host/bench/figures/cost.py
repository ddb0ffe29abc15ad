"""What measuring costs: time of the sampling kernel, bytes and time of a reading, size of drivers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np

from gridnode_host.bench.figures import memory, probe
from gridnode_host.bench.figures.front_ends import FrontEnd
from gridnode_host.bench.figures.tables import Row, Table
from gridnode_host.bench.solo import Solo
from gridnode_host.errors import GridnodeError

_CHIPS = ("xtensawin", "rv32imc")
_HEAP_KB = 512  # room to measure in; nothing here depends on it


def kernel() -> Table:
    """Cost of the clamp's kernel per set of samples, native against bytecode.

    Raises GridnodeError when the two do not come to the same sums.
    """
    rows = []
    for kind, channels, vm in [
        (kind, channels, vm) for kind, vm in probe.machines().items() for channels in (2, 4, 6)
    ]:
        both = probe.run(vm, "kernel", channels)
        viper, twin = both["viper"], both["bytecode"]
        if viper and viper["sums"] != twin["sums"]:
            raise GridnodeError("measure the kernel", f"viper and bytecode differ ({kind})")
        rows.append(
            {
                "VM": kind,
                "channels": channels,
                "bytecode us": round(twin["us"], 3),
                "viper us": round(viper["us"], 3) if viper else None,
                "ratio": round(twin["us"] / viper["us"], 1) if viper else None,
                "us per order": round((viper or twin)["phasor_us"], 2),
                "sets": twin["sets"],
                "bytes allocated": max(twin["bytes"], viper["bytes"] if viper else 0),
                "ok": not (twin["bytes"] or (viper and viper["bytes"])),
            }
        )
    return Table(
        "kernel",
        "Clamp kernel: cost per set of samples, the best of five runs (limit: no allocation)",
        [
            "The calls of C code are included: a conversion per channel and the ticks; both give the "
            "same sums.",
            "On the chip a conversion takes 36 us. An order of harmonics is taken out of the bins after "
            "the block, once per channel.",
        ],
        rows,
    )


def readings(chosen: Sequence[FrontEnd], progress: Callable[[int, int], None]) -> Table:
    """Garbage and time per reading (block) of each front end.

    Raises GridnodeError when one of them does not measure.
    """
    rows: list[Row] = []
    machines = probe.machines()
    for kind, vm in machines.items():
        for front_end in chosen:
            progress(len(rows), len(machines) * len(chosen))
            rows.append({"VM": kind, **_reading(front_end, vm)})
    return Table(
        "readings",
        "Cost of one reading of each front end: the median of twelve",
        [
            "meter: the driver alone; whole way: with calibration, energy, rules and row. Bytes are "
            "garbage, collected before it grows; what stays is the growth of the heap, below.",
            "processor ms: time of the VM and the models behind its buses on this machine, sleep "
            "left out. in all ms: time on the node's clock, sampling and waiting for answers included.",
        ],
        rows,
    )


def _reading(front_end: FrontEnd, vm: str) -> Row:
    profile = front_end.resolved()
    with Solo(profile, interval_s=10, micropython=vm, heap_kb=_HEAP_KB) as solo:
        found = json.loads(solo.run(probe.source("blocks")).splitlines()[-1])
    if found["current"] is None:
        raise GridnodeError(
            "measure the cost of a reading", f"{front_end.profile}: {found['quality']}"
        )
    meter, way = (np.median(np.array(found[name]), axis=0) for name in ("meter", "way"))
    return {
        "front end": front_end.profile,
        "driver": profile["meters"][0]["driver"],
        "meter bytes": int(meter[0]),
        "whole way bytes": int(way[0]),
        "processor ms": round(float(meter[1]) / 1000.0, 2),
        "in all ms": round(float(meter[2]) / 1000.0, 1),
    }


def drivers() -> Table:
    """Size of each driver compiled for both chip architectures."""
    sizes = {arch: memory.sizes(arch) for arch in _CHIPS}
    rooms = sorted({name for found in sizes.values() for name in found})
    rows: list[Row] = []
    for name in rooms:
        if name.startswith("gridnode.meters."):
            start = name.replace(".meters.", ".setup.")
            row: Row = {"driver": name.removeprefix("gridnode.meters.")}
            row |= {f"{arch} bytes": found.get(name) for arch, found in sizes.items()}
            row |= {f"{arch} start": found.get(start) for arch, found in sizes.items()}
            rows.append({**row, "ok": all(name in found for found in sizes.values())})
    return Table(
        "drivers",
        "Drivers: .mpy size for both architectures (limit: the same code compiles for both)",
        ["start: what is loaded while the meter is started and unloaded again."],
        rows,
    )
