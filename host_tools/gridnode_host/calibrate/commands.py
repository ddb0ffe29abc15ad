"""The command line of `gridnode calibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.verbs import PORT_HELP, Json, epilog, verb

_CODES = (Exit.NO_NODE, Exit.PORT_BUSY, Exit.WRONG_CHIP, Exit.VERIFY, Exit.REFUSED)

app = typer.Typer(name="calibrate", context_settings={"help_option_names": ["-h", "--help"]})

AnyPort = Annotated[str | None, typer.Option("--port", "-p", help=PORT_HELP)]
Operator = Annotated[str | None, typer.Option(help="Who does it; kept in the record.")]


class Restored(StrEnum):
    """What can be put back in force."""

    factory = "factory"
    previous = "previous"


class Further(StrEnum):
    """Steps of a guided session that are done only where they are asked for."""

    linearity = "linearity"
    temperature = "temperature"


@dataclass(frozen=True)
class _Common:
    """Options that may stand in front of a sub-command as well."""

    port: str | None
    as_json: bool


@app.callback(
    invoke_without_command=True,
    epilog=epilog(
        "gridnode calibrate --port /dev/ttyUSB0 --certificate meter-1.html, then "
        "gridnode calibrate --port /dev/ttyUSB0 --plan plan.toml --json",
        *_CODES,
    ),
)
def calibrate(
    context: typer.Context,
    port: AnyPort = None,
    plan: Annotated[
        Path | None, typer.Option(help="TOML file with the steps; without it a guided session.")
    ] = None,
    instruments: Annotated[
        Path | None,
        typer.Option(help="TOML file with the reference that a guided session reads by itself."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="HTML file to write at the end, with a JSON file beside it."),
    ] = None,
    operator: Operator = None,
    meter: Annotated[str | None, typer.Option(help="Only this meter (guided session).")] = None,
    further: Annotated[
        list[Further] | None,
        typer.Option("--with", help="Do this step of a guided session as well (repeat)."),
    ] = None,
    factory: Annotated[
        bool, typer.Option("--factory", help="Keep the result as the factory set as well.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan's steps, and touch nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Calibrate a node against a reference: guided at the terminal, or by a plan.

    The node refuses every step whose conditions do not hold, and proves that the new values are
    better. Nothing is in force before the end, and all of it in one step: a session that breaks
    off, for whatever reason, leaves the former calibration as it was.
    """
    context.obj = _Common(port, as_json)
    if context.invoked_subcommand:
        return
    with verb(as_json) as out:
        if plan:
            from gridnode_host.calibrate import plan as plans
            from gridnode_host.calibrate import run

            chosen = run.with_options(
                plans.load(plan), operator=operator, path=certificate, factory=factory
            )
            if dry_run:
                run.dry_run(port or "the node", chosen, out)
                return
            run.run(_port(context, None), chosen, out)
            return
        if dry_run or as_json:
            raise GridnodeError(
                "start the guided session",
                f"{'--dry-run' if dry_run else '--json'} goes with a plan",
                "Give --plan plan.toml, or leave it out.",
                Exit.USAGE,
            )
        from gridnode_host.calibrate import guide
        from gridnode_host.calibrate import plan as plans

        guide.start(
            _port(context, None),
            out,
            guide.Options(
                operator=operator,
                certificate=certificate,
                factory=factory,
                meter=meter,
                further=tuple(step.value for step in further or ()),
            ),
            plans.load(instruments, need_steps=False) if instruments else None,
        )


@app.command(epilog=epilog("gridnode calibrate show --port /dev/ttyUSB0", *_CODES))
def show(context: typer.Context, port: AnyPort = None, as_json: Json = False) -> None:
    """Show the calibration in force, its steps and the generations that are kept."""
    with verb(_json(context, as_json)) as out:
        from gridnode_host.calibrate import orders

        orders.show(_port(context, port), out)


@app.command(epilog=epilog("gridnode calibrate restore previous --port /dev/ttyUSB0", *_CODES))
def restore(
    context: typer.Context,
    to: Annotated[Restored, typer.Argument(help="What is to be in force again.")],
    port: AnyPort = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put the factory set or the calibration before this one back in force."""
    with verb(_json(context, as_json)) as out:
        from gridnode_host.calibrate import orders

        orders.restore(_port(context, port), out, to.value, dry_run=dry_run)


@app.command(epilog=epilog("gridnode calibrate check --port /dev/ttyUSB0", *_CODES))
def check(context: typer.Context, port: AnyPort = None, as_json: Json = False) -> None:
    """Let the node look for wiring faults that need no reference.

    Such as a clamp that is turned round or on the wrong phase; each suggestion comes with its
    evidence and the command that does it.
    """
    with verb(_json(context, as_json)) as out:
        from gridnode_host.calibrate import orders

        orders.check(_port(context, port), out)


@app.command(
    "set",
    epilog=epilog(
        "gridnode calibrate set ct_direction reversed --phase 2 --port /dev/ttyUSB0", *_CODES
    ),
    # -1 is a value here, not an option
    context_settings={"ignore_unknown_options": True},
)
def change(
    context: typer.Context,
    command: Annotated[
        str,
        typer.Argument(
            help="ct_ratio NUMBER; ct_direction normal or reversed; phase_swap PHASE; nominal "
            "voltage=V frequency=HZ; energy_preset import_wh=WH export_wh=WH."
        ),
    ],
    value: Annotated[list[str] | None, typer.Argument(help="Its value.")] = None,
    phase: Annotated[
        int | None, typer.Option(min=1, max=3, help="Phase of the clamp (default: all).")
    ] = None,
    meter: Annotated[
        str | None, typer.Option(help="Id of the meter (default: the first).")
    ] = None,
    operator: Operator = None,
    port: AnyPort = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Set what a technician finds at the cabinet; each change is recorded on the node."""
    with verb(_json(context, as_json)) as out:
        from gridnode_host.calibrate import orders

        orders.change(
            _port(context, port),
            out,
            command,
            value or [],
            meter=meter,
            phase=phase,
            operator=operator,
            dry_run=dry_run,
        )


@app.command(
    epilog=epilog("gridnode calibrate verify-certificate meter-1.json", Exit.VERIFY),
)
def verify_certificate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The certificate: its .html or .json file.")],
    as_json: Json = False,
) -> None:
    """Tell whether a certificate is still what was written, by its SHA-256."""
    with verb(_json(context, as_json)) as out:
        from gridnode_host.calibrate import certificate

        checked = certificate.verify(file)
        fields = {
            "number": checked.number,
            "sha256": checked.found,
            "stated": checked.stated,
            "page": checked.page,
        }
        if not checked.matches:
            what = (
                "page beside it states another"
                if checked.stated == checked.found
                else "file has another"
            )
            raise GridnodeError(
                "verify the certificate",
                f"{file}: the {what} SHA-256 than the certificate's: it was changed",
                "Ask for the original.",
                Exit.VERIFY,
                fields,
            )
        page = ", and the page beside it states the same" if checked.page else ""
        out.done(f"certificate {checked.number} is as it was written{page}", **fields)


def _port(context: typer.Context, port: str | None) -> str:
    """Return the port, given behind the sub-command or in front of it."""
    found = port or context.obj.port
    if not found:
        raise GridnodeError(
            "find the node", "--port is missing", "Give --port; see gridnode ports.", Exit.USAGE
        )
    return str(found)


def _json(context: typer.Context, as_json: bool) -> bool:
    return as_json or bool(context.obj.as_json)
