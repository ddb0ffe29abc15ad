"""How the node is: the record of its boot, its figures for the report, what it says on its console."""

import gc
import json
from micropython import const

VERSION = "0.1.0"
RECORD = 0  # of storage.Retained

_SAFE_AFTER = const(3)  # unhealthy boots in a row
_HEALTHY_MS = const(120000)


class Boot:
    """Cause of this boot, and how many in a row have been unhealthy."""

    def __init__(self, retained, cause, reason, unhealthy):
        self._retained = retained
        self.cause = cause
        self.reason = reason
        self.unhealthy = unhealthy

    @property
    def safe_mode(self):
        """Too many unhealthy boots in a row: the application must not start."""
        return self.unhealthy >= _SAFE_AFTER

    def announce(self, reason):
        """Say why the reset that follows is wanted: without it, it would count as a panic."""
        announce(self._retained, self.unhealthy, reason)

    def alive(self, uptime_ms):
        """Forget earlier failures once the node has run for two minutes."""
        if self.unhealthy and uptime_ms > _HEALTHY_MS:
            self.unhealthy = 0
            self.announce("")


def announce(retained, unhealthy, reason):
    """Write the boot record: number of unhealthy boots, reason of the next reset."""
    retained.write(RECORD, bytes((min(255, unhealthy),)) + reason.encode()[:80])


def record_crash(error, timestamp):
    """Keep the traceback of a failure in flash."""
    from gridnode.opening import crash

    crash.record(error, timestamp)


def describe(machine, boot, uptime_ms, rssi, buffered):
    """The `node` object of the report; what is free is free after a collection."""
    gc.collect()
    temperature = celsius()
    return {
        "firmware": VERSION,
        "uptime": uptime_ms // 1000,
        "reset_cause": boot.cause,
        "free_memory": gc.mem_free(),
        "cpu_frequency": machine.freq() // 1000000,
        "cpu_temperature": None if temperature is None else round(temperature),
        "rssi": rssi,
        "buffered": buffered,
    }


def celsius():
    """Temperature of the chip in degC, None where it has no sensor."""
    try:
        import esp32

        if hasattr(esp32, "mcu_temperature"):
            return float(esp32.mcu_temperature())
        return (esp32.raw_temperature() - 32) / 1.8
    except (ImportError, AttributeError, OSError):
        return None


def say(event, **fields):
    """One line of JSON on the console, the only form in which the running node speaks."""
    fields["event"] = event
    print(json.dumps(fields))
