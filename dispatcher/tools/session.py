"""The database of a command: the configured one, or the embedded one for as long as the command runs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dispatcher.core.errors import OperatorError
from dispatcher.store.connection import Database
from dispatcher.store.embedded import borrow, has_home
from dispatcher.store.refusals import operator_mistakes
from dispatcher.store.schema import migrate, require_schema
from dispatcher.tools.terminal import complain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dispatcher.config import Config

_STARTING_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.1


@asynccontextmanager
async def database_url(config: Config, *, complete: bool = True, make: bool = False) -> AsyncIterator[str]:
    """Yield a URL that works inside the block.

    Without `database.url` it is the running daemon's embedded server, else one that runs for the block,
    migrated unless `complete` is false. Where there is none yet it is made if `make`: who examines a database
    that is not there, or emits into it, forgot to name the configuration. A configured server is left as it
    is: it may be a producer's login that can do nothing else. Raises `OperatorError` for what PostgreSQL
    refuses, inside the block too.
    """
    with operator_mistakes():
        if config.database.url:
            yield config.database.url
            return
        where = await asyncio.to_thread(_data_dir, config)
        if make and not has_home(where):
            complain(f"dispatcher: database.url is not set: an embedded PostgreSQL is made in {where}")
        elif not await _is_there(where):
            raise OperatorError(
                f"database.url is not set, and there is no embedded PostgreSQL in {where}:"
                " name the configuration with --config or $DISPATCHER_CONFIG, or the database with"
                " $DISPATCHER_DATABASE__URL (`dispatcher serve` makes an embedded one)"
            )
        given = config.database
        log = structlog.get_logger()
        async with borrow(where, bin_dir=given.bin_dir, port=given.port, log=log) as url:
            if complete:
                await migrate(url, config.database)
            yield url


def _data_dir(config: Config) -> Path:
    return Path(config.data_dir).expanduser().resolve()


async def _is_there(data_dir: Path) -> bool:
    """Say whether there is an embedded server; a daemon that starts at this moment makes it soon."""
    deadline = asyncio.get_running_loop().time() + _STARTING_S
    while not has_home(data_dir):
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(_LOOK_EVERY_S)
    return True


@asynccontextmanager
async def open_database(config: Config, *, make: bool = False) -> AsyncIterator[Database]:
    """Yield the database, its schema checked; raises `DatabaseUnavailable` and `OperatorError`."""
    async with database_url(config, make=make) as url:
        await require_schema(url, config.database)
        database = Database(url, config.database)
        try:
            yield database
        finally:
            await database.close()
