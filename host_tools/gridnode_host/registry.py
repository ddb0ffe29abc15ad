"""Fetch one pinned archive from the Python package index that pip is set up to use.

pip itself cannot take these archives: they hold MicroPython modules and no build script. So the
index is read with pypi-simple, under pip's own settings (index, extra indexes, find-links,
certificate bundle), and the archive is accepted only with the expected SHA-256.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.files import write_atomic

_TIMEOUT_S = 30
_MAX_BYTES = 1_000_000
# pip reads one section after the other, the environment last
_SECTIONS = ("global", "download", ":env:")


def pip_settings() -> dict[str, list[str]]:
    """Return pip's index settings: option name to its values."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found: dict[tuple[str, str], list[str]] = {}
    for line in done.stdout.splitlines():
        key, sign, value = line.partition("=")
        section, dot, option = key.partition(".")
        if not sign or not dot:
            continue
        try:
            text = str(ast.literal_eval(value))
        except (SyntaxError, ValueError):
            text = value
        found[section, option] = text.split()
    settings: dict[str, list[str]] = {}
    for wanted in _SECTIONS:
        settings.update({opt: val for (section, opt), val in found.items() if section == wanted})
    return settings


def fetch(project: str, filename: str, sha256: str, folder: Path) -> Path:
    """Return ``folder/filename``, downloaded unless it is there already with this SHA-256.

    Raises `GridnodeError` when no index offers the file, or only with other content.
    """
    target = folder / filename
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == sha256:
        return target
    step = f"fetch {filename}"
    problems = []
    for place, content in _offers(project, filename):
        if isinstance(content, Exception):
            problems.append(f"{place}: {_reason(content)}")
        elif hashlib.sha256(content).hexdigest() != sha256:
            problems.append(f"{place}: the file has another SHA-256 than expected")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(target, content)
            return target
    raise GridnodeError(
        step,
        "; ".join(problems) or "no package index offers this file",
        "Check the network and pip's index settings (pip config list), then try again.",
        Exit.VERIFY if "SHA-256" in "; ".join(problems) else Exit.INTERNAL,
    )


def read_member(archive: Path, name: str) -> bytes:
    """Return the file ``name`` of a source archive, where its top folder is not counted.

    Only the bytes are taken: no path of the archive ever reaches the file system.
    """
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes()), mode="r:gz") as tar:
        for member in tar:
            inner = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if member.isfile() and str(inner) == name and member.size <= _MAX_BYTES:
                stream = tar.extractfile(member)
                assert stream is not None  # a regular file always has one
                return stream.read()
    raise GridnodeError("unpack", f"{archive.name} has no file {name}")


def _reason(err: Exception) -> str:
    """Describe a failure without its text, which may hold a URL with a password."""
    text = err.strerror if isinstance(err, OSError) else None
    return text or type(err).__name__


def _offers(project: str, filename: str) -> Iterator[tuple[str, bytes | Exception]]:
    """Yield (place, content or failure) for each place that pip would look at."""
    settings = pip_settings()
    for entry in settings.get("find-links", []):
        folder = _local_path(entry)
        if folder and (folder / filename).is_file():
            yield str(folder), (folder / filename).read_bytes()
    if "no-index" in settings and settings["no-index"] not in (["false"], ["0"], ["no"]):
        return
    indexes = settings.get("index-url", [""]) + settings.get("extra-index-url", [])
    for index in indexes:
        place = urlsplit(index).hostname or index.rpartition("@")[2] or "the default index"
        try:
            folder = _local_path(index) if index else None
            found = (
                _from_folder(folder, project, filename)
                if folder
                else _from_index(index, project, filename, settings)
            )
        except Exception as err:  # noqa: BLE001 - indexes fail in many ways; try the next one
            yield place, err
        else:
            if found is not None:
                yield place, found


def _local_path(entry: str) -> Path | None:
    parts = urlsplit(entry)
    if parts.scheme == "file":
        return Path(url2pathname(unquote(parts.path)))
    return None if "://" in entry else Path(entry)


def _canonical(project: str) -> str:
    return re.sub(r"[-_.]+", "-", project).lower()


def _from_folder(index: Path, project: str, filename: str) -> bytes | None:
    """Look a file up in an index that is a folder of HTML pages."""
    from pypi_simple import ProjectPage

    page = index / _canonical(project) / "index.html"
    if not page.is_file():
        return None
    listing = ProjectPage.from_html(project, page.read_bytes(), base_url=page.as_uri())
    for package in listing.packages:
        path = _local_path(package.url)
        if package.filename == filename and path:
            return path.read_bytes()
    return None


def _from_index(
    index: str, project: str, filename: str, settings: dict[str, list[str]]
) -> bytes | None:
    """Look a file up in an index on the network; ``""`` is pip's default one."""
    import requests
    from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple

    parts = urlsplit(index or PYPI_SIMPLE_ENDPOINT)
    netloc = parts.netloc.rpartition("@")[2]

    def sign_in(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # only for the index's own host: its pages may lead to others
        if parts.username and urlsplit(str(request.url)).netloc == netloc:
            user, password = unquote(parts.username), unquote(parts.password or "")
            requests.auth.HTTPBasicAuth(user, password)(request)
        return request

    session = requests.Session()
    if settings.get("cert"):
        session.verify = settings["cert"][0]
    auth: Any = sign_in if parts.username else None
    with PyPISimple(urlunsplit(parts._replace(netloc=netloc)), auth, session) as client:
        try:
            page = client.get_project_page(project, timeout=_TIMEOUT_S)
        except NoSuchProjectError:
            return None
        for package in page.packages:
            if package.filename == filename:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "archive"
                    client.download_package(package, path, verify=False, timeout=_TIMEOUT_S)
                    return path.read_bytes()
    return None
