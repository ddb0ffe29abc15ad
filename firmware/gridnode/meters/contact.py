"""Tamper contact of a cover, from a pin to ground: closed while the cover is.

The pin's pull-up makes a cut wire read as an open cover.
"""

from gridnode.meters.polled import Polled


class Meter(Polled):
    """Contact of one profile entry. `machine` and `time` are passed in; nothing is touched before `start`."""

    names = ("cover",)
    counts_energy = False

    def __init__(self, spec, profile, machine, time):
        super().__init__(spec, time)
        self._entry = spec["contact"]
        self._machine = machine

    def start(self, correction):
        """Take the pin; a contact has nothing to correct."""
        pin = self._machine.Pin
        self._pin = pin(self._entry["pin"], pin.IN, pin.PULL_UP)
        self._entry = self._machine = None
        return ()

    async def measure(self, reading):
        """1 while the cover is open, 0 while it is closed; in a row, the share of the time that it was open."""
        reading.at[0]["cover"] = float(self._pin.value())
