"""What finds no room in memory waits in the database: read back in order, nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dispatcher.core.ids import OutboxId
from dispatcher.core.lanes import Lanes
from dispatcher.core.pending import Lane
from tests.mill import LANE, Stepwise, events_of, idle, mill_of, waiting_of
from tests.parts import Parts, attempted, new_webhook, parts, running
from tests.postgres import Database, wait_for


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database, with room for little."""
    async with parts(database, max_queued=24, max_in_flight=12) as made:
        yield made


async def test_everything_comes_back_in_order(one: Parts) -> None:
    """Far more than there is room for, while more keeps coming: each once, in each webhook's order."""
    webhook_ids = [await new_webhook(one.connection) for _ in range(5)]
    events = await events_of(one, 120)
    mill = mill_of(one)
    for event in events[:60]:
        await mill.fan_out(event, webhook_ids)
    async with running(mill.waiting.run(), mill.send()):
        for event in events[60:]:
            await mill.fan_out(event, webhook_ids)
        await idle(one, mill.waiting)
    expected = [number for _, number in events]
    assert dict.fromkeys(webhook_ids, expected) == mill.sent
    assert 0 < mill.went_straight < 600
    # Whatever was read back was claimed first.
    claims = (
        "select count(*) from claim join delivery using (day, outbox_id, webhook_id)"
        " where delivery.run_id is null"
    )
    assert 600 - mill.went_straight == await one.connection.fetchval(claims)


async def test_late_transactions_are_not_passed_over(one: Parts) -> None:
    """Events whose transactions commit late have low ids: found although the reader is beyond them."""
    webhook_ids = [await new_webhook(one.connection) for _ in range(3)]
    events = await events_of(one, 150)
    rng = random.Random(3)
    order = sorted(range(150), key=lambda place: place + rng.choice([0, 0, 0, 40]))
    mill = mill_of(one)
    for place in order[:60]:
        await mill.fan_out(events[place], webhook_ids)
    async with running(mill.waiting.run(), mill.send()):
        for place in order[60:]:
            await mill.fan_out(events[place], webhook_ids)
        await idle(one, mill.waiting)
    expected = [number for _, number in events]
    assert dict.fromkeys(webhook_ids, expected) == {one: sorted(sent) for one, sent in mill.sent.items()}


async def test_marks_during_a_read_are_not_lost(one: Parts) -> None:
    """What is marked while the reader looks was perhaps not visible to it: it looks again."""
    webhook_id = await new_webhook(one.connection)
    events = await events_of(one, 60)
    mill = mill_of(one)
    rng = random.Random(11)
    async with running(mill.waiting.run(), mill.send()):
        for place, event in enumerate(events):
            mill.waiting.mark(LANE, webhook_id, event[1])  # begins a read that finds nothing yet, or this
            await asyncio.sleep(rng.uniform(0, 0.006))
            await one.fan_out([event], [webhook_id])
            mill.waiting.mark(LANE, webhook_id, event[1])
            await idle(one, mill.waiting)
            assert place + 1 == mill.count()
    assert [number for _, number in events] == mill.sent[webhook_id]


async def test_what_commits_between_the_rows_of_a_page_under_way_is_found(one: Parts) -> None:
    """Its id is above the reader's position and below what the page holds, which does not hold it."""
    webhook_id = await new_webhook(one.connection)
    events = await events_of(one, 6)
    late = events.pop(2)
    await one.fan_out(events, [webhook_id])
    backlog = Stepwise(one.store.link("slow"), one.shared.shard)
    mill = mill_of(one, backlog)
    mill.waiting.mark(LANE, webhook_id, events[0][1])
    async with running(mill.waiting.run(), mill.send()):
        await backlog.asked(1)
        await one.fan_out([late], [webhook_id])
        mill.waiting.mark(LANE, webhook_id, late[1])
        backlog.answers.release()
        backlog.answer_all()
        await idle(one, mill.waiting)
    assert sorted(number for _, number in (*events, late)) == sorted(mill.sent[webhook_id])


async def test_webhook_that_is_stuck_holds_up_nobody(one: Parts) -> None:
    """One whose requests never end keeps its own room; the others' come back."""
    stuck, free = [await new_webhook(one.connection) for _ in range(2)]
    events = await events_of(one, 60)
    await one.fan_out(events, [stuck, free])
    waiting = waiting_of(one)
    for webhook_id in (stuck, free):
        waiting.mark(LANE, webhook_id, events[0][1])
    sent: list[OutboxId] = []
    async with running(waiting.run()):
        while len(sent) < len(events):
            async with asyncio.timeout(20):
                await waiting.pushed.wait()
            waiting.pushed.clear()
            for pending in one.take_all():
                if pending.key.webhook_id == free:
                    sent.append(pending.key.outbox_id)
                    one.lanes.landed(pending)
                    await one.record(attempted(pending.key))
                    one.lanes.settled(pending)
                    waiting.settled(pending)
                    waiting.pushed.set()
        await wait_for(lambda: [stuck] == [one for one, _ in waiting.positions(LANE)], "the free one is done")
    assert [number for _, number in events] == sent
    assert 8 == one.lanes.room.held


async def test_webhooks_of_a_host_that_has_its_share_come_back_in_turns(one: Parts) -> None:
    """Many wait for one host's room, and hold nothing themselves: each that is settled lets one in."""
    webhook_ids = [await new_webhook(one.connection) for _ in range(40)]
    (event,) = await events_of(one, 1)
    await one.fan_out([event], webhook_ids)
    shared = replace(one.shared, lanes=Lanes(one.limits, lambda _: "one host"))
    made = replace(one, shared=shared)
    mill = mill_of(made)
    for webhook_id in webhook_ids:
        mill.waiting.mark(LANE, webhook_id, event[1])
    async with running(mill.waiting.run()):
        await wait_for(lambda: made.lanes.room.held == 22, "of 24: eight times what is free")
        async with running(mill.send()):
            await idle(made, mill.waiting)
    assert 40 == mill.count()


async def test_revisions_follow_their_alerts(one: Parts) -> None:
    """What waits behind a webhook's alerts has its turn as soon as none of those is left to be read."""
    webhook_id = await new_webhook(one.connection)
    alerts, revisions = await events_of(one, 30), await events_of(one, 5)
    await one.fan_out(alerts, [webhook_id])
    await one.fan_out(revisions, [webhook_id], lane=Lane.EVENT)
    mill = mill_of(one)
    mill.waiting.mark(Lane.EVENT, webhook_id, revisions[0][1])
    mill.waiting.mark(Lane.ALERT, webhook_id, alerts[0][1])
    async with running(mill.waiting.run(), mill.send()):
        await wait_for(lambda: mill.count() == 35, "everything is sent")
    assert [number for _, number in alerts + revisions] == mill.sent[webhook_id]


async def test_checkpoint_remembers_what_is_not_settled(one: Parts) -> None:
    """A restart from the positions of a checkpoint finds everything that had not been attempted."""
    webhook_id = await new_webhook(one.connection)
    events = await events_of(one, 30)
    keys = await one.fan_out(events, [webhook_id])
    first = waiting_of(one)
    first.mark(LANE, webhook_id, events[0][1])
    assert [(webhook_id, events[0][1] - 1)] == first.positions(LANE)
    async with running(first.run()):
        await wait_for(lambda: sum(one.lanes.queued_in) == 8, "a page is in memory")
        taken = one.take_all()
        await one.record(*(attempted(pending.key) for pending in taken[:3]))
        for pending in taken[:3]:
            one.land(pending)
            first.settled(pending)
        positions = first.positions(LANE)
    assert [webhook_id] == [one for one, _ in positions]
    assert positions[0][1] < keys[3].outbox_id
    again = one.without_memory()
    second = mill_of(again)
    second.waiting.restore(LANE, positions)
    async with running(second.waiting.run(), second.send()):
        await idle(again, second.waiting)
    assert [key.outbox_id for key in keys[3:]] == second.sent[webhook_id]


async def test_attempt_that_is_over_is_not_made_again(one: Parts) -> None:
    """Read as open, recorded meanwhile: the claim tells, and its room is free for the others."""
    webhook_id = await new_webhook(one.connection)
    events = await events_of(one, 12)
    keys = await one.fan_out(events, [webhook_id])
    reader, lanes = one.backlog(), one.lanes
    rows = await reader.waiting(webhook_id, LANE, OutboxId(0), 8)
    assert keys[:8] == [row.key for row in rows]
    await one.record(*(attempted(key) for key in keys[:4]))
    assert set(keys[:4]) == await one.ledger().claim([(row.key, 1) for row in rows])
    mill = mill_of(one)
    mill.waiting.mark(LANE, webhook_id, events[0][1])
    async with running(mill.waiting.run(), mill.send()):
        await idle(one, mill.waiting)
    assert [key.outbox_id for key in keys[4:]] == mill.sent[webhook_id]
    assert (0, 0) == (lanes.room.held, lanes.room.held_bytes)


async def test_claims_are_remembered_until_they_are_settled(one: Parts) -> None:
    """Since when a crash would leave something open: what a restart has to look through."""
    webhook_id = await new_webhook(one.connection)
    events = await events_of(one, 8)
    await one.fan_out(events, [webhook_id])
    waiting = waiting_of(one)
    before = waiting.claimed_since()
    waiting.mark(LANE, webhook_id, events[0][1])
    async with running(waiting.run()):
        await wait_for(lambda: sum(one.lanes.queued_in) == 8, "all are in memory")
        since = waiting.claimed_since()
        assert before <= since
        claimed_at = await one.connection.fetchval("select min(claimed_at) from claim")
        assert since <= claimed_at
        assert since == waiting.claimed_since()
