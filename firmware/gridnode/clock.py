"""The one place that knows of epochs: Unix time, SNTP, and milliseconds that do not wrap.

The ESP32 counts seconds from 2000-01-01, the unix port from 1970-01-01; everything above this
module sees Unix time.

Faults of the room "clock": sntp_dns, sntp_timeout, sntp_refused, sntp_bad, sntp_step.
"""

import time

_EPOCH = 946684800 if time.gmtime(0)[0] == 2000 else 0
EARLIEST = 1767225600  # 2026-01-01: no node was built before
LATEST = 4102444800  # 2100-01-01


def unix_time():
    """Seconds since 1970-01-01 UTC, an integer."""
    return int(time.time()) + _EPOCH


def valid():
    """False while the clock cannot be right: after power-on an ESP32 is in the year 2000."""
    return EARLIEST <= unix_time() < LATEST


def gmtime(seconds):
    """time.gmtime of a Unix time."""
    return time.gmtime(seconds - _EPOCH)


class Uptime:
    """Milliseconds since its creation as a plain integer.

    Ticks wrap after 2^30 ms (12.4 days), so `ms` must be called at least every 6 days; the
    periodic tasks do.
    """

    def __init__(self, ticks=time.ticks_ms, diff=time.ticks_diff):
        self._ticks = ticks
        self._diff = diff
        self._last = ticks()
        self._ms = 0

    def ms(self):
        """Milliseconds, never fewer than before."""
        now = self._ticks()
        step = self._diff(now, self._last)
        if step > 0:
            self._ms += step
            self._last = now
        return self._ms


class Sntp:
    """Keeps the chip's clock right: `sync` asks the server once, `due` says when to ask again.

    Policy: the first answer since start is believed if it is plausible. Later the clock follows
    any answer up to one hour away; a larger step needs a second answer that agrees within 5 s.
    `offset_ms` is the last correction.
    """

    def __init__(self, server, port=123, resync_s=3600, timeout_ms=5000):
        self.server = server
        self.port = port
        self.period_ms = resync_s * 1000
        self.timeout_ms = timeout_ms
        self.synced = False
        self.offset_ms = 0
        self.suspect = None  # offset of an answer that is too far away to be believed alone
        self._last = time.ticks_ms()
        self._wait_ms = 0

    def change(self, server, port, resync_s):
        """Take other settings; a shorter period counts from the last answer."""
        self.server = server
        self.port = port
        self.period_ms = resync_s * 1000
        self._wait_ms = min(self._wait_ms, self.period_ms)

    def wait(self, ms):
        """Be due again in `ms`."""
        self._last = time.ticks_ms()
        self._wait_ms = ms

    def due(self):
        """True at first, a minute after a failure, and when the period is over."""
        return time.ticks_diff(time.ticks_ms(), self._last) >= self._wait_ms

    async def sync(self):
        """Ask and set the clock; the correction in ms. Raises Fault. Waits `timeout_ms` at most,
        name resolution apart.
        """
        from gridnode.opening import sntp

        return await sntp.sync(self)
