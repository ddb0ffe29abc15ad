"""The command line of `gridnode simulate`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.verbs import Json, bench_room, epilog, extra_room, verb

app = typer.Typer(
    name="simulate",
    help="Make data: line sensors, streams with known faults, this computer as a thing.",
    epilog=epilog("gridnode simulate grid-sensor --out sensors --anomalies", Exit.CLOUD),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Seed = Annotated[int, typer.Option(min=0, help="The same seed draws the same values.")]


@app.command(
    "grid-sensor",
    epilog=epilog(
        "gridnode simulate grid-sensor --out sensors --hours 18 --anomalies, or "
        "gridnode simulate grid-sensor --live --nodes 2 --duration 60",
        Exit.CLOUD,
    ),
)
def grid_sensor(
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for sensor-01.csv .. and META.json.")
    ] = None,
    hours: Annotated[float, typer.Option(min=0.01, help="Hours of rows of 10 s.")] = 18.0,
    train_hours: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Hours at the beginning, without anomalies, to learn from; default 6, but no "
            "more than a third.",
        ),
    ] = None,
    seed: Seed = 0,
    anomalies: Annotated[
        bool, typer.Option("--anomalies", help="Six classes, each one reading in ten.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Run virtual nodes that measure the simulated values.")
    ] = False,
    nodes: Annotated[int, typer.Option(min=1, max=21, help="Virtual nodes (--live).")] = 1,
    duration: Annotated[
        float | None, typer.Option(min=1, help="End after this many seconds (--live).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Simulate medium-voltage line sensors: 23 to 25 kV, 0 to 600 A, 30 to 100 degC, 20 to 80 %.

    With --out, 21 labelled files for gridnode replay. With --live, virtual nodes on a virtual
    bench whose mains and air take the drawn values, so that their shadows report them; Ctrl-C
    ends it. Anomalies are: all zero, all far too high, and each signal alone far too high.
    """
    with verb(as_json) as out:
        if live == (out_folder is not None):
            raise GridnodeError(
                "choose what to make",
                "both --out and --live are given" if live else "nothing is asked for",
                "Give either --out FOLDER or --live.",
                Exit.USAGE,
            )
        if out_folder is None:
            bench_room("rig")
            raise typer.Exit(
                extra_room("gridnode_host.simulate.live").run(
                    out, nodes, seed, anomalies, duration
                )
            )
        files = extra_room("gridnode_host.simulate.files")
        learnt = min(6.0, hours / 3) if train_hours is None else train_hours
        files.sensors(out, out_folder, hours, learnt, seed, anomalies)


@app.command(epilog=epilog("gridnode simulate faults --kind t_faults --seed 3 --out faults.csv"))
def faults(
    kind: Annotated[str, typer.Option(help="What to draw; --list shows all.")] = "t_faults",
    seed: Seed = 0,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="CSV file; its limits get the suffix .json.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the kinds, and end.")] = False,
    as_json: Json = False,
) -> None:
    """Draw a stream of one phase or three from physics, with faults and their labels."""
    with verb(as_json) as out:
        streams = extra_room("gridnode_host.detection.streams")
        if listed:
            out.table("kind", [{"kind": name} for name in streams.KINDS], "")
            if as_json:
                out.done(count=len(streams.KINDS))
            return
        if kind not in streams.KINDS:
            raise GridnodeError(
                "choose a kind",
                f"there is no kind {kind!r}",
                f"Choose one of: {', '.join(streams.KINDS)}.",
                Exit.USAGE,
            )
        if out_file is None:
            raise GridnodeError(
                "choose a file", "no --out is given", "Say --out FILE.csv.", Exit.USAGE
            )
        extra_room("gridnode_host.simulate.files").faults(out, kind, seed, out_file)


@app.command(epilog=epilog("gridnode simulate sysmon --interval 2 --count 5", Exit.CLOUD))
def sysmon(
    broker: Annotated[
        str | None,
        typer.Option(help="HOST:PORT (8883); without it an endpoint starts for the run."),
    ] = None,
    thing: Annotated[str, typer.Option(help="Thing name = MQTT client id.")] = "sysmon",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between updates.")] = 10.0,
    count: Annotated[
        int | None, typer.Option(min=1, help="End after this many updates (default: Ctrl-C).")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="CA of the broker, if it is not that of --certs-dir.")
    ] = None,
    certs_dir: Annotated[
        Path | None, typer.Option(help="Folder of gridnode certs, for --broker.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Publish processor load, memory and temperature of this computer as a shadow.

    It goes over mutual TLS with the certificate that gridnode certs --thing NAME made. Each
    update waits until the shadow service has accepted it.
    """
    with verb(as_json) as out:
        from gridnode_host import resources

        work = extra_room("gridnode_host.simulate.sysmon")
        if broker is None:
            target = work.bench_target(thing)
        else:
            folder = certs_dir or resources.certs_dir()
            target = nullcontext(work.broker_target(broker, thing, folder, ca_file))
        with target as place:
            work.run(out, place, interval, count)
