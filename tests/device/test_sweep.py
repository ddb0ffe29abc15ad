"""The converter's table from levels at its pin: converters of known non-linearity, noise, and what is refused."""

import math
import random

from gridnode.calibrating import Refused, sweep
from gridnode.meters import ct
from gridnode.setup import calibration, judge
from synth import PROFILE, SPEC, Mains

TIMEOUT_S = 60
HEAP_KW = 1024

LINE = [1000 * (142 + 0.806 * 32 * k) for k in range(129)]  # uV, of a converter that is straight


class Pin:
    """A converter of which `bend` makes the deviation in counts; noise: counts rms."""

    _calls = (None, None)
    id = "main"

    def __init__(self, bend, noise=6.0):
        self.bend, self.noise, self.mv, self.drift = bend, noise, 0.0, 0.0
        self._calls = None, self.read
        self._table = [uv * 512 // 125 for uv in map(int, LINE)]
        self._volts = [ct.Channel(0, 1.0, 0.0, 1, 8)]
        self._parameters = [0] * 64

    def read(self):
        self.mv += self.drift
        count = (self.mv - 142) / 0.806
        count += self.bend(count) + self.noise * (sum([random.random() for _ in range(12)]) - 6)
        return max(0, min(4095, int(count + 0.5)))


def wavy(count):
    return 8 * math.sin(count / 500) - 10 + 0.02 * count


def swept(pin, levels, told=None):
    found = sweep.Sweep(pin)
    for mv in levels:
        pin.mv = mv
        found.take(pin, told(mv) if told else mv)
    return found


def levels(count=23):
    return [200 + 2200 * k / (count - 1) for k in range(count)]


def refused(work, condition):
    try:
        work()
    except Refused as e:
        assert e.details.get("condition") == condition or e.code == condition, (e.code, e.message)
        return e.message
    raise AssertionError("not refused")


def test_the_table_follows_the_levels():
    random.seed(2)
    pin = Pin(wavy)
    order = levels()
    order = order[::2] + order[1::2]  # in any order
    found = swept(pin, order)
    entry = {"voltage": [{"gain": 1.01}], "adc_table": [int(x) for x in LINE]}
    new = found.compute(entry, {})
    assert entry["adc_table"] == [int(x) for x in LINE] and new["voltage"] == entry["voltage"]
    judge.check({"version": 2, "meters": {"main": new}})
    record = found.prove()[0]
    before, after = record["before_percent"]["nonlinearity"], record["after_percent"]["nonlinearity"]
    assert before > 1 and after < 0.05, record
    for n in range(60):  # at levels that were not taken
        mv = 230 + 35 * n
        count = (mv - 142) / 0.806
        uv = sweep._through(new["adc_table"], count + wavy(count))
        assert abs(uv / 1000 - mv) < 0.8, (mv, uv)
    assert (record["step"], record["phase"], record["windows"]) == ("linearity", 0, 23)


def test_a_level_that_is_told_again_takes_the_place_of_the_former():
    pin = Pin(wavy, 0.0)
    found = swept(pin, levels())
    pin.mv = levels()[3]
    assert found.take(pin, pin.mv)["levels"] == 23


def test_a_wrong_decimal_or_a_pin_that_is_not_connected():
    pin = Pin(wavy)
    refused(lambda: swept(pin, [1200.0], lambda mv: 120.0), "level")
    refused(lambda: swept(pin, [300.0], lambda mv: 1500.0), "level")
    for wrong in (None, "1200", True):
        refused(lambda wrong=wrong: swept(pin, [1200.0], lambda mv: wrong), "invalid")


def test_a_level_beyond_the_converter():
    pin = Pin(lambda count: 0.0)
    for mv in (3600.0, 20.0):
        assert "range" in refused(lambda mv=mv: swept(pin, [mv]), "range")


def test_a_level_that_moves():
    pin = Pin(wavy)
    pin.drift = 0.01  # mV a read
    message = refused(lambda: swept(pin, [1200.0]), "steady")
    assert "counts" in message


def test_too_few_levels():
    found = swept(Pin(wavy), levels(8))
    assert "8 levels are known, 9" in refused(lambda: found.compute({}, {}), "levels")


def test_levels_that_contradict_each_other_prove_nothing():
    random.seed(3)
    pin = Pin(lambda count: 0.0)
    found = sweep.Sweep(pin)
    for n, mv in enumerate(levels()):
        pin.mv = mv
        found.take(pin, mv + (20 if n % 2 else 0))  # the source settles at every other one
        pin.mv = mv
    found.compute({}, {})
    before = found._old
    found._old = [uv + 20000 for uv in before]  # the table in force was right for those that prove
    assert "the old one stays" in refused(found.prove, "unproven")


def test_a_clamp_meter_takes_levels():
    """With the driver over its simulated converter: the first call behind the clock is the first voltage."""
    mains = Mains(230, 0)
    m = ct.Meter(SPEC, dict(PROFILE, meters=[SPEC]), mains, mains)
    calibration.put(m, SPEC, {"version": 2, "meters": {"main": {"adc_table": [int(x) for x in LINE]}}})
    mains.read = lambda phase, current: 3000 if current else 1500
    told = sweep.Sweep(m).take(m, 142 + 0.806 * 1500)
    assert told["count"] == 1500 and abs(told["level_mv"] - 142 - 0.806 * 1500) < 0.5, told
