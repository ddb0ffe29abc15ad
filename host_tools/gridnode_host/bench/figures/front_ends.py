"""The front ends that are measured: what each offers, its steps, and how much it can hold.

Resolutions and ranges are those of the makers' documents, and of the noise that is left where it
is coarser; where a resolution is coarser than a limit of the campaign, it is the limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gridnode_host import resources
from gridnode_host.bench.figures.loads import DIMMER, SMPS
from gridnode_host.profile_ranges import mv_per_a

Json = dict[str, Any]

ALL = ("voltage", "current", "power", "frequency")
_WAVEFORM = (*ALL, "harmonics_voltage", "harmonics_current")


@dataclass(frozen=True)
class Step:
    """Smallest difference that a device can tell: fixed, or that of a value told as a period.

    A value told as `counts / value` moves by `value² / counts` from one count to the next.
    """

    size: float = 0.0
    counts: float = 0.0

    def at(self, value: float) -> float:
        return (self.counts and value * value / self.counts) or self.size


@dataclass(frozen=True)
class FrontEnd:
    """One profile of the campaign.

    `steps` are its resolution by the report's names, in its units (harmonics: A); `source` says
    where they are from. `offers` are the judged names that a report must hold. `settle_s` is how
    long values may lag a change. `bandwidth` has an own limit of the current, %, by the name of a
    load whose harmonics it cannot follow; None: it has to refuse that load.
    """

    profile: str
    title: str
    offers: tuple[str, ...] = ALL
    steps: Mapping[str, Step] = field(default_factory=dict)
    source: str = ""
    bandwidth: Mapping[str, float | None] = field(default_factory=dict)
    settle_s: float = 3.0
    period_s: int = 1
    """Length of the readings that are judged: at least two of the meter's own."""
    clamps: int = 0
    """How many share a noisy converter, which gives each so much fewer samples."""
    speed: float = 100.0
    """Node seconds per second, about: what takes longest is begun first."""
    most_a: float = math.inf
    """End of a meter's own range, A rms."""

    def resolved(self) -> Json:
        """The profile with its board and maps."""
        return resources.profile(self.profile)

    def step(self, name: str, true: float) -> float:
        """The device's step of a value, in the value's unit."""
        return self.steps[name].at(true) if name in self.steps else 0.0


FRONT_ENDS = (
    FrontEnd("home-60a-ct", "one clamp on the ESP32 ADC", _WAVEFORM, clamps=1, speed=30),
    FrontEnd(
        "home-3ph-ct",
        "three clamps on the ESP32 ADC",
        _WAVEFORM,
        steps={"current": Step(0.009), "harmonics_current": Step(0.016)},
        source="5 mV rms of noise at 11 mV per A on a sixth of the conversions of 10 s leave 2.2 mA "
        "(sigma) in a current, 5 mA in a harmonic; the worst of 300 and of 4200 is meant",
        clamps=3,
        speed=17,
    ),
    FrontEnd(
        "feeder-200a",
        "ATM90E32AS",
        steps={"frequency": Step(0.01)},
        source="46003B 5.5: Freq in 0.01 Hz",
        speed=10,
    ),
    FrontEnd(
        "plug-ade7953",
        "ADE7953",
        steps={"frequency": Step(counts=223_750.0)},
        source="Rev B p. 33: f = 223750 / (Period + 1)",
    ),
    FrontEnd(
        "plug-bl0942",
        "BL0942",
        steps={"frequency": Step(counts=1e6)},
        source="V1.1 p. 14: f = 10^6 / FREQ",
        period_s=2,
    ),
    FrontEnd(
        "plug-cse7766",
        "CSE7766",
        ("voltage", "current", "power"),
        steps={
            "voltage": Step(counts=191_200.0),
            "current": Step(counts=16_140.0),
            "power": Step(counts=5_364_000.0),
        },
        source="values are coefficient / cycle, cycles in whole us; no frequency",
        period_s=2,
    ),
    FrontEnd(
        "pzem-100a",
        "PZEM-004T v3",
        steps={
            "voltage": Step(0.1),
            "current": Step(0.001),
            "power": Step(0.1),
            "frequency": Step(0.1),
        },
        source="V3.0 manual 2.3: registers in 0.1 V, 1 mA, 0.1 W, 0.1 Hz; up to 100 A",
        most_a=100.0,
        period_s=2,
    ),
    FrontEnd("rish-3430", "Rish Master 3430", settle_s=5.0, period_s=2),
    FrontEnd("sdm120", "Eastron SDM120", settle_s=5.0, period_s=5),
    FrontEnd("sdm630", "Eastron SDM630", settle_s=5.0, period_s=2),
    FrontEnd(
        "pump-ads1115",
        "ADS1115, RMS of one current",
        ("current",),
        source="SBAS563: a conversion is the mean of 1/860 s, -5 % at 150 Hz, -25 % at 350 Hz",
        bandwidth={DIMMER.name: 3.5, SMPS.name: None},
        speed=6,
    ),
)

CLAMPS = tuple(front_end.profile for front_end in FRONT_ENDS if front_end.clamps)
"""Profiles of the front ends that see the waveform."""


def find(profile: str) -> FrontEnd:
    """The front end of a profile; raises KeyError."""
    return {front_end.profile: front_end for front_end in FRONT_ENDS}[profile]


def peak_room(profile: Mapping[str, Any]) -> float:
    """Largest peak current that the converters of a profile can hold, A."""
    meter = profile["meters"][0]
    ends = (_full_scale_mv(profile, meter, c) / mv_per_a(c) for c in meter.get("current", ()))
    return min(ends, default=math.inf)


def _full_scale_mv(profile: Mapping[str, Any], meter: Json, channel: Json) -> float:
    """Peak at the converter's pin, mV."""
    driver, gain = meter["driver"], float(meter.get("pga", 1))
    if driver == "ct":
        low, high = profile["board"]["adc"]["range_mv"]
        return float(min(channel["bias_mv"] - low, high - channel["bias_mv"]))
    if driver == "atm90e32":
        return 720.0 * math.sqrt(2.0) / gain
    if driver == "ade7953":
        return 500.0 / gain
    if driver == "bl0942":
        return 42.0
    if driver == "cse7766":
        return 43.75
    if driver == "ads1115":
        return float(1000.0 * channel["gain_v"])
    return math.inf
