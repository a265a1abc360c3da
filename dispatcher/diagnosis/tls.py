"""TLS with a webhook's server, without a request: whether its certificate is accepted, and how long still."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import time
from typing import Final

from dispatcher.core.outcome import ErrorClass
from dispatcher.diagnosis.advice import BY_CLASS
from dispatcher.diagnosis.finding import Finding, fail, ok, short_time, warn, words
from dispatcher.sender.failure import SendError, tls_message
from dispatcher.sender.lending import lent
from dispatcher.sender.trust import Trust

_SOON_DAYS: Final = 14  # a certificate that ends within this many days is worth a warning
_CLOSE_S: Final = 1.0
_NOT_TLS: Final = {
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
}  # plain HTTP, say
_SPEAK_TLS: Final = words("Check that the port speaks TLS, and that nothing before it cuts connections.")


async def examine_tls(sock: socket.socket, host: str, ca_certificates: str, timeout_s: float) -> Finding:
    """Agree on TLS as an attempt would, on a connection that was just made, and judge the certificate."""
    started = time.monotonic()
    try:
        context = Trust().context(ca_certificates)
        async with asyncio.timeout(timeout_s):
            ends, version = await _handshake(sock, context, host)
    except SendError as error:
        return fail("tls", words("{problem}", problem=error.message), BY_CLASS[error.error])
    except ssl.SSLError as error:
        return _refused(error)
    except (OSError, TimeoutError):
        return fail(
            "tls",
            words("the server took the connection and then did not agree on TLS"),
            _SPEAK_TLS,
        )
    return _judged(ends, version, time.monotonic() - started, own=bool(ca_certificates))


async def _handshake(sock: socket.socket, context: ssl.SSLContext, host: str) -> tuple[dt.datetime, str]:
    """Agree on TLS and give when the server's certificate ends, and TLS's version."""
    with lent(sock):
        _, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname=host, ssl_shutdown_timeout=_CLOSE_S
        )
    try:
        secured = writer.get_extra_info("ssl_object")
        ends = ssl.cert_time_to_seconds(secured.getpeercert()["notAfter"])
        return dt.datetime.fromtimestamp(ends, dt.UTC), str(secured.version())
    finally:
        writer.transport.abort()  # nothing was said, so there is no goodbye to wait for


# X509_V_ERR_… of OpenSSL's x509_vfy.h.
_BY_VERIFY_CODE: Final = {
    9: words("The certificate is not valid yet: check the server's clock, and when it was issued."),
    10: words("Renew the certificate, and reload the server."),
    18: words(
        "Get a certificate from a public authority, or register this one as the webhook's ca_certificates."
    ),
    19: words("Get a certificate from a public authority, or register your authority as ca_certificates."),
    20: words("Send the intermediates too (the full chain), or register your authority as ca_certificates."),
    21: words("Send the intermediates too (the full chain), or register your authority as ca_certificates."),
    62: words("Get a certificate that names this host, or use the name that the certificate has."),
    64: words("Get a certificate that names this address, or use a name that the certificate has."),
}


def _refused(error: ssl.SSLError) -> Finding:
    advice = BY_CLASS[ErrorClass.TLS]
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = _BY_VERIFY_CODE.get(error.verify_code, advice)
    elif error.reason in _NOT_TLS:
        advice = _SPEAK_TLS
    return fail("tls", words("{problem}", problem=tls_message(error)), advice)


def _judged(ends: dt.datetime, version: str, took_s: float, *, own: bool) -> Finding:
    left = (ends - dt.datetime.now(dt.UTC)).days
    found = words(
        "{version} in {time}; the certificate, trusted by {whom}, ends on {day}, in {days} days",
        version=version,
        time=short_time(took_s),
        whom="the webhook's own ca_certificates" if own else "a public authority",
        day=ends.date().isoformat(),
        days=left,
    )
    if left < _SOON_DAYS:
        return warn("tls", found, words("Renew the certificate; after that day nothing is delivered."))
    return ok("tls", found)
