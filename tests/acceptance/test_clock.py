"""The daemon's wall clock is stepped by an hour, both ways; the machine's is left alone (libfaketime)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.daemon import daemons
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import real_events
from tests.acceptance.subscriber import moody, prompt
from tests.postgres import Database

LIBRARY: Final = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed (Debian's package `faketime`)")
async def test_the_clock_is_stepped_by_an_hour(database: Database, tmp_path: Path) -> None:
    """Forwards, back, further back, forwards, back: the lead is kept, deliveries flow, nothing is lost.

    Leases, deadlines and pauses are monotonic. Due times of retries are wall-clock times: those that were set
    before the last step are an hour away when everything is settled.
    """
    step = tmp_path / "step"
    step.write_text("+0")
    faked = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(step),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    async with (
        Harness(database.url, seed=31) as world,
        daemons(database.url, tmp_path, faked, DELIVERY__RETRY_DELAYS_S=RETRY_DELAYS_S) as house,
    ):
        await world.subscribe(["*"], prompt)
        await world.subscribe(["event.*"], moody(world.rng, 0.3))
        daemon = await house.start()
        await daemon.says("leading")
        async with world.producing(real_events(), pause_s=0.1):
            for offset in ("+3600", "+0", "-3600", "+3600", "+0"):
                done = sum(len(one.seen) for one in world.subscribers)
                step.write_text(offset)
                await world.more(done + 100)
        await world.settled()
        await daemon.ready()
        assert daemon.said("retries were set by a clock that was ahead; they come as if it had not been")
        assert 1 == len(daemon.said("leading")), "the lead never was in doubt"
        assert [] == house.complaints()
        await world.conserved()
