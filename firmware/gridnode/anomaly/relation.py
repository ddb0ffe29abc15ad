"""Solves the relation of a signal to its causes by least squares, exactly: every machine finds the same weights.

Weights are in 1/4096 and never against the sign that physics gives them.
"""

from micropython import const

from gridnode.anomaly.causes import DAY

_WORD = const(28)
_BITS = const(12)
_LARGEST = const(1 << 24)  # weight
_ROWS = const(100)  # least that a solution needs


def learn(lessons, k):
    """Let signal `k` be explained where that is worth it; returns whether its explanation changed."""
    sums = lessons.sums[k]
    cause = lessons.causes.of[k]
    if sums is None or not solve(sums, 90, cause.sign, DAY):
        return False
    for j in range(len(cause.inputs)):
        cause.centers[j] = lessons.means[cause.inputs[j]] >> 4
    cause.known = True
    return True


def solve(sums, enough, sign=1, free=()):
    """Take better weights: those that leave less than `enough` percent of what the old ones left.

    Inputs of `free` indices have weights of any sign. Returns whether they are taken.
    """
    weights = sums.relation.weights
    if sums.rows < _ROWS:
        return False
    old = list(weights)
    before = left(sums)
    if _find(sums, sign, free) and left(sums) * 100 < before * enough:
        return True
    for k in range(len(old)):
        weights[k] = old[k]
    return False


def entry(sums, a, b):
    """Sum of the products of two inputs; the last one is the signal."""
    a, b = min(a, b), max(a, b)
    k = a * (len(sums.relation.inputs) + 1) - a * (a - 1) // 2 + b - a
    return (sums.words[len(sums.words) // 2 + k] << _WORD) + sums.words[k]


def left(sums):
    """Sum of the squares that the weights leave, times 2**24."""
    weights = sums.relation.weights
    size = len(weights)
    total = entry(sums, size, size) << (2 * _BITS)
    for a in range(size):
        total -= (2 * weights[a] << _BITS) * entry(sums, a, size)
        for b in range(size):
            total += weights[a] * weights[b] * entry(sums, a, b)
    return total


def _find(sums, sign, free):
    """Least squares without the inputs that come out against their sign."""
    weights = sums.relation.weights
    used = list(range(len(weights)))
    while True:
        for k in range(len(weights)):
            weights[k] = 0
        signed = [k for k in used if sums.relation.inputs[k] not in free]
        if not signed or not eliminate(sums, used):
            return False
        worst = min(signed, key=lambda k: weights[k] * sign)
        if weights[worst] * sign >= 0:
            break
        used.remove(worst)
    return True


def eliminate(sums, used):
    """Fraction-free elimination (Bareiss, Math. Comp. 22, 1968): exact in integers."""
    n = len(used)
    m = [[entry(sums, a, b) for b in used] + [entry(sums, a, len(sums.relation.inputs))] for a in used]
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
        sums.relation.weights[used[k]] = weight
    return True
