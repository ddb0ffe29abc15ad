"""Increments of a counter that a meter keeps."""


class Counter:
    """A running count; `modulus` is where it wraps, None if it never does."""

    def __init__(self, modulus=None):
        self.modulus = modulus
        self.resets = 0
        self._last = None

    def step(self, raw):
        """Counts since the last call, 0 at the first.

        A fall is a wrap only from the upper to the lower half of the range; else the meter was reset, and what it
        shows was counted since.
        """
        last, self._last = self._last, raw
        if last is None:
            return 0
        if raw >= last:
            return raw - last
        half = self.modulus // 2 if self.modulus else None
        if half and last >= half > raw:
            return raw + self.modulus - last
        self.resets += 1
        return raw
