"""Transactions that stay open, across crashes and in other databases: nobody waits for one or loses one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.acceptance.daemon import daemons
from tests.acceptance.harness import Harness
from tests.acceptance.producer import INSERT, real_events
from tests.acceptance.server import own_server
from tests.acceptance.subscriber import prompt
from tests.postgres import Database, sibling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.acceptance.producer import Event


async def prepare(world: Harness, event: Event, name: str) -> None:
    """Insert an event, and leave the end of the transaction to somebody else."""
    async with world.connection() as connection:
        await connection.execute("begin")
        await connection.execute(INSERT, event.type, event.data, event.occurred_at, f"serial {event.serial}")
        await connection.execute(f"prepare transaction '{name}'")


async def emit(world: Harness, *events: Event) -> None:
    """Insert events, each in its own transaction."""
    async with world.producing(events, pause_s=0, producers=1, to_the_end=True):
        pass


@pytest.mark.slow
async def test_prepared_transactions_outlive_a_crash(data_dir: Path, tmp_path: Path) -> None:
    """Prepared before PostgreSQL and the daemon crash: committed, it is delivered; rolled back, it never was.

    What was inserted after them waits for neither.
    """
    to_commit, to_roll_back, before, after = real_events("comcat_updates.jsonl")[:4]
    async with (
        own_server(data_dir, max_prepared_transactions="2") as server,
        Harness(server.url, seed=41) as world,
        daemons(server.daemon_url, tmp_path) as house,
    ):
        subscriber = await world.subscribe(["*"], prompt)
        daemon = await house.start()
        await prepare(world, to_commit, "to commit")
        await prepare(world, to_roll_back, "to roll back")
        await emit(world, before)
        await world.settled()
        daemon.kill()
        await server.crash()
        await server.start()
        await house.start()
        await emit(world, after)
        await world.settled()
        assert {before.serial, after.serial} == subscriber.delivered
        await server.execute("rollback prepared 'to roll back'")
        await server.execute("commit prepared 'to commit'")
        world.ledger.committed[to_commit.serial] = to_commit
        await world.settled()
        assert {before.serial, after.serial, to_commit.serial} == subscriber.delivered
        assert [] == house.complaints()
        await world.conserved()


@asynccontextmanager
async def open_elsewhere(url: str) -> AsyncIterator[None]:
    """Hold a transaction with an id and a snapshot open in another database of the server, to the end."""
    connection = await asyncpg.connect(sibling(url, "postgres"), ssl=False)
    try:
        await connection.execute("begin isolation level repeatable read")
        xid = await connection.fetchval("select pg_current_xact_id()::text")
        yield
        assert xid == await connection.fetchval("select pg_current_xact_id()::text"), "it is open still"
    finally:
        connection.terminate()


async def test_a_transaction_elsewhere_holds_up_nothing(database: Database, tmp_path: Path) -> None:
    """Older than everything, in another database: what comes after it is delivered, by new daemons too."""
    events = real_events("comcat_updates.jsonl")[:6]
    async with (
        open_elsewhere(database.url),
        Harness(database.url, seed=42) as world,
        daemons(database.url, tmp_path) as house,
    ):
        subscriber = await world.subscribe(["*"], prompt)
        for share in (events[:3], events[3:]):
            daemon = await house.start()
            await emit(world, *share)
            await world.settled()
            assert {event.serial for event in share} <= subscriber.delivered
            daemon.kill()
            await daemon.ended()
        await house.start()
        await world.settled()
        assert [] == house.complaints()
        await world.conserved()
