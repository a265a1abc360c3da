"""The database of a command: the configured one, or the embedded one for as long as the command runs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dispatcher.store.connection import Database
from dispatcher.store.embedded import borrow
from dispatcher.store.refusals import operator_mistakes
from dispatcher.store.schema import migrate, require_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dispatcher.config import Config


@asynccontextmanager
async def database_url(config: Config, *, complete: bool = True) -> AsyncIterator[str]:
    """Yield a URL that works inside the block.

    Without `database.url` it is the running daemon's embedded server, else one that runs for the block,
    migrated unless `complete` is false. A configured server is left as it is: it may be a producer's login
    that can do nothing else. Raises `OperatorError` for what PostgreSQL refuses, inside the block too.
    """
    with operator_mistakes():
        if config.database.url:
            yield config.database.url
            return
        where = config.database
        log = structlog.get_logger()
        async with borrow(Path(config.data_dir), bin_dir=where.bin_dir, port=where.port, log=log) as url:
            if complete:
                await migrate(url, config.database)
            yield url


@asynccontextmanager
async def open_database(config: Config) -> AsyncIterator[Database]:
    """Yield the database, its schema checked; raises `DatabaseUnavailable` and `OperatorError`."""
    async with database_url(config) as url:
        await require_schema(url, config.database)
        database = Database(url, config.database)
        try:
            yield database
        finally:
            await database.close()
