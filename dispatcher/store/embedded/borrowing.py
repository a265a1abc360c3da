"""The cluster for a short command: the daemon's server where one runs, else its own for the duration."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import asyncpg

from dispatcher.store.embedded.errors import InUseError, unusable
from dispatcher.store.embedded.home import Home, find_home
from dispatcher.store.embedded.lock import OwnerLock
from dispatcher.store.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

POLL_S: Final = 0.05  # while a daemon is starting or another command is at work


@asynccontextmanager
async def borrow(
    data_dir: Path, *, bin_dir: str = "", port: int = 0, log: FilteringBoundLogger, wait_s: float = 30.0
) -> AsyncIterator[str]:
    """Yield a URL that works inside the block.

    A daemon's server is used and left alone. While another command has one of its own, or a daemon is
    still starting, this waits at most `wait_s` seconds; then `InUseError` names the process. A directory
    that cannot be made or written is an `EmbeddedError`.
    """
    try:
        home = await asyncio.to_thread(find_home, data_dir)
    except OSError as error:
        raise unusable(data_dir, error) from error
    server = EmbeddedServer(data_dir, bin_dir=bin_dir, port=port, log=log, role="command", lock_wait_s=0.0)
    try:
        yield await _reach(home, server, wait_s)
    finally:
        await server.stop()


async def _reach(home: Home, server: EmbeddedServer, wait_s: float) -> str:
    """Return the URL of the daemon's server or, once nobody owns the directory, of `server`, started."""
    lock = OwnerLock(home.lock)
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            return await server.start()
        except InUseError:
            if asyncio.get_running_loop().time() >= deadline:
                raise
        if (url := await _daemons_server(home, lock)) is not None:
            return url
        await asyncio.sleep(POLL_S)


async def _daemons_server(home: Home, lock: OwnerLock) -> str | None:
    """Return the URL if a daemon holds the lock and its server takes our password."""
    holder = lock.holder()
    if holder.role != "daemon" or not home.pgpass.exists() or not home.kept_port():
        return None
    url = home.url(home.kept_port())
    try:
        connection = await asyncpg.connect(url, ssl=False, timeout=5.0)
    except (OSError, asyncpg.PostgresError):  # it is starting, or ending
        return None
    await connection.close()
    return url if lock.holder() == holder else None  # a killed daemon's name may have been another's by then
