"""Why the node started, whether it may run, and what it leaves behind when it falls."""

import gc
import json
import struct
from micropython import const

from gridnode import storage

VERSION = "0.1.0"
CRASH = "/log/crash.json"

_RECORD = const(0)  # of storage.Retained
_SAFE_AFTER = const(3)  # unhealthy boots in a row
_HEALTHY_MS = const(120000)


class Boot:
    """Cause of this boot. A hard reset that nobody announced was a panic: the chip reports both alike."""

    def __init__(self, machine, retained):
        self._retained = retained
        record = retained.read(_RECORD)
        unhealthy, announced = 0, ""
        if record:
            unhealthy = record[0]
            announced = record[1:].decode()
        causes = {
            machine.PWRON_RESET: "power_on",
            machine.HARD_RESET: "panic",
            machine.WDT_RESET: "wdt",
            machine.DEEPSLEEP_RESET: "deepsleep",
            machine.SOFT_RESET: "soft",
        }
        self.cause = causes.get(machine.reset_cause(), "unknown")
        self.reason = None
        if announced and self.cause in ("panic", "soft"):
            self.reason = announced
            if self.cause == "panic":
                self.cause = "reset"
        if self.cause in ("panic", "wdt") or (self.reason or "").startswith("crash"):
            unhealthy += 1
        else:
            unhealthy = 0
        self.unhealthy = unhealthy
        self._write("")

    @property
    def safe_mode(self):
        """Too many unhealthy boots in a row: the application must not start."""
        return self.unhealthy >= _SAFE_AFTER

    def _write(self, reason):
        self._retained.write(_RECORD, struct.pack("B", min(255, self.unhealthy)) + reason.encode()[:80])

    def announce(self, reason):
        """Say why the reset that follows is wanted: without it, it would count as a panic."""
        self._write(reason)

    def alive(self, uptime_ms):
        """Forget earlier failures once the node has run for two minutes."""
        if self.unhealthy and uptime_ms > _HEALTHY_MS:
            self.unhealthy = 0
            self._write("")


def announce(reason):
    """`Boot.announce` for who has no boot record at hand."""
    import machine

    retained = storage.Retained(machine.RTC())
    record = retained.read(_RECORD)
    retained.write(_RECORD, (record[:1] if record else b"\0") + reason.encode())


def record_crash(error, timestamp):
    """Keep the traceback of a failure in flash."""
    import io
    import sys

    text = io.StringIO()
    sys.print_exception(error, text)
    try:
        trace = text.getvalue()[-800:]
        storage.save(CRASH, {"version": 1, "firmware": VERSION, "timestamp": timestamp, "trace": trace})
    except (storage.StorageError, OSError):
        pass


def describe(machine, boot, uptime_ms, rssi, buffered):
    """The `node` object of the report; what is free is free after a collection."""
    gc.collect()
    node = {
        "firmware": VERSION,
        "uptime": uptime_ms // 1000,
        "reset_cause": boot.cause,
        "free_memory": gc.mem_free(),
        "cpu_frequency": machine.freq() // 1000000,
        "buffered": buffered,
    }
    try:
        import esp32

        node["cpu_temperature"] = _celsius(esp32)
    except (ImportError, AttributeError, OSError):
        pass
    if rssi is not None:
        node["rssi"] = rssi
    return node


def _celsius(esp32):
    if hasattr(esp32, "mcu_temperature"):
        return esp32.mcu_temperature()
    return round((esp32.raw_temperature() - 32) / 1.8)


def say(event, **fields):
    """One line of JSON on the console, the only form in which the running node speaks."""
    fields["event"] = event
    print(json.dumps(fields))
