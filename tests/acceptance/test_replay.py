"""The first alert arrives: every real event reaches the guide's own receivers, whoever else is writing."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from dispatcher.core.delivery import State
from tests.acceptance.conservation import History
from tests.acceptance.daemon import daemons
from tests.acceptance.producer import INSERT, Ledger, produce, real_events
from tests.acceptance.receivers import express_receiver, flask_receiver
from tests.acceptance.subscriber import SECRET, create_webhook
from tests.postgres import Database, sibling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.acceptance.producer import Event

PRODUCERS = 4


@asynccontextmanager
async def open_writer(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Hold a transaction open that has written: it has an xid, and nobody knows how it will end."""
    connection = await asyncpg.connect(url, ssl=False)
    try:
        await connection.execute("begin; create table elsewhere as select 1 as value")
        yield connection
    finally:
        await connection.close()


async def test_real_events_reach_the_guides_receivers(
    database: Database, postgres_server: str, tmp_path: Path
) -> None:
    """45 revisions and 1,679 earthquakes arrive, verified, once each, at Express and Flask.

    A transaction that has inserted into the outbox, and one in another database, stay open all the while
    and delay nothing. The row of the first arrives once it is committed; so do those of the replay for a
    daemon that started while it was open.
    """
    rng = random.Random(1724)
    *events, last = real_events()
    async with AsyncExitStack() as stack:
        receivers = [
            await stack.enter_async_context(express_receiver(SECRET)),
            await stack.enter_async_context(flask_receiver(SECRET)),
        ]
        for receiver in receivers:
            await create_webhook(database.url, receiver.url, ["event.*"])
        writer = await stack.enter_async_context(open_writer(database.url))
        await writer.execute(INSERT, last.type, last.data, last.occurred_at, "the last one")
        await stack.enter_async_context(open_writer(sibling(postgres_server, "postgres")))
        house = await stack.enter_async_context(daemons(database.url, tmp_path))
        daemon = await house.start()
        await daemon.says("leading")

        ledger, half = Ledger(), len(events) // 2
        await _replay(database.url, events[:half], ledger, rng)
        for receiver in receivers:
            await receiver.wait_verified(half)
        daemon.terminate()
        assert 0 == await daemon.ended(), daemon.last_words()
        daemon = await house.start()  # in the shadow of both transactions
        await _replay(database.url, events[half:], ledger, rng)
        for receiver in receivers:
            await receiver.wait_verified(len(events))
            assert len(events) == len(receiver.verified), "nobody has committed the last one"

        await writer.execute("commit")
        for receiver in receivers:
            await receiver.wait_verified(len(events) + 1)
            assert [] == receiver.rejected
            assert {1} == set(receiver.verified.values())
        daemon.terminate()
        assert 0 == await daemon.ended(), daemon.last_words()
        assert [] == house.complaints()
        await _all_delivered(database, 2 * (len(events) + 1))


async def _replay(url: str, events: list[Event], ledger: Ledger, rng: random.Random) -> None:
    async with asyncio.TaskGroup() as group:
        for index in range(PRODUCERS):
            group.create_task(produce(url, events[index::PRODUCERS], ledger, random.Random(rng.random())))


async def _all_delivered(database: Database, count: int) -> None:
    connection = await database.connect()
    try:
        history = await History.read(connection)
    finally:
        await connection.close()
    assert count == len(history.bodies)
    assert {(1, State.DELIVERED)} == {(len(facts), facts[-1]["state"]) for facts in history.facts.values()}
    assert history.bodies.keys() == history.facts.keys()
