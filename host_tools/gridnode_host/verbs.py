"""What every verb of the command line has: its common options, its help and its failures."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output

PORT_HELP = "Serial port of the node (see gridnode ports)."

Json = Annotated[bool, typer.Option("--json", help="Print one JSON event per line.")]
Port = Annotated[str, typer.Option("--port", "-p", help=PORT_HELP)]


def epilog(example: str, *codes: Exit) -> str:
    """Return the end of a verb's help: an example and the exit codes that it may give."""
    every = (Exit.DONE, Exit.INTERNAL, Exit.USAGE, *codes)
    return f"Example: {example}\n\nExit codes: " + ", ".join(
        f"{int(code)} {code.meaning}" for code in every
    )


def bench_room(name: str) -> Any:
    """Import a module of the bench, whose dependencies are an extra of the installation."""
    extra_room("gridnode_host.bench.virtual_rig")  # all of them, now
    return extra_room(f"gridnode_host.bench.{name}")


def extra_room(name: str, extra: str = "bench") -> Any:
    """Import a module that needs an extra of the installation."""
    try:
        return importlib.import_module(name)
    except ImportError as err:
        missing = err.name or str(err)
        if missing.partition(".")[0] == "gridnode_host":
            raise
        raise GridnodeError(
            "load the bench" if extra == "bench" else f"load what {extra} needs",
            f"the Python module {missing} is missing or cannot be used here",
            f"Install the extra: pip install 'gridnode[{extra}]'. It needs Linux or macOS.",
            Exit.USAGE,
        ) from err


@contextmanager
def verb(as_json: bool) -> Iterator[Output]:
    """Give a verb its output and turn failures into a message and an exit code."""
    out = Output(as_json)
    try:
        yield out
    except GridnodeError as err:
        out.fail(err)
        raise typer.Exit(err.exit) from err
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (typer.Exit, typer.Abort):
        raise  # the verb has told its exit code itself
    except Exception as err:
        if os.environ.get("GRIDNODE_DEBUG"):
            raise
        out.fail(
            GridnodeError(
                "run the command",
                f"unexpected {type(err).__name__}: {err}",
                "This is a defect: run it again with GRIDNODE_DEBUG=1 and report what it shows.",
            )
        )
        raise typer.Exit(Exit.INTERNAL) from err
