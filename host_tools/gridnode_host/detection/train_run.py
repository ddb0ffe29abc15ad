"""The verb `gridnode train`: from streams to a file for the node, with its scores."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gridnode_host import __version__
from gridnode_host.detection import forest_score, sources, train
from gridnode_host.detection.forest_file import FORMAT, ROOM, Forest
from gridnode_host.detection.stream_file import Stream
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.files import unwritten, write_atomic
from gridnode_host.output import Output

__all__ = ["Order", "run"]

_HELD_OUT = 3  # every third stream is for the scores, where none is named


@dataclass(frozen=True)
class Order:
    """What is asked for."""

    sources: Sequence[str]
    out: Path
    test: Sequence[str] = ()
    name: str | None = None
    leave_out: Sequence[str] = ()
    without: Sequence[str] = ()
    room: int = ROOM
    seed: int = 0
    dry_run: bool = False

    @property
    def command(self) -> str:
        """The command that does the same."""
        words = ["gridnode", "train", *self.sources]
        for option, values in (
            ("--test", self.test),
            ("--leave-out", self.leave_out),
            ("--without", self.without),
        ):
            for value in values:
                words += [option, value]
        if self.name:
            words += ["--name", self.name]
        words += ["--room", str(self.room)] if self.room != ROOM else []
        words += ["--seed", str(self.seed)] if self.seed else []
        return shlex.join([*words, "--out", self.out.name])

    @property
    def settings(self) -> train.Settings:
        name = self.name or self.out.stem
        return train.Settings(name, self.room, self.seed, self.leave_out, self.without)


def run(out: Output, order: Order) -> None:
    """Train, write the file and beside it, as `.json`, how it came about and its scores."""
    if order.name and ("\n" in order.name or len(order.name.encode()) > 60):
        raise GridnodeError(
            "name the forest", "a name is one line of up to 60 bytes", "", Exit.USAGE
        )
    with out.step("read the streams") as progress:
        known = sources.gather(order.sources, progress)
        fresh = sources.gather(order.test, progress) if order.test else known[2::_HELD_OUT]
        if not order.test:
            known = [stream for stream in known if not any(stream is other for other in fresh)]
    if not known or not fresh:
        raise GridnodeError(
            "read the streams",
            "no stream is left for the scores",
            "Name streams to hold out with --test, or give at least three.",
            Exit.USAGE,
        )
    settings = order.settings
    with out.step(f"compute the features of {len(known)} streams in the node's VM") as progress:
        material = train.collect(known, settings, progress)
    if order.dry_run:
        out.table("class", train.counts(material), "no row")
        out.done(f"would train on these and write {order.out}", path=str(order.out))
        return
    with out.step("train") as progress:
        forest, shape = train.train(material, settings, progress)
    data = forest.packed
    with out.step(f"score {len(fresh)} streams that were held out, in the node's VM") as progress:
        score = forest_score.score(data, fresh, settings.leave_out, progress)
    record = _record(order, forest, shape, known, fresh, score)
    try:
        order.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(order.out, data)
        beside = order.out.with_suffix(".json")
        write_atomic(beside, (json.dumps(record, indent=1) + "\n").encode())
    except OSError as err:
        raise unwritten("write the forest", order.out, err) from err
    out.table("class", score.table(), "no row")
    summary = score.summary()
    events = summary["events_named"]
    out.done(
        f"{order.out}: {len(data)} bytes, {shape.trees} trees, at most {forest.most_asked} "
        f"questions a phase and row\n"
        f"  events named as they are: {'none' if events is None else f'{100 * events:.1f} %'} of "
        f"{summary['events']}; false names a day: {summary['false_a_day']}",
        path=str(order.out),
        record=str(beside),
        **{key: record[key] for key in ("bytes", "trees", "questions", "summary")},
    )


def _record(
    order: Order,
    forest: Forest,
    shape: train.Shape,
    known: Sequence[Stream],
    fresh: Sequence[Stream],
    score: forest_score.Score,
) -> dict[str, Any]:
    data = forest.packed
    return {
        "name": forest.name,
        "command": order.command,
        "versions": {
            "gridnode": __version__,
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "scikit-learn": version("scikit-learn"),
            "format": FORMAT,
            "features": forest.version,
        },
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "trees": shape.trees,
        "nodes": sum(len(tree) for tree in forest.trees),
        "questions": forest.most_asked,
        "least_share": shape.least,
        "classes": list(forest.classes),
        "features": list(forest.features),
        "learnt_from": [stream.name for stream in known],
        "held_out": [stream.name for stream in fresh],
        "summary": score.summary(),
        "scores": score.table(),
        **{
            f"scores_{view.replace(' ', '_')}": score.table(view)
            for view in score.pairs
            if view != "whole"
        },
        "confusions": [
            {"true": true, "said": said, "rows": rows}
            for (true, said), rows in sorted(score.pairs["whole"].items())
            if true != said
        ],
    }
