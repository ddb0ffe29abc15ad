"""The node's identity towards its broker.

Faults of the room "link": ca_invalid, cert_invalid, key_invalid, tls_key_mismatch.
"""

import tls

from gridnode.fault import Fault


def tls_context(ca, cert, key):
    """Client context from DER bytes: CA certificate, own certificate and its EC key.

    The broker must prove itself. Raises Fault. A mismatch is looked for here since a broker only closes the
    connection on it: the public point that an EC key carries (SEC1, PKCS#8) must stand in the certificate.
    """
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    code = "ca_invalid"
    try:
        context.load_verify_locations(ca)
        code = "key_invalid"
        context.load_cert_chain(cert, key)
    except (ValueError, OSError) as e:
        if code[0] == "k" and "cert" in str(e):
            code = "cert_invalid"
        raise Fault("link", code, "not DER: %s" % e)
    at = key.find(b"\x03\x42\x00\x04")  # BIT STRING, 66 bytes: an uncompressed point
    if at >= 0 and key[at + 4 : at + 68] not in cert:
        raise Fault("link", "tls_key_mismatch", "the key does not belong to the certificate")
    return context
