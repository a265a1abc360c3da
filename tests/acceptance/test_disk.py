"""The disk under PostgreSQL is full: an outage like any other, which ends when there is room again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.acceptance.daemon import daemons
from tests.acceptance.disk import SMALL_WAL, fill, small_disk
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import real_events
from tests.acceptance.server import own_server
from tests.acceptance.subscriber import prompt, slow


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
async def test_the_disk_is_full(data_dir: Path, tmp_path: Path) -> None:
    """Statements fail, or PostgreSQL ends for want of room: not ready meanwhile, nothing is lost."""
    with small_disk(data_dir.parent / "disk") as disk:
        async with (
            own_server(disk / "var", **SMALL_WAL) as server,
            Harness(server.url, seed=41) as world,
            daemons(server.daemon_url, tmp_path, DELIVERY__RETRY_DELAYS_S=RETRY_DELAYS_S) as house,
        ):
            await world.subscribe(["*"], prompt)
            await world.subscribe(["*"], slow(0.05))
            daemon = await house.start()
            async with world.producing(real_events(), pause_s=0.02):
                await world.under_way()
                ballast = fill(disk)
                await daemon.not_ready("database: ")
                ballast.unlink()
                await server.recover()
                await daemon.ready()
                await world.under_way()
            await world.settled()
            assert [] == house.complaints()
            await world.conserved()
