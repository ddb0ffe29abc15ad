"""A person at a terminal: questions, and a display that moves until Enter is pressed."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Protocol

from rich.console import Console, RenderableType
from rich.control import Control
from rich.live import Live

from gridnode_host.errors import Exit, GridnodeError

_POLL_S = 0.2  # Ctrl-C is seen between two looks, on every system


class Lines(Protocol):
    """Where the lines come from that a person types."""

    def get(self, timeout_s: float) -> str | None:
        """Return the next line, None if there is none yet. Raises EOFError at the end."""

    def drain(self) -> None:
        """Forget what was typed ahead."""


class StdinLines:
    """Lines from the standard input, read by a thread: the display goes on meanwhile."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._ended = False
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def _read(self) -> None:
        # the descriptor itself: a thread in sys.stdin would hold its lock when the program ends
        pending = b""
        while True:
            try:
                data = os.read(0, 4096)
            except OSError:
                data = b""
            if not data:
                self._lines.put(None)
                return
            *whole, pending = (pending + data).split(b"\n")
            for line in whole:
                text = line.decode(sys.stdin.encoding or "utf-8", "replace")
                self._lines.put(text.rstrip("\r"))

    def get(self, timeout_s: float) -> str | None:
        """Return the next line, None if there is none yet. Raises EOFError at the end."""
        if self._ended:
            raise EOFError
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if line is None:
            self._ended = True
            raise EOFError
        return line

    def drain(self) -> None:
        """Forget what was typed ahead: an Enter too many must not accept a step."""
        while not self._ended:
            try:
                self._ended = self._lines.get_nowait() is None
            except queue.Empty:
                return


class Terminal:
    """Shows and asks; ``prompts`` counts the questions."""

    def __init__(self, console: Console, lines: Lines) -> None:
        self.console = console
        self.prompts = 0
        self._lines = lines

    def say(self, what: RenderableType, style: str | None = None) -> None:
        """Show a text or a table."""
        self.console.print(what, style=style, markup=False, soft_wrap=False)

    def ask(self, question: str, default: str = "") -> str:
        """Return the answer to a question, without white space around it."""
        self.prompts += 1
        self._lines.drain()
        hint = f" [{default}]" if default else ""
        self.console.print(f"{question}{hint}: ", end="", markup=False, style="bold")
        while True:
            line = self._line(_POLL_S)
            if line is not None:
                return line.strip() or default

    def choose(self, question: str, choices: dict[str, str], default: str) -> str:
        """Return the letter of a choice; Enter is the default one."""
        told = ", ".join(
            f"Enter = {text}" if letter == default else f"{letter} = {text}"
            for letter, text in choices.items()
        )
        while True:
            answer = self.ask(f"{question} {told}".strip()).lower()[:1] or default
            if answer in choices:
                return answer
            self.say(f"Type one of: {', '.join(choices)}.", "yellow")

    def watch(self, look: Callable[[], RenderableType]) -> str:
        """Show what ``look`` returns, again and again, until a line is typed; return it."""
        self.prompts += 1
        self._lines.drain()
        if not self.console.is_terminal or self.console.is_dumb_terminal:
            while True:
                self.say(look())
                line = self._line(0.001)
                if line is not None:
                    return line.strip()
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            while True:
                shown = look()
                line = self._line(0.001)
                if line is not None:
                    self.console.control(Control.move(0, -1))  # the echo of Enter went down
                    return line.strip()
                live.update(shown, refresh=True)

    def _line(self, timeout_s: float) -> str | None:
        try:
            return self._lines.get(timeout_s)
        except EOFError as err:
            raise GridnodeError(
                "ask the operator",
                "the input has ended",
                "Run it in a terminal, or give --plan.",
                Exit.USAGE,
            ) from err
