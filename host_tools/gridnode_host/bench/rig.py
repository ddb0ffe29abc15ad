"""One interface for every bench: a test names what it needs, never a port.

`Rig.virtual` builds a bench of virtual nodes. A real bench is another implementation of `Rig`;
`capabilities` tells what the one at hand can do.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gridnode_host.bench.rig_node import RigNode

if TYPE_CHECKING:
    from gridnode_host.bench.virtual_rig import VirtualRig

__all__ = ["CAPABILITIES", "Rig", "RigNode"]

Json = dict[str, Any]

_POLL_S = 0.05

# What a test may ask for.
CAPABILITIES = frozenset(
    {
        "source",  # rig.source sets and plays mains waveforms
        "reference_meter",  # rig.truth tells what is really there
        "power_cycle",  # node.power_cycle cuts the supply
        "broker_faults",  # rig.broker can be stopped and started
        "clock",  # rig.clock can be warped
        "faults",  # rig.fault breaks parts by name
        "instruments",  # rig.instruments opens what a calibration needs
    }
)


class Rig(abc.ABC):
    """A bench with nodes, a source, a broker and a shadow service; a context manager.

    Waiting takes real seconds, whatever the rate of the rig's clock.
    """

    capabilities: frozenset[str]
    nodes: list[Any]
    """Each with `thing`, `port`, `profile` and, where the bench can, `power_cycle`."""
    broker: Any
    clock: Any

    @staticmethod
    def virtual(nodes: int = 1, profile: Any = "home-60a-ct", **more: Any) -> VirtualRig:
        """Build and start a virtual bench; see `VirtualRig` for what else can be chosen."""
        from gridnode_host.bench.virtual_rig import VirtualRig

        return VirtualRig(nodes, profile, **more)

    @property
    @abc.abstractmethod
    def source(self) -> Any:
        """The mains of the first node: `set`, `play`, `event`."""

    @abc.abstractmethod
    def fault(self, name: str, *, node: Any = 0, phase: int | None = None, **how: Any) -> None:
        """Break something by name."""

    @abc.abstractmethod
    def clear(
        self, name: str, *, node: Any = 0, phase: int | None = None, meter: str | None = None
    ) -> None:
        """Repair what `fault` broke."""

    @abc.abstractmethod
    def truth(self, node: Any = 0, over: float = 0.0) -> Json:
        """What a perfect meter on a node's mains reads, averaged over the last `over` seconds."""

    @abc.abstractmethod
    def instruments(self, node: Any = 0) -> Any:
        """Open the instruments at a node, a context manager.

        `resource` is the PyVISA name of a SCPI instrument that is reference meter, source and
        climate chamber; `modbus_url` is where a reference meter is that speaks Modbus, with the
        registers of `modbus_map`.
        """

    @abc.abstractmethod
    def shadow(self, thing: str) -> Json | None:
        """What the cloud side holds of a thing: state, metadata, version, timestamp."""

    @abc.abstractmethod
    def desired(self, thing: str, patch: Json) -> Json:
        """Ask for a state, as an application in the cloud does; returns the accepted answer."""

    @abc.abstractmethod
    def close(self) -> None:
        """End everything that the bench has started."""

    def reported(self, thing: str) -> Json:
        """What a thing has reported so far; empty before its first report."""
        document = self.shadow(thing) or {}
        reported: Json = document.get("state", {}).get("reported", {})
        return reported

    def wait_shadow(
        self, thing: str, predicate: Callable[[Json], object], timeout: float = 20.0
    ) -> Json:
        """Wait until the shadow's document satisfies `predicate` and return it.

        A predicate that asks for what is not there yet is not satisfied. Raises TimeoutError.
        """
        return _poll(lambda: self.shadow(thing), predicate, timeout, f"the shadow of {thing}")

    def wait_reported(
        self, thing: str, predicate: Callable[[Json], object], timeout: float = 20.0
    ) -> Json:
        """As `wait_shadow`, for the reported state alone."""
        return _poll(
            lambda: self.reported(thing) or None,
            predicate,
            timeout,
            f"what {thing} reports",
        )

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _poll(
    get: Callable[[], Json | None],
    predicate: Callable[[Json], object],
    timeout: float,
    what: str,
) -> Json:
    deadline = time.monotonic() + timeout
    while True:
        value = get()
        if value is not None and _holds(predicate, value):
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what} was not as expected within {timeout:g} s: {value}")
        time.sleep(_POLL_S)


def _holds(predicate: Callable[[Json], object], value: Json) -> bool:
    try:
        return bool(predicate(value))
    except (KeyError, IndexError, TypeError):  # a value that is missing or null so far
        return False
