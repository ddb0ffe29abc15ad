"""What measuring costs: time of the sampling kernel, bytes that a reading leaves behind."""

from __future__ import annotations

from gridnode_host import resources
from gridnode_host.bench.figures import probe
from gridnode_host.bench.figures.tables import Table
from gridnode_host.errors import GridnodeError


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
