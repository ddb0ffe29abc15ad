"""Self-checks without a reference: each with its cause and without it, and every wrong wiring of three clamps.

A panel is computed with complex numbers; what is suggested is carried out as the field command that it is, and the
panel must then read right.
"""

import math

from gridnode import reading as r
from gridnode.calibrating import checks, field
from gridnode.calibrating.evidence import Evidence
from gridnode.setup import calibration, judge
from gridnode.trim import Phase, Trim

TIMEOUT_S = 120
HEAP_KW = 512

RATING, NOMINAL = 60, 230
ORDERS = ((0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1))
LIKELY = (-20, -7, 0, 12, 25, 37)  # degrees that most loads have


def phasor(size, degrees):
    return size * complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


class Panel:
    """Three phases (or fewer) and their clamps. wiring: phase that each input's clamp is on; turned: which look the
    other way."""

    def __init__(self, lags, amperes=20.0, wiring=(0, 1, 2), turned=(), volts=230.0, apart=True, load_only=True):
        n = len(lags)
        self.lags = lags
        self.amperes = amperes if isinstance(amperes, (list, tuple)) else [amperes] * n
        self.wiring = wiring[:n]
        self.turned = turned
        self.volts = volts if isinstance(volts, (list, tuple)) else [volts] * n
        spec = {
            "id": "main",
            "driver": "ct",
            "voltage": [{"mv_per_v": 2.9} for _ in range(n if apart else 1)],
            "current": [{"ratio": 2000} for _ in range(n)],
        }
        self.document = {"version": 2, "meters": {}}
        self.profile = {
            "nominal": {"voltage": NOMINAL, "frequency": 50},
            "rating": {"current": RATING},
            "calibration": {"load_only": load_only},
            "meters": [spec],
        }

    def channels(self):
        return self.document["meters"].get("main", {}).get("current", [])

    def means(self, names=("voltage", "current", "power", "reactive_power")):
        """What the meter reads, corrected by the calibration."""
        order = self.document["meters"].get("main", {}).get("order") or [1, 2, 3]
        found = []
        for k in range(len(self.lags)):
            n = order[k] - 1
            phase = self.wiring[n]
            i = phasor(self.amperes[phase], -120 * phase - self.lags[phase])
            if n in self.turned:
                i = -i
            if n < len(self.channels()) and self.channels()[n].get("reversed"):
                i = -i
            s = phasor(self.volts[k], -120 * k) * complex(i.real, -i.imag)
            values = zip(("voltage", "current", "power", "reactive_power"), (self.volts[k], abs(i), s.real, s.imag))
            found.append({name: value for name, value in values if name in names})
        return found

    def suggestions(self, wrong_way=False, **more):
        profile = dict(self.profile)
        profile["meters"] = [dict(self.profile["meters"][0])]
        calibration.install(profile, self.document)
        spec = profile["meters"][0]
        order = spec.get("order", [1, 2, 3])
        turned = [
            bool(n <= len(self.channels()) and self.channels()[n - 1].get("reversed")) for n in order[: len(self.lags)]
        ]
        return checks.examine(self.means(**more), spec, profile, wrong_way, turned)

    def carry_out(self, suggestions):
        """Carry out what is suggested, in its order."""
        for one in suggestions:
            if one["command"]:
                profile = dict(self.profile)
                profile["meters"] = [dict(self.profile["meters"][0])]
                calibration.install(profile, self.document)
                field.change(self.document, profile, dict(one["command"], meter="main"))
        judge.check(dict(self.document, version=2))

    def is_right(self):
        """Whether each phase reads the load that it has."""
        for k, values in enumerate(self.means()):
            s = self.volts[k] * self.amperes[k]
            if abs(values["power"] - s * math.cos(math.radians(self.lags[k]))) > 1e-3 * s:
                return False
            if abs(values["reactive_power"] - s * math.sin(math.radians(self.lags[k]))) > 1e-3 * s:
                return False
        return True


def kinds(found):
    return [(one["check"], one["phase"]) for one in found]


def only(found, check, phase):
    """The one suggestion, which must be this."""
    assert kinds(found) == [(check, phase)], found
    return found[0]


# -- a panel that is right


def test_a_panel_that_is_right_has_no_suggestion():
    for lag in (-49, -30, 0, 20, 45, 74):
        for count in (1, 2, 3):
            for apart in (True, False):
                assert Panel([lag] * count, apart=apart).suggestions() == []
    for lags in ((0, 60, -30), (74, -49, 0), (40, 40, -40)):
        for amperes in (2, 20, [60, 2, 30], [0, 0, 0]):
            assert Panel(lags, amperes).suggestions() == [], (lags, amperes)
    for volts in (180, 200, 230, 260, 280):
        assert Panel([0, 10, 20], volts=volts).suggestions() == []


# -- wrong wirings of three clamps


def test_every_wiring_is_undone_exactly_or_left_alone():
    """All 6 orders and 8 directions, over loads of any mixture of likely angles: never a wrong command."""
    told = untold = 0
    for a in LIKELY:
        for b in LIKELY:
            for c in (a, b, LIKELY[(LIKELY.index(a) + 2) % 6]):
                for wiring in ORDERS:
                    for mask in range(8):
                        panel = Panel([a, b, c], wiring=wiring, turned=[n for n in range(3) if mask >> n & 1])
                        found = panel.suggestions()
                        if wiring == ORDERS[0] and not mask:
                            assert not found, (a, b, c, found)
                            continue
                        assert not [one for one in found if one["check"] not in ("ct_reversed", "ct_wrong_phase")]
                        if found:
                            told += 1
                            panel.carry_out(found)
                            assert panel.is_right(), ((a, b, c), wiring, mask, found)
                            assert panel.suggestions() == []
                        else:
                            untold += 1
    assert told > untold / 3, (told, untold)


def test_one_mistake_is_found_at_ordinary_loads():
    """One or two clamps the other way, or two exchanged, where the loads are nearly resistive."""
    for lags in ((0, 0, 0), (5, 5, 5), (0, 9, 4), (9, 0, 9), (-5, 3, -9)):
        for n in range(3):
            panel = Panel(lags, turned=[n])
            one = only(panel.suggestions(), "ct_reversed", n + 1)
            assert one["command"] == {"command": "ct_direction", "phase": n + 1, "value": -1}
            panel.carry_out([one])
            assert panel.is_right()
        for wiring in ORDERS[1:4]:
            panel = Panel(lags, wiring=wiring)
            one = only(panel.suggestions(), "ct_wrong_phase", 0)
            panel.carry_out([one])
            assert panel.is_right(), (lags, wiring, one)
        for n in (0, 1):
            panel = Panel(lags, turned=[n, 2])
            assert kinds(panel.suggestions()) == [("ct_reversed", n + 1), ("ct_reversed", 3)]


def test_clamps_all_on_the_next_phase():
    """One angle would as well be that of three reversed clamps: 60 degrees on the far side of those of loads."""
    for wiring, lags in ((ORDERS[4], (0, 3, 5)), (ORDERS[5], (20, 25, 30))):
        panel = Panel(lags, wiring=wiring)
        one = only(panel.suggestions(), "ct_wrong_phase", 0)
        panel.carry_out([one])
        assert panel.is_right(), (wiring, one)


def test_an_exchange_and_a_reversal_together():
    panel = Panel((0, 5, 10), wiring=(1, 0, 2), turned=[0])
    found = panel.suggestions()
    assert sorted([one["check"] for one in found]) == ["ct_reversed", "ct_wrong_phase"], found
    panel.carry_out(found)
    assert panel.is_right(), found
    for one in found:
        assert one["check"] != "ct_wrong_phase" or "L2, L1, L3" in one["evidence"], one


def test_loads_of_unlikely_angles_are_left_alone():
    """At PF 0.4 a wiring cannot be told from others: nothing is suggested for a single mistake."""
    for lags in ((66, 66, 66), (70, 60, 65), (-45, -45, -45)):
        for mask in range(1, 8):
            panel = Panel(lags, turned=[n for n in range(3) if mask >> n & 1])
            found = panel.suggestions()
            if found:
                panel.carry_out(found)
            assert not found or panel.is_right(), (lags, mask, found)


def test_a_wiring_is_found_again_on_top_of_a_calibration():
    """The clamps have an order and directions from before; then somebody has changed them."""
    told = 0
    for order in ([2, 1, 3], [3, 1, 2]):
        for flags in ((False, True, False), (True, True, True)):
            for wiring in ORDERS:
                for mask in (0, 1, 4, 6):
                    panel = Panel((0, 8, 15), wiring=wiring, turned=[n for n in range(3) if mask >> n & 1])
                    channels = [{"reversed": flag, "gain": 1.0} for flag in flags]
                    panel.document["meters"]["main"] = {"order": list(order), "current": channels}
                    was_right = panel.is_right()
                    found = panel.suggestions()
                    if found:
                        told += 1
                        panel.carry_out(found)
                        assert panel.is_right(), (order, flags, wiring, mask, found)
                    assert not (found and was_right)
    assert told > 20, told


def test_a_clamp_that_is_taken_for_reversed_and_is_not_any_more():
    for lags, count in (((10,), 1), ((10, 0, 5), 3)):
        panel = Panel(lags)
        panel.document["meters"]["main"] = {"current": [{"reversed": True}] + [{} for _ in range(count - 1)]}
        one = only(panel.suggestions(), "ct_reversed", 1)
        assert one["command"]["value"] == 1
        panel.carry_out([one])
        assert panel.is_right()


def test_three_clamps_with_a_phase_that_carries_nothing():
    """Without its angle an exchange cannot be told; a reversal can, and nothing wrong is said."""
    for idle in range(3):
        amperes = [20.0] * 3
        amperes[idle] = 0.5
        for a in LIKELY:
            for b in LIKELY:
                lags = [a, b, a]
                for wiring in ORDERS:
                    for mask in range(8):
                        panel = Panel(lags, amperes, wiring, [n for n in range(3) if mask >> n & 1])
                        found = panel.suggestions()
                        for one in found:
                            assert one["check"] == "ct_reversed", one
                            n = one["phase"] - 1
                            assert wiring[n] == n and mask >> n & 1, (lags, wiring, mask, found)
    panel = Panel((0, 0, 0), [20.0, 20.0, 0.5], turned=[1])
    only(panel.suggestions(), "ct_reversed", 2)
    assert Panel((0, 0, 0), [0.5, 0.5, 0.5], turned=[1]).suggestions() == []


# -- one and two clamps


def test_a_single_clamp_that_looks_the_other_way():
    for lag in (-20, 0, 15, 37):
        panel = Panel([lag], turned=[0])
        one = only(panel.suggestions(), "ct_reversed", 1)
        assert one["command"] == {"command": "ct_direction", "phase": 1, "value": -1}
        assert "%.0f W" % panel.means()[0]["power"] in one["evidence"] and "20 A" in one["evidence"], one
        panel.carry_out([one])
        assert panel.is_right()


def test_a_single_clamp_on_another_phase_is_not_taken_for_reversed():
    """At the angles of most loads; no order could put it right."""
    for lag in LIKELY:
        for off in (120, -120):
            assert Panel([lag + off]).suggestions() == [], (lag, off)


def test_a_meter_without_reactive_power_that_reads_negative():
    names = ("voltage", "current", "power")
    assert Panel([0]).suggestions(names=names) == [] and Panel([60]).suggestions(names=names) == []
    only(Panel([0], turned=[0]).suggestions(names=names), "ct_reversed", 1)
    only(Panel([30], turned=[0]).suggestions(names=names), "ct_reversed", 1)
    assert Panel([60], turned=[0]).suggestions(names=names) == []  # or 120: one cannot know
    assert Panel([0], 0.5, turned=[0]).suggestions(names=names) == []


def test_two_outlets_of_one_voltage():
    for mask in range(1, 4):
        panel = Panel([0, 20], apart=False)
        panel.volts = [230.0, 230.0]
        means = panel.means()
        # The second clamp sees the same phase: an outlet beside the other.
        s = phasor(230 * 20, 20)
        means[1].update({"power": s.real, "reactive_power": s.imag})
        for n in range(2):
            if mask >> n & 1:
                means[n]["power"] = -means[n]["power"]
                means[n]["reactive_power"] = -means[n]["reactive_power"]
        found = checks.examine(means, panel.profile["meters"][0], panel.profile)
        assert kinds(found) == [("ct_reversed", n + 1) for n in range(2) if mask >> n & 1], found
        panel.carry_out(found)
        flags = [bool(one.get("reversed")) for one in panel.channels()] + [False]
        assert flags[:2] == [bool(mask >> n & 1) for n in range(2)], panel.document


# -- places that may export


def test_where_power_may_be_exported_no_direction_is_suggested():
    for lags in ([180], [180, 180, 180], [0, 180, 0], [150, 170, -170]):
        assert Panel(lags, load_only=False).suggestions() == []  # PV at noon
    for wiring in ORDERS:
        for mask in range(8):
            panel = Panel([0, 10, 20], wiring=wiring, turned=[n for n in range(3) if mask >> n & 1], load_only=False)
            assert panel.suggestions() == []
    panel = Panel([180])
    del panel.profile["calibration"]
    assert panel.suggestions() == [], "a profile that tells nothing"
    only(Panel([180]).suggestions(), "ct_reversed", 1)


def test_other_checks_hold_where_power_may_be_exported():
    only(Panel([180, 180, 180], volts=[230, 230, 0], load_only=False).suggestions(), "dead_input", 3)


# -- dead inputs, ratios, zero, sequence


def test_a_dead_voltage_input():
    for phase in range(3):
        volts = [230.0] * 3
        volts[phase] = 0.3
        one = [x for x in Panel([0, 0, 0], volts=volts).suggestions() if x["check"] == "dead_input"]
        assert kinds(one) == [("dead_input", phase + 1)] and one[0]["command"] is None
        text = one[0]["evidence"]
        assert text.startswith("L%d reads 0.3" % (phase + 1)) and "230" in text and "voltage" in text, text
    assert Panel([0, 0, 0], volts=[230, 230, 100]).suggestions() == [
        x for x in Panel([0, 0, 0], volts=[230, 230, 100]).suggestions() if x["check"] == "vt_ratio"
    ]
    # A supply that is off altogether is no fault of an input, and one phase has no other to compare with.
    assert Panel([0, 0, 0], 0, volts=0).suggestions() == [] and Panel([0], 0, volts=0).suggestions() == []


def test_a_dead_current_input():
    for phase in range(3):
        amperes = [20.0] * 3
        amperes[phase] = 0.0
        one = only(Panel([0, 0, 0], amperes).suggestions(), "dead_input", phase + 1)
        assert "current" in one["evidence"] and "20" in one["evidence"] and one["command"] is None
        amperes[phase] = 0.1
        assert Panel([0, 0, 0], amperes).suggestions() == [], "a little is not dead"
        assert Panel([0, 60, -30], amperes).suggestions() == []
    assert Panel([0, 0, 0], [0.0, 2.0, 20.0]).suggestions() == [], "the others have not much either"


def test_a_ratio_of_the_voltage_that_cannot_be():
    for volts, like in ((398.4, "phases"), (132.7, "connection"), (460.0, "twice"), (115.0, "half"), (300.0, "")):
        one = only(Panel([0], volts=volts).suggestions(), "vt_ratio", 1)
        assert "%.4g V" % volts in one["evidence"] and "%.3g times" % (volts / 230) in one["evidence"], one
        assert like in one["evidence"] and one["command"] is None
        if not like:
            assert "like" not in one["evidence"]
    found = Panel([0, 0, 0], volts=[230, 400, 230]).suggestions()
    assert kinds(found) == [("vt_ratio", 2)], found
    for volts in (175, 230, 285):
        assert Panel([0], volts=volts).suggestions() == []


def test_a_nominal_voltage_of_the_field():
    panel = Panel([0], volts=120.0)
    only(panel.suggestions(), "vt_ratio", 1)
    panel.document["nominal"] = {"voltage": 120}
    assert panel.suggestions() == []


def test_a_ratio_of_the_current_that_cannot_be():
    one = only(Panel([0], 95.0).suggestions(), "ct_ratio", 1)
    assert "95 A" in one["evidence"] and "60 A" in one["evidence"] and one["command"] is None
    assert kinds(Panel([0, 0, 0], [20, 200, 20]).suggestions()) == [("ct_ratio", 2)]
    assert Panel([0], 85.0).suggestions() == []


def means(volts, amperes, power, reactive):
    return [{"voltage": volts, "current": amperes, "power": power, "reactive_power": reactive}]


def zero(volts, amperes, power, reactive):
    panel = Panel([0])
    return checks.examine(means(volts, amperes, power, reactive), panel.profile["meters"][0], panel.profile)


def test_a_zero_that_has_drifted():
    for p, q in ((25.0, 0.0), (-25.0, 0.0), (0.0, 25.0), (18.0, -18.0)):
        for amperes in (0.0, 0.05):
            one = only(zero(230.0, amperes, p, q), "zero_drift", 1)
            assert "25" in one["evidence"] and "%.3g A" % amperes in one["evidence"] and one["command"] is None, one
    only(zero(None, 0.0, 25.0, None), "zero_drift", 1)
    assert zero(230.0, 0.0, 12.0, 12.0) == []  # less than 0.15 % of 13.8 kVA
    assert zero(230.0, 0.0, 0.0, 0.0) == []
    for amperes in (0.09, 0.11, 0.119, 0.13, 0.2):
        assert zero(230.0, amperes, 230 * amperes, 0.0) == [], "a small load"
        assert zero(230.0, amperes, 0.0, -230 * amperes) == []
    assert zero(230.0, 0.13, 60.0, 0.0) == [], "a load all the same"
    assert zero(230.0, None, None, None) == []


def test_a_wrong_sequence_is_told_alone():
    assert kinds(Panel([0, 0, 0], wiring=(1, 0, 2)).suggestions()) == [("ct_wrong_phase", 0)]
    found = Panel([0, 0, 0], wiring=(1, 0, 2)).suggestions(wrong_way=True)
    one = only(found, "sequence", 0)
    assert one["command"] is None and "L1, L3, L2" in one["evidence"]
    found = Panel([0, 0, 0], volts=[230, 0, 230]).suggestions(wrong_way=True)
    assert kinds(found) == [("sequence", 0), ("dead_input", 2)]


def test_values_that_are_missing():
    panel = Panel([0, 0, 0])
    spec, profile = panel.profile["meters"][0], panel.profile
    for found in ([{}, {}, {}], [{"voltage": 230.0}] * 3, [{"voltage": 230.0, "current": 20.0}] * 3):
        assert checks.examine(found, spec, profile) == []
    partly = panel.means()
    partly[1] = {"voltage": 230.0}
    assert checks.examine(partly, spec, profile) == []


# -- gathering


class Meter:
    id = "main"

    def __init__(self, phases=1):
        self.phases = phases
        self.reading = r.Reading("main", phases)


def taken(panel, count=20, flags=(), spoil=None, meter=None, trim=None, often=2):
    """Evidence of so many readings; flags: of `often` of three of them."""
    meter = meter or Meter(len(panel.lags))
    evidence = Evidence(meter, panel.profile["meters"][0], panel.profile, trim)
    for n in range(count):
        x = r.Reading("main", meter.phases)
        for k, values in zip(x.each(), panel.means()):
            x.at[k].update(values)
        x.flags = flags if n % 3 < often else ()
        if spoil and n % 2:
            x.spoil(1, "power", spoil)
        x.derive()
        evidence.add(x)
    return evidence


def test_evidence_is_full_after_some_readings_that_count():
    panel = Panel((0, 0, 0), turned=[1])
    assert not taken(panel, 19).full and taken(panel, 20).full
    evidence = taken(panel, 39, spoil="saturated")
    assert evidence.full and not taken(panel, 38, spoil="saturated").full
    one = only(evidence.suggestions(), "ct_reversed", 2)
    assert one["meter"] == "main"
    full = taken(panel, 20)
    panel.turned = ()
    x = r.Reading("main", 3)
    x.at[1]["power"] = 1e9
    full.add(x)  # too late
    only(full.suggestions(), "ct_reversed", 2)


def test_evidence_takes_means():
    """Half of the time the load is another one."""
    evidence = taken(Panel((0, 0, 0)), 10)
    other = taken(Panel((0, 0, 0), turned=[2]), 10)
    assert evidence.suggestions() == []
    only(other.suggestions(), "ct_reversed", 3)


def test_evidence_of_a_wrong_sequence():
    panel = Panel((0, 0, 0))
    only(taken(panel, flags=("sequence",)).suggestions(), "sequence", 0)
    assert taken(panel, flags=("sequence",), often=1).suggestions() == []
    assert taken(panel, flags=("sag_v1",)).suggestions() == []


def test_evidence_knows_which_clamps_are_taken_for_reversed():
    trim = Trim([None, Phase(reversed=True), None])
    assert taken(Panel((0, 0, 0)), trim=trim).suggestions() == []
    for turned, value in (([1], 1), ([0], -1), ([2], -1)):
        found = taken(Panel((0, 0, 0), turned=turned), trim=trim).suggestions()
        assert only(found, "ct_reversed", turned[0] + 1)["command"]["value"] == value


def test_a_bias_that_has_drifted():
    """Of a clamp meter: what its converter reads without a signal."""

    class Clamps(Meter):
        orders = 15

    panel = Panel([0])
    panel.profile["meters"][0]["voltage"][0]["bias_mv"] = 1300
    meter = Clamps()

    class Word:
        words = 0

    meter._volts = [Word()]
    meter._table = []
    for level, drifted in ((1300, False), (1370, False), (1385, True), (1200, True)):
        meter._parameters = [level * 4096]
        found = taken(panel, meter=meter).suggestions()
        if drifted:
            one = only(found, "zero_drift", 1)
            assert "%d mV" % level in one["evidence"] and "1300 mV" in one["evidence"], one
        else:
            assert found == []
