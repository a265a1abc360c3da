"""The recorder: every fact becomes durable, once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from functools import partial

import msgspec
import pytest

from dispatcher.core.delivery import Kind, State, Trigger
from dispatcher.core.errors import LeaseLost, UnwritableFact
from dispatcher.core.ids import DeliveryKey
from dispatcher.core.lanes import Admission
from dispatcher.core.pending import Lane, Payload, Pending
from dispatcher.daemon.recorder import BATCH_ROWS, Recorder
from dispatcher.store.ledger import FactRow, cancelled
from tests.parts import Parts, attempted, failed, insert, new_webhook, parts, running
from tests.postgres import Database, wait_for

NOW = dt.datetime(2026, 11, 21, 14, 0, 0, 123456, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
MICROSECOND = dt.timedelta(microseconds=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database."""
    async with parts(database) as made:
        yield made


async def keys_of(one: Parts, count: int) -> list[DeliveryKey]:
    """Write so many deliveries of one event, each to a webhook of its own number."""
    event = await insert(one.connection)
    first = await new_webhook(one.connection)
    return await one.fan_out([event], [type(first)(first + n) for n in range(count)])


def pending(one: Parts, key: DeliveryKey) -> Pending:
    """Let a delivery be on its way."""
    assert one.lanes.admit(Lane.EVENT, key, 2) is Admission.ADMITTED
    made = Pending(key, Lane.EVENT, Payload("x.y", b"{}", NOW, test=False))
    one.lanes.push(made)
    assert made is one.lanes.take(0)
    return made


class Durable:
    """What the recorder said is durable, in the order in which it said so."""

    def __init__(self) -> None:
        self.facts: list[FactRow] = []

    def __call__(self, _pending: Pending, fact: FactRow) -> None:
        """Note a fact."""
        self.facts.append(fact)


async def test_facts_become_durable_in_their_order(one: Parts) -> None:
    """More than one batch; who handed them over hears of each, and of the end."""
    keys, durable = await keys_of(one, BATCH_ROWS + 50), Durable()
    recorder = Recorder(one.shared, one.store.link("recorder"), durable)
    facts = [attempted(key) for key in keys]
    async with running(recorder.run()):
        for key, fact in zip(keys, facts, strict=True):
            await recorder.put(fact, pending(one, key))
        await recorder.drained()
    assert facts == durable.facts
    assert len(keys) == await one.connection.fetchval("select count(*) from delivery_event")


async def test_every_field_is_kept(one: Parts) -> None:
    """Bytes, times to the microsecond, text of any language, and what is absent stays absent."""
    (key,) = await keys_of(one, 1)
    fact = FactRow(
        day=key.day,
        outbox_id=key.outbox_id,
        webhook_id=key.webhook_id,
        attempt_no=3,
        step=2,
        kind=Kind.ATTEMPTED,
        state=State.PENDING,
        trigger=Trigger.RETRY,
        failures=2,
        started_at=NOW,
        duration_ms=12.5,
        status_code=503,
        error_class="server_error",
        error_message='in wörds "🌋" \\u0000 \\',
        next_attempt_at=NOW + dt.timedelta(microseconds=1),
        address="[2001:db8::1]:443",
        request_headers='[["A","\\u0000"]]',
        response_headers="[]",
        response_body=bytes(range(256)),
        response_truncated=True,
        timings='{"dns_ms":0.1}',
    )
    await one.record(fact, cancelled(key, 4, 2, "webhook deleted"))
    columns = ", ".join(FactRow.__struct_fields__)
    rows = await one.connection.fetch(f"select {columns} from delivery_event order by attempt_no")
    assert fact == FactRow(**rows[0])
    assert cancelled(key, 4, 2, "webhook deleted") == msgspec.structs.replace(
        FactRow(**rows[1]), trigger=None
    )
    assert one.shared.run_id == await one.connection.fetchval("select distinct run_id from delivery_event")


async def test_repeated_batch_is_absorbed(one: Parts) -> None:
    """A write whose answer was lost is repeated; the first record of an attempt stands."""
    first, second = await keys_of(one, 2)
    for _ in range(2):
        await one.record(attempted(first), attempted(second))
    await one.record(attempted(first, status_code=500, state=State.FAILED))
    expected = [(1, Kind.ATTEMPTED, State.DELIVERED)]
    assert [expected, expected] == [await one.facts(key) for key in (first, second)]
    assert 200 == await one.connection.fetchval("select max(status_code) from delivery_event")


async def test_unwritable_fact_is_set_apart(one: Parts) -> None:
    """The others of its batch keep their details; of the bad one it is recorded that it was made."""
    keys, durable = await keys_of(one, 5), Durable()
    recorder = Recorder(one.shared, one.store.link("recorder"), durable)
    facts = [attempted(key, error_message="fine", response_body=b"ok") for key in keys]
    facts[2] = msgspec.structs.replace(facts[2], error_message="a\x00b")
    with pytest.raises(UnwritableFact):
        await one.record(*facts)
    assert 0 == await one.connection.fetchval("select count(*) from delivery_event")
    for key, fact in zip(keys, facts, strict=True):
        await recorder.put(fact, pending(one, key))
    async with running(recorder.run()):
        await recorder.drained()
    rows = await one.connection.fetch(
        "select error_message, response_body, state from delivery_event order by webhook_id"
    )
    fine, bare = ("fine", b"ok", "delivered"), ("details could not be recorded", None, "delivered")
    assert [fine, fine, bare, fine, fine] == [tuple(row) for row in rows]
    assert keys == [DeliveryKey(fact.day, fact.outbox_id, fact.webhook_id) for fact in durable.facts]


async def test_fact_of_a_dropped_month(one: Parts) -> None:
    """It has no place any more: the others of its batch are recorded, and nobody claims or awaits it."""
    keys, durable = await keys_of(one, 3), Durable()
    keys[1] = DeliveryKey(dt.date(2001, 1, 1), *keys[1][1:])
    assert {keys[1]} == await one.ledger().claim([(key, 1) for key in keys])
    recorder = Recorder(one.shared, one.store.link("recorder"), durable)
    for key in keys:
        await recorder.put(attempted(key), pending(one, key))
    async with running(recorder.run()):
        await recorder.drained()
    rows = await one.connection.fetch("select webhook_id from delivery_event order by webhook_id")
    assert [keys[0].webhook_id, keys[2].webhook_id] == [row[0] for row in rows]
    assert keys == [DeliveryKey(fact.day, fact.outbox_id, fact.webhook_id) for fact in durable.facts]


async def test_nothing_is_recorded_without_the_lead(one: Parts) -> None:
    """A run that another one followed writes nothing, and hears why."""
    (key,) = await keys_of(one, 1)
    recorder = Recorder(one.shared, one.store.link("recorder"), Durable())
    await one.shared.lease.release()
    assert await one.shared.lease.take() != one.shared.run_id
    await recorder.put(attempted(key), None)
    with pytest.raises(LeaseLost):
        await recorder.run()
    for writing in (
        one.ledger().claim([(key, 1)]),
        one.ledger().checkpoint(Lane.ALERT, 1, []),
        one.fan_out([await insert(one.connection)], []),
    ):
        with pytest.raises(LeaseLost):
            await writing
    assert 0 == await one.ledger().cancel_pending(key.webhook_id, "x", [])
    for table in ("delivery_event", "claim", "tail_checkpoint"):
        assert 0 == await one.connection.fetchval(f"select count(*) from {table}")
    assert 1 == await one.connection.fetchval("select count(*) from tail_position")


async def test_whoever_hands_over_too_much_waits(one: Parts) -> None:
    """An outage holds the senders, not memory: so many facts wait, and no more are begun."""
    (key,) = await keys_of(one, 1)
    recorder = Recorder(one.shared, one.store.link("recorder"), Durable())
    handed = 0

    async def hand_over() -> None:
        nonlocal handed
        for attempt_no in range(1, 6_001):
            await recorder.put(attempted(key, attempt_no), None)
            handed += 1

    handing = asyncio.create_task(hand_over())
    # Nothing that it waits for can happen yet: it comes to a halt after some turns of the loop.
    before = -1
    while handed != before:
        before = handed
        await asyncio.sleep(0)
    assert not handing.done()
    assert 5_000 <= handed < 5_100
    async with running(recorder.run()):
        await handing
        await recorder.drained()
    assert 6_000 == await one.connection.fetchval("select count(*) from delivery_event")


async def test_outage_loses_and_doubles_nothing(database: Database, one: Parts) -> None:
    """Sessions are ended again and again while facts are written: each is there once, and reported once."""
    keys, durable = await keys_of(one, 400), Durable()
    recorder = Recorder(one.shared, one.store.link("recorder"), durable)
    written = 0

    async def hand_over() -> None:
        nonlocal written
        for key in keys:
            await recorder.put(attempted(key), pending(one, key))
            written += 1
            await asyncio.sleep(0.001)

    async def break_connections() -> None:
        admin = await database.connect()
        try:
            while written < len(keys):
                await admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = 'dispatcher ledger' and datname = current_database()"
                )
                await asyncio.sleep(0.02)
        finally:
            await admin.close()

    async with running(recorder.run()):
        await asyncio.gather(hand_over(), break_connections())
        await recorder.drained()
    assert [attempted(key) for key in keys] == durable.facts
    assert len(keys) == await one.connection.fetchval("select count(*) from delivery_event")


async def test_claim_gives_what_is_over(one: Parts) -> None:
    """An attempt whose fact came meanwhile is not made again; a retry of it may be."""
    keys = await keys_of(one, 4)
    await one.record(attempted(keys[0]), failed(keys[1], 1, NOW), cancelled(keys[2], 1, 0, "x"))
    assert {keys[0], keys[1], keys[2]} == await one.ledger().claim([(key, 1) for key in keys])
    assert set() == await one.ledger().claim([(keys[1], 2), (keys[3], 1)])
    rows = await one.connection.fetch("select webhook_id, attempt_no from claim order by 1, 2")
    assert [(keys[1].webhook_id, 2), (keys[3].webhook_id, 1)] == [tuple(row) for row in rows]
    assert set() == await one.ledger().claim([])


async def test_nothing_is_recorded_before_a_restart_would_find_it(one: Parts) -> None:
    """Two put the search back, the first one's connection ends: the second one does not rely on it."""
    (key,) = await keys_of(one, 1)
    now = dt.datetime.now(dt.UTC)
    earlier, between = now - 2 * HOUR, now - HOUR
    recorder = Recorder(one.shared, one.store.link("recorder"), Durable())
    await recorder.search_from(now)
    waits = partial(one.connection.fetchval, "select pid from pg_locks where not granted")
    async with running(recorder.run()), asyncio.TaskGroup() as group:
        async with one.connection.transaction():
            await one.connection.execute("lock table tail_checkpoint in access exclusive mode")
            group.create_task(recorder.reach_back(earlier))
            first = await wait_for(waits, "the search is put back")
            await recorder.put(failed(key, 1, between), None)
            await one.connection.fetchval("select pg_terminate_backend($1)", first)
            await wait_for(lambda: one.shared.outage.reason is not None, "the connection has ended")
            await wait_for(waits, "the search is put back again")
            assert [] == await one.facts(key)
        await recorder.drained()
    assert [(1, Kind.ATTEMPTED, State.PENDING)] == await one.facts(key)
    low, _ = await one.backlog().checkpoint(Lane.RETRY)
    assert (earlier - EPOCH) // MICROSECOND == low
