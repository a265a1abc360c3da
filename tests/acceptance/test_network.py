"""The network to PostgreSQL dies without a word: no connection ends, nothing arrives any more."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dispatcher.config import Database as DatabaseConfig
from tests.acceptance.cable import Cable
from tests.acceptance.daemon import daemons
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import real_events
from tests.acceptance.server import own_server
from tests.acceptance.shards import overlaps, quiet
from tests.acceptance.subscriber import prompt, slow
from tests.acceptance.waiting import eventually
from tests.postgres import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.acceptance.daemon import Daemon, Daemons

HASTY = {"DATABASE__STATEMENT_TIMEOUT_S": "3", "DATABASE__CONNECT_TIMEOUT_S": "2"}
UNASKED_S = DatabaseConfig().statement_timeout_s / 2  # sooner than any statement is given up by itself
RUNG = 'dispatcher_tail_wakeups_total{source="doorbell"}'
CHANGES = {"database away", "database back"}
RENEWED = """
    select exists (select from pg_stat_activity
                    where application_name = 'dispatcher lease' and state = 'idle')
"""
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


@asynccontextmanager
async def connected(
    data_dir: Path, directory: Path, seed: int
) -> AsyncIterator[tuple[Harness, Cable, Daemons]]:
    """Run a server behind a cable, with default timeouts; afterwards nothing is lost, without complaints."""
    async with (
        own_server(data_dir) as server,
        Harness(server.url, seed) as world,
        Cable(server.daemon_url) as cable,
        daemons(cable.url, directory) as house,
    ):
        await world.subscribe(["*"], prompt)
        yield world, cable, house
        assert [] == house.complaints()
        await world.conserved()


def away_once(daemon: Daemon, loop: str) -> None:
    """Check that one loop missed the database, once, and found it again."""
    said = [(line["event"], line.get("loop")) for line in daemon.log if line["event"] in CHANGES]
    assert [("database away", loop), ("database back", None)] == said


async def renewed(world: Harness) -> bool:
    """Say whether a lease was renewed by the connection that is there for it."""
    async with world.connection() as connection:
        return bool(await connection.fetchval(RENEWED))


@pytest.mark.slow
async def test_nobody_hears_the_bell(data_dir: Path, tmp_path: Path) -> None:
    """The connection that listens is dead, and it alone: alerts arrive all the same; then it rings again."""
    events = real_events("comcat_updates.jsonl")
    async with connected(data_dir, tmp_path, seed=23) as (world, cable, house):
        daemon = await house.start()
        first = await eventually(world.armed, "every bell is armed", UNASKED_S)
        cable.forget("dispatcher doorbell")
        rung = await daemon.metric(RUNG)
        async with world.producing(events[:20], pause_s=0, producers=1, to_the_end=True):
            pass
        await world.settled(UNASKED_S)
        await daemon.says("database back")
        away_once(daemon, "doorbell")
        cable.restore()  # PostgreSQL learns that its session is over, which lets go of the locks

        async def armed_anew() -> bool:
            return await world.armed() not in {None, first}

        await eventually(armed_anew, "every bell is armed by another session", UNASKED_S)
        rung = await daemon.metric(RUNG)
        async with world.producing(events[20:21], pause_s=0, producers=1, to_the_end=True):
            await wait_for(lambda: len(world.ledger.committed) == 21, "one more event")

        async def rings() -> bool:
            return await daemon.metric(RUNG) > rung

        await eventually(rings, "it rang", UNASKED_S)
        await world.settled()
        away_once(daemon, "doorbell")


@pytest.mark.slow
async def test_a_lead_is_confirmed_on_another_connection(data_dir: Path, tmp_path: Path) -> None:
    """The connection that renews the lease is dead, and it alone: the leader keeps the lead, and sends on."""
    async with connected(data_dir, tmp_path, seed=24) as (world, cable, house):
        leader = await house.start()
        await leader.says("leading")
        standby = await house.start()
        await standby.says("standing by: another process leads")
        async with world.producing(real_events(), pause_s=0.2):
            await eventually(partial(renewed, world), "the lease has been renewed", UNASKED_S)
            cable.forget("dispatcher lease")
            await leader.says("database back", timeout_s=UNASKED_S)
            away_once(leader, "lease")
            await quiet(world, 20)
        await world.settled()
        assert [1, 0] == [len(one.said("leading")) for one in house.all]
        assert [] == leader.said("the lead could not be confirmed in time")
        assert [] == overlaps(world.subscribers)
