"""Windows of a calibration step: medians, outliers, what is no steady load, and how uncertain the median is."""

import math
import random

from gridnode import reading as r
from gridnode.calibrating import Refused, conditions, windows

RATING, NOMINAL = 60, 230
WINDOW_S, BLOCKS = 2, 4  # of 500 ms in a window


class Meter:
    def __init__(self, phases=1, names=("voltage", "current", "power", "reactive_power", "frequency")):
        self.id = "main"
        self.phases = phases
        self.names = names
        self.reading = r.Reading("main", phases)


def block(at, coverage=1.0, phases=1, quality=None, flat=None):
    """A corrected reading; at: (V, A, W, var) for each phase or for all."""
    x = r.Reading("main", phases)
    x.ms, x.covered_ms = 500, 500 * coverage
    for n, k in enumerate(x.each()):
        values = at[n] if isinstance(at[0], tuple) else at
        x.at[k].update(dict(zip(("voltage", "current", "power", "reactive_power"), values)))
    x.at[0].update(flat or {"frequency": 50.0})
    for name in quality or {}:
        x.spoil(0, name, quality[name])
    x.derive()
    return x


def taken(source, step="gain", phases=1, count=None, limit=400, **changes):
    """Windows fed with source(number of the window, number of the block in it) until they are full."""
    rules = conditions.of(step, {"calibration": {"conditions": {step: changes}}})
    w = windows.Windows(Meter(phases), rules, RATING, NOMINAL, count)
    n = 0
    while not w.full:
        made = source(n // BLOCKS, n % BLOCKS)
        w.add(made if isinstance(made, r.Reading) else block(made, phases=phases))
        n += 1
        assert n <= limit, "never full"
    w.blocks = n
    return w


def refused(w, condition):
    try:
        w.result()
    except Refused as e:
        assert e.code == "condition" and e.details["condition"] == condition, (e.message, e.details)
        numbers = [e.details[name] for name in ("measured", "limit")]
        for number in numbers:
            assert "%.4g" % number in e.message, (e.message, number)
        return numbers + [e.message]
    raise AssertionError("not refused")


def near(got, want, tolerance):
    assert abs(got - want) <= tolerance, (got, want)


LOAD = (230.0, 20.0, 4600.0, 0.0)


def scaled(factor):
    """The load with its current changed."""
    return LOAD[0], LOAD[1] * factor, LOAD[2] * factor, 0.0


def test_median():
    for values, middle in (([3], 3), ([9, 1], 5), ([5, 1, 3], 3), ([4.0, -1.0, 2.0, 100.0], 3.0)):
        before = list(values)
        assert windows.median(values) == middle and values == before


def test_a_steady_load_is_done_with_the_windows_that_are_wanted():
    w = taken(lambda n, k: LOAD)
    assert w.blocks == 5 * BLOCKS and w.rejected == 0
    seen = w.result()
    assert (seen.windows, seen.rejected, seen.window_s) == (5, 0, WINDOW_S)
    for name, value in zip(("voltage", "current", "power", "reactive_power"), LOAD):
        near(seen.values[0][name], value, 1e-3)
        near(seen.spread[0][name], 0, 1e-3)
        near(seen.deviation[0][name], 0, 1e-3)
    assert seen.values[0]["frequency"] == 50
    w.add(block(scaled(9)))  # comes too late
    assert w.result().values[0]["current"] == seen.values[0]["current"]


def test_another_count_and_length_of_windows():
    assert taken(lambda n, k: LOAD, count=2).result().windows == 2
    assert taken(lambda n, k: LOAD, "offset").result().windows == 8
    w = taken(lambda n, k: LOAD, windows=3, most=4, window_s=4)
    assert w.result().windows == 3 and w.blocks == 3 * 8, w.blocks


def test_a_steady_load_is_enough_for_each_step_and_its_proof():
    """As the conditions are, without a profile's own."""
    for step in conditions.STEPS:
        wanted = conditions.of(step, {})["windows"]
        for count in (None, 2, wanted // 2):
            w = taken(lambda n, k: (230.0, 0.0, 0.0, 0.0), step, count=count)
            assert w.result().windows == (count or wanted) and w.blocks == (count or wanted) * BLOCKS, (step, count)
        # One outlier is within what each of them allows.
        w = taken(lambda n, k: (232.5 if n == 1 else 230.0, 0.0, 0.0, 0.0), step)
        assert w.result().rejected == 1, step


def test_a_noisy_current_is_measured_for_longer():
    def noisy(size):
        """Windows whose current scatters by a standard deviation of `size`."""
        return lambda n, k: scaled(1 + size * (0.0, 1.0, -1.0, 1.4, -1.4, 0.7, -0.7)[n % 7])

    for size, fine, least, most in (
        (0.0004, 0.04, 5, 5),  # 1.25 * 0.04 % / sqrt(5) is fine
        (0.0008, 0.04, 6, 10),
        (0.0014, 0.04, 15, 15),  # as many as the step takes
        (0.0014, 0.1, 5, 5),
    ):
        seen = taken(noisy(size), "multipoint", fine=fine).result()
        assert least <= seen.windows <= most, (size, fine, seen.windows)
        if seen.windows < 15:
            assert 100 * seen.deviation[0]["current"] / 20 <= fine

    # It is asked of currents that flow: the noise of a phase without load is no matter.
    def idle(n, k):
        return [LOAD, (230.0, 0.1 + (0.004 if n % 2 else 0), 0.0, 0.0), LOAD]

    assert taken(idle, "multipoint", phases=3).result().windows == 5


def test_small_currents_of_clamps_that_share_a_converter_have_longer_windows():
    """Three have a third of the samples each."""

    def turns(amperes, phases=3, orders=7, each=None):
        meter = Meter(phases)
        meter.orders = orders
        w = windows.Windows(meter, conditions.of("gain", {}), RATING, NOMINAL, None, each)
        load = [(230.0, a, 230.0 * a, 0.0) for a in amperes]
        n = 0
        while not w.full:
            w.add(block(load if phases > 1 else load[0], phases=phases))
            n += 1
        assert w.result().window_s == WINDOW_S * (n // 5 // BLOCKS), n
        return n // 5 // BLOCKS

    assert turns((3, 30, 30)) == 3
    assert turns((0, 30, 30)) == 3
    assert turns((30, 30, 30)) == 1
    assert turns((3, 3, 3), orders=0) == 1  # a chip measures all at the same time
    assert turns((3,), phases=1) == 1
    assert turns((3, 30, 3), each=[2]) == 1


def test_a_window_is_the_mean_and_the_result_the_median():
    currents = (20.0, 20.02, 20.01, 20.04, 20.03)
    # Within a window the blocks lie 0.5 A beside each other: that is averaged, not judged.
    seen = taken(lambda n, k: (230.0, currents[n] + (0.5 if k % 2 else -0.5), 4600.0 + n, 0.0)).result()
    near(seen.values[0]["current"], math.sqrt(20.02**2 + 0.25), 1e-4)  # rms, of blocks in turn
    near(seen.values[0]["power"], 4602, 1e-3)
    near(seen.spread[0]["current"], 0.04, 1e-4)
    near(seen.spread[0]["power"], 4, 1e-2)


def test_one_outlier_is_rejected_and_counted():
    for at in range(5):
        w = taken(lambda n, k, at=at: scaled(1.012) if n == at else LOAD)
        seen = w.result()
        assert w.rejected == seen.rejected == 1 and seen.windows == 5, (at, w.rejected)
        assert w.blocks == 6 * BLOCKS
        near(seen.values[0]["current"], 20, 1e-4)
        near(seen.spread[0]["current"], 0, 1e-4)


def test_an_outlier_among_windows_that_scatter():
    factors = (1.0, 1.0005, 1.012, 0.9995, 1.0003, 0.9998)
    w = taken(lambda n, k: scaled(factors[n]))
    seen = w.result()
    assert seen.rejected == 1 and seen.windows == 5
    near(seen.values[0]["current"], 20, 1e-4)
    near(seen.spread[0]["current"], 0.02, 1e-4)


def test_an_outlier_of_any_quantity_takes_its_window_with_it():
    for away in ((232.5, 20.0, 4600.0, 0.0), (230.0, 20.2, 4600.0, 0.0), (230.0, 20.0, 4650.0, 0.0)):
        assert taken(lambda n, k, away=away: away if n == 2 else LOAD).result().rejected == 1, away


def test_an_outlier_of_any_phase_takes_the_window_of_all():
    calm = (LOAD, (231.0, 10.0, 1155.0, 2000.0), (229.0, 40.0, 9160.0, 0.0))
    for phase in range(3):

        def source(n, k, phase=phase):
            found = list(calm)
            if n == 3:
                v, i, p, q = found[phase]
                found[phase] = v, i * 1.012, p * 1.012, q
            return found

        w = taken(source, phases=3)
        seen = w.result()
        assert seen.rejected == 1, phase
        for k in range(3):
            near(seen.values[k + 1]["current"], calm[k][1], 1e-4)
        near(seen.values[0]["power"], 4600 + 1155 + 9160, 0.1)  # totals come along


def test_two_outliers_are_allowed_and_three_are_no_steady_load():
    assert taken(lambda n, k: scaled(1.012) if n in (1, 4) else LOAD).result().rejected == 2
    w = taken(lambda n, k: scaled(1.012) if n in (1, 3, 6) else LOAD)
    measured, limit, message = refused(w, "windows")
    assert (measured, limit) == (3, 2), message


def test_a_load_that_jumps_about_has_too_few_windows():
    levels = (1.0, 1.004, 1.012, 1.008, 1.0, 1.012, 1.016, 1.004)
    w = taken(lambda n, k: scaled(levels[n % 8]))
    assert w.blocks <= 8 * BLOCKS
    try:
        w.result()
    except Refused as e:
        assert e.details["condition"] in ("windows", "steady")
        return
    raise AssertionError("not refused")


def test_a_load_that_is_switched_is_refused_with_the_change():
    for at in (1, 2, 3, 4):
        for factor in (1.5, 0.5, 0.9, 0.0):
            w = taken(lambda n, k, at=at, factor=factor: scaled(factor) if n >= at else LOAD)
            measured, limit, message = refused(w, "steady")
            assert "current moved" in message, message
            near(measured, 20 * abs(factor - 1), 1e-3)
            most = max(20, 20 * factor) * 0.005 + 0.012  # 0.5 % and 0.02 % of the rating
            assert limit <= most + 1e-4, (limit, most)


def test_a_load_that_is_switched_within_the_last_window_is_refused():
    w = taken(lambda n, k: scaled(1.5) if n == 4 and k >= 2 else LOAD)
    refused(w, "steady")


def test_a_load_that_is_switched_for_a_moment_is_refused():
    refused(taken(lambda n, k: scaled(3) if n == 2 else LOAD), "steady")


def test_a_supply_that_moves_is_refused():
    measured, limit, message = refused(taken(lambda n, k: (230.0 + n, 20.0, 4600.0, 0.0)), "steady")
    assert message.startswith("voltage moved by ") and 1.5 < measured <= 4, message
    near(limit, 232 * 0.005, 0.02)


def test_a_drift_is_refused():
    """0.3 % a window, never a jump."""
    w = taken(lambda n, k: scaled(1 + 0.003 * n + 0.00075 * k))
    try:
        w.result()
    except Refused as e:
        assert e.details["condition"] in ("steady", "windows"), e.details
        return
    raise AssertionError("not refused")


def test_a_small_drift_is_within_what_is_allowed():
    seen = taken(lambda n, k: scaled(1 + 0.0008 * n)).result()
    near(seen.spread[0]["current"], 20 * 0.0032, 1e-4)
    near(seen.values[0]["current"], 20 * 1.0016, 1e-4)


def test_the_phase_that_moves_is_told():
    calm = [LOAD, LOAD, LOAD]
    for phase in (1, 2, 3):
        moved = list(calm)
        moved[phase - 1] = scaled(0.5)
        message = refused(taken(lambda n, k, moved=moved: moved if n > 2 else calm, phases=3), "steady")[2]
        assert message.startswith("L%d current moved" % phase), message


def test_power_that_moves_alone_is_refused():
    """The angle of the load changes: the same current, another power."""
    measured, limit, message = refused(taken(lambda n, k: (230.0, 20.0, 4600.0 - 100 * n, 0.0)), "steady")
    assert "power moved" in message
    near(limit, 0.005 * 4400 + 0.0002 * 60 * 230, 1.5)


def test_power_near_nothing_may_move_by_the_share_of_the_rating():
    """A load of PF 0: 0.02 % of the rated apparent power are 2.76 W."""
    seen = taken(lambda n, k: (230.0, 20.0, 0.5 * n, 4600.0)).result()
    near(seen.spread[0]["power"], 2.0, 1e-3)
    refused(taken(lambda n, k: (230.0, 20.0, 4.0 * n, 4600.0)), "steady")


def test_noise_is_accepted():
    random.seed(7)

    def noisy(n, k):
        g = [1 + 0.0008 * (sum([random.random() for _ in range(12)]) - 6) for _ in range(3)]
        return 230 * g[0], 20 * g[1], 4600 * g[2], 0.0

    for _ in range(30):
        seen = taken(noisy).result()
        near(seen.values[0]["voltage"], 230, 230 * 0.0012)
        near(seen.values[0]["current"], 20, 20 * 0.0012)
        assert seen.deviation[0]["power"] > 0


def test_too_much_noise_is_not():
    random.seed(8)

    def noisy(n, k):
        g = 1 + 0.02 * (sum([random.random() for _ in range(12)]) - 6)
        return 230.0, 20 * g, 4600 * g, 0.0

    for _ in range(10):
        try:
            taken(noisy).result()
        except Refused as e:
            assert e.details["condition"] in ("steady", "windows")
            continue
        raise AssertionError("not refused")


def test_without_load_the_noise_of_the_rating_is_allowed():
    """Of the offset step: 0.5 % of 60 A."""
    seen = taken(lambda n, k: (230.0, 0.1 + 0.02 * n, 0.5 * n, 1.0), "offset").result()
    near(seen.spread[0]["current"], 0.14, 1e-4)
    refused(taken(lambda n, k: (230.0, 0.1 + 0.08 * n, 0.0, 1.0), "offset"), "steady")


def test_windows_with_a_reason_do_not_count():
    def source(n, k):
        return block(LOAD, quality={"current": "saturated"}) if n in (0, 2) else LOAD

    w = taken(source)
    assert w.blocks == 7 * BLOCKS and w.result().windows == 5 and w.rejected == 0
    # A short one costs no window: the mean stands without its block.
    w = taken(lambda n, k: block(LOAD, quality={"current": "saturated"}) if n + k == 0 else LOAD)
    assert w.blocks >= 5 * BLOCKS and w.result().windows == 5


def test_one_phase_is_judged_alone():
    """The others may move, be saturated, or carry nothing."""

    def source(n, k):
        x = block((LOAD, scaled(1 + n % 3), (0.0, 0.0, 0.0, 0.0)), phases=3)
        x.spoil(2, "power", "saturated")
        return x

    rules = conditions.of("gain", {})
    for each, windows_seen in (([1], 5), ([3], 5), ([2], 0)):
        w = windows.Windows(Meter(3), rules, RATING, NOMINAL, None, each)
        n = 0
        while not w.full:
            w.add(source(n // BLOCKS, n % BLOCKS))
            n += 1
            assert n < 100, "never full"
        try:
            assert w.result().windows == windows_seen
        except Refused as e:
            assert each == [2] and "p2 saturated" in e.message, e.message


def test_windows_that_saw_too_few_cycles_do_not_count():
    w = taken(lambda n, k: block(scaled(1.4), coverage=0.4) if n in (1, 3) else LOAD)
    assert w.blocks == 7 * BLOCKS
    near(w.result().values[0]["current"], 20, 1e-4)
    assert taken(lambda n, k: block(LOAD, coverage=0.6)).blocks == 5 * BLOCKS
    w = taken(lambda n, k: block(LOAD, coverage=0.6), coverage=0.7)
    assert w.blocks == 8 * BLOCKS


def test_a_meter_that_tells_nothing_is_refused_with_its_reasons():
    w = taken(lambda n, k: block(LOAD, quality={"current": "saturated", "power": "bus_fault"}))
    assert w.blocks == 8 * BLOCKS
    try:
        w.result()
    except Refused as e:
        assert e.code == "meter" and "current saturated" in e.message and "power bus_fault" in e.message, e.message
    else:
        raise AssertionError("not refused")
    w = taken(lambda n, k: block(LOAD, coverage=0.1))
    try:
        w.result()
    except Refused as e:
        assert e.code == "meter" and "cycles" in e.message, e.message
    else:
        raise AssertionError("not refused")


def test_too_few_windows_are_refused():
    """Four of eight can be used."""
    w = taken(lambda n, k: LOAD if n % 2 else block(LOAD, coverage=0.0))
    assert w.blocks == 8 * BLOCKS
    assert refused(w, "windows")[:2] == [4, 5]


def test_a_quantity_that_the_meter_has_not_is_not_judged():
    def source(n, k):
        x = block((230.0,))
        x.at[0]["power"] = 4600.0 if n % 2 else 0.0  # not among its names
        return x

    rules = conditions.of("gain", {})
    w = windows.Windows(Meter(names=("voltage", "frequency")), rules, RATING, NOMINAL)
    n = 0
    while not w.full:
        w.add(source(n // BLOCKS, n % BLOCKS))
        n += 1
    seen = w.result()
    assert seen.values[0]["voltage"] == 230 and "power" not in seen.values[0] and "current" not in seen.values[0]


def test_the_uncertainty_of_the_median():
    """1.2533 standard deviations of the mean, for normal values: here of given ones."""
    currents = (20.00, 20.02, 19.98, 20.01, 19.99)
    seen = taken(lambda n, k: (230.0, currents[n], 4600.0, 0.0)).result()
    mean = sum(currents) / 5
    deviation = math.sqrt(sum([(x - mean) ** 2 for x in currents]) / 4)
    near(seen.deviation[0]["current"], 1.2533 * deviation / math.sqrt(5), 3e-5)
    near(seen.deviation[0]["voltage"], 0, 1e-5)


def test_medians_of_noise_scatter_as_the_uncertainty_says():
    random.seed(3)

    def noisy(n, k):
        g = 1 + 0.001 * (sum([random.random() for _ in range(12)]) - 6)
        return 230.0, 20 * g, 4600.0, 0.0

    rules = {"windows": 9, "most": 12, "spread_i": 5}
    found, told = [], []
    for _ in range(60):
        seen = taken(noisy, **rules).result()
        found.append(seen.values[0]["current"] - 20)
        told.append(seen.deviation[0]["current"])
    scatter = math.sqrt(sum([x * x for x in found]) / len(found))
    mean = sum(told) / len(told)
    assert 0.7 < mean / scatter < 1.4, (mean, scatter)


def test_spread_in_percent():
    currents = (20.00, 20.02, 19.98, 20.01, 19.99)
    seen = taken(lambda n, k: (230.0, currents[n], 4600.0, 0.0)).result()
    near(seen.percent(0, "current"), 0.2, 1e-3)
    near(seen.percent(0, "current", 60), 100 * 0.04 / 60, 1e-3)
    assert seen.percent(0, "reactive_power") == 0  # nothing of nothing


def test_a_window_leaves_no_trace_in_the_next():
    """Readings are copied: the meter's own is written over."""
    own = block(LOAD)

    def source(n, k):
        own.at[0].update({"current": 20.0 + 0.01 * n})
        return own

    seen = taken(source).result()
    near(seen.values[0]["current"], 20.02, 1e-4)
    near(seen.spread[0]["current"], 0.04, 1e-4)
