"""What a detector takes of a node's memory, and that every VM finds the same grades."""

import binascii
import gc
import json
from array import array

from gridnode.anomaly import scale
from gridnode.anomaly.detector import Detector
from harness import fixtures
from made_rows import (
    DAY,
    FEEDER,
    INTERVAL_S,
    LIMITS,
    PLACE,
    START,
    TRAIN,
    Rows,
    faults_behind,
    judged,
)

FIXTURES = ("faults",)
HEAP_KW = 320
TIMEOUT_S = 120

# CRC-32 of all grades, alarms, kinds and diagnoses of `stream`, and of the model: a failure tells the new one
PLACE_CRC = 2781017947
FEEDER_CRC = 3012421204
PLAIN_CRC = 2537322438
STEPS_CRC = 2884453724


def faults():
    return json.loads(fixtures["faults"])


def frozen(names, limits):
    rows = Rows(names)
    detector = Detector(names, limits)
    judged(detector, rows, TRAIN + 1)
    assert detector.state == "frozen"
    return detector, rows


def test_bytes_of_a_frozen_model():
    for names, most in ((PLACE, 4096), (FEEDER, 8192)):
        for table in (None, faults()):
            detector, _ = frozen(names, dict(LIMITS, faults=table))
            assert detector.size <= most, detector.size
            assert len(detector.save()) <= most, len(detector.save())
            assert detector.size == Detector(names, dict(LIMITS, faults=table)).size


def net(detector, rows, learn):
    """Bytes that 500 rows leave in the heap."""
    values = array("f", rows.values)
    t = rows.t
    for _ in range(40):
        t += INTERVAL_S
        detector.row(values, t, learn)
    gc.collect()
    before = gc.mem_alloc()
    for k in range(500):
        t += INTERVAL_S
        values[0] = 228 + k % 5
        detector.row(values, t, learn)
    gc.collect()
    return gc.mem_alloc() - before


def test_rows_leave_nothing_in_the_heap():
    for names in (PLACE, FEEDER):
        for table in (None, faults()):
            limits = dict(LIMITS, train_rows=3000, faults=table)
            detector = Detector(names, limits)
            rows = Rows(names)
            for _ in range(200):
                detector.row(rows.next(), rows.t)
            taken = net(detector, rows, 1)
            assert detector.state == "learning" and taken == 0, taken
            detector, rows = frozen(names, dict(LIMITS, faults=table))
            taken = net(detector, rows, 0)
            assert taken == 0, taken


def test_saving_and_asking_leave_nothing_in_the_heap():
    detector, rows = frozen(FEEDER, dict(LIMITS, faults=faults()))
    rows.faults = [("v1", 0, 99999, lambda x, k: 1.5)]
    for turn in range(4):
        for _ in range(3):
            rows.next()
            detector.row(rows.values, rows.t)
            assert detector.text and detector.faults is not None
        detector.save()
        gc.collect()
        if turn == 1:
            before = gc.mem_alloc()
    assert gc.mem_alloc() == before


def test_training_leaves_the_heap_when_it_ends():
    detector = Detector(FEEDER, LIMITS)
    rows = Rows(FEEDER)
    judged(detector, rows, TRAIN)
    gc.collect()
    before = gc.mem_alloc()
    judged(detector, rows, 2)
    gc.collect()
    assert before - gc.mem_alloc() > 3000, before - gc.mem_alloc()


def summed(detector, rows, count, crc=0):
    for _ in range(count):
        rows.next()
        detector.row(rows.values, rows.t)
        crc = binascii.crc32(detector.grades, crc)
        crc = binascii.crc32(detector.alarms, crc)
        told = "%d %d %d %s %s %s" % (
            detector.grade,
            detector.alarm,
            detector.priority,
            detector.kind,
            detector.diagnosis,
            [name for name, _ in detector.faults],
        )
        crc = binascii.crc32(told.encode(), crc)
    return crc


def stream(names, changes, table=None, more=4 * DAY, **limits):
    """Checksum of a stream with faults in its training and behind it, and of its model."""
    rows = Rows(names, changes)
    detector = Detector(names, dict(LIMITS, faults=table, **limits))
    crc = summed(detector, rows, TRAIN + 5)
    model = binascii.crc32(detector.save())
    crc = summed(detector, rows, more, crc)
    detector.command("guarded")
    crc = summed(detector, rows, more, crc)
    detector.command("learning")
    crc = summed(detector, rows, TRAIN // 2, crc)
    return binascii.crc32(b"%d" % model, crc), detector


def changes(names):
    v, i = ("voltage", "current") if "voltage" in names else ("v1", "i1")
    t = "temperature" if "temperature" in names else "t_joint"
    in_training = [(v, 300, 4, -40), (i, 400, 1, 20)]
    return in_training + faults_behind(names, TRAIN) + [(t, TRAIN + 700, 300, lambda x, k: x + k // 16)]


def test_every_machine_finds_the_same_of_a_place():
    crc, detector = stream(PLACE, changes(PLACE))
    assert detector.state in ("frozen", "suspect")
    assert crc == PLACE_CRC, crc


def test_every_machine_finds_the_same_of_a_feeder():
    crc, _ = stream(FEEDER, changes(FEEDER), faults())
    assert crc == FEEDER_CRC, crc


def test_every_machine_finds_the_same_of_plain_signals():
    names = ["x", "y", "t_joint", "z"]
    found = [("x", TRAIN + 50, 5, 9), ("y", 0, 9999, lambda x, k: x * 4096)]
    found.append(("z", TRAIN + 90, 80, lambda x, k: x - k // 8))
    crc, _ = stream(names, found, None, 2 * DAY, rating_a=63)
    assert crc == PLAIN_CRC, crc


def test_every_machine_has_the_same_steps():
    """Ratings whose shares are no float32: limits and least sizes fall on the same steps."""
    crc = 0
    for rating in (1, 5, 6, 10, 16, 20, 25, 32, 40, 50, 63, 80, 100, 125, 160, 200, 250, 315, 400, 500, 630, 800, 1000):
        for nominal in (100, 110, 120, 127, 220, 230, 240, 277, 400):
            limits = dict(LIMITS, rating_a=rating, v_nominal=nominal)
            limits["nominal"] = {"v": [nominal * 9 / 10, nominal * 11 / 10], "i_of_rating": [0, 1.25]}
            for name in ("v1", "i1", "p1"):
                signal = Detector([name], limits).signals[0]
                told = (name, rating, nominal, signal.certain.low, signal.certain.high, list(signal.series.state)[4])
                crc = binascii.crc32(repr(told).encode(), crc)
    assert crc == STEPS_CRC, crc
    assert scale.steps(START, 1.0) == 32767
