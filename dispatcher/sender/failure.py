"""What went wrong below the door, translated once from the exceptions of sockets, names and TLS."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from dispatcher.core.outcome import ErrorClass

# Ours, not the receiver's: no descriptors or memory left. Such an attempt was never made.
_OWN_FAULTS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class SendError(Exception):
    """A failed attempt on its way up to the door, which makes a `NoAnswer` of it."""

    def __init__(
        self, error: ErrorClass, message: str, address: str | None = None, *, own_fault: bool = False
    ) -> None:
        super().__init__(message)
        self.own_fault: Final = own_fault
        self.error: Final = error
        self.message: Final = message
        self.address: Final = address


def connect_error(error: OSError | RuntimeError, stage: str, address: str | None) -> SendError:
    """Translate what a connect or a TLS handshake raised; raises it again where the fault is our own.

    `stage` says what had not been done yet.
    """
    if isinstance(error, OSError) and error.errno in _OWN_FAULTS:
        raise error
    match error:
        case ssl.SSLError():
            return SendError(ErrorClass.TLS, tls_message(error), address)
        case ConnectionRefusedError():
            return SendError(ErrorClass.REFUSED, "the connection was refused", address)
        case ConnectionError() | OSError(errno=errno.ENOTCONN):  # the latter: reset at once
            return SendError(ErrorClass.RESET, f"the connection ended: {stage}", address)
        case TimeoutError():
            return SendError(ErrorClass.CONNECT_TIMEOUT, f"the network gave up: {stage}", address)
        case _:
            return SendError(ErrorClass.UNREACHABLE, f"no way to the address: {_strerror(error)}", address)


def name_error(host: str, error: OSError | UnicodeError) -> SendError:
    """Translate what resolving a name raised; raises it again where the fault is our own."""
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno in _OWN_FAULTS:
        raise error
    reason = _strerror(error) if isinstance(error, OSError) else "it cannot be a domain name"
    return SendError(ErrorClass.DNS, f"{host} could not be resolved: {reason}")


def tls_message(error: ssl.SSLError) -> str:
    """Say in words why TLS failed: the certificate's fault, or the library's reason."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was not accepted: {error.verify_message}"
    return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"


def _strerror(error: OSError | RuntimeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
