"""An ordered end loses nothing and repeats nothing; the lead goes over, and never is in two hands."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dispatcher.config import Delivery
from dispatcher.store.lease import TERM_S
from tests.acceptance.cable import Cable
from tests.acceptance.daemon import REPOSITORY, daemons
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import real_events
from tests.acceptance.subscriber import moody, prompt, slow
from tests.postgres import Database, wait_for

if TYPE_CHECKING:
    from tests.acceptance.daemon import Daemon
    from tests.acceptance.harness import Harness as World

TAKEOVER_S = 10.0  # after kill -9, by contract
SLOTS = 8


async def test_sigterm_lets_requests_in_flight_finish(database: Database, tmp_path: Path) -> None:
    """All requests under way are answered and recorded, the exit status is 0, and nothing is sent again."""
    events = real_events("comcat_updates.jsonl")
    async with Harness(database.url, seed=1) as world:
        subscribers = [await world.subscribe(["*"], slow(0.5)) for _ in range(8)]
        settings = {"DELIVERY__MAX_IN_FLIGHT_PER_WEBHOOK": str(SLOTS)}
        async with daemons(database.url, tmp_path, **settings) as house:
            first = await house.start()
            async with world.producing(events, pause_s=0, to_the_end=True):
                pass
            in_flight = SLOTS * len(subscribers)
            await wait_for(lambda: world.open >= in_flight, "every slot is in use")
            first.terminate()
            assert 0 == await first.ended(), first.last_words()
            assert 0 == world.open, "every request that had begun was answered"
            seen = sum(len(one.seen) for one in subscribers)
            assert in_flight <= seen < len(events) * len(subscribers), "some were sent, some were not"
            assert {200} == {request.status for one in subscribers for request in one.seen}
            history = await world.history()
            assert seen == sum(map(len, history.facts.values())), "each has its fact, nothing else has"
            assert [] == first.said("drain expired")
            async with world.connection() as connection:
                free = await connection.fetchval("select expires_at = '-infinity' from lease")
            assert free, "the lead was given back: a standby on another machine need not wait"

            second = await house.start()
            await world.settled()
            second.terminate()
            assert 0 == await second.ended(), second.last_words()
            assert [] == house.complaints()
        history = await world.conserved()
        assert 0 == history.interrupted()
        assert {1} == {request.attempt for one in subscribers for request in one.seen}


async def test_a_standby_takes_over(database: Database, tmp_path: Path) -> None:
    """At once when the leader ends in order, within ten seconds when it is killed, never both at a time."""
    events = real_events()
    async with Harness(database.url, seed=2) as world:
        await subscribe(world)
        settings = {"DELIVERY__RETRY_DELAYS_S": RETRY_DELAYS_S}
        async with daemons(database.url, tmp_path, **settings) as house:
            first = await house.start()
            await first.says("leading")
            second = await house.start()
            await second.says("standing by: another process leads")
            async with world.producing(events, pause_s=0.1):
                await world.under_way()
                first.terminate()
                assert 0 == await first.ended(), first.last_words()
                ended_at = time.monotonic()
                await second.says("leading")
                assert time.monotonic() - ended_at < TERM_S / 2, "it waited for the lease to run out"
                assert [] == second.said("a run ended without saying so; what it had in memory is sent again")

                third = await house.start()
                await third.says("standing by: another process leads")
                await world.under_way()
                second.kill()
                await third.says("leading", timeout_s=TAKEOVER_S)
            await world.settled()
            assert [] == house.complaints()
        history = await world.conserved()
        assert history.interrupted() > 0, "the kill met no request under way: this proved nothing"


@pytest.mark.slow
async def test_postgresql_that_is_silent_keeps_nobody(database: Database, tmp_path: Path) -> None:
    """Beyond `drain_s` the end takes no longer than systemd's patience with our own settings."""
    unit = (REPOSITORY / "systemd" / "grillo-dispatcher.service").read_text(encoding="utf-8")
    found = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert found is not None
    spare_s = int(found[1]) - Delivery().drain_s
    async with Cable(database.url) as cable, daemons(cable.url, tmp_path, DELIVERY__DRAIN_S="0.1") as house:
        daemon = await house.start()
        cable.swallow()
        daemon.terminate()
        assert 1 == await daemon.ended(spare_s), "requests may have been cut off, for all it knows"
        assert [] == daemon.complaints()


@pytest.mark.slow
async def test_a_leader_that_was_frozen_past_its_lease_has_lost_it(
    database: Database, tmp_path: Path
) -> None:
    """The standby takes over; the old leader, thawed, sends and records nothing more, and stands by."""
    async with Harness(database.url, seed=3) as world:
        await subscribe(world)
        settings = {"DELIVERY__RETRY_DELAYS_S": RETRY_DELAYS_S}
        async with daemons(database.url, tmp_path, **settings) as house:
            first = await house.start()
            await first.says("leading")
            second = await house.start()
            await second.says("standing by: another process leads")
            async with world.producing(real_events(), pause_s=0.2):
                await world.under_way()
                first.freeze()
                await second.says("leading", timeout_s=TAKEOVER_S)
                taken_at, run_id = await leader(world)
                await world.under_way()
                first.thaw()
                await first.says("lead lost")
                await first.says("standing by: another process leads")
                await world.under_way()
            await world.settled()
            assert (run_id, 0) == await later_facts(world, run_id, taken_at), "of the lost lease"
            await stands_by(first)
            assert [] == house.complaints()
        history = await world.conserved()
        assert history.interrupted() > 0, "no request was under way: this proved nothing"


async def subscribe(world: World) -> None:
    """Add a prompt, a slow and an unreliable receiver."""
    await world.subscribe(["*"], prompt)
    await world.subscribe(["*"], slow(0.05))
    await world.subscribe(["event.*"], moody(world.rng, 0.1))


async def leader(world: World) -> tuple[object, int]:
    """Give the database's time, and the run that leads."""
    async with world.connection() as connection:
        row = await connection.fetchrow("select clock_timestamp(), run_id from lease")
    return row[0], row[1]


async def later_facts(world: World, run_id: int, since: object) -> tuple[int, int]:
    """Give the run that leads, and how many facts any other one has recorded since then."""
    async with world.connection() as connection:
        row = await connection.fetchrow(
            "select (select run_id from lease), count(*) from delivery_event"
            " where run_id <> $1 and recorded_at > $2",
            run_id,
            since,
        )
    return row[0], row[1]


async def stands_by(daemon: Daemon) -> None:
    """Check that a daemon is alive and ready to take over, without having led again."""
    assert (200, []) == await daemon.readiness()
    assert 1 == len(daemon.said("leading"))
