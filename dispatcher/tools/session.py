"""The database of a command: the configured one, or the embedded one for as long as the command runs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
        where, made = await asyncio.to_thread(_embedded, config)
        if not made:
            if not make:
                raise OperatorError(
                    f"database.url is not set, and there is no embedded PostgreSQL in {where}:"
                    " name the configuration with --config or $DISPATCHER_CONFIG, or the database with"
                    " $DISPATCHER_DATABASE__URL (`dispatcher serve` makes an embedded one)"
                )
            complain(f"dispatcher: database.url is not set: an embedded PostgreSQL is made in {where}")
        given = config.database
        log = structlog.get_logger()
        async with borrow(where, bin_dir=given.bin_dir, port=given.port, log=log) as url:
            if complete:
                await migrate(url, config.database)
            yield url


def _embedded(config: Config) -> tuple[Path, bool]:
    """Give where the embedded server lives, and whether it was made."""
    where = Path(config.data_dir).expanduser().resolve()
    return where, has_home(where)


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
