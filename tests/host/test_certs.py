"""Development CA: files, modes, names, validity, and that node and broker accept what it makes."""

import datetime
import ssl
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from gridnode_host import build, certs
from gridnode_host.errors import Exit, GridnodeError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_and_keys_are_private(tmp_path: Path) -> None:
    authority = certs.ensure_ca(tmp_path / "ca")
    node = certs.issue_node(authority, "meter-1")
    server = certs.issue_server(authority)
    folders = {authority.folder, node.key.parent, node.key.parent.parent, server.key.parent}
    assert {mode(folder) for folder in folders} == {0o700}
    assert {mode(p) for p in (authority.folder / "ca.key", node.key, server.key)} == {0o600}


def test_an_existing_ca_is_kept(tmp_path: Path) -> None:
    first = certs.ensure_ca(tmp_path)
    assert certs.ensure_ca(tmp_path).cert == first.cert


@pytest.mark.parametrize("lost", ["ca.key", "ca.pem", "ca.der"])
def test_a_part_of_a_ca_is_refused_and_left_alone(tmp_path: Path, lost: str) -> None:
    certs.ensure_ca(tmp_path)
    (tmp_path / lost).unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(GridnodeError, match="part of a CA") as failure:
        certs.ensure_ca(tmp_path)
    assert failure.value.exit == Exit.USAGE
    assert sorted(tmp_path.iterdir()) == before


def test_a_foreign_ca_key_is_refused(tmp_path: Path) -> None:
    certs.ensure_ca(tmp_path / "a")
    certs.ensure_ca(tmp_path / "b")
    (tmp_path / "a" / "ca.key").write_bytes((tmp_path / "b" / "ca.key").read_bytes())
    with pytest.raises(GridnodeError, match="does not belong"):
        certs.ensure_ca(tmp_path / "a")


def test_a_node_certificate_names_the_thing_and_is_for_clients(
    authority: certs.Authority,
) -> None:
    identity = certs.issue_node(authority, "feeder:7_x-1")
    cert = x509.load_der_x509_certificate(identity.cert.read_bytes())
    assert cert.subject.rfc4514_string() == "CN=feeder:7_x-1"
    cert.verify_directly_issued_by(authority.cert)
    usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert isinstance(cert.public_key(), ec.EllipticCurvePublicKey)
    now = datetime.datetime.now(datetime.UTC)
    assert cert.not_valid_before_utc < now - datetime.timedelta(hours=1)
    assert cert.not_valid_after_utc > now + datetime.timedelta(days=3000)


def test_times_can_be_chosen(authority: certs.Authority) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    identity = certs.issue_node(
        authority, "old", not_before=past, not_after=past + datetime.timedelta(days=1)
    )
    assert certs.valid_until(identity.cert).isoformat() == "2020-01-02T00:00:00+00:00"


@pytest.mark.parametrize("thing", ["", "a/b", "../x", "a b", "x" * 65, "näme"])
def test_unusable_names_are_refused(authority: certs.Authority, thing: str) -> None:
    with pytest.raises(GridnodeError) as failure:
        certs.issue_node(authority, thing)
    assert failure.value.exit == Exit.USAGE


def test_the_key_is_removed_when_the_node_is_stored_without_it(
    authority: certs.Authority,
) -> None:
    identity = certs.issue_node(authority, "stored")
    certs.store_node(authority.folder, "stored", b"new certificate", None)
    assert identity.cert.read_bytes() == b"new certificate"
    assert not identity.key.exists()
    assert certs.node_identity(authority.folder, "stored") is None


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The key files that a client's TLS has read, each checked when it is read."""
    read: list[Path] = []
    load = ssl.SSLContext.load_cert_chain

    def look(context: ssl.SSLContext, cert: Path, key: Path) -> None:
        assert (mode(key), mode(key.parent)) == (0o600, 0o700)
        read.append(key)
        load(context, cert, key)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look)
    return read


def test_a_client_lends_its_key_within_the_things_own_folder(
    authority: certs.Authority, loading: list[Path]
) -> None:
    identity = certs.issue_node(authority, "laptop")
    context = certs.client_context(authority.pem, identity)
    assert context.verify_mode == ssl.CERT_REQUIRED
    (key,) = loading
    assert key.is_relative_to(certs.node_folder(authority.folder, "laptop"))
    assert set(identity.key.parent.iterdir()) == {identity.cert, identity.key}


def test_a_lent_key_is_removed_after_a_refusal(
    authority: certs.Authority, loading: list[Path]
) -> None:
    identity = certs.issue_node(authority, "laptop")
    identity.cert.write_bytes(certs.issue_node(authority, "other").cert.read_bytes())
    with pytest.raises(GridnodeError, match="mismatch") as failure:
        certs.client_context(authority.pem, identity)
    assert failure.value.exit == Exit.USAGE
    assert len(loading) == 1
    assert set(identity.key.parent.iterdir()) == {identity.cert, identity.key}


def test_a_client_reads_pem_where_it_lies(authority: certs.Authority, loading: list[Path]) -> None:
    identity = certs.issue_node(authority, "service", pem=True)
    certs.client_context(authority.pem, identity)
    assert loading == [identity.key]
    assert identity.key.exists()


@pytest.mark.parametrize("broken", ["ca", "cert", "key"])
def test_a_client_says_which_file_is_broken(authority: certs.Authority, broken: str) -> None:
    identity = certs.issue_node(authority, "broken")
    ca = authority.der if broken == "ca" else authority.pem  # TLS takes PEM only
    if broken != "ca":
        (identity.cert if broken == "cert" else identity.key).write_bytes(b"no")
    with pytest.raises(GridnodeError) as failure:
        certs.client_context(ca, identity)
    assert f"{broken}.der" in failure.value.cause
    assert failure.value.exit == Exit.USAGE


CLIENT = """
import socket, ssl
def load(name):
    with open(name, "rb") as file:
        return file.read()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.verify_mode = ssl.CERT_REQUIRED
context.load_verify_locations(cadata=load({ca!r}))
context.load_cert_chain(load({cert!r}), load({key!r}))
raw = socket.socket()
raw.connect(socket.getaddrinfo("127.0.0.1", {port})[0][-1])
tls = context.wrap_socket(raw, server_hostname={name!r})
tls.write(b"ping")
print(tls.read(4))
"""


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "broker.example", "other.example"])
def test_node_and_broker_accept_each_other(tmp_path: Path, name: str) -> None:
    authority = certs.ensure_ca(tmp_path)
    server = certs.issue_server(authority, ["broker.example"])
    node = certs.issue_node(authority, "meter-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.pem)
    context.load_cert_chain(server.cert, server.key)
    seen = []

    def serve(listener: ssl.SSLSocket) -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                peer = connection.getpeercert() or {}
                seen.append(dict(pair for (pair,) in peer["subject"])["commonName"])
                connection.sendall(connection.recv(4))
        except OSError:
            pass  # the client has refused the name

    import socket

    with socket.create_server(("127.0.0.1", 0)) as raw:
        raw.settimeout(20)
        with context.wrap_socket(raw, server_side=True) as listener:
            thread = threading.Thread(target=serve, args=(listener,))
            thread.start()
            code = CLIENT.format(
                ca=str(authority.der),
                cert=str(node.cert),
                key=str(node.key),
                port=listener.getsockname()[1],
                name=name,
            )
            done = subprocess.run(
                [build.micropython(), "-c", code],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            thread.join(25)
    if name == "other.example":
        assert "CN" in done.stdout + done.stderr
        assert not done.stdout.startswith("b'ping'")
    else:
        assert done.stdout.strip() == "b'ping'", done.stderr
        assert seen == ["meter-1"]
