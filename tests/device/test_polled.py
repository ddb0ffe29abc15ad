"""What every meter behind a bus has in common: faults, recovery, stuck values, counters, serial lines."""

import asyncio

from gridnode.meters.counter import Counter
from gridnode.meters.line import line
from gridnode.meters.polled import BusError, Polled


class Time:
    def __init__(self):
        self.ms = (1 << 30) - 500  # ticks wrap on the way

    def ticks_ms(self):
        return self.ms & 0x3FFFFFFF

    def ticks_diff(self, a, b):
        return (a - b + (1 << 29)) % (1 << 30) - (1 << 29)


class Device(Polled):
    names = ("voltage", "frequency")
    settle_ms = 300
    stuck_after = 3

    def __init__(self, time):
        super().__init__({"id": "x", "period_ms": 700}, time)
        self.fault = None
        self.configured = 0
        self.value = 230.0

    async def configure(self):
        if self.fault:
            raise self.fault
        self.configured += 1

    async def measure(self, reading):
        reading.at[0]["voltage"] = self.value
        reading.at[0]["frequency"] = 50.0
        self.fingerprint = self.value
        if self.fault:
            raise self.fault


def steps(meter, time, count, change=0.0):
    found = []
    for _ in range(count):
        time.ms += 200
        meter.value += change
        x = asyncio.run(meter.block())
        assert x.ms == 200, x.ms
        found.append(x.quality.get("voltage") or x.at[0]["voltage"])
    return found


def test_set_up_settle_measure():
    time = Time()
    meter = Device(time)
    assert meter.period_ms == 700
    assert steps(meter, time, 4, 1.0) == ["stale", "stale", 233.0, 234.0]
    assert meter.configured == 1


def test_fault_and_recovery():
    time = Time()
    meter = Device(time)
    steps(meter, time, 3, 1.0)
    for fault in (BusError("read 2F"), OSError(19)):
        meter.fault = fault
        assert steps(meter, time, 3, 1.0) == ["bus_fault"] * 3
        assert meter.reading.at[0] == {"voltage": None, "frequency": None} and meter.reading.covered_ms == 0
        assert str(fault) in meter.problem
        meter.fault = None
        assert steps(meter, time, 2, 1.0) == ["stale", "stale"]
        assert isinstance(steps(meter, time, 1, 1.0)[0], float)
        assert meter.reading.energy_ms == 1200, "what the counter holds was counted over the whole outage"
    assert meter.configured == 3


def test_values_that_never_change_are_not_trusted():
    time = Time()
    meter = Device(time)
    steps(meter, time, 2)
    assert steps(meter, time, 4) == [230.0, 230.0, 230.0, "stale"]
    assert "4 times" in meter.problem
    assert steps(meter, time, 3) == ["stale"] * 3 and meter.configured > 1, "set up again, in case that helps"
    meter.settle_ms = 0
    assert steps(meter, time, 2, 0.5) == [230.5, 231.0]


def test_counters_wrap_and_reset():
    c = Counter(1 << 16)
    assert [c.step(x) for x in (100, 150, 65000, 20, 21)] == [0, 50, 64850, 556, 1] and not c.resets
    assert c.step(5) == 5 and c.resets == 1, "from the lower half a fall is no wrap"
    c = Counter()
    assert [c.step(x) for x in (1 << 40, (1 << 40) + 7, 3)] == [0, 7, 3] and c.resets == 1


class Uart:
    def __init__(self, number, **settings):
        self.settings = settings
        self.rx = b""
        self.log = []

    def any(self):
        return len(self.rx)

    def read(self, n):
        data, self.rx = self.rx[:n], self.rx[n:]
        return data

    def write(self, data):
        self.log.append(data)

    def flush(self):
        self.log.append("sent")


class Machine:
    UART = Uart

    class Pin:
        OUT = 3

        def __init__(self, number, mode, value):
            self.number = number

        def __call__(self, level):
            made[0]._uart.log.append(level)


made = []


def test_serial_line():
    import time

    machine = Machine()
    spec = {"id": 2, "tx": 17, "rx": 16, "baud": 9600, "parity": "even", "de": 4}
    a = line(machine, time, spec)
    made[:] = [a]
    assert a is line(machine, time, dict(spec)), "two meters, one line"
    try:
        line(machine, time, dict(spec, baud=4800))
        raise AssertionError("two settings")
    except ValueError:
        pass
    assert a._uart.settings["parity"] == 0 and a._uart.settings["stop"] == 1
    assert a.byte_us == 11 * 1000000 // 9600
    a.send(b"ab")
    assert a._uart.log == [1, b"ab", "sent", 0]
    a._uart.rx = b"old" * 50
    a.clear()
    assert a._uart.rx == b"" and a.read(5) == b""

    async def talk():
        async with a.turn:
            a._uart.rx = b"1234567"
            assert await a.receive(5, 1000) == b"12345"
            began = time.ticks_ms()
            assert await a.receive(5, 40) == b"67"
            assert time.ticks_diff(time.ticks_ms(), began) < 1000

    asyncio.run(talk())
