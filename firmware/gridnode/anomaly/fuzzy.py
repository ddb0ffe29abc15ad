"""Names faults by fuzzy rules: a table of conditions, judged row by row in integers.

A condition [input, from, to] is met to 0 at `from` and to 1000 at `to`, linearly between the two, so that `from` above
`to` means "below"; a missing input meets none. A rule is met as far as the least of its conditions `all` and the best
group of `any` are, a group as far as the least of its conditions. A fault holds from 500, and goes on down to 300.
"""

from array import array
from micropython import const

HOLDS = const(500)
_GOES_ON = const(300)
_NONE = const(-32768)
_FULL = const(1000)
_OWN = const(64)  # added to inputs of the rule's own column; those of the device lie below


class Rules:
    """The rules of a table over the inputs of an `Electrical`; see `gridnode.setup.faults` for the table's form.

    Raises ValueError with the rule and what is wrong with it.
    """

    def __init__(self, table, electrical):
        from gridnode.setup import faults  # leaves the heap after the start

        self._inputs = electrical.inputs
        # per rule: groups of `any`, then each group, `all` first: number of conditions, conditions
        self._code = array("h")
        self._starts = array("h")
        self._columns = []
        self._masks = array("i")  # guilty signals of each rule and column
        names = []
        self.priorities = bytearray()
        faults.add(table, electrical, self._code, self._starts, self._columns, self._masks, names, self.priorities)
        self._held = bytearray(len(self._masks))
        self._names = "\n".join(names)  # a text takes a quarter of what the texts do
        self.degrees = array("h", [0] * len(names))  # of the rules, the largest of their columns
        # per signal: largest degree of a fault that holds and blames it, 0 without one
        self.guilt = array("h", [0] * len(electrical.names))
        self.top = -1  # the rule to tell first, -1 without a fault
        self.blamed = 0  # bits of the signals that it blames
        self.where = 0  # its column: number of the phase, joint or signal, from 0

    @property
    def names(self):
        """Of the rules, in their order."""
        return self._names.split("\n")

    def rest(self):
        """No fault goes on: rows are missing."""
        for k in range(len(self._held)):
            self._held[k] = 0

    def judge(self):
        """Judge the inputs as they are now; nothing is allocated."""
        self.top = -1
        degrees = self.degrees
        guilt = self.guilt
        for k in range(len(guilt)):
            guilt[k] = 0
        mask = best = 0
        for k in range(len(degrees)):
            columns = self._columns[k]
            degrees[k] = 0
            for j in range(len(columns)):
                degree = self._degree(self._starts[k], columns[j])
                holds = degree >= (_GOES_ON if self._held[mask] else HOLDS)
                self._held[mask] = holds
                if holds:
                    degree = max(degree, HOLDS)
                    rank = degree - self.priorities[k] * 1024 + 8192
                    if rank > best:
                        best = rank
                        self.top = k
                        self.where = j
                        self.blamed = self._masks[mask]
                    for n in range(len(guilt)):
                        if self._masks[mask] >> n & 1:
                            guilt[n] = max(guilt[n], degree)
                degrees[k] = max(degrees[k], degree)
                mask += 1

    def faults(self):
        """The faults that hold, each once, as (name, degree), the most severe rule first."""
        found = []
        for k in range(len(self.degrees)):
            if self.degrees[k] >= HOLDS:
                found.append((self.priorities[k], -self.degrees[k], k))
        told = []
        names = self.names
        for _, degree, k in sorted(found):
            if names[k] not in [one[0] for one in told]:
                told.append((names[k], -degree))
        return told

    def _degree(self, at, base):
        code = self._code
        groups = code[at]
        at += 1
        degree = self._group(at, base)
        if not groups or not degree:
            return degree
        best = 0
        for _ in range(groups):
            at += 1 + 3 * code[at]
            best = max(best, self._group(at, base))
        return min(degree, best)

    def _group(self, at, base):
        code = self._code
        least = _FULL
        for k in range(at + 1, at + 1 + 3 * code[at], 3):
            place = code[k]
            x = self._inputs[place if place < _OWN else base + place - _OWN]
            if x == _NONE:
                return 0
            start = code[k + 1]
            least = min(least, (x - start) * _FULL // (code[k + 2] - start))
            if least <= 0:
                return 0
        return least
