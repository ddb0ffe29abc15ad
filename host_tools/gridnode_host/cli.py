"""The ``gridnode`` command."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gridnode_host import __version__
from gridnode_host.calibrate.commands import app as calibrate
from gridnode_host.detection.commands import app as detection
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.simulate.commands import app as simulate
from gridnode_host.verbs import Json, Port, bench_room, epilog, verb

_EXITS = "Exit codes: " + ", ".join(f"{int(code)} {code.meaning}" for code in Exit) + "."

app = typer.Typer(
    name="gridnode",
    help="Provision, watch and test Gridnode energy nodes.",
    epilog=_EXITS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(calibrate)
app.add_typer(simulate)
app.add_typer(detection)

CertsDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the CA and the keys; the default is shown by gridnode certs."),
]


def main() -> None:
    """Run the command line (the entry point of the installed ``gridnode`` command)."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"gridnode {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


@app.command(epilog=epilog("gridnode ports --json"))
def ports(
    every: Annotated[bool, typer.Option("--all", help="Show ports without USB as well.")] = False,
    as_json: Json = False,
) -> None:
    """List the serial ports, so that nobody has to guess."""
    with verb(as_json) as out:
        from gridnode_host import device

        rows = device.list_ports(every)
        out.table("port", rows, "No USB serial port found. Is the node plugged in? (--all: every)")
        if as_json:
            out.done(count=len(rows))


@app.command(epilog=epilog("gridnode certs --server --name broker.example"))
def certs(
    thing: Annotated[
        list[str] | None, typer.Option(help="Make key and certificate of this node (repeat).")
    ] = None,
    server: Annotated[
        bool, typer.Option("--server", help="Make key and certificate of a broker.")
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Further host name or IP address of the broker (repeat)."),
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Replace keys and certificates that exist.")
    ] = False,
    certs_dir: CertsDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be made, and make nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the development CA, and keys and certificates of nodes and brokers.

    Without options it makes the CA if there is none, and shows where it is. An existing CA is
    never replaced.
    """
    with verb(as_json) as out:
        from gridnode_host import certs as work
        from gridnode_host import resources

        folder = certs_dir or resources.certs_dir()
        new_ca = not (folder / "ca.pem").is_file()
        places: dict[Path, str | None] = {
            work.node_folder(folder, one): one for one in thing or []
        }
        if server or name:
            places[folder / "server"] = None
        for place in [place for place in places if any(place.glob("cert.*")) and not renew]:
            out.event("kept", f"kept  {place} (--renew replaces it)", path=str(place))
            del places[place]
        if dry_run:
            for place in [folder] * new_ca + list(places):
                out.event("plan", f"would make {place}", path=str(place))
            out.done()
            return
        authority = work.ensure_ca(folder)
        out.event(
            "ca",
            f"{'made' if new_ca else 'have'}  {authority.pem}, "
            f"valid until {work.valid_until(authority.pem):%Y-%m-%d}",
            path=str(authority.pem),
            made=new_ca,
        )
        for one in places.values():
            if one is None:
                identity = work.issue_server(authority, name or [])
            else:
                identity = work.issue_node(authority, one)
            until = work.valid_until(identity.cert)
            out.event(
                "certificate",
                f"made  {identity.cert}, valid until {until:%Y-%m-%d}",
                name=one or "server",
                cert=str(identity.cert),
                key=str(identity.key),
                valid_until=f"{until:%Y-%m-%d}",
            )
        out.done()


@app.command(
    epilog=epilog(
        "gridnode provision --port /dev/ttyUSB0 --thing meter-1 --profile home-60a-ct "
        "--broker broker.example:8883 --wifi-ssid Plant --sntp pool.ntp.org",
        Exit.NO_NODE,
        Exit.PORT_BUSY,
        Exit.WRONG_CHIP,
        Exit.VERIFY,
        Exit.REFUSED,
        Exit.CLOUD,
    )
)
def provision(
    port: Port,
    thing: Annotated[str, typer.Option(help="Thing name = MQTT client id = certificate name.")],
    profile: Annotated[str, typer.Option(help="Name of a profile, or path of a .json file.")],
    broker: Annotated[str, typer.Option(help="HOST:PORT of the MQTT broker (port 8883).")],
    network: Annotated[str, typer.Option(help="wlan, lan or none.")] = "wlan",
    wifi_ssid: Annotated[
        str | None,
        typer.Option(
            help="Name of the Wi-Fi network. Its key is asked for, or read from "
            "GRIDNODE_WIFI_KEY or --wifi-key-file; it is never an argument."
        ),
    ] = None,
    wifi_key_file: Annotated[
        Path | None, typer.Option(help="File whose first line is the Wi-Fi key.")
    ] = None,
    sntp: Annotated[
        str | None, typer.Option(help="HOST:PORT of the time server (port 123).")
    ] = None,
    interval: Annotated[
        int | None, typer.Option(help="Seconds between reports (default 10).")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="calibration.json to put on the node.")
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="CA of the broker's certificate, if it is not the CA of --certs-dir."),
    ] = None,
    certs_dir: CertsDir = None,
    keep_keys: Annotated[
        bool, typer.Option("--keep-keys", help="Leave the node's private key on this machine.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the plan; write nothing.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait until the node says that it is connected.")
    ] = 90.0,
    as_json: Json = False,
) -> None:
    """Give a node its name, configuration, profile and certificates, and see it connect."""
    with verb(as_json) as out:
        from gridnode_host import provision as work
        from gridnode_host import resources

        key = None
        if network == "wlan":
            key = work.wifi_key(wifi_key_file, ask=sys.stdin.isatty() and not (dry_run or as_json))
        plan = work.Plan(
            port=port,
            thing=thing,
            config=work.node_config(
                thing, broker, network, ssid=wifi_ssid, key=key, sntp=sntp, interval_s=interval
            ),
            profile=resources.profile(profile),
            calibration=work.load_calibration(calibration),
            certs_dir=certs_dir or resources.certs_dir(),
            ca_file=ca_file,
            keep_keys=keep_keys,
            timeout_s=timeout,
        )
        work.run(plan, out, dry_run=dry_run)


@app.command(epilog=epilog("gridnode monitor --port /dev/ttyUSB0", Exit.NO_NODE, Exit.PORT_BUSY))
def monitor(
    port: Port,
    duration: Annotated[
        float | None, typer.Option(help="End after this many seconds (default: Ctrl-C).")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Show the node's lines as they come.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a running node says on its console, without stopping it."""
    with verb(as_json) as out:
        from gridnode_host import monitor as work

        work.run(port, out, duration, raw=raw)


@app.command(
    epilog=epilog(
        "gridnode meter --port /dev/ttyUSB0, then gridnode meter --port /dev/ttyUSB0 main reset-totals",
        Exit.NO_NODE,
        Exit.PORT_BUSY,
        Exit.WRONG_CHIP,
        Exit.REFUSED,
    )
)
def meter(
    port: Port,
    name: Annotated[str | None, typer.Argument(help="Id of one meter; default: all.")] = None,
    command: Annotated[
        str | None,
        typer.Argument(help="Command of that meter, such as reset-totals or set-address."),
    ] = None,
    value: Annotated[float | None, typer.Argument(help="Its value, where it takes one.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only ask which commands the meter knows.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read the node's meters once, or let one of them carry out a command.

    The application is stopped for it and started again. reset-totals sets the node's own energy
    totals back to zero: the former ones stay on the node in /log and are shown.
    """
    with verb(as_json) as out:
        from gridnode_host import meters as work

        if name and command:
            work.command(port, out, name, command, value, dry_run=dry_run)
        else:
            work.read(port, out, name)


class Action(StrEnum):
    """What a detector is asked for."""

    status = "status"
    freeze = "freeze"
    guarded = "guarded"
    learning = "learning"
    reset = "reset"
    accept = "accept"


@app.command(
    epilog=epilog(
        "gridnode detector --port /dev/ttyUSB0, then gridnode detector --port /dev/ttyUSB0 accept v1",
        Exit.NO_NODE,
        Exit.PORT_BUSY,
        Exit.WRONG_CHIP,
        Exit.REFUSED,
    )
)
def detector(
    port: Port,
    action: Annotated[
        Action,
        typer.Argument(
            help="status; freeze: end learning; guarded: let levels follow slowly, within a budget; "
            "learning: go on learning; reset: forget everything and learn anew; accept: what a "
            "signal reads now is ordinary."
        ),
    ] = Action.status,
    signal: Annotated[
        str | None, typer.Argument(help="Signal to accept, such as voltage, i2 or temperature.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell the state of the model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the state of the node's anomaly detector, or change it.

    The application is stopped for it and started again; what it has learnt so far is kept.
    """
    with verb(as_json) as out:
        from gridnode_host import detector as work

        work.run(port, out, action.value, signal, dry_run=dry_run)


@app.command(epilog=epilog("gridnode build --arch xtensawin"))
def build(
    arch: Annotated[
        list[str] | None, typer.Option(help="Architecture (repeat); default: all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compile the firmware to .mpy images (in a checkout of the sources)."""
    with verb(as_json) as out:
        from gridnode_host import build as work
        from gridnode_host import resources

        if resources.checkout() is None:
            raise GridnodeError(
                "build",
                "this installation carries compiled images and no sources",
                "Run it in a checkout of the project.",
                Exit.USAGE,
            )
        for name in arch or work.ARCHES:
            with out.step(f"build the image for {name}"):
                folder = resources.image_dir(name)
            size = sum(path.stat().st_size for path in folder.rglob("*.mpy"))
            out.event(
                "image", f"      {folder} ({size} bytes)", arch=name, path=str(folder), bytes=size
            )
        if as_json:
            out.done()


@app.command(epilog=epilog("gridnode demo --nodes 3 --duration 30", Exit.CLOUD))
def demo(
    nodes: Annotated[int, typer.Option(min=1, max=20, help="Number of virtual nodes.")] = 3,
    duration: Annotated[
        float | None, typer.Option(min=1, help="End after this many seconds (default: Ctrl-C).")
    ] = None,
    learn: Annotated[
        int,
        typer.Option(
            min=0, max=1000, help="Rows from which the detectors learn first, in fast motion."
        ),
    ] = 48,
    as_json: Json = False,
) -> None:
    """Run virtual nodes on a virtual bench and show their shadows beside the physics' truth.

    Loads change by themselves. After about ten seconds the first node's voltage is too high for a
    while, then the last node is overloaded: alarms are seen, and what the detectors name. Ctrl-C
    ends it as a --duration does: with a summary, and exit code 8 if the shadow of a node has not
    arrived. Ctrl-C before the nodes have started ends it with 0.
    """
    with verb(as_json) as out:
        work = bench_room("demo")
        raise typer.Exit(work.run(out, nodes=nodes, duration=duration, learn=learn))


class Subject(StrEnum):
    """What `bench` can measure."""

    startup = "startup"
    cost = "cost"
    memory = "memory"
    accuracy = "accuracy"
    events = "events"
    calibration = "calibration"
    detection = "detection"


@app.command(epilog=epilog("gridnode bench accuracy"))
def bench(
    subjects: Annotated[
        list[Subject] | None,
        typer.Argument(help="What to measure; default: startup, cost and memory."),
    ] = None,
    clone: Annotated[
        bool,
        typer.Option(
            "--clone", help="Also time make demo from a clean clone to its first shadow."
        ),
    ] = False,
    nab: Annotated[
        Path | None,
        typer.Option(
            "--nab", help="Detection: folder of files of the Numenta benchmark and windows.json."
        ),
    ] = None,
    short: Annotated[
        bool, typer.Option("--short", help="Detection: fewer streams and smaller forests.")
    ] = False,
    detectors: Annotated[
        list[str] | None,
        typer.Option(
            "--detector", help="Detection: judge with this one only; may be repeated. node: our own."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure accuracy, events, calibration, detection, speed and memory on the virtual bench.

    All but speed and memory take many minutes. Tables, JSON and plots go to the folder build.
    """
    with verb(as_json) as out:
        work = bench_room("figures")
        chosen = [subject.value for subject in subjects or ()]
        raise typer.Exit(work.run(out, chosen, clone=clone, nab=nab, short=short, detectors=detectors))
