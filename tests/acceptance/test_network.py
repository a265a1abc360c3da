"""The network to PostgreSQL dies without a word: no connection ends, nothing arrives any more."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.cable import Cable
from tests.acceptance.daemon import daemons
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import real_events
from tests.acceptance.server import own_server
from tests.acceptance.subscriber import prompt, slow
from tests.acceptance.waiting import eventually

if TYPE_CHECKING:
    import asyncpg

HASTY = {"DATABASE__STATEMENT_TIMEOUT_S": "3", "DATABASE__CONNECT_TIMEOUT_S": "2"}
WAITING = """
    select count(*) from pg_stat_activity
     where wait_event_type = 'Lock' and application_name like 'dispatcher tail %'
"""


@pytest.mark.slow
async def test_everything_is_swallowed(data_dir: Path, tmp_path: Path) -> None:
    """The bell included: not ready, with the reason; and at work again by itself when the network is."""
    async with (
        own_server(data_dir) as server,
        Harness(server.url, seed=21) as world,
        Cable(server.daemon_url) as cable,
        daemons(cable.url, tmp_path, DELIVERY__RETRY_DELAYS_S=RETRY_DELAYS_S, **HASTY) as house,
    ):
        await world.subscribe(["*"], prompt)
        await world.subscribe(["*"], slow(0.05))
        daemon = await house.start()
        async with world.producing(real_events(), pause_s=0.1):
            for count in (1, 2):
                await world.under_way()
                cable.swallow()
                await daemon.not_ready("database: ")
                await daemon.says("database away", count)
                cable.restore()
                await daemon.says("database back", count)
                await daemon.ready()
        await world.settled()
        assert [] == house.complaints()
        await world.conserved()


async def waiting(connection: asyncpg.Connection, count: int) -> bool:
    """Say whether so many fan-outs wait for a lock."""
    return bool(await connection.fetchval(WAITING) >= count)


@pytest.mark.slow
async def test_a_write_that_comes_to_its_end_without_us(data_dir: Path, tmp_path: Path) -> None:
    """A fan-out hangs in PostgreSQL when the network dies: sent once, whenever PostgreSQL is done with it."""
    events = iter(real_events("comcat_updates.jsonl"))
    async with (
        own_server(data_dir) as server,
        Harness(server.url, seed=22) as world,
        Cable(server.daemon_url) as cable,
        daemons(cable.url, tmp_path, **HASTY) as house,
    ):
        subscriber = await world.subscribe(["*"], prompt)
        daemon = await house.start()
        await daemon.says("leading")
        for count, done_before in enumerate((True, False), 1):
            async with world.connection() as holder, world.connection() as watcher:
                lock = holder.transaction()
                await lock.start()
                await holder.execute("lock table tail_position in share mode")
                async with world.producing([next(events)], pause_s=0, producers=1, to_the_end=True):
                    pass
                await eventually(partial(waiting, watcher, 1), "the write waits", 30)
                cable.swallow()
                await daemon.says("database away", count)
                if done_before:
                    await lock.rollback()
                    cable.restore()
                else:
                    cable.restore()
                    await eventually(partial(waiting, watcher, 2), "the next one waits behind it", 30)
                    await lock.rollback()
            await daemon.says("database back", count)
            await world.settled()
        await world.conserved()
        assert [1] * 2 == [seen.attempt for seen in subscriber.seen], (
            "each was sent once, and none interrupted"
        )
        assert [] == house.complaints()
