"""Self-checks that need no reference: what is wrong with the wiring or the zero, told with its evidence.

Rules over the means of some readings. A load takes power (unless the place may export), and the current of its phase
lags the voltage by an angle that loads have; a clamp on another phase is off by 120 degrees, a reversed one by 180.
"""

from micropython import const

from gridnode.calibrating import angle_of, turn

CHECKS = ("ct_reversed", "ct_wrong_phase", "vt_ratio", "ct_ratio", "dead_input", "zero_drift", "sequence")

# Degrees that loads may have, and those that most have: less than 60 apart, so that any two wirings differ by them.
_LAG = const((-50.0, 75.0))
_LIKELY = const((-21.0, 38.0))
_CARRIES = const(0.02)  # of the rated current: enough for an angle
_ACTIVE = const(0.8)  # share of the apparent power, where a meter tells no reactive power
_OTHERS = const(0.05)  # of it in the other phases: one without any is dead
_DEAD = const(0.001)  # of it
_RATIOS = const(((1.732, "the voltage between phases"), (0.577, "the other connection"), (2.0, "twice"), (0.5, "half")))
_VOLTS = const(0.25)  # off nominal that no supply has for long
_AMPERES = const(1.5)  # of the rated current, for all the time
_IDLE = const(0.002)  # of the rated current: without load
_ZERO = const(0.0015)  # of the rated apparent power that is read then
_BEYOND = const(1.5)  # times what that current carries
_BIAS_MV = const(80.0)
_ORDERS = {2: ((0, 1), (1, 0)), 3: ((0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1))}


def examine(means, spec, profile, wrong_way=False, turned=()):
    """Suggestions for the means of each phase.

    wrong_way: the rotation is V1, V3, V2. turned: per phase whether its clamp is taken for reversed already.
    """
    nominal, rating = profile["nominal"]["voltage"], profile["rating"]["current"]
    load_only = profile.get("calibration", {}).get("load_only", False)
    found = []
    if wrong_way:
        found.append(_one("sequence", 0, "the voltages turn L1, L3, L2: exchange two of them", None))
    for n, values in enumerate(means):
        found += _dead(n, means, nominal, rating)
        found += _ratios(n, values, nominal, rating)
        found += _zero(n, values, nominal, rating)
    if not wrong_way:
        found += _angles(means, spec, rating, load_only, turned)
    return found


def _one(check, phase, evidence, command):
    return {"check": check, "phase": phase, "evidence": evidence, "command": command}


def _name(n, means):
    return "L%d" % (n + 1) if len(means) > 1 else "the input"


def _dead(n, means, nominal, rating):
    found = []
    for name, whole, least, others in (("voltage", nominal, 0.05, 0.5), ("current", rating, _DEAD, _OTHERS)):
        value = means[n].get(name)
        rest = [m[name] for k, m in enumerate(means) if k != n and m.get(name) is not None]
        if value is not None and value < least * whole and rest and min(rest) > others * whole:
            text = "%s reads %.3g where the others read %.4g: its %s input is dead" % (
                _name(n, means), value, sum(rest) / len(rest), name)  # fmt: skip
            found.append(_one("dead_input", n + 1, text, None))
    return found


def _ratios(n, values, nominal, rating):
    v, i = values.get("voltage"), values.get("current")
    found = []
    if v and v > 0.05 * nominal and abs(v / nominal - 1) > _VOLTS:
        near = [text for ratio, text in _RATIOS if abs(v / nominal / ratio - 1) < 0.06]
        text = "%.4g V is %.3g times the nominal %.4g V" % (v, v / nominal, nominal)
        found.append(_one("vt_ratio", n + 1, text + (", like " + near[0] if near else ""), None))
    if i and i > _AMPERES * rating:
        text = "%.4g A for all the time is %.3g times the rated %.4g A: compare the clamp's ratio"
        found.append(_one("ct_ratio", n + 1, text % (i, i / rating, rating), None))
    return found


def _zero(n, values, nominal, rating):
    """Power that the current cannot carry; what it can is a small load."""
    i, p, q = values.get("current"), values.get("power"), values.get("reactive_power")
    if i is None or p is None or i > _IDLE * rating:
        return []
    off, most = (p * p + (q or 0.0) ** 2) ** 0.5, (values.get("voltage") or 0.0) * i
    if off < _ZERO * nominal * rating or off < _BEYOND * most:
        return []
    text = "%.3g VA are read at %.3g A, which carry %.3g VA: calibrate the offset" % (off, i, most)
    return [_one("zero_drift", n + 1, text, None)]


def _lag(values, rating):
    """Degrees by which a phase's current lags, None where it is too small or no angle is known."""
    v, i, p = values.get("voltage"), values.get("current") or 0.0, values.get("power")
    if i <= _CARRIES * rating:
        return None
    if values.get("reactive_power") is None and v and p is not None and abs(p) > _ACTIVE * v * i:
        return 0.0 if p > 0 else 180.0
    return angle_of(values)


def _angles(means, spec, rating, load_only, turned):
    """Reversed clamps and clamps on another phase, by the pattern of the angles.

    A wiring is told if most loads have the angles that it leaves, and no wiring with as few mistakes leaves angles that
    loads may have.
    """
    lags = [_lag(values, rating) for values in means]
    n = len(means)
    if not load_only or lags == [None] * n:
        return []
    likely, possible = None, []
    apart = n > 1 and len(spec.get("voltage", ())) == n and None not in lags
    for order in _ORDERS[n] if apart else (tuple(range(n)),):
        for mask in range(1 << n):
            if _fits(lags, order, mask, _LAG):
                mistakes = sum([a != k for k, a in enumerate(order)]) + _bits(mask)
                possible.append(mistakes)
                if _fits(lags, order, mask, _LIKELY):
                    likely = mistakes, order, mask
    if not likely or not likely[0] or sum([mistakes <= likely[0] for mistakes in possible]) > 1:
        return []
    _, order, mask = likely
    told = ", ".join(["L%d %.0f deg" % (k + 1, lag) for k, lag in enumerate(lags) if lag is not None])
    if n == 1:
        told = "%.0f W at %.3g A" % (means[0]["power"], means[0]["current"])
    found = []
    if order != tuple(range(n)):
        # order[k] is the phase whose current the clamp of phase k sees; wanted is the clamp of each phase.
        wanted = [order.index(phase) + 1 for phase in range(n)]
        on = ", ".join(["L%d" % (a + 1) for a in order])
        text = "the currents lag %s: the clamps are on the phases %s" % (told, on)
        found.append(_one("ct_wrong_phase", 0, text, {"command": "phase_swap", "value": wanted}))
    for k in range(n):
        if mask >> k & 1:
            phase = order[k] + 1
            value = 1 if k < len(turned) and turned[k] else -1
            text = "%s sees %s, which no load takes: the clamp looks the other way" % (_name(k, means), told)
            found.append(_one("ct_reversed", phase, text, {"command": "ct_direction", "phase": phase, "value": value}))
    return found


def _bits(mask):
    return mask and (mask & 1) + _bits(mask >> 1)


def _fits(lags, order, mask, limits):
    """Whether the angles that a wiring leaves lie within limits."""
    for k, lag in enumerate(lags):
        if lag is None:
            if mask >> k & 1:
                return False
            continue
        true = turn(lag - 120 * (order[k] - k) + (180 if mask >> k & 1 else 0))
        if not limits[0] <= true <= limits[1]:
            return False
    return True


def bias(meter, spec):
    """Suggestions for the converter of a CT meter."""
    from gridnode.calibrating import front_end

    _, level = front_end.in_force(meter)
    design = spec["voltage"][0].get("bias_mv", 1650)
    if abs(level - design) < _BIAS_MV:
        return []
    return [_one("zero_drift", 1, "the converter's mean is %.0f mV where the bias is %.0f mV" % (level, design), None)]
