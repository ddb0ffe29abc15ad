"""What every verb of the command line has: its common options, its help and its failures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

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
