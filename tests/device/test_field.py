"""Field commands: ratio, direction, exchanged clamps, nominal values, energy totals."""

import json
import os

from gridnode import documents, energy, reading, storage
from gridnode.calibrating import Refused, field
from gridnode.setup import calibration, judge
from gridnode.setup import energy as energy_setup
from ramdisk import Root, Rtc

TIMEOUT_S = 60
HEAP_KW = 512


def profile_of(clamps=3, **channel):
    return {
        "nominal": {"voltage": 230, "frequency": 50},
        "rating": {"current": 60},
        "meters": [
            {
                "id": "main",
                "driver": "ct",
                "voltage": [{"mv_per_v": 2.9}],
                "current": [dict({"adc": 32 + k, "ratio": 2000}, **channel) for k in range(clamps)],
            },
            {"id": "sub", "driver": "atm90e32", "current": [{"shunt_mohm": 1}]},
            {"id": "bus", "driver": "modbus"},
        ],
    }


class Unit:
    """A calibration and the profile that it is installed in."""

    def __init__(self, clamps=3, **channel):
        self.clamps, self.channel = clamps, channel
        self.document = {"version": 2, "meters": {}}

    def profile(self):
        found = profile_of(self.clamps, **self.channel)
        calibration.install(found, self.document)
        return found

    def change(self, command, value=None, phase=None, meter=None):
        request = {"command": command, "value": value, "phase": phase}
        if meter:
            request["meter"] = meter
        record = field.change(self.document, self.profile(), request)
        judge.check(self.document)
        return record

    def refused(self, code, part, *request, **more):
        try:
            self.change(*request, **more)
        except Refused as e:
            assert e.code == code and part in e.message, (request, e.code, e.message)
            return
        raise AssertionError((request, more))

    def main(self):
        return self.document["meters"]["main"]

    def pins(self):
        """Pins of the clamps of the phases 1, 2, .."""
        return [channel["adc"] for channel in self.profile()["meters"][0]["current"]]


BAD = (None, "1", "", [], {}, [1], 1.5, float("nan"), float("inf"))


def test_unknown_commands_and_meters():
    unit = Unit()
    for command in ("", "ct", "energy_preset", None, 3):
        unit.refused("invalid", "ct_ratio, ct_direction, phase_swap, nominal, energy_preset", command, 1)
    for command, value in (("ct_ratio", 1000), ("ct_direction", -1), ("phase_swap", 2), ("nominal", {"voltage": 120})):
        unit.refused("meter", "no meter 'x'", command, value, 1, "x")
    assert unit.document == {"version": 2, "meters": {}}


# -- ratio and direction


def test_the_ratio_of_one_clamp_and_of_all():
    unit = Unit()
    record = unit.change("ct_ratio", 1000, 2)
    assert record == {"step": "ct_ratio", "meter": "main", "phase": 2, "value": 1000, "former": [2000]}
    assert unit.main()["current"] == [{}, {"ratio": 1000}]
    assert [channel["ratio"] for channel in unit.profile()["meters"][0]["current"]] == [2000, 1000, 2000]
    record = unit.change("ct_ratio", 1500)
    assert record["phase"] == 0 and record["former"] == [2000, 1000, 2000]
    assert [channel["ratio"] for channel in unit.profile()["meters"][0]["current"]] == [1500] * 3
    json.dumps(record)


def test_ratios_that_cannot_be():
    unit = Unit()
    for value in BAD[:6] + BAD[7:] + (0, 0.9, -1000, 100001, True):
        unit.refused("invalid", "ct_ratio must be 1 to 100000", "ct_ratio", value, 1)
    for value in (1, 100000, 1000.5):
        unit.change("ct_ratio", value, 1)
    for phase in (0, 4, -1, "1", 1.0, True, [1]):
        unit.refused("invalid", "no clamp on phase", "ct_ratio", 1000, phase)
    unit.refused("invalid", "no clamp with a ratio", "ct_ratio", 1000, 1, "sub")
    unit.refused("invalid", "no clamp on phase", "ct_ratio", 1000, None, "bus")
    unit.refused("invalid", "no clamp on phase 2", "ct_ratio", 1000, 2, "sub")


def test_the_direction_of_a_clamp():
    unit = Unit()
    record = unit.change("ct_direction", -1, 3)
    assert record["former"] == [1] and record["value"] == -1 and unit.main()["current"][2] == {"reversed": True}
    assert unit.change("ct_direction", 1, 3)["former"] == [-1]
    assert unit.main()["current"][2] == {"reversed": False}
    assert unit.change("ct_direction", -1)["former"] == [1, 1, 1]
    assert [one["reversed"] for one in unit.main()["current"]] == [True] * 3
    unit.change("ct_direction", -1, 1, "sub")
    assert unit.document["meters"]["sub"]["current"] == [{"reversed": True}]


def test_directions_that_cannot_be():
    unit = Unit()
    for value in BAD + (0, 2, -2, True, False):
        unit.refused("invalid", "ct_direction is 1 or -1", "ct_direction", value, 1)
    for phase in (0, 4, "1", 2.0):
        unit.refused("invalid", "no clamp on phase", "ct_direction", -1, phase)
    unit.refused("invalid", "no clamp on phase", "ct_direction", -1, None, "bus")


def test_what_was_calibrated_stays():
    unit = Unit()
    unit.document["meters"]["main"] = {"current": [{"gain": 1.01}, {"gain": 0.99, "phase_deg": 2.0}]}
    unit.change("ct_ratio", 1000, 2)
    unit.change("ct_direction", -1, 1)
    assert unit.main()["current"] == [
        {"gain": 1.01, "reversed": True},
        {"gain": 0.99, "phase_deg": 2.0, "ratio": 1000},
    ]


# -- exchanged clamps


def test_two_clamps_are_exchanged():
    unit = Unit()
    record = unit.change("phase_swap", 3, 1)
    assert unit.pins() == [34, 33, 32] and unit.main()["order"] == [3, 2, 1]
    assert record["former"] == [1, 2, 3] and record["value"] == [3, 2, 1]
    unit.change("phase_swap", 1, 3)
    assert unit.pins() == [32, 33, 34], "and back"


def test_orders_are_composed():
    """Every pair of exchanges, against a table that is exchanged by hand."""
    pairs = ((1, 2), (2, 3), (1, 3), (2, 1))
    for first in pairs:
        for second in pairs:
            unit, pins = Unit(), [32, 33, 34]
            for a, b in (first, second):
                unit.change("phase_swap", b, a)
                pins[a - 1], pins[b - 1] = pins[b - 1], pins[a - 1]
                assert unit.pins() == pins, (first, second)
    # Whole orders: the clamp of each phase, as the phases are now.
    unit, pins = Unit(), [32, 33, 34]
    for order in ([2, 3, 1], [2, 3, 1], [1, 3, 2], [3, 1, 2]):
        record = unit.change("phase_swap", order)
        pins = [pins[n - 1] for n in order]
        assert unit.pins() == pins and record["value"] == unit.main()["order"], (order, pins)


def test_ratios_and_directions_follow_the_input():
    """The clamp on phase 1 now is input 2."""
    unit = Unit()
    unit.change("phase_swap", 2, 1)
    unit.change("ct_ratio", 1000, 1)
    unit.change("ct_direction", -1, 1)
    assert unit.main()["current"] == [{}, {"ratio": 1000, "reversed": True}]
    unit.change("phase_swap", 2, 1)
    assert [channel["ratio"] for channel in unit.profile()["meters"][0]["current"]] == [2000, 1000, 2000]
    assert unit.change("ct_direction", 1, 2)["former"] == [-1]


def test_exchanges_that_cannot_be():
    unit = Unit()
    for phase, value in ((1, 4), (0, 1), (4, 2), (None, 2), (1, None), ("1", 2), (1, 2.0), (True, 2)):
        unit.refused("invalid", "two of the phases 1 to 3", "phase_swap", value, phase)
    for order in ([1, 2], [1, 1, 2], [1, 2, 4], [0, 1, 2], [], ["1", "2", "3"], [1, 2, None], [1.0, 2.0, 3.0]):
        unit.refused("invalid", "each of the phases 1 to 3 once", "phase_swap", order)
    assert "order" not in unit.main()
    for order in ([1], [2, 1]):
        Unit(1).refused("invalid", "each of the phases", "phase_swap", order)
    Unit(1).refused("invalid", "each of the phases", "phase_swap", 1, 1)
    unit.refused("invalid", "phase_swap", "phase_swap", 2, 1, "bus")
    unit.refused("invalid", "phase_swap", "phase_swap", [2, 1], None, "bus")


def test_front_ends_that_cannot_exchange_are_refused_when_it_is_installed():
    unit = Unit()
    found = profile_of()
    found["meters"][0]["driver"] = "ade7953"
    field.change(unit.document, found, {"command": "phase_swap", "phase": 1, "value": 2})
    try:
        calibration.install(found, unit.document)
    except ValueError as e:
        assert "cannot exchange" in str(e)
        return
    raise AssertionError("not refused")


# -- nominal values


def test_nominal_values():
    unit = Unit()
    record = unit.change("nominal", {"voltage": 120})
    assert record["former"] == {"voltage": 230} and unit.document["nominal"] == {"voltage": 120}
    record = unit.change("nominal", {"frequency": 60, "voltage": 127.5})
    assert record["former"] == {"frequency": 50, "voltage": 120}
    assert unit.profile()["nominal"] == {"voltage": 127.5, "frequency": 60}


def test_nominal_values_that_cannot_be():
    unit = Unit()
    for value in BAD + (230, {"volts": 230}, {"voltage": 230, "x": 1}, True):
        unit.refused("invalid", "nominal takes", "nominal", value)
    for volts in (None, "230", 0, -230, 50001, float("nan"), True, [230]):
        unit.refused("invalid", "nominal voltage must be", "nominal", {"voltage": volts})
    for hertz in (None, "50", 0, 55, 400, 49.99, float("nan"), [50], True):
        unit.refused("invalid", "50 or 60 Hz", "nominal", {"frequency": hertz})
        unit.refused("invalid", "50 or 60 Hz", "nominal", {"voltage": 230, "frequency": hertz})
    assert "nominal" not in unit.document


# -- energy totals


def book(channels=4, rtc=None):
    found = energy.Ledger(channels, 20000, storage.Retained(rtc or Rtc()), 1, "/data/energy.bin")
    for n, total in enumerate(found.total):
        total[:] = 1000000 * (n + 1), 7
    return found


def sums(found):
    return [total[0] for total in found.total]


def logged():
    return documents.load(field.RESETS % "main")[0]


def disk(blocks=64):
    root = Root(blocks)
    with root:
        documents.make_dirs()
    return root


def test_totals_are_set_back_and_the_former_ones_kept():
    with disk():
        found = book()
        record = field.totals(found, "main")
        assert found.total == [[0, 0]] * 8 and found.resets == 1
        assert logged() == record and record["resets"] == 1 and record["meter"] == "main"
        assert record["import_mwh"] == [1000000, 3000000, 5000000, 7000000], record
        assert record["export_mwh"] == [2000000, 4000000, 6000000, 8000000]
        assert record["timestamp"] is None or record["timestamp"] > 1767225600
        found._bump(0, 3600000 * 5)
        record = field.totals(found, "main")
        assert record["import_mwh"][0] == 5 and record["resets"] == found.resets == 2
        before = documents.load(field.RESETS % "main" + ".prev")[0]
        assert before["import_mwh"][0] == 1000000, "the record before it stays, too"


def test_totals_are_preset():
    with disk():
        found = book()
        record = field.totals(found, "main", None, {"import_wh": 123456789, "export_wh": 0})
        assert sums(found) == [123456789000, 0, 3000000, 4000000, 5000000, 6000000, 7000000, 8000000]
        assert record["import_mwh"][0] == 1000000 and found.resets == 1 and logged() == record
        field.totals(found, "main", 2, {"export_wh": 12.345})
        assert sums(found)[4:6] == [5000000, 12345], sums(found)
        field.totals(found, "main", 0, {"import_wh": 1.001})
        assert found.total[0] == [1001, 0], "of the total, with the rest set to nothing"
        assert found.resets == 3


def test_a_preset_survives_a_restart():
    with disk():
        rtc = Rtc()
        found = book(rtc=rtc)
        field.totals(found, "main", 1, {"import_wh": 5000})
        for memory in (rtc, Rtc()):  # a reset, and a power cut
            again = energy.Ledger(4, 20000, storage.Retained(memory), 1, "/data/energy.bin")
            energy_setup.load(again)
            assert sums(again) == sums(found) and again.resets == 1, (sums(again), sums(found))


def test_energy_goes_on_from_a_preset():
    with disk():
        found = book(1)
        field.totals(found, "main", None, {"import_wh": 1000})
        x = reading.Reading("main")
        x.at[0]["power"], x.ms = 3600.0, 1000
        for _ in range(10):
            found.account(x)
        assert found.mwh(0, 0) == 1000000 + 10000


def test_presets_that_cannot_be():
    with disk():
        found = book()
        before = sums(found)

        def refused(part, *more):
            try:
                field.totals(found, "main", *more)
            except Refused as e:
                assert e.code == "invalid" and part in e.message, e.message
                assert sums(found) == before and found.resets == 0 and logged() is None
                return
            raise AssertionError(more)

        for value in (None, "5", -1, -0.001, 1e13, float("nan"), float("inf"), True, [5], {}):
            refused("import_wh must be", None, {"import_wh": value})
            refused("export_wh must be", 1, {"import_wh": 5, "export_wh": value})
        for phase in (4, -1, "1", 1.0, True, [1]):
            refused("of a phase or the total", phase, {"import_wh": 5})
        refused("of a phase or the total", None, {"import": 5})
        refused("of a phase or the total", None, {"import_wh": 5, "x": 1})


def test_a_full_flash_leaves_the_totals_as_they_were():
    root = disk()
    outcomes = []
    image = root.image()
    for left in range(6):
        root.put(image)
        with root:
            found = book()
            found.checkpoint()
            n = 0
            try:
                while True:
                    with open("/data/filler-%d" % n, "wb") as f:
                        f.write(bytes(400))
                    n += 1
            except OSError:
                storage.remove("/data/filler-%d" % n)
            for k in range(left):
                os.remove("/data/filler-%d" % (n - 1 - k))
            before, total = sums(found), [list(one) for one in found.total]
            try:
                field.totals(found, "main", None, {"import_wh": 5})
                outcomes.append(True)
                assert sums(found) == [5000] + before[1:] and found.resets == 1
            except Refused as e:
                assert e.code == "storage" and "stay as they were" in e.message
                outcomes.append(False)
                assert found.total == total and found.resets == 0
            kept = storage.Retained(found.retained._rtc).read(1)
            assert kept == found._pack(found.seq), "RTC memory and the book agree"
    assert outcomes[0] is False and outcomes[-1] is True and outcomes == sorted(outcomes), outcomes


def test_a_preset_is_old_or_new_at_every_power_cut():
    root = disk()
    with root:
        start = book(1)
        start.checkpoint()
    outcomes = set()

    def preset():
        found = energy.Ledger(1, 20000, storage.Retained(Rtc()), 1, "/data/energy.bin")
        found.total = [[1000000, 7], [2000000, 7]]
        field.totals(found, "main", None, {"import_wh": 5})

    for n in root.cuts(preset):
        complete = not root.failed
        with root:
            again = energy.Ledger(1, 20000, storage.Retained(Rtc()), 1, "/data/energy.bin")
            energy_setup.load(again)
            state = sums(again), again.resets
            assert state in (([1000000, 2000000], 0), ([5000, 2000000], 1)), (n, state)
            assert state[1] == 1 or not complete
            outcomes.add((state[1], complete))
            if state[1]:
                assert logged()["import_mwh"] == [1000000], "no preset without its record"
    assert outcomes == {(0, False), (1, False), (1, True)} or outcomes == {(0, False), (1, True)}, outcomes
