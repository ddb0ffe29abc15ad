"""Steps of a signal and its certain rules: what breaks each of them, what does not, and when it is over."""

from gridnode.anomaly import certain, scale
from gridnode.anomaly.certain import KINDS, Certain
from gridnode.setup import signals
from made_rows import NAN

INF = float("inf")


def test_families():
    for kind, names in (
        (scale.VOLTAGE, "voltage v1 v2 v3 v12"),
        (scale.CURRENT, "current i1 i3 i_n"),
        (scale.POWER, "power p1 p3"),
        (scale.TEMPERATURE, "temperature t_joint t_ambient t_1"),
        (scale.HUMIDITY, "humidity"),
        (scale.PLAIN, "v i p v1a vx x1 frequency t t1 pf 1 voltage1"),
    ):
        for name in names.split():
            assert signals.family(name) == kind, name
    assert signals.family("") == scale.PLAIN


def test_steps_are_powers_of_two_that_fit():
    for most, wanted in ((1, 16384), (2, 8192), (255, 128), (127, 256), (322, 64), (32767, 1), (32768, 0.5)):
        assert signals.factor(most) == wanted, (most, signals.factor(most))
    assert signals.factor(6e6) == 2**-8
    assert signals.factor(1e-9) == 2**20  # no finer than that
    for rating in (1, 5, 16, 63, 100, 200, 500, 5000):
        for kind in range(1, 6):
            most = signals.largest(kind, rating, 230)
            k = signals.factor(most)
            assert 16383 < most * k * 2 and most * k <= 32767 and abs(signals.material(kind, rating, 230)) * k >= 8


def test_without_a_rating_values_tell():
    for kind in range(6):
        assert (signals.largest(kind, 0, 0) == 0) == (kind < scale.TEMPERATURE), kind


def test_values_in_steps():
    for x, wanted in ((0.0, 0), (1.0, 64), (1 / 64, 1), (0.0155, 0), (-1 / 64, -1), (-0.0001, -1), (511.0, 32704)):
        assert scale.steps(x, 64.0) == wanted, x
    for x in (512.0, 1e38, INF):
        assert (scale.steps(x, 64.0), scale.steps(-x, 64.0)) == (32767, -32767), x
    assert scale.steps(NAN, 64.0) == scale.MISSING
    assert scale.steps(1e-45, 1.0) == 0


class Sensor:
    """The rules of a signal of 64 steps a unit, and what they say of values."""

    def __init__(self, kind=scale.VOLTAGE, low=None, high=None, run_limit=0, interval_s=10):
        self.rules = Certain(kind, 64.0, low and low * 64, high and high * 64, interval_s)
        self.rules.run_limit = run_limit

    def say(self, *values):
        told = []
        for x in values:
            self.rules.judge(x, scale.steps(x, 64.0))
            told.append(KINDS[self.rules.rule])
        return told


def test_missing_is_told_in_the_second_row():
    sensor = Sensor()
    assert sensor.say(NAN, NAN, NAN) == [""] * 3  # it was never there
    assert sensor.say(230.0, NAN, 230.0, NAN, NAN, NAN, 231.0) == ["", "", "", "", "missing", "missing", ""]


def test_range_and_what_ends_it():
    sensor = Sensor(low=207, high=253)
    assert sensor.say(230.0, 207.0, 253.0, 253.5, 206.5) == ["", "", "", "range", "range"]
    # the band is 5 V: it was within it, so it must come back by as much
    assert sensor.say(209.0, 211.5, 212.5, 209.0) == ["range", "range", "", ""]
    assert sensor.say(254.0, 250.0, 248.5, 247.5, 250.0) == ["range", "range", "range", "", ""]
    # what was far outside is over at once
    assert sensor.say(300.0, 252.0, 252.0) == ["range", "", ""]
    assert sensor.say(254.0, NAN, 252.0, 247.0) == ["range", "", "range", ""]
    assert sensor.say(-INF, INF, 230.0) == ["range", "range", ""]


def test_a_range_with_zero_at_its_end():
    sensor = Sensor(scale.CURRENT, low=0, high=125)
    sensor.rules.low = 0
    assert sensor.say(0.0, 1.0, -0.1, 0.0, 2.4, 2.6) == ["", "", "range", "range", "range", ""]


def test_without_a_range_anything_goes():
    assert Sensor().say(1e9, -1e9, 3.0) == [""] * 3


def test_stuck():
    sensor = Sensor(run_limit=3)
    assert sensor.say(1.0, 1.0, 1.0, 1.0, 1.0, 1.5, 1.0) == ["", "", "", "stuck", "stuck", "", ""]
    assert sensor.say(1.0, 1.0, NAN, 1.0, 1.0, 1.0, 1.0) == ["", "", "", "", "", "", "stuck"]
    assert Sensor(run_limit=0).say(*[5.0] * 60) == [""] * 60
    # less than a step is a movement
    assert Sensor(run_limit=3).say(*[5.0 + k / 4096 for k in range(9)]) == [""] * 9
    # a gap in time hides neither the run nor its end
    sensor = Sensor(run_limit=3)
    assert sensor.say(1.0, 1.0, 1.0) == [""] * 3
    sensor.rules.forget()
    assert sensor.say(1.0, 2.0) == ["stuck", ""]


def test_dead_is_a_zero_where_there_was_none():
    sensor = Sensor()
    assert sensor.say(230.0, 0.0, 0.0, 230.0) == ["", "dead", "dead", ""]
    assert sensor.say(230.0, 1.0, 0.0) == ["", "", ""]  # it went down before
    assert Sensor().say(0.0, 0.0) == ["", ""]
    for kind in (scale.PLAIN, scale.TEMPERATURE):
        assert Sensor(kind).say(30.0, 30.0, 0.0)[2] == ("rate" if kind == scale.TEMPERATURE else "")
    known = Sensor()
    known.rules.zeros = True
    assert known.say(230.0, 0.0) == ["", ""]
    assert Sensor(run_limit=None).say(230.0, 0.0) == ["", ""]  # it is learnt now
    sensor = Sensor()
    assert sensor.say(230.0, NAN, NAN, 0.0) == ["", "", "missing", ""]
    sensor = Sensor()
    sensor.say(230.0)
    sensor.rules.forget()
    assert sensor.say(0.0) == [""]


def test_rails():
    for kind, sound, beyond in (
        (scale.TEMPERATURE, (-99.0, 249.0), (-127.0, -100.0, 250.0, 1000.0, INF, -INF)),
        (scale.HUMIDITY, (-4.0, 0.5, 104.0), (-6.0, 106.0, -INF)),
    ):
        for x in sound:
            assert Sensor(kind).say(x) == [""], x
        for x in beyond:
            assert Sensor(kind).say(x, x) == ["dead", "dead"], x
            assert Sensor(kind, low=10, high=40).say(x) == ["dead"], x


def test_rate():
    sensor = Sensor(scale.TEMPERATURE)  # 5 K in a row of 10 s
    assert sensor.say(20.0, 25.0, 20.0, 25.1, 25.0, 19.0) == ["", "", "", "rate", "", "rate"]
    assert sensor.say(NAN, 40.0, 46.0) == ["", "", "rate"]
    sensor.rules.forget()
    assert sensor.say(20.0) == [""]
    assert Sensor(scale.TEMPERATURE, interval_s=60).say(20.0, 49.0, 80.0) == ["", "", "rate"]
    for kind in range(scale.TEMPERATURE):
        assert Sensor(kind).say(20.0, 400.0) == ["", ""]


def test_a_rate_that_training_saw_is_none():
    sensor = Sensor(scale.TEMPERATURE, run_limit=None)
    assert sensor.say(20.0, 30.0) == ["", ""]
    sensor.rules.run_limit = 30
    assert sensor.say(20.0, 90.0, 10.0) == [""] * 3


def test_the_first_row_is_judged():
    assert Sensor(low=207, high=253).say(300.0) == ["range"]
    assert Sensor(scale.TEMPERATURE).say(90.0) == [""]


def test_every_kind_has_a_name():
    assert KINDS[certain.MISSING] == "missing" and KINDS[certain.RATE] == "rate" and len(KINDS) == 6
