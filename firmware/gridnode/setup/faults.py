"""Compiles a table of faults (boards/faults.json) for `gridnode.anomaly.fuzzy`.

The table is a list of rules, or what makes one rule after the other (less heap is needed then), a rule a dict with

* `fault`: its name; several rules may have the same;
* `priority`: 1 to 4;
* `each`: device, phase, joint or signal; it is judged once for each;
* `all`: conditions, and `any`: groups of conditions, of which one may be absent; inputs are those of
  `gridnode.setup.electrical`, and those of the device may stand in every rule;
* `guilty`: v, i and p are those of the phase (in rules of no phase: of all), t is the joint (else: all), signal the
  signal itself; other names are signals. Those that a device has not are left out.
"""

from array import array
from micropython import const

from gridnode.setup.electrical import INPUTS

_OWN = const(64)
_LARGEST = const(32000)
_SIGNALS = const(30)  # bits of a small integer


def add(table, electrical, code, starts, columns, masks, names, priorities):
    """Append the compiled rules; see `gridnode.anomaly.fuzzy.Rules`. Raises ValueError."""
    try:
        rules = iter(table)
    except TypeError:
        raise ValueError("the rules are not a list")
    if len(electrical.names) > _SIGNALS:
        raise ValueError("rules for more than %d signals" % _SIGNALS)
    for number, rule in enumerate(rules):
        try:
            scope, compiled = _compile(rule)
            for k in range(len(electrical.columns[scope])):
                masks.append(_mask(rule["guilty"], electrical, scope, k))
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            name = rule.get("fault") if isinstance(rule, dict) else rule
            why = str(err) if isinstance(err, ValueError) else "is incomplete or malformed: %r" % err
            raise ValueError("rule %d (%s) %s" % (number + 1, name, why))
        starts.append(len(code))
        code.extend(compiled)
        columns.append(electrical.columns[scope])
        names.append(rule["fault"])
        priorities.append(rule["priority"])


def _compile(rule):
    if not isinstance(rule["fault"], str) or rule["priority"] not in (1, 2, 3, 4):
        raise ValueError("needs a name and a priority from 1 to 4")
    scope = rule["each"]
    if scope not in INPUTS:
        raise ValueError("is judged for each %s, which is not one of %s" % (scope, ", ".join(INPUTS)))
    groups = rule.get("any", [])
    code = array("h", [len(groups)])
    for k, group in enumerate([rule.get("all", [])] + groups):
        if not group and (k or not groups):
            raise ValueError("has no condition")
        code.append(len(group))
        for name, start, full in group:
            if name in INPUTS["device"]:
                code.append(INPUTS["device"].index(name))
            elif name in INPUTS[scope]:
                code.append(INPUTS[scope].index(name) + _OWN)
            else:
                raise ValueError("asks for %s, which a %s has not" % (name, scope))
            for x in (start, full):
                if not isinstance(x, int) or not -_LARGEST <= x <= _LARGEST:
                    raise ValueError("compares %s with %r, which is no integer up to %d" % (name, x, _LARGEST))
                code.append(x)
            if start == full:
                raise ValueError("goes from %d to %d with %s, which is no way" % (start, full, name))
    return scope, code


def _mask(guilty, electrical, scope, column):
    """One bit per guilty signal."""
    mask = 0
    ways = electrical.ways
    for name in guilty:
        if name in ("v", "i", "p"):
            for k in range(len(ways) // 3):
                way = ways[3 * k + "vip".find(name)]
                if way >= 0 and (scope != "phase" or k == column):
                    mask |= 1 << way
        elif name == "t":
            for k, joint in enumerate(electrical.joints):
                if scope != "joint" or k == column:
                    mask |= 1 << joint
        elif name == "signal":
            mask |= 1 << column
        elif name in electrical.names:
            mask |= 1 << electrical.names.index(name)
    return mask
