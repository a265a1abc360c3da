"""Reads what a diagnosis needs: the server and our rights on it, and a webhook as it is registered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.store.accounts import write_audit
from dispatcher.store.queries import QUERIES

if TYPE_CHECKING:
    from dispatcher.store.connection import Database


class Server(msgspec.Struct, frozen=True):
    """PostgreSQL, as our login sees it."""

    version: str  # as it calls itself
    number: int  # 150004 is 15.4
    login: str
    standby: bool
    flushes: bool  # what was committed is on the disk: fsync
    log_kept_bytes: int  # min_wal_size: of the write-ahead log, what is used again rather than made anew
    log_zeroed: bool  # a new part of it is filled with zeros first, which everybody waits for
    superuser: bool
    has_schema: bool
    open_schema: bool  # everyone may create in it
    missing_roles: list[str]
    missing_rights: list[str]  # that the daemon needs, such as "insert on delivery_event"


class Clocks(msgspec.Struct, frozen=True):
    """The database's clock beside this machine's."""

    ahead_s: float  # of the database; negative: it is behind
    uncertain_s: float  # half of the round trip
    round_trip_s: float


class RegisteredWebhook(msgspec.Struct, frozen=True):
    """A webhook without its secrets."""

    id: WebhookId
    organization_id: int
    url: str
    events: list[str]
    network_ids: list[str] | None
    active: bool
    disabled_reason: str | None
    deleted: bool
    ca_certificates: str  # PEM; empty: the system's authorities
    heard_of: list[str]  # networks whose events its organization hears of
    unknown_events: list[str]  # of its events, those that are not registered


async def inspect_server(database: Database) -> Server:
    """Look at the server; needs no schema. Raises `DatabaseUnavailable`."""
    (row,) = await database.fetch("inspect_server")
    return Server(**row)


async def compare_clocks(database: Database) -> Clocks:
    """Ask the database for its time."""
    before = time.time()
    (row,) = await database.fetch("database_clock")
    after = time.time()
    middle, trip_s = (before + after) / 2, after - before
    return Clocks(row[0].timestamp() - middle, trip_s / 2, trip_s)


async def inspect_webhook(
    database: Database, webhook: str, organization_id: int | None = None
) -> RegisteredWebhook | None:
    """Give a webhook by its public id, deleted ones too; None where there is none, or it is another's."""
    row = await database.fetchrow("inspect_webhook", webhook, organization_id)
    return None if row is None else RegisteredWebhook(**row)


async def ask_test(
    database: Database, webhook: str, webhook_id: WebhookId, *, actor: str | None
) -> DeliveryKey:
    """Put a `webhook.test` for this webhook alone into the outbox; without `actor` it is the login's doing.

    As the management API does, but without the encryption key, which whoever examines may not have.
    """
    data = msgspec.json.encode({"webhook_id": webhook, "message": "This is a test."}).decode()
    async with database.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(QUERIES["insert_test"], "webhook.test", data, webhook_id)
        details = {"event": "webhook.test", "outbox_id": row["id"]}
        await write_audit(connection, actor, "webhook.tested", webhook, details)
    return DeliveryKey(row["day"], OutboxId(row["id"]), webhook_id)
