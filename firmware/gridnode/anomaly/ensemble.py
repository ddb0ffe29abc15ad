"""An ensemble for rows that no single signal gives away: histograms of random projections.

After LODA (Pevny, Machine Learning 102, 2016, doi 10.1007/s10994-015-5521-0): each of 12 projections adds two or three
signals' distances with signs drawn once; a row is as unusual as its bins were rare in training. What is missing leaves
its projections out.
"""

from micropython import const

PROJECTIONS = const(12)
BINS = const(24)
_MOST = const(127)  # of a distance, in 1/16 of its usual size
_SHIFT = const(5)  # 3 * 127 in both directions are 24 bins
_HALF = const(384)


class Ensemble:
    """Projections of `signals` distances; fewer than two signals give none."""

    def __init__(self, signals):
        self.first = bytearray(PROJECTIONS if signals > 1 else 0)
        self.others = bytearray(2 * PROJECTIONS)
        self.signs = bytearray(PROJECTIONS)
        self.counts = None  # rows of the training by bin, until they are weighed
        self.costs = bytearray(PROJECTIONS * BINS)  # 1/16 of a power of two
        self.peak = 0
        self.weighed = False
        self.limit = 0  # 0: nothing is judged
        seed = 1
        for k in range(len(self.first)):
            self.first[k] = k % signals
            for j in range(2):
                seed = (seed * 1103 + 12347) % 65521
                self.others[2 * k + j] = (k + 1 + seed % (signals - 1)) % signals
            self.signs[k] = seed >> 8 & 3

    def place(self, k, z, good):
        """Place of a row in the histograms, -1 where a signal is missing."""
        a, b, c = self.first[k], self.others[2 * k], self.others[2 * k + 1]
        if not (good[a] and good[b] and good[c]):
            return -1
        total = _within(z[a])
        total += _within(z[b]) if self.signs[k] & 1 else -_within(z[b])
        if c != b:
            total += _within(z[c]) if self.signs[k] & 2 else -_within(z[c])
        return k * BINS + (total + _HALF >> _SHIFT)

    def cost(self, z, good):
        """Mean information of a row, 1/16 bit."""
        total = judged = 0
        for k in range(len(self.first)):
            place = self.place(k, z, good)
            if place >= 0:
                total += self.costs[place]
                judged += 1
        return total // judged if judged else 0


def _within(z):
    return min(max(z, -_MOST), _MOST)
