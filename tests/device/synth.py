"""A converter that samples a computed mains circuit: `machine` and `time` for the CT front end, in its own time."""

import math
import random

VOLTS = {"adc": 35, "mv_per_v": 2.9, "bias_mv": 1300}
AMPERES = {"adc": 34, "ratio": 2000, "burden_ohm": 22, "bias_mv": 1300}
SPEC = {"id": "main", "driver": "ct", "voltage": [VOLTS], "current": [AMPERES]}
PROFILE = {
    "phases": 1,
    "nominal": {"voltage": 230, "frequency": 50},
    "rating": {"current": 60},
    "board": {"adc": {"conversion_us": 36, "range_mv": [150, 2450], "offset_mv": 142, "mv_per_count": 0.806}},
}
_MV_PER_V = 2.9
_MV_PER_A = 11.0
_SQRT2 = math.sqrt(2)


def channels(voltages, currents):
    """A profile entry with so many of each: pins 35, 36, .. and 44, 45, .."""
    return dict(
        SPEC,
        voltage=[dict(VOLTS, adc=35 + k) for k in range(voltages)],
        current=[dict(AMPERES, adc=44 + k) for k in range(currents)],
    )


class _Input:
    """One pin: a voltage (35..37) or a current (34, 44..46) of a phase."""

    def __init__(self, mains, pin):
        self._mains = mains
        self.phase = pin - 35 if 35 <= pin <= 37 else 0 if pin == 34 else pin - 44
        self._current = not 35 <= pin <= 37

    def atten(self, value):
        assert value == Mains.ADC.ATTN_11DB

    def read(self):
        return self._mains.read(self.phase, self._current)

    def read_uv(self):
        """What the chip makes of a count itself: whole mV."""
        return 1000 * round(142 + 0.806 * self.read())


class _Adc:
    ATTN_11DB = 3

    def __init__(self, mains):
        self._mains = mains

    def __call__(self, pin):
        return _Input(self._mains, pin)


class Mains:
    """volts, amperes: rms of each phase, or one for all; lag: degrees; phases are 120 degrees apart.

    harmonics, distortion: (order, ratio to the fundamental, degrees) of current and voltage. level: a function of us
    and phase that scales the voltage.
    """

    ADC = _Adc(None)
    conversion_us = 36

    def __init__(
        self, volts=230.0, amperes=10.0, lag=0.0, hertz=50.0, harmonics=(), distortion=(), noise_mv=5.0, us=0, apart=120
    ):
        self.us = us
        self.volts = list(volts) if isinstance(volts, (list, tuple)) else [volts] * 3
        amperes = list(amperes) if isinstance(amperes, (list, tuple)) else [amperes] * 3
        self.lag, self.hertz, self.noise_mv = math.radians(lag), hertz, noise_mv
        self.apart = math.radians(apart)
        self._i = [(1, 1.0, 0.0)] + [(h, a, math.radians(d)) for h, a, d in harmonics]
        self._v = [(1, 1.0, 0.0)] + [(h, a, math.radians(d)) for h, a, d in distortion]
        self.fundamental = 1 / math.sqrt(sum([a * a for _, a, _ in self._i]))
        self.amperes = [x * self.fundamental for x in amperes]
        self.dc_mv = 1300.0
        self.ADC = _Adc(self)
        self.level = None
        self._angle = 0.7
        self._angle_us = us
        self.stall_us = {}  # after this many conversions' time: lose so much time

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

    def read(self, phase, current):
        a = self.angle() - phase * self.apart
        x = 0.0
        if current:
            a -= self.lag
            for h, ratio, shift in self._i:
                x += ratio * math.sin(h * a + shift)
            mv = _MV_PER_A * self.amperes[phase] * _SQRT2 * x
        else:
            for h, ratio, shift in self._v:
                x += ratio * math.sin(h * a + shift)
            mv = _MV_PER_V * self.volts[phase] * _SQRT2 * x
            if self.level:
                mv *= self.level(self.us, phase)
        if self.noise_mv:
            r = random.random
            mv += (r() + r() + r() + r() - 2) * 1.732 * self.noise_mv
        self.us += self.conversion_us + self.stall_us.pop(self.us // self.conversion_us, 0)
        return max(0, min(4095, int((mv + self.dc_mv - 142) / 0.806 + 0.5)))
