"""The disk under PostgreSQL is full: an outage like any other, which ends when there is room again."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from dispatcher.store.embedded.home import find_home
from dispatcher.store.embedded.leftovers import processes_in
from tests.acceptance.daemon import daemons
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import real_events
from tests.acceptance.server import own_server
from tests.acceptance.subscriber import prompt, slow

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_MB: Final = 220
WAL: Final = {"min_wal_size": "32MB", "max_wal_size": "48MB"}


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Mount a small file system; skips where that is not allowed."""
    directory.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0711", "tmpfs", directory],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def fill(directory: Path) -> Path:
    """Leave not a byte on the disk."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        free = os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize
        for size in (65_536, 4_096, 1):
            try:
                while True:
                    file.write(bytes(min(size, max(free, 1))))
            except OSError:
                continue
    return ballast


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
async def test_the_disk_is_full(data_dir: Path, tmp_path: Path) -> None:
    """Statements fail, or PostgreSQL ends for want of room: not ready meanwhile, nothing is lost."""
    with small_disk(data_dir.parent / "disk") as disk:
        async with (
            own_server(disk / "var", **WAL) as server,
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
                if not processes_in(find_home(disk / "var").cluster):
                    await server.start()  # the log could not grow: PostgreSQL had to give up
                await daemon.ready()
                await world.under_way()
            await world.settled()
            assert [] == house.complaints()
            await world.conserved()
