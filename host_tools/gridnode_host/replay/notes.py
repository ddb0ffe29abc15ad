"""What is peculiar about a recording, said before anybody wonders about its scores."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from gridnode_host.replay.judge import MOST_NAMED
from gridnode_host.replay.recording import Recording

__all__ = ["notes"]

_RATING = "i_of_rating"
# what a family's key in the limits holds for; any other key is the name of one signal
_FAMILIES = {
    "v": re.compile(r"voltage|v\d+"),
    "i": re.compile(r"current|i_n|i\d+"),
    "p": re.compile(r"power|p\d+"),
    "t": re.compile(r"temperature|t_.*"),
}
# names that mean something
_KNOWN = (*_FAMILIES.values(), re.compile("humidity|cover|class|label(_.*)?"))
_OFF = 0.2  # of the interval, from which on times in rows are other times
_FAR = 2  # times as long or as short, from which on the detector does not compare rows


def notes(recording: Recording) -> list[str]:
    """A sentence each: missing and constant signals, steps of the clock, changes of the interval."""
    return [*_signals(recording), *_limits(recording), *_times(recording)]


def _signals(recording: Recording) -> Iterator[str]:
    rows = len(recording.timestamps)
    for name, column in recording.stream.values.items():
        meant = name.lower()
        if meant != name and any(known.fullmatch(meant) for known in _KNOWN):
            yield f"{name} is judged as a plain signal; did you mean {meant}?"
        if count := recording.infinite.get(name):
            yield f"{name}: {count} infinite value{'s' if count > 1 else ''} taken as missing"
        there = np.flatnonzero(~np.isnan(column))
        if not len(there):
            yield f"{name}: no row has a value"
            continue
        first = int(there[0])
        if first:
            yield f"{name}: the first value comes in line {recording.lines[first]}"
        missing = rows - first - len(there)
        if missing:
            yield f"{name}: {missing} of {rows - first} rows have no value"
        values = column[there]
        if len(values) > 1 and (values == values[0]).all():
            yield f"{name}: always {values[0]:g}"


def _limits(recording: Recording) -> Iterator[str]:
    names = list(recording.stream.values)
    limits = recording.stream.limits
    for key in limits.get("nominal", {}):
        if key == _RATING:
            if not limits.get("rating_a"):
                yield f"the limits have {key} and no rating_a: no current is limited"
            continue
        family = _FAMILIES.get(key)
        if key not in names and not (family and any(map(family.fullmatch, names))):
            yield f"the limits name {key}, which is no signal of the stream"
    if len(names) > MOST_NAMED:
        yield f"with more than {MOST_NAMED} signals no fault is named"


def _times(recording: Recording) -> Iterator[str]:
    steps, lines = np.diff(recording.stream.t), recording.lines
    again = np.flatnonzero(steps == 0)
    if len(again):
        yield (
            f"{len(again)} of {len(lines)} rows have the timestamp of the one before, "
            f"first in line {lines[int(again[0]) + 1]}"
        )
    back = np.flatnonzero(steps < 0)
    if len(back):
        k = int(back[0])
        more = f", and {len(back) - 1} times more" if len(back) > 1 else ""
        yield f"line {lines[k + 1]}: the clock goes back by {-steps[k]:g} s{more}"
    usual = recording.interval_s
    if not usual:
        return
    interval = recording.stream.limits.get("interval_s")
    if interval and abs(usual - interval) > _OFF * interval:
        far = not interval / _FAR <= usual <= interval * _FAR
        effect = "rows so far from it are judged by rules alone" if far else "times are off by as much"
        yield f"rows are {usual:g} s apart, interval_s of the limits is {interval:g} s: {effect}"
    other = np.flatnonzero((steps > 0) & (np.abs(steps - usual) > 0.5 * usual))
    if len(other):
        k = int(other[0])
        yield (
            f"{len(other)} of {len(steps)} rows do not follow the one before by {usual:g} s, "
            f"first in line {lines[k + 1]}: {steps[k]:g} s"
        )
