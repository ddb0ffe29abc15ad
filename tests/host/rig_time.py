"""A clock that a test moves by hand, for chip models."""

from __future__ import annotations

START = 1_800_000_000.0


class HandClock:
    """Rig time that stands still but for `pass_`."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time

    def pass_(self, seconds: float) -> None:
        self.time += seconds
