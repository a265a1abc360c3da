"""What goes wrong in a request, as an answer: status, code, words, and one detail for each bad field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Every code and its status; `docs/reference/errors.md` says what to do about each.
CODES: Final[Mapping[str, int]] = {
    "invalid_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "precondition_failed": 412,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "rate_limit_exceeded": 429,
    "internal_error": 500,
    "unavailable": 503,
}
BODY: Final = "body"  # stands for a field where the body as a whole is wrong


class Detail(msgspec.Struct, frozen=True):
    """What is wrong with one field; `message` continues the sentence that the field's name begins."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True):
    """An answer that is not what the client asked for."""

    status: int
    code: str
    message: str
    details: Sequence[Detail] = ()
    headers: Mapping[str, str] = {}


def invalid_request(details: Sequence[Detail]) -> Problem:
    """Refuse what a client wrote."""
    fields = ", ".join(dict.fromkeys(detail.field for detail in details))
    return Problem(400, "invalid_request", f"The request is not valid: {fields}.", details)


def invalid_request_line(*, too_long: bool) -> Problem:
    """Refuse what could not be read as HTTP at all."""
    why = "its first line or one of its headers is too long" if too_long else "it is not HTTP"
    return Problem(400, "invalid_request", f"The request could not be read: {why}.")


def unauthorized(message: str) -> Problem:
    """Ask for a valid key (RFC 6750, 3)."""
    return Problem(401, "unauthorized", message, headers={"WWW-Authenticate": 'Bearer realm="v1"'})


def forbidden(scope: str) -> Problem:
    """Refuse a valid key that lacks a scope."""
    return Problem(403, "forbidden", f"This API key does not have the scope {scope}.")


def not_found(what: str) -> Problem:
    """Say that there is no such thing, which is also what another organization's things are."""
    return Problem(404, "not_found", f"There is no such {what}.")


def method_not_allowed(allowed: Sequence[str]) -> Problem:
    """Say which methods a path has."""
    methods = ", ".join(sorted(allowed))
    return Problem(
        405, "method_not_allowed", f"This path answers to {methods} only.", headers={"Allow": methods}
    )


def conflict(message: str, details: Sequence[Detail] = (), *, retry_after_s: int | None = None) -> Problem:
    """Refuse what cannot be done as things are now."""
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return Problem(409, "conflict", message, details, headers)


def precondition_failed() -> Problem:
    """Refuse a change of something that is no longer what the client saw."""
    return Problem(
        412,
        "precondition_failed",
        "The webhook has changed since: read it again, and send the ETag of that answer as If-Match.",
        [Detail("If-Match", "is not the webhook's present ETag")],
    )


def payload_too_large(max_bytes: int) -> Problem:
    """Refuse a body that is too long."""
    return Problem(413, "payload_too_large", f"The request's body must have at most {max_bytes} bytes.")


def unsupported_media_type() -> Problem:
    """Refuse a body that does not claim to be JSON."""
    return Problem(
        415,
        "unsupported_media_type",
        "The request's body must be JSON in UTF-8, with the header Content-Type: application/json.",
        headers={"Accept": "application/json"},
    )


def rate_limit_exceeded(retry_after_s: int) -> Problem:
    """Ask a client to wait."""
    return Problem(
        429,
        "rate_limit_exceeded",
        f"This API key has made too many requests; try again in {retry_after_s} s.",
        headers={"Retry-After": str(retry_after_s)},
    )


def internal_error(request_id: str) -> Problem:
    """Own up to a bug; the log has the rest, under the request's id."""
    return Problem(
        500,
        "internal_error",
        f"Something went wrong on our side; please quote {request_id} when you report it.",
    )


def unavailable() -> Problem:
    """Say that the database is away; whether a change was made is then unknown."""
    return Problem(
        503,
        "unavailable",
        "The service cannot answer at the moment; please try again.",
        headers={"Retry-After": "5"},
    )
