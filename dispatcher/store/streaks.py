"""Webhooks that answer nothing but failures: finds them, announces them, deactivates them."""

from __future__ import annotations

import datetime as dt

import msgspec

from dispatcher.core.ids import DeliveryKey, RunId, WebhookId
from dispatcher.core.sharing import Shard
from dispatcher.core.timestamps import envelope_timestamp
from dispatcher.store.connection import Link


class Streak(msgspec.Struct, frozen=True):
    """A webhook's attempts that all failed."""

    webhook_id: WebhookId
    public_id: str
    url: str
    since: dt.datetime
    latest_at: dt.datetime


class Streaks:
    """The statements, for one run."""

    def __init__(self, link: Link, run_id: RunId, shard: Shard) -> None:
        self._link = link
        self._run_id = run_id
        self._shard = shard

    async def longer_than(self, duration: dt.timedelta) -> list[Streak]:
        """Give the shard's active webhooks that have failed for longer than that."""
        rows = await self._link.fetch(
            "failing_webhooks", duration.total_seconds(), self._shard.count, self._shard.number
        )
        return [Streak(*row) for row in rows]

    async def all_gone(self, key: DeliveryKey) -> bool:
        """Say whether every attempt of a delivery was answered with 410 Gone."""
        row = await self._link.fetchrow("all_gone", *key)
        return row is not None and bool(row[0])

    async def announce(self, streak: Streak) -> None:
        """Insert `webhook.failing`, unless this streak was announced already."""
        since = envelope_timestamp(streak.since)
        await self._link.execute("announce_failing", streak.public_id, streak.url, since)

    async def disable(self, webhook_id: WebhookId, reason: str) -> bool:
        """Deactivate a webhook and insert `webhook.disabled`; false when it was inactive already."""
        tag = await self._link.execute("disable_webhook", self._run_id, webhook_id, reason)
        return tag != "INSERT 0 0"
