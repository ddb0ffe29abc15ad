"""Where in a stream a fault can be seen at all."""

from __future__ import annotations

import numpy as np

from gridnode_host.detection.site import TRAIN_ROWS
from gridnode_host.detection.stream_file import Flags, Floats

__all__ = ["ahead", "longest_rest"]


def ahead(values: Floats, rows: int, quantile: float) -> Flags:
    """Rows that are followed by `rows` rows whose mean is above the quantile of such means."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    mean = np.zeros(len(values))
    mean[: len(values) - rows + 1] = (total[rows:] - total[:-rows]) / rows
    flags: Flags = mean > np.quantile(mean[TRAIN_ROWS:], quantile)
    return flags


def longest_rest(values: Floats) -> int:
    """Rows of the longest run of equal readings."""
    moves = np.flatnonzero(np.diff(values) != 0)
    return int(np.diff(moves, prepend=0, append=len(values) - 1).max())
