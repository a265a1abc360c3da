"""kill -9 of the daemon at any moment loses nothing, and leaves no request without its fact."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.acceptance.daemon import daemons
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import real_events
from tests.acceptance.subscriber import moody, prompt, slow
from tests.postgres import Database


async def killed_during_a_replay(
    url: str, directory: Path, seed: int, kills: int, most_events: int | None = None
) -> None:
    """Replay, kill -9 so many times, start again at once each time, and count at the end."""
    events = real_events()[:most_events]
    async with Harness(url, seed) as world:
        await world.subscribe(["*"], prompt)
        await world.subscribe(["*"], slow(0.05))
        await world.subscribe(["event.*"], moody(world.rng, 0.2))
        settings = {
            "DELIVERY__RETRY_DELAYS_S": RETRY_DELAYS_S,
            "DELIVERY__MAX_QUEUED": "200",  # so that deliveries also wait in the database
            "TAIL__CHUNK_DELIVERIES": "1",  # so that kills come between the chunks of an event as well
        }
        async with daemons(url, directory, **settings) as house:
            daemon = await house.start()
            async with world.producing(events, pause_s=kills * 12 / len(events), to_the_end=True):
                for count in range(kills):
                    if count % 2:  # at work
                        await daemon.says("leading")
                        await asyncio.sleep(world.rng.random() * 0.4)
                    else:  # at its start or at its rescue as well
                        await asyncio.sleep(world.rng.random() * 1.5)
                    daemon.kill()
                    await daemon.ended()
                    daemon = await house.start(wait=False)
            await world.settled()
            await daemon.says("leading")  # before that it may not be listening to signals yet
            daemon.terminate()
            assert 0 == await daemon.ended(), daemon.last_words()
            assert [] == house.complaints()
        history = await world.conserved()
        assert history.interrupted() > 0, "no kill met a request under way: this proved nothing"


async def test_a_few_kills_lose_nothing(database: Database, tmp_path: Path) -> None:
    """Kills while real events are inserted: each arrives, each request has its fact."""
    await killed_during_a_replay(database.url, tmp_path, seed=20180207, kills=6, most_events=500)


@pytest.mark.slow
async def test_twenty_kills_lose_nothing(database: Database, tmp_path: Path) -> None:
    """Twenty kills during the replay of 1,724 real events: each arrives, each request has its fact."""
    await killed_during_a_replay(database.url, tmp_path, seed=20180206, kills=20)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
async def test_more_kills_lose_nothing(database: Database, tmp_path: Path, seed: int) -> None:
    """The same at other moments."""
    await killed_during_a_replay(database.url, tmp_path, seed=seed, kills=40)
