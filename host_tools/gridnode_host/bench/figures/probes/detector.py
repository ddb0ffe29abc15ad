"""Heap that a detector takes beside the other rooms of a node: its code, itself while it learns, and frozen.

stdin: {"before": modules that are there before it, "names": its signals, "limits": what it is told of them, "faults":
rules of faults} as JSON. Answers bytes: "modules" by name (those that stay while it learns), "code" their sum,
"learning" the most behind any row, "frozen" once it has learnt; "state" is what became of it.

What is needed at the start only does not count.
"""
# mypy: ignore-errors

import gc
import json
import sys
from array import array

from names import widen

_START = 1800000000 // 86400 * 86400
_BASES = {"v": 230, "c": 10, "i": 10, "p": 2000, "t": 30, "h": 50}


class Table:
    """Rules of faults as a node has them in a file: each is made when it is asked for."""

    def __init__(self, rules):
        self.lines = [json.dumps(rule) for rule in rules]

    def __iter__(self):
        for line in self.lines:
            yield json.loads(line)


def used():
    """Bytes of the heap that are in use."""
    gc.collect()
    return gc.mem_alloc()


def code(names):
    """Bytes of each module."""
    found = {}
    before = used()
    for name in names:
        __import__(name)
        taken = used()
        found[name[9:]] = taken - before
        before = taken
    return found


def parts(faults):
    """Names of the modules in the order in which a node loads them."""
    from gridnode.setup import detection

    names = detection.NAMES + (detection.NAMING if faults else ())
    return ["gridnode.anomaly." + name for name in names] + ["gridnode.detection"]


def rows(detector, values, first, last):
    """Ordinary rows; the values move, so that nothing is stuck. Returns the most that was in use behind one."""
    from gridnode.detection import forget

    most = 0
    for k in range(first, last):
        for j in range(len(values)):
            values[j] = _BASES[detector.names[j][0]] + (k * 37 + j * 11) % 101 / 64
        detector.row(values, _START + k * detector.interval_s)
        forget(detector)
        most = max(most, used())
    return most


def measure(order):
    """The answer."""
    values = array("f", [0] * len(order["names"]))
    limits = order["limits"]
    if order["faults"]:
        limits["faults"] = Table(order.pop("faults"))
    for name in order["before"]:
        __import__(name)
    widen(8000)  # far more than a detector needs
    start = used()
    modules = code(parts("faults" in limits))
    from gridnode.anomaly.detector import Detector
    from gridnode.detection import forget

    detector = Detector(order["names"], limits)
    forget(detector)
    answer = {"modules": modules, "code": sum(modules.values())}
    answer["learning"] = rows(detector, values, 1, detector.train_rows) - start
    if not detector.training:
        raise ValueError("it has ended learning")
    rows(detector, values, detector.train_rows, detector.train_rows + 20)
    answer["frozen"] = used() - start
    answer["state"] = detector.state
    return answer


print(json.dumps(measure(json.load(sys.stdin))))
