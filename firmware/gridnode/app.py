"""Wires the rooms and runs them; the only module that knows all others."""

import asyncio
import gc
import json
import sys
import time
from micropython import const

from gridnode import anomaly, clock, health, report, rooms, storage

_WDT_MS = const(60000)
_STALL_MS = const(20000)  # a task that has not come round for so long is stuck
_TICK_MS = const(50)
_RESTART_MS = const(5000)
_REMIND_MS = const(600000)
_ROOM = const(10240)  # bytes of heap that must be free for a self-check
_FAREWELL_MS = const(10000)  # to tell the cloud that the node is calibrating
_SOON_MS = const(60000)  # between two self-checks of a node that has just been started
_NEW_MS = const(300000)
_LOOK_MS = const(600000)
_REASON = const(160)  # characters of a reason in the report
_GARBAGE = const(4096)  # collected before it spreads over the heap and cuts it to pieces


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
        self.ledger = None  # the first one, which numbers the reports
        self.connection = None
        self.shadow = None
        self.topic = b""  # of what the node publishes besides its shadow
        self._token = None  # of the report that waits for its PUBACK
        self._seen = {}  # task -> uptime when it last came round
        self._row = None  # number of the row that is under way
        self._timed = False  # it is one of UTC
        self._due = False  # a report out of turn is wanted
        self.site = None  # nominal V, rated A, whether it only takes power, what may be put right, voltages, their bias
        self.last_id = None  # of the last request
        self.detection = None  # of rows, where there is room for it
        self.suggestions = {}  # of the self-checks -> looks in a row
        self.calibrating = 0  # uptime since when the application has to end, for a request that was kept
        self._looked = 0  # uptime of the last look
        self._faulty = {}  # meters whose fault has been said
        self._events = []
        self._spent = {}  # task -> us that it has run since the last budget
        self._budget_from = time.ticks_ms()

    def fault(self, room, code, message, action):
        """Say what is wrong and what the node does about it."""
        health.say("fault", room=room, code=code, message=message, action=action)

    # -- furnishing

    def _furnish(self):
        from gridnode.setup import node

        node.furnish(self)
        node = None
        rooms.forget()

    # -- link

    def sync(self):
        """Ask for the shadow; the answer ends the synchronisation."""
        return self.connection.publish(self.shadow.get_topic, self.shadow.get_request())

    def state(self, state):
        """The connection has come a step further, or is down."""
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

    def link_fault(self, fault, retry_ms):
        """Something is wrong on the way to the broker; None: it does not matter now."""
        action = "go on" if retry_ms is None else "try again in %d s" % ((retry_ms + 999) // 1000)
        self.fault(fault.room, fault.code, fault.message, action)

    def message(self, topic, data, offset, total):
        """A message, or a piece of it."""
        answer = self.shadow.message(topic, data, offset, total)
        if answer == "synced":
            self.connection.synced()
        elif answer == "rejected":
            self.fault("shadow", "rejected", "%d %s" % self.shadow.error, "go on")
        elif answer == "accepted":
            health.say("accepted")
        if self.shadow.dirty:
            self._due = True

    def acked(self, token, delivered):
        """A publish has its PUBACK, or will never get one."""
        if token == self._token:
            self._token = None

    def desired(self, patch):
        """Act on desired.config: (True, what is in force) or (False, why it is refused)."""
        return self._take("desired", patch)

    def calibrate(self, patch):
        """Act on desired.calibrate: (True, its echo) or (False, why it is refused)."""
        return self._take("calibrate", patch)

    def detector(self, patch):
        """Act on desired.detector: (True, what is reported) or (False, why it is refused)."""
        return self._take("detector", patch)

    def _take(self, room, patch):
        """Let a passing room act on what is desired."""
        answer = __import__("gridnode.opening." + room, None, None, ("take",)).take(self, patch)
        rooms.forget()
        return answer

    def _told(self):
        """Whether the cloud has everything that it was to be told."""
        return not (self.connection and self.connection.online and (self.shadow.dirty or self._due or self._token))

    async def _look(self):
        """One self-check, while the other tasks run; where code lies on the heap there may be no room for it."""
        gc.collect()
        if gc.mem_free() > _ROOM:
            try:
                from gridnode.calibrating import watch

                await watch.look(self)
            except Exception as e:  # noqa: BLE001 - it must not take the others down
                self.fault("self-check", "internal", "%s: %s" % (type(e).__name__, e), "leave it out")
            watch = None
            rooms.forget()

    def _event(self, event, ago_s=0, **fields):
        """Publish an event that began `ago_s` seconds ago; kept while there is no link, the oldest go first."""
        fields["event"] = event
        fields["timestamp"] = clock.unix_time() - ago_s if clock.valid() else None
        self._events.append(json.dumps(fields).encode())
        del self._events[:-16]

    # -- tasks

    async def _measure(self, pipeline):
        meter = pipeline.meter
        while True:
            began = self.uptime.ms()
            block, changes = await pipeline.block()
            for change in changes:
                self._alarm(change)
            for event in block.events:
                self._supply_event(meter, *event)
            for flag, up in pipeline.turned(block):
                self.tell("flag", meter=meter.id, flag=flag, raised=up)
            self._watch(meter)
            now = self._seen[meter.id] = self.uptime.ms()
            await asyncio.sleep_ms(max(0, began + meter.period_ms - now))

    def tell(self, event, ago_s=0, **fields):
        """An event for console and cloud."""
        health.say(event, **fields)
        self._event(event, ago_s, **fields)

    def _supply_event(self, meter, kind, phases, extreme, ms, uncertainty_ms, ended_ms_ago):
        fields = {
            "meter": meter.id,
            "phases": phases,
            "maximum_percent" if kind == "swell" else "residual_percent": extreme and round(extreme, 1),
            "duration_ms": ms,
            "uncertainty_ms": uncertainty_ms,
        }
        self.tell(kind, (ms + ended_ms_ago) // 1000, **fields)

    def _watch(self, meter):
        """Say once when a meter stops giving values, and once when it is back."""
        reasons = meter.reading.quality.values()
        told = self._faulty.get(meter.id)
        fault = None
        for reason in ("stale", "implausible", "bus_fault"):
            if meter.problem and reason in reasons:
                fault = reason
        if fault != told and (fault or not reasons):
            self._faulty[meter.id] = fault
            if fault:
                self.fault("meter " + meter.id, fault, meter.problem, "set it up again until it answers")
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
        self.raised(fields)

    def raised(self, fields):
        """An alarm was raised or cleared, or has changed: to console and cloud, and a report at once."""
        self.tell("alarm", **fields)
        self.report_soon()

    def report_soon(self):
        """Have a report out of turn."""
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
            end = row * self.row_s
            for pipeline in self.pipelines:
                pipeline.close_row(end)
            if self.detection and valid:
                self._detect(end)
            if end % self.interval_s < self.row_s:
                self._report(end, False)
                for pipeline in self.pipelines:
                    pipeline.report.restart()
        elif self._due:
            self._report(now, True)
        if self._events and self.connection and self.connection.online:
            if self.connection.publish(self.topic + b"event", self._events[0]) is not None:
                self._events.pop(0)

    def _detect(self, end):
        """Let the detector judge the row that has ended; without it the reports go on."""
        try:
            self.detection.row(self, end)
        except Exception as e:  # noqa: BLE001 - it must not take the reports down
            self.undetected("%s: %s" % (type(e).__name__, e))

    def undetected(self, reason, code="failed"):
        """Go on without the detector, and say why."""
        self.detection = None
        rooms.drop(lambda path: path[0] == "detection" or path[0] == "anomaly" != path[-1] != "rules")
        self.shadow.set("detector", {"state": "off", "reason": reason[:_REASON]})
        self.fault("detector", code, reason, "judge by the limits alone")

    def _report(self, timestamp, early):
        """Report all meters, to the console as to the cloud; early: out of turn, of the row that is under way."""
        for pipeline in self.pipelines:
            if not pipeline.choose(early):
                return  # it has not measured yet
        self._due = False
        if not self.pipelines:
            return
        c = self.connection
        if self._token:
            c.session.withdraw(self._token)  # its text lies where the new one is going to be written
        out = self.shadow
        out.begin()
        out.put("timestamp", timestamp)
        out.put("seq", self.ledger.next_seq())
        report.meters(out, self.pipelines, timestamp)
        out.put("anomaly", anomaly.verdict(self.pipelines, self.detection))
        for pipeline in self.pipelines:
            out.put("calibrating", pipeline.calibrating)
        rssi = c.network.rssi() if c else None
        out.put("node", health.describe(self.machine, self.boot, self.uptime.ms(), rssi, len(self._events)))
        payload = out.finish()
        sys.stdout.write('{"event":"report","reported":')
        sys.stdout.buffer.write(out.reported)
        print(',"budget":%s}' % json.dumps(self._budget()))
        if c:
            self._token = c.publish(out.update_topic, payload)

    def _budget(self):
        """Where the time since the last report went: ms that each task has run, of all."""
        now = time.ticks_ms()
        budget = {"of": time.ticks_diff(now, self._budget_from)}
        self._budget_from = now
        for name in self._spent:
            budget[name] = self._spent[name] // 1000
            self._spent[name] = 0
        return budget

    def _guarded(self, name, task, *args):
        """Run a task and book the time in which it does not wait; one that fails is said, kept as a crash record, and
        started again.
        """
        spent = self._spent
        spent[name] = 0
        while True:
            running = task(*args)
            try:
                while True:
                    began = time.ticks_us()
                    try:
                        running.send(None)
                    finally:
                        spent[name] += time.ticks_diff(time.ticks_us(), began)
                    yield
            except StopIteration:
                pass
            except asyncio.CancelledError:
                running.close()
                raise
            except Exception as e:  # noqa: BLE001 - one room must not take the others down
                running = None
                rooms.forget()
                try:
                    self.fault(name, "internal", "%s: %s" % (type(e).__name__, e), "start it again in 5 s")
                    health.record_crash(e, clock.unix_time())
                except MemoryError:
                    pass  # what cannot be told must not keep the task from being started again
                rooms.forget()
            self._seen[name] = self.uptime.ms()
            yield from asyncio.sleep_ms(_RESTART_MS)  # type: ignore[misc]

    async def run(self):
        """Run all tasks; feeds the watchdog for as long as every one of them comes round."""
        wdt = self.machine.WDT(timeout=_WDT_MS)
        wdt.feed()
        self._furnish()
        names = ["report"]
        running = [asyncio.create_task(self._guarded("report", self._reports))]
        for pipeline in self.pipelines:
            names.append(pipeline.meter.id)
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
                if self.calibrating:
                    if self._told() or now - self.calibrating > _FAREWELL_MS:
                        return
                elif now - self._looked > (_SOON_MS if now < _NEW_MS else _LOOK_MS):
                    self._looked = now
                    await self._look()
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
                if pipeline.ledger:
                    pipeline.ledger.checkpoint()
            except (storage.StorageError, OSError) as e:
                self.fault("energy", "flash", str(e), "keep the totals in RTC memory")
        if self.detection:
            self.detection.save(self)
        if self.connection:
            self.connection.session.disconnect()


def _make():
    import machine

    from gridnode.setup import boot

    gc.threshold(_GARBAGE)
    retained = storage.Retained(machine.RTC())
    record = boot.examine(machine, retained)
    boot.tell(machine, record)
    return App(machine, retained, record)


def main():
    """Run the node until Ctrl-C; a failure of the application itself is recorded and ends in a reset."""
    app = _make()
    machine = app.machine
    try:
        asyncio.run(app.run())
        if app.calibrating:
            app.boot.announce("calibration")
            app.stop()
            machine.reset()
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
