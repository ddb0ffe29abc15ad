"""The bench: virtual nodes, mains physics, broker and shadow service (Linux and macOS)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridnode_host.bench.rig import Rig

__all__ = ["Rig"]


def __getattr__(name: str) -> Any:
    """Import the rig when it is asked for: a part of the bench does not need the whole of it."""
    if name == "Rig":
        from gridnode_host.bench.rig import Rig

        return Rig
    raise AttributeError(name)
