"""Development CA and certificates, all EC P-256.

A folder holds ``ca.pem``, ``ca.der`` and ``ca.key``; ``server/cert.pem`` and ``server/key.pem``
for a broker; ``nodes/<thing>/cert.der`` and ``key.der`` for each node. MicroPython reads DER
only (its Mbed TLS is built without PEM up to release 1.28), brokers read PEM. The folder has
mode 700 and the keys 600. The CA is for the bench and for trials: a fleet has a CA whose key
does not lie on a laptop.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.files import private_folder, write_atomic

CA_YEARS = 20
LEAF_YEARS = 10
# a laptop whose time zone is wrong must not make certificates that are not valid yet
BACKDATE = datetime.timedelta(days=1)
SERVER_NAMES = ("localhost", "127.0.0.1", "::1")

# AWS IoT allows these characters; X.520 ends a common name at 64
_THING = re.compile(r"[A-Za-z0-9:_-]{1,64}")


@dataclass(frozen=True)
class Authority:
    """A certificate authority that can issue: its files, certificate and key."""

    folder: Path
    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> Path:
        """The CA certificate as a broker or a client on the host takes it."""
        return self.folder / "ca.pem"

    @property
    def der(self) -> Path:
        """The CA certificate as a node takes it."""
        return self.folder / "ca.der"


@dataclass(frozen=True)
class Identity:
    """The files of one issued certificate and its key."""

    cert: Path
    key: Path


def ensure_ca(folder: Path, common_name: str = "Gridnode development CA") -> Authority:
    """Return the CA of ``folder``, made if there is none. An existing one is never replaced."""
    private_folder(folder)
    files = [folder / name for name in ("ca.pem", "ca.der", "ca.key")]
    missing = [path.name for path in files if not path.is_file()]
    if len(missing) == len(files):
        _create_ca(folder, common_name)
    elif missing:
        raise GridnodeError(
            "open the CA",
            f"{folder} holds a part of a CA only; missing: {', '.join(missing)}",
            "Restore the missing file. Without the CA key no node can be added; with a new CA "
            "every node must be provisioned again.",
            Exit.USAGE,
        )
    return _open_ca(folder)


def issue_node(
    authority: Authority,
    thing: str,
    *,
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
    pem: bool = False,
) -> Identity:
    """Issue a new key and client certificate with common name ``thing``, replacing older ones.

    The times are UTC and default to a long validity from yesterday. ``pem`` writes PEM instead
    of DER, for an MQTT client on the host.
    """
    folder = node_folder(authority.folder, thing)
    usage = ExtendedKeyUsageOID.CLIENT_AUTH
    builder = _leaf(authority, thing, usage, not_before, not_after)
    return _write(folder, *_sign(authority, builder, pem), pem)


def new_node(authority: Authority, thing: str) -> tuple[bytes, bytes]:
    """Return a new certificate and key for a node, both DER; nothing is written."""
    node_folder(authority.folder, thing)  # refuses an unusable name
    usage = ExtendedKeyUsageOID.CLIENT_AUTH
    return _sign(authority, _leaf(authority, thing, usage, None, None), pem=False)


def store_node(folder: Path, thing: str, cert: bytes, key: bytes | None) -> None:
    """Keep a node's DER certificate, and its key unless None: then a key on disk is removed."""
    place = node_folder(folder, thing)
    if key is None:
        (place / "key.der").unlink(missing_ok=True)
        private_folder(place.parent)
        write_atomic(private_folder(place) / "cert.der", cert)
    else:
        _write(place, cert, key, pem=False)


def issue_server(
    authority: Authority,
    names: Iterable[str] = (),
    *,
    defaults: Iterable[str] = SERVER_NAMES,
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
) -> Identity:
    """Issue a new key and server certificate (PEM) for a broker, replacing older ones.

    ``names`` are host names and IP addresses beside ``defaults`` for the subject alternative
    names; the first one of all is the common name.
    """
    every = list(dict.fromkeys([*names, *defaults]))
    usage = ExtendedKeyUsageOID.SERVER_AUTH
    builder = _leaf(authority, every[0], usage, not_before, not_after)
    alternative = x509.SubjectAlternativeName([_general_name(name) for name in every])
    builder = builder.add_extension(alternative, critical=False)
    return _write(authority.folder / "server", *_sign(authority, builder, pem=True), pem=True)


def node_folder(folder: Path, thing: str) -> Path:
    """Return where the files of one node lie. Raises `GridnodeError` for an unusable name."""
    if not _THING.fullmatch(thing):
        raise GridnodeError(
            "name the node",
            f"{thing!r} cannot be the name of a thing",
            "Use 1 to 64 letters, digits, colons, underscores or hyphens.",
            Exit.USAGE,
        )
    return folder / "nodes" / thing.replace(":", "%3A")  # Windows has no colon in file names


def node_identity(folder: Path, thing: str) -> Identity | None:
    """Return the DER files of a node if its certificate and its key are both there."""
    place = node_folder(folder, thing)
    identity = Identity(place / "cert.der", place / "key.der")
    return identity if identity.cert.is_file() and identity.key.is_file() else None


def client_context(ca: Path, identity: Identity) -> ssl.SSLContext:
    """Return TLS for a client on this computer that trusts ``ca`` (PEM) and shows ``identity``.

    Raises `GridnodeError` if a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca))
    except OSError as err:
        raise GridnodeError(
            "read the CA certificate", f"{ca}: {err}", "Give the CA's PEM file.", Exit.USAGE
        ) from err
    try:
        with _pem_files(identity) as pem:
            context.load_cert_chain(pem.cert, pem.key)
    except (OSError, ValueError, TypeError) as err:
        raise GridnodeError(
            "read the private key",
            f"{identity.key}: {err}",
            "Check that key and certificate were made together.",
            Exit.USAGE,
        ) from err
    return context


@contextmanager
def _pem_files(identity: Identity) -> Iterator[Identity]:
    """Lend an identity (DER or PEM) as PEM: ``ssl`` reads a key from a PEM file only.

    Copies lie in the private folder of the identity, and are removed in any case.
    """
    content = identity.key.read_bytes()
    if b"-----BEGIN" in content:
        yield identity
        return
    cert = _load(identity.cert).public_bytes(serialization.Encoding.PEM)
    key = _key_bytes(serialization.load_der_private_key(content, None), pem=True)
    home = private_folder(identity.key.parent)
    with tempfile.TemporaryDirectory(prefix=".pem-", dir=home) as folder:
        yield _write(Path(folder), cert, key, pem=True)


def valid_until(path: Path) -> datetime.datetime:
    """Return when a certificate file (DER or PEM) expires, in UTC."""
    return _load(path).not_valid_after_utc


def read_der(path: Path) -> bytes:
    """Return a certificate file (DER or PEM) as DER, which is what a node takes."""
    return _load(path).public_bytes(serialization.Encoding.DER)


def _load(path: Path) -> x509.Certificate:
    try:
        content = path.read_bytes()
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificate(content)
        return x509.load_der_x509_certificate(content)
    except (OSError, ValueError) as err:
        raise GridnodeError(
            "read a certificate", f"{path}: {err}", "Check the file.", Exit.USAGE
        ) from err


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        key_cert_sign=sign,
        crl_sign=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _create_ca(folder: Path, common_name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = _utc_now()
    cert = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(_name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    write_atomic(folder / "ca.key", _key_bytes(key, pem=True), 0o600)
    write_atomic(folder / "ca.der", cert.public_bytes(serialization.Encoding.DER))
    write_atomic(folder / "ca.pem", cert.public_bytes(serialization.Encoding.PEM))


def _open_ca(folder: Path) -> Authority:
    try:
        cert = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    except (OSError, ValueError, TypeError) as err:
        raise GridnodeError(
            "open the CA", f"its files cannot be read: {err}", f"Check {folder}.", Exit.USAGE
        ) from err
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != cert.public_key():
        raise GridnodeError(
            "open the CA",
            f"ca.key in {folder} does not belong to ca.pem",
            "Restore the two files that were made together.",
            Exit.USAGE,
        )
    return Authority(folder, cert, key)


def _leaf(
    authority: Authority,
    common_name: str,
    usage: x509.ObjectIdentifier,
    not_before: datetime.datetime | None,
    not_after: datetime.datetime | None,
) -> x509.CertificateBuilder:
    now = _utc_now()
    end = now + datetime.timedelta(days=365 * LEAF_YEARS)
    issuer_id = authority.cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id.value)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(authority.cert.subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or now - BACKDATE)
        .not_valid_after(not_after or min(end, authority.cert.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(authority_id, critical=False)
    )


def _sign(
    authority: Authority, builder: x509.CertificateBuilder, pem: bool
) -> tuple[bytes, bytes]:
    """Make a key and sign its certificate; returns both encoded."""
    key = ec.generate_private_key(ec.SECP256R1())
    cert = builder.public_key(key.public_key()).sign(authority.key, hashes.SHA256())
    encoding = serialization.Encoding.PEM if pem else serialization.Encoding.DER
    return cert.public_bytes(encoding), _key_bytes(key, pem)


def _write(folder: Path, cert: bytes, key: bytes, pem: bool) -> Identity:
    private_folder(folder.parent)
    private_folder(folder)
    kind = "pem" if pem else "der"
    identity = Identity(folder / f"cert.{kind}", folder / f"key.{kind}")
    write_atomic(identity.key, key, 0o600)
    write_atomic(identity.cert, cert)
    return identity


def _key_bytes(key: PrivateKeyTypes, pem: bool) -> bytes:
    # SEC1 is the shorter of the two forms that Mbed TLS reads
    return key.private_bytes(
        serialization.Encoding.PEM if pem else serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
