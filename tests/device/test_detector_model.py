"""The model of a detector as bytes: it goes on bit by bit, and what does not fit is refused."""

import json
import struct

from detectors import faults, frozen, trained, verdict
from gridnode.anomaly import model as model_file
from gridnode.anomaly.detector import Detector
from made_rows import (
    DAY,
    FEEDER,
    LIMITS,
    NAN,
    PLACE,
    TRAIN,
    Rows,
    faults_behind,
    judged,
)

FIXTURES = ("faults",)
HEAP_KW = 320
TIMEOUT_S = 120


def test_a_loaded_model_goes_on_bit_by_bit():
    for names, rules in ((PLACE, False), (FEEDER, True), (["x", "y", "t_joint"], False)):
        for moment in (0, 37):
            detector, rows = trained(names, (), None, rules)
            judged(detector, rows, 1 + moment)
            assert not detector.alarm
            model = detector.save()
            other = Detector(names, dict(LIMITS, faults=faults() if rules else None))
            assert other.load(model) == ""
            assert other.save() == model
            assert (other.state, other.rows, other.frozen_at) == ("frozen", TRAIN, detector.frozen_at)
            if "humidity" in names:
                rows.faults = faults_behind(names, rows.row)
            else:
                rows.faults = [("x", rows.row + 9, 30, 5), ("t_joint", rows.row + 60, 9, NAN)]
            alarms = 0
            for _ in range(5 * DAY):
                rows.next()
                detector.row(rows.values, rows.t)
                other.row(rows.values, rows.t)
                assert verdict(detector) == verdict(other), (names, rows.row)
                alarms += detector.alarm
            assert alarms > 20 and detector.save() == other.save()


def test_a_rate_that_was_learnt_is_in_the_model():
    rows = Rows(["temperature"], [("temperature", 1, 99999, lambda x, k: x + (90 if k % 2 else 0))])
    limits = dict(LIMITS, interval_s=60, train_rows=300)
    detector = Detector(["temperature"], limits)
    for k in range(301):
        detector.row(rows.next(), 60 * k + 60)
    other = Detector(["temperature"], limits)
    assert other.load(detector.save()) == ""
    for k in range(301, 340):
        rows.next()
        for one in (detector, other):
            one.row(rows.values, 60 * k + 60)
            assert one.kind != "rate"


def test_a_model_that_is_loaded_weeks_later_starts_calmly():
    detector, rows = frozen(FEEDER)
    detector.command("guarded")
    model = detector.save()
    for days in (1, 20):
        for hour in (0, 9, 20):
            other = Detector(FEEDER, LIMITS)
            assert other.load(model) == "" and other.state == "guarded"
            late = Rows(FEEDER)
            late.row = rows.row + days * DAY + hour * 6
            for _ in range(6 * 6):  # its load and heat as they are then
                late.next()
            assert judged(other, late, DAY) == [], (days, hour)


def test_a_sensor_that_is_lost_while_the_node_restarts_is_told():
    detector, rows = frozen()
    rows.faults = [("humidity", 0, 99999, NAN)]
    found = judged(detector, rows, 6)
    assert found[0][:2] == (rows.row - 4, "missing"), found


def test_a_damaged_model_is_refused_and_changes_nothing():
    detector, rows = frozen()
    judged(detector, rows, 5)
    model = detector.save()
    before = (model, verdict(detector), detector.now)

    def refused(data, words):
        reason = detector.load(data)
        assert words in reason and reason, (reason, words)
        assert detector.now == before[2] and verdict(detector) == before[1]

    for size in range(0, len(model), 3):
        refused(model[:size], "not a model" if size < 16 else "the model is cut short")
    refused(model + b"\0", "bytes follow the model")
    data = bytearray(model)
    for bit in (0x01, 0x80, 0xFF):
        for k in range(len(data)):
            data[k] ^= bit
            assert detector.load(data), (k, bit)
            data[k] ^= bit
    assert detector.save() == model
    assert detector.load(bytes(data)) == "" and detector.load(data) == ""


def test_models_of_others_are_refused():
    detector, rows = frozen()
    model = detector.save()
    for names, limits, reason in (
        (["current", "voltage", "temperature", "humidity"], LIMITS, "the model is of another SKU: its names differ"),
        (PLACE[:3], LIMITS, "the model is of another SKU: its names differ"),
        (PLACE, dict(LIMITS, rating_a=200), "the model is of another SKU: its ratings differ"),
        (PLACE, dict(LIMITS, v_nominal=120), "the model is of another SKU: its ratings differ"),
        (PLACE, dict(LIMITS, interval_s=60), "the model is of another SKU: its interval differ"),
    ):
        other = Detector(names, limits)
        assert other.load(model) == reason, other.load(model)
        assert other.state == "learning" and other.training
    assert Detector(PLACE, dict(LIMITS, faults=faults())).load(model) == ""  # the table may come later
    newer = bytearray(model)
    for version in (0, model_file.VERSION - 1, model_file.VERSION + 1):
        newer[4] = version
        reason = "the model is of version %d, this firmware reads %d" % (version, model_file.VERSION)
        assert detector.load(newer) == reason
    assert detector.save() == model


def test_what_currents_did_lately_is_forgotten_after_hours_and_with_the_training():
    rows = Rows(FEEDER, ())
    detector = Detector(FEEDER, dict(LIMITS, faults=faults()))
    judged(detector, rows, 50)
    for forget in (lambda: detector.command("freeze"), lambda: detector.row(rows.values, rows.t + 7300)):
        for past in (detector.electrical._excess, detector.electrical._top):
            past[0] = 900000
        forget()
        assert detector.electrical._excess[0] == 0 and detector.electrical._top[0] <= 1000


def test_a_training_of_another_make_is_refused():
    rows = Rows(PLACE, ())
    learning = Detector(PLACE, LIMITS)
    judged(learning, rows, TRAIN // 2)
    for cut in (4, 200):
        other = learning.save()[:-cut]
        struct.pack_into("<I", other, 8, len(other) - 16)
        struct.pack_into("<I", other, 12, model_file._crc(other))
        detector = Detector(PLACE, LIMITS)
        assert detector.load(other) == "the training is of another make: its parts have other sizes"
        assert detector.rows == detector.training.taken == 0 and detector.state == "learning"
        assert not any(detector.signals[0].series.state[:3])


def test_a_model_without_a_scale():
    names = ["x", "voltage", "y"]
    gone = [("x", 1, 99999, NAN)]
    rows = Rows(names, gone)
    detector = Detector(names, LIMITS)
    judged(detector, rows, TRAIN + 1)
    assert detector.state == "frozen" and detector.signals[0].certain is None
    other = Detector(names, LIMITS)
    assert other.load(detector.save()) == "" and other.signals[0].certain is None
    rows.faults = ()
    for _ in range(200):
        rows.next()
        for one in (detector, other):
            one.row(rows.values, rows.t)
        assert verdict(detector) == verdict(other) and not other.alarm
    assert other.signals[0].certain
    again = Detector(names, LIMITS)
    assert again.load(other.save()) == "" and again.signals[0].per_unit == other.signals[0].per_unit


def test_models_go_from_one_vm_to_the_other():
    """Steps are stored as a power of two: a float32 VM writes too few digits of a small number."""
    for most in (1e-6, 0.3, 3e4, 1e9, 1e30):
        rows = Rows(["x"], [("x", 0, 99999, lambda x, k, most=most: x * most)])
        detector = Detector(["x"], LIMITS)
        judged(detector, rows, TRAIN + 1)
        model = detector.save()
        text = json.loads(model[16 : 16 + struct.unpack("<H", model[6:8])[0]])
        assert type(text["signals"][0][0]) is int
        other = Detector(["x"], LIMITS)
        assert other.load(model) == "" and other.signals[0].per_unit == detector.signals[0].per_unit
