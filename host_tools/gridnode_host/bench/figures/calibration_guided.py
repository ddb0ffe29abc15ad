"""What a guided session costs a technician: questions answered, seconds of measuring.

The session is the real one, on a virtual node; the technician is a script that sets the load the
screen asks for and answers as soon as the screen calls it steady.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from gridnode_host.bench.figures.calibration_bench import Bench
from gridnode_host.bench.figures.tables import Row, Table
from gridnode_host.bench.mains import Circuit
from gridnode_host.calibrate import guide, plan
from gridnode_host.errors import GridnodeError
from gridnode_host.output import Output

PROFILE, SEED = "feeder-200a", 24

_UNSTEADY_LOOKS = 30  # a technician who sees no end to it goes on
_VERIFY_SHARE, _STEP_SHARE = 30.0, 50.0  # loads in % of the rating where the screen leaves it open
_ANSWERS = (
    (r"all phases at the same time", "y"),
    (r"Reference instrument", "Bench reference s/n 1"),
    (r"uncertainty for", "0.02"),
    (r"angle of the load", "0"),
    (r"Put the", "y"),
    (r"Enter = accept", ""),
    (r"What now", "r"),
)


@dataclass(frozen=True)
class Session:
    """What one session has come to; `failure` tells why it has not come to its end."""

    reference: str
    prompts: int
    measuring_s: float
    steps: int
    failure: str = ""


class Technician:
    """Lines typed at a terminal, by what stands on it."""

    def __init__(self, screen: io.StringIO, circuit: Circuit, rating: float) -> None:
        self._screen = screen
        self._circuit = circuit
        self._rating = rating
        self._loaded = ""
        self._looks = 0
        self.prompts = 0

    def get(self, timeout_s: float) -> str | None:
        """The answer to what stands last on the screen; None while there is none."""
        text = self._screen.getvalue()
        last = text.rstrip().splitlines()[-1]
        if last.startswith("  reference"):
            return self._answer(self._read(last))
        for pattern, answer in _ANSWERS:
            if re.search(pattern, last):
                return self._answer(answer)
        titles = re.findall(r"step \d+ of \d+: ([^│╮\n]+)", text)
        if titles and titles[-1] != self._loaded:
            self._looks = 0
            self._load(titles[-1])
        self._looks += 1
        if "not steady yet" in last and self._looks < _UNSTEADY_LOOKS:
            return None
        return self._answer("")

    def drain(self) -> None:
        """Nothing is typed ahead."""

    def _answer(self, text: str) -> str:
        self.prompts += 1
        if self.prompts > 1000:
            raise EOFError
        self._screen.write(f"{text}\n")  # a terminal shows what is typed
        return text

    def _load(self, title: str) -> None:
        self._loaded = title
        point = re.search(r"Point at ([\d.]+) %", title)
        share = float(point[1]) if point else _STEP_SHARE
        if title.startswith("Zero"):
            share = 0.0
        elif title.startswith("Verification"):
            share = _VERIFY_SHARE
        self._circuit.set(voltage=230.0, current=self._rating * share / 100, phase_deg=0.0)

    def _read(self, question: str) -> str:
        """Read a true value off the reference."""
        name = question.split()[1]
        phase = re.search(r" L(\d)", question)
        truth = self._circuit.truth()
        lines: dict[str, Any] = truth.get(f"l{phase[1]}", truth) if phase else truth
        return f"{lines[name]:.5g}"


def measure(ticked: Callable[[], None] = lambda: None) -> list[Session]:
    """Hold both sessions: with a reference that the program reads, and with one read by eye."""
    found = []
    for reference, read in (("read by the program (SCPI)", True), ("read by eye, typed", False)):
        found.append(_session(reference, read))
        ticked()
    return found


def _session(reference: str, read: bool) -> Session:
    with Bench(PROFILE, SEED) as bench:
        screen = io.StringIO()
        out = _Told(screen)
        technician = Technician(screen, bench.solo.circuit, bench.rating)
        chosen = plan.load(bench.plan(), need_steps=False) if read else None
        failure = ""
        try:
            guide.start(
                bench.solo.node.port,
                out,
                guide.Options(operator="J. Doe"),
                chosen,
                technician,
            )
        except GridnodeError as err:
            failure = err.cause
            out.ended |= err.fields
    return Session(
        reference,
        int(out.ended.get("prompts", technician.prompts)),
        float(out.ended.get("measuring_s", 0.0)),
        int(out.ended.get("steps", 0)),
        failure,
    )


def table(sessions: list[Session]) -> Table:
    """A row per session."""
    rows: list[Row] = [
        {
            "reference": session.reference,
            "steps in force": session.steps,
            "prompts": session.prompts,
            "measuring s": round(session.measuring_s),
            "ok": not session.failure and session.steps > 0,
            "remark": session.failure,
        }
        for session in sessions
    ]
    return Table(
        "calibration_guided",
        f"Calibration by a technician: a guided session with a three-phase node ({PROFILE})",
        [
            "The real guided session, driven by a script: all phases at once, as found, offset, "
            "gain, phase, power, four points, as left. Enter as soon as the screen says steady.",
            "Prompts count every question, an Enter too. Seconds are the node's own of measuring, "
            "the steadiness display included; connecting and setting the load come on top.",
        ],
        rows,
    )


class _Told(Output):
    """Shows on a screen in memory and keeps how it ended."""

    def __init__(self, screen: io.StringIO) -> None:
        super().__init__()
        self.console = Console(file=screen, width=120, force_terminal=False)
        self.ended: dict[str, Any] = {}

    def event(self, event: str, text: str | None = None, **fields: Any) -> None:
        if event == "done":
            self.ended = fields
        super().event(event, text, **fields)
