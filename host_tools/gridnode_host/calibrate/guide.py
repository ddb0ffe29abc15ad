"""A calibration with a person at the terminal: what to connect, when it is steady, what it gave."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import RenderableType
from rich.panel import Panel
from rich.text import Text

from gridnode_host.calibrate import certificate, conduct, run, steps, tell
from gridnode_host.calibrate.conduct import Seen, Task
from gridnode_host.calibrate.plan import Plan, Source, Sweep
from gridnode_host.calibrate.quantities import UNITS, Value, millivolts, typed
from gridnode_host.calibrate.references import Instruments, instruments
from gridnode_host.calibrate.session import STILL, Meter, Result, Session, open_session
from gridnode_host.calibrate.steadiness import Steadiness
from gridnode_host.calibrate.terminal import Lines, StdinLines, Terminal
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

_LOW, _HIGH = 0.2, 1.0  # of the rated current: where gains are taken
_MEASURE_S = {
    "linearity": (20, 26), "offset": (16, 22), "multipoint": (10, 30), "verify": (6, 16)
}  # fmt: skip
_OTHERS_S = 10, 16
_LEVEL_S = 0.5  # from setting a level at the pin to measuring it
_NEXT, _BACK, _QUIT = "next", "back", "quit"


@dataclass(frozen=True)
class Options:
    """What a person asks for on the command line."""

    operator: str | None = None
    certificate: Path | None = None
    factory: bool = False
    meter: str | None = None
    further: tuple[str, ...] = ()
    """Steps that are done only where they are asked for."""


@dataclass(frozen=True)
class Item:
    """One step of the session; ``point`` is its load in % of the rating."""

    step: str
    phase: int | None = None
    point: float | None = None
    note: str = ""


def start(
    port: str, out: Output, options: Options, plan: Plan | None = None, lines: Lines | None = None
) -> None:
    """Run the session; the instruments, if any, are those of ``plan``.

    Raises `GridnodeError`: USAGE without a terminal, VERIFY when the node ends up outside its
    class, and what the node or an instrument cannot do.
    """
    if lines is None and not sys.stdin.isatty():
        raise GridnodeError(
            "start the guided session",
            "there is no terminal to ask at",
            "Run it in a terminal, or give --plan plan.toml.",
            Exit.USAGE,
        )
    if options.certificate:
        certificate.check_place(options.certificate)
    terminal = Terminal(out.console, lines or StdinLines())
    operator = options.operator or terminal.ask("Operator (your name)")
    with contextlib.ExitStack() as stack:
        opened = Instruments()
        if plan:
            with out.step("open the instruments"):
                opened = stack.enter_context(instruments(replace(plan, source=_levels(plan))))
        session = stack.enter_context(open_session(port, out, operator))
        run.tell_node(session.identity, out)
        guide = Guide(session, terminal, opened, out)
        way = _NEXT
        for meter in _meters(session, terminal, options.meter):
            way = guide.meter(meter, options.further)
            if way == _QUIT:
                break
        wanted = _wanted(session, terminal, default="n" if way == _QUIT else "y")
        session.effort.prompts = terminal.prompts
        if wanted:
            run.finish(session, out, factory=options.factory)
    if not wanted:
        out.done(f"nothing was stored: {STILL}. {effort(session)}", **numbers(session))
        return
    run.close(session, opened, out, options.certificate)


def plan_items(
    meter: Meter, points: Sequence[float], further: Sequence[str], *, at_once: bool
) -> list[Item]:
    """Return the steps of a meter in a sensible order, phase by phase unless ``at_once``."""
    each: list[int | None] = [None] if at_once or meter.phases == 1 else list(meter.each)
    found = [Item("verify", phase, note="as found") for phase in each]
    chosen = [
        step
        for step in steps.ORDER
        if step in meter.steps and (step in further or not steps.STEPS[step].optional)
    ]
    for step in chosen:
        if not steps.STEPS[step].quantities:
            found.append(Item(step))
    for phase in each:
        for step in chosen:
            if step == "multipoint":
                found += [Item(step, phase, point) for point in sorted(points)]
            elif steps.STEPS[step].quantities:
                found.append(Item(step, phase))
    return found + [Item("verify", phase, note="as left") for phase in each]


class Guide:
    """Leads through the steps of one session."""

    def __init__(
        self, session: Session, terminal: Terminal, opened: Instruments, out: Output
    ) -> None:
        self._session = session
        self._terminal = terminal
        self._reference = opened.reference
        self._source = opened.source
        self._out = out
        self._instrument: str | None = None
        self._uncertainty: dict[str, float] = {}
        self._by_hand = False  # a person sets the levels of the linearity

    def meter(self, meter: Meter, further: Sequence[str]) -> str:
        """Lead through the steps of one meter; returns how it ended."""
        at_once = meter.phases == 1 or self._at_once()
        items = plan_items(meter, self._session.identity.points, further, at_once=at_once)
        done: list[int] = []  # items whose results are in the draft
        k = 0
        while k < len(items):
            before = len(self._session.results)
            way = self._item(meter, items[k], f"step {k + 1} of {len(items)}")
            if way == _QUIT:
                return _QUIT
            if way == _BACK:
                if not done:
                    self._terminal.say("There is no step to undo here.", "yellow")
                    continue
                undone = self._session.undo()
                self._terminal.say(f"Undone: {tell.title(undone)}.")
                k = done.pop()
                continue
            if len(self._session.results) > before:
                done.append(k)
            k += 1
        return _NEXT

    def _at_once(self) -> bool:
        if self._reference:
            return self._reference.phases > 1
        answer = self._terminal.choose(
            "Does your reference show all phases at the same time?",
            {"y": "yes", "n": "no, one phase at a time"},
            "y",
        )
        return answer == "y"

    def _item(self, meter: Meter, item: Item, place: str) -> str:
        task = Task(
            place=place,
            step=item.step,
            meter=meter,
            phase=item.phase,
            label=_label(item),
            settle_s=_LEVEL_S,
        )
        if item.step == "linearity" and not self._source:
            choices = {"s": "the supply's pure sine", "l": "levels that you set at the pin"}
            question = "What does the node take its table from?"
            self._by_hand = self._terminal.choose(question, choices, "s") == "l"
        self._show(task, item, place)
        steady = Steadiness(meter, steps.STEPS[item.step].steady, task.phases)

        def look() -> RenderableType:
            try:
                steady.add(self._session.observe(meter))
            except GridnodeError as err:
                if err.exit != Exit.REFUSED:
                    raise
                return Text(f"no values: {err.cause}", style="red")
            return steady.view()

        while True:
            line = self._terminal.watch(look).lower()[:1]
            if line in ("s", "u", "q"):
                return {"s": _NEXT, "u": _BACK, "q": _QUIT}[line]
            if not line:
                break
            self._terminal.say("Type Enter, s, u or q.", "yellow")
        return self._step(task)

    def _step(self, task: Task) -> str:
        """Measure, ask for the true values, apply, and let the person judge."""
        former: dict[tuple[str, int], str] = {}  # what was typed, when it is asked once more
        while True:
            try:
                result = self._try(task, former)
            except GridnodeError as err:
                # an instrument that is gone comes back; a node that is gone has dropped the draft
                if self._session.lost or err.exit not in (Exit.REFUSED, Exit.NO_NODE):
                    raise
                way = self._refused(err)
            else:
                way = self._judge(result)
            if way:
                return way

    def _try(self, task: Task, former: dict[tuple[str, int], str]) -> Result:
        if task.step == "linearity" and self._source:
            with self._out.step("go through the levels at the pin, apply and prove them"):
                return conduct.sweep(self._session, task, Sweep(), self._source)
        if task.step == "linearity" and self._by_hand:
            return self._levels(task)
        seen = self._measure(task)
        typed_values = self._asked(task, former)
        full = replace(
            task,
            typed=typed_values,
            instrument=self._instrument,
            uncertainty_percent=self._uncertainty if typed_values else {},
        )
        with self._out.step(f"apply {task.step} and prove it"):
            complete = conduct.complete(full, seen)
            return conduct.apply(self._session, full, complete, self._reference)

    def _levels(self, task: Task) -> Result:
        """Ask for levels at the pin until there are enough; the node takes each at once."""
        self._ask_instrument()
        taken = 0
        while text := self._terminal.ask(f"  level at the pin, mV ({taken} taken; Enter = no more)"):
            try:
                answer = self._session.level(task.meter, millivolts(text))
            except ValueError as err:
                self._terminal.say(f"  {err}", "yellow")
            except GridnodeError as err:
                if err.exit != Exit.REFUSED:
                    raise
                self._terminal.say(f"  refused  {err.cause}", "red")
            else:
                taken = int(answer["levels"])
                self._terminal.say(f"  the table in force makes {answer['level_mv']:.1f} mV of it")
        self._terminal.ask("Give the pin back to its front end, then press Enter")
        with self._out.step("apply linearity and prove it"):
            return conduct.apply_levels(
                self._session, task, taken, self._instrument or conduct.TYPED
            )

    def _measure(self, task: Task) -> Seen:
        least, most = _MEASURE_S.get(task.step, _OTHERS_S)
        if task.meter.driver == "ct":
            most *= len(task.meter.each)  # small currents of several clamps take longer
        if self._reference is None and steps.STEPS[task.step].quantities:
            self._terminal.say(f"Read your reference now, while the node measures ({least} s or more).")
        with self._out.step(f"measure, {least} to {most} s"):
            return conduct.measure(self._session, task, self._reference)

    def _asked(
        self, task: Task, former: dict[tuple[str, int], str]
    ) -> dict[str, tuple[Value | None, ...]]:
        """Ask for the true values that no instrument tells."""
        sampled = set(conduct.wanted(task, self._reference))
        if {"power", "reactive_power"} <= sampled:
            sampled.add("phase_deg")
        names = [n for n in steps.STEPS[task.step].asked if n not in sampled]
        names = [n for n in names if n in task.meter.names or n == "phase_deg"]
        if names and self._reference is None:
            self._ask_instrument()
        found: dict[str, tuple[Value | None, ...]] = {}
        for name in names:
            values = tuple(self._value(name, task, phase, former) for phase in task.phases)
            if any(value is not None for value in values):
                found[name] = values
        return found

    def _value(
        self, name: str, task: Task, phase: int, former: dict[tuple[str, int], str]
    ) -> Value | None:
        where = f" L{phase}" if task.meter.phases > 1 else ""
        default = former.get((name, phase), "")
        if name == "phase_deg":
            question = f"  angle of the load{where}, deg, current lagging is positive"
            default = default or "0"
        else:
            blank = "- = not measured" if default else "Enter = not measured"
            question = f"  reference {name.replace('_', ' ')}{where}, {UNITS[name]} ({blank})"
        while True:
            text = self._terminal.ask(question, default)
            if text in ("", "-"):
                former.pop((name, phase), None)
                return None
            try:
                value = typed(text, name)
            except ValueError as err:
                self._terminal.say(f"  {err}", "yellow")
                continue
            former[name, phase] = text
            return value

    def _ask_instrument(self) -> None:
        if self._instrument is not None:
            return
        ask = self._terminal.ask
        self._instrument = ask("Reference instrument (name and serial number)", conduct.TYPED)
        for name in ("voltage", "current", "power"):
            while True:
                text = ask(f"  its uncertainty for {name}, % with k=2 (Enter = not known)")
                try:
                    if text:
                        self._uncertainty[name] = _percent(text)
                    break
                except ValueError as err:
                    self._terminal.say(f"  {err}", "yellow")

    def _refused(self, err: GridnodeError) -> str:
        """Tell a refusal; returns how the step ends, nothing to do it once more."""
        self._terminal.say(f"refused  {err.cause}", "red")
        if err.action:
            self._terminal.say(f"next     {err.action}")
        choices = {"r": "do this step again", "s": "skip it", "q": "quit"}
        answer = self._terminal.choose("What now?", choices, "r")
        return {"s": _NEXT, "q": _QUIT}.get(answer, "")

    def _judge(self, result: Result) -> str:
        """Show what a step gave; returns how it ends, nothing to do it once more."""
        self._terminal.say(tell.result_table(result))
        choices = {"a": "accept", "r": "repeat", "u": "undo and go on", "q": "quit"}
        answer = self._terminal.choose("", choices, "a")
        if answer in ("r", "u"):
            self._session.undo()
        return {"a": _NEXT, "u": _NEXT, "q": _QUIT}.get(answer, "")

    def _show(self, task: Task, item: Item, place: str) -> None:
        kind = steps.STEPS[task.step]
        meter = task.meter
        point = item.point or 0.0
        numbers = {
            "volts": meter.nominal_v,
            "low": _LOW * meter.rating_a,
            "high": _HIGH * meter.rating_a,
            "point": point,
            "amps": point * meter.rating_a / 100,
        }
        note = f", {item.note}" if item.note else ""
        phase = f", phase L{item.phase}" if item.phase else ""
        title = f"{place}: {kind.title.format(**numbers)}{note}{phase}, meter {meter.id}"
        connect = kind.connect.format(**numbers)
        if task.step == "linearity" and self._source:
            connect = steps.SWEPT
        elif task.step == "linearity" and self._by_hand:
            connect = steps.BY_HAND
        self._terminal.say(Panel(connect, title=title, title_align="left"))


def effort(session: Session) -> str:
    """Return what a session has cost, for a person."""
    cost = session.effort
    return (
        f"{cost.prompts} prompts, {cost.measuring_s:.0f} s of measuring, "
        f"{cost.elapsed_s:.0f} s in all"
    )


def numbers(session: Session) -> dict[str, float]:
    """Return what a session has cost, for a program."""
    cost = session.effort
    return {
        "prompts": cost.prompts,
        "measuring_s": round(cost.measuring_s, 1),
        "elapsed_s": round(cost.elapsed_s, 1),
    }


def _levels(plan: Plan) -> Source | None:
    """Return the source of a plan if it can put levels on a pin: loads are set by hand here."""
    if plan.source is None or "level_mv" not in plan.source.commands:
        return None
    return replace(plan.source, end=())


def _meters(session: Session, terminal: Terminal, name: str | None) -> list[Meter]:
    meters = list(session.identity.meters)
    if not meters:
        session.identity.meter(None)  # says that there is none
    if name:
        return [session.identity.meter(name)]
    if len(meters) == 1:
        return meters
    ids = [meter.id for meter in meters]
    while True:
        answer = terminal.ask(f"Which meter: {', '.join(ids)} or all", "all")
        if answer == "all":
            return meters
        if answer in ids:
            return [session.identity.meter(answer)]


def _wanted(session: Session, terminal: Terminal, default: str) -> bool:
    """Return whether what was accepted is to be kept."""
    if not session.changes:
        return bool(session.results)
    question = f"Put the {len(session.changes)} accepted steps in force?"
    return terminal.choose(question, {"y": "yes", "n": "no, drop them"}, default) == "y"


def _label(item: Item) -> str | None:
    return f"{item.point:g} % of the rating" if item.point else None


def _percent(text: str) -> float:
    value = typed(text.rstrip("% "), "voltage").value
    if not 0 < value <= 20:
        raise ValueError("an uncertainty in %, such as 0.05")
    return value
