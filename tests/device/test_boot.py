"""Why a node started, whether it may run, and how the running tasks are supervised."""

import asyncio

from gridnode import app, health, storage
from gridnode.setup import boot
from ramdisk import Rtc

STEP_MS = 250


class Machine:
    """A chip whose next start has a cause, and whose watchdog notes when it was fed."""

    PWRON_RESET = 1
    HARD_RESET = 2
    WDT_RESET = 3
    DEEPSLEEP_RESET = 4
    SOFT_RESET = 5

    def __init__(self):
        self.rtc = Rtc()
        self.world = None
        self.timeout_ms = None
        self.fed = []  # when

    def start(self, cause):
        """The boot record after a reset; RTC memory does not survive power-on."""
        if cause == self.PWRON_RESET:
            self.rtc = Rtc()
        self.reset_cause = lambda: cause
        return boot.examine(self, storage.Retained(self.rtc))

    def WDT(self, timeout):
        self.timeout_ms = timeout
        return self

    def feed(self):
        self.fed.append(self.world.now)


class World:
    """Stands for asyncio in the application and for its uptime: time passes as the tasks come round."""

    CancelledError = asyncio.CancelledError

    def __init__(self):
        self.now = 0

    def ms(self):
        return self.now

    def create_task(self, task):
        return asyncio.create_task(task)

    async def sleep_ms(self, ms):
        end = self.now + ms
        while True:
            await asyncio.sleep_ms(0)
            if self.now >= end:
                return

    async def until(self, ms):
        while self.now < ms:
            self.now += STEP_MS
            await asyncio.sleep_ms(0)


class Part:
    def __init__(self, **fields):
        for name, value in fields.items():
            setattr(self, name, value)


def meter(name, failure=None):
    """A pipeline that measures nothing."""

    turns = []

    async def block():
        if failure:
            raise failure
        turns.append(1)
        return Part(events=()), ()

    watched = Part(id=name, period_ms=200, reading=Part(quality={}), problem="", names=())
    return Part(meter=watched, block=block, turned=lambda block: (), turns=turns)


class Run:
    """One run of the application with pipelines and a connection of our own; `said` is its console."""

    def __init__(self, pipelines=(), connection=None, unhealthy=0):
        self.world = World()
        self.machine = Machine()
        self.machine.world = self.world
        self.said = []
        self.retained = storage.Retained(self.machine.rtc)
        self.app = app.App(self.machine, self.retained, health.Boot(self.retained, "panic", None, unhealthy))
        self.app.boot.announce("")
        self.app.uptime = self.world
        self.app.pipelines = list(pipelines)
        self.app.connection = connection
        self.app._furnish = lambda: None
        self.record = lambda error, timestamp: None  # of a crash
        self.app._tick = lambda: None

    def go(self, *steps):
        """Run until each (ms, action) of `steps`."""
        kept = app.asyncio, health.say, health.record_crash
        app.asyncio = self.world
        health.say = lambda event, **fields: self.said.append((self.world.now, event, fields))
        health.record_crash = self.record
        try:
            asyncio.run(self._go(steps))
        finally:
            app.asyncio, health.say, health.record_crash = kept
        return self

    async def _go(self, steps):
        task = asyncio.create_task(self.app.run())
        for ms, action in steps:
            await self.world.until(ms)
            assert not task.done(), "the application has ended"
            if action:
                action()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    def longest_without_feed(self):
        marks = self.machine.fed + [self.world.now]
        return max([b - a for a, b in zip(marks, marks[1:])])

    def faults(self, code):
        return [at for at, event, fields in self.said if event == "fault" and fields["code"] == code]


def counted(starts):
    """Number of unhealthy boots after each start of (cause, announced before)."""
    machine = Machine()
    record = machine.start(machine.PWRON_RESET)
    counts = []
    for cause, announced in starts:
        if announced:
            record.announce(announced)
        record = machine.start(cause)
        counts.append(record.unhealthy)
    return counts, record


# -- the boot record


def test_three_unhealthy_boots_in_a_row_lead_to_safe_mode():
    for causes in (
        (Machine.HARD_RESET,) * 3,
        (Machine.WDT_RESET,) * 3,
        (Machine.WDT_RESET, Machine.HARD_RESET, Machine.WDT_RESET),
    ):
        for n in range(4):
            counts, record = counted([(cause, None) for cause in causes[:n]])
            assert counts == list(range(1, n + 1)), counts
            assert record.safe_mode is (n == 3), (causes, n)
    counts, record = counted([(Machine.HARD_RESET, "crash: ValueError")] * 3)
    assert counts == [1, 2, 3] and record.safe_mode, "a crash of the application is no less unhealthy for its record"
    counts, record = counted([(Machine.HARD_RESET, None)] * 4)
    assert counts[-1] == 4 and record.safe_mode


def test_what_ends_the_row_of_unhealthy_boots():
    unhealthy = [(Machine.HARD_RESET, None), (Machine.WDT_RESET, None)]
    for cause, announced in (
        (Machine.HARD_RESET, "service"),
        (Machine.SOFT_RESET, None),
        (Machine.SOFT_RESET, "console"),
        (Machine.DEEPSLEEP_RESET, None),
        (Machine.PWRON_RESET, None),
    ):
        counts, record = counted(unhealthy + [(cause, announced)] + unhealthy)
        assert counts == [1, 2, 0, 1, 2] and not record.safe_mode, (cause, announced, counts)


def test_causes_and_reasons():
    for cause, announced, expected in (
        (Machine.PWRON_RESET, None, ("power_on", None)),
        (Machine.HARD_RESET, None, ("panic", None)),
        (Machine.HARD_RESET, "service", ("reset", "service")),
        (Machine.HARD_RESET, "crash: OSError", ("reset", "crash: OSError")),
        (Machine.SOFT_RESET, None, ("soft", None)),
        (Machine.SOFT_RESET, "console", ("soft", "console")),
        (Machine.WDT_RESET, None, ("wdt", None)),
        (Machine.WDT_RESET, "service", ("wdt", None)),  # it bit before the announced reset came
        (Machine.DEEPSLEEP_RESET, None, ("deepsleep", None)),
        (99, None, ("unknown", None)),
    ):
        _, record = counted([(cause, announced)])
        assert (record.cause, record.reason) == expected, (cause, announced, record.cause, record.reason)


def test_an_announcement_counts_once():
    _, record = counted([(Machine.HARD_RESET, "service"), (Machine.HARD_RESET, None)])
    assert record.cause == "panic" and record.unhealthy == 1


def test_two_healthy_minutes_end_the_row():
    for ms, before, after in ((115000, 2, 3), (125000, 0, 1)):
        run = Run(unhealthy=2).go((ms, None))
        assert run.app.boot.unhealthy == before, (ms, run.app.boot.unhealthy)
        record = run.machine.start(Machine.HARD_RESET)
        assert record.unhealthy == after and record.cause == "panic", (ms, record.unhealthy)


# -- supervision


def test_the_watchdog_is_fed_while_every_task_comes_round():
    run = Run([meter("main"), meter("solar")]).go((180000, None))
    assert run.machine.timeout_ms == 60000, run.machine.timeout_ms
    assert run.longest_without_feed() <= 2000, run.longest_without_feed()


def test_a_meter_that_hangs_stops_the_feeding():
    stuck = meter("solar")

    def hang():
        stuck.meter.period_ms = 10**7

    run = Run([meter("main"), stuck]).go((30000, hang), (180000, None))
    assert 30000 < run.machine.fed[-1] < 52000, run.machine.fed[-1]


def test_a_report_task_that_hangs_stops_the_feeding():
    run = Run([meter("main")])

    async def reports():
        run.app._seen["report"] = run.world.now
        await run.world.sleep_ms(10**7)

    run.app._reports = reports
    run.go((120000, None))
    assert 10000 < run.machine.fed[-1] < 22000, run.machine.fed[-1]


def test_a_task_that_comes_back_is_fed_for_again():
    slow = meter("solar")

    def pause():
        slow.meter.period_ms = 40000

    def resume():
        slow.meter.period_ms = 200

    run = Run([slow]).go((30000, pause), (31000, resume), (120000, None))
    assert 19000 <= run.longest_without_feed() < 25000, run.longest_without_feed()
    assert run.machine.fed[-1] > 118000


def test_a_task_that_fails_is_started_again_and_takes_no_other_down():
    good = meter("main")
    run = Run([good, meter("solar", ValueError("broken"))])
    run.go((60000, None))
    at = run.faults("internal")
    assert 10 <= len(at) <= 13, at
    assert all(4900 <= b - a <= 6000 for a, b in zip(at, at[1:])), at
    assert run.longest_without_feed() <= 2000
    assert len(good.turns) > 100, len(good.turns)


def test_a_failure_that_finds_no_room_to_be_recorded_does_not_end_its_task():
    def record(error, timestamp):
        raise MemoryError

    run = Run([meter("main"), meter("solar", MemoryError("broken"))])
    run.record = record
    run.go((60000, None))
    at = run.faults("internal")
    assert 10 <= len(at) <= 13, at
    assert run.longest_without_feed() <= 2000


# -- reminder


def test_an_incomplete_node_reminds_every_ten_minutes():
    connection = Part(run=lambda: World.sleep_ms(run.world, 10**8))
    for pipelines, link in (((), None), ([meter("main")], None), ((), connection)):
        run = Run(pipelines, link).go((1300000, None))
        at = run.faults("incomplete")
        assert len(at) == 2, at
        assert 600000 <= at[0] < 605000 and 600000 <= at[1] - at[0] < 605000, at
    run = Run([meter("main")], connection).go((700000, None))
    assert not run.faults("incomplete")
