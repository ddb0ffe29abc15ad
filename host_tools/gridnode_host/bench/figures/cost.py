"""What measuring costs: time of the sampling kernel, bytes that a reading leaves behind."""

from __future__ import annotations

from gridnode_host import resources
from gridnode_host.bench.figures import probe
from gridnode_host.bench.figures.tables import Table
from gridnode_host.errors import GridnodeError


def kernel() -> Table:
    """Cost of the clamp's kernel per pair of samples, native against bytecode.

    Raises GridnodeError when the two do not come to the same sums.
    """
    rows = []
    for kind, vm in probe.machines().items():
        both = probe.run(vm, "kernel")
        viper, twin = both["viper"], both["bytecode"]
        if viper and viper["sums"] != twin["sums"]:
            raise GridnodeError("measure the kernel", f"viper and bytecode differ ({kind})")
        rows.append(
            {
                "VM": kind,
                "bytecode us": round(twin["us"], 3),
                "viper us": round(viper["us"], 3) if viper else None,
                "ratio": round(twin["us"] / viper["us"], 1) if viper else None,
                "pairs": twin["pairs"],
                "bytes allocated": max(twin["bytes"], viper["bytes"] if viper else 0),
                "ok": not (twin["bytes"] or (viper and viper["bytes"])),
            }
        )
    return Table(
        "kernel",
        "Clamp kernel: cost per pair of samples, the best of five runs (limit: no allocation)",
        [
            "Three calls of C code per pair are included: two conversions and the ticks; both give "
            "the same sums.",
            "On the chip a pair takes 72 us of conversion, within which the kernel has to fit.",
        ],
        rows,
    )


def allocation(profiles: tuple[str, ...]) -> Table:
    """Garbage per reading (block) of each front end."""
    rows = []
    for kind, vm in probe.machines().items():
        for name in profiles:
            found = probe.run(vm, "blocks", resources.profile(name))
            rows.append(
                {
                    "VM": kind,
                    "front end": name,
                    "meter bytes": max(found["meter"]),
                    "whole way bytes": sorted(found["reading"])[len(found["reading"]) // 2],
                    "once a second": max(found["reading"]),
                }
            )
    return Table(
        "allocation",
        "Bytes allocated per reading (one block)",
        [
            "meter: the front end alone, converter and chip of the measurement allocate nothing; "
            "whole way: with calibration, energy, rules and row; once a second: with the totals "
            "packed for RTC memory.",
            "All of it is garbage: what stays is the growth of the heap, below.",
        ],
        rows,
    )
