"""Exit codes and the one exception that the host tools raise for a person to read."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """What the ``gridnode`` command returns to the shell. The numbers never change."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    NO_NODE = 3
    PORT_BUSY = 4
    WRONG_CHIP = 5
    VERIFY = 6
    REFUSED = 7
    CLOUD = 8
    BATCH = 9

    @property
    def meaning(self) -> str:
        """The meaning in plain words, as printed by ``gridnode --help``."""
        return _MEANING[self]


_MEANING = {
    Exit.DONE: "done",
    Exit.INTERNAL: "internal error",
    Exit.USAGE: "usage",
    Exit.NO_NODE: "no such port or node",
    Exit.PORT_BUSY: "port busy or no permission",
    Exit.WRONG_CHIP: "wrong chip, board or image",
    Exit.VERIFY: "written but verification failed",
    Exit.REFUSED: "the node refused (the message says why)",
    Exit.CLOUD: "TLS, broker or cloud",
    Exit.BATCH: "batch: some nodes failed",
}


class GridnodeError(Exception):
    """A failure told as a person needs it: which step, why, and what to do next.

    ``step`` names what was being done, ``cause`` what went wrong, ``action`` the next thing to
    try, and ``exit`` is the exit code of the command. ``fields`` is what a program wants to know
    of it: it stands in the JSON event of the failure.
    """

    def __init__(
        self,
        step: str,
        cause: str,
        action: str = "",
        exit: Exit = Exit.INTERNAL,
        fields: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{step}: {cause}")
        self.step = step
        self.cause = cause
        self.action = action
        self.exit = exit
        self.fields = fields or {}
