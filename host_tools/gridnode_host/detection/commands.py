"""The command line of the detector on a laptop: `gridnode replay` and `gridnode train`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gridnode_host.verbs import Json, epilog, extra_room, verb

app = typer.Typer()


class Mode(StrEnum):
    """What the detector does when it has learnt."""

    frozen = "frozen"
    guarded = "guarded"
    learning = "learning"


@app.command(
    epilog=epilog("gridnode replay STREAM.csv --limits META.json --out SCORES.csv --plot P.html")
)
def replay(
    stream: Annotated[
        Path,
        typer.Argument(
            help="CSV: timestamp (epoch seconds or ISO 8601) and a column per signal. An empty "
            "cell, NA or - is a missing value. train (0 or 1, true or false, yes or no) marks the rows "
            "to learn from; label, label_* and class are not read."
        ),
    ],
    limits: Annotated[
        Path | None,
        typer.Option(
            help='JSON: {"interval_s", "train_rows", "rating_a", "v_nominal", '
            '"nominal": {signal: (lowest, highest)}}. A signal may be a family (v, i, p, t), '
            "i_of_rating is of the currents in units of rating_a. What is absent does not limit; "
            "interval_s is then as the stream tells, train_rows what train marks, else 4 days."
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="CSV: timestamp, grade (0 to 1, 0.5 is the limit), alarm, grade_* and alarm_* of "
            "each signal, kind, priority, diagnosis.",
        ),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="When it has learnt: change nothing any more, follow slowly what is certainly "
            "normal, or go on learning from every row."
        ),
    ] = Mode.frozen,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A file that exists is loaded and left as it is, and nothing is learnt; else the "
            "model is written there at the end. One that the detector does not take is told, and "
            "the stream is learnt from as without it."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Signals, grades and alarms as one .html file or as a .png."),
    ] = None,
    forest: Annotated[
        str | None,
        typer.Option(
            help="A forest of the product (feeder-faults), or a file of gridnode train: it names "
            "what the rules of faults leave unnamed."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the files and tell what would be written.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run recorded data through the node's own anomaly detector.

    The detector is the firmware's, compiled, in a MicroPython VM ($MICROPYTHON names another
    one). Without a column train it learns from the first train_rows rows and then freezes.
    """
    with verb(as_json) as out:
        work = extra_room("gridnode_host.replay.command")
        work.run(
            out,
            stream,
            limits,
            scores,
            mode=mode,
            model=model,
            plot=plot,
            forest=forest,
            dry_run=dry_run,
        )


@app.command(
    epilog=epilog(
        "gridnode train t_faults:1-6 t_more:1-6 t_clean:1-3 --test t_faults:101-103 "
        "--test t_more:101-103 --leave-out sensor_stuck --out faults.gnf, or "
        "gridnode train streams --out faults.gnf"
    )
)
def train(
    streams: Annotated[
        list[str],
        typer.Argument(
            help="CSV file of gridnode simulate faults (its limits beside it as .json), folder "
            "of such files, or KIND:SEED or KIND:FIRST-LAST, which is drawn."
        ),
    ],
    out_file: Annotated[
        Path, typer.Option("--out", help="File for the node; how it came about gets .json.")
    ],
    test: Annotated[
        list[str] | None,
        typer.Option(help="Streams for the scores (repeat); default: every third of the others."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name and version of the forest; default: that of --out.")
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="Fault that counts as a row without one (repeat)."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Feature not to look at (repeat).")
    ] = None,
    room: Annotated[
        int, typer.Option(min=256, max=65535, help="Bytes that the file may have.")
    ] = 4096,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same forest.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what there is to learn; write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a small forest of decision trees that names faults on a node.

    The node computes the features of each row and phase, here in its VM. Shape and caution of
    the forest are chosen on every fourth stream, the scores are those of the file on streams
    that it has not learnt from. The node never changes a forest.
    """
    with verb(as_json) as out:
        work = extra_room("gridnode_host.detection.train_run", "train")
        work.run(
            out,
            work.Order(
                sources=streams,
                out=out_file,
                test=test or (),
                name=name,
                leave_out=leave_out or (),
                without=without or (),
                room=room,
                seed=seed,
                dry_run=dry_run,
            ),
        )
