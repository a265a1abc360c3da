"""Whose certificates are trusted: the system's authorities, or a webhook's own. Always verified.

There is no way here to leave the verification out: both kinds of context demand a certificate, check the
names in its subjectAltName, and speak TLS 1.2 at least. Nor is there one to have the keys of sessions written
down: they are what `ssl.create_default_context` makes, but for its ear for `SSLKEYLOGFILE`.
"""

from __future__ import annotations

import ssl
import sys
from typing import Final

from dispatcher.core.outcome import ErrorClass
from dispatcher.sender.failure import SendError
from dispatcher.sender.resumption import resume_sessions

_MAX_CONTEXTS: Final = 1024  # of webhooks' own authorities, kept ready


class Trust:
    """Makes TLS contexts, one for each set of authorities, so that connections can be told apart by them."""

    def __init__(self) -> None:
        self._system: Final = _verifying()
        self._own: Final[dict[str, ssl.SSLContext]] = {}

    def context(self, ca_certificates: str = "") -> ssl.SSLContext:
        """Give the context that trusts these certificates (PEM) and no others; without any, the system's.

        Raises `SendError` for what OpenSSL cannot read.
        """
        if not ca_certificates:
            return self._system
        kept = self._own.get(ca_certificates)
        if kept is not None:
            return kept
        try:
            context = _verifying(ca_certificates)
        except (ssl.SSLError, ValueError) as error:
            message = f"the webhook's ca_certificates cannot be used: {error}"
            raise SendError(ErrorClass.TLS, message) from None
        # A server's own certificate may be among them, or an authority's that another one signed.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        while len(self._own) >= _MAX_CONTEXTS:
            del self._own[next(iter(self._own))]
        self._own[ca_certificates] = context
        return context


def _verifying(ca_certificates: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_certificates:
        context.load_verify_locations(cadata=ca_certificates)
    else:
        context.load_default_certs()
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.hostname_checks_common_name = False  # names stand in subjectAltName alone (RFC 9525, 6.3)
    resume_sessions(context)
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise RuntimeError("Python's TLS context for clients verifies nothing")
    return context
