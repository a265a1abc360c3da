"""What can come of one attempt: a closed union, because a receiver that fails is ordinary.

    Outcome = Answered   the receiver sent a complete, well-formed status line and header
            | NoAnswer   it did not, and `error` says what happened instead

Success is any 2xx (PRODUCT: the guide's "Return 2xx status to acknowledge receipt"). Everything else is
a failed attempt with an error class of its own.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec


class ErrorClass(enum.StrEnum):
    """Why an attempt failed; one word for the history, the log and the metrics."""

    REDIRECT = "redirect"  # 3xx: never followed
    CLIENT_ERROR = "client_error"  # 4xx
    SERVER_ERROR = "server_error"  # 5xx
    UNEXPECTED_STATUS = "unexpected_status"  # a final status outside 200 to 599
    INFORMATIONAL_ONLY = "informational_only"  # 1xx and then nothing
    CONNECT_TIMEOUT = "connect_timeout"
    TIMEOUT = "timeout"  # the whole exchange took too long
    DNS = "dns"
    BLOCKED_ADDRESS = "blocked_address"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    RESET = "reset"  # the connection ended before the answer did
    TLS = "tls"
    MALFORMED_RESPONSE = "malformed_response"
    PROXY = "proxy"  # the egress proxy could not be used, or made no connection
    INVALID_REQUEST = "invalid_request"  # the webhook's URL or headers cannot be made into a request


class Timings(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How long each phase took, in milliseconds; None where the phase did not happen."""

    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A complete response header came, and as much of the body as is kept."""

    status: int
    headers: tuple[tuple[str, str], ...]  # as received, bounded, bytes beyond ASCII as Latin-1
    body: bytes  # the first `keep_body_bytes` of it, not inflated
    body_truncated: bool
    address: str | None  # the address that was connected to
    timings: Timings


class NoAnswer(msgspec.Struct, frozen=True, gc=False):
    """No complete answer came; `message` says in plain words what was seen.

    `own_fault`: nothing left for the receiver, and the reason is ours: it uses up no attempt.
    """

    error: ErrorClass
    message: str
    address: str | None
    timings: Timings
    own_fault: bool = False


Outcome: TypeAlias = Answered | NoAnswer


def error_class(outcome: Outcome) -> ErrorClass | None:
    """Give the error class of an outcome, None for success (any 2xx)."""
    # Whether it is what nearly all are: that is known at once, other questions take ten times as long.
    if not isinstance(outcome, Answered):
        return outcome.error
    match outcome.status // 100:
        case 2:
            return None
        case 3:
            return ErrorClass.REDIRECT
        case 4:
            return ErrorClass.CLIENT_ERROR
        case 5:
            return ErrorClass.SERVER_ERROR
        case _:
            return ErrorClass.UNEXPECTED_STATUS
