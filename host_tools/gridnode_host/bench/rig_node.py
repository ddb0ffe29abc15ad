"""A virtual node with everything around it: its mains, its front end, its console."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gridnode_host.bench import supply
from gridnode_host.bench.chips.atm90e32 import Atm90e32
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.frontend import wire
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.node import VirtualNode
from gridnode_host.bench.wiring import Wiring

_BUS_FAULTS = {
    "bus_absent": "absent",
    "bus_stuck_high": "stuck_high",
    "bus_stuck_low": "stuck_low",
    "bus_bit_error": "bit_error",
}
_KEPT_EVENTS = 2000


class RigNode(VirtualNode):
    """One node of a virtual bench; `circuit` is its mains, `calibration` exact for its parts."""

    faults = frozenset(
        {*supply.SENSOR_FAULTS, *supply.SUPPLY_FAULTS, *_BUS_FAULTS, "chip_reset", "wlan", "lan"}
    )

    def __init__(
        self,
        thing: str,
        folder: Path,
        profile: Mapping[str, Any],
        circuit: Circuit,
        *,
        clock: RigClock,
        image: Path | None,
        micropython: str | None = None,
        seed: int = 0,
        ideal: bool = False,
    ) -> None:
        self.thing = thing
        self.profile = profile
        self.profile_name = str(profile["sku"])
        self.rating = float(profile["rating"]["current"])
        """Rated current, A."""
        self.circuit = circuit
        self.link = "down"
        """State of its connection as the node last told it: wifi, clock, tls, .. online, down."""
        wiring = Wiring()
        self.calibration = wire(profile, circuit, wiring, seed=seed, ideal=ideal)
        super().__init__(thing, folder, image, wiring, clock, micropython=micropython)
        self._events: deque[dict[str, Any]] = deque(maxlen=_KEPT_EVENTS)
        self._heard = threading.Condition()
        self.on_line(self._hear)

    @property
    def chips(self) -> list[Atm90e32]:
        """The metering chips that are wired to the node."""
        devices = [d for bus in self.wiring.spi.values() for d in bus.values()]
        return [device for device in devices if isinstance(device, Atm90e32)]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The console's events so far, oldest first."""
        with self._heard:
            return list(self._events)

    def wait_event(
        self,
        name: str,
        timeout: float = 20.0,
        predicate: Callable[[dict[str, Any]], object] = lambda event: True,
        since: int = 0,
    ) -> dict[str, Any]:
        """Wait (real seconds) for a console event that satisfies `predicate`.

        Events before the `since`-th are not looked at. Raises TimeoutError.
        """
        deadline = time.monotonic() + timeout
        with self._heard:
            while True:
                for event in list(self._events)[since:]:
                    if event["event"] == name and predicate(event):
                        return event
                left = deadline - time.monotonic()
                if left <= 0:
                    names = [event["event"] for event in self._events][-8:]
                    raise TimeoutError(
                        f"{self.thing} told no {name} within {timeout:g} s: {names}"
                    )
                self._heard.wait(left)

    def fault(self, name: str, *, phase: int | None = None, **how: Any) -> None:
        """Break something by name: see `faults`. Raises ValueError where it does not apply.

        Mains and clamps: `ct_open`, `ct_reversed`, `ct_swapped`, `voltage_lost`, `neutral_lost`,
        with `phase` (None: all). A metering chip's bus: `bus_absent`, `bus_stuck_high`,
        `bus_stuck_low`, `bus_bit_error` (`rate=`); its supply: `chip_reset`. Network: `wlan`
        and `lan` are gone.
        """
        if name in supply.SENSOR_FAULTS + supply.SUPPLY_FAULTS:
            self.circuit.fault(name, phase, **how)
        elif name in _BUS_FAULTS or name == "chip_reset":
            if not self.chips:
                raise ValueError(f"{self.thing} has no metering chip")
            for chip in self.chips:
                if name == "chip_reset":
                    chip.brown_out()
                else:
                    chip.fault(_BUS_FAULTS[name], **how)
        elif name in ("wlan", "lan"):
            setattr(self.wiring, f"{name}_up", False)
        else:
            raise ValueError(f"no such fault: {name}; there are {', '.join(sorted(self.faults))}")

    def clear(self, name: str, *, phase: int | None = None) -> None:
        """Repair what `fault` broke."""
        if name in supply.SENSOR_FAULTS + supply.SUPPLY_FAULTS:
            self.circuit.clear(name, phase)
        elif name in _BUS_FAULTS:
            for chip in self.chips:
                chip.clear(_BUS_FAULTS[name])
        elif name in ("wlan", "lan"):
            setattr(self.wiring, f"{name}_up", True)
        elif name not in self.faults:
            raise ValueError(f"no such fault: {name}")

    def _hear(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            with self._heard:
                states = {"connected": "online", "disconnected": "down", "boot": "down"}
                self.link = states.get(event["event"], self.link)
                if event["event"] == "link":
                    self.link = str(event.get("state"))
                self._events.append(event)
                self._heard.notify_all()
