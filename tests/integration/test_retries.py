"""The schedule: what is due comes back when it is due, once, however full memory is."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import pytest

from dispatcher.core.delivery import Kind, State, Trigger, judge
from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.lanes import Admission
from dispatcher.core.outcome import ErrorClass, NoAnswer, Timings
from dispatcher.core.pending import Lane, Payload, Pending
from dispatcher.daemon.retries import Retries
from dispatcher.daemon.shared import BEGINNING
from dispatcher.store.backlog import Backlog, DueRow
from dispatcher.store.ledger import FactRow, cancelled
from dispatcher.store.redelivery import redeliver
from tests.parts import Parts, attempted, failed, insert, new_webhook, parts, running
from tests.postgres import Database, wait_for

SOON = dt.timedelta(seconds=0.2)


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database."""
    async with parts(database) as made:
        yield made


def utc_now() -> dt.datetime:
    """Give the time."""
    return dt.datetime.now(dt.UTC)


def retries_of(one: Parts, now: Callable[[], dt.datetime] = utc_now) -> Retries:
    """Make the schedule."""
    return Retries(one.shared, one.backlog(), one.ledger(), stopped=lambda _: None, now=now)


async def deliveries(one: Parts, count: int, webhooks: int = 1) -> list[DeliveryKey]:
    """Write deliveries of so many events, each to so many webhooks."""
    webhook_ids = [await new_webhook(one.connection) for _ in range(webhooks)]
    return await one.fan_out([await insert(one.connection) for _ in range(count)], webhook_ids)


async def wait_taken(one: Parts, retries: Retries, count: int, timeout_s: float = 20.0) -> list[Pending]:
    """Wait until so many attempts may go, and take them; fails when more may."""
    taken: list[Pending] = []
    async with asyncio.timeout(timeout_s):
        while len(taken) < count:
            await retries.pushed.wait()
            retries.pushed.clear()
            taken += one.take_all()
    assert count == len(taken)
    return taken


async def finish(one: Parts, retries: Retries, taken: Sequence[Pending], *facts: FactRow) -> None:
    """Make facts of attempts durable, and free their room."""
    await one.record(*(facts or [attempted(each.key, each.attempt_no) for each in taken]))
    for each in taken:
        one.land(each)
        retries.settled(each)


def at_least(retries: Retries, low: dt.datetime) -> bool:
    """Say whether the schedule has come so far."""
    return retries.low() >= low


def attempts(taken: Sequence[Pending]) -> list[tuple[DeliveryKey, int]]:
    """Name attempts."""
    return [(each.key, each.attempt_no) for each in taken]


async def test_due_attempts_come_in_the_order_of_their_times(one: Parts) -> None:
    """Not before it is time, and each as the fact before it says."""
    keys = await deliveries(one, 4)
    start = utc_now()
    due = [
        start - dt.timedelta(hours=1),
        start + SOON,
        start - dt.timedelta(minutes=1),
        start + dt.timedelta(hours=1),
    ]
    await one.record(*(failed(key, 2, at, address="a") for key, at in zip(keys, due, strict=True)))
    retries = retries_of(one)
    async with running(retries.run()):
        taken = await wait_taken(one, retries, 2)
        assert [(keys[0], 3), (keys[2], 3)] == attempts(taken)
        taken += await wait_taken(one, retries, 1)
        assert utc_now() >= due[1]
        assert (keys[1], 3) == attempts(taken)[-1]
        for each in taken:
            assert (Lane.RETRY, Trigger.RETRY, State.PENDING, 2) == (
                each.lane, each.trigger, each.state, each.failures,
            )  # fmt: skip
            assert (b"{}", "event.detected") == (each.payload.body, each.payload.type)
        await finish(one, retries, taken)
    assert 0 == one.lanes.room.held
    assert 3 == await one.connection.fetchval("select count(*) from claim where attempt_no = 3")


async def test_a_flow_of_retries_comes_in_groups(one: Parts) -> None:
    """Every sweep reads some seconds again: there is not one for each retry."""
    keys = await deliveries(one, 6, webhooks=20)
    start = utc_now()
    spread = dt.timedelta(milliseconds=10)
    await one.record(*(failed(key, 1, start + place * spread) for place, key in enumerate(keys, 10)))
    backlog = Counted(one.store.link("counted"), one.shared.shard)
    retries = Retries(one.shared, backlog, one.ledger(), stopped=lambda _: None)
    async with running(retries.run()):
        taken = await wait_taken(one, retries, 120)
        assert {(key, 2) for key in keys} == set(attempts(taken))
        took_s = (utc_now() - start).total_seconds()
        assert backlog.sweeps <= 3 + took_s / 0.25
        await finish(one, retries, taken)


class Counted(Backlog):
    """Counts how often everybody's schedule is read."""

    sweeps = 0

    async def due(
        self,
        after: tuple[dt.datetime, OutboxId, WebhookId],
        now: dt.datetime,
        limit: int,
        ahead: dt.timedelta = dt.timedelta(),
    ) -> list[DueRow]:
        """Read it."""
        self.sweeps += 1
        return await super().due(after, now, limit, ahead)


async def test_what_has_a_successor_is_not_due(one: Parts) -> None:
    """An attempt, a cancellation or a request that came later stands for what was due before."""
    keys = await deliveries(one, 4)
    past = utc_now() - dt.timedelta(minutes=1)
    await one.record(*(failed(key, 1, past) for key in keys))
    await one.record(attempted(keys[0], 2), cancelled(keys[1], 2, 1, "webhook deleted"))
    assert await redeliver(one.store, keys[2], actor="key_1")
    retries = retries_of(one)
    async with running(retries.run()):
        taken = await wait_taken(one, retries, 2)
        assert {(keys[2], 2), (keys[3], 2)} == set(attempts(taken))
        await finish(one, retries, taken)


async def test_four_attempts_at_short_delays(one: Parts) -> None:
    """A whole schedule of delays that are shorter than any poll: nothing is skipped, nothing comes twice."""
    keys = await deliveries(one, 3)
    delays_s = (0.05, 0.1, 0.05)
    outcome = NoAnswer(ErrorClass.TIMEOUT, "…", None, Timings())
    retries = retries_of(one)

    async def fail(pending: Pending | None, key: DeliveryKey, attempt_no: int, failures: int) -> bool:
        trigger = Trigger.FIRST if pending is None else pending.trigger
        verdict = judge(
            outcome,
            trigger=trigger,
            state=State.PENDING,
            failures=failures,
            ended_at=utc_now(),
            delays_s=delays_s,
            retry_after_max_s=0,
        )
        await one.record(
            attempted(
                key,
                attempt_no,
                state=verdict.state,
                failures=verdict.failures,
                next_attempt_at=verdict.next_attempt_at,
                trigger=trigger,
            )
        )
        if pending is not None:
            one.land(pending)
            retries.settled(pending)
        if verdict.next_attempt_at is not None:
            retries.expect(verdict.next_attempt_at)
        return verdict.next_attempt_at is not None

    async with running(retries.run()):
        for key in keys:
            await fail(None, key, 1, 0)
        left = len(keys)
        async with asyncio.timeout(20):
            while left:
                await retries.pushed.wait()
                retries.pushed.clear()
                for pending in one.take_all():
                    left -= not await fail(pending, pending.key, pending.attempt_no, pending.failures)
    expected = [(n, Kind.ATTEMPTED, State.PENDING) for n in (1, 2, 3)] + [(4, Kind.ATTEMPTED, State.FAILED)]
    assert [expected] * 3 == [await one.facts(key) for key in keys]


@pytest.mark.parametrize("rings", [False, True])
async def test_requests_of_others_are_found(one: Parts, *, rings: bool) -> None:
    """By the bell at once; without it by looking every two seconds."""
    (key,) = await deliveries(one, 1)
    await one.record(attempted(key, 1, state=State.FAILED, status_code=500, failures=4))
    retries = retries_of(one)
    async with running(retries.run()):
        await wait_for(lambda: not one.shared.process.health.late(), "the loop turns")
        assert await redeliver(one.store, key, actor="key_1")
        assert not await redeliver(one.store, key, actor="key_1")
        if rings:
            retries.ring()
        (pending,) = await wait_taken(one, retries, 1)
        assert (Lane.RECOVERY, Trigger.MANUAL, 2) == (pending.lane, pending.trigger, pending.attempt_no)
        await finish(one, retries, [pending])
    assert [Kind.ATTEMPTED, Kind.REQUESTED, Kind.ATTEMPTED] == [kind for _, kind, _ in await one.facts(key)]


async def test_request_that_was_committed_late(one: Parts) -> None:
    """The bell rings when it is committed, long after its due time was set: found all the same."""
    (key,) = await deliveries(one, 1)
    retries = retries_of(one)
    moved = utc_now()
    async with running(retries.run()):
        await wait_for(partial(at_least, retries, moved - dt.timedelta(seconds=12)), "it is beyond that time")
        await one.record(failed(key, 1, moved - dt.timedelta(seconds=40)))
        retries.ring()
        (pending,) = await wait_taken(one, retries, 1)
        await finish(one, retries, [pending])


async def test_request_that_was_committed_late_beside_a_clock_that_is_put_back(one: Parts) -> None:
    """The last look at what others commit late was in the future then; the next one is due all the same."""
    (key,) = await deliveries(one, 1)
    offset = dt.timedelta(hours=1)
    retries = retries_of(one, lambda: utc_now() + offset)
    retries.ring()
    async with running(retries.run()):
        await wait_for(partial(at_least, retries, utc_now() - dt.timedelta(seconds=12)), "it has looked")
        offset = dt.timedelta()
        await one.record(failed(key, 1, utc_now() - dt.timedelta(seconds=40)))
        retries.ring()
        (pending,) = await wait_taken(one, retries, 1)
        assert key == pending.key
        await finish(one, retries, [pending])


async def test_a_clock_that_is_ahead_hides_nothing_from_a_restart(one: Parts) -> None:
    """What others ask for is due by the database's clock: a restart looks for it from there on.

    Whenever it comes: by a clock that was ahead as the run began, and by one that is put forward meanwhile.
    """
    (key,) = await deliveries(one, 1)
    offset = dt.timedelta(hours=1)
    retries = retries_of(one, lambda: utc_now() + offset)
    async with running(retries.run()):
        await wait_for(partial(at_least, retries, utc_now() - dt.timedelta(seconds=12)), "it has looked")
        assert retries.low() <= utc_now()
        await one.record(failed(key, 1, utc_now()))
        offset += dt.timedelta(hours=1)
        retries.expect(utc_now() + dt.timedelta(seconds=10))  # by its clock that is long over: it looks
        await finish(one, retries, await wait_taken(one, retries, 1))
        assert retries.low() <= utc_now()


async def test_our_clock_may_be_ahead_of_the_databases(one: Parts) -> None:
    """Requests are due by the database's clock: found although that looks long ago to us."""
    ahead = dt.timedelta(minutes=3)
    keys = await deliveries(one, 2)
    await one.record(*(attempted(key, 1, state=State.FAILED, failures=4) for key in keys))
    retries = retries_of(one, lambda: utc_now() + ahead)
    async with running(retries.run()):
        for key in keys:
            assert await redeliver(one.store, key, actor="key_1")
            retries.ring()
            (pending,) = await wait_taken(one, retries, 1)
            assert key == pending.key
            await finish(one, retries, [pending])
        assert retries.low() <= utc_now()


async def test_recorded_late_while_a_page_is_dealt_with(database: Database, one: Parts) -> None:
    """After an outage facts become durable that were due long ago, while the schedule is read: found."""
    early, late = await deliveries(one, 2)
    long_ago = utc_now() - dt.timedelta(minutes=20)
    await one.record(failed(early, 1, long_ago))
    retries = retries_of(one)
    holder, watcher = await database.connect(), await database.connect()
    await holder.execute("begin; lock table claim in share mode")
    waits = (
        "select count(*) = 1 from pg_stat_activity where datname = current_database()"
        " and application_name = 'dispatcher ledger' and wait_event_type = 'Lock'"
    )
    async with running(retries.run()):
        await wait_for(lambda: watcher.fetchval(waits), "the page has been read, its claim waits")
        await one.record(failed(late, 1, long_ago))
        retries.expect(long_ago)
        await holder.execute("rollback")
        taken = await wait_taken(one, retries, 2)
        assert [(early, 2), (late, 2)] == attempts(taken)
        await finish(one, retries, taken)
    await holder.close()
    await watcher.close()


def ends_at(at: dt.datetime, delay: dt.timedelta) -> dict[str, dt.datetime]:
    """Say of an attempt that it began then, and is to be repeated so much later."""
    return {"started_at": at, "next_attempt_at": at + delay}


@pytest.mark.parametrize("restarted", [False, True], ids=["under way", "before a start"])
async def test_clock_that_is_put_back(one: Parts, *, restarted: bool) -> None:
    """What was set by a clock that was ahead comes after its own delay; what is due later by rights does not.

    For attempts, and for what was interrupted and says no time of its own.
    """
    ahead = dt.timedelta(hours=1)
    true, ahead_of_us, rightful, interrupted = await deliveries(one, 4)
    now = utc_now()
    await one.record(
        failed(true, 1, **ends_at(now, dt.timedelta(hours=2))),
        failed(ahead_of_us, 1, **ends_at(now + ahead, dt.timedelta())),
        failed(rightful, 1, **ends_at(now - dt.timedelta(hours=2), dt.timedelta(hours=2, minutes=59))),
        attempted(
            interrupted,
            kind=Kind.INTERRUPTED,
            state=State.PENDING,
            status_code=None,
            next_attempt_at=now + ahead,
        ),
    )
    offset = dt.timedelta() if restarted else ahead - dt.timedelta(minutes=5)
    retries = retries_of(one, lambda: utc_now() + offset)
    async with running(retries.run()):
        if not restarted:
            looked = partial(at_least, retries, now - dt.timedelta(seconds=12))
            await wait_for(looked, "it has looked, by the clock that is ahead")
            offset = dt.timedelta()
            retries.ring()
        taken = await wait_taken(one, retries, 2)
        assert {(ahead_of_us, 2), (interrupted, 2)} == set(attempts(taken))
        await finish(one, retries, taken)
        assert retries.low() <= utc_now()
    assert not one.lanes.room.held


async def test_what_a_crash_interrupted_waits_for_no_clock(one: Parts) -> None:
    """A run by a clock that was ahead wrote it down and died: it was due at once, and that is known."""
    (key,) = await deliveries(one, 1)
    ahead = utc_now() + dt.timedelta(hours=1)
    fields: dict[str, Any] = {
        "kind": Kind.INTERRUPTED,
        "state": State.PENDING,
        "status_code": None,
        "reason": "crash",
    }
    await one.record(attempted(key, next_attempt_at=ahead, **fields))
    retries = retries_of(one)
    async with running(retries.run()):
        taken = await wait_taken(one, retries, 1)
        assert [(key, 2)] == attempts(taken)
        await finish(one, retries, taken)


async def test_more_set_ahead_than_a_page_holds(database: Database) -> None:
    """The clock was put back over a backlog: all of it comes, past a webhook that has no room."""
    ahead = dt.timedelta(hours=1)
    async with parts(database, max_queued=40, max_in_flight=20) as one:
        keys = await deliveries(one, 300, webhooks=2)
        start = utc_now() + ahead
        await one.record(
            *(failed(key, 1, **ends_at(start, -dt.timedelta(milliseconds=n))) for n, key in enumerate(keys))
        )
        retries = retries_of(one)
        sent: set[DeliveryKey] = set()
        async with running(retries.run()):
            while len(sent) < len(keys):
                async with asyncio.timeout(20):
                    await retries.pushed.wait()
                retries.pushed.clear()
                while taken := one.take_all():
                    assert sent.isdisjoint(each.key for each in taken)
                    sent |= {each.key for each in taken}
                    await finish(one, retries, taken)
        assert set(keys) == sent


async def test_more_than_there_is_room_for(database: Database) -> None:
    """What finds no room waits by webhook: all of it comes, each webhook's in order, nothing twice."""
    async with parts(database, max_queued=30, max_in_flight=20) as one:
        keys = await deliveries(one, 40, webhooks=4)
        past = utc_now() - dt.timedelta(hours=1)
        due = {key: past + dt.timedelta(seconds=key.outbox_id * 7 % 40) for key in keys}
        await one.record(*(failed(key, 1, due[key]) for key in keys))
        retries = retries_of(one)
        sent: list[DeliveryKey] = []
        async with running(retries.run()):
            async with asyncio.timeout(30):
                while len(sent) < len(keys):
                    await retries.pushed.wait()
                    retries.pushed.clear()
                    while taken := one.take_all():
                        sent += [each.key for each in taken]
                        await finish(one, retries, taken)
            # One more look at everything that was due lately finds nothing.
            low = retries.low()
            retries.ring()
            await wait_for(lambda: retries.low() > low, "the schedule moves on")
        assert {1} == set(Counter(sent).values())
        assert set(keys) == set(sent)
        for webhook_id in {key.webhook_id for key in keys}:
            times = [due[key] for key in sent if key.webhook_id == webhook_id]
            assert sorted(times) == times
        assert (0, 0) == (one.lanes.room.held, one.lanes.room.held_bytes)


async def test_earlier_attempt_goes_first(one: Parts) -> None:
    """A request for another attempt waits while one of the same delivery is under way."""
    (key,) = await deliveries(one, 1)
    assert one.lanes.admit(Lane.ALERT, key, 2) is Admission.ADMITTED
    first = Pending(key, Lane.ALERT, Payload("event.detected", b"{}", utc_now(), test=False))
    one.lanes.push(first)
    assert one.lanes.take(0) is first
    retries = retries_of(one)
    async with running(retries.run()):
        # It was recorded, and is still in memory: its second attempt is due already.
        await one.record(failed(key, 1, utc_now()))
        retries.ring()
        await wait_for(lambda: retries.due == 1, "it is seen to wait")
        assert one.lanes.take(0) is None
        one.land(first)
        (second,) = await wait_taken(one, retries, 1)
        assert (key, 2) == (second.key, second.attempt_no)
        await finish(one, retries, [second])


async def test_what_is_held_is_not_taken_twice(one: Parts) -> None:
    """The last seconds are read again and again: what is under way stays one attempt."""
    keys = await deliveries(one, 3)
    await one.record(*(failed(key, 1, utc_now()) for key in keys))
    retries = retries_of(one)
    async with running(retries.run()):
        taken = await wait_taken(one, retries, 3)
        for _ in range(20):
            before = retries.low()
            retries.ring()
            await wait_for(partial(at_least, retries, before), "another look")
            assert one.lanes.take(0) is None
        await finish(one, retries, taken)
    assert 3 == await one.connection.fetchval("select count(*) from claim")


async def test_attempts_recorded_while_they_are_read(one: Parts) -> None:
    """Facts become durable while the schedule reads: no attempt is made twice under one number."""
    keys = await deliveries(one, 150)
    due = utc_now()
    await one.record(*(failed(key, 1, due) for key in keys))
    retries = retries_of(one)
    made: Counter[tuple[DeliveryKey, int]] = Counter()

    async with running(retries.run()):
        async with asyncio.timeout(30):
            while len(made) < len(keys):
                await retries.pushed.wait()
                retries.pushed.clear()
                while taken := one.take_all():
                    for each in taken:
                        made[each.key, each.attempt_no] += 1
                        retries.ring()  # so that a read is always under way
                        await finish(one, retries, [each])
    assert dict.fromkeys(((key, 2) for key in keys), 1) == dict(made)


async def test_a_crash_changes_no_lane(one: Parts) -> None:
    """An interrupted first attempt keeps its own lane, a retry goes among retries, a request after all."""
    keys = await deliveries(one, 3)
    now = utc_now()
    common = {"kind": Kind.INTERRUPTED, "state": State.PENDING, "status_code": None, "next_attempt_at": now}
    await one.record(
        attempted(keys[0], 1, trigger=Trigger.FIRST, **common),
        attempted(keys[1], 2, trigger=Trigger.RETRY, failures=1, **common),
        attempted(keys[2], 5, trigger=Trigger.MANUAL, failures=4, **common),
    )
    retries = retries_of(one)
    async with running(retries.run()):
        taken = await wait_taken(one, retries, 3)
        assert [
            (Lane.ALERT, 2, Trigger.FIRST, 0),
            (Lane.RETRY, 3, Trigger.RETRY, 1),
            (Lane.RECOVERY, 6, Trigger.MANUAL, 4),
        ] == [(each.lane, each.attempt_no, each.trigger, each.failures) for each in taken]
        await finish(one, retries, taken)


async def test_an_interrupted_alert_stands_behind_no_retry(database: Database) -> None:
    """Where retries find no room any more it has the room of its lane, although it became due after them."""
    async with parts(database, max_queued=10) as one:
        retry, alert = await deliveries(one, 2)
        others = [DeliveryKey(alert.day, alert.outbox_id, WebhookId(1000 + number)) for number in range(8)]
        past = utc_now() - dt.timedelta(minutes=1)
        interrupted = attempted(
            alert,
            kind=Kind.INTERRUPTED,
            state=State.PENDING,
            status_code=None,
            next_attempt_at=past + dt.timedelta(seconds=1),
        )
        await one.record(failed(retry, 1, past), interrupted)
        filling = [Pending(key, Lane.ALERT, Payload("x.y", b"{}", past, test=False)) for key in others]
        for each in filling:
            assert one.lanes.admit(each.lane, each.key, 2) is Admission.ADMITTED
        retries = retries_of(one)
        async with running(retries.run()):
            taken = await wait_taken(one, retries, 1)
            assert [(alert, 2)] == attempts(taken)
            assert Lane.ALERT == taken[0].lane
            for each in filling:
                one.lanes.give_up(each.lane, each.key, 2)
            await finish(one, retries, taken)
            assert [(retry, 2)] == attempts(await wait_taken(one, retries, 1))


async def test_low_never_passes_what_is_open(one: Parts) -> None:
    """A checkpoint must not hide what was due and is not recorded."""
    keys = await deliveries(one, 2)
    due = [utc_now() - dt.timedelta(minutes=20), utc_now() - dt.timedelta(minutes=10)]
    await one.record(*(failed(key, 1, at) for key, at in zip(keys, due, strict=True)))
    retries = retries_of(one)
    assert retries.low() < BEGINNING
    async with running(retries.run()):
        first, second = await wait_taken(one, retries, 2)
        assert retries.low() <= due[0]
        await finish(one, retries, [first])
        assert due[0] < retries.low() <= due[1]
        await finish(one, retries, [second])
        await wait_for(lambda: retries.low() > due[1], "nothing is open")


async def test_cancelling_what_waits_for_a_retry(one: Parts) -> None:
    """A webhook that stopped: its scheduled retries are closed, but for those in memory, and tests."""
    keys = await deliveries(one, 5)
    webhook_id, later = keys[0].webhook_id, utc_now() + dt.timedelta(minutes=5)
    await one.record(*(failed(key, 2, later, address=None) for key in keys[:3]), attempted(keys[3], 1))
    other = WebhookId(webhook_id + 1)
    assert 0 == await one.ledger().cancel_pending(other, "webhook deleted", [])
    assert 2 == await one.ledger().cancel_pending(webhook_id, "webhook deleted", [keys[1].outbox_id])
    assert 0 == await one.ledger().cancel_pending(webhook_id, "webhook deleted", [keys[1].outbox_id])
    pending, closed = (2, Kind.ATTEMPTED, State.PENDING), (3, Kind.CANCELLED, State.CANCELLED)
    expected = [[pending, closed], [pending], [pending, closed], [(1, Kind.ATTEMPTED, State.DELIVERED)], []]
    assert expected == [await one.facts(key) for key in keys]
