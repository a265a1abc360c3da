"""A daemon is killed where the others cannot see it, as on another machine: they take over in time.

On the same machine a daemon that was killed is followed at once (`test_drain.py`). The one that is killed
here has process numbers of its own, as in a container: nothing but its lease says that it is gone.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.acceptance.daemon import REPOSITORY, Launch, daemons
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import real_events
from tests.acceptance.shards import divide, overlaps, shares, stray_facts
from tests.acceptance.subscriber import moody, prompt, slow
from tests.postgres import Database, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.subscriber import Subscriber

TAKEOVER_S: Final = 10.0  # from kill -9 to the first request of a new event, by contract
AT_ONCE_S: Final = 1.0  # what it takes where it can be seen that nobody is there
APART: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
ELSEWHERE: Final = Launch((*APART, sys.executable, "-m", "dispatcher", "serve"), REPOSITORY)


def can_be_apart() -> bool:
    """Say whether a process can get numbers of its own here."""
    try:
        return not subprocess.run([*APART, "true"], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 4])
async def test_whose_end_nobody_sees_is_followed_in_time(
    database: Database, tmp_path: Path, shards: int
) -> None:
    """Not before its lease is over, and soon enough for a new alert to arrive everywhere in ten seconds."""
    if not can_be_apart():
        pytest.skip("no process can be given numbers of its own here")
    events = real_events()
    alert = events.pop(max(at for at, event in enumerate(events) if event.type == "event.detected"))
    (far_path := tmp_path / "elsewhere").mkdir()
    settings = {"DELIVERY__RETRY_DELAYS_S": RETRY_DELAYS_S}
    async with Harness(database.url, seed=31) as world:
        for _ in range(2):
            await world.subscribe(["*"], prompt)
            await world.subscribe(["*"], slow(0.05))
        await world.subscribe(["event.*"], moody(world.rng, 0.1))
        await divide(world.url, shards)
        async with (
            daemons(database.url, far_path, None, ELSEWHERE, **settings) as far_house,
            daemons(database.url, tmp_path, **settings) as house,
        ):
            far = await far_house.start()
            await far.says("leading", shards)
            far.pid = 1  # as it names itself
            near = await house.start()
            await shares(world, {far: (shards + 1) // 2, near: shards // 2}, TAKEOVER_S)
            async with world.producing(events, pause_s=0.1):
                await world.under_way()
                far.kill()
                killed_at = time.monotonic()
                async with world.producing([alert], pause_s=0, producers=1, to_the_end=True):
                    pass
                await wait_for(
                    lambda: all(first_request(one, alert.serial) for one in world.subscribers),
                    "the alert has arrived everywhere",
                )
            waited_s = [first_request(one, alert.serial) - killed_at for one in world.subscribers]
            print(f"{shards} shards: everywhere after {max(waited_s):.1f} s")  # noqa: T201 - the figure itself
            assert AT_ONCE_S < max(waited_s) < TAKEOVER_S, waited_s
            await shares(world, {near: shards}, TAKEOVER_S)
            await world.settled()
            assert [] == far_house.complaints() + house.complaints()
        history = await world.conserved()
        assert history.interrupted() > 0, "the kill met no request under way: this proved nothing"
        assert (0, []) == (await stray_facts(world), overlaps(world.subscribers))


def first_request(subscriber: Subscriber, serial: int) -> float:
    """Give when the first request about an event came, 0 while none has."""
    return min((seen.started_at for seen in subscriber.seen if seen.serial == serial), default=0)
