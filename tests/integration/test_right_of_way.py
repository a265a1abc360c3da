"""While an alert is on its way from the outbox to its lane, nothing else starts; then everything does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from dispatcher.core.lanes import Admission
from dispatcher.core.pending import Lane, Payload, Pending
from dispatcher.daemon.courtesy import Courtesy
from dispatcher.daemon.doorbell import Doorbell
from dispatcher.daemon.intake import Downstream
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.shared import utc_now
from dispatcher.daemon.tailer import Tailer
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.connection import INDEXED
from tests.parts import Parts, insert, key_of, new_webhook, parts, running
from tests.postgres import Database, wait_for

ONLINE = '{"sensor_id":"s","station_code":"c","offline_duration_seconds":1}'


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database."""
    async with parts(database) as made:
        yield made


def take(one: Parts) -> Pending | None:
    """Take what may go now."""
    return one.lanes.take(time.monotonic_ns())


def tail(one: Parts, lane: Lane, doorbell: Doorbell, pushed: Callable[[], None]) -> Tailer:
    """Make the tail of a lane, which says so when something may go."""
    progress = Progress()
    waiting = Waiting(one.shared, one.backlog(), one.ledger(), progress)
    downstream = Downstream(waiting, progress, pushed, lambda _: None)
    return Tailer(one.shared, lane, one.store.link("tail", INDEXED), doorbell, downstream)


async def test_an_alert_takes_the_way_and_gives_it_back(one: Parts) -> None:
    """From the ring of its bell until it is queued; who waited meanwhile is told."""
    webhook_id = await new_webhook(one.connection)
    await one.shared.registry.refresh()
    routine = key_of(await insert(one.connection, ONLINE, "sensor.online"), webhook_id)
    await insert(one.connection)
    assert one.lanes.admit(Lane.ROUTINE, routine, 2) is Admission.ADMITTED
    one.lanes.push(Pending(routine, Lane.ROUTINE, Payload("sensor.online", b"{}", utc_now(), test=False)))
    pushed = list[tuple[Lane, ...]]()

    def started() -> None:
        pushed.append(tuple(pending.lane for pending in iter(lambda: take(one), None)))

    doorbell = Doorbell(one.shared)
    tailer = tail(one, Lane.ALERT, doorbell, started)
    await tailer.begin()
    doorbell.heard("2")
    doorbell.heard("1")
    assert 0 == one.lanes.right_of_way.until_ns
    doorbell.heard("0")
    assert one.lanes.right_of_way.until_ns > 0
    one.lanes.right_of_way.until_ns = time.monotonic_ns() + 10**12  # however slow this machine is
    assert take(one) is None
    async with running(tailer.run()):
        await wait_for(lambda: (Lane.ROUTINE,) in pushed, "what waited goes on")
    assert [(Lane.ALERT,), (Lane.ROUTINE,)] == pushed
    assert 0 == one.lanes.right_of_way.until_ns


async def test_a_ring_for_nothing(one: Parts) -> None:
    """The alert had been found by a look before it rang: the way is given back all the same."""
    pushed = list[bool]()
    doorbell = Doorbell(one.shared)
    tailer = tail(one, Lane.ALERT, doorbell, lambda: pushed.append(True))
    await tailer.begin()
    async with running(tailer.run()):
        for _ in range(2):
            doorbell.heard("0")
            await wait_for(lambda: bool(pushed), "the way is free")
            pushed.clear()
    assert 0 == one.lanes.right_of_way.until_ns


async def test_an_alert_that_did_not_ring(one: Parts) -> None:
    """It was found by a look: it takes the way from there on, and gives it back."""
    await new_webhook(one.connection)
    await one.shared.registry.refresh()
    await insert(one.connection)
    taken = list[bool]()
    tailer = tail(
        one, Lane.ALERT, Doorbell(one.shared), lambda: taken.append(one.lanes.right_of_way.until_ns > 0)
    )
    await tailer.begin()
    async with running(tailer.run()):
        await wait_for(lambda: len(taken) > 1, "it is queued, and then the way is free")
    assert [True, False] == taken


async def test_only_alerts_take_it_and_give_it_back(one: Parts) -> None:
    """Another lane's tail goes on meanwhile, and what it queues does not start."""
    await new_webhook(one.connection)
    await one.shared.registry.refresh()
    starts = list[bool]()
    doorbell = Doorbell(one.shared)
    tailer = tail(one, Lane.ROUTINE, doorbell, lambda: starts.append(take(one) is not None))
    await tailer.begin()
    async with running(tailer.run()):
        for count in (1, 2, 3):
            await insert(one.connection, ONLINE, "sensor.online")
            doorbell.heard("2")
            await wait_for(lambda: len(starts) == count, "it is queued")  # noqa: B023 - called at once
            one.lanes.right_of_way.take(time.monotonic_ns() + 10**12)
    assert [True, False, False] == starts


@pytest.mark.parametrize("lane", [Lane.ALERT, Lane.EVENT, Lane.ROUTINE])
async def test_tails_give_way(one: Parts, lane: Lane) -> None:
    """All but that of the alerts wait a little before they ask PostgreSQL."""
    courtesy = Courtesy(one.shared, lane)

    async def waits() -> bool:
        giving = asyncio.create_task(courtesy.give_way())
        await asyncio.sleep(0)
        waited = not giving.done()
        await giving
        return waited

    assert not await waits()
    one.lanes.right_of_way.take(time.monotonic_ns() + 10**12)
    assert (lane is not Lane.ALERT) == await waits()
