"""SCPI instruments on TCP sockets and serial ports, through PyVISA and its Python backend.

An instrument answers within its time-out or is a failure; a value that is none (NaN, the 9.9E37
of an overrange, dashes) is a fault and never a number.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from gridnode_host.calibrate.plan import ScpiLink
from gridnode_host.calibrate.quantities import LARGEST, Value
from gridnode_host.errors import Exit, GridnodeError

_OVERRANGE = 9.9e37  # SCPI-99: 9.9E37 is infinity, 9.91E37 not a number
_ORDER = ("frequency", "voltage", "phase_deg", "current", "temperature")
"""The order in which a load is set: no current before there is a voltage."""


class Instrument:
    """One instrument, safe to be used by several threads; ``name`` is what ``*IDN?`` says."""

    def __init__(self, link: ScpiLink) -> None:
        self.resource = link.resource
        self._error_query = link.error_query
        self._lock = threading.Lock()
        self._line = _open(link)
        try:
            self.name = _identity(self.ask("*IDN?"))
        except GridnodeError:
            self.close()
            raise

    def ask(self, query: str) -> str:
        """Return the answer to a query. Raises `GridnodeError` (NO_NODE) where none comes."""
        with self._lock:
            return str(self._transfer(query, lambda: self._line.query(query))).strip()

    def tell(self, command: str) -> None:
        """Send a command, and ask whether the instrument has taken it."""
        with self._lock:
            self._transfer(command, lambda: self._line.write(command))
        if self._error_query:
            error = self.ask(self._error_query)
            if not re.match(r'[+-]?0+(\D|$)|"?no error', error, re.IGNORECASE):
                raise GridnodeError(
                    f"set {self.resource}",
                    f"the instrument does not accept {command!r}: {error[:120]}",
                    "Correct the command in the plan.",
                    Exit.USAGE,
                )

    def value(self, query: str) -> Value:
        """Return the number that a query gives. Raises `GridnodeError` (REFUSED) for a fault."""
        answer = self.ask(query)
        value = number(answer)
        if value is None:
            raise GridnodeError(
                "read the reference",
                f"{self.name} answers {query!r} with {answer[:60]!r}, which is no value",
                "Check its range, its connections and the query.",
                Exit.REFUSED,
                {"condition": "reference_value", "measured": answer[:60], "limit": None},
            )
        return value

    def close(self) -> None:
        """Let the instrument go."""
        try:
            self._line.close()
        except Exception:  # noqa: BLE001 - it is gone already; backends raise what they like
            pass

    def _transfer(self, what: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except UnicodeDecodeError as err:
            raise _silent(self.resource, f"does not answer {what!r} in plain text") from err
        except Exception as err:
            # VisaIOError, OSError of the socket, SerialException: all say that it is not there
            raise _silent(self.resource, f"does not answer {what!r} ({_short(err)})") from err


class Source:
    """What sets the load, by the commands of a plan."""

    def __init__(
        self, instrument: Instrument, commands: Mapping[str, str], sweep_end: Sequence[str] = ()
    ) -> None:
        self.instrument = instrument
        self._commands = commands
        self._sweep_end = sweep_end

    @property
    def name(self) -> str:
        """What the instrument says that it is."""
        return self.instrument.name

    def set(self, values: Mapping[str, tuple[Value, ...]], phases: Sequence[int]) -> None:
        """Set quantities of the ``phases`` (1..3); one value holds for all of them."""
        for name in sorted(values, key=_ORDER.index):
            command = self._commands[name]
            each = phases if "{phase}" in command else phases[:1]
            for k, phase in enumerate(each):
                value = values[name][min(k, len(values[name]) - 1)].value
                text = command.replace("{value}", f"{value:.9g}")
                self.instrument.tell(text.replace("{phase}", str(phase)))

    def level(self, mv: float) -> None:
        """Put a level on the converter's pin."""
        self.instrument.tell(self._commands["level_mv"].replace("{value}", f"{mv:.9g}"))

    def release(self) -> None:
        """Give the converter's pin back."""
        self.send(self._sweep_end)

    def send(self, commands: Sequence[str]) -> None:
        """Send commands as they are."""
        for command in commands:
            self.instrument.tell(command)


def number(answer: str) -> Value | None:
    """Return the value of an answer with the resolution of its digits; None if it is no value."""
    try:
        decimal = Decimal(answer.strip())
    except InvalidOperation:
        return None
    value = float(decimal)
    if not math.isfinite(value) or abs(value) >= _OVERRANGE or abs(value) > LARGEST:
        return None
    exponent = decimal.as_tuple().exponent
    return Value(value, 10.0**exponent if isinstance(exponent, int) else 0.0)


def _open(link: ScpiLink) -> Any:
    import pyvisa

    milliseconds = int(1000 * link.timeout_s)
    try:
        line: Any = pyvisa.ResourceManager("@py").open_resource(
            link.resource,
            open_timeout=milliseconds,
            timeout=milliseconds,
            read_termination=link.read_termination,
            write_termination=link.write_termination,
        )
    except Exception as err:
        raise _unreachable(link, err) from err
    if link.baud and hasattr(line, "baud_rate"):
        line.baud_rate = link.baud
    return line


def _unreachable(link: ScpiLink, err: Exception) -> GridnodeError:
    told = str(err)
    wrong = isinstance(err, ValueError) or "INV_RSRC_NAME" in told or "invalid literal" in told
    return GridnodeError(
        "open the instrument",
        f"{link.resource} cannot be opened ({_short(err)})",
        "Write it as TCPIP0::HOST::PORT::SOCKET or ASRL/dev/ttyUSB1::INSTR."
        if wrong
        else "Check that the instrument is on and connected, and its address.",
        Exit.USAGE if wrong else Exit.NO_NODE,
    )


def _silent(resource: str, cause: str) -> GridnodeError:
    return GridnodeError(
        "ask the instrument",
        f"{resource} {cause}",
        "Check that it is on and connected, its port and the line endings of the plan.",
        Exit.NO_NODE,
    )


def _short(err: Exception) -> str:
    text = str(err).splitlines()[0] if str(err) else ""
    return f"{type(err).__name__}: {text}"[:160].rstrip(": ")


def _identity(answer: str) -> str:
    """Return ``*IDN?`` as a person writes it: maker, model, serial number."""
    parts = [part.strip() for part in answer.split(",")]
    name = " ".join(part for part in parts[:2] if part) or "unnamed instrument"
    serial = parts[2] if len(parts) > 2 and parts[2] not in ("", "0") else None
    text = f"{name} s/n {serial}" if serial else name
    return "".join(c for c in text if c.isprintable())[:60]
