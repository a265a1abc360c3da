"""Reads what happened lately, for people at a terminal: the newest deliveries, and facts as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.core.ids import DeliveryIds, DeliveryKey

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    import asyncpg

    from dispatcher.store.connection import Database


MOST_FACTS: Final = 10_000


class LatestDelivery(msgspec.Struct, frozen=True):
    """One delivery, and where it stands."""

    delivery: str  # public id
    webhook: str  # public id
    event: str  # its type
    event_recorded_at: dt.datetime
    state: str
    attempts: int
    last_attempt_at: dt.datetime | None
    duration_ms: float | None
    status_code: int | None
    error: str | None  # error class of the last attempt
    next_attempt_at: dt.datetime | None
    reason: str | None


class Fact(msgspec.Struct, frozen=True):
    """One thing that happened to a delivery."""

    delivery: str
    webhook: str
    event: str
    attempt: int
    kind: str
    state: str
    trigger: str | None
    recorded_at: dt.datetime
    started_at: dt.datetime | None
    duration_ms: float | None
    status_code: int | None
    error: str | None
    error_message: str | None
    next_attempt_at: dt.datetime | None
    reason: str | None


class Recent:
    """Reads the history of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids: DeliveryIds | None = None

    async def has_webhook(self, webhook: str) -> bool:
        """Tell whether there is, or was, a webhook of this public id."""
        row = await self._database.fetchrow("webhook_exists", webhook)
        return bool(row and row[0])

    async def now(self) -> dt.datetime:
        """Give the database's clock, which dates the facts."""
        (row,) = await self._database.fetch("database_clock")
        moment: dt.datetime = row[0]
        return moment

    async def deliveries(self, webhook: str | None, limit: int) -> list[LatestDelivery]:
        """Give the newest deliveries, newest first; of one webhook, or of all for None."""
        rows = await self._database.fetch("latest_deliveries", webhook, limit)
        ids = await self._delivery_ids()
        return [
            LatestDelivery(
                delivery=_name(ids, row),
                event=row["type"],
                event_recorded_at=row["recorded_at"],
                last_attempt_at=row["started_at"],
                error=row["error_class"],
                duration_ms=_milliseconds(row["duration_ms"]),
                **_same(
                    row,
                    "webhook",
                    "state",
                    "attempts",
                    "status_code",
                    "next_attempt_at",
                    "reason",
                ),
            )
            for row in rows
        ]

    async def facts(self, webhook: str | None, since: dt.datetime) -> list[Fact]:
        """Give what was recorded at or after `since`, oldest first, at most `MOST_FACTS`."""
        rows = await self._database.fetch("facts_since", webhook, since, MOST_FACTS)
        ids = await self._delivery_ids()
        return [
            Fact(
                delivery=_name(ids, row),
                event=row["type"],
                attempt=row["attempt_no"],
                error=row["error_class"],
                duration_ms=_milliseconds(row["duration_ms"]),
                **_same(row, "webhook", "kind", "state", "trigger", "recorded_at", "started_at"),
                **_same(row, "status_code", "error_message", "next_attempt_at", "reason"),
            )
            for row in rows
        ]

    async def _delivery_ids(self) -> DeliveryIds:
        if self._ids is None:
            (row,) = await self._database.fetch("id_key")
            self._ids = DeliveryIds(row["id_key"])
        return self._ids


def _name(ids: DeliveryIds, row: asyncpg.Record) -> str:
    return ids.encode(DeliveryKey(row["day"], row["outbox_id"], row["webhook_id"]))


def _milliseconds(duration_ms: float | None) -> float | None:
    """Drop the digits that single precision made up."""
    return None if duration_ms is None else round(duration_ms, 3)


def _same(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}
