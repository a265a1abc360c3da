"""Reads the history of a webhook: its deliveries, the newest first, and everything that happened to one.

How this works: deliveries are walked by their outbox id, along one index, backwards (those that failed or
were cancelled along another one, that holds no others). A page looks at the next 10,000 of them at most,
however long the history is; where few of those are what was asked for, the page comes short and says
where the search goes on.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from dispatcher.core.body import build_body
from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.store.queries import QUERIES

if TYPE_CHECKING:
    import asyncpg

    from dispatcher.store.connection import Database

COUNTED: Final = 10_000  # deliveries are counted, and searched for one page, up to this many
_DAY: Final = dt.timedelta(days=1)

State = Literal["pending", "delivered", "failed", "cancelled"]
Kind = Literal[
    "attempted", "interrupted", "requested", "postponed", "cancelled", "superseded", "expired", "withheld"
]
Trigger = Literal["first", "retry", "manual", "recover", "test"]


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries are asked for; times are those at which the event was recorded."""

    state: State | None = None
    type: str | None = None
    since: dt.datetime | None = None  # inclusive
    until: dt.datetime | None = None  # exclusive
    before: OutboxId | None = None  # go on behind this position
    offset: int = 0
    limit: int = 20
    total: bool = True  # without it what matches is not counted, which may take longer than finding it


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery as it stands."""

    key: DeliveryKey
    type: str
    occurred_at: dt.datetime
    recorded_at: dt.datetime
    test: bool
    state: State = "pending"
    attempts: int = 0
    next_attempt_at: dt.datetime | None = None
    status_code: int | None = None  # of the last attempt, like the error
    error_class: str | None = None
    error_message: str | None = None


class Deliveries(msgspec.Struct, frozen=True):
    """A page of deliveries."""

    rows: list[Delivery]
    total: int  # exact up to `COUNTED`; 0 where it was not asked for
    next_before: OutboxId | None  # None: there are no more


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a delivery, as it was recorded."""

    attempt_no: int
    kind: Kind
    state: State
    trigger: Trigger | None
    recorded_at: dt.datetime
    started_at: dt.datetime | None
    duration_ms: float | None
    status_code: int | None
    error_class: str | None
    error_message: str | None
    next_attempt_at: dt.datetime | None
    reason: str | None
    actor: str | None  # who asked for the attempt
    address: str | None
    request_headers: str | None  # JSON array of [name, value]
    response_headers: str | None
    response_body: bytes | None
    response_truncated: bool | None
    timings: str | None  # JSON object


class FullDelivery(msgspec.Struct, frozen=True):
    """A delivery with the body that is sent and all its facts, in order."""

    delivery: Delivery
    body: bytes
    facts: list[Fact]


async def search(database: Database, webhook_id: WebhookId, wanted: Search) -> Deliveries:
    """Give a page of a webhook's deliveries, the newest first."""
    async with database.acquire() as connection:
        first, last = await _range(connection, wanted)
        top = last if wanted.before is None else min(last, wanted.before - 1)
        matching = (wanted.state, wanted.type, wanted.since, wanted.until)
        rows = await connection.fetch(
            QUERIES["deliveries"], webhook_id, first, top, *matching, wanted.offset, wanted.limit + 1
        )
        more = len(rows) > wanted.limit
        del rows[wanted.limit :]
        following = rows[-1]["outbox_id"] if more else None
        narrowed = matching != (None, None, None, None)
        total = 0
        if wanted.total and narrowed:
            total = await connection.fetchval(
                QUERIES["matching_delivery_count"], webhook_id, first, last, *matching
            )
        elif wanted.total:
            total = await connection.fetchval(QUERIES["delivery_count"], webhook_id, first, last)
        if narrowed and not more:
            following = await connection.fetchval(QUERIES["window_end"], webhook_id, first, top, wanted.state)
    return Deliveries([_delivery(row, webhook_id) for row in rows], total, following)


async def get(database: Database, key: DeliveryKey) -> FullDelivery | None:
    """Give everything about one delivery, None where there is none.

    A test is known before the daemon has fanned it out: it is pending, and its body is built as it will be.
    """
    async with database.acquire() as connection:
        message = await connection.fetchrow(QUERIES["delivery_message"], *key)
        if message is None:
            return None
        facts = [Fact(**row) for row in await connection.fetch(QUERIES["delivery_facts"], *key)]
    body: bytes = (
        message["body"]
        or build_body(
            message["type"], message["occurred_at"], message["data_text"], test=message["test"]
        ).content
    )
    attempts = [fact for fact in facts if fact.kind in {"attempted", "interrupted"}]
    delivery = Delivery(
        key=key,
        type=message["type"],
        occurred_at=message["occurred_at"],
        recorded_at=message["recorded_at"],
        test=message["test"],
        attempts=len(attempts),
    )
    if facts:
        last = facts[-1]
        delivery = msgspec.structs.replace(delivery, state=last.state, next_attempt_at=last.next_attempt_at)
    if attempts:
        last = attempts[-1]
        delivery = msgspec.structs.replace(
            delivery,
            status_code=last.status_code,
            error_class=last.error_class,
            error_message=last.error_message,
        )
    return FullDelivery(delivery, body, facts)


async def _range(connection: asyncpg.Connection, wanted: Search) -> tuple[OutboxId, OutboxId]:
    """Give the outbox ids between which everything that was recorded in that time lies."""
    since = None if wanted.since is None else _day(wanted.since, earlier=True)
    until = None if wanted.until is None else _day(wanted.until, earlier=False)
    row = await connection.fetchrow(QUERIES["outbox_range"], since, until)
    return row["first_id"], row["last_id"]


def _day(moment: dt.datetime, *, earlier: bool) -> dt.date:
    """Give the UTC day of a time; the day before for a beginning.

    A row's day is read from the clock a moment before its time, perhaps on the other side of midnight.
    """
    day = moment.astimezone(dt.UTC).date()
    return day - _DAY if earlier and day > dt.date.min else day


def _delivery(row: asyncpg.Record, webhook_id: WebhookId) -> Delivery:
    return Delivery(
        key=DeliveryKey(row["day"], OutboxId(row["outbox_id"]), webhook_id),
        type=row["type"],
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        test=row["test"],
        state=row["state"],
        attempts=row["attempts"],
        next_attempt_at=row["next_attempt_at"],
        status_code=row["status_code"],
        error_class=row["error_class"],
        error_message=row["error_message"],
    )
