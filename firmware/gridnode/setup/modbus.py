"""Where a Modbus meter stands, and the plan of one that is known by its map.

The map comes as host_tools/gridnode_host/maps.py has made it of boards/maps/<name>.json: one line of text per row.
What stays of it are packed arrays and a few numbers.
"""

from array import array
from micropython import const

from gridnode.meters.modbus import BY_SETTING, ENERGY, KINDS, words
from gridnode.meters.rtu import ANY_UNIT

_VERSION = const(1)
_WAYS = const(("energy_import", "energy_export"))
_METERED = {"phase": 1, "total": 2}  # reading.PER_PHASE, reading.IN_TOTAL
_OF_PHASES = const(("voltage", "current", "power", "reactive_power", "apparent_power"))
_TELLING = const(("voltage", "voltage_ll", "frequency"))


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
    names = []
    totals = []
    telling = 0
    rows = array("H"), bytearray(), bytearray(), bytearray(), []
    for line in chart["rows"].split("\n"):
        name, phase, address, letter, factor = line.split(" ")
        if name in _WAYS:
            index = ENERGY + _WAYS.index(name)
        else:
            if name not in names:
                names.append(name)
            index = names.index(name)
            telling += name in _TELLING
            if phase == "0" and name in _OF_PHASES:
                totals.append(name)
        kind = KINDS.index(letter)
        if factor[0] == "*":
            kind |= BY_SETTING
            factor = factor[1:]
        number = float(factor)
        for column, value in zip(rows, (int(address), index, int(phase), kind, number)):
            column.append(int(value) if value == int(value) else value)
    order = spec["modbus"].get("word_order", chart.get("word_order", "ABCD"))
    first = chart.get("function", 4), rows[0][0], words(rows[3][0]), None, ()
    return (
        tuple(names),
        chart["phases"],
        tuple(totals),
        chart.get("latency_ms", 200),
        chart.get("function", 4),
        bytes([order.index(letter) for letter in "ABCD"]),
        rows,
        _limits(names, profile),
        telling,
        group(rows[0], rows[3], chart["max_registers"], chart["max_gap"]),
        _METERED[chart.get("metered", "total")],
        round(1000 * chart.get("energy_step", 1)) * 3600000,
        _settings(chart["settings"]) or first,
    )


def group(address, kind, most, gap):
    """Requests as (first row, end row): at most `most` registers each, holes of at most `gap` read along.

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


def _limits(names, profile):
    """Least (not zero) and largest magnitude of each name that is no nonsense, one after the other.

    A wrong word order reads 1e-40 or 1e30; but a meter's own rounding may well read 1e-13 var.
    """
    volt, ampere = profile["nominal"]["voltage"], 10 * profile["rating"]["current"]
    power = 6 * volt * ampere
    most = {
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
    limits = []
    for name in names:
        limits += (0.0001 if name in _TELLING else 0, most.get(name, 1e15))
    return tuple(limits)


def _settings(settings):
    """(function, first register, registers, unit, checks) of the request that reads all settings; None without any.

    unit: (byte, kind, ((value, factor), ..)) of the energy unit or None; checks: (byte, kind, value, text).
    """
    if not settings:
        return None
    start = min([s["address"] for s in settings])
    end = start
    energy = None
    checks = []
    for s in settings:
        kind = KINDS.index(s["type"])
        at = 2 * (s["address"] - start)
        end = max(end, s["address"] + words(kind))
        if "units" in s:
            energy = at, kind, s["units"]
        else:
            checks.append((at, kind, s["want"], "its map needs %s %s" % (s["name"], s["text"])))
    return settings[0].get("function", 3), start, end - start, energy, tuple(checks)
