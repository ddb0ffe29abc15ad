"""A forest of decision trees from a file: learnt elsewhere, frozen here; it names the fault that a row looks like.

The file (`gridnode train` writes it, little-endian):

    "GNF", format version | crc32 of what follows (4 bytes) | length of the file, smallest share, length of the text
    (2 each) | version of the features, number of trees (1 each) | text | nodes of each tree (2 each) | nodes (4 each)

The text has three lines: name of the model; classes, the first of them "nothing"; features, both between commas. A
node is a feature, the way to its right child in nodes (1 byte each) and a threshold + 32768 (2 bytes): the next node
follows where the feature is at most the threshold. A leaf is 255, a class and a weight up to 1000. Children stand
behind their parents, so every walk ends.
"""

import binascii
import struct
from array import array
from micropython import const

FORMAT = const(1)
_HEAD = "<3sBIHHHBB"
_HEAD_BYTES = const(16)
_LEAF = const(255)


class Forest:
    """A model that has passed all checks. `certainty` belongs to the last classification, in 1/1000."""

    def __init__(self, data, start, trees, text, at, least):
        self.name, classes, _ = text.split("\n")
        self.classes = classes.split(",")
        self.certainty = 0
        self.size = len(data)
        self._data = data
        self._start = start  # of the nodes
        self._trees = trees  # first node of each, in bytes behind `_start`
        self._at = at  # where in the row's features each of the model's stands
        self._least = least
        self._votes = array("i", [0] * len(self.classes))

    def classify(self, features):
        """Index of the class of a row; 0 where no other is certain enough. Allocates nothing."""
        data, votes, at = self._data, self._votes, self._at
        for k in range(len(votes)):
            votes[k] = 0
        for first in self._trees:
            p = self._start + first
            while data[p] != _LEAF:
                if features[at[data[p]]] + 32768 <= data[p + 2] | data[p + 3] << 8:
                    p += 4
                else:
                    p += data[p + 1] << 2
            votes[data[p + 1]] += data[p + 2] | data[p + 3] << 8
        best = 0
        for k in range(1, len(votes)):
            if votes[k] > votes[best]:
                best = k
        self.certainty = votes[best] // len(self._trees)
        if best and self.certainty < self._least:
            best = 0
            self.certainty = votes[0] // len(self._trees)
        return best


def load(data, features, version, room=4096):
    """Forest from the bytes of a file; raises ValueError with the reason why it is refused.

    `features` are the names of what a row gives and `version` what they mean; `room` is the most bytes it may have.
    """
    if len(data) < _HEAD_BYTES or data[:3] != b"GNF":
        raise ValueError("this is no file of a forest")
    _, told, crc, size, least, words, meaning, count = struct.unpack(_HEAD, data[:_HEAD_BYTES])
    if told != FORMAT:
        raise ValueError("format %d is not known here, only %d" % (told, FORMAT))
    if len(data) > room:
        raise ValueError("%d bytes are too many, there is room for %d" % (len(data), room))
    if len(data) != size:
        raise ValueError("%d bytes instead of %d" % (len(data), size))
    if binascii.crc32(memoryview(data)[8:]) & 0xFFFFFFFF != crc:
        raise ValueError("wrong crc32")
    if meaning != version:
        raise ValueError("made for version %d of the features, not %d" % (meaning, version))
    try:
        text = str(data[_HEAD_BYTES : _HEAD_BYTES + words], "utf-8")
        _, classes, wanted = text.split("\n")
    except ValueError:
        raise ValueError("the names are not readable")
    classes, wanted = classes.count(",") + 1, wanted.split(",")
    at = bytearray()
    for name in wanted:
        if name not in features:
            raise ValueError("there is no feature %s" % name)
        at.append(features.index(name))
    start = _HEAD_BYTES + words + 2 * count
    if start > size or not count or classes < 2 or least > 1000:
        raise ValueError("there is no forest in it")
    trees = array("H")
    end = start
    for k in range(count):
        p = _HEAD_BYTES + words + 2 * k
        first = end
        trees.append(first - start)
        end += (data[p] | data[p + 1] << 8) << 2
        if end > size or not _sound(data, first, end, len(wanted), classes):
            raise ValueError("tree %d is malformed" % k)
    if end != size:
        raise ValueError("nodes without a tree")
    return Forest(data, start, trees, text, at, least)


def _sound(data, first, end, features, classes):
    """Whether a tree of at least one node keeps to its bounds and every node but the first is one node's child."""
    wanted = bytearray((end - first) >> 2)
    for p in range(first, end, 4):
        if data[p] == _LEAF:
            if data[p + 1] >= classes or data[p + 2] | data[p + 3] << 8 > 1000:
                return False
        else:
            right = p + (data[p + 1] << 2)
            if data[p] >= features or data[p + 1] < 2 or right >= end:
                return False
            wanted[(p + 4 - first) >> 2] += 1
            wanted[(right - first) >> 2] += 1
    return len(wanted) > 0 and sum(wanted) == len(wanted) - 1 and max(wanted) <= 1 and not wanted[0]
