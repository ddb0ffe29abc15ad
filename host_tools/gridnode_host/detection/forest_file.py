"""The file of a forest as the node reads it: see `firmware/gridnode/anomaly/trees.py`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMAT", "MOST_LEAVES", "NOTHING", "ROOM", "WEIGHT", "Forest", "Node"]

FORMAT = 1
ROOM = 4096
"""Bytes that a file may have."""
NOTHING = "nothing"
"""Name of the class of a row without a fault, the first of them."""
WEIGHT = 250
"""A leaf that is sure."""
MOST_LEAVES = 85
"""Leaves of a tree whose longest left branch keeps the right one within 255 half nodes."""

_LEAF = 128
_LOW = 32768

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Node:
    """A leaf (`skip` 0: a class and its weight in 1/250), or a question.

    The question is whether the feature is at most `value`; if so the next node follows, if not
    the one `skip` nodes on.
    """

    which: int
    value: int
    skip: int = 0


@dataclass(frozen=True)
class Forest:
    """Trees in the order of the file, with the names that their numbers stand for."""

    name: str
    classes: Sequence[str]  # the first is NOTHING
    features: Sequence[str]
    version: int  # of the features
    trees: Sequence[Sequence[Node]]
    least: int = 0  # share of the votes, 1/1000, below which a row is nothing

    @property
    def packed(self) -> bytes:
        """The file."""
        names = (self.name, ",".join(self.classes), ",".join(self.features))
        text = "\n".join(names).encode()
        trees = [_packed(tree) for tree in self.trees]
        body = text + b"".join([*(struct.pack("<H", len(tree)) for tree in trees), *trees])
        size = 16 + len(body)
        rest = struct.pack("<HHHBB", size, self.least, len(text), self.version, len(self.trees))
        rest += body
        return struct.pack("<3sBI", b"GNF", FORMAT, crc32(rest)) + rest

    def votes(self, rows: NDArray[np.int16]) -> tuple[Int, Int]:
        """Votes per row and class, and questions asked per row; rows as [n, features]."""
        votes = np.zeros((len(rows), len(self.classes)), dtype=np.int64)
        asked = np.zeros(len(rows), dtype=np.int64)
        every = np.arange(len(rows))
        for tree in self.trees:
            which, value, skip = (
                np.array([getattr(node, part) for node in tree])
                for part in ("which", "value", "skip")
            )
            at = np.zeros(len(rows), dtype=np.int64)
            open_rows = every
            while len(open_rows := open_rows[skip[at[open_rows]] > 0]):
                node = at[open_rows]
                left = rows[open_rows, which[node]] <= value[node]
                at[open_rows] = node + np.where(left, 1, skip[node])
                asked[open_rows] += 1
            votes[every, which[at]] += value[at]
        return votes, asked

    def answers(self, votes: Int) -> tuple[Int, Int]:
        """Class and certainty (1/1000) of each row, as the node takes them from the votes."""
        best = votes.argmax(axis=1)
        share = votes * (1000 // WEIGHT) // len(self.trees)
        certainty = np.take_along_axis(share, best[:, None], axis=1)[:, 0]
        unsure = (best > 0) & (certainty < self.least)
        return np.where(unsure, 0, best), np.where(unsure, share[:, 0], certainty)

    @property
    def most_asked(self) -> int:
        """Questions of the longest way through all trees."""
        return sum(_depth(tree) for tree in self.trees)


def _packed(tree: Sequence[Node]) -> bytes:
    at = [0]
    for node in tree:
        at.append(at[-1] + (4 if node.skip else 2))
    packed = b""
    for k, node in enumerate(tree):
        if node.skip:
            skip = (at[k + node.skip] - at[k]) // 2
            packed += struct.pack("<BBH", node.which, skip, node.value + _LOW)
        else:
            packed += struct.pack("<BB", _LEAF + node.which, node.value)
    return packed


def _depth(tree: Sequence[Node]) -> int:
    depth = [0] * len(tree)
    for k, node in enumerate(tree):
        if node.skip:
            depth[k + 1] = depth[k + node.skip] = depth[k] + 1
    return max(depth)
