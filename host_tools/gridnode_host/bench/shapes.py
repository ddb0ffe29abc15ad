"""Named current shapes as harmonics, made from one cycle of the load's own waveform.

A shape is `(phase_deg, harmonics)`: how far its fundamental lags the voltage, and
`{order: (ratio, degrees)}` relative to that fundamental, as `Circuit.set` takes them.
"""

from __future__ import annotations

import math

import numpy as np

Harmonics = dict[int, tuple[float, float]]
Shape = tuple[float, Harmonics]

_POINTS = 7200  # per cycle: 0.05 degrees, far finer than any edge here


def from_cycle(current: np.ndarray, highest: int = 49, floor: float = 1e-4) -> Shape:
    """Shape of one current cycle that starts with the voltage's rising zero crossing.

    Orders above `highest` and ratios below `floor` are left out. Raises ValueError if the
    cycle has no fundamental.
    """
    lines = np.fft.rfft(current) * 1j  # phasors of sines
    if abs(lines[1]) < 1e-9 * len(current):
        raise ValueError("the cycle has no fundamental")
    lag = -math.degrees(np.angle(lines[1]))
    harmonics: Harmonics = {}
    for order in range(2, min(highest, len(lines) - 1) + 1):
        ratio = float(abs(lines[order]) / abs(lines[1]))
        if ratio >= floor:
            degrees = math.degrees(np.angle(lines[order])) + order * lag
            harmonics[order] = (ratio, (degrees + 180.0) % 360.0 - 180.0)
    return lag, harmonics


def sine() -> Shape:
    return 0.0, {}


def smps(conduction_deg: float = 51.0, crest_deg: float = 85.0) -> Shape:
    """Capacitor-input power supply: a pulse on each half wave, odd harmonics to the 21st.

    The bridge conducts for `conduction_deg` around `crest_deg`, a little before the crest
    of the voltage. The default gives a THD near 112 %.
    """
    angle = np.arange(_POINTS) * (360.0 / _POINTS)
    offset = (angle % 180.0) - crest_deg
    pulse = np.where(
        np.abs(offset) < conduction_deg / 2, np.cos(np.pi * offset / conduction_deg), 0.0
    )
    return from_cycle(np.where(angle < 180.0, pulse, -pulse), highest=21)


def dimmer(firing_deg: float = 90.0, rise_deg: float = 3.0) -> Shape:
    """Leading-edge phase-cut dimmer on a resistive load.

    The triac fires at `firing_deg` of each half wave; its choke lets the current rise over
    `rise_deg`, so that the edge stays inside the bandwidth of the harmonics kept.
    """
    angle = np.arange(_POINTS) * (360.0 / _POINTS)
    gate = np.clip(((angle % 180.0) - firing_deg) / rise_deg, 0.0, 1.0)
    return from_cycle(np.sin(np.radians(angle)) * gate)


def thd(harmonics: Harmonics) -> float:
    """Total harmonic distortion of a shape, % of its fundamental."""
    return 100.0 * math.sqrt(sum(ratio * ratio for ratio, _ in harmonics.values()))


SHAPES = {"sine": sine, "smps": smps, "dimmer": dimmer}
