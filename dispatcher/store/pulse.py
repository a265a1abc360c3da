"""Texts that change when something has happened, cheap to look at again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher.store.attempts import indexed
from dispatcher.store.queries import QUERIES

if TYPE_CHECKING:
    from dispatcher.core.ids import DeliveryKey, WebhookId
    from dispatcher.store.connection import Database


async def of_webhook(database: Database, webhook_id: WebhookId) -> str:
    """Give what changes with a webhook, its deliveries, attempts and recoveries."""
    async with indexed(database) as connection:
        row = await connection.fetchrow(QUERIES["pulse"], webhook_id)
    return row["pulse"] if row else ""


async def of_delivery(database: Database, key: DeliveryKey) -> str:
    """Give what changes with one delivery."""
    row = await database.fetchrow("delivery_pulse", *key)
    return row["pulse"] if row else ""


async def of_organization(database: Database, organization_id: int) -> str:
    """Give what changes with the newest webhooks of an organization and what they answer."""
    async with indexed(database) as connection:
        row = await connection.fetchrow(QUERIES["organization_pulse"], organization_id)
    return row["pulse"] if row else ""
