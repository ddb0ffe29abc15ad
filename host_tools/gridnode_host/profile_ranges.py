"""Whether voltages and currents of a profile's place stay within the converters that sense them.

Everything is asked at 1.2 times the nominal voltage and the rated current. Ends of the inputs:
board data for the ESP32, else the data sheets that `firmware/gridnode/meters` names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_ROOM = 1.2
_PEAK = math.sqrt(2.0)
_LEAST = 0.03  # of the range at nominal voltage or rated current: less is a slip of the pen

_ATM_RMS_MV = 720.0
_ATM_URMS_V, _ATM_IRMS_A = 655.35, 65.535
_ATM_PER_MV = _ATM_RMS_MV / (2 * _PEAK)  # register gain: full scale reads 2 sqrt2 times the gain
_ATM_GAIN_END = 0xFFFF / 1.05  # calibration needs some room
_ATM_BAUD = 1_100_000
_ADE_PEAK_MV = 500.0
_BL_VOLTAGE_MV, _BL_CURRENT_MV = 100.0, 42.0
_CSE_VOLTAGE_MV, _CSE_CURRENT_MV = 700.0, 43.75  # of the HLW8012 family
_PZEM_V, _PZEM_A = (80.0, 260.0), 100.0
_ADS_SUPPLY_MV = 3300.0


@dataclass(frozen=True)
class _Place:
    """What a meter is to sense: a profile's nominal voltage and rated current."""

    profile: Mapping[str, Any]
    meter: Mapping[str, Any]

    @property
    def volts(self) -> float:
        return float(self.profile["nominal"]["voltage"])

    @property
    def amperes(self) -> float:
        return float(self.profile["rating"]["current"])

    def channels(self) -> Iterator[tuple[str, Mapping[str, Any], float, float, str]]:
        """Each channel: name, entry, V or A rms, mV rms of that at the input, what to change."""
        for k, entry in enumerate(self.meter.get("voltage", ())):
            yield f"voltage {k + 1}", entry, self.volts, self.volts * entry["mv_per_v"], "mv_per_v"
        for k, entry in enumerate(self.meter.get("current", ())):
            part = "shunt_mohm" if "shunt_mohm" in entry else "burden_ohm"
            name = f"current {k + 1}"
            yield name, entry, self.amperes, self.amperes * mv_per_a(entry), part


def mv_per_a(entry: Mapping[str, Any]) -> float:
    """Return what a current makes at the converter: mV per A of a shunt, or a CT's burden."""
    if "shunt_mohm" in entry:
        return float(entry["shunt_mohm"])
    return float(1000 * entry["burden_ohm"] / entry["ratio"])


def problems(profile: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for every channel that does not fit."""
    for meter in profile["meters"]:
        judge = _JUDGES.get(meter["driver"])
        for problem in judge(_Place(profile, meter)) if judge else ():
            yield f"meter {meter['id']}, {problem}"
        for k, entry in enumerate(meter.get("current", ())):
            for problem in _clamp(f"current {k + 1}", entry, _Place(profile, meter).amperes):
                yield f"meter {meter['id']}, {problem}"


def _clamp(name: str, entry: Mapping[str, Any], amperes: float) -> Iterator[str]:
    """What is wrong with a current's sensor itself."""
    if "shunt_mohm" in entry and "burden_ohm" in entry:
        yield f"{name}: it has a shunt and a burden: keep shunt_mohm, or ratio and burden_ohm"
    points = entry.get("phase_points", ())
    if any(b[0] <= a[0] for a, b in pairwise(points)):
        yield f"{name}: phase_points: the currents must rise: put them in order"
    most = _ROOM * amperes
    saturation = entry.get("saturation_a", math.inf)
    if most > saturation * (1 + 1e-9):
        limit = f"{_unit(name, saturation)}, where {entry.get('sensor', 'the clamp')} saturates"
        change = f"lower the rating to {saturation / _ROOM:.4g} A or take a larger clamp"
        yield _beyond(name, "1.2 times the rating", _unit(name, most), limit, change)


def _beyond(name: str, what: str, value: str, limit: str, change: str) -> str:
    return f"{name}: {what} is {value}, the limit is {limit}: {change}"


def _unit(name: str, value: float) -> str:
    return f"{value:.4g} {'V' if name.startswith('voltage') else 'A'}"


def _peaks(place: _Place, end_mv: Callable[[str, Mapping[str, Any]], float]) -> Iterator[str]:
    """Channels around zero whose peak must stay below `end_mv` of the channel."""
    for name, entry, value, rms, part in place.channels():
        end = end_mv(name, entry)
        peak = _ROOM * _PEAK * rms
        if peak > end:
            what = f"the peak of {_unit(name, _ROOM * value)} at the input"
            change = f"take {part} {entry[part] * end / peak:.3g} or less"
            yield _beyond(name, what, f"{peak:.4g} mV", f"{end:g} mV", change)
        elif _PEAK * rms < _LEAST * end:
            what = f"the peak of {_unit(name, value)} at the input"
            limit = f"{_LEAST * end:.3g} mV at least, 3 % of its range"
            yield _beyond(name, what, f"{_PEAK * rms:.3g} mV", limit, f"raise {part}")


def _ct(place: _Place) -> Iterator[str]:
    low, high = place.profile["board"]["adc"]["range_mv"]
    voltages, currents = len(place.meter["voltage"]), len(place.meter["current"])
    if voltages > currents:
        yield (
            f"voltage: there are {voltages} voltages for {currents} currents: one voltage for all, "
            "or one for each current"
        )
    for name, entry, value, rms, part in place.channels():
        bias = float(entry.get("bias_mv", 1650.0))
        peak = _ROOM * _PEAK * rms
        if bias - peak < low or bias + peak > high:
            middle = (low + high) / 2
            most = entry[part] * (high - low) / 2 / peak
            what = f"the pin at the peaks of {_unit(name, _ROOM * value)}"
            found = f"{bias - peak:.0f} to {bias + peak:.0f} mV"
            change = f"take bias_mv {middle:.0f} and {part} {most:.3g} or less"
            yield _beyond(name, what, found, f"{low:g} to {high:g} mV of a linear ADC", change)
        elif 2 * _PEAK * rms < _LEAST * (high - low):
            what = f"the swing of {_unit(name, value)} at the pin"
            limit = f"{_LEAST * (high - low):.0f} mV at least"
            yield _beyond(name, what, f"{2 * _PEAK * rms:.0f} mV", limit, f"raise {part}")


def _atm90e32(place: _Place) -> Iterator[str]:
    meter = place.meter
    voltages, currents = len(meter["voltage"]), len(meter["current"])
    if voltages != currents:
        yield (
            f"voltage: there are {voltages} voltages and {currents} currents: each phase of an "
            "ATM90E32 has one of both"
        )
    baud = meter["spi"].get("baud", 500_000)
    if baud > _ATM_BAUD:
        yield _beyond("spi", "baud", str(baud), str(_ATM_BAUD), "500000 leaves room")
    for name, entry, value, rms, part in place.channels():
        is_voltage = name.startswith("voltage")
        kind = "voltage" if is_voltage else "current"
        pga = 1 if is_voltage else meter.get("pga", 1)
        most = _ROOM * rms * pga
        if most > _ATM_RMS_MV:
            what = f"{_unit(name, _ROOM * value)} at the converter"
            change = f"take {part} {entry[part] * _ATM_RMS_MV / most:.3g} or less"
            change += " or a smaller pga" if pga > 1 else ""
            yield _beyond(name, what, f"{most:.4g} mV rms", f"{_ATM_RMS_MV:g} mV", change)
        elif rms * pga < _LEAST * _ATM_RMS_MV:
            what = f"{_unit(name, value)} at the converter"
            limit = f"{_LEAST * _ATM_RMS_MV:.3g} mV at least, 3 % of its range"
            yield _beyond(name, what, f"{rms * pga:.3g} mV rms", limit, f"raise {part}")
        scale = meter.get(f"{kind}_scale", 1)
        end = _ATM_URMS_V if is_voltage else _ATM_IRMS_A
        if _ROOM * value > end * scale:
            register = "URMS" if is_voltage else "IRMS"
            what = f"{_unit(name, _ROOM * value)} in {register}"
            shown = _unit(name, _ROOM * value / scale)
            change = f"take {kind}_scale {math.ceil(_ROOM * value / end)} or more"
            yield _beyond(name, what, shown, _unit(name, end), change)
        lsb = 100 if is_voltage else 1000
        gain = lsb * _ATM_PER_MV * value / (rms * pga * scale)
        if gain > _ATM_GAIN_END:
            change = f"take {kind}_scale {math.ceil(gain * scale / _ATM_GAIN_END)} or more"
            limit = f"{_ATM_GAIN_END:.0f}, 16 bits and 5 % for calibration"
            yield _beyond(name, "the gain register", f"{gain:.0f}", limit, change)


def _ade7953(place: _Place) -> Iterator[str]:
    pga = place.meter.get("pga", 1)
    if pga == 22 and len(place.meter["current"]) > 1:
        yield "current 2: pga is 22, which only the first current has: take pga 16 or less"
    yield from _peaks(
        place,
        lambda name, _: _ADE_PEAK_MV / (1 if name.startswith("voltage") else pga),
    )


def _bl0942(place: _Place) -> Iterator[str]:
    yield from _peaks(
        place, lambda name, _: _BL_VOLTAGE_MV if name.startswith("voltage") else _BL_CURRENT_MV
    )
    yield from _frame(place, (4800, 9600), "none")


def _cse7766(place: _Place) -> Iterator[str]:
    yield from _peaks(
        place, lambda name, _: _CSE_VOLTAGE_MV if name.startswith("voltage") else _CSE_CURRENT_MV
    )
    yield from _frame(place, (4800,), "even")


def _pzem004t(place: _Place) -> Iterator[str]:
    low, high = _PZEM_V
    if place.volts < low or 1.1 * place.volts > high:
        what = f"the nominal voltage {place.volts:g} V and 10 % more"
        limit = f"{low:g} to {high:g} V"
        yield _beyond("voltage", what, f"{1.1 * place.volts:.4g} V", limit, "take another meter")
    if place.amperes > _PZEM_A:
        limit = f"{_PZEM_A:g} A"
        yield _beyond("current", "the rating", f"{place.amperes:g} A", limit, "take another meter")
    yield from _frame(place, (9600,), "none")


def _frame(place: _Place, bauds: tuple[int, ...], parity: str) -> Iterator[str]:
    """Settings of a serial line that a chip does not let one choose."""
    uart = place.meter["uart"]
    if uart["baud"] not in bauds:
        limit = " or ".join(map(str, bauds))
        yield _beyond("uart", "baud", str(uart["baud"]), limit, f"take {limit}")
    if uart.get("parity", "none") != parity:
        found = uart.get("parity", "none")
        yield _beyond("uart", "parity", found, parity, f"take {parity}")


def _ads1115(place: _Place) -> Iterator[str]:
    for name, entry, value, rms, part in place.channels():
        end = 1000 * entry.get("gain_v", 1.024)
        bias = 0.0 if isinstance(entry["channel"], str) else float(entry.get("bias_mv", 1650.0))
        low, high = (-end, end) if isinstance(entry["channel"], str) else (0.0, min(end, _ADS_SUPPLY_MV))
        peak = _ROOM * _PEAK * rms
        if bias - peak < low or bias + peak > high:
            what = f"the input at the peaks of {_unit(name, _ROOM * value)}"
            found = f"{bias - peak:.0f} to {bias + peak:.0f} mV"
            change = f"take a larger gain_v, or {part} {entry[part] * (high - low) / 2 / peak:.3g} or less"
            yield _beyond(name, what, found, f"{low:g} to {high:g} mV", change)
    for entry in place.meter.get("inputs", ()):
        if "current" in place.meter and entry["channel"] == place.meter["current"][0]["channel"]:
            yield f"input {entry['name']}: it sits on the channel of the current: take another one"


_JUDGES: dict[str, Callable[[_Place], Iterator[str]]] = {
    "ct": _ct,
    "atm90e32": _atm90e32,
    "ade7953": _ade7953,
    "bl0942": _bl0942,
    "cse7766": _cse7766,
    "pzem004t": _pzem004t,
    "ads1115": _ads1115,
}
