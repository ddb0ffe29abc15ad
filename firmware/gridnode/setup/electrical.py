"""Where a device's signals go among the inputs of its rules of faults.

The inputs lie in columns: one of the device, one per phase, one per joint (a thermometer that is not in the air), and
per signal the four slots of `SIGNAL`, which are the end of the column of a phase (those of its current) or joint.
"""

from array import array

from gridnode.anomaly.electrical import NONE
from gridnode.setup import signals

DEVICE = (
    "v_least",  # of all phases; NONE if one is missing
    "v_most",
    "v_unbalance",  # NEMA: largest distance from the mean over the mean, of three
    "i_least",  # 0 where no current is measured
    "i_most",
    "i_unbalance",
    "i_n_share",  # of what is usual
    "humidity",
    "dew_gap",  # coldest temperature over the dew point
    "cover",  # share of the row that it was open
)
PHASE = (
    "v",
    "i",
    "p",
    "v_off",  # distance from nominal
    "v_others",  # largest of the other phases
    "i_others",
    "i_usual",  # mean while learning
    "i_idle",  # share of the time without current while learning
    "i_peak",  # over the largest current while learning
    "export",  # share of the time with export while learning; 1000 where the limits say so
    "i_excess",  # current over the rating times minutes; below the rating it goes down as fast
    "i_flat",  # time at the largest current lately, over twice what it was while learning and 40 min; 0 after 10 min
)
JOINT = ("temperature", "rise")  # above ambient
# written by others, 0 until then: test ratio of the upward tests and of "too quiet", in 1/256 of their limits;
# 1000 while the rules find that the signal is lost or stuck
SIGNAL = ("ratio", "quiet", "lost", "stuck")

INPUTS = {"device": DEVICE, "phase": PHASE + SIGNAL, "joint": JOINT + SIGNAL, "signal": SIGNAL}

_SHORT = {"voltage": "v", "current": "i", "power": "p"}


def ways(names):
    """Numbers of signals: voltage, current, power of each phase, i_n, humidity, cover, air (-1 without); the joints."""
    place = {_SHORT.get(name, name): k for k, name in enumerate(names)}
    found = array("b")
    for line in [c for c in "123" if "i" + c in place or "v" + c in place] or [""]:
        found.append(place.get("v" + line, place.get("v", -1)))
        found.append(place.get("i" + line, -1))
        found.append(place.get("p" + line, -1))
    air, heat = signals.thermometers(names)
    return found, place.get("i_n", -1), place.get("humidity", -1), place.get("cover", -1), air, array("b", heat)


def columns(names, ways, joints):
    """The first place of each column by scope, and the inputs."""
    slots = array("h", [0] * len(names))
    phases = array("h")
    heat = array("h")
    at = len(DEVICE)
    for k in range(len(ways) // 3):
        phases.append(at)
        at += len(PHASE)
        if ways[3 * k + 1] >= 0:
            slots[ways[3 * k + 1]] = at
        at += len(SIGNAL)
    for k in joints:
        heat.append(at)
        at += len(JOINT)
        slots[k] = at
        at += len(SIGNAL)
    for k in range(len(names)):
        if not slots[k]:
            slots[k] = at
            at += len(SIGNAL)
    inputs = array("h", [NONE] * at)
    for k in slots:
        for j in range(len(SIGNAL)):
            inputs[k + j] = 0
    return {"device": array("h", [0]), "phase": phases, "joint": heat, "signal": slots}, inputs


def scales(names, limits):
    """Factor and exponent of each signal, for mantissas of 15 bits; a factor of 0 where the full value is unknown."""
    # float32 first: the product is then the same on every machine
    full = array("f", [limits.get("v_nominal") or 0, limits.get("rating_a") or 0, 0, 1])
    full[2] = full[0] * full[1]
    found = array("h")
    for name in names:
        short = _SHORT.get(name, name)
        kind = "vip".find(short[0]) if len(short) == 1 or short[1:] in ("1", "2", "3", "_n") else -1
        units = 10 if kind < 0 and name != "cover" else 1000
        value = full[kind]
        right = 159
        if not 0 < value < 1e9:
            units = 0
            value = 1
        while value < 16384:
            value *= 2
            right -= 1
        while value >= 32768:
            value *= 0.5
            right += 1
        found.append(((units << 18) + (int(value) >> 1)) // int(value))
        found.append(right)
    return found
