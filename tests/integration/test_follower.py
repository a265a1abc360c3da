"""A shard that follows, and an event that the leader tells very many webhooks of, in chunks."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from functools import partial

import msgspec
import pytest

from dispatcher.config import Tail
from dispatcher.core.delivery import Kind
from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.pending import Lane
from dispatcher.core.sharing import Shard
from dispatcher.core.snapshot import BEGINNING, Position
from dispatcher.daemon.follower import Follower
from dispatcher.daemon.intake import Downstream
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.connection import INDEXED
from dispatcher.store.ledger import MessageRow
from tests.parts import Event, Parts, attempted, insert, key_of, new_webhook, parts, running
from tests.postgres import Database, execute, wait_for

LANE = Lane.EVENT
MANY = 6000  # more deliveries than a follower reads at once


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Hold every webhook but by way of the database, as a shard that follows does."""
    await execute(database.url, "update installation set shards = 2")
    async with parts(database, shard=Shard(1, 2)) as made:
        yield made


async def odd(one: Parts, count: int) -> list[WebhookId]:
    """Make webhooks of the second of two shards."""
    found = [await new_webhook(one.connection) for _ in range(2 * count)]
    return [number for number in found if number % 2]


def follower_of(
    one: Parts, interrupted: asyncio.Event | None = None, *, idle_poll_ms: float = 100.0
) -> Follower:
    """Make the reader, beside senders that take nothing; what came before is written down, or will be."""
    config = msgspec.structs.replace(one.shared.process.config, tail=Tail(idle_poll_ms=idle_poll_ms))
    shared = dataclasses.replace(one.shared, process=dataclasses.replace(one.shared.process, config=config))
    if interrupted is None:
        interrupted = asyncio.Event()
        interrupted.set()
    progress = Progress()
    waiting = Waiting(one.shared, one.backlog(), one.ledger(), progress)
    downstream = Downstream(waiting, progress, lambda: None, lambda _: None)
    links = one.store.link("follower", INDEXED), one.store.link("claims")
    return Follower(shared, *links, downstream, interrupted)


async def chunk(
    one: Parts, event: Event, some: Sequence[WebhookId], rest: Sequence[int] = (), *, first: bool = False
) -> None:
    """Write some deliveries of an event that goes to very many webhooks."""
    one.batch += 1
    now = dt.datetime.now(dt.UTC)
    message = MessageRow(
        day=event[0],
        outbox_id=event[1],
        type="event.updated",
        occurred_at=now,
        recorded_at=now,
        body=b"{}",
        test=False,
        webhook_ids=some,
        claimed=[False] * len(some),
        fan_out=MANY,
        written=not first,
    )
    position = Position.after(BEGINNING).advanced(BEGINNING, 0, event[1])
    still = [WebhookId(number) for number in rest]
    await one.ledger().fan_out(LANE, one.batch, [message], position, one.system_id, now.date(), still)


def held(one: Parts, webhook_ids: Sequence[WebhookId]) -> list[list[OutboxId]]:
    """Give what is in memory for each webhook."""
    return [one.lanes.held_for(webhook_id) for webhook_id in webhook_ids]


async def test_a_chunk_that_is_written_while_another_is_taken_is_read(one: Parts) -> None:
    """The event's last chunk comes between two looks: the first saw it begun, the second sees it over."""
    webhook_ids = await odd(one, 2)
    event = await insert(one.connection)
    follower = follower_of(one)
    await follower.begin(None)
    async with running(follower.run()):
        async with one.connection.transaction():
            await one.connection.execute("lock table claim in exclusive mode")
            await chunk(one, event, webhook_ids[:1], webhook_ids[1:], first=True)
            await wait_for(lambda: one.lanes.room.held == 1, "the first chunk was read, and is being claimed")
            await chunk(one, event, webhook_ids[1:])
        await wait_for(lambda: one.lanes.room.held == 2, "both chunks are in memory")
    assert [[event[1]], [event[1]]] == held(one, webhook_ids)


async def test_a_change_of_a_webhook_is_heard(one: Parts) -> None:
    """By its ring, long before the shard would look again: what was changed holds in all shards at once."""
    (webhook_id,) = await odd(one, 1)
    follower = follower_of(one, idle_poll_ms=600_000)
    await follower.begin(None)
    async with running(follower.run()):
        for name in ("first", "second", "third"):  # one of them finds it asleep
            url = f"https://{name}.example/"
            await one.connection.execute("update webhook set url = $1 where id = $2", url, webhook_id)
            await wait_for(partial(goes_to, one, webhook_id, url), f"the {name} change holds")


def goes_to(one: Parts, webhook_id: WebhookId, url: str) -> bool:
    """Whether a webhook's requests would go there now."""
    webhook = one.shared.registry.webhooks.get(webhook_id)
    return webhook is not None and webhook.url == url


async def test_what_a_dead_run_took_of_an_event_is_written_down_first(one: Parts) -> None:
    """Nothing is sent by the number of its first attempt twice; what comes meanwhile is sent all the same."""
    webhook_ids = await odd(one, 3)
    event = await insert(one.connection)
    await chunk(one, event, webhook_ids[:2], webhook_ids[2:], first=True)
    interrupted = asyncio.Event()
    follower = follower_of(one, interrupted)
    await follower.begin(None)
    await chunk(one, event, webhook_ids[2:])
    alert = await insert(one.connection)
    one.batch = 0
    async with running(follower.run()):
        await one.fan_out([alert], webhook_ids[:1])
        await wait_for(lambda: one.lanes.room.held == 1, "alerts do not wait for that")
        await one.record(attempted(key_of(event, webhook_ids[0]), kind=Kind.INTERRUPTED, status_code=None))
        interrupted.set()
        await wait_for(lambda: one.lanes.room.held == 3, "all others are in memory")
    assert [[alert[1]], [event[1]], [event[1]]] == held(one, webhook_ids)
