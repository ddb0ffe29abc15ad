"""SAR converter of the ESP32 as one unit shows it: dead zone, Vref, knee, INL, DNL, noise.

Facts: useful range at 11 dB is 150 to 2450 mV and Vref is 1000 to 1200 mV from part to part
(Espressif ADC documentation); the converter reads 0 for the first 142 mV at 11 dB and its
slope is three times Vref over 4096 counts (ESP-IDF line fitting); near full scale, which lies
at about 3.1 V, counts rise faster than that line, so that a count is worth less. A unit has
been reported to read 1814 at 1641 mV: this model does with a Vref of 1128 mV.
"""

from __future__ import annotations

import numpy as np

from gridnode_host.bench.segment import Floats

FULL_SCALE = 4096
NOISE_MV = 5.0  # rms, of a typical unit
TABLE_STEP = 32

# MicroPython's attenuation constant -> (dead zone in mV, slope as a multiple of Vref / 4096)
_RANGES = {0: (75.0, 0.876), 1: (78.0, 1.163), 2: (107.0, 1.61), 3: (142.0, 3.0)}
_ATTEN_11DB = 3
_KNEE_MV = 2450.0
_TOP_MV = 3135.0  # end of the range at 11 dB with a Vref of 1100 mV,
_TOP_PER_VREF = 0.745  # and how it moves with Vref
_SUPPLY_MV = 3300.0  # protection diodes clamp beyond
_FINE_PER_MV = 20


class Esp32Adc:
    """One converter. `ideal` is a typical unit: Vref 1100 mV and neither INL nor DNL."""

    def __init__(self, seed: int = 0, ideal: bool = False, noise_mv: float = NOISE_MV) -> None:
        rng = np.random.default_rng([seed, 0xADC])
        self.vref_mv = 1100.0 if ideal else float(rng.uniform(1000.0, 1200.0))
        self.noise_mv = noise_mv
        # Smooth INL of a few counts, and code edges that are off by part of a count.
        waves = np.arange(2, 6)
        self._inl = np.zeros((4, 2)) if ideal else rng.uniform(-1.5, 1.5, (4, 2)) / waves[:, None]
        self._waves = waves * (2 * np.pi / FULL_SCALE)
        self._dnl = np.zeros(FULL_SCALE) if ideal else rng.normal(0.0, 0.4, FULL_SCALE)
        self._codes = {atten: self._code_table(atten) for atten in _RANGES}

    def millivolts(self, raw: Floats, atten: int = _ATTEN_11DB) -> Floats:
        """Mean input that gives `raw` counts, DNL aside."""
        slope = _RANGES[atten][1] * self.vref_mv / FULL_SCALE
        raw = np.asarray(raw, dtype=np.float64)
        angle = np.outer(raw, self._waves)
        bent = np.sin(angle) @ self._inl[:, 0] + (1 - np.cos(angle)) @ self._inl[:, 1]
        return self._characteristic(raw, atten) + slope * bent

    def calibrated(self, raw: Floats, atten: int = _ATTEN_11DB) -> Floats:
        """What the chip makes of `raw` itself, from its fused Vref: whole mV, INL remains."""
        return np.round(self._characteristic(np.asarray(raw, dtype=np.float64), atten))

    def _characteristic(self, raw: Floats, atten: int) -> Floats:
        offset, multiple = _RANGES[atten]
        slope = multiple * self.vref_mv / FULL_SCALE
        mv: Floats = offset + slope * raw
        if atten == _ATTEN_11DB:
            knee = (_KNEE_MV - offset) / slope
            top = _TOP_MV + _TOP_PER_VREF * (self.vref_mv - 1100.0)
            over = offset + slope * FULL_SCALE - top
            mv -= over * (np.maximum(raw - knee, 0.0) / (FULL_SCALE - knee)) ** 2
        return mv

    @property
    def count_mv(self) -> float:
        """Width of a count at 11 dB below the knee, mV."""
        return _RANGES[_ATTEN_11DB][1] * self.vref_mv / FULL_SCALE

    def table(self) -> list[int]:
        """The unit's true linearisation at 11 dB: uV at 0, 32, .. 4096 counts."""
        raw = np.arange(0, FULL_SCALE + 1, TABLE_STEP)
        return [round(1000 * float(mv)) for mv in self.millivolts(raw)]

    def convert(
        self, mv: Floats, rng: np.random.Generator, atten: int = _ATTEN_11DB
    ) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
        """Counts for inputs in mV."""
        codes = self._codes[atten]
        if self.noise_mv:
            mv = mv + self.noise_mv * rng.standard_normal(len(mv), dtype=np.float32)
        fine = (np.clip(mv, 0.0, _SUPPLY_MV) * _FINE_PER_MV).astype(np.int64)
        out: np.ndarray[tuple[int], np.dtype[np.uint16]] = codes[fine]
        return out

    def _code_table(self, atten: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
        """Code of every 0.05 mV of input."""
        edges = self.millivolts(np.arange(1, FULL_SCALE) - 0.5 + self._dnl[1:], atten)
        fine = (np.arange(int(_SUPPLY_MV * _FINE_PER_MV) + 1) + 0.5) / _FINE_PER_MV
        return np.searchsorted(np.sort(edges), fine, side="right").astype(np.uint16)
