"""A signal from its causes: a weighted sum whose weights are learnt by least squares.

Inputs are integers of at most 14 bits, weights are in 1/4096 and never against the sign that physics gives them. Sums
of products are kept in two words of 28 bits and solved exactly, so that every machine finds the same weights.
"""

from array import array
from micropython import const

_WORD = const(28)
_HALF = const(1 << 27)
_BITS = const(12)
_LARGEST = const(1 << 24)  # weight
_ROWS = const(100)  # least that a solution needs


class Relation:
    """Weights of `inputs` (indices into the row of causes), around `centers`."""

    def __init__(self, inputs):
        self.inputs = inputs
        self.weights = array("i", [0] * len(inputs))
        self.centers = array("i", [0] * len(inputs))
        self.known = False

    def value(self, row):
        """By how much the causes move the signal from where they were in training."""
        total = 0
        for k in range(len(self.inputs)):
            if self.weights[k]:
                total += self.weights[k] * (row[self.inputs[k]] - self.centers[k])
        return total >> _BITS


class Sums:
    """Normal equations of a relation; inputs of `free` indices have weights of any sign and are not used later."""

    def __init__(self, relation, sign, free):
        size = len(relation.inputs)
        self.relation = relation
        self.sign = sign
        self.free = free
        self.low = array("i", [0] * ((size + 1) * (size + 2) // 2))
        self.high = array("i", [0] * len(self.low))
        self.rows = 0

    def add(self, row, y):
        """Take a row of inputs and the signal."""
        self.rows += 1
        inputs = self.relation.inputs
        size = len(inputs)
        k = 0
        for a in range(size + 1):
            left = row[inputs[a]] if a < size else y
            for b in range(a, size + 1):
                total = self.low[k] + left * (row[inputs[b]] if b < size else y)
                carry = (total + _HALF) >> _WORD
                self.low[k] = total - (carry << _WORD)
                self.high[k] += carry
                k += 1

    def solve(self, enough):
        """Take better weights: those that leave less than `enough` percent of what the old ones left.

        Returns whether they are taken.
        """
        weights = self.relation.weights
        if self.rows < _ROWS:
            return False
        old = list(weights)
        before = self._left()
        if self._find() and self._left() * 100 < before * enough:
            return True
        for k in range(len(old)):
            weights[k] = old[k]
        return False

    def _sum(self, a, b):
        """Sum of the products of two inputs; the last one is the signal."""
        a, b = min(a, b), max(a, b)
        k = a * (len(self.relation.inputs) + 1) - a * (a - 1) // 2 + b - a
        return (self.high[k] << _WORD) + self.low[k]

    def _left(self):
        """Sum of the squares that the weights leave, times 2**24."""
        weights = self.relation.weights
        size = len(weights)
        total = self._sum(size, size) << (2 * _BITS)
        for a in range(size):
            total -= (2 * weights[a] << _BITS) * self._sum(a, size)
            for b in range(size):
                total += weights[a] * weights[b] * self._sum(a, b)
        return total

    def _find(self):
        """Least squares without the inputs that come out against their sign."""
        weights = self.relation.weights
        used = list(range(len(weights)))
        while True:
            for k in range(len(weights)):
                weights[k] = 0
            signed = [k for k in used if self.relation.inputs[k] not in self.free]
            if not signed or not self._eliminate(used):
                return False
            worst = min(signed, key=lambda k: weights[k] * self.sign)
            if weights[worst] * self.sign >= 0:
                break
            used.remove(worst)
        for k in used:
            if k not in signed:
                weights[k] = 0
        return True

    def _eliminate(self, used):
        """Fraction-free elimination (Bareiss, Math. Comp. 22, 1968): exact in integers."""
        n = len(used)
        m = [[self._sum(a, b) for b in used] + [self._sum(a, len(self.relation.inputs))] for a in used]
        for a in range(n):
            m[a][a] += (m[a][a] >> 10) + 1  # a ridge: lags of one current are alike
        last = 1
        for a in range(n):
            pivot = m[a][a]
            if not pivot:
                return False
            for r in range(n):
                if r == a:
                    continue
                factor = m[r][a]
                for c in range(n + 1):
                    m[r][c] = (pivot * m[r][c] - factor * m[a][c]) // last
            last = pivot
        for k in range(n):
            weight = (m[k][n] << _BITS) // m[k][k]
            if abs(weight) >= _LARGEST:
                return False
            self.relation.weights[used[k]] = weight
        return True
