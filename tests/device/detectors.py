"""Detectors that were trained on made rows."""

import json

from gridnode.anomaly.detector import Detector
from harness import fixtures
from made_rows import LIMITS, PLACE, Rows, judged


def faults():
    return json.loads(fixtures["faults"])


def trained(names=PLACE, found=(), learn=None, rules=False, **limits):
    rows = Rows(names, found)
    detector = Detector(names, dict(LIMITS, faults=faults() if rules else None, **limits))
    judged(detector, rows, detector.train_rows, learn)
    return detector, rows


_kept = {}


def frozen(names=PLACE, rules=False):
    """A frozen detector and its rows; trained once, then loaded."""
    key = (len(names), rules)
    if key not in _kept:
        detector, rows = trained(names, (), None, rules)
        assert detector.command("freeze") == ""
        _kept[key] = (detector.save(), rows.row, rows._seed, list(rows._heat), list(rows._load), rows._weather)
    model, row, seed, heat, load, weather = _kept[key]
    detector = Detector(names, dict(LIMITS, faults=faults() if rules else None))
    assert detector.load(model) == ""
    rows = Rows(names)
    rows.row, rows._seed, rows._heat, rows._load, rows._weather = row, seed, list(heat), list(load), weather
    return detector, rows


def verdict(detector):
    return (
        detector.grade,
        detector.alarm,
        detector.kind,
        detector.priority,
        detector.diagnosis,
        bytes(detector.grades),
        bytes(detector.alarms),
    )


def one_row(detector, rows):
    rows.next()
    detector.row(rows.values, rows.t)
    return [name for name, alarm in zip(detector.names, detector.alarms) if alarm]
