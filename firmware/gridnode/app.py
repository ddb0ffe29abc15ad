"""Wires the rooms and runs them; the only module that knows all others."""

import asyncio
import gc
import json
import sys
import time
from micropython import const

from gridnode import clock, config, health, report, shadow, storage

_WDT_MS = const(60000)
_STALL_MS = const(20000)  # a task that has not come round for so long is stuck
_TICK_MS = const(50)
_RESTART_MS = const(5000)
_REMIND_MS = const(600000)


class App:
    """One node."""

    def __init__(self, machine):
        self.machine = machine
        self.retained = storage.Retained(machine.RTC())
        self.boot = health.Boot(machine, self.retained)
        self.uptime = clock.Uptime()
        self.config = None
        self.row_s = 10
        self.pipelines = []
        self.connection = None
        self.shadow = shadow.Shadow("", {"config": self._desired})
        self._seen = {}  # task -> uptime when it last came round
        self._row = None  # number of the row that is under way
        self._timed = False  # it is one of UTC
        self._due = False  # a report out of turn is wanted
        self._faulty = {}  # meters whose fault has been said
        self._events = []
        self._missed = 0

    def fault(self, room, code, message, action):
        """Say what is wrong and what the node does about it."""
        health.say("fault", room=room, code=code, message=message, action=action)

    def load(self):
        """Read configuration and profile; what is unusable is said and left out."""
        storage.make_dirs()
        storage.recover()
        profile, problem = config.load(config.PROFILE, config.check_profile)
        if problem:
            action = "measure with the previous one" if profile else "no measurement until it is provisioned"
            self.fault("config", "profile", problem, action)
        if profile:
            self.row_s = profile.get("row_s", self.row_s)
            self._wire(profile)
        document, problem = config.load(config.NODE, config.check_node)
        if problem:
            action = "run with the previous one" if document else "measure without a link until it is provisioned"
            self.fault("config", "node", problem, action)
        if document:
            self.config = config.Config(document, self.row_s)
            self._link(document["thing"])

    def _wire(self, profile):
        from gridnode.pipeline import Pipeline

        stored, problem = storage.load(config.CALIBRATION)
        if problem:
            action = "measure with the previous one" if stored else "measure with design values"
            self.fault("calibration", "file", problem, action)
        for k, spec in enumerate(profile["meters"]):
            for calibrated in (stored, None):
                try:
                    args = (spec, profile, calibrated, self.machine, time, self.retained, k + 1, not k)
                    self.pipelines.append(Pipeline(*args))
                    break
                except (ValueError, KeyError, OSError) as e:
                    room = "calibration" if calibrated else "meter"
                    action = "measure with design values" if calibrated else "the other meters go on"
                    self.fault(room, "refused", "meter %s: %s" % (spec["id"], e), action)

    def _link(self, thing):
        try:
            from gridnode import link, session, wifi

            context = link.tls_context(*[_file("/certs/%s.der" % name) for name in ("ca", "cert", "key")])
            net = wifi.interface(self.config.get("network"))
        except Exception as e:  # noqa: BLE001 - the node measures without a link
            code = getattr(e, "code", "internal")
            action = "measure without a link until it is provisioned"
            self.fault("link", code, getattr(e, "message", str(e)), action)
            return
        mqtt, ntp = self.config.get("mqtt"), self.config.get("clock")
        sntp = clock.Sntp(ntp["server"], ntp["port"], ntp["resync_s"])
        self._topic = b"dt/gridnode/%s/" % thing.encode()
        self.shadow = shadow.Shadow(thing, self.shadow.handlers)
        self.shadow.set("config", self.config.remote())
        self.connection = c = session.Connection(
            thing,
            mqtt["host"],
            mqtt["port"],
            context,
            net,
            sntp,
            keepalive=mqtt["keepalive_s"],
            will=(self._topic + b"status", b'{"status":"offline"}'),
        )
        c.subscriptions = self.shadow.filters
        c.sync = lambda: c.publish(self.shadow.get_topic, self.shadow.get_request())
        c.on_state = self._state
        c.on_fault = self._link_fault
        c.session.on_message = self._message
        c.session.on_ack = lambda token, delivered: None

    # -- link

    def _state(self, state):
        if state == "online":
            self._due = True
            c = self.connection
            health.say("connected", host=c.host, port=c.port, connects=c.connects)
            c.publish(self._topic + b"status", b'{"status":"online"}')
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

    def _desired(self, patch):
        reason = self.config.apply(patch)
        if reason:
            health.say("config", accepted=False, reason=reason)
            self._event("config", accepted=False, reason=reason)
            return False, reason
        ntp = self.config.get("clock")
        self.connection.sntp.server, self.connection.sntp.port = ntp["server"], ntp["port"]
        health.say("config", accepted=True)
        self._event("config", accepted=True)
        return True, self.config.remote()

    def _event(self, event, **fields):
        """Publish an event; kept while there is no link, the oldest go first."""
        fields["event"] = event
        fields["timestamp"] = clock.unix_time() if clock.valid() else None
        self._events.append(json.dumps(fields).encode())
        del self._events[:-16]

    # -- tasks

    async def _measure(self, pipeline):
        meter = pipeline.meter
        pipeline.start()
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
            interval = self.config.get("report")["interval_s"] if self.config else self.row_s
            end = row * self.row_s
            if end % interval < self.row_s:
                self._report([(p.report.finish(end), p.report.coverage()) for p in self.pipelines], end)
                for pipeline in self.pipelines:
                    pipeline.report.restart()
        elif self._due and self.pipelines and all(p.row.count or p.report.count for p in self.pipelines):
            self._report([p.latest(now) for p in self.pipelines], now)
        if self._events and self.connection and self.connection.online:
            if self.connection.publish(self._topic + b"event", self._events[0]) is not None:
                self._events.pop(0)

    def _report(self, readings, timestamp):
        if not self.pipelines:
            return
        self._due = False
        first = self.pipelines[0]
        fields = {"timestamp": timestamp, "seq": first.ledger.next_seq()}
        fields.update(report.meter(readings[0][0], first.ledger, readings[0][1]))
        fields["anomaly"] = first.judge.verdict()
        if len(self.pipelines) > 1:
            fields["meters"] = {
                p.meter.id: report.meter(r, p.ledger, c) for p, (r, c) in zip(self.pipelines[1:], readings[1:])
            }
        rssi = self.connection.network.rssi() if self.connection else None
        fields["node"] = health.describe(self.machine, self.boot, self.uptime.ms(), rssi, len(self._events))
        payload = self.shadow.report(fields)
        fields = None
        # The console hears what the cloud hears, without a second copy of it.
        sys.stdout.write('{"event":"report","reported":')
        view = memoryview(payload)
        sys.stdout.buffer.write(view[len(b'{"state":{"reported":') : payload.rfind(b'},"clientToken"')])
        print("}")
        if self.connection and self.connection.publish(self.shadow.update_topic, payload) is None:
            self._missed += 1
        gc.collect()

    async def _guarded(self, name, task, *args):
        """Run a task; one that fails is said, kept as a crash record, and started again."""
        while True:
            try:
                await task(*args)
            except Exception as e:  # noqa: BLE001 - one room must not take the others down
                self.fault(name, "internal", "%s: %s" % (type(e).__name__, e), "start it again in 5 s")
                health.record_crash(e, clock.unix_time())
            self._seen[name] = self.uptime.ms()
            await asyncio.sleep_ms(_RESTART_MS)

    async def run(self):
        """Run all tasks; feeds the watchdog for as long as every one of them comes round."""
        wdt = self.machine.WDT(timeout=_WDT_MS)
        wdt.feed()
        self.load()
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


def _file(path):
    with open(path, "rb") as f:
        return f.read()


def main():
    """Run the node until Ctrl-C; a failure of the application itself is recorded and ends in a reset."""
    import machine

    app = App(machine)
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
