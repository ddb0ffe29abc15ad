"""What `gridnode replay` does."""

from __future__ import annotations

import csv
import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gridnode_host import resources
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.files import unread, unwritten, write_atomic
from gridnode_host.output import Output
from gridnode_host.replay import recording as recordings
from gridnode_host.replay.episodes import Episode, episodes, readable, summary
from gridnode_host.replay.judge import LEARNING, Judgement, judge
from gridnode_host.replay.notes import notes

__all__ = ["run"]

_PLACE = "find the place of the result"
_PLOTS = (".html", ".htm", ".png")
_MODEL_LIMIT = 65536  # bytes; a node's model has a few thousand


def run(
    out: Output,
    source: Path,
    limits: Path | None,
    scores: Path | None,
    *,
    mode: str,
    model: Path | None,
    plot: Path | None,
    forest: str | None = None,
    dry_run: bool = False,
) -> None:
    """Replay a recording, write what is asked for and tell what was found.

    Nothing is written before everything has been computed. Raises GridnodeError.
    """
    begun = time.monotonic()
    saved = _read_model(model)
    trees = resources.forest(forest) if forest else None
    written = [path for path in (scores, plot, None if saved is not None else model) if path]
    _check_places(written, [path for path in (source, limits, model) if path])
    if plot and plot.suffix.lower() not in _PLOTS:
        raise _no_place(plot, f"its name ends in none of {', '.join(_PLOTS)}")
    with out.step(f"read {source}"):
        bounds = recordings.read_limits(limits) if limits else {}
        recording = recordings.read(source, bounds)
    found = notes(recording)
    for note in found:
        out.event("note", f"note  {note}", note=note)
    rows, stream = len(recording.timestamps), recording.stream
    if dry_run:
        for path in written:
            out.event("plan", f"would write {path}", path=str(path))
        out.done(f"{rows} rows of {len(stream.values)} signals", rows=rows, dry_run=True)
        return
    with out.step(
        f"run the detector over {rows} rows of {len(stream.values)} signals"
    ) as progress:
        judgement = judge(
            stream, mode, saved, train=recording.train, forest=trees, progress=progress
        )
    alarms = episodes(judgement, recording)
    files: list[tuple[Path, bytes]] = []
    if scores:
        files.append((scores, _scores(recording.timestamps, judgement)))
    if model and saved is None:
        files.append((model, judgement.model))
    if plot:
        from gridnode_host.replay import page

        with out.step(f"draw {plot}"):
            facts = [*_facts(recording, judgement, alarms, mode), *_told(judgement, model, saved)]
            drawn = page.render(plot.suffix.lower(), recording, judgement, alarms, facts, found)
        files.append((plot, drawn))
    _write(files)
    _tell(out, recording, judgement, alarms, mode, model, saved, time.monotonic() - begun)
    for path, content in files:
        out.event("file", f"wrote {path}", path=str(path), bytes=len(content))
    out.done(
        None,
        rows=rows,
        signals=len(stream.values),
        alarms=len(alarms),
        alarm_rows=int(judgement.alarm.sum()),
        state=judgement.state,
        reason=_reason(judgement, mode),
        learnt=judgement.learnt,
        size=judgement.size,
        model_bytes=len(judgement.model),
        model_refused=judgement.load,
        refused=judgement.refused,
        seconds=round(time.monotonic() - begun, 2),
    )


def _scores(timestamps: Sequence[str], judgement: Judgement) -> bytes:
    """The scores file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = judgement.names
    writer.writerow(
        ["timestamp", "grade", "alarm"]
        + [f"grade_{name}" for name in names]
        + [f"alarm_{name}" for name in names]
        + ["kind", "priority", "diagnosis"]
    )
    told = [f"{grade / 1000:.3f}" for grade in range(1001)]
    for row in zip(
        timestamps,
        judgement.grade.tolist(),
        judgement.alarm.tolist(),
        judgement.grades.tolist(),
        judgement.alarms.tolist(),
        judgement.kind,
        judgement.priority.tolist(),
        judgement.diagnosis,
        strict=True,
    ):
        when, grade, alarm, grades, alarms, kind, priority, diagnosis = row
        line = [when, told[grade], int(alarm), *[told[one] for one in grades], *map(int, alarms)]
        writer.writerow([*line, kind, priority or "", diagnosis])
    return text.getvalue().encode()


def _facts(
    recording: recordings.Recording, judgement: Judgement, alarms: Sequence[Episode], mode: str
) -> list[tuple[str, str]]:
    """What a person asks first."""
    times, rows = recording.timestamps, len(recording.timestamps)
    alarmed = int(judgement.alarm.sum())
    found = [
        (
            "rows",
            f"{rows} of {len(judgement.names)} signals, {readable(times[0])} to {readable(times[-1])}",
        ),
        ("alarms", f"{len(alarms)}, in {alarmed} rows ({100 * alarmed / rows:.1f} %)"),
        ("model", f"{judgement.state}, {judgement.learnt} rows learnt, mode {mode}"),
    ]
    if reason := _reason(judgement, mode):
        found.append(("reason", reason))
    return found


def _reason(judgement: Judgement, mode: str) -> str:
    """Why the model is what it is, "" where nothing is to be said."""
    if not judgement.reason and judgement.state == LEARNING != mode:
        return "the stream ends before learning does (train, train_rows): it was judged by rules alone"
    return judgement.reason


def _told(judgement: Judgement, model: Path | None, saved: bytes | None) -> list[tuple[str, str]]:
    found = []
    if judgement.load:
        found.append(("not taken", f"{model}: {judgement.load}; learnt from this stream instead"))
    elif saved is not None:
        found.append(("taken", str(model)))
    found += [("refused", one) for one in judgement.refused]
    return found


def _tell(
    out: Output,
    recording: recordings.Recording,
    judgement: Judgement,
    alarms: Sequence[Episode],
    mode: str,
    model: Path | None,
    saved: bytes | None,
    seconds: float,
) -> None:
    if out.as_json:
        for one in alarms:
            out.event("alarm", **_fields(one))
        return
    facts = _facts(recording, judgement, alarms, mode)
    if alarms:
        facts.append(("first", _sentence(alarms[0])))
    if len(alarms) > 1:
        facts.append(("last", _sentence(alarms[-1])))
    facts += _told(judgement, model, saved)
    facts.append(("size", f"model {len(judgement.model)} bytes, {judgement.size} of them arrays"))
    facts.append(("time", f"{seconds:.1f} s"))
    for name, value in facts:
        out.event("fact", f"{name:<10}{value}")
    if alarms:
        out.table("diagnosis", summary(alarms), "")


def _fields(alarm: Episode) -> dict[str, Any]:
    return {
        "start": alarm.start,
        "end": alarm.end,
        "rows": alarm.rows,
        "duration_s": alarm.duration_s,
        "at": alarm.at,
        "kind": alarm.kind,
        "diagnosis": alarm.diagnosis,
        "priority": alarm.priority or None,
        "sentence": alarm.sentence,
        "signals": alarm.signals,
    }


def _sentence(alarm: Episode) -> str:
    told = [alarm.kind or "alarm"]
    if alarm.diagnosis and alarm.diagnosis != alarm.kind:
        told.append(alarm.diagnosis)
    if alarm.priority:
        told.append(f"priority {alarm.priority}")
    if alarm.signals:
        told.append(" ".join(alarm.signals))
    words = f"{readable(alarm.start)}  {', '.join(told)}"
    return f"{words}: {alarm.sentence}" if alarm.sentence else words


def _read_model(path: Path | None) -> bytes | None:
    """A model that is there; None: it is to be written."""
    if path is None or not path.exists():
        return None
    try:
        content = path.read_bytes()
    except OSError as err:
        raise unread("read the model", path, err) from err
    if len(content) > _MODEL_LIMIT:
        raise GridnodeError(
            "read the model",
            f"{path} has {len(content)} bytes; no model of a node is that large",
            "Name a file that gridnode replay --model wrote.",
            Exit.USAGE,
        )
    return content


def _check_places(written: Sequence[Path], read: Sequence[Path]) -> None:
    """Refuse a place that cannot be written before anything is computed."""
    names = [path.resolve() for path in written]
    for path, name in zip(written, names, strict=True):
        if names.count(name) > 1:
            raise _no_place(path, "it is to hold two things")
        if path.exists() and name in [one.resolve() for one in read]:
            raise _no_place(path, "it is what is read")
        if path.is_dir():
            raise _no_place(path, "it is a folder")
        if path.exists() and not path.is_file():
            raise _no_place(path, "it is no ordinary file")
        try:
            tempfile.TemporaryFile(dir=path.parent).close()  # permissions do not tell of /proc
        except OSError as err:
            raise unwritten(_PLACE, path, err) from err


def _no_place(path: Path, cause: str) -> GridnodeError:
    return GridnodeError(_PLACE, f"{path}: {cause}", "Name another file.", Exit.USAGE)


def _write(files: Sequence[tuple[Path, bytes]]) -> None:
    for path, content in files:
        try:
            write_atomic(path, content)
        except OSError as err:
            raise unwritten("write the result", path, err) from err
