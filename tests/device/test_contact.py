"""Tamper contact: how its pin is set up, what it reads, the alarm, the share of a row."""

import asyncio

from fake_uart import Time
from gridnode import anomaly, reading
from gridnode.meters import contact
from gridnode.setup import rules

SPEC = {"id": "cabinet", "driver": "contact", "contact": {"pin": 26}}
LIMITS = {"cover": {"high": 0.5, "priority": 2}}


class Pin:
    """A pin with a contact to ground."""

    IN = 1
    PULL_UP = 2
    made = []
    closed = True

    def __init__(self, *how):
        Pin.made.append(how)

    def value(self):
        return 0 if Pin.closed else 1


class Machine:
    Pin = Pin


class Cabinet:
    """Its contact, polled once a second."""

    def __init__(self):
        self.time = Time()
        Pin.made.clear()
        self.meter = contact.Meter(SPEC, {}, Machine, self.time)
        assert Pin.made == [], "nothing is touched before the start"
        assert self.meter.start(None) == ()
        self.judge = anomaly.Judge(rules.of(LIMITS, self.meter.names, 1))
        self.row = reading.Window("cabinet", 1, self.meter.names)

    def poll(self, count=1, closed=True):
        told = []
        Pin.closed = closed
        for _ in range(count):
            self.time.ms += self.meter.period_ms
            x = asyncio.run(self.meter.block())
            told += [(c.raised, c.priority, c.text) for c in self.judge.block(x)]
            self.row.add(x)
        return told


def test_the_pin_is_pulled_up():
    c = Cabinet()
    assert Pin.made == [(26, Pin.IN, Pin.PULL_UP)]
    assert c.meter.names == ("cover",) and not c.meter.counts_energy and c.meter.period_ms == 1000
    c.poll()
    assert c.meter.reading.at[0] == {"cover": 0.0} and c.meter.reading.quality == {}
    c.poll(closed=False)
    assert c.meter.reading.at[0] == {"cover": 1.0}


def test_the_alarm_does_not_wait():
    c = Cabinet()
    assert c.poll(100) == []
    assert c.poll(1, closed=False) == [(True, 2, "cover is open")]
    assert c.poll(1000, closed=False) == [], "it may stay open"
    assert c.poll(1) == [(False, 2, "cover is closed")]


def test_a_row_tells_the_share_of_its_time():
    c = Cabinet()
    c.poll(9)
    c.poll(1, closed=False)
    assert abs(c.row.finish(0).at[0]["cover"] - 0.1) < 1e-6
    c.row.restart()
    c.poll(10, closed=False)
    assert c.row.finish(0).at[0]["cover"] == 1
