"""After a crash: what a dead run may have sent is written down, and nothing else is."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dispatcher.core.delivery import Kind, State, Trigger
from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.pending import Lane
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.recorder import Recorder
from dispatcher.daemon.rescuer import Rescuer
from dispatcher.daemon.retries import Retries
from dispatcher.daemon.shared import BEGINNING
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.redelivery import redeliver
from tests.parts import Parts, attempted, failed, insert, new_webhook, parts
from tests.postgres import Database

INTERRUPTED = (1, Kind.INTERRUPTED, State.PENDING)


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database: the run that is going to die."""
    async with parts(database) as made:
        yield made


async def followed(one: Parts) -> Parts:
    """Let another run take the lead, with nothing in memory."""
    await one.shared.lease.release()
    run_id = await one.shared.lease.take()
    assert run_id is not None
    fresh = one.without_memory()
    made = replace(fresh, shared=replace(fresh.shared, run_id=run_id))
    made.batch = one.batch
    return made


async def rescue(one: Parts, set_back: dt.timedelta | None = None) -> tuple[Waiting, Retries]:
    """Search for what the runs before left open; `set_back`: by how much the clock was since it began."""
    waiting = Waiting(one.shared, one.backlog(), one.ledger(), Progress())
    retries = Retries(one.shared, one.backlog(), one.ledger(), stopped=lambda _: None)
    batches = dict.fromkeys((Lane.ALERT, Lane.EVENT, Lane.ROUTINE), one.batch)
    recorder = Recorder(one.shared, one.store.link("recorder"), lambda *_: None)
    if set_back is not None:
        await recorder.search_from(dt.datetime.now(dt.UTC) + set_back)
    rescuer = Rescuer(one.shared, one.backlog(), waiting, retries, recorder)
    await rescuer.begin()
    await rescuer.interrupt(batches)
    await rescuer.run(batches)
    return waiting, retries


async def webhooks(one: Parts, count: int) -> list[WebhookId]:
    """Make webhooks."""
    return [await new_webhook(one.connection) for _ in range(count)]


async def open_facts(one: Parts, keys: list[DeliveryKey]) -> list[list[tuple[int, str, str]]]:
    """Give the facts of deliveries."""
    return [await one.facts(key) for key in keys]


async def ends(one: Parts) -> dict[int, str]:
    """Give how runs ended."""
    return dict(await one.connection.fetch("select run_id, how from run_end"))


async def test_what_was_in_memory_is_interrupted(one: Parts) -> None:
    """First attempts without a fact that the dead run had taken; what waited goes on waiting."""
    (webhook_id,) = await webhooks(one, 1)
    events = [await insert(one.connection) for _ in range(6)]
    taken = await one.fan_out(events[:3], [webhook_id], claimed=True)
    waiting_keys = await one.fan_out(events[3:], [webhook_id])
    await one.record(attempted(taken[0]))
    dead, again = one.shared.run_id, await followed(one)
    waiting, _ = await rescue(again)
    delivered = (1, Kind.ATTEMPTED, State.DELIVERED)
    assert [[delivered], [INTERRUPTED], [INTERRUPTED]] == await open_facts(again, taken)
    assert [[], [], []] == await open_facts(again, waiting_keys)
    assert [(webhook_id, waiting_keys[0].outbox_id - 1)] == waiting.positions(Lane.ALERT)
    assert {dead: "rescued"} == await ends(again)
    due = await again.backlog().due((BEGINNING, taken[0].outbox_id, webhook_id), dt.datetime.now(dt.UTC), 9)
    assert [(taken[1], 2, 0), (taken[2], 2, 0)] == [(row.key, row.attempt_no, row.failures) for row in due]
    rows = await again.connection.fetch(
        "select distinct reason, run_id from delivery_event where step = 2 and run_id > $1",
        dead,
    )
    assert [("crash", again.shared.run_id)] == [tuple(row) for row in rows]


async def test_the_clock_is_set_back_while_a_run_begins(one: Parts) -> None:
    """What is interrupted then is due by a clock that is behind: the next run looks for it all the same."""
    (webhook_id,) = await webhooks(one, 1)
    taken = await one.fan_out([await insert(one.connection)], [webhook_id], claimed=True)
    again = await followed(one)
    await rescue(again, dt.timedelta(hours=1))
    assert [[INTERRUPTED]] == await open_facts(again, taken)
    due_at = await again.connection.fetchval("select next_attempt_at from delivery_event")
    low_us, _ = await again.backlog().checkpoint(Lane.RETRY)
    assert BEGINNING + dt.timedelta(microseconds=low_us) <= due_at


async def test_read_back_attempts_are_interrupted(one: Parts) -> None:
    """Claims without a fact: of a first attempt, a retry and a request; with what their history says."""
    (webhook_id,) = await webhooks(one, 1)
    keys = await one.fan_out([await insert(one.connection) for _ in range(5)], [webhook_id])
    past = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
    await one.record(
        failed(keys[1], 2, past), attempted(keys[2], 1), attempted(keys[3], 4, state=State.FAILED)
    )
    for key in keys[2:4]:
        assert await redeliver(one.store, key, actor="key_1")
    await one.ledger().claim([(keys[0], 1), (keys[1], 3), (keys[2], 2), (keys[3], 5), (keys[4], 1)])
    await one.record(attempted(keys[4]))
    again = await followed(one)
    await rescue(again)
    rows = await again.connection.fetch(
        "select outbox_id, attempt_no, state, trigger, failures from delivery_event"
        " where kind = 'interrupted' order by outbox_id"
    )
    assert [
        (keys[0].outbox_id, 1, State.PENDING, Trigger.FIRST, 0),
        (keys[1].outbox_id, 3, State.PENDING, Trigger.RETRY, 2),
        (keys[2].outbox_id, 2, State.DELIVERED, Trigger.MANUAL, 0),
        (keys[3].outbox_id, 5, State.PENDING, Trigger.MANUAL, 0),
    ] == [tuple(row) for row in rows]


async def test_a_claim_is_found_however_old_it_is(one: Parts) -> None:
    """A shard that follows claims what it takes, and a hung receiver may keep it in memory for hours."""
    (webhook_id,) = await webhooks(one, 1)
    (key,) = await one.fan_out([await insert(one.connection)], [webhook_id])
    await one.connection.execute(
        "insert into claim (day, outbox_id, webhook_id, attempt_no, run_id, claimed_at)"
        " values ($1, $2, $3, 1, $4, now() - interval '5 hours')",
        *key,
        one.shared.run_id,
    )
    now_us = (dt.datetime.now(dt.UTC) - BEGINNING) // dt.timedelta(microseconds=1)
    await one.ledger().checkpoint(Lane.RETRY, now_us, [])
    again = await followed(one)
    await rescue(again)
    assert [INTERRUPTED] == await again.facts(key)


@pytest.mark.parametrize("trigger", [Trigger.FIRST, Trigger.MANUAL])
async def test_one_crash_after_the_other(one: Parts, trigger: Trigger) -> None:
    """An attempt stays what it was, however often it is cut off: made by hand, it gets no schedule."""
    (webhook_id,) = await webhooks(one, 1)
    (key,) = await one.fan_out([await insert(one.connection)], [webhook_id])
    number = 1
    if trigger is Trigger.MANUAL:
        await one.record(attempted(key, 1, state=State.FAILED))
        assert await redeliver(one.store, key, actor="key_1")
        number = 2
    current = one
    for attempt_no in range(number, number + 3):
        await current.ledger().claim([(key, attempt_no)])
        current = await followed(current)
        await rescue(current)
        (row,) = await current.backlog().due(
            (BEGINNING, key.outbox_id, webhook_id), dt.datetime.now(dt.UTC), 9
        )
        assert (attempt_no + 1, trigger, Kind.INTERRUPTED) == (row.attempt_no, row.trigger, row.kind)


async def test_run_that_ended_well_left_nothing(one: Parts) -> None:
    """What it had in memory was recorded or waits: nothing is interrupted."""
    (webhook_id,) = await webhooks(one, 1)
    keys = await one.fan_out([await insert(one.connection)], [webhook_id])
    await one.backlog().runs_ended(one.shared.run_id, [one.shared.run_id], "clean")
    again = await followed(one)
    waiting, _ = await rescue(again)
    assert [[]] == await open_facts(again, keys)
    assert [(webhook_id, keys[0].outbox_id - 1)] == waiting.positions(Lane.ALERT)
    assert {one.shared.run_id: "clean"} == await ends(again)


async def test_own_deliveries_are_left_alone(one: Parts) -> None:
    """New events are fanned out while the search goes on: they are nobody's remains."""
    (webhook_id,) = await webhooks(one, 1)
    old = await one.fan_out([await insert(one.connection)], [webhook_id], claimed=True)
    again = await followed(one)
    last_batch = again.batch
    own = await again.fan_out([await insert(one.connection)], [webhook_id], claimed=True)
    again.batch = last_batch
    await rescue(again)
    assert [[INTERRUPTED], []] == await open_facts(again, [*old, *own])


async def test_search_begins_at_the_checkpoint(one: Parts) -> None:
    """Up to it everything was attempted, but for the webhooks that it names."""
    first, second = await webhooks(one, 2)
    before = await one.fan_out([await insert(one.connection)], [first, second], claimed=True)
    await one.ledger().checkpoint(Lane.ALERT, 1, [(second, OutboxId(before[1].outbox_id - 1))])
    after = await one.fan_out([await insert(one.connection)], [first], claimed=True)
    again = await followed(one)
    waiting, _ = await rescue(again)
    assert [[], [], [INTERRUPTED]] == await open_facts(again, [*before, *after])
    assert [(second, before[1].outbox_id - 1)] == waiting.positions(Lane.ALERT)


async def test_another_leader_writes_nothing_more(one: Parts) -> None:
    """A run that lost the lead during its search leaves the rest to the next one."""
    (webhook_id,) = await webhooks(one, 1)
    keys = await one.fan_out([await insert(one.connection)], [webhook_id], claimed=True)
    await one.ledger().claim([(keys[0], 1)])
    late = await followed(one)
    await followed(late)
    await rescue(late)
    assert [[]] == await open_facts(late, keys)
    assert {} == await ends(late)
