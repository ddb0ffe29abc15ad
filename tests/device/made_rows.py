"""Rows of a feeder that were never measured: integers of a congruential generator, so that every VM sees the same.

Every value is a multiple of 1/64 and has a float32 of its own.
"""

from array import array

PLACE = ["voltage", "current", "temperature", "humidity"]
FEEDER = ["v1", "i1", "v2", "i2", "v3", "i3", "i_n", "p1", "p2", "p3", "t_joint", "t_ambient", "humidity"]
INTERVAL_S = 600
DAY = 144  # rows
TRAIN = 4 * DAY
START = 1700000000 // 86400 * 86400
NAN = float("nan")
LIMITS = {
    "interval_s": INTERVAL_S,
    "train_rows": TRAIN,
    "rating_a": 100,
    "v_nominal": 230,
    "nominal": {"v": [207, 253], "i_of_rating": [0, 1.25], "humidity": [5, 95]},
}


class Rows:
    """Sound rows of the signals `names`, one after the other; faults change them.

    A fault is (name, first row, rows, what): what is added to the value, NaN for none, or a function of value and row.
    """

    def __init__(self, names, faults=(), seed=1, interval_s=INTERVAL_S):
        self.names = names
        self.interval_s = interval_s
        self.faults = faults
        self.row = 0
        self.values = array("f", [0] * len(names))
        self._seed = seed
        self._heat = [0] * 3  # 1/64 K
        self._load = [0] * 3
        self._weather = 0

    def noise(self, size):
        """An integer from -size to size, the middle more often."""
        total = 0
        for _ in range(2):
            self._seed = (self._seed * 6421 + 3571) % 65521
            total += self._seed % (size + 1)
        return total - size

    @property
    def t(self):
        """Unix time of the newest row."""
        return START + self.row * self.interval_s

    def next(self):
        """The next row."""
        self.row += 1
        now = self.row % DAY
        day = min(now, DAY - now)  # 0 at midnight, 72 at noon
        self._weather += (self.noise(40) - self._weather) // 16
        air = 20 * 64 + day * 5 + self._weather + self.noise(6)
        seen = {"t_ambient": air, "humidity": 60 * 64 - day * 8 + self._weather * 2 + self.noise(20)}
        for k in range(3):
            self._load[k] += self.noise(60) - self._load[k] // 8
            i = 25 * 64 + day * 24 + k * 128 + self._load[k] + self.noise(24)
            self._heat[k] += (i // 64 * (i // 64) // 2 - self._heat[k]) // 4
            v = 230 * 64 - i // 40 + self.noise(24)
            seen["v%d" % (k + 1)] = v
            seen["i%d" % (k + 1)] = i
            seen["p%d" % (k + 1)] = v // 64 * i // 8 * 7
        seen["voltage"], seen["current"] = seen["v1"], seen["i1"]
        seen["i_n"] = 6 * 64 + self.noise(60)
        seen["t_joint"] = seen["temperature"] = air + self._heat[0] + self.noise(6)
        for k in range(len(self.names)):
            x = seen[self.names[k]] / 64 if self.names[k] in seen else 12 + self.noise(64) / 64
            for name, first, rows, what in self.faults:
                if name == self.names[k] and first <= self.row < first + rows:
                    x = what(x, self.row - first) if callable(what) else x + what
            self.values[k] = x
        return self.values


def judged(detector, rows, count, learn=None, until=None):
    """Give so many rows to a detector; returns [(row, kind, signals in alarm)] where there is an alarm."""
    found = []
    for _ in range(count):
        values = rows.next()
        detector.row(values, rows.t, learn)
        if detector.alarm:
            signals = [n for n, alarm in zip(detector.names, detector.alarms) if alarm]
            found.append((rows.row, detector.kind, signals))
            if until:
                break
    return found


def faults_behind(names, start):
    """Faults of many kinds from a row on, for `Rows`."""
    v, i = ("voltage", "current") if "voltage" in names else ("v1", "i1")
    t = "temperature" if "temperature" in names else "t_joint"
    return [
        (v, start + 20, 4, -40),
        (i, start + 50, 1, 60),
        (t, start + 80, 40, 9),
        ("humidity", start + 150, 12, NAN),
        (i, start + 200, 60, lambda x, k: 33.25),
        (v, start + 300, 60, lambda x, k: x + (4 if k % 2 else -4)),
        (t, start + 400, 80, lambda x, k: x + k // 8),
        (i, start + 520, 30, lambda x, k: 0),
        (v, start + 560, 3, NAN),
        (i, start + 570, 40, 90),
        (t, start + 640, 3, lambda x, k: -127),
    ]
