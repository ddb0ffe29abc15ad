"""Temperature of the chip that the node runs on: a few degrees exact, for cabinets that get hot."""

from gridnode import health
from gridnode.meters.polled import BusError, Polled


class Meter(Polled):
    """On-chip temperature of one profile entry."""

    names = ("temperature",)
    counts_energy = False
    period_ms = 5000

    def __init__(self, spec, profile, machine, time):
        super().__init__(spec, time)

    async def measure(self, reading):
        """One value; not every chip has the sensor."""
        value = health.celsius()
        if value is None:
            raise BusError("this chip has no temperature sensor")
        reading.at[0]["temperature"] = value
