"""A virtual node with everything around it: its mains, its front end, its console."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridnode_host.bench import supply
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.environment import Environment
from gridnode_host.bench.frontend import wire
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.node import VirtualNode
from gridnode_host.bench.tolerance import Tolerance
from gridnode_host.bench.wiring import Wiring

if TYPE_CHECKING:
    from gridnode_host.bench.instruments import Instruments

# Faults of a meter's chip, by the name that its model knows them under (`Chip.faults`).
_CHIP_FAULTS = {
    "bus_absent": "absent",
    "bus_stuck_high": "stuck_high",
    "bus_stuck_low": "stuck_low",
    "bus_bit_error": "bit_error",
    "bus_silent": "silent",
    "frame_noise": "noise",
    "frame_garbage": "garbage",
    "frame_crc": "crc",
    "chip_frozen": "frozen",
    "chip_wrong_id": "wrong_id",
}
_CHIP_RESET = "chip_reset"
_KEPT_EVENTS = 2000


class RigNode(VirtualNode):
    """One node of a virtual bench; `circuit` is its mains, `calibration` exact for its parts."""

    faults = frozenset(
        {*supply.SENSOR_FAULTS, *supply.SUPPLY_FAULTS, *_CHIP_FAULTS, _CHIP_RESET, "wlan", "lan"}
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
        tolerance: Tolerance | None = None,
        heap_kb: int | None = None,
    ) -> None:
        self.thing = thing
        self.profile = profile
        self.profile_name = str(profile["sku"])
        self.rating = float(profile["rating"]["current"])
        """Rated current, A."""
        self.circuit = circuit
        self.environment = Environment()
        """Its surroundings: see `Environment`."""
        self.link = "down"
        """State of its connection as the node last told it: wifi, clock, tls, .. online, down."""
        wiring = Wiring()
        front_end = wire(
            profile, circuit, wiring, self.environment, seed=seed, ideal=ideal, tolerance=tolerance
        )
        self.calibration = front_end.calibration
        self.chips = front_end.chips
        """Models by meter id."""
        super().__init__(thing, folder, image, wiring, clock, micropython, heap_kb)
        self._events: deque[dict[str, Any]] = deque(maxlen=_KEPT_EVENTS)
        self._heard = threading.Condition()
        self.on_line(self._hear)

    def chip(self, meter: str | None = None) -> Any:
        """The model behind a meter (None: the first one). Raises ValueError where none is."""
        name = str(self.profile["meters"][0]["id"]) if meter is None else meter
        if name not in self.chips:
            raise ValueError(f"{self.thing} has no model of a meter {name!r}")
        return self.chips[name]

    def instruments(self, seed: int = 0) -> Instruments:
        """Open a reference meter, a source and a climate chamber for this node: a context manager."""
        from gridnode_host.bench.instruments import Instruments

        return Instruments(self.circuit, self.environment, self.wiring, seed)

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

    def fault(
        self, name: str, *, phase: int | None = None, meter: str | None = None, **how: Any
    ) -> None:
        """Break something by name: see `faults`. Raises ValueError where it does not apply.

        Mains and clamps: `ct_open`, `ct_reversed`, `ct_swapped`, `voltage_lost`, `neutral_lost`,
        with `phase` (None: all). The chip of a `meter` (None: of every meter that can have it),
        with `rate=` where it is a share: `bus_absent`, `bus_stuck_high`, `bus_stuck_low`,
        `bus_bit_error`, `bus_silent` (hears and does not answer), `frame_noise`, `frame_garbage`,
        `frame_crc`, `chip_frozen`, `chip_wrong_id`, and `chip_reset`, a dip of its supply.
        Network: `wlan` and `lan` are gone.
        """
        if name in supply.SENSOR_FAULTS + supply.SUPPLY_FAULTS:
            self.circuit.fault(name, phase, **how)
        elif name in ("wlan", "lan"):
            setattr(self.wiring, f"{name}_up", False)
        else:
            for chip in self._having(name, meter):
                if name == _CHIP_RESET:
                    chip.brown_out()
                else:
                    chip.fault(_CHIP_FAULTS[name], **how)

    def clear(self, name: str, *, phase: int | None = None, meter: str | None = None) -> None:
        """Repair what `fault` broke."""
        if name in supply.SENSOR_FAULTS + supply.SUPPLY_FAULTS:
            self.circuit.clear(name, phase)
        elif name in ("wlan", "lan"):
            setattr(self.wiring, f"{name}_up", True)
        elif name != _CHIP_RESET:
            for chip in self._having(name, meter):
                chip.clear(_CHIP_FAULTS[name])

    def _having(self, name: str, meter: str | None) -> list[Any]:
        """The chips that can have a fault."""
        if name not in self.faults:
            raise ValueError(f"no such fault: {name}; there are {', '.join(sorted(self.faults))}")
        chips = self.chips.values() if meter is None else [self.chip(meter)]
        known = _CHIP_FAULTS.get(name)
        able = [chip for chip in chips if known is None or known in getattr(chip, "faults", ())]
        if name == _CHIP_RESET:
            able = [chip for chip in able if hasattr(chip, "brown_out")]
        if not able:
            raise ValueError(f"{self.thing} has no meter that can have {name}")
        return able

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
