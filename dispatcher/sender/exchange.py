"""What an exchange that is over comes to: its `Outcome`, and how long its connection may be kept."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.core.outcome import Answered, ErrorClass, NoAnswer, Outcome, Timings
from dispatcher.sender.answer import MAX_HEAD_BYTES, Trouble
from dispatcher.sender.failure import tls_message

if TYPE_CHECKING:
    from dispatcher.sender.answer import AnswerReader
    from dispatcher.sender.connection import ReceiverConnection

_KEEP_ALIVE: Final = b"keep-alive"


def outcome_of(connection: ReceiverConnection, timeout_s: float) -> Outcome:
    """Say what came of an exchange.

    A 2xx whose body is cut, or does not end in time, is no success: the exchange did not complete. One whose
    body is longer than what is read of it is: its status decides.
    """
    answer = connection.answer
    first_byte_ms = None
    if connection.first_byte_ns:
        first_byte_ms = (connection.first_byte_ns - connection.sent_ns) // 1000 / 1000
    if connection.fresh is None:
        timings = Timings(None, None, None, first_byte_ms)
    else:  # what making the connection took, if it was made for this request
        timings = msgspec.structs.replace(connection.fresh, first_byte_ms=first_byte_ms)
        connection.fresh = None
    if not answer.over or answer.trouble is not None:
        return NoAnswer(*_explain(connection, answer, timeout_s), connection.address, timings)
    return Answered(
        answer.status,
        tuple(
            [
                (name.decode("latin-1"), value.decode("latin-1").rstrip(" \t"))
                for name, value in answer.headers
            ]
        ),
        answer.kept,
        answer.truncated,
        connection.address,
        timings,
    )


def keep_alive_hint_s(answer: AnswerReader) -> float | None:
    """Say for how long reuse is safe, as far as the answer tells.

    A receiver that closes idle connections after `timeout=5` (Node does) is not sent a request on one that
    is nearly as old: it would cross the close on its way, and count as a failed attempt.
    """
    for name, value in answer.headers:
        if len(name) == len(_KEEP_ALIVE) and name.lower() == _KEEP_ALIVE:
            return _hint_s(value.decode("latin-1"))
    return None


def _explain(
    connection: ReceiverConnection, answer: AnswerReader, timeout_s: float
) -> tuple[ErrorClass, str]:
    """Say why no complete answer came."""
    if answer.trouble is Trouble.MALFORMED:
        return ErrorClass.MALFORMED_RESPONSE, f"the answer is not HTTP/1.1: {answer.detail}"
    if isinstance(connection.lost, ssl.SSLError):
        return ErrorClass.TLS, tls_message(connection.lost)
    if answer.informational and not answer.status:
        count = answer.informational
        return ErrorClass.INFORMATIONAL_ONLY, f"{count} informational answers (1xx), and no final one"
    if answer.trouble is Trouble.FLOOD:
        return ErrorClass.MALFORMED_RESPONSE, f"the answer's header is longer than {MAX_HEAD_BYTES} bytes"
    what = "no answer"
    if answer.status:
        what = f"the answer's header ({answer.status}) came, and no end of its body,"
    if answer.trouble is Trouble.DEADLINE:
        return ErrorClass.TIMEOUT, f"{what} within {timeout_s:g} s"
    return ErrorClass.RESET, f"{what} before the connection ended"


def _hint_s(header: str) -> float | None:
    """Read `timeout=N` of a `Keep-Alive` header as the seconds for which reuse is safe."""
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "timeout" and value.isascii() and value.isdigit():
            seconds = int(value[:6])
            return seconds - 1.0 if seconds > 2 else seconds / 2
    return None
