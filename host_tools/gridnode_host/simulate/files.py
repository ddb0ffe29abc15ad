"""Simulated line sensors and streams with faults as CSV files, their limits as JSON beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gridnode_host.detection import grid_sensor, streams
from gridnode_host.detection.stream_file import write_limits, write_stream
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.files import unwritten
from gridnode_host.output import Output

META = "META.json"


def sensors(
    out: Output, folder: Path, hours: float, train_hours: float, seed: int, anomalies: bool
) -> None:
    """Write `sensor-01.csv` and so on, and META.json for all of them, into a folder.

    Anomalies come after the first `train_hours`. Raises GridnodeError if the folder cannot be
    written, or if nothing is left after them.
    """
    rows = round(hours * 3600 / grid_sensor.STEP_S)
    train = round(train_hours * 3600 / grid_sensor.STEP_S)
    if train >= rows:
        raise GridnodeError(
            "draw the sensors",
            f"{hours:g} h with {train_hours:g} h to learn leave no row to judge",
            "Give a larger --hours or a smaller --train-hours.",
            Exit.USAGE,
        )
    anomalous = (np.arange(rows) >= train) & anomalies
    with out.step(f"write {grid_sensor.SENSORS} sensors to {folder}") as progress:
        for number in range(grid_sensor.SENSORS):
            progress(number, grid_sensor.SENSORS)
            rng = np.random.default_rng([seed, number])
            drawn = grid_sensor.readings(rng, anomalous)
            stream = grid_sensor.labelled(f"sensor-{number + 1:02}", *drawn, train)
            path = folder / f"{stream.name}.csv"
            with _written(path):
                folder.mkdir(parents=True, exist_ok=True)
                write_stream(stream, path)
            share = round(float(stream.label.mean()), 4)
            out.event("file", path=str(path), rows=rows, anomalous_share=share)
        with _written(folder / META):
            write_limits(grid_sensor.limits(train), folder / META)
    out.done(
        f"Replay one: gridnode replay {folder}/sensor-01.csv --limits {folder / META} --out s.csv",
        folder=str(folder),
        rows=rows,
        sensors=grid_sensor.SENSORS,
    )


def faults(out: Output, kind: str, seed: int, path: Path) -> None:
    """Write one labelled stream, and its limits as `.json` beside it."""
    with out.step(f"draw {kind}, seed {seed}"):
        stream = streams.make(kind, seed)
        with _written(path):
            meta = streams.save(stream, path)
    names = sorted(set(stream.fault) - {""})
    days = len(stream.t) * stream.limits["interval_s"] / 86400
    out.done(
        f"{path}: {len(stream.t)} rows ({days:.1f} days), {len(stream.values)} signals, "
        f"{100 * stream.label.mean():.1f} % anomalous" + "".join(f"\n  {name}" for name in names),
        path=str(path),
        limits=str(meta),
        rows=len(stream.t),
        faults=names,
    )


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Tell a file that cannot be written as a person needs it."""
    try:
        yield
    except OSError as err:
        raise unwritten("write the file", path, err) from err
