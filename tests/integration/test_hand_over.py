"""Who has caught up with what waits in the database is told from memory again; nothing passes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dispatcher.core.ids import DeliveryKey, WebhookId
from dispatcher.core.pending import Payload, Pending
from tests.mill import LANE, NOW, Mill, Stepwise, events_of, idle, mill_of
from tests.parts import Event, Parts, new_webhook, parts, running
from tests.postgres import Database, wait_for


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database, with room for little."""
    async with parts(database, max_queued=24, max_in_flight=12) as made:
        yield made


async def test_a_steady_flow_goes_straight_again(database: Database) -> None:
    """Whoever has caught up but for what is just being written needs no database to come any more."""
    async with parts(database, max_queued=120, max_in_flight=12) as one:
        webhook_id = await new_webhook(one.connection)
        events = await events_of(one, 2000)
        mill = mill_of(one)
        for event in events[:150]:
            await mill.fan_out(event, [webhook_id])
        assert mill.waiting.reads(LANE, webhook_id)
        flowed = 150
        async with running(mill.waiting.run(), mill.send()):
            while mill.waiting.reads(LANE, webhook_id):
                await mill.fan_out(events[flowed], [webhook_id])
                flowed += 1
            straight = mill.went_straight
            await mill.fan_out(events[flowed], [webhook_id])
            assert straight + 1 == mill.went_straight
            await idle(one, mill.waiting)
        assert [number for _, number in events[: flowed + 1]] == mill.sent[webhook_id]
        assert mill.batch == mill.progress.low(LANE)


async def handing_over(one: Parts, mill: Mill, backlog: Stepwise) -> tuple[WebhookId, list[Event]]:
    """Let a webhook's reader ask for the last that came by the database: two events of those given."""
    webhook_id = await new_webhook(one.connection)
    events = await events_of(one, 30)
    await one.fan_out(events[:1], [webhook_id])
    mill.waiting.mark(LANE, webhook_id, events[0][1])
    await backlog.asked(1)
    await mill.fan_out(events[1], [webhook_id])
    backlog.answers.release()
    await backlog.asked(2)
    return webhook_id, events


async def test_what_comes_during_a_hand_over_stays_behind(one: Parts) -> None:
    """It is in memory, and goes once what was written before it was read back."""
    backlog = Stepwise(one.store.link("slow"), one.shared.shard)
    mill = mill_of(one, backlog)
    async with running(mill.waiting.run(), mill.send()):
        webhook_id, events = await handing_over(one, mill, backlog)
        for event in events[2:6]:
            await mill.fan_out(event, [webhook_id])
        assert 4 == mill.went_straight
        await wait_for(lambda: mill.count() == 1, "the first page is sent")
        backlog.answers.release()
        await idle(one, mill.waiting)
    assert [number for _, number in events[:6]] == mill.sent[webhook_id]
    assert (2, mill.batch) == (backlog.reads, mill.progress.low(LANE))


async def test_a_hand_over_for_which_there_is_no_room_is_given_up(one: Parts) -> None:
    """What was behind goes back to the database, so that nothing passes what found no room."""
    backlog = Stepwise(one.store.link("slow"), one.shared.shard)
    mill = mill_of(one, backlog)
    async with running(mill.waiting.run(), mill.send()):
        webhook_id, events = await handing_over(one, mill, backlog)
        for event in events[2:]:
            await mill.fan_out(event, [webhook_id])
        assert mill.waiting.waits(LANE, webhook_id)
        assert mill.batch == mill.progress.low(LANE)
        assert mill.waiting.positions(LANE)[0][1] <= events[0][1]  # a checkpoint forgets none of them
        backlog.answers.release()
        backlog.answer_all()
        await idle(one, mill.waiting)
    assert [number for _, number in events] == mill.sent[webhook_id]


async def test_those_behind_may_hold_all_the_room(database: Database) -> None:
    """Then nothing is settled, and no page would ever be read: they give it back."""
    async with parts(database, max_queued=8, max_in_flight=12) as one:
        backlog = Stepwise(one.store.link("slow"), one.shared.shard)
        mill = mill_of(one, backlog)
        webhook_ids = [await new_webhook(one.connection) for _ in range(9)]
        events = await events_of(one, 3)
        await one.fan_out(events[:1], webhook_ids)
        for webhook_id in webhook_ids:
            mill.waiting.mark(LANE, webhook_id, events[0][1])
        async with running(mill.waiting.run(), mill.send()):
            for number, webhook_id in enumerate(webhook_ids, 1):
                await backlog.asked(number)
                mill.waiting.mark(LANE, webhook_id, events[2][1])  # and so it hands over
                backlog.answers.release()
            await backlog.asked(10)
            await wait_for(lambda: mill.count() == 9 and not one.lanes.room.held, "what waited is sent")
            await mill.fan_out(events[1], webhook_ids[1:])
            assert (8, 8) == (mill.went_straight, one.lanes.room.held)
            backlog.answers.release()
            backlog.answer_all()
            await idle(one, mill.waiting)
        assert 17 == mill.count()


async def test_the_reader_comes_by_while_they_are_written(one: Parts) -> None:
    """It finds all the webhook's room taken, and nothing behind that it could give back yet."""
    backlog = Stepwise(one.store.link("slow"), one.shared.shard)
    mill = mill_of(one, backlog)
    webhook_id, second, third = [await new_webhook(one.connection) for _ in range(3)]
    events = await events_of(one, 20)
    await one.fan_out(events[:1], [webhook_id, second, third])
    for each in (webhook_id, second):
        mill.waiting.mark(LANE, each, events[0][1])
    async with running(mill.waiting.run(), mill.send()):
        await backlog.asked(1)
        mill.waiting.mark(LANE, webhook_id, events[-1][1])  # and so it hands over
        backlog.answers.release()
        await backlog.asked(2)
        await wait_for(lambda: mill.count() == 1 and not one.lanes.room.held, "what waited is sent")
        taken: list[Event] = []
        while one.lanes.room_for(LANE, webhook_id):
            taken.append(events[1 + len(taken)])
            assert mill.admit(DeliveryKey(*taken[-1], webhook_id))
        backlog.answers.release()
        backlog.answer_all()
        await wait_for(lambda: mill.count() == 2, "the second is told")
        mill.waiting.mark(LANE, third, events[0][1])
        await wait_for(lambda: mill.count() == 3, "the third is told: it came behind the first")
        await one.fan_out(taken, [webhook_id], claimed=True)
        mill.batch += 1
        mill.progress.opened(LANE, mill.batch, len(taken))
        for event in taken:
            payload = Payload("event.detected", b"{}", NOW, test=False)
            assert mill.waiting.queue(
                Pending(DeliveryKey(*event, webhook_id), LANE, payload, batch=mill.batch)
            )
        await idle(one, mill.waiting)
    assert [number for _, number in events[: 1 + len(taken)]] == mill.sent[webhook_id]
