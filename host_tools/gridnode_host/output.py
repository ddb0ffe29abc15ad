"""What a verb tells: plain words for people, or with ``--json`` one event per line.

Every JSON line is an object ``{"v": 1, "event": ..., ...}``. Events of every verb are

* ``step`` (``step``, ``state``: started or done, ``seconds`` when done),
* ``progress`` (``step``, ``done``, ``total``),
* ``error`` (``step``, ``cause``, ``action``, ``exit``, and what else the failure tells, such as
  ``condition``, ``measured`` and ``limit`` of a refusal), always the last one of a failed run,
* ``done``, always the last one of a good run;

a verb adds its own. A new field may come at any time; a change of meaning raises ``v``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from gridnode_host.errors import GridnodeError

VERSION = 1


class Output:
    """Tells one run of a verb, as text or as JSON lines on stdout."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False, soft_wrap=True)

    def event(self, event: str, text: str | None = None, **fields: Any) -> None:
        """Tell an event: a JSON line with ``fields``, or ``text`` (nothing if None)."""
        if self.as_json:
            line = json.dumps({"v": VERSION, "event": event, **fields})
            sys.stdout.write(line + "\n")  # in one piece, whenever Ctrl-C comes
            sys.stdout.flush()
        elif text is not None:
            self.console.print(text, markup=False)

    def table(self, event: str, rows: list[dict[str, Any]], empty: str) -> None:
        """Tell one event per row, or show the rows as a table (``empty`` when there is none)."""
        if self.as_json:
            for row in rows:
                self.event(event, **row)
            return
        if not rows:
            self.console.print(empty, markup=False)
            return
        table = Table(box=None, pad_edge=False)
        for name in rows[0]:
            table.add_column(name)
        for row in rows:
            table.add_row(*(_cell(value) for value in row.values()))
        self.console.print(table)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Tell that a step begins and how long it took.

        Yields a function ``progress(done, total)``. A person sees a moving line from the start
        on, so that a step of more than a second is never silent.
        """
        started = time.monotonic()
        self.event("step", step=name, state="started")
        if self.as_json:
            yield lambda done, total: self.event("progress", step=name, done=done, total=total)
        elif self.console.is_terminal:
            with self.console.status(_plain(name)) as status:

                def show(done: int, total: int) -> None:
                    status.update(_plain(f"{name}: {100 * done // max(total, 1)} %"))

                yield show
        else:
            yield lambda done, total: None
        seconds = round(time.monotonic() - started, 2)
        self.event(
            "step", f"done  {name} ({seconds:.1f} s)", step=name, state="done", seconds=seconds
        )

    def done(self, text: str | None = None, **fields: Any) -> None:
        """Tell that the verb has done its work."""
        self.event("done", text, **fields)

    def fail(self, error: GridnodeError) -> None:
        """Tell a failure: the step, the cause and the next action."""
        if self.as_json:
            self.event(
                "error",
                step=error.step,
                cause=error.cause,
                action=error.action,
                exit=int(error.exit),
                **error.fields,
            )
            return
        console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        console.print(f"failed  {error.step}", style="bold red", markup=False)
        console.print(f"cause   {error.cause}", markup=False)
        if error.action:
            console.print(f"next    {error.action}", markup=False)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _cell(value: Any) -> str:
    return "" if value is None else _plain(str(value))
