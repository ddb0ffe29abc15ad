"""Says in words of the room "link" what a socket has raised."""

import errno
from micropython import const

from gridnode.fault import Fault

_CONN_EOF = const(0x7280)  # negative: MBEDTLS_ERR_SSL_CONN_EOF
_CA_CHAIN_REQUIRED = const(0x7680)  # MBEDTLS_ERR_SSL_CA_CHAIN_REQUIRED
_FATAL_ALERT = const(0x7780)  # MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE
_EPIPE = const(32)  # same number in Linux and newlib; MicroPython has no name for it

# What Mbed TLS says of a certificate (x509_crt.c, X509_CRT_ERROR_INFO_LIST). Several lines may
# come at once: with an unset clock everything else is in doubt, so that one goes first.
_VERIFY = const((
    ("in the future", "tls_not_yet_valid"),
    ("expired", "tls_expired"),
    ("correctly signed", "tls_ca"),
    ("does not match", "tls_hostname"),
    ("", "tls"),
))


def _link(code, message):
    return Fault("link", code, message)


def explain(error, opening):
    """Fault for what a socket raised, `opening` or later. Before MicroPython 1.28 TLS raises negative errnos."""
    if isinstance(error, Fault):
        return error
    text = str(error).replace("\n", " ").strip()
    if isinstance(error, MemoryError):
        return _link("memory", text)
    if isinstance(error, ValueError):
        for part, code in _VERIFY:
            if part in text:
                return _link(code, text)
    number = abs(error.args[0])
    if number == _CA_CHAIN_REQUIRED:
        return _link("tls_no_ca", "no CA certificate to check the broker with")
    if number in (_FATAL_ALERT, _CONN_EOF, _EPIPE, errno.ECONNRESET, errno.ENOTCONN):
        if opening:
            return _link("tls_refused", "the broker ended the handshake, its log tells why")
        return _link("closed", "the broker closed the connection")
    if number == errno.ENOMEM:
        return _link("memory", "no memory for TLS")
    return _link("tcp" if number < 256 else "tls", text)
