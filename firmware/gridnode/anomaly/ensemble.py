"""An ensemble for rows that no single signal gives away: histograms of random projections.

After LODA (Pevny, Machine Learning 102, 2016, doi 10.1007/s10994-015-5521-0): each of 12 projections adds two or three
signals' distances with signs drawn once; a row is as unusual as its bins were rare in training. What is missing leaves
its projections out.
"""

from array import array
from micropython import const

_PROJECTIONS = const(12)
_BINS = const(24)
_MOST = const(127)  # of a distance, in 1/16 of its usual size
_SHIFT = const(5)  # 3 * 127 in both directions are 24 bins
_HALF = const(384)
_MARGIN = const(40)  # over the worst of the training, 1/16
_LEAST = const(112)  # limit: 1/16 of a power of two, mean over the projections


class Ensemble:
    """Projections of `signals` distances; fewer than two signals give none."""

    def __init__(self, signals):
        self.first = bytearray(_PROJECTIONS)
        self.others = bytearray(2 * _PROJECTIONS)
        self.signs = bytearray(_PROJECTIONS)
        self.counts = array("H", [0] * (_PROJECTIONS * _BINS))
        self.costs = bytearray(_PROJECTIONS * _BINS)  # 1/16 of a power of two
        self.peak = 0
        self.weighed = False
        self.limit = 0  # 0: nothing is judged
        self.signals = signals
        seed = 1
        for k in range(_PROJECTIONS if signals > 1 else 0):
            self.first[k] = k % signals
            for j in range(2):
                seed = (seed * 1103 + 12347) % 65521
                self.others[2 * k + j] = (k + 1 + seed % (signals - 1)) % signals
            self.signs[k] = seed >> 8 & 3

    def _bin(self, k, z, good):
        """Place of a row in the histograms, -1 where a signal is missing."""
        a, b, c = self.first[k], self.others[2 * k], self.others[2 * k + 1]
        if not (good[a] and good[b] and good[c]):
            return -1
        total = _within(z[a])
        total += _within(z[b]) if self.signs[k] & 1 else -_within(z[b])
        if c != b:
            total += _within(z[c]) if self.signs[k] & 2 else -_within(z[c])
        return k * _BINS + (total + _HALF >> _SHIFT)

    def learn(self, z, good):
        """Count a row."""
        for k in range(_PROJECTIONS if self.signals > 1 else 0):
            place = self._bin(k, z, good)
            if place >= 0 and self.counts[place] < 65535:
                self.counts[place] += 1

    def weigh(self):
        """From here on rows can be judged: rare bins cost what they carry of information."""
        self.weighed = True
        for k in range(_PROJECTIONS):
            total = _BINS
            for j in range(k * _BINS, (k + 1) * _BINS):
                total += self.counts[j]
            for j in range(k * _BINS, (k + 1) * _BINS):
                self.costs[j] = min(log2(total) - log2(self.counts[j] + 1), 255)

    def cost(self, z, good):
        """Mean information of a row, 1/16 bit."""
        total = judged = 0
        for k in range(_PROJECTIONS if self.signals > 1 else 0):
            place = self._bin(k, z, good)
            if place >= 0:
                total += self.costs[place]
                judged += 1
        return total // judged if judged else 0

    def freeze(self):
        """Set the limit from the worst row since `weigh`."""
        self.limit = max(self.peak * _MARGIN >> 4, _LEAST) if self.peak else 0


def _within(z):
    return min(max(z, -_MOST), _MOST)


def log2(n):
    """16 times the binary logarithm of a positive integer, straight between powers of two."""
    k = 0
    while n >> (k + 1):
        k += 1
    return (k << 4) + ((n << 4 >> k) - 16)
