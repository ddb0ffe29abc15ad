"""Streams whose faults are known, drawn from physics: `python -m gridnode_host.detection.streams`.

Names beginning with `seed` are line sensors of uniform random readings, with `s_` and `sku_`
places with one phase, with `t_` feeders with three. A seed always draws the same stream.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import numpy as np
from numpy.random import Generator

from gridnode_host.detection import feeder_faults, grid_sensor, site_faults
from gridnode_host.detection.draft import Calendar, Draft, crowded
from gridnode_host.detection.feeder import Feeder
from gridnode_host.detection.loads import CYCLIC
from gridnode_host.detection.site import DAY, TRAIN_ROWS, Site
from gridnode_host.detection.stream_file import Stream, write_limits, write_stream

__all__ = ["KINDS", "make", "save"]

_TRIES = 21  # to place the events of a stream
_MARGIN = 60  # rows between rare loads

_SEASON_K = 5.0  # warmer at the end of the test than at its beginning

Place = TypeVar("Place", Site, Feeder)
Maker = Callable[[str, Generator], Stream]


def make(kind: str, seed: int) -> Stream:
    """Draw a stream; raises KeyError for a kind that is not one of KINDS."""
    draw = _MAKERS[kind]
    return draw(f"{kind}_{seed}", np.random.default_rng([seed, crc32(kind.encode())]))


def save(stream: Stream, path: Path) -> Path:
    """Write the stream, and its limits beside it (`X.csv`: `X.json`), which is returned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_stream(stream, path)
    meta = path.with_suffix(".json")
    write_limits(stream.limits, meta)
    return meta


def _at_site(
    fault: Callable[[Generator, Site, Draft], None] | None = None, cyclic: bool = False
) -> Maker:
    def draw(name: str, rng: Generator) -> Stream:
        site = Site.draw(rng, str(rng.choice(CYCLIC)) if cyclic else None)
        return _drawn(name, rng, site, fault)

    return draw


def _at_feeder(faults: Callable[[Generator, Feeder, Draft], None] | None = None) -> Maker:
    return lambda name, rng: _drawn(name, rng, Feeder.draw(rng), faults)


def _benign(name: str, rng: Generator) -> Stream:
    """The season warms the place, which is no fault."""
    site = Site.draw(rng)
    site.air.temperature[TRAIN_ROWS:] += (
        _SEASON_K * np.arange(len(site.t) - TRAIN_ROWS) / (4 * DAY)
    )
    return _drawn(name, rng, site)


def _sku(rating_a: float) -> Maker:
    """300 A are a fault on 200 A; on 500 A they belong to every few days."""

    def draw(name: str, rng: Generator) -> Stream:
        site = Site.draw(rng, None, rating_a)
        site.share = np.minimum(site.share * 200.0 / rating_a, 0.95)
        if rating_a < 300:
            return _drawn(name, rng, site, site_faults.over_rating)
        for first, end in ((0, TRAIN_ROWS), (TRAIN_ROWS, len(site.t))):
            calendar = Calendar(rng, end, first + _MARGIN)
            for _ in range(rng.integers(4, 7)):
                rows = calendar.take(int(rng.uniform(8, 60)), _MARGIN)
                site.share[rows] = 300.0 / rating_a * rng.normal(1.0, 0.01, rows.stop - rows.start)
        return _drawn(name, rng, site)

    return draw


def _drawn(
    name: str,
    rng: Generator,
    place: Place,
    fault: Callable[[Generator, Place, Draft], None] | None = None,
) -> Stream:
    """Draw until no two events touch, or take the last try."""
    for _ in range(_TRIES):
        draft = place.draft()
        if fault is not None:
            fault(rng, place, draft)
        stream = draft.finish(name, place.limits, place.missing)
        if not crowded(stream):
            break
    return stream


_MAKERS: dict[str, Maker] = {
    "seed": grid_sensor.sensor,
    "seed_fleet": grid_sensor.fleet,
    "seed_contaminated": grid_sensor.contaminated,
    "s_clean": _at_site(),
    "s_benign": _benign,
    "s_spike": _at_site(site_faults.spike),
    "s_level_shift": _at_site(site_faults.level_shift),
    "s_persistent": _at_site(site_faults.persistent),
    "s_drift": _at_site(site_faults.drift),
    "s_period": _at_site(site_faults.period, cyclic=True),
    "s_stuck": _at_site(site_faults.stuck),
    "s_ct_saturation": _at_site(site_faults.ct_saturation, cyclic=True),
    "s_disconnected": _at_site(site_faults.disconnected),
    "s_noise_burst": _at_site(site_faults.noise_burst),
    "s_joint": _at_site(site_faults.joint),
    "sku_200": _sku(200.0),
    "sku_500": _sku(500.0),
    "t_clean": _at_feeder(),
    "t_faults": _at_feeder(feeder_faults.usual),
    "t_more": _at_feeder(feeder_faults.more),
}
KINDS = tuple(_MAKERS)


def main() -> None:
    """Write one stream."""
    parser = argparse.ArgumentParser(
        prog="python -m gridnode_host.detection.streams",
        description="Write a labelled stream and, beside it, its limits.",
        epilog="Example: python -m gridnode_host.detection.streams t_faults 3 faults.csv",
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path)
    told = parser.parse_args()
    print(save(make(told.kind, told.seed), told.out))


if __name__ == "__main__":
    main()
