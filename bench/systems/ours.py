"""The real `dispatcher serve` with its default settings: signed, recorded, retried, in lanes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack

import asyncpg

from bench.dispatcher_process import Dispatcher, running_dispatcher
from bench.systems import Place
from dispatcher.config import Database as DatabaseConfig
from dispatcher.store import webhooks as stored
from dispatcher.store.connection import Database
from dispatcher.store.schema import migrate
from dispatcher.store.vault import Vault, new_secret


class Ours:
    """The dispatcher of this checkout."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._producer: asyncpg.Connection
        self._dispatcher: Dispatcher

    async def start(self, place: Place, webhooks: Sequence[str]) -> None:
        """Make the schema and the webhooks, and serve."""
        await migrate(place.database_url, DatabaseConfig())
        key = secrets.token_bytes(32)
        self._producer = await asyncpg.connect(place.database_url, ssl=False)
        self._stack.push_async_callback(self._producer.close)
        organization: int = await self._producer.fetchval("select min(id) from organization")
        database, vault = Database(place.database_url, DatabaseConfig()), Vault(key)
        for url in webhooks:
            fields = stored.WebhookFields(url=url, events=("event.*",))
            await stored.create(database, vault, organization, fields, secret=new_secret(), actor="bench")
        await database.close()
        self._dispatcher = await self._stack.enter_async_context(
            running_dispatcher(
                place.directory, core=place.core, database_url=place.database_url, vault_key=key
            )
        )

    async def insert(self, events: Sequence[str]) -> None:
        """Insert into the outbox."""
        await self._producer.execute(
            "insert into outbox (type, data) select 'event.detected', e::json from unnest($1::text[]) e",
            events,
        )

    def pids(self) -> Sequence[int]:
        """Name the dispatcher."""
        return [self._dispatcher.pid]

    async def stop(self) -> None:
        """End the dispatcher."""
        await self._stack.aclose()
