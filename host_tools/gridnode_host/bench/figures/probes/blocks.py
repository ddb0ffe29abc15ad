"""What one reading of a front end costs: bytes left on the heap, time of the processor, time in all.

Runs at the prompt of a provisioned node that steps its clock itself: the VM's own time is then what the processor
needs, without any sleep.
"""
# mypy: ignore-errors

import asyncio
import gc
import json
import machine
import time

from _clock import utime  # the VM's own
from gridnode import config, documents, storage
from gridnode.setup import calibration, drivers, pipeline

_RUNS = 12
_SKIP = 6  # a chip's first window, buffers that grow

# flash is not what is measured here
storage.write = storage.promote = lambda *_: None


async def _spent(work):
    gc.collect()
    gc.disable()
    begun, native, before = time.ticks_us(), utime.ticks_us(), gc.mem_alloc()
    await work()
    spent = gc.mem_alloc() - before
    native, begun = utime.ticks_diff(utime.ticks_us(), native), time.ticks_diff(time.ticks_us(), begun)
    gc.enable()
    return spent, native, begun


async def main():
    profile = config.load(documents.PROFILE, config.check_profile)[0]
    stored = documents.load(documents.CALIBRATION)[0]
    spec = profile["meters"][0]
    meter = drivers.load_meter(spec, profile, machine, time)
    correction = calibration.put(meter, spec, stored)
    way = pipeline.build(meter, correction, spec, profile, storage.Retained(machine.RTC()), 1, meter.names)
    result = {}
    for name, work in (("meter", meter.block), ("way", way.block)):
        found = []
        for _ in range(_RUNS + _SKIP):
            found.append(await _spent(work))
            await asyncio.sleep_ms(meter.period_ms)
        result[name] = found[_SKIP:]
    result["quality"] = meter.reading.quality
    result["voltage"] = meter.reading.at[0].get("voltage")
    result["current"] = meter.reading.at[0].get("current")
    print(json.dumps(result))


asyncio.run(main())
