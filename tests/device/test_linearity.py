"""The converter's table from a pure sine: converters of known, smooth non-linearity, computed and sampled.

Characteristics are exponentials and roots, not the polynomials that the step is made of; their harmonics come from
sums over a cycle.
"""

import asyncio
import math
import random

from gridnode.calibrating import Refused, linearity
from gridnode.meters import ct
from gridnode.setup import calibration, judge
from synth import PROFILE, SPEC, Mains

TIMEOUT_S = 120
HEAP_KW = 1024

ORDERS = 15
BIAS_MV, AMPLITUDE_MV = 1300.0, 950.0
LINE = [1000 * (142 + 0.806 * 32 * k) for k in range(129)]  # uV, of a converter that is straight


def near(got, want, tolerance):
    assert got is not None and abs(got - want) <= tolerance, (got, want)


# What a converter reads, in mV, of so many: each deviates by some 10 to 20 mV over the sine.
def saturating(mv):
    return mv + 400 * (math.exp(-((mv - 300) / 900)) - 0.4) / 8


def rooted(mv):
    return mv + 60 * math.sqrt(max(0.0, mv) / 400)


def bowed(mv):
    x = (mv - 1500) / 1200
    return mv + 18 / (1 + 2 * x * x)


CONVERTERS = (saturating, rooted, bowed)


def sine_of(converter, amplitude=AMPLITUDE_MV, harmonics=(), points=180):
    """Phasors of the orders 1 to 15 of what a converter makes of a sine, in mV, by sums over a cycle.

    harmonics: (order, ratio, degrees) of the sine itself.
    """
    values = []
    for n in range(points):
        a = 2 * math.pi * n / points
        x = math.cos(a)
        for order, ratio, degrees in harmonics:
            x += ratio * math.cos(order * a + math.radians(degrees))
        values.append(converter(BIAS_MV + amplitude * x))
    found = []
    for h in range(1, ORDERS + 1):
        re = im = 0.0
        for n, value in enumerate(values):
            a = 2 * math.pi * h * n / points
            re += value * math.cos(a)
            im -= value * math.sin(a)
        found.append((2 * re / points, 2 * im / points))
    return found, sum(values) / points


def turned(phasors, degrees):
    """The same wave so much later in its cycle."""
    made = []
    for h, (re, im) in enumerate(phasors, 1):
        c, s = math.cos(math.radians(h * degrees)), math.sin(math.radians(h * degrees))
        made.append((re * c - im * s, re * s + im * c))
    return made


def listened(phasors, blocks=12):
    """Harmonics of blocks that each begin elsewhere in the cycle."""
    found = linearity.Harmonics(ORDERS)
    for n in range(blocks):
        found.add(turned(phasors, 77 * n))
    return found


def deviation(table, converter, amplitude=AMPLITUDE_MV):
    """Largest and rms deviation from its best line, in mV, of what a table makes of a converter's counts.

    A count stands for what LINE says of it: a converter that reads m of x gives the count of m.
    """
    xs, ys = [], []
    for n in range(201):
        x = BIAS_MV + amplitude * (n / 100 - 1)
        place = (converter(x) - 142) / 0.806 / 32
        k = int(place)
        xs.append(x)
        ys.append((table[k] + (place - k) * (table[k + 1] - table[k])) / 1000)
    count = len(xs)
    mx, my = sum(xs) / count, sum(ys) / count
    slope = sum([(x - mx) * (y - my) for x, y in zip(xs, ys)]) / sum([(x - mx) ** 2 for x in xs])
    rest = [y - my - slope * (x - mx) for x, y in zip(xs, ys)]
    return max([abs(d) for d in rest]), math.sqrt(sum([d * d for d in rest]) / count)


def test_harmonics_in_phase_and_across():
    """A wave of known harmonics: 3rd in phase, 5th across, at any place in the cycle."""
    phasors = [(0.0, 0.0)] * ORDERS
    phasors[0], phasors[2], phasors[4] = (900.0, 0.0), (9.0, 0.0), (0.0, 4.0)
    found = linearity.Harmonics(ORDERS)
    for degrees in (0, 33, 100, 211, 359):
        found.add(turned(phasors, degrees))
    found.add([(0.0, 0.0)] * ORDERS)  # without a voltage nothing is said
    assert found.count == 5
    amplitude, along, across = found.means()
    near(amplitude, 900, 1e-2)
    for h in range(2, ORDERS + 1):
        near(along[h], 9 if h == 3 else 0, 1e-3)
        near(across[h], 4 if h == 5 else 0, 1e-3)
    near(linearity.impurity(amplitude, across), 100 * 4 / 900, 1e-4)
    near(linearity.impurity(amplitude, along), 1, 1e-4)
    assert linearity.Harmonics(ORDERS).means()[0] == 0 and linearity.impurity(0, [0] * 16) == 100


def test_polynomials_by_the_cosine():
    for h in range(2, ORDERS + 1):
        coefficients = [0.0] * (h + 1)
        coefficients[h] = 2.5
        for n in range(-10, 11):
            x = n / 10
            near(linearity.chebyshev(coefficients, x), 2.5 * math.cos(h * math.acos(x)), 2e-4)
        near(linearity.chebyshev(coefficients, 1.7), 2.5, 1e-4)
        near(linearity.chebyshev(coefficients, -3), 2.5 if h % 2 == 0 else -2.5, 1e-4)


def test_the_table_takes_off_what_the_converter_has_added():
    old = [int(x) for x in LINE]
    for converter in CONVERTERS:
        phasors, level = sine_of(converter)
        new, largest = linearity.table(old, level, listened(phasors), 0.15)
        assert len(new) == 129
        before, after = deviation(old, converter), deviation(new, converter)
        assert before[0] > 3, (converter, before)
        assert after[0] < before[0] / 10 and after[1] < before[1] / 10, (converter, before, after)
        # The largest step is of the size of what was wrong (the line is free).
        assert before[0] / 2 < largest < 4 * before[0], (largest, before)
        # The distortion that is left, measured again through the new table.
        again, _ = sine_of(lambda mv, new=new, converter=converter: through(new, converter(mv)))
        left = listened(again).means()
        assert linearity.impurity(left[0], left[1]) < distortion(phasors) / 10, (converter, left)


def through(table, mv):
    """What a table makes of a count that stood for `mv`."""
    place = (mv - 142) / 0.806 / 32
    k = int(place)
    return (table[k] + (place - k) * (table[k + 1] - table[k])) / 1000


def distortion(phasors):
    amplitude, along, _ = listened(phasors).means()
    return linearity.impurity(amplitude, along)


def test_a_second_pass_goes_on_from_the_first():
    old = [int(x) for x in LINE]
    for converter in CONVERTERS:
        phasors, level = sine_of(converter)
        first, _ = linearity.table(old, level, listened(phasors), 0.15)
        phasors, level = sine_of(lambda mv, first=first, converter=converter: through(first, converter(mv)))
        second, largest = linearity.table(first, level, listened(phasors), 0.15)
        assert largest < 1.5, largest
        assert deviation(second, converter)[1] < deviation(old, converter)[1] / 10


def test_a_straight_converter_keeps_its_table():
    old = [int(x) for x in LINE]
    phasors, level = sine_of(lambda mv: mv)
    new, largest = linearity.table(old, level, listened(phasors), 0.15)
    assert largest < 0.02 and max([abs(a - b) for a, b in zip(old, new)]) < 100, largest  # 0.1 mV


def test_an_impure_sine_is_refused():
    old = [int(x) for x in LINE]
    for harmonics in (((3, 0.01, 90),), ((5, 0.02, 60),), ((2, 0.005, -90), (7, 0.005, 90))):
        phasors, level = sine_of(saturating, harmonics=harmonics)
        try:
            linearity.table(old, level, listened(phasors), 0.15)
        except Refused as e:
            assert e.details["condition"] == "impurity" and e.details["limit"] == 0.15
            across = math.sqrt(sum([(100 * ratio * math.sin(math.radians(d))) ** 2 for _, ratio, d in harmonics]))
            near(e.details["measured"], across, 0.1 * across)
            assert "%.4g" % e.details["measured"] in e.message and "0.15" in e.message, e.message
            continue
        raise AssertionError(harmonics)
    phasors, level = sine_of(saturating, harmonics=((3, 0.001, 90),))
    linearity.table(old, level, listened(phasors), 0.15)


def test_no_voltage_is_refused():
    try:
        linearity.table([int(x) for x in LINE], BIAS_MV, linearity.Harmonics(ORDERS), 0.15)
    except Refused as e:
        assert e.details["condition"] == "impurity"
        return
    raise AssertionError("not refused")


def test_the_table_rises_whatever_the_harmonics_say():
    old = [int(x) for x in LINE]
    random.seed(4)
    for _ in range(20):
        found = linearity.Harmonics(ORDERS)
        found.add([(AMPLITUDE_MV, 0.0)] + [(60 * (random.random() - 0.5), 0.0) for _ in range(ORDERS - 1)])
        new, _ = linearity.table(old, BIAS_MV, found, 0.15)
        assert all([a <= b for a, b in zip(new, new[1:])]) and len(new) == 129
        assert all([isinstance(x, int) for x in new])
        document = {"version": 2, "meters": {"main": {"adc_table": new}}}
        judge.check(document)


def test_beyond_the_sine_the_table_goes_on_straight():
    old = [int(x) for x in LINE]
    phasors, level = sine_of(bowed)
    new, _ = linearity.table(old, level, listened(phasors), 0.15)
    below = [a - b for a, b in zip(new, old)][:3]
    above = [a - b for a, b in zip(new, old)][-20:]
    for steps in (below, above):
        assert max(steps) - min(steps) <= 2, steps


# -- with the clamp meter over its simulated converter


class Bowed(Mains):
    """Mains over a converter that is not straight; the sine may be impure."""

    def read(self, phase, current):
        count = super().read(phase, current) + random.random() - 0.5
        x = (count - 1400) / 1300
        return int(count + 24 / (1 + 2 * x * x) + 0.5)


def counts(mv):
    """Bowed's counts, as the mV that LINE makes of them."""
    count = (mv - 142) / 0.806
    x = (count - 1400) / 1300
    return 142 + 0.806 * (count + 24 / (1 + 2 * x * x))


def meter(mains, entry):
    m = ct.Meter(SPEC, dict(PROFILE, meters=[SPEC]), mains, mains)
    return m, calibration.put(m, SPEC, {"version": 2, "meters": {"main": entry}})


def feed(windows, m, correction):
    blocks = 0
    while not windows.full:
        windows.add(correction.correct(asyncio.run(m.block())))
        blocks += 1
        assert blocks < 100, "never full"


RULES = {"calibration": {"conditions": {"linearity": {"windows": 2, "most": 3, "window_s": 1}}}}


def begun(mains, entry):
    random.seed(6)
    m, correction = meter(mains, entry)
    found = linearity.Linearity("linearity", m, SPEC, dict(PROFILE, **RULES))
    feed(found.windows, m, correction)
    found.examine()
    return found


def test_the_clamp_meter_straightens_its_converter():
    entry = {"adc_table": [int(x) for x in LINE], "voltage": [{"gain": 1.0}]}
    mains = Bowed(230, 0)
    found = begun(mains, entry)
    new = found.compute(entry, {})
    assert entry["adc_table"] == [int(x) for x in LINE] and new["voltage"] == [{"gain": 1.0}]
    m, correction = meter(mains, new)
    feed(found.retry(m), m, correction)
    record = found.prove()[0]
    before, after = record["before_percent"]["nonlinearity"], record["after_percent"]["nonlinearity"]
    assert before > 0.3 and after < before / 10, (before, after)
    amplitude = 230 * 2.9 * math.sqrt(2)
    was, now = deviation(entry["adc_table"], counts, amplitude), deviation(new["adc_table"], counts, amplitude)
    assert was[0] > 3 and now[1] < was[1] / 10 and now[0] < was[0] / 8, (was, now)
    assert (record["step"], record["phase"]) == ("linearity", 0) and record["windows"] == 2
    near(record["load"]["voltage"], 230, 4)


def test_the_clamp_meter_refuses_an_impure_source():
    entry = {"adc_table": [int(x) for x in LINE]}
    found = begun(Bowed(230, 0, distortion=((5, 0.02, 50), (7, 0.01, 20))), entry)
    try:
        found.compute(entry, {})
    except Refused as e:
        assert e.details["condition"] == "impurity" and e.details["measured"] > 0.5, e.details
        return
    raise AssertionError("not refused")


def test_a_table_that_made_it_worse_is_not_proven():
    entry = {"adc_table": [int(x) for x in LINE]}
    mains = Mains(230, 0)
    found = begun(mains, entry)
    new = found.compute(entry, {})
    # Between the measurement and the proof the converter has become another.
    m, correction = meter(Bowed(230, 0), new)
    feed(found.retry(m), m, correction)
    try:
        found.prove()
    except Refused as e:
        assert e.code == "unproven" and "the old one stays" in e.message
        return
    raise AssertionError("not refused")
