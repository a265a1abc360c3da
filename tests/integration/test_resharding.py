"""What was left unsent keeps its place when the webhooks are divided anew."""

from __future__ import annotations

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.pending import Lane
from dispatcher.core.sharing import Shard
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.recorder import Recorder
from dispatcher.daemon.rescuer import Rescuer
from dispatcher.daemon.retries import Retries
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.connection import INDEXED, Link
from dispatcher.store.membership import reshard
from tests.parts import Event, Parts, attempted, insert, key_of, new_webhook, parts
from tests.postgres import Database, execute

FIRST = 1  # batch that a shard's last run had attempted everything of


async def leave(database: Database) -> tuple[list[WebhookId], list[Event]]:
    """Let a shard that follows end in order: of three alerts the first is delivered, to two webhooks."""
    await execute(database.url, "update installation set shards = 2")
    async with parts(database, shard=Shard(1, 2)) as one:
        numbers = [await new_webhook(one.connection) for _ in range(4)]
        webhook_ids = [number for number in numbers if number % 2]
        events = [await insert(one.connection) for _ in range(3)]
        for event in events:
            await one.fan_out([event], webhook_ids)
        for webhook_id in webhook_ids:
            await one.record(attempted(key_of(events[0], webhook_id)))
        # The second of them was told of the second alert as well.
        await one.record(attempted(key_of(events[1], webhook_ids[1])))
        for lane in Lane:
            await one.ledger().checkpoint(lane, FIRST if lane is Lane.ALERT else 0, [])
        await one.backlog().runs_ended(one.shared.run_id, [one.shared.run_id], "clean")
        await one.shared.lease.release()
        return webhook_ids, events


async def begun(one: Parts) -> list[tuple[WebhookId, OutboxId]]:
    """Begin a run; give who waits for alerts before anything new comes."""
    waiting = Waiting(one.shared, one.backlog(), one.ledger(), Progress())
    retries = Retries(one.shared, one.backlog(), one.ledger(), stopped=lambda _: None)
    recorder = Recorder(one.shared, one.store.link("recorder"), lambda *_: None)
    assert await Rescuer(one.shared, one.backlog(), waiting, retries, recorder).begin() is not None
    return waiting.positions(Lane.ALERT)


async def test_what_a_shard_that_followed_left_is_not_passed(database: Database) -> None:
    """The one that leads takes its webhooks over; they wait there before it reads what is new."""
    webhook_ids, events = await leave(database)
    link = Link(database.url, "test", DatabaseConfig(), INDEXED)
    assert 2 == await reshard(link, 1)
    await link.close()
    async with parts(database) as one:
        expected = {webhook_ids[0]: events[1][1], webhook_ids[1]: events[2][1]}
        found = dict(await begun(one))
    assert {webhook_id: OutboxId(number - 1) for webhook_id, number in expected.items()} == found
