"""A calibration session with a node: what is asked of it, and what has come of it.

Nothing that a session does is in force before `Session.commit`: a session that ends in any other
way leaves the former calibration as it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gridnode_host.calibrate.references import Mean, Means
from gridnode_host.device import Node
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

STILL = "the former calibration is still in force"

_TIMEOUT_S = 150.0  # of every order; a step measures up to 90 s
_CHECK_S = 300.0  # the self-checks look at every meter
_OPERATOR, _INSTRUMENT = 40, 60  # characters that a node keeps


class ServiceNode(Protocol):
    """The part of `device.Node` that a session uses."""

    def call(self, function: str, *arguments: Any, timeout_s: float = ...) -> dict[str, Any]:
        """Call a function of the node's service."""

    def stop(self) -> None:
        """End what runs on the node."""


@dataclass(frozen=True)
class Meter:
    """A meter that can be calibrated, as the node tells it. Units: A, V, Hz."""

    id: str
    driver: str
    phases: int
    names: tuple[str, ...]
    steps: tuple[str, ...]
    rating_a: float
    nominal_v: float
    nominal_hz: float

    @property
    def each(self) -> tuple[int, ...]:
        """Its phases, from 1."""
        return tuple(range(1, self.phases + 1))

    @property
    def nominal(self) -> dict[str, float]:
        """Nominal values per phase, by quantity."""
        power = self.nominal_v * self.rating_a
        return {
            "voltage": self.nominal_v,
            "current": self.rating_a,
            "power": power,
            "reactive_power": power,
        }

    def row(self, phase: int) -> int:
        """Return the place of a phase's values in a reading of the node."""
        return phase if self.phases > 1 else 0


@dataclass(frozen=True)
class Identity:
    """Who the node is, and what its SKU is to reach."""

    node: str
    thing: str | None
    sku: str
    firmware: str
    generation: int
    meters: tuple[Meter, ...]
    limits: Mapping[str, float]
    """Class of the SKU: largest error in %, by quantity."""
    points: tuple[float, ...]
    """Loads in % of the rated current that are advised for multipoint."""

    def meter(self, name: str | None) -> Meter:
        """Return a meter by its id, the first one for None. Raises `GridnodeError` (REFUSED)."""
        for meter in self.meters:
            if name in (None, meter.id):
                return meter
        have = ", ".join(meter.id for meter in self.meters) or "none"
        raise GridnodeError(
            "find the meter",
            f"the node has no meter {name!r} that can be calibrated; there are: {have}",
            "Name one of them.",
            Exit.REFUSED,
        )


@dataclass(frozen=True)
class Measured:
    """What the node has measured in a step, per entry of its reading."""

    values: Sequence[Mapping[str, float]]
    spread_percent: Sequence[Mapping[str, float]]
    windows: int
    rejected: int
    window_s: float
    temperature: float | None

    @property
    def seconds(self) -> float:
        """How long the windows have taken."""
        return (self.windows + self.rejected) * self.window_s


@dataclass(frozen=True)
class Result:
    """An accepted step: the records are the node's own, one per phase."""

    step: str
    meter: Meter
    phase: int | None
    means: Means
    uncertainty_percent: Mapping[str, float]
    instrument: str
    as_found: bool
    measured: Measured
    records: Sequence[Mapping[str, Any]]
    label: str | None = None
    limit_percent: float | None = None


@dataclass
class Effort:
    """What a session has cost: questions to a person, seconds that the node has measured."""

    prompts: int = 0
    measuring_s: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began, by the clock on the wall."""
        return time.monotonic() - self.started


class Session:
    """An open session; `open_session` makes one and ends it whatever happens."""

    def __init__(self, node: ServiceNode, identity: Identity, operator: str) -> None:
        self.identity = identity
        self.operator = operator
        self.generation = identity.generation
        self.date = int(time.time())
        self.results: list[Result] = []
        self.effort = Effort()
        self.committed = False
        self.lost = False  # the node has not answered: what it does now is not known
        self._node = node

    def observe(self, meter: Meter) -> dict[str, Any]:
        """Return one window of live values of a meter."""
        answer = self._call("observe", {"meter": meter.id}, f"observe meter {meter.id}")
        self.effort.measuring_s += float(answer.get("window_s", 0.0))
        return answer

    def measure(self, step: str, meter: Meter, phase: int | None = None) -> Measured:
        """Let the node measure the windows of a step; with a phase it judges that one alone."""
        what = f"measure {step} of meter {meter.id}"
        request = {"step": step, "meter": meter.id, "phase": phase}
        answer = self._call("measure", request, what)
        with _understood(what):
            measured = Measured(
                values=list(answer["values"]),
                spread_percent=list(answer["spread_percent"]),
                windows=int(answer["windows"]),
                rejected=int(answer["rejected"]),
                window_s=float(answer["window_s"]),
                temperature=answer.get("temperature"),
            )
        self.effort.measuring_s += measured.seconds
        return measured

    def level(self, meter: Meter, mv: float) -> dict[str, Any]:
        """Let the node take one level of a sweep of its converter."""
        request = {"step": "linearity", "meter": meter.id, "level_mv": mv}
        return self._call("measure", request, f"take {mv:g} mV of meter {meter.id}")

    def apply(
        self,
        step: str,
        meter: Meter,
        phase: int | None,
        measured: Measured,
        means: Means,
        uncertainty_percent: Mapping[str, float],
        instrument: str,
        *,
        label: str | None = None,
        limit_percent: float | None = None,
    ) -> Result:
        """Let the node compute, prove and keep a step in its draft."""
        changed = any(result.meter.id == meter.id for result in self.changes)
        as_found = step == "verify" and not changed
        given = {name: u for name, u in uncertainty_percent.items() if name in _known(means)}
        request = {
            "step": step,
            "meter": meter.id,
            "phase": phase,
            "reference": _reference(means, meter, phase),
            "uncertainty_percent": given,
            "instrument": instrument[:_INSTRUMENT],
            "as_found": as_found,
        }
        what = f"apply {step} to meter {meter.id}"
        answer = self._call("apply", request, what)
        with _understood(what):
            records = [dict(record) for record in answer["records"]]
        self.effort.measuring_s += float(answer.get("proof_s", 0.0))
        result = Result(
            step, meter, phase, means, given, instrument, as_found, measured, records,
            label, limit_percent,
        )  # fmt: skip
        self.results.append(result)
        return result

    def undo(self) -> Result:
        """Take the newest step back and return it."""
        self._call("undo", {}, "undo a step")
        return self.results.pop()

    @property
    def changes(self) -> list[Result]:
        """The accepted steps that change the calibration."""
        return [result for result in self.results if result.step != "verify"]

    def commit(self, *, factory: bool = False) -> int:
        """Put the draft in force, in one step; returns the number of the new generation."""
        what = "put the calibration in force"
        answer = self._call("commit", {"factory": factory}, what, told=False)
        with _understood(what):
            self.generation = int(answer["generation"])
        self.committed = True
        return self.generation

    def abandon(self) -> None:
        """Drop the draft."""
        self._call("abandon", {}, "drop the draft")

    def give_up(self, error: BaseException) -> None:
        """Drop the draft after a failure, as far as the node can still be reached."""
        if self.committed or self.lost:
            return  # the next session drops a draft that was left
        with contextlib.suppress(GridnodeError, OSError):
            if not isinstance(error, GridnodeError):
                self._node.stop()  # it may still be measuring
            self.abandon()

    def _call(
        self, order: str, request: Mapping[str, Any], step: str, *, told: bool = True
    ) -> dict[str, Any]:
        try:
            return self._node.call("calibration", order, dict(request), timeout_s=_TIMEOUT_S)
        except GridnodeError as err:
            self.lost = err.exit == Exit.NO_NODE
            raise _named(err, step, told=told) from err


@contextlib.contextmanager
def open_session(port: str, out: Output, operator: str) -> Iterator[Session]:
    """Open a session with the node on a port; without a commit nothing of it is in force."""
    with open_node(port, out) as node:
        with out.step("open a calibration session"):
            session = begin(node, operator)
        try:
            yield session
        except BaseException as err:
            session.give_up(err)
            if not session.committed and not session.lost:
                text = f"nothing was stored: {STILL}"
                out.event("abandoned", text, generation=session.generation)
            raise
        if not session.committed:
            session.abandon()


@contextlib.contextmanager
def open_node(port: str, out: Output) -> Iterator[Node]:
    """Open a port and stop the application; it runs again at the end."""
    with out.step(f"open {port}"):
        node = Node(port)
    with node:
        with out.step("stop the application"):
            node.hold()
        yield node


def begin(node: ServiceNode, operator: str) -> Session:
    """Begin a session with a node whose application is stopped."""
    what = "open a calibration session"
    info = node.call("info")
    request = {"operator": operator[:_OPERATOR], "date": int(time.time())}
    answer = order(node, "begin", request)
    with _understood(what):
        identity = Identity(
            node=str(answer["node"]),
            thing=info.get("thing"),
            sku=str(answer["sku"]),
            firmware=str(answer["firmware"]),
            generation=int(answer["generation"]),
            meters=tuple(_meter(meter) for meter in answer["meters"]),
            limits={name: float(limit) for name, limit in answer["class"].items()},
            points=tuple(float(point) for point in answer["points"]),
        )
    return Session(node, identity, operator)


def order(node: ServiceNode, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Give a node an order outside a session and return its answer, without ``ok``."""
    timeout_s = _CHECK_S if name == "check" else _TIMEOUT_S
    answer = node.call("calibration", name, dict(request), timeout_s=timeout_s)
    return {key: value for key, value in answer.items() if key != "ok"}


def _meter(told: Mapping[str, Any]) -> Meter:
    return Meter(
        id=str(told["id"]),
        driver=str(told["driver"]),
        phases=int(told["phases"]),
        names=tuple(told["names"]),
        steps=tuple(told["steps"]),
        rating_a=float(told["rating_a"]),
        nominal_v=float(told["nominal_v"]),
        nominal_hz=float(told["nominal_hz"]),
    )


def _known(means: Means) -> set[str]:
    """Return the quantities that a reference tells; an angle stands for the powers it is of."""
    return set(means) | ({"power"} if "phase_deg" in means else set())


def _reference(means: Means, meter: Meter, phase: int | None) -> dict[str, Any]:
    """Return the true values as a node takes them: a number, or a list with one per phase."""
    if phase is not None or meter.phases == 1:
        return {
            name: value.value
            for name, found in means.items()
            for value in list(found.values())[:1]
        }
    return {name: [_number(found.get(one)) for one in meter.each] for name, found in means.items()}


def _number(mean: Mean | None) -> float | None:
    return None if mean is None else mean.value


def _named(err: GridnodeError, step: str, *, told: bool) -> GridnodeError:
    """Tell a failure by what was being done; a node that is gone has its old calibration."""
    cause, action = err.cause, err.action
    if err.exit == Exit.NO_NODE:
        if told:
            cause = f"{cause}. Nothing was stored: {STILL}"
        else:
            cause = f"{cause}. It is not known whether the new calibration is in force"
            action = "Connect it again and see: gridnode calibrate show"
    elif err.fields.get("code") == "unproven":
        action = "Check the reference and its connection, then repeat the step."
    elif err.fields.get("code") == "condition":
        action = "Bring it within the limit and repeat the step."
    return GridnodeError(step, cause, action, err.exit, err.fields)


@contextlib.contextmanager
def _understood(step: str) -> Iterator[None]:
    """Turn an answer of another form into a `GridnodeError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise GridnodeError(
            step,
            f"the node's answer is not understood ({type(err).__name__}: {err})",
            "Update the node or this program.",
            Exit.REFUSED,
        ) from err
