"""The pinned download: accepted by its hash only, from wherever pip is set up to look."""

import base64
import hashlib
import http.server
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gridnode_host import registry
from gridnode_host.errors import Exit, GridnodeError

FILE = "some-project-1.0.tar.gz"
CONTENT = b"the archive"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def use(monkeypatch: pytest.MonkeyPatch, **settings: list[str]) -> None:
    named = {key.replace("_", "-"): value for key, value in settings.items()}
    monkeypatch.setattr(registry, "pip_settings", lambda: named)


def index_folder(folder: Path, content: bytes) -> str:
    page = folder / "some-project"
    page.mkdir(parents=True)
    (page / FILE).write_bytes(content)
    (page / "index.html").write_text(f'<a href="{FILE}">{FILE}</a>')
    return folder.as_uri()


def test_a_folder_of_links_an_index_folder_and_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / FILE).write_bytes(CONTENT)
    index = index_folder(tmp_path / "index", CONTENT)
    for number, settings in enumerate([{"find_links": [str(links)]}, {"index_url": [index]}]):
        use(monkeypatch, **settings)
        target = registry.fetch("Some.Project", FILE, SHA256, tmp_path / str(number))
        assert target.read_bytes() == CONTENT
    use(monkeypatch, no_index=["true"])
    assert registry.fetch("Some.Project", FILE, SHA256, tmp_path / "0").read_bytes() == CONTENT


def test_other_content_is_refused_and_the_next_place_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = index_folder(tmp_path / "bad", b"something else")
    use(monkeypatch, index_url=[bad])
    with pytest.raises(GridnodeError, match="another SHA-256") as failure:
        registry.fetch("some_project", FILE, SHA256, tmp_path / "out")
    assert failure.value.exit == Exit.VERIFY
    assert not (tmp_path / "out").exists()
    good = index_folder(tmp_path / "good", CONTENT)
    use(monkeypatch, index_url=[bad], extra_index_url=[good])
    assert registry.fetch("some_project", FILE, SHA256, tmp_path / "out").read_bytes() == CONTENT


def test_a_damaged_cache_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / FILE).write_bytes(b"torn")
    use(monkeypatch, index_url=[index_folder(tmp_path / "index", CONTENT)])
    assert registry.fetch("some-project", FILE, SHA256, tmp_path).read_bytes() == CONTENT


@pytest.fixture
def web_index() -> Iterator[tuple[int, list[tuple[str, str | None]]]]:
    """An index on the network that wants a password; (port, what was asked of it)."""
    asked: list[tuple[str, str | None]] = []
    wanted = "Basic " + base64.b64encode(b"user:p@ss").decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sign = self.headers.get("Authorization")
            host = self.headers["Host"].partition(":")[0]
            asked.append((host, sign))
            if host == "127.0.0.1" and sign != wanted:
                self.send_response(401)
                self.end_headers()
                return
            port = self.server.server_port  # type: ignore[attr-defined]
            link = f"http://localhost:{port}/files/{FILE}"  # files come from another host
            page = f'<a href="{link}">{FILE}</a>'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(CONTENT if self.path.startswith("/files/") else page)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join(10)


def test_a_password_goes_to_the_index_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    web_index: tuple[int, list[tuple[str, str | None]]],
) -> None:
    port, asked = web_index
    use(monkeypatch, index_url=[f"http://user:p%40ss@127.0.0.1:{port}/simple"])
    target = registry.fetch("some-project", FILE, SHA256, tmp_path / "out")
    assert target.read_bytes() == CONTENT
    assert [(host, sign is not None) for host, sign in asked] == [
        ("127.0.0.1", True),
        ("localhost", False),
    ]


def test_a_failure_does_not_show_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, index_url=["http://user:geheim@127.0.0.1:9/simple"])
    with pytest.raises(GridnodeError) as failure:
        registry.fetch("some-project", FILE, SHA256, tmp_path)
    assert "127.0.0.1" in failure.value.cause
    assert "geheim" not in f"{failure.value.cause}{failure.value.action}{failure.value}"


def test_pip_settings_come_from_file_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    settings = tmp_path / "pip.conf"
    settings.write_text(
        "[global]\nindex-url = http://one.invalid/simple\n"
        "extra-index-url =\n    file:///a/simple\n    file:///b/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_INDEX_URL", "http://two.invalid/simple")
    found = registry.pip_settings()
    assert found["index-url"] == ["http://two.invalid/simple"]
    assert found["extra-index-url"] == ["file:///a/simple", "file:///b/simple"]


def archive(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return path


def test_only_the_named_file_is_read_from_an_archive(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", "../../evil/simple.py", "p-1.0/umqtt/simple.py")
    assert registry.read_member(path, "umqtt/simple.py") == b"p-1.0/umqtt/simple.py"
    with pytest.raises(GridnodeError):
        registry.read_member(path, "umqtt/robust.py")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar.gz"]
