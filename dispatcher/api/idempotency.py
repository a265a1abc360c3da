"""`Idempotency-Key`: a POST that is sent again within a day gets the first one's answer, and changes nothing.

The handler runs in one transaction with the key, so either both are there or neither: after a lost answer or
a 503 the client sends the same request again, and it is done once. Refusals are not kept, since nothing was
done: whoever mends a request may send it under the same key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.api.problems import Detail, Problem, conflict, invalid_request
from dispatcher.api.routing import Answer
from dispatcher.core.errors import OperatorError
from dispatcher.store.idempotency import Kept, Ticket

if TYPE_CHECKING:
    from dispatcher.api.routing import Call, Handler

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
MAX_CHARACTERS: Final = 255
_KEY: Final = re.compile(rf"[!-~](?:[ -~]{{0,{MAX_CHARACTERS - 2}}}[!-~])?")


class _Stored(msgspec.Struct, frozen=True):
    """An answer as it is kept; `meta` is each request's own."""

    status: int
    data: msgspec.Raw
    headers: dict[str, str]

    def __repr__(self) -> str:
        return f"_Stored({self.status}, …)"  # the answer may show a secret


class _Refused(Exception):
    """Ends the transaction of a request that was refused."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


async def once(call: Call, key: str, fingerprint: bytes, handler: Handler) -> Answer | Problem:
    """Run a handler, unless it ran for this key before; `fingerprint` is what makes two requests the same."""
    if not _KEY.fullmatch(key):
        problem = f"must have 1 to {MAX_CHARACTERS} printable ASCII characters"
        return invalid_request([Detail(HEADER, problem)])
    try:
        async with call.context.database.transaction() as database:
            context = dataclasses.replace(call.context, database=database)
            ticket = Ticket(database, context.vault, call.key.id, key)
            if not await ticket.turn():
                return conflict(
                    "A request with this Idempotency-Key is being worked on.",
                    [Detail(HEADER, "is in use at this moment")],
                    retry_after_s=1,
                )
            request = hashlib.sha256(fingerprint).digest()
            kept = await _take(ticket, request)
            if kept is not None:
                return _again(kept.answer) if kept.request == request else _reused()
            answer = await handler(dataclasses.replace(call, context=context))
            if isinstance(answer, Problem):
                raise _Refused(answer)  # noqa: TRY301 - it undoes the transaction
            await ticket.keep(_written(answer))
            return answer
    except _Refused as refused:
        return refused.problem


async def _take(ticket: Ticket, request: bytes) -> Kept | None:
    try:
        return await ticket.take(request)
    except OperatorError as error:
        message = "This Idempotency-Key was used, but its answer can no longer be read."
        detail = Detail(HEADER, "was used before the encryption key was changed")
        raise _Refused(conflict(message, [detail])) from error


def _reused() -> Problem:
    return conflict(
        "This Idempotency-Key was used for another request.", [Detail(HEADER, "was used for another request")]
    )


def _written(answer: Answer) -> str:
    stored: dict[str, Any] = {"status": answer.status, "data": answer.data, "headers": answer.headers}
    return msgspec.json.encode(stored).decode()


def _again(text: str) -> Answer:
    stored = msgspec.json.decode(text, type=_Stored)
    return Answer(stored.status, stored.data, headers={**stored.headers, REPLAYED: "true"})
