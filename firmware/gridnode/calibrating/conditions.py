"""What must hold for each step: data, which a profile may change under calibration.conditions.

voltage_low, voltage_high: % of the nominal voltage. current_low, current_high: % of the rated current. frequency: % off
the nominal one. spread_v, spread_i: % between the windows; noise_i: % of the rated current that may come on top.
angle: degrees between the load and the expected one. reference: % between reading and reference. coverage: share of the
mains cycles observed. thd: % of the current's distortion. kelvin: least difference to the temperature of the gains.
impurity: % of the voltage's harmonics that a converter cannot have made. after_v, after_i, after_p: % that may be left,
after_deg: degrees. idle: % of the rated apparent power that may be left without load.
windows, window_s: how many, how long each. most: windows at most, outliers included. fine: % that a current's standard
uncertainty may be before more windows than those are taken.
"""

_COMMON: dict = {
    "voltage_low": 50,
    "voltage_high": 130,
    "frequency": 10,
    "spread_v": 0.5,
    "spread_i": 0.5,
    "noise_i": 0.02,
    "coverage": 0.5,
    "windows": 5,
    "window_s": 2,
    "most": 8,
    "fine": 1,
}

STEPS: dict = {
    "linearity": {"voltage_low": 70, "impurity": 0.15, "windows": 10, "most": 13},
    "offset": {"current_high": 2, "noise_i": 0.5, "idle": 0.05, "windows": 8, "most": 11},
    "gain": {"current_low": 4, "current_high": 125, "reference": 20, "after_v": 0.2, "after_i": 0.25},
    "phase": {"current_low": 4, "current_high": 125, "angle": 12, "thd": 20, "after_deg": 0.1},
    "power": {"current_low": 4, "current_high": 125, "angle": 15, "reference": 20, "after_p": 0.3},
    "multipoint": {
        "current_low": 1,
        "current_high": 125,
        "reference": 20,
        "angle": 12,
        "after_i": 0.2,
        "after_deg": 0.1,
        "most": 15,
        "fine": 0.03,
    },
    "temperature": {
        "current_low": 4,
        "current_high": 125,
        "reference": 10,
        "kelvin": 10,
        "after_v": 0.2,
        "after_i": 0.25,
    },
    "verify": {"current_high": 130, "reference": 50, "windows": 3, "fine": 0.05},
}


def of(step, profile):
    """Conditions of a step for a profile's node, or None for a step that is not known."""
    if step not in STEPS:
        return None
    found = dict(_COMMON)
    found.update(STEPS[step])
    found.update(profile.get("calibration", {}).get("conditions", {}).get(step, {}))
    return found
