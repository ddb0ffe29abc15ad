"""A forest of decision trees from a file: learnt elsewhere, frozen here; it names the fault that a row looks like.

The file (`gridnode train` writes it, little-endian):

    "GNF", format version | crc32 of what follows (4 bytes) | length of the file, smallest share, length of the text
    (2 each) | version of the features, number of trees (1 each) | text | length of each tree (2 each) | trees

The text has three lines: name of the model; classes, the first of them "nothing"; features, both between commas. A
node is a question of 4 bytes or a leaf of 2. A question is a feature, the way to its right child in half nodes, and a
threshold + 32768 (2 bytes): the next node follows where the feature is at most the threshold. A leaf is a class + 128
and a weight up to 250. Children stand behind their parents, so every walk ends.
"""

import binascii
import struct
from array import array
from micropython import const

FORMAT = const(1)
_HEAD = "<3sBIHHHBB"
_HEAD_BYTES = const(16)
_LEAF = const(128)
_SURE = const(250)


class Forest:
    """A model that has passed all checks. `certainty` belongs to the last classification, in 1/1000."""

    def __init__(self, data, start, trees, text, at, least):
        self.name, classes, _ = text.split("\n")
        self.classes = classes.split(",")
        self.certainty = 0
        self.size = len(data)
        self._data = data
        self._start = start  # of the nodes
        self._trees = trees  # where each begins, behind `_start`
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
            while data[p] < _LEAF:
                if features[at[data[p]]] + 32768 <= data[p + 2] | data[p + 3] << 8:
                    p += 4
                else:
                    p += data[p + 1] << 1
            votes[data[p] - _LEAF] += data[p + 1]
        best = 0
        for k in range(1, len(votes)):
            if votes[k] > votes[best]:
                best = k
        self.certainty = 4 * votes[best] // len(self._trees)
        if best and self.certainty < self._least:
            best = 0
            self.certainty = 4 * votes[0] // len(self._trees)
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
    kinds = classes.count(",") + 1
    at = bytearray()
    for name in wanted.split(","):
        if name not in features:
            raise ValueError("there is no feature %s" % name)
        at.append(features.index(name))
    start = _HEAD_BYTES + words + 2 * count
    if start > size or not count or kinds < 2 or least > 1000:
        raise ValueError("there is no forest in it")
    trees = array("H")
    end = start
    for k in range(count):
        p = _HEAD_BYTES + words + 2 * k
        first = end
        trees.append(first - start)
        end += data[p] | data[p + 1] << 8
        if end > size or not _sound(data, first, end, len(at), kinds):
            raise ValueError("tree %d is malformed" % k)
    if end != size:
        raise ValueError("there are nodes without a tree")
    return Forest(data, start, trees, text, at, least)


def _sound(data, first, end, features, classes):
    """Whether the nodes of a tree keep to its bounds and each but the first is the child of one before it."""
    wanted = bytearray(end - first)
    due = 1  # children that are still to come
    p = first
    while p + 2 <= end:
        if p > first and not wanted[p - first]:
            return False
        due -= 1
        if data[p] >= _LEAF:
            if data[p] - _LEAF >= classes or data[p + 1] > _SURE:
                return False
            p += 2
            continue
        right = p + (data[p + 1] << 1)
        p += 4
        if data[p - 4] >= features or right <= p or right >= end or wanted[p - first] or wanted[right - first]:
            return False
        wanted[p - first] = wanted[right - first] = 1
        due += 2
    return p == end and not due
