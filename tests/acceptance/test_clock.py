"""The daemon's wall clock is stepped by an hour, both ways; the machine's is left alone (libfaketime)."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from dispatcher.core.pending import Lane
from tests.acceptance.clock import LIBRARY, Clock
from tests.acceptance.daemon import START_S, daemons
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import real_events
from tests.acceptance.subscriber import moody, prompt
from tests.acceptance.waiting import eventually
from tests.postgres import Database


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed (Debian's package `faketime`)")
async def test_the_clock_is_stepped_by_an_hour(database: Database, tmp_path: Path) -> None:
    """Forwards, back, further back, forwards, back: the lead is kept, deliveries flow, nothing is lost.

    Leases, deadlines and pauses are monotonic. Due times of retries are wall-clock times: those that were set
    before the last step are an hour away when everything is settled.
    """
    clock = Clock(tmp_path / "step")
    async with (
        Harness(database.url, seed=31) as world,
        daemons(database.url, tmp_path, clock.environ, DELIVERY__RETRY_DELAYS_S=RETRY_DELAYS_S) as house,
    ):
        await world.subscribe(["*"], prompt)
        await world.subscribe(["event.*"], moody(world.rng, 0.3))
        daemon = await house.start()
        await daemon.says("leading")
        async with world.producing(real_events(), pause_s=0.1):
            for offset in ("+3600", "+0", "-3600", "+3600", "+0"):
                done = sum(len(one.seen) for one in world.subscribers)
                clock.step(offset)
                await world.more(done + 100)
        await world.settled()
        await daemon.ready()
        assert daemon.said("retries were set by a clock that was ahead; they come as if it had not been")
        assert 1 == len(daemon.said("leading")), "the lead never was in doubt"
        assert [] == house.complaints()
        await world.conserved()


@pytest.mark.slow
@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed (Debian's package `faketime`)")
@pytest.mark.parametrize("takes_over", [True, False])
async def test_what_is_due_by_a_clock_that_is_behind_survives(
    database: Database, tmp_path: Path, *, takes_over: bool
) -> None:
    """Retries set by a clock an hour behind, by who took over or after a step, are found after a crash.

    The last checkpoint says that all was attempted up to a time that is an hour later, and no other follows.
    """
    clock = Clock(tmp_path / "step")
    async with (
        Harness(database.url, seed=32) as world,
        daemons(database.url, tmp_path, DELIVERY__RETRY_DELAYS_S="2,2,2") as house,
    ):
        await world.subscribe(["*"], lambda seen: (0, 500 if seen.attempt == 1 else 200))
        # Of different earthquakes: none waits for the retry of another.
        events = (event for event in real_events() if event.type == "event.detected")

        async def insert(count: int) -> None:
            some = list(itertools.islice(events, count))
            async with world.producing(some, pause_s=0, producers=1, to_the_end=True):
                await world.more(len(world.ledger.committed) + count)

        daemon = await house.start(None if takes_over else clock.environ)
        await daemon.says("leading")
        await insert(5)
        async with world.connection() as connection:
            await eventually(
                lambda: connection.fetchval("select true from tail_checkpoint where lane = $1", Lane.RETRY),
                "a checkpoint says up to where everything was attempted",
                START_S,
            )
            clock.step("-3600")
            if takes_over:
                daemon.terminate()
                assert 0 == await daemon.ended()
                daemon = await house.start(clock.environ)
                await daemon.says("leading")
            await insert(5)
            refused = "select count(*) = 10 from delivery_event where attempt_no = 1 and step = 2"
            await eventually(lambda: connection.fetchval(refused), "each first attempt is recorded", START_S)
        daemon.kill()
        await daemon.ended()
        clock.step("+0")
        await house.start()
        await world.settled()
        assert [] == house.complaints()
        await world.conserved()
