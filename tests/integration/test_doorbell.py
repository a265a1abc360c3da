"""When lanes are looked at: only for a tail that waits."""

from __future__ import annotations

import asyncio

from dispatcher.core.pending import TAILED, Lane
from dispatcher.daemon.doorbell import Doorbell
from dispatcher.store.wakeup import Wakeup
from tests.parts import Parts, insert, new_webhook, parts, running
from tests.postgres import Database, wait_for

MANY_RINGS = 70  # within a second: the lane is polled from then on


def looks(one: Parts) -> float:
    """Give how often a look at lanes that are polled found that something had been committed."""
    (metric,) = one.shared.metrics.wakeups["busy_poll"].collect()
    return next(sample.value for sample in metric.samples if sample.name.endswith("_total"))


async def test_nobody_looks_for_a_tail_that_is_at_work(database: Database) -> None:
    """It reads on by itself while it finds rows; when it waits, what it has not seen wakes it."""
    loop = asyncio.get_running_loop()
    async with parts(database) as one:
        doorbell = Doorbell(one.shared)
        async with running(doorbell.run(Wakeup(one.store.link("doorbell"), doorbell.heard), may_ring=True)):
            for _ in range(MANY_RINGS):
                doorbell.heard("0")
            before, began = looks(one), loop.time()
            for _ in range(100):
                await insert(one.connection)
                doorbell.found(Lane.ALERT)
            # Ten a second, and the first one of each lane.
            assert looks(one) - before <= 10 * (loop.time() - began) + 4
            for _ in range(20):
                await insert(one.connection)
                async with asyncio.timeout(30):
                    await doorbell.rings(Lane.ALERT, doorbell.count)
                doorbell.found(Lane.ALERT)


async def test_a_change_of_a_webhook_wakes_the_tails(database: Database) -> None:
    """They learn of it when it commits, not at their next poll: what waits for a slot is sent as it says."""
    async with parts(database) as one:
        doorbell = Doorbell(one.shared)
        heard: list[str] = []
        await Wakeup(one.store.link("doorbell"), heard.append).snapshot()  # it listens from here on
        number = await new_webhook(one.connection)
        await wait_for(lambda: heard, "a new webhook rings")
        heard.clear()
        await one.connection.execute("update webhook set active = false where id = $1", number)
        await wait_for(lambda: heard, "a change rings")
        for payload in heard:
            doorbell.heard(payload)
        async with asyncio.timeout(30):
            for lane in TAILED:
                await doorbell.rings(lane, doorbell.count)
