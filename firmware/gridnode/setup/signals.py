"""Makes a detector's parts: its signals with what they measure, their steps and ranges, and what judges them."""

from micropython import const

from gridnode import rooms
from gridnode.anomaly import scale
from gridnode.anomaly import statistics as st
from gridnode.anomaly.causes import Causes
from gridnode.anomaly.certain import Certain
from gridnode.anomaly.ensemble import Ensemble
from gridnode.anomaly.signal import Signal
from gridnode.anomaly.statistics import Series

_AIR = ("t_ambient", "t_air")

_TWO_HOURS_S = const(7200)
_BASE_S = const(21600)
_WARMING_S = const(5400)  # the base of what its causes warm
_LARGEST = const(32767)
_FAMILY_KEYS = ("", "v", "i", "p", "t", "")
_BY_LETTER = {"v": scale.VOLTAGE, "i": scale.CURRENT, "p": scale.POWER}
_BY_NAME = {
    "voltage": scale.VOLTAGE,
    "current": scale.CURRENT,
    "i_n": scale.CURRENT,
    "power": scale.POWER,
    "temperature": scale.TEMPERATURE,
    "humidity": scale.HUMIDITY,
}


def family(name):
    """What a signal measures, by its name: `v1`, `current`, `t_joint`; any other name is plain."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith("t_"):
        return scale.TEMPERATURE
    if name[1:].isdigit():
        return _BY_LETTER.get(name[0], scale.PLAIN)
    return scale.PLAIN


def largest(kind, rating_a, v_nominal):
    """Largest value worth resolving, in the signal's unit; 0 where only its values can tell."""
    return (0, v_nominal * 1.4, rating_a * 6, rating_a * v_nominal * 3, 255, 127)[kind]


def material(kind, rating_a, v_nominal):
    """Smallest change that matters, in the signal's unit.

    Voltage: 2 %, half of what IEC 61000-3-3 lets a load change it at once (d_max 4 %). Temperature: 2 K, a similar
    part under similar load differs by 1 to 3 K (NETA MTS table 100.18). The others: what instruments tell apart.
    """
    return (0, v_nominal * 0.02, rating_a * 0.02, rating_a * v_nominal * 0.02, 2, 6)[kind]


def factor(most):
    """Steps per unit, a power of two, so that `most` needs 15 bits."""
    k = 1.0
    while most * k * 2 <= _LARGEST and k < 1048576:
        k *= 2
    while most * k > _LARGEST:
        k /= 2
    return k


def range_of(name, kind, limits):
    """The SKU's range of a signal, in its unit, or None."""
    nominal = limits.get("nominal") or {}
    found = nominal.get(name) or nominal.get(_FAMILY_KEYS[kind])
    if found is None and kind == scale.CURRENT and "i_of_rating" in nominal and limits.get("rating_a"):
        low, high = nominal["i_of_rating"]
        return low * limits["rating_a"], high * limits["rating_a"]
    return found


def thermometers(names):
    """Position of the thermometer in the air, -1 without, and of those on parts.

    Plain `temperature` is in the air where others sit on parts and none is named as being in the air.
    """
    parts = [k for k in range(len(names)) if names[k][:2] == "t_" and names[k] not in _AIR]
    air = -1
    for name in _AIR + (("temperature",) if parts else ()):
        if air < 0 and name in names:
            air = names.index(name)
    if "temperature" in names and names.index("temperature") != air:
        parts.append(names.index("temperature"))
    return air, parts


def signal(name, limits):
    """A signal named `name`; `limits` is the SKU's, see `Detector`."""
    kind = family(name)
    interval_s = limits["interval_s"]
    shift = 3
    while shift < 9 and interval_s << (shift + 1) <= _TWO_HOURS_S + _TWO_HOURS_S // 4:
        shift += 1
    lags = kind in (scale.TEMPERATURE, scale.HUMIDITY)
    made = Signal(kind, Series(shift, max(8, _BASE_S // interval_s), lags))
    most = largest(kind, *_ratings(limits))
    if most:
        resolve(made, factor(most), name, limits)
    return made


def scaled(detector, k):
    """Fix the steps of a plain signal by its largest value so far."""
    made = detector.signals[k]
    resolve(made, factor((made.largest or 1) * 8), detector.names[k], detector.limits)


def resolve(made, per_unit, name, limits):
    """Fix the steps of a signal."""
    kind = made.kind
    low, high = range_of(name, kind, limits) or (None, None)
    made.per_unit = per_unit
    made.certain = Certain(
        kind,
        per_unit,
        None if low is None else scale.steps(low, per_unit),
        None if high is None else scale.steps(high, per_unit),
        limits["interval_s"],
    )
    made.series.state[st.LEAST] = max(int(material(kind, *_ratings(limits)) * per_unit), 8)


def _ratings(limits):
    return limits.get("rating_a") or 0, limits.get("v_nominal") or 0


def parts(names, limits):
    """Signals, causes, order of judging, ensemble, and where there is a table of faults what they look at and they."""
    electrical = rules = None
    table = limits.get("faults")
    if table:
        from gridnode.anomaly.electrical import Electrical
        from gridnode.anomaly.fuzzy import Rules

        electrical = Electrical(names, limits)
        rules = Rules(table, electrical)
        _leave()
    signals = [signal(name, limits) for name in names]
    kinds = [one.kind for one in signals]
    causes = Causes(names, kinds, limits["interval_s"])
    for one, cause in zip(signals, causes.of):
        if cause and cause.thermal:
            one.series.jump_rows = max(8, _WARMING_S // limits["interval_s"])
    # Currents first: they explain the others. Temperatures last: a power may tell that a current is wrong.
    order = [k for k in range(len(names)) if kinds[k] == scale.CURRENT]
    order += [k for k in range(len(names)) if kinds[k] not in (scale.CURRENT, scale.TEMPERATURE)]
    order += [k for k in range(len(names)) if kinds[k] == scale.TEMPERATURE]
    _leave()
    return signals, causes, bytes(order), Ensemble(len(names)), electrical, rules


def _leave():
    """Unload what the parts are made by: what teaches them needs the place next."""
    rooms.drop(lambda path: path[0] == "setup" and path[-1] in ("causes", "electrical", "faults"))
