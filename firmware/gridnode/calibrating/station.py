"""A meter that measures with a given calibration while the application is stopped."""

import asyncio
import machine
import time
from micropython import const

from gridnode import documents, energy, storage
from gridnode.calibrating import Refused
from gridnode.setup import calibration, drivers

_WDT_MS = const(600000)
_THERMOMETER_MS = const(10000)  # between two looks at a thermometer of its own


def profile():
    """The profile; the node judges it when it is installed and at every start. Raises Refused without one."""
    document, problem = documents.load(documents.PROFILE)
    if not document:
        raise Refused("meter", problem or "no profile is installed")
    return document


def place(document, name):
    """Index and entry of a meter in a profile. Raises Refused."""
    for k, spec in enumerate(document["meters"]):
        if spec["id"] == name:
            return k, spec
    raise Refused("meter", "no meter %r; there are %s" % (name, ", ".join([m["id"] for m in document["meters"]])))


def ledger(document, k, meter):
    """The energy totals of meter k, as the application has left them."""
    limit_w = document["nominal"]["voltage"] * document["rating"]["current"] * 1.5 * meter.phases
    path = energy.path(meter.id, not k)
    book = energy.Ledger(len(meter.reading.at), limit_w, storage.Retained(machine.RTC()), k + 1, path)
    book.load()
    return book


class Station:
    """One meter of a profile with the calibration `stored`; `pair` takes the first voltage and current alone.

    Energy is counted on: what flows during a calibration has flown.
    """

    def __init__(self, stored, name, pair=False):
        document = profile()
        try:
            calibration.install(document, stored)
            self.k, self.spec = place(document, name)
            if pair:
                self.spec.update({"voltage": self.spec["voltage"][:1], "current": self.spec["current"][:1]})
            meters = []
            for n, spec in enumerate(document["meters"]):
                is_needed = n == self.k or spec["driver"] in ("sht3x", "ds18b20", "mcu")
                meters.append(drivers.load_meter(spec, document, machine, time) if is_needed else None)
            self.meter = meters[self.k]
            self.thermometer = calibration.thermometer(meters, self.k)
            self._further = None
            for meter, spec in zip(meters, document["meters"]):
                if meter and meter is not self.meter and meter.reading is self.thermometer:
                    meter.start(calibration.correction(spec))
                    self._further = meter
            self.correction = calibration.put(self.meter, self.spec, stored, self.thermometer)
        except (ValueError, KeyError, OSError) as e:
            raise Refused("meter", "meter %s: %s" % (name, e))
        self._looked = None
        self.profile = {key: document.get(key, {}) for key in ("nominal", "rating", "calibration")}
        self.ledger = None
        if self.meter.counts_energy and not pair:
            self.ledger = ledger(self.profile, self.k, self.meter)

    async def _read(self, take, done, patience_ms):
        began = time.ticks_ms()
        while not done():
            if time.ticks_diff(time.ticks_ms(), began) > patience_ms:
                sentence = "no end of the measurement within %d s: %s"
                raise Refused("meter", sentence % (patience_ms // 1000, self.meter.problem))
            machine.WDT(timeout=_WDT_MS).feed()
            await self._look()
            since = time.ticks_ms()
            block = self.correction.correct(await self.meter.block())
            if self.ledger:
                self.ledger.account(block)
            if "stale" not in block.quality.values() or time.ticks_diff(since, began) > patience_ms // 10:
                take(block)
            rest = self.meter.period_ms - time.ticks_diff(time.ticks_ms(), since)
            await asyncio.sleep_ms(max(0, rest))

    async def _look(self):
        now = time.ticks_ms()
        if self._further and (self._looked is None or time.ticks_diff(now, self._looked) > _THERMOMETER_MS):
            self._looked = now
            for _ in range(3):
                await self._further.block()
                if self.thermometer.at[0].get("temperature") is not None:
                    break
                await asyncio.sleep_ms(500)

    def run(self, windows, patience_ms=120000):
        """Feed an object that has `add` and `full` with corrected readings until it is full."""
        try:
            asyncio.run(self._read(windows.add, lambda: windows.full, patience_ms))
        finally:
            if self.ledger:
                self.ledger.retain()
