"""Gathers what the causes of signals teach: sums of the products of fast movements, which `relation` solves."""

from array import array
from micropython import const

_HOURS_S = const(7200)  # slower movements are not learnt from: weather looks like load
_WARM_S = const(10800)
_LEARN_S = const(60)  # between rows that are learnt from
_WORD = const(28)
_HALF = const(1 << 27)


class Sums:
    """Normal equations of a relation: the lower words of all sums of products, then the higher ones."""

    def __init__(self, relation):
        size = len(relation.inputs)
        self.relation = relation
        self.words = array("i", [0] * ((size + 1) * (size + 2)))
        self.rows = 0

    def add(self, row, y):
        """Take a row of inputs and the signal."""
        self.rows += 1
        inputs = self.relation.inputs
        words = self.words
        size = len(inputs)
        high = len(words) // 2
        k = 0
        for a in range(size + 1):
            left = row[inputs[a]] if a < size else y
            for b in range(a, size + 1):
                total = words[k] + left * (row[inputs[b]] if b < size else y)
                carry = (total + _HALF) >> _WORD
                words[k] = total - (carry << _WORD)
                words[high + k] += carry
                k += 1


class Lessons:
    """Learns the relations of `Causes` from fast movements: every series is taken off its mean over 2 h."""

    def __init__(self, causes):
        self.causes = causes
        self._rows = max(2, _HOURS_S // causes.interval_s)
        self.means = array("i", [0] * len(causes.row))  # 1/16
        self._fast = array("i", [0] * len(causes.row))
        self.of = array("i", [0] * len(causes.of))
        self.seen = bytearray(len(causes.of))
        self.sums = [cause and Sums(cause) for cause in causes.of]
        self.count = 0

    def take(self, ys, good):
        """Learn from a row."""
        row = self.causes.row
        for k in range(1, len(row)):
            value = row[k] << 4
            if not self.count:
                self.means[k] = value
            self.means[k] += (value - self.means[k]) // self._rows
            self._fast[k] = (value - self.means[k]) >> 4
        self.count += 1
        warm = self.causes.valid_rows * self.causes.interval_s > _WARM_S
        due = self.count % max(1, _LEARN_S // self.causes.interval_s) == 0
        for k in range(len(ys)):
            if self.sums[k] is None or not good[k]:
                continue
            value = ys[k] << 4
            if not self.seen[k]:
                self.of[k] = value
                self.seen[k] = 1
            self.of[k] += (value - self.of[k]) // self._rows
            if warm and due:
                self.sums[k].add(self._fast, (value - self.of[k]) >> 4)
