"""Where a Modbus meter stands, and the plan of one that is known by its map (boards/schema/map.schema.json).

The map is data of some kilobytes; what stays of it are packed arrays and a few numbers.
"""

from array import array

from gridnode.meters.modbus import BY_SETTING, ENERGY, KINDS, words
from gridnode.meters.rtu import ANY_UNIT

_VERSION = 1
_ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
_PREFIXES = {"m": 0.001, "k": 1000, "M": 1000000}
_WAYS = ("energy_import", "energy_export")
_METERED = {"phase": 1, "total": 2}  # reading.PER_PHASE, reading.IN_TOTAL
_OF_PHASES = ("voltage", "current", "power", "reactive_power", "apparent_power")


def unit(spec, profile):
    """Address of the meter of the profile entry `spec`. Raises ValueError when it cannot be told from another's."""
    address = spec["modbus"]["address"]
    for other in profile.get("meters", ()):
        place = other.get("modbus")
        if other is spec or not place or other["id"] == spec["id"] or other["uart"]["id"] != spec["uart"]["id"]:
            continue
        if address in (place["address"], ANY_UNIT):
            raise ValueError("address %d is not alone on UART %d" % (address, spec["uart"]["id"]))
    return address


def plan(spec, profile):
    """What meters.modbus.Meter needs to know, in its order. Raises ValueError, KeyError for a map that is none."""
    chart = spec["modbus"]["map"]
    if not isinstance(chart, dict):
        raise ValueError("the map %r is a name, not the map itself" % chart)
    if chart["version"] != _VERSION:
        raise ValueError("map version %r, this firmware knows %d" % (chart["version"], _VERSION))
    rows = sorted(chart["rows"], key=lambda row: int(row["address"], 16))
    names = []
    for row in rows:
        if row["name"] not in names and row["name"] not in _WAYS:
            names.append(row["name"])
    address = array("H", [int(row["address"], 16) for row in rows])
    name = bytes([_name(row["name"], names) for row in rows])
    phase = bytes([row.get("phase", 0) for row in rows])
    kind = bytes([_kind(row) for row in rows])
    scale = tuple([row.get("scale", 1) * _factor(row.get("unit", "")) for row in rows])
    groups = group(address, kind, chart["max_registers"], chart["max_gap"])
    order = spec["modbus"].get("word_order", chart.get("word_order", "ABCD"))
    totals = tuple([row["name"] for row in rows if not row.get("phase") and row["name"] in _OF_PHASES])
    return (
        tuple(names),
        chart["phases"],
        totals,
        chart.get("latency_ms", 200),
        chart.get("function", 4),
        bytes([order.index(letter) for letter in "ABCD"]),
        (address, name, phase, kind, scale),
        _limits(names, profile),
        groups,
        _METERED[chart.get("metered", "total")],
        round(1000 * chart.get("energy_step", 1)) * 3600000,
        _settings(chart.get("settings")) or (chart.get("function", 4), address[0], words(kind[0]), None, ()),
    )


def group(address, kind, most, gap):
    """Requests as [first row, end row]: at most `most` registers each, holes of at most `gap` read along.

    No two are of one length if that can be had: the late answer of one is then never taken for another's.
    """
    groups = []
    lengths = []
    first = 0
    while first < len(address):
        end = first + 1
        while end < len(address):
            hole = address[end] - address[end - 1] - words(kind[end - 1])
            if hole > gap or address[end] + words(kind[end]) - address[first] > most:
                break
            end += 1
        while end - first > 1 and address[end - 1] + words(kind[end - 1]) - address[first] in lengths:
            end -= 1
        lengths.append(address[end - 1] + words(kind[end - 1]) - address[first])
        groups.append((first, end))
        first = end
    return groups


def _name(name, names):
    return ENERGY + _WAYS.index(name) if name in _WAYS else names.index(name)


def _kind(row):
    return KINDS.index(row.get("type", "float32")) | (BY_SETTING if row.get("unit") == "energy_unit" else 0)


def _factor(unit):
    return _PREFIXES.get(unit[0], 1) if len(unit) > 1 and unit != "energy_unit" else 1


def _limits(names, profile):
    """Largest magnitude of each name that is no nonsense: a wrong word order reads 1e-40 or 1e30."""
    volt, ampere = profile["nominal"]["voltage"], 10 * profile["rating"]["current"]
    power = 6 * volt * ampere
    table = {
        "voltage": 2 * volt,
        "voltage_ll": 4 * volt,
        "current": ampere,
        "neutral_current": ampere,
        "power": power,
        "reactive_power": power,
        "apparent_power": power,
        "power_demand": power,
        "power_factor": 1.01,
        "phase_angle": 360,
        "frequency": 70,
        "thd_voltage": 1000,
        "thd_current": 1000,
    }
    return tuple([table.get(name, 1e15) for name in names])


def _settings(settings):
    """(function, first register, registers, unit, checks) of the request that reads all settings; None without any.

    unit: (byte, kind, ((value, factor), ..)) of the energy unit or None; checks: (byte, kind, value, text).
    """
    if not settings:
        return None
    start = min([int(s["address"], 16) for s in settings])
    end = start
    energy = None
    checks = []
    for s in settings:
        k = KINDS.index(s.get("type", "float32"))
        at = int(s["address"], 16)
        end = max(end, at + words(k))
        if "units" in s:
            energy = (2 * (at - start), k, tuple([(int(v), _factor(s["units"][v])) for v in s["units"]]))
        else:
            text = "its map needs %s %s" % (s["name"], s["text"])
            checks.append((2 * (at - start), k, s["want"], text))
    return settings[0].get("function", 3), start, end - start, energy, tuple(checks)
