"""Wires the rooms and runs them; the only module that knows all others."""

import asyncio
import gc
import json
import sys
import time
from micropython import const

from gridnode import clock, health, report, rooms, shadow, storage

_WDT_MS = const(60000)
_STALL_MS = const(20000)  # a task that has not come round for so long is stuck
_TICK_MS = const(50)
_RESTART_MS = const(5000)
_REMIND_MS = const(600000)
_REPORT_BYTES = const(256)  # for the totals of a meter and for each phase
_GARBAGE = const(8192)  # collected before it spreads over the heap and cuts it to pieces


class App:
    """One node."""

    def __init__(self, machine, retained, boot):
        self.machine = machine
        self.retained = retained
        self.boot = boot
        self.uptime = clock.Uptime()
        self.row_s = 10
        self.interval_s = 10  # of the reports
        self.pipelines = []
        self.connection = None
        self.shadow = None
        self.topic = b""  # of what the node publishes besides its shadow
        self._token = None  # of the report that waits for its PUBACK
        self._seen = {}  # task -> uptime when it last came round
        self._row = None  # number of the row that is under way
        self._timed = False  # it is one of UTC
        self._due = False  # a report out of turn is wanted
        self._faulty = {}  # meters whose fault has been said
        self._events = []

    def fault(self, room, code, message, action):
        """Say what is wrong and what the node does about it."""
        health.say("fault", room=room, code=code, message=message, action=action)

    # -- furnishing

    def _furnish(self):
        from gridnode.setup import node

        node.furnish(self)
        node = None
        rooms.forget()

    def allot(self, thing):
        """Make the shadow, its buffer large enough for the report of all meters."""
        channels = sum([len(p.meter.reading.at) for p in self.pipelines])
        self.shadow = shadow.Shadow(thing, {"config": self._desired}, 1024 + _REPORT_BYTES * channels)
        self.topic = b"dt/gridnode/%s/" % thing.encode()

    def configure(self, settings):
        """Take what is in force from a config.Config, and report the part that desired.config may change."""
        remote = settings.remote()
        self.interval_s = remote["report"]["interval_s"]
        self.shadow.set("config", remote)
        return remote

    def join(self, connection):
        """Take the connection and listen to it."""
        self.connection = c = connection
        c.subscriptions = self.shadow.filters
        c.sync = lambda: c.publish(self.shadow.get_topic, self.shadow.get_request())
        c.on_state = self._state
        c.on_fault = self._link_fault
        c.session.on_message = self._message
        c.session.on_ack = self._acked

    # -- link

    def _state(self, state):
        if state == "online":
            self._due = True
            c = self.connection
            health.say("connected", host=c.host, port=c.port, connects=c.connects)
            c.publish(self.topic + b"status", b'{"status":"online"}')
            if c.connects == 1:
                self._event("boot", cause=self.boot.cause, reason=self.boot.reason)
        elif state == "down":
            health.say("disconnected")
        else:
            health.say("link", state=state)

    def _link_fault(self, fault, retry_ms):
        action = "go on" if retry_ms is None else "try again in %d s" % ((retry_ms + 999) // 1000)
        self.fault(fault.room, fault.code, fault.message, action)

    def _message(self, topic, data, offset, total):
        answer = self.shadow.message(topic, data, offset, total)
        if answer == "synced":
            self.connection.synced()
        elif answer == "rejected":
            self.fault("shadow", "rejected", "%d %s" % self.shadow.error, "go on")
        elif answer == "accepted":
            health.say("accepted")
        if self.shadow.dirty:
            self._due = True

    def _acked(self, token, delivered):
        if token == self._token:
            self._token = None

    def _desired(self, patch):
        from gridnode import config

        settings = config.Config(config.load(config.NODE, config.check_node)[0], self.row_s)
        reason = settings.apply(patch)
        fields = {"accepted": not reason}
        if reason:
            fields["reason"] = reason
            answer = False, reason
        else:
            remote = self.configure(settings)
            ntp = remote["clock"]
            self.connection.sntp.change(ntp["server"], ntp["port"], ntp["resync_s"])
            answer = True, remote
        settings = config = None
        rooms.forget()
        health.say("config", **fields)
        self._event("config", **fields)
        return answer

    def _event(self, event, **fields):
        """Publish an event; kept while there is no link, the oldest go first."""
        fields["event"] = event
        fields["timestamp"] = clock.unix_time() if clock.valid() else None
        self._events.append(json.dumps(fields).encode())
        del self._events[:-16]

    # -- tasks

    async def _measure(self, pipeline):
        meter = pipeline.meter
        while True:
            for change in pipeline.block():
                self._alarm(change)
            self._watch(meter)
            self._seen[meter.id] = self.uptime.ms()
            await asyncio.sleep_ms(meter.period_ms)

    def _watch(self, meter):
        """Say once when a meter stops giving values, and once when it is back."""
        reasons = meter.reading.quality.values()
        faulty = "bus_fault" in reasons
        if faulty != self._faulty.get(meter.id, False) and (faulty or not reasons):
            self._faulty[meter.id] = faulty
            if faulty:
                self.fault("meter " + meter.id, "bus_fault", meter.problem, "set it up again until it answers")
            else:
                health.say("recovered", room="meter " + meter.id)
            self._due = True

    def _alarm(self, change):
        fields = {
            "signal": change.signal,
            "kind": change.kind,
            "raised": change.raised,
            "priority": change.priority,
            "text": change.text,
        }
        health.say("alarm", **fields)
        self._event("alarm", **fields)
        self._due = True

    async def _reports(self):
        while True:
            self._seen["report"] = self.uptime.ms()
            self._tick()
            await asyncio.sleep_ms(_TICK_MS)

    def _tick(self):
        valid = clock.valid()
        now = clock.unix_time() if valid else self.uptime.ms() // 1000
        row = now // self.row_s
        if self._row is None or valid != self._timed:
            self._row, self._timed = row, valid  # rows are aligned to UTC from here on
        if row != self._row:
            self._row = row
            for pipeline in self.pipelines:
                pipeline.close_row(row * self.row_s)
            end = row * self.row_s
            if end % self.interval_s < self.row_s:
                self._report([p.report for p in self.pipelines], end)
                for pipeline in self.pipelines:
                    pipeline.report.restart()
        elif self._due and all(p.row.count or p.report.count for p in self.pipelines):
            self._report([p.latest() for p in self.pipelines], now)
        if self._events and self.connection and self.connection.online:
            if self.connection.publish(self.topic + b"event", self._events[0]) is not None:
                self._events.pop(0)

    def _report(self, windows, timestamp):
        """Report one window of each meter, to the console as to the cloud."""
        self._due = False
        if not windows:
            return
        c = self.connection
        if self._token:
            c.session.withdraw(self._token)  # its text lies where the new one is going to be written
        out = self.shadow
        out.begin()
        first = self.pipelines[0]
        out.put("timestamp", timestamp)
        out.put("seq", first.ledger.next_seq())
        report.meter(out, windows[0], first.ledger, timestamp)
        if len(windows) > 1:
            out.open("meters")
            for pipeline, window in zip(self.pipelines[1:], windows[1:]):
                out.open(pipeline.meter.id)
                report.meter(out, window, pipeline.ledger, timestamp)
                out.close()
            out.close()
        out.put("anomaly", first.judge.verdict())
        rssi = c.network.rssi() if c else None
        out.put("node", health.describe(self.machine, self.boot, self.uptime.ms(), rssi, len(self._events)))
        payload = out.finish()
        sys.stdout.write('{"event":"report","reported":')
        sys.stdout.buffer.write(out.reported)
        print("}")
        if c:
            self._token = c.publish(out.update_topic, payload)

    async def _guarded(self, name, task, *args):
        """Run a task; one that fails is said, kept as a crash record, and started again."""
        while True:
            try:
                await task(*args)
            except Exception as e:  # noqa: BLE001 - one room must not take the others down
                self.fault(name, "internal", "%s: %s" % (type(e).__name__, e), "start it again in 5 s")
                health.record_crash(e, clock.unix_time())
                rooms.forget()
            self._seen[name] = self.uptime.ms()
            await asyncio.sleep_ms(_RESTART_MS)

    async def run(self):
        """Run all tasks; feeds the watchdog for as long as every one of them comes round."""
        wdt = self.machine.WDT(timeout=_WDT_MS)
        wdt.feed()
        self._furnish()
        names = ["report"] + [pipeline.meter.id for pipeline in self.pipelines]
        running = [asyncio.create_task(self._guarded("report", self._reports))]
        for pipeline in self.pipelines:
            running.append(asyncio.create_task(self._guarded(pipeline.meter.id, self._measure, pipeline)))
        if self.connection:
            running.append(asyncio.create_task(self._guarded("link", self.connection.run)))
        gc.collect()
        reminded = 0
        try:
            while True:
                now = self.uptime.ms()
                if all(now - self._seen.get(name, 0) < _STALL_MS for name in names):
                    wdt.feed()
                self.boot.alive(now)
                if now - reminded > _REMIND_MS and not (self.pipelines and self.connection):
                    reminded = now
                    self.fault("config", "incomplete", "this node is not fully provisioned", "wait for provisioning")
                await asyncio.sleep_ms(1000)
        finally:
            for task in running:
                task.cancel()

    def stop(self):
        """Leave nothing half done: totals to flash, the link closed."""
        for pipeline in self.pipelines:
            try:
                pipeline.ledger.checkpoint()
            except (storage.StorageError, OSError) as e:
                self.fault("energy", "flash", str(e), "keep the totals in RTC memory")
        if self.connection:
            self.connection.session.disconnect()


def _make():
    import machine

    from gridnode.setup import boot

    gc.threshold(_GARBAGE)
    retained = storage.Retained(machine.RTC())
    return App(machine, retained, boot.examine(machine, retained))


def main():
    """Run the node until Ctrl-C; a failure of the application itself is recorded and ends in a reset."""
    app = _make()
    machine = app.machine
    health.say("boot", firmware=health.VERSION, cause=app.boot.cause, reason=app.boot.reason)
    if app.boot.safe_mode:
        action = "wait 5 min for a technician, then try again"
        health.say("safe_mode", unhealthy_boots=app.boot.unhealthy, action=action)
        machine.WDT(timeout=600000).feed()
        time.sleep(300)
    try:
        asyncio.run(app.run())
    except KeyboardInterrupt:
        app.boot.announce("console")
        # The host gets ten minutes between two service calls before the node starts again by itself.
        machine.WDT(timeout=600000).feed()
    except Exception as e:  # noqa: BLE001 - the last resort of a node that is alone
        health.record_crash(e, clock.unix_time())
        app.boot.announce("crash: %s" % type(e).__name__)
        app.fault("app", "crash", "%s: %s" % (type(e).__name__, e), "reset in 5 s")
        time.sleep(5)
        machine.reset()
    finally:
        app.stop()
        asyncio.new_event_loop()
    health.say("stopped")
