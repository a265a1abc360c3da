"""Webhooks as their subscribers manage them: made, read, changed, deleted, with the health of each.

Every change writes its audit row in the same transaction, and raises the registry's version (by trigger),
from which the daemon learns of it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId, public_id
from dispatcher.store.accounts import write_audit
from dispatcher.store.queries import QUERIES

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    import asyncpg

    from dispatcher.store.connection import Database
    from dispatcher.store.vault import Vault

HealthState = Literal["healthy", "failing", "disabled", "idle"]


class Health(msgspec.Struct, frozen=True):
    """What a webhook answered lately. A failed test shows in `last_attempt_at` only."""

    failing_since: dt.datetime | None = None  # the first failure after the last success
    last_success_at: dt.datetime | None = None
    last_attempt_at: dt.datetime | None = None

    def state(self, *, active: bool) -> HealthState:
        """Sum it up in a word."""
        if not active:
            return "disabled"
        if self.failing_since is not None:
            return "failing"
        return "healthy" if self.last_success_at is not None else "idle"


class WebhookFields(msgspec.Struct, frozen=True, kw_only=True):
    """What a client decides, but for the secret."""

    url: str
    events: tuple[str, ...]
    network_ids: tuple[str, ...] | None = None
    description: str = ""
    headers: Mapping[str, str] = {}
    active: bool = True


class Webhook(WebhookFields, frozen=True, kw_only=True):
    """A webhook that exists."""

    id: WebhookId
    public_id: str
    filter: Mapping[str, Any] | None
    disabled_reason: str | None
    created_at: dt.datetime
    updated_at: dt.datetime
    health: Health


class NewTest(msgspec.Struct, frozen=True):
    """An event that was put into the outbox for one webhook alone."""

    key: DeliveryKey
    occurred_at: dt.datetime
    recorded_at: dt.datetime


async def create(
    database: Database,
    vault: Vault,
    organization_id: int,
    fields: WebhookFields,
    *,
    secret: str,
    actor: str,
) -> Webhook:
    """Add a webhook."""
    name = public_id("whk", secrets.token_bytes(16))
    async with database.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            QUERIES["insert_webhook"],
            name,
            organization_id,
            fields.url,
            fields.events,
            fields.network_ids,
            fields.description,
            _json(fields.headers),
            fields.active,
            vault.seal(secret, name),
        )
        details = {"events": fields.events, "active": fields.active}
        await write_audit(connection, actor, "webhook.created", name, details)
    return _webhook(row, Health())


async def page(
    database: Database, organization_id: int, *, offset: int, limit: int
) -> tuple[list[Webhook], int]:
    """Give a page of an organization's webhooks, the newest first, and how many there are."""
    async with database.acquire() as connection:
        rows = await connection.fetch(QUERIES["webhooks"], organization_id, offset, limit)
        total: int = await connection.fetchval(QUERIES["webhook_count"], organization_id)
        health = await _health(connection, [row["id"] for row in rows])
    return [_webhook(row, health[row["id"]]) for row in rows], total


async def get(database: Database, organization_id: int, webhook_id: str) -> Webhook | None:
    """Give one webhook by its public id, None where the organization has no such one."""
    async with database.acquire() as connection:
        row = await connection.fetchrow(QUERIES["webhook"], organization_id, webhook_id)
        if row is None:
            return None
        health = await _health(connection, [row["id"]])
    return _webhook(row, health[row["id"]])


async def change(
    database: Database,
    vault: Vault,
    organization_id: int,
    webhook_id: str,
    changes: Mapping[str, Any],
    *,
    secret: str | None,
    actor: str,
) -> Webhook | None:
    """Set the named `WebhookFields`, and the secret where one is given; None for an unknown webhook.

    What is set to what it is already changes nothing. Activating forgets why the webhook was disabled.
    """
    async with database.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(QUERIES["webhook_for_update"], organization_id, webhook_id)
        if row is None:
            return None
        health = (await _health(connection, [row["id"]]))[row["id"]]
        before = _webhook(row, health)
        after = msgspec.structs.replace(before, **changes)
        if after.active:
            after = msgspec.structs.replace(after, disabled_reason=None)
        if after == before and secret is None:
            return before
        row = await connection.fetchrow(
            QUERIES["update_webhook"],
            before.id,
            after.url,
            after.events,
            after.network_ids,
            after.description,
            _json(after.headers),
            after.active,
            after.disabled_reason,
            None if secret is None else vault.seal(secret, webhook_id),
        )
        changed = [name for name in changes if getattr(after, name) != getattr(before, name)]
        details: dict[str, Any] = {"changed": changed if secret is None else [*changed, "secret"]}
        if after.active != before.active:
            details["active"] = after.active
        await write_audit(connection, actor, "webhook.updated", webhook_id, details)
    return _webhook(row, health)


async def delete(database: Database, organization_id: int, webhook_id: str, *, actor: str) -> bool:
    """Delete a webhook; false where the organization has no such one. Its history stays in the database."""
    async with database.acquire() as connection, connection.transaction():
        deleted = await connection.fetchval(QUERIES["delete_webhook"], organization_id, webhook_id)
        if deleted is None:
            return False
        await write_audit(connection, actor, "webhook.deleted", webhook_id, {})
    return True


async def send_test(database: Database, webhook: Webhook, event_type: str, data_text: str) -> NewTest:
    """Put an event into the outbox for this webhook alone, marked as a test."""
    row = await database.fetchrow("insert_test", event_type, data_text, webhook.id)
    if row is None:
        raise RuntimeError("the outbox took the row and gave none back")
    key = DeliveryKey(row["day"], OutboxId(row["id"]), webhook.id)
    return NewTest(key, row["occurred_at"], row["recorded_at"])


async def _health(connection: asyncpg.Connection, ids: Sequence[int]) -> dict[int, Health]:
    rows = await connection.fetch(QUERIES["webhook_health"], ids)
    return {
        row["id"]: Health(row["failing_since"], row["last_success_at"], row["last_attempt_at"])
        for row in rows
    }


def _webhook(row: asyncpg.Record, health: Health) -> Webhook:
    networks, condition = row["network_ids"], row["filter"]
    return Webhook(
        id=row["id"],
        public_id=row["public_id"],
        url=row["url"],
        events=tuple(row["events"]),
        network_ids=None if networks is None else tuple(networks),
        description=row["description"],
        headers=msgspec.json.decode(row["headers"]),
        active=row["active"],
        filter=None if condition is None else msgspec.json.decode(condition),
        disabled_reason=row["disabled_reason"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        health=health,
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
