"""A meter behind a bus: set up, asked once a period, set up again after a fault until it answers.

A driver gives `configure` and `measure`; what may go wrong on any bus is handled here, once.
"""

from gridnode import reading as r


class BusError(Exception):
    """The device did not answer as it must; `args[0]` says where."""


class Unusable(BusError):
    """The device answers, with what is no measurement: `args` are a sentence and the reason for the reading."""


class Polled:
    """Base of the drivers. time: the `time` module; nothing is touched before the first `block`.

    names: what the meter measures, of reading.PHASE and ONCE. settle_ms: readings are `stale` for so long after
    `configure`.
    stuck_after: so many readings in a row with the same `fingerprint`, which `measure` sets, are `stale` too; None for
    one that may repeat, as without a supply.
    """

    names = ()
    counts_energy = True
    period_ms = 1000
    settle_ms = 0
    stuck_after = 0
    commands = {}  # name -> method, of what a technician may ask for

    def __init__(self, spec, time, phases=1):
        self.id = spec["id"]
        self.phases = phases
        self.reading = r.Reading(self.id, phases)
        self.period_ms = spec.get("period_ms", self.period_ms)
        self.errors = 0  # transactions that failed or had to be repeated
        self.problem = ""
        self.fingerprint = None
        self._time = time
        self._down = True
        self._seen = None
        self._same = 0
        self._set_up = self._last = self._good = time.ticks_ms()

    def start(self, correction):
        """Take the correction; returns which parts of it the device itself applies: see Correction.applied."""
        return ()

    async def configure(self):
        """Set the device up and read back what was written. Raises BusError or OSError."""

    async def measure(self, reading):
        """Fill the cleared reading. Raises BusError or OSError."""
        raise NotImplementedError

    async def block(self):
        """One reading; while the device does not answer as configured all of it is None: `bus_fault`."""
        reading, time = self.reading, self._time
        fault = None
        try:
            if self._down:
                await self.configure()
                self._down = False
                self.problem = ""
                self._set_up = time.ticks_ms()
            reading.clear()
            if self.settle_ms and time.ticks_diff(time.ticks_ms(), self._set_up) < self.settle_ms:
                fault = r.STALE  # nothing has been measured yet
            else:
                await self.measure(reading)
                if self._stuck():
                    fault = r.STALE
                    self._down = True
        except Unusable as e:
            self.problem, fault = e.args
        except (BusError, OSError) as e:
            fault = r.BUS_FAULT
            self.problem = "no proper answer: %s" % e
        now = time.ticks_ms()
        reading.ms = reading.covered_ms = time.ticks_diff(now, self._last)
        reading.energy_ms = time.ticks_diff(now, self._good)
        self._last = now
        if fault:
            reading.clear(self.names, fault)
            reading.covered_ms = 0
            self._down = self._down or fault == r.BUS_FAULT
        else:
            self._good = now
            self.problem = ""
        return reading

    def _stuck(self):
        if not self.stuck_after or self.fingerprint is None or self.fingerprint != self._seen:
            self._seen = self.fingerprint
            self._same = 0
            return False
        self._same += 1
        if self._same < self.stuck_after:
            return False
        self.problem = "the same values %d times" % (self._same + 1)
        return True
