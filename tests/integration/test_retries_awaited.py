"""Memory is full of what waits for retries: they come all the same, and all else keeps to its bounds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest

from dispatcher.core.delivery import STEP, Kind, State
from dispatcher.core.ids import DeliveryKey, WebhookId
from dispatcher.core.lanes import Admission
from dispatcher.core.pending import Lane
from dispatcher.daemon.retries import Retries
from dispatcher.store.ledger import FactRow
from dispatcher.store.redelivery import redeliver
from tests.integration.test_retries import attempts, finish, retries_of, utc_now, wait_taken
from tests.parts import ABOUT_ONE, Parts, attempted, failed, insert, new_webhook, parts, running
from tests.postgres import Database

MINUTE = dt.timedelta(minutes=1)


def comes_again(key: DeliveryKey, kind: Kind, at: dt.datetime) -> FactRow:
    """Give the fact of a first attempt that was not made, or not to its end."""
    return attempted(
        key, kind=kind, step=STEP[kind], state=State.PENDING, status_code=None, next_attempt_at=at
    )


def hold(one: Parts, keys: Sequence[DeliveryKey]) -> None:
    """Take into memory whatever of these finds room."""
    for held in filter(None, map(one.bring, keys)):
        one.shared.order.push(held)


def send(one: Parts, keys: Sequence[DeliveryKey], due_at: dt.datetime) -> None:
    """Make first attempts that are to be repeated."""
    for key in keys:
        first = one.bring(key)
        assert first is not None
        one.shared.order.push(first)
        assert one.lanes.take(0) is first
        one.land(first)
        one.shared.order.settled(first, due_at, utc_now())


async def about_one(one: Parts, events: int, webhooks: int, ordering: str) -> list[DeliveryKey]:
    """Write deliveries about one earthquake, event by event."""
    webhook_ids = [await new_webhook(one.connection, ordering=ordering) for _ in range(webhooks)]
    await one.shared.registry.refresh()
    return await one.fan_out(
        [await insert(one.connection) for _ in range(events)], webhook_ids, body=ABOUT_ONE
    )


def others(one: Parts, key: DeliveryKey, count: int) -> list[DeliveryKey]:
    """Fill memory with deliveries for other webhooks."""
    made = [DeliveryKey(key.day, key.outbox_id, WebhookId(1000 + number)) for number in range(count)]
    for each in made:
        assert one.lanes.admit(Lane.ALERT, each, 2) is Admission.ADMITTED
    return made


@pytest.mark.parametrize(
    ("bound", "then"), [("max_queued", "strict"), ("max_queued_bytes", "strict"), ("max_queued", "subject")]
)
async def test_memory_full_of_what_waits(database: Database, bound: str, then: str) -> None:
    """Webhooks of strict order hold what follows a failure: each gets its retry all the same.

    Also where they were of strict order when that began to wait, and are `then` of another.
    """
    of_each: dict[str, Any] = {"max_queued": 1, "max_queued_bytes": len(ABOUT_ONE)}
    async with parts(database, **{bound: 10 * of_each[bound]}) as one:
        keys = await about_one(one, 3, 8, "strict")
        past = utc_now() - MINUTE
        send(one, keys[:8], past)
        await one.record(*(failed(key, 1, past) for key in keys[:8]))
        hold(one, keys[8:])
        assert (8, []) == (one.lanes.room.held, one.take_all()), "retries may have 7"
        await one.connection.execute("update webhook set ordering = $1", then)
        await one.shared.registry.refresh()
        retries = retries_of(one)
        async with running(retries.run()):
            retried = await wait_taken(one, retries, 8)
            assert {(key, 2) for key in keys[:8]} == set(attempts(retried))
            await finish(one, retries, retried)
            for each in retried:
                one.shared.order.over(each)
        assert 8 == len(one.take_all()), "what follows goes"


@pytest.mark.parametrize("kind", [Kind.ATTEMPTED, Kind.INTERRUPTED])
async def test_a_webhook_alone(database: Database, kind: Kind) -> None:
    """Its share is full of what waits for its first event, which failed or was interrupted."""
    async with parts(database, max_queued=12) as one:
        keys = await about_one(one, 12, 1, "strict")
        past = utc_now() - MINUTE
        send(one, keys[:1], past)
        again = failed(keys[0], 1, past) if kind is Kind.ATTEMPTED else comes_again(keys[0], kind, past)
        await one.record(again)
        hold(one, keys[1:])
        assert (4, []) == (one.lanes.room.held, one.take_all())
        retries = retries_of(one)
        async with running(retries.run()):
            (taken,) = await wait_taken(one, retries, 1)
            assert keys[0] == taken.key


async def test_the_earliest_of_a_subject(database: Database) -> None:
    """The retry of a later one, which is due first, would wait as well: it takes no room from the other."""
    async with parts(database, max_queued=10) as one:
        keys = await about_one(one, 3, 1, "strict")
        for key in keys[:2]:  # as after a restart
            one.shared.order.expect(key.webhook_id, "event evt_1", key.outbox_id)
        now = utc_now()
        await one.record(failed(keys[1], 1, now - 2 * MINUTE), failed(keys[0], 1, now - MINUTE))
        hold(one, keys[2:])
        others(one, keys[0], 7)
        retries = retries_of(one)
        async with running(retries.run()):
            (taken,) = await wait_taken(one, retries, 1)
            assert keys[0] == taken.key


async def looked(one: Parts, retries: Retries, looks: int) -> None:
    """Wait until the schedule has looked at everything that waits for room, so many times.

    An alert of a webhook of its own comes with the first half of each look.
    """
    webhook_id = await new_webhook(one.connection)
    for _ in range(looks + 1):
        (key,) = await one.fan_out([await insert(one.connection)], [webhook_id])
        await one.record(comes_again(key, Kind.INTERRUPTED, utc_now()))
        retries.ring()
        taken = await wait_taken(one, retries, 1)
        assert [(key, 2)] == attempts(taken)
        await finish(one, retries, taken)


async def test_alerts_keep_their_room(database: Database) -> None:
    """By the default order nothing waits for ever: retries keep within their bounds."""
    async with parts(database, max_queued=20) as one:
        keys = await about_one(one, 3, 7, "subject")
        for key in keys[7:14]:
            held = one.bring(key)
            assert held is not None
            one.shared.order.push(held)
            assert one.lanes.take(0) is held
        hold(one, keys[14:])
        assert (14, 7) == (one.lanes.room.held, one.shared.order.waiting), "retries may have 14"
        past = utc_now() - MINUTE
        await one.record(*(failed(key, 1, past) for key in keys[:7]))
        retries = retries_of(one)
        async with running(retries.run()):
            await looked(one, retries, 2)
            assert (14, 7) == (one.lanes.room.held, retries.due)


async def test_a_postponed_one_without_room(database: Database) -> None:
    """It comes when there is room, however long that takes."""
    async with parts(database, max_queued=10) as one:
        webhook_id = await new_webhook(one.connection)
        (key,) = await one.fan_out([await insert(one.connection)], [webhook_id], lane=Lane.ROUTINE)
        past = utc_now() - MINUTE
        await one.record(comes_again(key, Kind.POSTPONED, past))
        there = others(one, key, 8)
        retries = retries_of(one)
        async with running(retries.run()):
            await looked(one, retries, 2)
            assert (1, True) == (retries.due, retries.low() <= past)
            for other in there:
                one.lanes.give_up(Lane.ALERT, other, 2)
            retries.ring()
            (taken,) = await wait_taken(one, retries, 1)
            assert key == taken.key


async def test_nothing_waits_for_what_is_asked_for_by_hand(database: Database) -> None:
    """It stands in no line: a restart that waited for it would hold what follows of its subject for ever."""
    async with parts(database) as one:
        by_hand, retried = await about_one(one, 2, 1, "strict")
        await one.record(
            attempted(by_hand, state=State.FAILED, status_code=500),
            failed(retried, 1, utc_now() + MINUTE),
        )
        assert await redeliver(one.store, by_hand, actor="key_1")
        assert [retried] == [row.key for row in await one.backlog().awaited()]


async def test_what_was_put_off_is_waited_for_whatever_was_set_since(database: Database) -> None:
    """After a restart nothing of a sensor passes its `sensor.offline`, also where settle_s is gone."""
    async with parts(database) as one:
        webhook_id = await new_webhook(one.connection, settle_s=600)
        offline, others_retry = await one.fan_out(
            [await insert(one.connection) for _ in range(2)], [webhook_id], lane=Lane.ROUTINE
        )
        later = utc_now() + MINUTE
        await one.record(comes_again(offline, Kind.POSTPONED, later), failed(others_retry, 1, later))
        assert [offline] == [row.key for row in await one.backlog().awaited()]
        await one.connection.execute(
            "update webhook set settle_s = null, updated_at = now() where id = $1", webhook_id
        )
        assert [offline] == [row.key for row in await one.backlog().awaited()]


async def test_retries_do_not_stand_behind_what_is_asked_for_by_hand(database: Database) -> None:
    """Of that there may be less in memory; what finds no room there keeps no retry of its webhook back."""
    async with parts(database, max_queued=20) as one:
        keys = await about_one(one, 4, 1, "none")
        await one.record(*(attempted(key, state=State.FAILED, status_code=500) for key in keys[:3]))
        for key in keys[:3]:
            assert await redeliver(one.store, key, actor="key_1")
        await one.record(failed(keys[3], 1, utc_now()))
        there = others(one, keys[0], 10)
        retries = retries_of(one)
        async with running(retries.run()):
            taken = await wait_taken(one, retries, 1)
            assert [(keys[3], 2)] == attempts(taken)
            await finish(one, retries, taken)
            for other in there:
                one.lanes.give_up(Lane.ALERT, other, 2)
            retries.ring()
            assert [(key, 2) for key in keys[:3]] == attempts(await wait_taken(one, retries, 3))


@pytest.mark.parametrize("asked", [True, False])
async def test_what_is_due_goes_on_beside_receivers_that_hang(database: Database, *, asked: bool) -> None:
    """They leave no room to retries and redeliveries: of each webhook one at a time finds some."""
    async with parts(database, max_queued=100) as one:
        webhook_id = await new_webhook(one.connection)
        keys = await one.fan_out([await insert(one.connection) for _ in range(3)], [webhook_id])
        past = utc_now() - MINUTE
        await one.record(*(attempted(key) if asked else failed(key, 1, past) for key in keys))
        others(one, keys[0], 60 if asked else 85)
        for key in keys if asked else ():
            assert await redeliver(one.store, key, actor="key_1")
        retries = retries_of(one)
        async with running(retries.run()):
            for key in keys:
                taken = await wait_taken(one, retries, 1)
                assert [(key, 2)] == attempts(taken)
                await finish(one, retries, taken)
        assert 60 + 25 * (not asked) == one.lanes.room.held
