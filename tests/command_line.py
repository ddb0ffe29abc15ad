"""The ``gridnode`` command as tests call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from gridnode_host import cli
from typer.testing import CliRunner


def gridnode(*arguments: str | Path, **env: str) -> tuple[int, str, str]:
    """Run the command in this process; returns exit code, stdout and stderr."""
    settings = {"COLUMNS": "200", "NO_COLOR": "1", **env}
    result = CliRunner().invoke(cli.app, [str(one) for one in arguments], env=settings)
    return result.exit_code, result.stdout, result.stderr


def events(text: str) -> list[dict[str, Any]]:
    """What --json has printed."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all(event["v"] == 1 and event["event"] for event in found)
    return found


def child(*arguments: str, cwd: Path | None = None) -> tuple[int, list[dict[str, Any]], str]:
    """Run the command with --json in a process of its own; returns exit code, events and all that was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "gridnode_host", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, events(done.stdout), done.stdout + done.stderr
