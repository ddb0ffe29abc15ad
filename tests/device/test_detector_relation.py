"""Relations of a signal to its causes, the causes themselves, and the ensemble over all signals."""

import random
from array import array

from gridnode.anomaly import learning, relation, scale, training
from gridnode.anomaly.causes import Cause, Causes, sine
from gridnode.anomaly.ensemble import Ensemble
from gridnode.anomaly.lessons import Lessons, Sums
from gridnode.setup import signals
from made_rows import FEEDER, PLACE, Rows

HEAP_KW = 192

W = 4096  # a weight of 1


def cause(inputs):
    return Cause(inputs, ())


def solved(rows, inputs, sign=1, free=(), enough=90):
    """Weights of rows of (inputs, signal), and whether a solution was taken."""
    taught = cause(list(range(inputs)))
    sums = Sums(taught)
    for row, y in rows:
        sums.add(array("i", row), y)
    return list(taught.weights), relation.solve(sums, enough, sign, free), sums, taught


def made(weights, count=400, size=1000):
    random.seed(5)
    rows = []
    for _ in range(count):
        row = [random.randint(-size, size) for _ in weights]
        rows.append((row, sum([w * x for w, x in zip(weights, row)])))
    return rows


def near(found, wanted):
    """Within 1/500: the ridge takes 1/1024."""
    return all([abs(a - b * W) <= abs(b * W) // 500 + 1 for a, b in zip(found, wanted)])


def test_weights_of_a_known_sum():
    for wanted in ((3,), (2, 5), (1, 0, 7), (4, 2, 1, 8, 3)):
        _, taken, _, taught = solved(made(wanted), len(wanted))
        assert taken and near(taught.weights, wanted), (wanted, list(taught.weights))


def test_sums_are_exact():
    random.seed(2)
    rows = [([random.randint(-16000, 16000) for _ in range(3)], random.randint(-16000, 16000)) for _ in range(300)]
    rows += [([16000] * 3, 16000)] * 600 + [([-16000] * 3, 16000)] * 200
    _, _, sums, _ = solved(rows, 3)
    for a in range(4):
        for b in range(4):
            exact = sum((row + [y])[a] * (row + [y])[b] for row, y in rows)
            assert relation.entry(sums, a, b) == exact, (a, b)
    assert all([-(1 << 27) <= low < 1 << 27 for low in sums.words[: len(sums.words) // 2]])


def test_what_is_left_is_exact():
    rows = made((3, 1))
    _, _, sums, taught = solved(rows, 2)
    for weights in ((0, 0), (W, 0), (3 * W, W), (-77, 4095)):
        for k in range(2):
            taught.weights[k] = weights[k]
        left = sum([(y * W - weights[0] * row[0] - weights[1] * row[1]) ** 2 for row, y in rows])
        assert relation.left(sums) == left


def test_a_weight_never_goes_against_its_sign():
    _, taken, _, taught = solved(made((3, -2)), 2)
    assert taken and taught.weights[1] == 0 and abs(taught.weights[0] - 3 * W) < W
    _, taken, _, taught = solved(made((-3, -2)), 2)
    assert not taken and list(taught.weights) == [0, 0]
    _, taken, _, taught = solved(made((-3, -2)), 2, sign=-1)
    assert taken and near(taught.weights, (-3, -2))


def test_free_inputs_have_any_sign_and_are_not_enough():
    _, taken, _, taught = solved(made((5, -9)), 2, free=(1,), enough=101)
    assert taken and near(taught.weights, (5, -9))
    _, taken, _, taught = solved(made((5, -9)), 2, free=(0, 1))
    assert not taken and list(taught.weights) == [0, 0]


def test_no_solution_leaves_what_was_there():
    for rows in (
        made((3, 2), count=99),  # too few
        [([0, 0], 0)] * 200,
        [([0, 0], 500)] * 200,  # nothing that moves
        [([1, 0], 16000)] * 200,  # a weight that has no room
    ):
        taught = cause([0, 1])
        taught.weights[0], taught.weights[1] = 11, 22
        sums = Sums(taught)
        for row, y in rows:
            sums.add(array("i", row), y)
        assert not relation.solve(sums, 90) and list(taught.weights) == [11, 22]


def test_a_little_better_is_not_worth_it():
    random.seed(3)
    rows = [([random.randint(-100, 100)], random.randint(-5000, 5000)) for _ in range(900)]
    assert not solved(rows, 1)[1]


def test_better_weights_replace_good_ones():
    taught = cause([0])
    sums = Sums(taught)
    for row, y in made((3,)):
        sums.add(array("i", row), y)
    assert relation.solve(sums, 90) and not relation.solve(sums, 90)


def test_causes_that_are_alike_share():
    rows = [([x, x], 8 * x) for x in range(-300, 300)]
    _, taken, _, taught = solved(rows, 2)
    assert taken and abs(sum(taught.weights) - 8 * W) < W // 50


def eliminated(matrix, right):
    """Weights that the elimination finds for a system made by hand."""
    n = len(right)
    taught = cause(list(range(n)))
    sums = Sums(taught)
    k = 0
    for a in range(n + 1):
        for b in range(a, n + 1):
            value = (matrix[a][b] if b < n else right[a]) if a < n else 0
            high = (value + (1 << 27)) >> 28
            sums.words[len(sums.words) // 2 + k] = high
            sums.words[k] = value - (high << 28)
            k += 1
    return relation.eliminate(sums, list(range(n))) and list(taught.weights)


def test_elimination_of_systems_made_by_hand():
    big = 1 << 34  # the ridge takes 1/1024 + 1
    assert near(eliminated([[big]], [2 * big]), (2,))
    found = eliminated([[big, 0], [0, big * 3]], [big, big * 12])
    assert near(found, (1, 4)), found
    # 4x + y = 6, x + 3y = 7: x = 1, y = 2
    found = eliminated([[4 * big, big], [big, 3 * big]], [6 * big, 7 * big])
    assert near(found, (1, 2)), found
    # 2x + y = 5, x + 2y + z = 8, y + 2z = 8: x = 1, y = 2, z = 3 less what the ridge takes
    found = eliminated([[2 * big, big, 0], [big, 2 * big, big], [0, big, 2 * big]], [4 * big, 8 * big, 8 * big])
    assert all([abs(a - b * W) < 60 for a, b in zip(found, (1, 2, 3))]), found
    assert eliminated([[0]], [5]) == [5 * W]  # nothing but the ridge
    assert not eliminated([[0]], [1 << 13])
    n = 11  # as many as a feeder's joint has: numbers of hundreds of bits
    matrix = [[big * (9 + a if a == b else 1) for b in range(n)] for a in range(n)]
    right = [sum([matrix[a][b] * (b + 1) for b in range(n)]) for a in range(n)]
    found = eliminated(matrix, right)
    assert all([abs(found[k] - (k + 1) * W) < 90 for k in range(n)]), found


def test_value_is_around_the_centers():
    taught = cause([2, 0])
    taught.weights[0], taught.weights[1] = 2 * W, -W
    taught.centers[0], taught.centers[1] = 100, 7
    assert taught.value(array("i", [7, 0, 100])) == 0
    assert taught.value(array("i", [9, 0, 103])) == 4
    assert taught.value(array("i", [9, 555, 100])) == -2


# ------------------------------------------------------------------ causes


def causes_of(names, interval_s=600):
    return Causes(names, [signals.family(name) for name in names], interval_s)


def test_what_physics_gives():
    causes = causes_of(FEEDER)
    told = {name: [FEEDER[k] for k in cause.needs] for name, cause in zip(FEEDER, causes.of) if cause}
    for phase in "123":
        assert told.pop("v" + phase) == ["i" + phase]
        assert told.pop("p" + phase) == ["v" + phase, "i" + phase]
    assert told.pop("t_joint") == ["i1", "i2", "i3", "t_ambient"]
    assert set(told) <= {"humidity"}, told
    assert len(causes.of[FEEDER.index("t_joint")].inputs) == 10
    causes = causes_of(PLACE)
    assert [bool(cause) for cause in causes.of] == [True, False, True, False]
    for names in (["x"], ["t_joint"], ["t_ambient"], ["humidity"], ["v1"], ["p1", "v1"], ["i_n"], ["i1"]):
        assert not any(causes_of(names).of), names
    assert causes_of(["p1", "i1"]).of[0] is None  # power needs the voltage
    assert causes_of(["v2", "i1"]).of[0] is None  # another phase


def take(causes, *ys):
    causes.take(array("h", ys), bytearray([1] * len(ys)), 0, 128)


def test_the_thermometer_in_the_air():
    for names, air in (
        (["current", "temperature", "humidity"], -1),
        (["current", "temperature", "t_terminal"], 1),
        (["temperature", "t_joint", "t_ambient"], 2),
        (["t_air", "temperature"], 0),
        (["t_joint"], -1),
    ):
        found, parts = signals.thermometers(names)
        assert found == air, names
        assert sorted(parts) == [k for k in range(len(names)) if names[k][0] == "t" and k != air], names
        assert Causes(names, [signals.family(name) for name in names], 60).air == air


def test_squares_of_currents_lag():
    causes = causes_of(["i1", "t_joint"])
    take(causes, 0, 0)
    for _ in range(12):  # 2 h
        take(causes, 8192, 0)
    lags = list(causes.row)[3:6]
    assert lags[0] > lags[1] > lags[2] > 0 and lags[0] > 15000, lags
    assert lags[2] < 16000 * 0.75
    # what is warm at the start is told by the first row
    fresh = causes_of(["i1", "t_joint"])
    take(fresh, 8192, 0)
    assert len(set(list(fresh.row)[3:6])) == 1
    causes.forget()
    take(causes, 0, 0)
    assert list(causes.row)[3:6] == [0, 0, 0]


def test_what_cannot_be_believed_explains_nothing():
    names = ["i1", "t_joint", "v1"]
    causes = causes_of(names)
    joint, volts = causes.of[1], causes.of[2]
    assert causes.explain(1, bytearray([1, 1, 1])) == 0  # not learnt
    joint.known = volts.known = True
    joint.weights[0] = volts.weights[0] = W
    take(causes, 1000, 0, 0)
    assert causes.explain(1, bytearray([1, 1, 1])) == 1000 * 1000 >> 12
    assert causes.explain(2, bytearray([1, 1, 1])) == 1000
    assert causes.explain(2, bytearray([0, 1, 1])) == scale.MISSING
    assert causes.explain(2, bytearray([1, 1, 1])) == 1000  # a voltage has no memory
    assert causes.explain(1, bytearray([0, 1, 1])) == scale.MISSING
    for _ in range(11):  # two hours
        assert causes.explain(1, bytearray([1, 1, 1])) == scale.MISSING
    assert causes.explain(1, bytearray([1, 1, 1])) != scale.MISSING
    assert causes.explain(0, bytearray([1, 1, 1])) == 0


def test_currents_beyond_all_range_keep_to_their_bits():
    causes = causes_of(["i1", "v1", "p1", "t_joint"])
    for i in (32767, -32767, 32767):
        take(causes, i, 32767, 0, -32767)
        assert all([-32768 <= x <= 32767 for x in causes.row]), list(causes.row)
        assert max(causes.means) < 1 << 23


def test_lessons_find_the_load_in_a_voltage_and_a_joint():
    rows = Rows(FEEDER)
    names = FEEDER
    causes = causes_of(names)
    lessons = Lessons(causes)
    units = [signals.factor(signals.largest(signals.family(name), 100, 230)) for name in names]
    ys = array("h", [0] * len(names))
    good = bytearray([1] * len(names))
    for _ in range(300):
        values = rows.next()
        for k in range(len(names)):
            ys[k] = scale.steps(values[k], units[k])
        causes.take(ys, good, rows.row // 3 % 48, 128)
        lessons.take(ys, good)
    assert relation.learn(lessons, names.index("v1")) and relation.learn(lessons, names.index("t_joint"))
    assert not relation.learn(lessons, names.index("i1"))
    drop = causes.of[names.index("v1")].weights[0]
    # 1 V in 40 A, in steps of 1/64 V and 1/32 A
    assert abs(drop * 40 / W / (64 / 32) + 1) < 0.2, drop
    for cause in causes.of:
        if cause:
            assert all([w * cause.sign >= 0 for w in cause.weights])


def test_sine():
    assert [sine(at, 0) for at in (0, 12, 24, 36, 48, 60)] == [0, 2048, 0, -2048, 0, 2048]
    assert all([sine(24 - at, 0) == sine(at, 0) == -sine(at + 24, 0) for at in range(48)])
    assert [sine(0, part) for part in (0, 64, 128)] == [0, 67, 134]


# ------------------------------------------------------------------ ensemble


def ensemble(count):
    """An ensemble that is about to learn."""
    model = Ensemble(count)
    learning.count(model)
    return model


def test_logarithms():
    assert [learning.log2(2**k) for k in range(20)] == [16 * k for k in range(20)]
    assert [learning.log2(n) for n in (3, 5, 6, 7)] == [24, 36, 40, 44]


def correlated():
    """Distances of four signals of which the second follows the first; trained, with its limit."""
    random.seed(7)
    model = ensemble(4)
    good = bytearray([1] * 4)

    def row():
        a, c = random.randint(-60, 60), random.randint(-60, 60)
        return array("h", [a, a + random.randint(-4, 4), c, c + random.randint(-4, 4)])

    for _ in range(2000):
        training.learn(model, row(), good)
    learning.weigh(model)
    for _ in range(400):
        model.peak = max(model.peak, model.cost(row(), good))
    learning.limit(model)
    return model, good, row


def test_rows_that_no_signal_gives_away_cost_more():
    model, good, row = correlated()
    assert model.limit >= 112
    usual = max([model.cost(row(), good) for _ in range(300)])
    assert usual < model.limit
    assert model.cost(array("h", [60, -60, 60, -60]), good) > usual
    assert model.cost(array("h", [16000, -16000, 16000, -16000]), good) > usual


def test_what_is_missing_leaves_its_projections_out():
    model, good, row = correlated()
    z = row()
    whole = model.cost(z, good)
    z[1] = 9999
    good[1] = 0
    assert model.cost(z, good) <= whole * 2
    assert model.cost(z, bytearray(4)) == 0
    training.learn(model, z, bytearray(4))  # and teaches nothing


def test_few_signals():
    for count in (0, 1):
        model = ensemble(count)
        z, good = array("h", [500] * count), bytearray([1] * count)
        training.learn(model, z, good)
        learning.weigh(model)
        assert model.cost(z, good) == 0
        learning.limit(model)
        assert model.limit == 0
    for count in (2, 3, 21):
        model = ensemble(count)
        assert max(model.first) < count and max(model.others) < count
        assert all([model.first[k] != model.others[2 * k] for k in range(12)])
        for z in (-32768, -127, 0, 127, 32767):
            training.learn(model, array("h", [z] * count), bytearray([1] * count))
        assert sum(model.counts) == 12 * 5


def test_counts_stay_within_their_bits():
    model = ensemble(2)
    for k in range(len(model.counts)):
        model.counts[k] = 65535
    training.learn(model, array("h", [0, 0]), bytearray([1, 1]))
    assert max(model.counts) == 65535
    learning.weigh(model)
    assert max(model.costs) < 255


def test_without_rows_to_judge_there_is_no_limit():
    model = ensemble(3)
    learning.limit(model)
    assert model.limit == 0
