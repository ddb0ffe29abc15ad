"""Server side of TLS with a mandatory client certificate, as an asyncio protocol.

asyncio's own TLS drops the alert of a failed handshake and hides the cause from the server's
code. Here both survive: the client gets the alert, and the bench learns why, which for a node
with a bad certificate is the only place where the cause can be read.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast

from gridnode_host.errors import Exit, GridnodeError

_READ = 64 * 1024
# OpenSSL's reason, as the ssl module spells it -> what a person can act on.
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client sent no certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust the endpoint's CA",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client refused the endpoint's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client refused the endpoint's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client found the endpoint's certificate expired",
    "HTTP_REQUEST": "the client does not speak TLS",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "the client offers no TLS 1.2 or newer",
    "NO_SHARED_CIPHER": "the client offers no cipher suite in common",
}
_FOREIGN = ("unable to get", "self-signed", "self signed", "signature failure", "not trusted")


def server_context(ca_cert: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """Return a context for TLS 1.2 or newer that demands a certificate of ``ca_cert``.

    All files are PEM; `GridnodeError` says which one cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    files = ca_cert
    try:
        context.load_verify_locations(cafile=str(ca_cert))
        files = cert
        context.load_cert_chain(str(cert), str(key))
    except OSError as err:
        raise GridnodeError(
            "start endpoint",
            f"{files} or its key cannot be used: {err}",
            "Make new certificates with 'gridnode certs'.",
            Exit.CLOUD,
        ) from err
    context.options |= ssl.OP_NO_TICKET  # every connection shows its certificate
    context.num_tickets = 0
    return context


def why(error: BaseException) -> str:
    """Say in plain words why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = error.verify_message
        if any(sign in text for sign in _FOREIGN):
            return f"the client certificate is not of the endpoint's CA ({text})"
        return f"the client certificate was refused: {text}"
    return plain_words(getattr(error, "reason", None) or str(error))


def plain_words(reason: str) -> str:
    """Say what a reason of OpenSSL means, spelled as the ssl module does."""
    return _REASONS.get(reason, f"TLS: {reason.lower().replace('_', ' ')}")


class TlsProtocol(asyncio.Protocol):
    """One connection: handshake, then plain bytes both ways. Subclasses fill in the hooks."""

    def __init__(
        self, context: ssl.SSLContext, handshake_timeout: float, close_timeout: float
    ) -> None:
        """Both times are in real seconds."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._handshake_timeout = handshake_timeout
        self._close_timeout = close_timeout
        self._secured = self._closing = self._told = False
        self._timer: asyncio.TimerHandle | None = None
        self.peer = ""

    # Hooks.

    def secured(self, certificate: dict[str, Any]) -> None:
        """The handshake is done; ``certificate`` is as `ssl.SSLSocket.getpeercert` has it."""

    def failed(self, reason: str) -> None:
        """The handshake failed."""

    def received(self, data: bytes) -> None:
        """Plain bytes arrived."""

    def lost(self) -> None:
        """The connection is over, whoever ended it; called once."""

    # Use.

    def send(self, data: bytes) -> None:
        """Send plain bytes; nothing happens on a connection that is closing."""
        if self._secured and not self._closing:
            try:
                self._tls.write(data)
            except (ssl.SSLError, OSError):
                self.abort()
            else:
                self._flush()

    def shut(self) -> None:
        """Close after what was sent has gone out; a peer that does not follow is cut off."""
        if self._closing:
            return
        self._closing = True
        if self._secured:
            try:
                self._tls.unwrap()
            except (ssl.SSLError, OSError):
                pass  # the peer's own close notify is not waited for
        self._flush()
        self._transport.resume_reading()
        # Unread input would turn the close into a reset, and the reset would overtake an alert
        # or an acknowledgement that the peer has not read yet.
        try:
            self._transport.write_eof()
        except OSError:  # the peer has reset the connection meanwhile
            self._transport.abort()
        self._restart_timer(self._close_timeout, self._transport.abort)

    def abort(self) -> None:
        """Cut the connection at once."""
        self._closing = True
        self._transport.abort()

    # asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        host, port = (transport.get_extra_info("peername") or ("?", 0))[:2]
        self.peer = f"{host}:{port}"
        self._restart_timer(self._handshake_timeout, self._handshake_late)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._incoming.write(data)
        if not self._secured and not self._handshake():
            return
        while not self._closing:
            try:
                plain = self._tls.read(_READ)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLError, OSError):
                plain = b""
            if not plain:
                self.shut()
                self._over()
                return
            self.received(plain)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if not self._secured and not self._closing:
            self._closing = True
            self.failed("the client closed the connection during the handshake")
        self._closing = True
        self._over()

    def _over(self) -> None:
        if not self._told:
            self._told = True
            self.lost()

    def _handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except (ssl.SSLError, OSError) as err:
            self.failed(why(err))
            self.shut()
            return False
        self._flush()
        self._stop_timer()
        self._secured = True
        self.secured(cast(dict[str, Any], self._tls.getpeercert() or {}))
        return True

    def _handshake_late(self) -> None:
        self.failed(f"the handshake took longer than {self._handshake_timeout:g} s")
        self.abort()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _restart_timer(self, seconds: float, action: Any) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, action)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
