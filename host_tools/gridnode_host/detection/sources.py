"""Labelled streams by what a person names: files, folders, or a kind to be drawn and its seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from gridnode_host.detection import streams
from gridnode_host.detection.stream_file import Stream, read_stream
from gridnode_host.errors import Exit, GridnodeError

__all__ = ["HELP", "gather"]

HELP = (
    "CSV file of gridnode simulate faults (its limits beside it as .json), folder of such files, "
    "or KIND:SEED or KIND:FIRST-LAST, which is drawn."
)

_DRAWN = re.compile(r"([a-z_]\w*):(\d+)(?:-(\d+))?")
_STEP = "read the streams"

Progress = Callable[[int, int], None]


def gather(sources: Sequence[str], progress: Progress) -> list[Stream]:
    """Read or draw the streams; raises GridnodeError for what is none."""
    makers: list[Callable[[], Stream]] = []
    for source in sources:
        makers.extend(_makers(source))
    found = []
    for number, make in enumerate(makers):
        progress(number, len(makers))
        found.append(_checked(make()))
    return found


def _makers(source: str) -> list[Callable[[], Stream]]:
    drawn = _DRAWN.fullmatch(source)
    if drawn:
        kind, first, last = drawn.groups()
        if kind not in streams.KINDS:
            raise GridnodeError(
                _STEP,
                f"there is no kind {kind!r}",
                f"Choose one of: {', '.join(streams.KINDS)}.",
                Exit.USAGE,
            )
        seeds = range(int(first), int(last or first) + 1)
        return [lambda seed=seed: streams.make(kind, seed) for seed in seeds]  # type: ignore[misc]
    path = Path(source)
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise GridnodeError(_STEP, f"{path} holds no .csv file", HELP, Exit.USAGE)
    return [lambda file=file: _read(file) for file in files]  # type: ignore[misc]


def _read(path: Path) -> Stream:
    limits = path.with_suffix(".json")
    if not limits.is_file():
        limits = path.with_name("META.json")
    try:
        stream = read_stream(path, limits)
    except OSError as err:
        raise GridnodeError(
            _STEP, f"{err.filename or path}: {err.strerror or err}", HELP, Exit.USAGE
        ) from err
    except (ValueError, KeyError, IndexError) as err:
        raise GridnodeError(_STEP, f"{path} is no stream: {err}", HELP, Exit.USAGE) from err
    return stream


def _checked(stream: Stream) -> Stream:
    missing = [
        name for name in ("interval_s", "rating_a", "v_nominal") if name not in stream.limits
    ]
    if missing:
        raise GridnodeError(
            _STEP,
            f"the limits of {stream.name} lack {', '.join(missing)}, which the features need",
            "Write them into its .json.",
            Exit.USAGE,
        )
    return stream
