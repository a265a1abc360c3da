"""Webhooks that are divided into shards: divides them, says who holds which, and what they did wrong."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from dispatcher.config import Database as DatabaseConfig
from dispatcher.store.connection import Link
from dispatcher.store.membership import reshard
from tests.acceptance.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.acceptance.daemon import Daemon
    from tests.acceptance.harness import Harness
    from tests.acceptance.subscriber import Subscriber

_HOLDERS = "select owner, shard from lease where expires_at > clock_timestamp()"
_STRAY_FACTS = (
    "select count(*) from delivery_event e join run r on r.id = e.run_id"
    " where e.webhook_id % (select shards from installation) <> r.shard"
)


async def divide(url: str, count: int) -> None:
    """Divide the webhooks into so many shards, as `dispatcher shards` does."""
    link = Link(url, "test", DatabaseConfig())
    try:
        await reshard(link, count)
    finally:
        await link.close()


async def held(world: Harness) -> Counter[int]:
    """Give how many shards each process holds, by its number."""
    async with world.connection() as connection:
        return Counter(int(row["owner"].rsplit(" ", 2)[1]) for row in await connection.fetch(_HOLDERS))


async def shares(world: Harness, expected: dict[Daemon, int], timeout_s: float) -> None:
    """Wait until each of these daemons holds so many shards, and nobody else one."""
    wanted = {daemon.pid: count for daemon, count in expected.items() if count}

    async def fair() -> bool:
        return dict(await held(world)) == wanted

    await eventually(fair, f"shards are held like this: {wanted}", timeout_s)


async def runs(world: Harness) -> int:
    """Give how often a shard was taken so far."""
    async with world.connection() as connection:
        count: int = await connection.fetchval("select count(*) from run")
        return count


async def stray_facts(world: Harness) -> int:
    """Count the facts that were recorded by a run of another shard than their webhook's."""
    async with world.connection() as connection:
        count: int = await connection.fetchval(_STRAY_FACTS)
        return count


def overlaps(subscribers: Sequence[Subscriber]) -> list[str]:
    """Give the deliveries of which two requests were under way at the same time."""
    found: list[str] = []
    for one in subscribers:
        ended: dict[str, float] = defaultdict(float)
        for seen in one.seen:
            if seen.started_at < ended[seen.delivery]:
                found.append(f"webhook {one.webhook_id}, {seen.delivery}, attempt {seen.attempt}")
            ended[seen.delivery] = max(ended[seen.delivery], seen.ended_at or float("inf"))
    return found


def out_of_order(subscribers: Sequence[Subscriber]) -> list[str]:
    """Give the events that came first after something later about the same earthquake or sensor had."""
    found: list[str] = []
    for one in subscribers:
        newest: dict[str, int] = {}
        known: set[str] = set()
        for seen in one.seen:
            if seen.delivery in known:
                continue
            known.add(seen.delivery)
            sequence = int(seen.request.header("x-grillo-sequence") or 0)
            if sequence < newest.get(seen.subject, 0):
                found.append(
                    f"webhook {one.webhook_id}, {seen.subject}: {sequence} after {newest[seen.subject]}"
                )
            newest[seen.subject] = max(sequence, newest.get(seen.subject, 0))
    return found


async def quiet(world: Harness, requests: int) -> None:
    """Wait until so many more requests have come."""
    await world.more(sum(len(one.seen) for one in world.subscribers) + requests)
    await asyncio.sleep(0)
