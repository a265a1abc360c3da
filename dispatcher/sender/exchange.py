"""One request written to a connection, one bounded answer read from it: the `Outcome`."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from aiohttp import ClientError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, EofStream

from dispatcher.core.outcome import Answered, ErrorClass, NoAnswer, Outcome, Timings
from dispatcher.sender.connection import MAX_HEAD_BYTES, Trouble
from dispatcher.sender.failure import tls_message

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.http_parser import RawResponseMessage

    from dispatcher.config import Delivery
    from dispatcher.sender.connection import ReceiverConnection

# What aiohttp may raise while an answer is read.
_BROKEN: Final = (ClientError, HttpProcessingError, EofStream, OSError)


async def exchange(
    connection: ReceiverConnection, request: bytes, *, deadline: float, config: Delivery
) -> Outcome:
    """Write the request and read what comes; afterwards `connection.idle` says whether it may be kept.

    `deadline` is loop time. A 2xx whose body is cut, or does not end in time, is no success: the exchange
    did not complete. One whose body is longer than `max_response_bytes` is: its status decides.
    """
    connection.begin(deadline)
    sent_at = time.monotonic()
    if connection.transport is not None:
        connection.transport.write(request)
    status = None
    try:
        message, payload = await connection.read()
        status = message.code
        answer = await _read_body(connection, message, payload, config)
    except _BROKEN:
        answer = None
    timings = _timings(connection, sent_at)
    if answer is None or status is None:
        return NoAnswer(*_explain(connection, status, config), connection.address, timings)
    if answer.ended and status != 101:
        connection.end(message.headers.get("Keep-Alive"))
    return Answered(
        status=status,
        headers=tuple(
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.raw_headers]
        ),
        body=answer.kept,
        body_truncated=answer.truncated,
        address=connection.address,
        timings=timings,
    )


class _Body(NamedTuple):
    kept: bytes
    truncated: bool  # there was more of it
    ended: bool  # it was read to its end


async def _read_body(
    connection: ReceiverConnection, message: RawResponseMessage, payload: StreamReader, config: Delivery
) -> _Body | None:
    """Read at most `max_response_bytes`, keep the first `keep_response_bytes`; None where it was cut."""
    keep = config.keep_response_bytes
    if payload.is_eof() and connection.lost is None and connection.trouble is None:  # it came in one piece
        body = payload.read_nowait(-1)
        return _Body(body[:keep], len(body) > keep, ended=True)
    kept: list[bytes] = []
    length = 0
    try:
        while not payload.at_eof():
            chunk = await payload.readany()
            if length < keep:
                kept.append(chunk[: keep - length])
            length += len(chunk)
            if length > config.max_response_bytes:
                return _Body(b"".join(kept), truncated=True, ended=False)
    except _BROKEN:
        if connection.trouble is not Trouble.FLOOD:
            return None
        return _Body(b"".join(kept), truncated=True, ended=False)
    framed = payload is EMPTY_PAYLOAD or message.chunked or "Content-Length" in message.headers
    if connection.lost is not None and not framed:
        return None  # the end of the connection was to be the end of the body, and was no clean one
    return _Body(b"".join(kept), length > keep, ended=True)


def _explain(connection: ReceiverConnection, status: int | None, config: Delivery) -> tuple[ErrorClass, str]:
    """Say why no complete answer came."""
    trouble = connection.trouble
    if trouble is Trouble.MALFORMED:
        return ErrorClass.MALFORMED_RESPONSE, f"the answer is not HTTP/1.1: {connection.detail}"
    if isinstance(connection.lost, ssl.SSLError):
        return ErrorClass.TLS, tls_message(connection.lost)
    if connection.informational and status is None:
        count = connection.informational
        return ErrorClass.INFORMATIONAL_ONLY, f"{count} informational answers (1xx), and no final one"
    if trouble is Trouble.FLOOD:
        return ErrorClass.MALFORMED_RESPONSE, f"the answer's header is longer than {MAX_HEAD_BYTES} bytes"
    what = "no answer" if status is None else f"the answer's header ({status}) came, and no end of its body,"
    if trouble is Trouble.DEADLINE:
        return ErrorClass.TIMEOUT, f"{what} within {config.timeout_s:g} s"
    return ErrorClass.RESET, f"{what} before the connection ended"


def _timings(connection: ReceiverConnection, sent_at: float) -> Timings:
    """Add the time to the first byte to what making the connection took, if it was made for this request."""
    first_byte_ms = None
    if connection.first_byte_at:
        first_byte_ms = round((connection.first_byte_at - sent_at) * 1000, 3)
    fresh, connection.fresh = connection.fresh, None
    if fresh is None:
        return Timings(first_byte_ms=first_byte_ms)
    return msgspec.structs.replace(fresh, first_byte_ms=first_byte_ms)
