"""A converter that samples a computed mains circuit: `machine` and `time` for the CT front end, in its own time."""

import math
import random

SPEC = {
    "id": "main",
    "driver": "ct",
    "voltage": [{"adc": 35, "mv_per_v": 2.9, "bias_mv": 1300}],
    "current": [{"adc": 34, "ratio": 2000, "burden_ohm": 22, "bias_mv": 1300}],
}
PROFILE = {
    "phases": 1,
    "nominal": {"voltage": 230, "frequency": 50},
    "rating": {"current": 60},
    "board": {"adc": {"conversion_us": 36, "range_mv": [150, 2450], "offset_mv": 142, "mv_per_count": 0.806}},
}
_SQRT2 = math.sqrt(2)


class _Adc:
    ATTN_11DB = 3

    def __init__(self, mains, pin):
        self._mains = mains
        self._current = pin == 34

    def __call__(self, pin):
        return _Adc(self._mains, pin)

    def atten(self, value):
        assert value == self.ATTN_11DB

    def read(self):
        return self._mains.read(self._current)


class Mains:
    """volts, amperes: rms; lag: degrees; harmonics: (order, ratio to the fundamental, degrees) of the current."""

    conversion_us = 36

    def __init__(self, volts=230.0, amperes=10.0, lag=0.0, hertz=50.0, harmonics=(), noise_mv=5.0, us=0):
        self.us = us
        self.volts, self.lag, self.hertz = volts, math.radians(lag), hertz
        self.noise_mv = noise_mv
        self.waves = [(1, 1.0, 0.0)] + [(h, a, math.radians(d)) for h, a, d in harmonics]
        self.amperes = amperes / math.sqrt(sum([a * a for _, a, _ in self.waves]))
        self.dc_mv = 1300.0
        self.ADC = _Adc(self, None)
        self._angle = 0.7
        self._angle_us = us
        self.stall_us = {}  # after this many reads: lose so much time

    def Pin(self, number):
        return number

    def ticks_us(self):
        return int(self.us) & 0x3FFFFFFF

    def ticks_ms(self):
        return int(self.us) // 1000

    def ticks_diff(self, a, b):
        return a - b

    def angle(self):
        # Kept small: float32 has no digits to spare for a long argument.
        step = (self.us - self._angle_us) * (2e-6 * math.pi * self.hertz)
        self._angle_us = self.us
        self._angle = (self._angle + step) % (2 * math.pi)
        return self._angle

    def read(self, current):
        a = self.angle()
        if current:
            x = 0.0
            for h, ratio, shift in self.waves:
                x += ratio * math.sin(h * (a - self.lag) + shift)
            mv = 11 * self.amperes * _SQRT2 * x
        else:
            mv = 2.9 * self.volts * _SQRT2 * math.sin(a)
        if self.noise_mv:
            r = random.random
            mv += (r() + r() + r() + r() - 2) * 1.732 * self.noise_mv
        self.us += self.conversion_us + self.stall_us.pop(self.us // self.conversion_us, 0)
        return max(0, min(4095, int((mv + self.dc_mv - 142) / 0.806 + 0.5)))
