"""What webhooks answered lately: the last few attempts of each, statistics for charts, the last failure.

How this works: `delivery_event_by_webhook` holds the attempts of a webhook by what came of them (success,
failure, failed test) and time. The newest of each are read along it, at most 5,000, so a page takes bounded
time however busy a webhook is; where there were more, the statistics begin later and say when.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.store.connection import INDEXED
from dispatcher.store.queries import QUERIES

if TYPE_CHECKING:
    import asyncpg

    from dispatcher.store.connection import Database

_RECENT: Final = 24
_LOOKED_AT: Final = 5_000
_PLACES: Final = 60
_LOOKED_THROUGH: Final = 500  # deliveries, for places


class Part(msgspec.Struct, frozen=True):
    """The attempts of one part of the time."""

    since: dt.datetime
    succeeded: int = 0
    refused: int = 0  # an answer came, and it was no 2xx
    timed_out: int = 0
    unreached: int = 0  # no answer came
    p50_ms: float | None = None
    p95_ms: float | None = None
    lag_p50_ms: float | None = None  # from the event's INSERT to its first request
    lag_p95_ms: float | None = None

    @property
    def total(self) -> int:
        """All of them."""
        return self.succeeded + self.refused + self.timed_out + self.unreached


class Statistics(msgspec.Struct, frozen=True):
    """The attempts of a time, tests left out, in equal parts."""

    since: dt.datetime
    until: dt.datetime
    whole: bool  # false: there were more than are looked at, so it begins later than was asked for
    parts: Sequence[Part]
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    lag_p50_ms: float | None
    lag_p95_ms: float | None


class LastFailure(msgspec.Struct, frozen=True):
    """The newest attempt that failed."""

    key: DeliveryKey
    started_at: dt.datetime | None
    status_code: int | None
    error_class: str
    error_message: str | None
    answer: str


class Epicentre(msgspec.Struct, frozen=True):
    """Where an event was, as its producer wrote it."""

    occurred_at: dt.datetime
    longitude: float
    latitude: float
    magnitude: float | None
    place: str


@contextlib.asynccontextmanager
async def indexed(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection whose statements follow indexes in their order until it is given back.

    The planner expects few attempts of a webhook and would read them all and sort them: it is far from the
    truth with a busy one (measured: 315 ms instead of 20 at 200,000 attempts).
    """
    async with database.acquire() as connection, connection.transaction(readonly=True):
        await follow_indexes(connection)
        yield connection


async def follow_indexes(connection: asyncpg.Connection) -> None:
    """Let the statements of the transaction that is open follow indexes in their order."""
    await connection.fetch(QUERIES["follow_indexes"], list(INDEXED), list(INDEXED.values()))


async def recent(database: Database, webhook_ids: Sequence[WebhookId]) -> dict[WebhookId, list[bool]]:
    """Give for each webhook whether its last attempts succeeded, the oldest first."""
    found: dict[WebhookId, list[bool]] = {}
    async with indexed(database) as connection:
        rows = await connection.fetch(QUERIES["recent_attempts"], webhook_ids, _RECENT)
    for row in rows:
        found.setdefault(WebhookId(row["id"]), []).append(row["succeeded"])
    return found


async def statistics(
    database: Database, webhook_id: WebhookId, *, since: dt.datetime, parts: int
) -> Statistics:
    """Give the attempts since a time."""
    async with indexed(database) as connection:
        rows = await connection.fetch(QUERIES["attempt_statistics"], webhook_id, since, parts, _LOOKED_AT)
    whole = next(row for row in rows if row["part"] is None)
    begin, until = whole["since"], whole["until"]
    step = (until - begin) / parts
    filled = {row["part"]: row for row in rows if row["part"] is not None}
    return Statistics(
        since=begin,
        until=until,
        whole=whole["whole"],
        parts=[
            Part(
                begin + number * step,
                row["succeeded"],
                row["refused"],
                row["timed_out"],
                row["unreached"],
                *row["latencies"][:2],
                *(row["lags"] or (None, None)),
            )
            if (row := filled.get(number)) is not None
            else Part(begin + number * step)
            for number in range(parts)
        ],
        p50_ms=(latencies := whole["latencies"] or [None] * 3)[0],
        p95_ms=latencies[1],
        p99_ms=latencies[2],
        lag_p50_ms=(lags := whole["lags"] or [None] * 2)[0],
        lag_p95_ms=lags[1],
    )


async def last_failure(database: Database, webhook_id: WebhookId) -> LastFailure | None:
    """Give the newest attempt of a webhook that failed, tests left out."""
    async with indexed(database) as connection:
        row = await connection.fetchrow(QUERIES["last_failure"], webhook_id)
    if row is None:
        return None
    return LastFailure(
        DeliveryKey(row["day"], OutboxId(row["outbox_id"]), webhook_id),
        row["started_at"],
        row["status_code"],
        row["error_class"],
        row["error_message"],
        (row["response_body"] or b"").decode(errors="replace"),
    )


async def epicentres(database: Database, webhook_id: WebhookId) -> list[Epicentre]:
    """Give where the last events of a webhook were, the newest first."""
    return [
        Epicentre(
            row["occurred_at"],
            float(row["longitude"]),
            float(row["latitude"]),
            None if row["magnitude"] is None else float(row["magnitude"]),
            row["place"] or "",
        )
        for row in await database.fetch("epicentres", webhook_id, _PLACES, _LOOKED_THROUGH)
    ]
