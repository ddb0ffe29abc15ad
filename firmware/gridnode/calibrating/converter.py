"""What both ways to a converter's table share, the sine and the levels."""


def rising(table):
    """The table itself, made to rise: whatever its ends do, a larger count is never less."""
    for k in range(1, len(table)):
        table[k] = max(table[k], table[k - 1])
    return table


def record(meter, before, after, windows):
    """Record of the step `linearity` of a meter; before, after: what the converter is off, %."""
    return {
        "step": "linearity",
        "meter": meter,
        "phase": 0,
        "reference": {},
        "uncertainty_percent": {},
        "before_percent": {"nonlinearity": round(before, 4)},
        "after_percent": {"nonlinearity": round(after, 4)},
        "spread_percent": {},
        "u_percent": {},
        "load": {},
        "windows": windows,
        "rejected": 0,
        "window_s": 0,
    }
