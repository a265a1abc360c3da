"""While an alert is on its way from the outbox to its lane, nothing else starts; then everything does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from dispatcher.core.lanes import Admission
from dispatcher.core.pending import Lane, Payload, Pending
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


async def test_an_alert_takes_the_way_and_gives_it_back(one: Parts) -> None:
    """From the ring of its bell until it is queued; who waited meanwhile is told."""
    webhook_id = await new_webhook(one.connection)
    await one.shared.registry.refresh()
    routine = key_of(await insert(one.connection, ONLINE, "sensor.online"), webhook_id)
    await insert(one.connection)
    assert one.lanes.admit(Lane.ROUTINE, routine, 2) is Admission.ADMITTED
    one.lanes.push(Pending(routine, Lane.ROUTINE, Payload("sensor.online", b"{}", utc_now(), test=False)))
    progress, pushed = Progress(), list[tuple[Lane, ...]]()

    def started() -> None:
        pushed.append(tuple(pending.lane for pending in iter(lambda: take(one), None)))

    downstream = Downstream(
        Waiting(one.shared, one.backlog(), one.ledger(), progress), progress, started, lambda _: None
    )
    doorbell = Doorbell(one.shared)
    tailer = Tailer(one.shared, Lane.ALERT, one.store.link("tail", INDEXED), doorbell, downstream)
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
    progress, pushed = Progress(), list[bool]()
    downstream = Downstream(
        Waiting(one.shared, one.backlog(), one.ledger(), progress),
        progress,
        lambda: pushed.append(True),
        lambda _: None,
    )
    doorbell = Doorbell(one.shared)
    tailer = Tailer(one.shared, Lane.ALERT, one.store.link("tail", INDEXED), doorbell, downstream)
    await tailer.begin()
    async with running(tailer.run()):
        for _ in range(2):
            doorbell.heard("0")
            await wait_for(lambda: bool(pushed), "the way is free")
            pushed.clear()
    assert 0 == one.lanes.right_of_way.until_ns
