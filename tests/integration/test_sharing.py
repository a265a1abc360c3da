"""How a process ends that has shared webhooks with others."""

from __future__ import annotations

import asyncio

from dispatcher.daemon.sharing import Sharing
from tests.parts import Parts, parts
from tests.postgres import Database, wait_for

ANOTHER = "insert into member (owner, version, expires_at) values ('another', '1', now() + interval '1 hour')"


def held(one: Parts) -> float | None:
    """Give how many shards the process holds."""
    return one.shared.process.metrics.registry.get_sample_value("dispatcher_shards_held")


async def test_a_hand_over_that_took_too_long_is_no_reason_to_end_badly(database: Database) -> None:
    """PostgreSQL did not answer while a shard went to another daemon; long after, this one ends in order."""
    async with parts(database, drain_s=0.5) as one:
        await one.shared.lease.release()
        await one.connection.execute("update installation set shards = 2")
        sharing, stop = Sharing(one.shared.process, one.store.link("sharing")), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(sharing.work(stop))
            await wait_for(lambda: held(one) == 2, "both shards are held")
            holder = await database.connect()
            await holder.execute("begin; lock table run_end in access exclusive mode")
            await one.connection.execute(ANOTHER)
            await wait_for(lambda: held(one) == 1, "one was handed over, and not in time")
            await holder.close()
            stop.set()
