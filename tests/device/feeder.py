"""A feeder whose rows are judged by rules of faults."""

import json
from array import array

from gridnode.anomaly.electrical import Electrical
from gridnode.anomaly.fuzzy import Rules
from gridnode.setup.electrical import INPUTS
from harness import fixtures

NAN = float("nan")
NAMES = ["v1", "v2", "v3", "i1", "i2", "i3", "i_n", "p1", "p2", "p3"]
NAMES += ["t_joint", "t_ambient", "humidity", "cover"]
LIMITS = {"rating_a": 100.0, "v_nominal": 230}


def table():
    return json.loads(fixtures["faults"])


class Feeder:
    """Judges rows that differ from a sound one; what is changed is in units of nominal, rating, rated power."""

    def __init__(self, rules=None, names=NAMES, learnt=True):
        self.names = names
        self.inputs = Electrical(names, LIMITS)
        self.rules = Rules(table() if rules is None else rules, self.inputs)
        self.values = array("f", [self._sound(name) for name in names])
        if learnt:
            for _ in range(70):
                self.inputs.row(self.values, True)

    def _sound(self, name):
        sound = {"t": 35.0, "h": 50.0}.get(name[0])
        if name in ("t_ambient", "i_n"):
            return 20.0
        if name == "cover":
            return 0.0
        return self._unit(name) * {"v": 1.0, "i": 0.3, "c": 0.3, "p": 0.28}[name[0]] if sound is None else sound

    def _unit(self, name):
        if name == "cover":
            return 1.0
        return {"v": 230.0, "i": 100.0, "c": 100.0, "p": 23000.0}.get(name[0], 1.0)

    def judge(self, slots=None, **changed):
        """(fault, where) to tell first, names of all that hold."""
        row = array("f", self.values)
        for name, value in changed.items():
            for one in [x for x in self.names if x == name or (len(name) == 1 and x[0] == name and x != "i_n")]:
                row[self.names.index(one)] = value * self._unit(one)
        self.inputs.row(row)
        for k in self.inputs.slots:
            for j in range(4):
                self.inputs.inputs[k + j] = 0
        for name, (slot, value) in (slots or {}).items():
            self.inputs.inputs[self.inputs.slots[self.names.index(name)] + INPUTS["signal"].index(slot)] = value
        self.rules.rest()
        self.rules.judge()
        return self.found()

    def found(self):
        top = self.rules.top
        names = [name for name, _ in self.rules.faults()]
        assert (top < 0) == (not names) and (top < 0 or names[0] == self.rules.names[top]), (top, names)
        return names

    def guilty(self):
        return sorted(self.names[k] for k, degree in enumerate(self.rules.guilt) if degree >= 500)


def only(f, want, guilty, **row):
    got = f.judge(**row)
    assert got == ([want] if want else []), (row, got)
    assert not want or f.guilty() == sorted(guilty), (row, f.guilty())
