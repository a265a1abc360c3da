"""A fan-out that is still under way in PostgreSQL when its writer has gone: nothing is written beside it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.pending import Lane
from dispatcher.core.sharing import Shard
from dispatcher.daemon.doorbell import Doorbell
from dispatcher.daemon.intake import Downstream
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.tailer import Tailer
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.connection import INDEXED
from dispatcher.store.connection import Database as Store
from dispatcher.store.lease import Lease
from dispatcher.store.outbox import OutboxReader
from tests.acceptance.cable import Cable
from tests.acceptance.waiting import eventually
from tests.parts import Event, Parts, insert, new_webhook, parts, running
from tests.postgres import Database, wait_for

if TYPE_CHECKING:
    import asyncpg

WAITING = """
    select count(*) from pg_stat_activity
     where datname = current_database() and wait_event_type = 'Lock' and application_name like 'dispatcher %'
"""
HASTY = DatabaseConfig(statement_timeout_s=1, connect_timeout_s=1)


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database."""
    async with parts(database) as made:
        yield made


@asynccontextmanager
async def in_the_way(database: Database, event: Event) -> AsyncIterator[asyncpg.Connection]:
    """Let the fan-out of an event wait for another transaction, until that is rolled back."""
    holder = await database.connect()
    try:
        await holder.execute("begin")
        await holder.execute(
            "insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)"
            " values ($1, $2, 0, 0, '', now(), now(), 0, '')",
            *event,
        )
        yield holder
    finally:
        await holder.close()


async def wait_for_locks(one: Parts, count: int) -> None:
    """Wait until so many statements of the dispatcher wait for a lock."""

    async def counted() -> bool:
        return bool(await one.connection.fetchval(WAITING) == count)

    await eventually(counted, f"{count} statements wait for a lock", 20)


def another_date(now: dt.datetime) -> str:
    """Name a zone in which it is another day than in UTC for some hours yet."""
    return "Etc/GMT+12" if now.hour < 11 else "Etc/GMT-14"


async def test_a_write_under_way_at_midnight(database: Database, one: Parts) -> None:
    """It was read on another day than it is by now; what takes its place meets it all the same.

    A session in a zone where the date is another one stands for the one that began before midnight.
    """
    webhook_id = await new_webhook(one.connection)
    event = await insert(one.connection)
    await one.shared.registry.refresh()
    outage = one.shared.outage
    async with Cable(one.store.url) as cable, in_the_way(database, event) as holder:
        store = Store(cable.url, HASTY)
        link = store.link("tail", {**INDEXED, "timezone": another_date(dt.datetime.now(dt.UTC))})
        progress = Progress()
        waiting = Waiting(one.shared, one.backlog(), one.ledger(), progress)
        downstream = Downstream(waiting, progress, lambda: None, lambda _: None)
        tailer = Tailer(one.shared, Lane.ALERT, link, Doorbell(one.shared), downstream)
        await tailer.begin()
        async with running(tailer.run()):
            await wait_for_locks(one, 1)
            cable.swallow()
            await wait_for(lambda: outage.reason is not None, "the tail gives the write up")
            cable.restore()
            await wait_for_locks(one, 2)
            await holder.execute("rollback")
            await wait_for(lambda: sum(one.lanes.queued_in) == 1, "the delivery is in memory")
        await store.close()
    rows = await one.connection.fetch("select day, batch from tail_position")
    assert [1] == [row["batch"] for row in rows], "one batch, written once"
    assert rows[0]["day"] != event[0]
    assert [webhook_id] == [row[0] for row in await one.connection.fetch("select webhook_id from delivery")]


async def test_nobody_takes_the_lead_beside_a_write(database: Database, one: Parts) -> None:
    """Whoever leads next begins behind a batch that was under way, whatever day that one named."""
    event = await insert(one.connection)
    store = Store(database.url, DatabaseConfig())
    async with in_the_way(database, event) as holder, asyncio.TaskGroup() as group:
        writing = group.create_task(one.fan_out([event], []))
        await wait_for_locks(one, 1)
        taking = group.create_task(Lease(store.link("lease"), Shard()).take())
        await wait_for_locks(one, 2)
        await holder.execute("rollback")
        assert await taking is not None
        # No later than the lead itself: the writer may not even know yet.
        assert 1 == (await OutboxReader(store.link("tail"), Lane.ALERT).newest_position()).batch
        await writing
    await store.close()
